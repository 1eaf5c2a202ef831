"""The tap on the wire: what goes out downstream is what came in, byte for byte, whatever Rollguard made of it."""

import time

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from harness import free_port, rollguard, samples, test, wait_until, with_downstream
from traffic import Sender, Sink, request


def bodies():
    """Requests that differ in how well they fit the definitions."""
    now = time.time_ns()
    plain = request("shop", "v1", [("GET /items", now, 10**7, False)] * 50)
    # Field 1999 (varint) and field 2000 (bytes) of the request are in no definition.
    unknown_fields = plain + b"\xf8\x7c\x2a" + b"\x82\x7d\x03abc"
    bad_utf8 = request("shop", "v1", [("GET /XYZ", now, 10**7, False)])
    bad_utf8 = bad_utf8.replace(b"GET /XYZ", b"GET /\xff\xfe\xfd")
    assert b"\xff\xfe\xfd" in bad_utf8
    return {"plain": plain, "unknown fields": unknown_fields, "bad UTF-8": bad_utf8, "empty": b""}


def parts(body, sent):
    """What was sent of a body: requests that waited may have been put behind one another."""
    while body:
        part = max((s for s in sent if body.startswith(s)), key=len, default=body)
        yield part
        body = body[len(part) :]


def check(sink, sent):
    """An empty request may be forwarded or dropped; all else arrives once."""
    arrived = lambda: [part for body in list(sink.bodies) for part in parts(body, sent)]
    wait_until("everything arrived", lambda: len(arrived()) >= len(sent))
    assert sorted(arrived()) == sorted(sent), f"{len(arrived())} requests arrived, {len(sent)} were sent"


def downstream(port):
    return lambda conf, folder: with_downstream(conf, f"http://127.0.0.1:{port}")


@test
def bytes_go_downstream_as_they_came():
    with Sink() as sink, rollguard(prepare=downstream(sink.port)) as running:
        sent = []
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            sender = Sender(running.ports.grpc, compression)
            for name, body in bodies().items():
                assert sender.send(body) == b"", f"{name}: partial success or an answer that is not empty"
                sent += [body] if body else []
            sender.close()
        check(sink, sent)
        # 50 + 50 + 1 spans, twice.
        wait_until("all are counted", lambda: running.value("rollguard_requests_total", service_name="shop") == 202)


@test
def a_downstream_that_refuses_gets_the_same_bytes_later_and_counts_stay_single():
    with Sink(refusals=3) as sink, rollguard(prepare=downstream(sink.port)) as running:
        sender, sent = Sender(running.ports.grpc), [b for b in bodies().values() if b]
        for body in sent:
            sender.send(body)
        check(sink, sent)
        # Fewer where some waited and were put behind one another.
        assert 3 < sink.attempts <= len(sent) + 3, sink.attempts
        wait_until("all are counted", lambda: running.value("rollguard_requests_total", service_name="shop") == 101)
        sender.close()


@test
def a_downstream_that_is_away_does_not_stop_the_judging():
    with rollguard(prepare=downstream(free_port())) as running:
        sender = Sender(running.ports.grpc)
        assert sender.send(bodies()["plain"]) == b""
        wait_until("all are counted", lambda: running.value("rollguard_requests_total", service_name="shop") == 50)
        sender.close()


def metrics_body():
    message = ExportMetricsServiceRequest()
    metric = message.resource_metrics.add().scope_metrics.add().metrics.add(name="orders", unit="{order}")
    metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, 2
    for number in (1, 2):
        metric.sum.data_points.add(time_unix_nano=time.time_ns(), as_int=number)
    return message.SerializeToString()


def logs_body():
    message = ExportLogsServiceRequest()
    records = message.resource_logs.add().scope_logs.add().log_records
    for text in ("one", "two", "three"):
        records.add(time_unix_nano=time.time_ns(), severity_number=9).body.string_value = text
    return message.SerializeToString()


def own_count(running, name):
    return sum(value for have, _, value in samples(running.own_metrics()) if have == name)


@test
def metrics_and_logs_go_downstream_as_they_came_too():
    # An unknown field behind each, as a newer SDK would send; another one each time, for the same message
    # again would be a resend.
    unknown = [b"\xf8\x7c\x2a", b"\xf8\x7c\x2b"]
    for signal, body, name, records in (
        ("metrics", metrics_body(), "metric_points", 2),
        ("logs", logs_body(), "log_records", 3),
    ):
        bodies = [body + field for field in unknown]
        prepare = lambda conf, folder: with_downstream(conf, f"http://127.0.0.1:{sink.port}", (signal,))
        with Sink(signal=signal) as sink, rollguard(prepare=prepare) as running:
            for body, compression in zip(bodies, (grpc.Compression.NoCompression, grpc.Compression.Gzip)):
                sender = Sender(running.ports.grpc, compression, signal)
                assert sender.send(body) == b"", signal
                sender.close()
            check(sink, bodies)
            for count in (f"otelcol_receiver_accepted_{name}", f"otelcol_exporter_sent_{name}"):
                wait_until(count, lambda: own_count(running, count) == 2 * records)
