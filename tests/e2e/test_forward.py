"""The tap on the wire: what goes out downstream is what came in, byte for byte, whatever Rollguard made of it."""

import time

import grpc

from harness import free_port, rollguard, test, wait_until, with_downstream
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


def check(sink, sent):
    """An empty request may be forwarded or dropped; all else arrives once."""
    arrived = lambda: [body for body in sink.bodies if body]
    wait_until("everything arrived", lambda: len(arrived()) >= len(sent))
    assert sorted(arrived()) == sorted(sent), f"{len(arrived())} bodies arrived, {len(sent)} were sent"


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
        assert sink.attempts == len(sent) + 3, sink.attempts
        wait_until("all are counted", lambda: running.value("rollguard_requests_total", service_name="shop") == 101)
        sender.close()


@test
def a_downstream_that_is_away_does_not_stop_the_judging():
    with rollguard(prepare=downstream(free_port())) as running:
        sender = Sender(running.ports.grpc)
        assert sender.send(bodies()["plain"]) == b""
        wait_until("all are counted", lambda: running.value("rollguard_requests_total", service_name="shop") == 50)
        sender.close()
