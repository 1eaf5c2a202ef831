"""The worlds that clients meet: one Rollguard, a sink behind it, and what happens to them while a client sends."""

import contextlib
import http.client
import sys
import tempfile
import threading
import time

import build

sys.path.insert(0, build.ROOT + "/tests/e2e")

from harness import BINARY, Rollguard, config, samples, wait_until

from ports import free_port
from sink import Sink

QUEUE_BYTES = 4 << 20
PATHS = {"traces": "/v1/traces", "metrics": "/v1/metrics", "logs": "/v1/logs"}
REFUSE_SECONDS = 3.0
AWAY_SECONDS = 1.5


class Ports:
    def __init__(self):
        self.grpc, self.http, self.api, self.own = (free_port() for _ in range(4))


@contextlib.contextmanager
def world(more=lambda conf: conf):
    """A Rollguard that forwards all signals to a sink; `more` changes its configuration."""
    with tempfile.TemporaryDirectory(prefix="rollguard-clients-") as folder, Sink() as sink:
        ports = Ports()
        conf = config(ports, folder)
        # Long enough for a busy machine: a span that comes later is counted as late, not as a request.
        conf["pipeline"]["lateness"] = {"min": "5s", "initial": "5s"}
        conf["exporters"] = {
            "otlp_grpc": {
                "endpoint": f"http://127.0.0.1:{sink.port}",
                "signals": list(PATHS),
                "sending_queue": {"queue_bytes": QUEUE_BYTES},
                "retry_on_failure": {"initial_interval": "200ms", "max_interval": "300ms"},
            }
        }
        running = Rollguard(more(conf), ports, folder)
        try:
            running.start()
            yield running, sink
        except BaseException:
            print("--- the log's last lines:", *running.log().splitlines()[-25:], sep="\n    ", file=sys.stderr)
            raise
        finally:
            if running.process and running.process.poll() is None:
                running.kill()


def own(running, name, **labels):
    """The sum over the samples of one of Rollguard's own metrics."""
    return sum(v for n, have, v in samples(running.own_metrics()) if n == name and labels.items() <= have.items())


def plain(running, sink):
    """Nothing happens."""


def refuses(running, sink):
    """Rollguard's queue to the sink is full and the sink takes nothing: Rollguard pushes back. 3 s after the first
    client has met this the sink opens again."""
    refused = lambda: sum(own(running, f"otelcol_receiver_refused_{name}") for name in ("spans", "metric_points", "log_records"))
    wait_until("a refusal", refused, 60)
    time.sleep(REFUSE_SECONDS)
    sink.shut = False


def restarts(running, sink):
    """Rollguard stops as it does for an update, and starts on the same ports a moment later."""
    accepted = lambda: sum(own(running, f"otelcol_receiver_accepted_{name}") for name in ("spans", "metric_points", "log_records"))
    wait_until("a first item", accepted, 60)
    time.sleep(1.0)
    code = running.stop(timeout=30)
    assert code == 0, f"Rollguard ended with {code}"
    time.sleep(AWAY_SECONDS)
    running.start()


def fill(running, sink):
    """Shuts the sink and fills Rollguard's queue to it: a message as large as the queue has it all."""
    sink.shut = True
    # One resource with a schema URL that says nothing. Field 1 of the request, in it field 3.
    url = b"x" * QUEUE_BYTES
    inner = b"\x1a" + varint(len(url)) + url
    body = b"\x0a" + varint(len(inner)) + inner
    for path in PATHS.values():
        connection = http.client.HTTPConnection("127.0.0.1", running.ports.http, timeout=10)
        connection.request("POST", path, body, {"Content-Type": "application/x-protobuf"})
        status = connection.getresponse().status
        assert status == 200, f"the filler was answered {status}"
        connection.close()


def varint(number):
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


EVENTS = {"plain": plain, "refuses": refuses, "restarts": restarts}


def happen(behaviour, running, sink):
    """Runs a behaviour beside the client. Returns a function that waits for its end and raises what it raised."""
    raised = []

    def run():
        try:
            EVENTS[behaviour](running, sink)
        except Exception as error:
            raised.append(error)

    if behaviour == "refuses":
        fill(running, sink)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def over():
        thread.join(90)
        if raised:
            raise raised[0]

    return over
