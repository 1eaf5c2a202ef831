"""The plan: which clients there are, what each can do, and which cells are run.

A cell is one job: client x protocol x compression x signal x behaviour. Behaviours:

- `plain`: every protocol, compression and signal of every client (full).
- `refuses`: Rollguard pushes everything back for 3 s. Every protocol and signal (full); the compressions take turns
  (pairwise: each compression meets each behaviour, and each protocol meets each behaviour).
- `restarts`: Rollguard is stopped and started again on the same ports in the middle. As `refuses`.

`ABANDONS` says which clients give items up on their own, and why. What is not named there must be complete."""

import dataclasses

SIGNALS = ("traces", "metrics", "logs")
GRPC, PROTOBUF, JSON = "grpc", "http/protobuf", "http/json"
BEHAVIOURS = ("plain", "refuses", "restarts")
ITEMS = 240
# Over how many seconds a job's items are spread: what happens is over before they are.
SECONDS = {"plain": 3, "refuses": 8, "restarts": 8}


@dataclasses.dataclass(frozen=True)
class Client:
    name: str
    # Protocol -> compressions.
    speaks: dict
    signals: tuple = SIGNALS


CLIENTS = (
    Client("python", {GRPC: ("none", "gzip"), PROTOBUF: ("none", "gzip", "deflate"), JSON: ("none", "gzip", "deflate")}),
    Client("node", {GRPC: ("none", "gzip"), PROTOBUF: ("none", "gzip"), JSON: ("none", "gzip")}),
    Client("browser", {PROTOBUF: ("none",), JSON: ("none",)}),
    Client("go", {GRPC: ("none", "gzip"), PROTOBUF: ("none", "gzip")}),
    Client("java", {GRPC: ("none", "gzip"), PROTOBUF: ("none", "gzip")}),
    Client("rust", {GRPC: ("none", "gzip", "zstd"), PROTOBUF: ("none", "gzip", "zstd"), JSON: ("none", "gzip", "zstd")}),
    Client("telemetrygen", {GRPC: ("none", "gzip"), PROTOBUF: ("none", "gzip")}),
    Client("collector", {GRPC: ("none", "gzip", "zstd"), PROTOBUF: ("none", "gzip", "zstd"), JSON: ("none", "gzip", "zstd")}),
    Client("span_metrics", {GRPC: ("gzip",)}, ("metrics",)),
)

NODE = "the exporter never sends a batch again, whatever the answer"
GO = "the exporter takes a refused connection for final; it retries 429, 502, 503 and 504 only"
RUST = "the exporter retries a refused connection three times, within about a second"

# (client, protocol, behaviour) -> the signals of which the client itself gives items up there, and why. Metrics are
# cumulative: where a later export follows, nothing is missing in the end.
ABANDONS = {
    ("node", GRPC, "refuses"): (("traces", "logs"), NODE),
    ("node", GRPC, "restarts"): (("traces", "logs"), NODE),
    ("go", PROTOBUF, "restarts"): (("traces", "logs"), GO),
    ("rust", GRPC, "restarts"): (("traces", "logs"), RUST),
    ("rust", PROTOBUF, "restarts"): (("traces", "logs"), RUST),
    ("rust", JSON, "restarts"): (("traces", "logs"), RUST),
    ("telemetrygen", PROTOBUF, "restarts"): (SIGNALS, "it uses the Go exporter"),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    client: str
    protocol: str
    compression: str
    signal: str
    behaviour: str

    @property
    def job(self):
        """Its name, which is the service's too."""
        return "-".join((self.client, self.protocol.replace("/", "-"), self.compression, self.signal, self.behaviour))

    @property
    def counted(self):
        """Whether Rollguard's own number of requests is that of the items. Requests are counted by entry spans or by
        metrics that count requests; telemetrygen's metric has another name."""
        return self.behaviour == "plain" and self.signal != "logs" and (self.client, self.signal) != ("telemetrygen", "metrics")

    @property
    def abandoned(self):
        """Whether the client gives items up by itself."""
        signals, _ = ABANDONS.get((self.client, self.protocol, self.behaviour), ((), None))
        return self.signal in signals


def cells(client, behaviour):
    """The plan's cells of one client under one behaviour."""
    out = []
    for turn, (protocol, compressions) in enumerate(client.speaks.items()):
        for place, signal in enumerate(client.signals):
            chosen = compressions
            if behaviour != "plain":
                chosen = (compressions[(turn + place + BEHAVIOURS.index(behaviour)) % len(compressions)],)
            out += [Cell(client.name, protocol, compression, signal, behaviour) for compression in chosen]
    return out
