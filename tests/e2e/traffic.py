"""Telemetry as bytes: requests built from the OTLP definitions, sent by a bare gRPC client, so that a test knows
every byte; a sink that records every byte; and a service of two versions that plays for as long as it is asked."""

import concurrent.futures
import random
import threading
import time

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

EXPORT = {
    signal: f"/opentelemetry.proto.collector.{package}.v1.{service}/Export"
    for signal, package, service in (
        ("traces", "trace", "TraceService"),
        ("metrics", "metrics", "MetricsService"),
        ("logs", "logs", "LogsService"),
    )
}
SERVER, ERROR = 2, 2


def request(service, version, spans, instance=None):
    """`spans`: (operation, end in ns, duration in ns, failed)."""
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    for key, value in (("service.name", service), ("service.version", version), ("service.instance.id", instance)):
        if value is not None:
            attribute = resource.resource.attributes.add(key=key)
            attribute.value.string_value = value
    scope = resource.scope_spans.add()
    for operation, end, duration, failed in spans:
        span = scope.spans.add(name=operation, kind=SERVER, trace_id=random.randbytes(16), span_id=random.randbytes(8))
        span.start_time_unix_nano, span.end_time_unix_nano = end - duration, end
        if failed:
            span.status.code = ERROR
    return message.SerializeToString()


class Sender:
    """Sends bytes as they are and hands back the bytes of the answer."""

    def __init__(self, port, compression=grpc.Compression.NoCompression, signal="traces"):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", compression=compression)
        self.call = self.channel.unary_unary(EXPORT[signal])

    def send(self, body, timeout=10):
        return self.call(body, timeout=timeout)

    def close(self):
        self.channel.close()


class Sink(grpc.GenericRpcHandler):
    """A downstream of one signal that keeps the bytes of each request, and refuses the first `refusals`."""

    def __init__(self, refusals=0, signal="traces"):
        self.method, self.bodies, self.refusals, self.attempts = EXPORT[signal], [], refusals, 0
        self.lock = threading.Lock()
        self.server = grpc.server(
            concurrent.futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 64 << 20)]
        )
        self.server.add_generic_rpc_handlers((self,))
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self.take) if details.method == self.method else None

    def take(self, body, context):
        with self.lock:
            self.attempts += 1
            if self.attempts <= self.refusals:
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            self.bodies.append(body)
        return b""

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop(0)


class Service:
    """Two versions of one service, each `rate` requests a second, flushed each 200 ms, from a thread. What a
    gateway refuses or loses while it is down is sent again until it is taken, as an SDK does.

    The n-th batch of a version is the same whenever it is played: only its times are of the day."""

    STEP = 0.2

    def __init__(self, port, name="shop", rate=100, bad=None, seed=1):
        self.name, self.rate, self.port, self.seed = name, rate, port, seed
        self.bad = bad or {"v1": 0.001}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.play, daemon=True)

    def play(self):
        sender, begin, turn = Sender(self.port), time.time(), 0
        while not self.over.is_set():
            turn += 1
            self.over.wait(max(0.0, begin + turn * self.STEP - time.time()))
            for version in self.bad:
                self.deliver(sender, self.batch(version, turn))
        sender.close()

    def batch(self, version, turn):
        dice = random.Random(f"{self.seed} {version} {turn}")
        now, spans = time.time_ns(), []
        for _ in range(int(self.rate * self.STEP)):
            operation = dice.choice(("GET /items", "POST /checkout"))
            end = now - int(dice.random() * self.STEP * 1e9)
            duration = int(dice.lognormvariate(-3.2, 0.4) * 1e9)
            spans.append((operation, end, duration, dice.random() < self.bad[version]))
        return request(self.name, version, spans, f"{version}-{dice.randrange(3)}")

    def deliver(self, sender, body):
        while not self.over.is_set():
            try:
                return sender.send(body, timeout=5)
            except grpc.RpcError:
                self.over.wait(0.1)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(10)
