"""A full disk never stands between a bad version and its rollback, and loses nothing that was accepted."""

import os
import tempfile

import grpc

from harness import free_port, rollguard, samples, test, wait_until
from test_durability import Receiver, fail, outbox
from traffic import Sender, Service, Sink, request

from disk import SmallDisk

RESERVE_BYTES = 16 << 20


def exporter(conf, folder, port, reserve, on_full):
    conf["file_storage"] = {"directory": os.path.join(folder, "queues"), "reserve_bytes": reserve}
    conf["exporters"] = {"otlp_grpc": {
        "endpoint": f"http://127.0.0.1:{port}", "signals": ["traces"],
        "retry_on_failure": {"initial_interval": "100ms", "max_interval": "300ms"},
        "sending_queue": {"storage": "file_storage", "on_full": on_full},
    }}
    return conf


def own(running, name, **labels):
    return sum(v for n, have, v in samples(running.own_metrics()) if n == name and labels.items() <= have.items())


@test
def a_full_disk_stands_in_nobodys_way():
    """Scenario: the backend is away, the queue on disk is full because the disk is, and the store is on the same disk.
    Guarantees: with `drop` the bad version fails, its rollback is delivered, and both are durable."""
    with (
        tempfile.TemporaryDirectory(prefix="rollguard-full-") as folder, SmallDisk(folder, 64 << 20) as disk,
        Receiver() as receiver,
    ):
        def prepare(conf, home):
            conf["store"]["path"] = os.path.join(disk.path, "rollguard.db")
            return exporter(receiver.prepare(conf, home), disk.path, free_port(), RESERVE_BYTES, "drop")

        with rollguard(prepare=prepare) as running, disk.full(leaving=RESERVE_BYTES - (1 << 20)):
            with Service(running.ports.grpc, bad={"v1": 0.001, "v2": 0.4}):
                running.wait_for_versions("v1", "v2")
                name = running.deploy("shop", "v2", "v1")
                assert fail(running, name)["rollback_ordered"]
                wait_until("the webhook", lambda: receiver.taken, 30)
            dropped = [own(running, "rollguard_exporter_dropped_records_total", reason=r) for r in ("not_written", "queue_full")]
            assert all(dropped), dropped
            assert own(running, "otelcol_receiver_refused_spans") == 0
            assert own(running, "rollguard_disk_queue_append_failed_total", reason="reserve") > 0
            assert running.stop() == 0
            running.folder = disk.path
            (row,) = outbox(running)
            assert row[1:] == (name, "delivered", 1), row


@test
def a_disk_without_any_space_loses_nothing():
    """Scenario: no reserve, and not one byte is left for the queue. Guarantees: what cannot be written is refused, what
    was half written does not come out, and everything acknowledged arrives once."""
    with tempfile.TemporaryDirectory(prefix="rollguard-full-") as folder, SmallDisk(folder, 8 << 20) as disk, Sink() as sink:
        prepare = lambda conf, _: exporter(conf, disk.path, sink.port, 0, "refuse")
        with rollguard(prepare=prepare) as running:
            sender, now = Sender(running.ports.grpc), 1
            bodies = [request("shop", "v1", [(f"GET /{n}", now, 1, False)] * 300) for n in range(60)]

            def refused(body):
                try:
                    sender.send(body)
                    return False
                except grpc.RpcError as error:
                    assert error.code() == grpc.StatusCode.UNAVAILABLE, error
                    assert "otlp_grpc" in error.details(), error.details()
                    return True

            for body in bodies[:20]:
                sender.send(body)
            with disk.full(leaving=0):
                # What is free in blocks that the files have already is used first.
                refusals = [refused(body) for body in bodies[20:]]
                assert refusals[-1], refusals
            assert own(running, "rollguard_disk_queue_append_failed_total", reason="io") > 0
            for body, was_refused in zip(bodies[20:], refusals):
                if was_refused:
                    sender.send(body)
            wait_until("all arrived", lambda: sum(map(len, sink.bodies)) >= sum(map(len, bodies)))
            arrived = b"".join(sink.bodies)
            assert len(arrived) == sum(map(len, bodies)) and all(arrived.count(body) == 1 for body in bodies)
            sender.close()
