"""The long proof: whatever happens, what was acknowledged arrives, and no verdict changes.

Four things happen, one after the other, each while a bad and a good version of services of their own are judged: a kill,
an outage with a request that is refused for good, a reload, and a full disk."""

import hashlib
import json
import os
import signal
import sys
import tempfile
import threading
import time

from harness import BINARY, Ports, Rollguard, config, http, samples, wait_until, with_webhook
from test_durability import SECRET, Receiver

from backend import Collector, Proxy
from disk import SmallDisk
from generator import SPANS, Generator

OUTAGE_SECONDS = 60
SLOW_SECONDS = 0.7
FULL_SECONDS = 12
# Shares of the time at which what happens changes; each has services of its own.
WINDOWS = (("kill", 0.0), ("outage", 0.17), ("reload", 0.60), ("full", 0.70))
DISK_BYTES, RESERVE_BYTES, QUEUE_BYTES = 512 << 20, 64 << 20, 320 << 20
# From the end of a call at the proxy to the mark in the queue: what an answer needs on a busy machine.
MARGIN_SECONDS = 2.0
FAILED = {"bad": {"v1": 0.001, "v2": 0.05}, "good": {"v1": 0.001, "v2": 0.001}}
EXPORTER = "otlp_grpc/backend"


class Proof:
    def __init__(self, seconds, rate, folder, disk, receiver, proxy):
        self.seconds, self.rate, self.proxy, self.receiver, self.disk = seconds, rate, proxy, receiver, disk
        ports = Ports()
        self.conf = with_webhook(config(ports, disk.path), folder, receiver.url, SECRET)
        # A span that is sent again after a while is late, not a sign of anything.
        self.conf["pipeline"]["lateness"] = {"min": "2s", "initial": "2s"}
        self.conf["file_storage"] = {"directory": os.path.join(disk.path, "queues"), "reserve_bytes": RESERVE_BYTES}
        self.conf["exporters"] = {EXPORTER: {
            "endpoint": f"http://127.0.0.1:{proxy.port}", "signals": ["traces"], "timeout": "30s",
            "retry_on_failure": {"initial_interval": "500ms", "max_interval": "2s"},
            "sending_queue": {"storage": "file_storage", "queue_bytes": QUEUE_BYTES, "on_full": "refuse"},
        }}
        self.running = Rollguard(self.conf, ports, folder)
        self.generator = Generator(ports.grpc, rate, seconds, self.content)
        self.deployed, self.in_flight, self.mark = {}, set(), threading.Event()

    def content(self, number, elapsed):
        window = [name for name, share in WINDOWS if elapsed >= share * self.seconds][-1]
        kind, version = ("bad", "good")[number % 2], ("v1", "v2")[number // 2 % 2]
        with self.generator.lock:
            # One sender of several that ask at the same moment.
            marked = self.mark.is_set()
            self.mark.clear()
        return {"service": f"{kind}-{window}", "version": version, "failed_share": FAILED[kind][version], "marked": marked}

    def wait_for_share(self, share):
        while (left := self.generator.begin + share * self.seconds - time.monotonic()) > 0:
            if self.generator.failure:
                raise self.generator.failure
            time.sleep(min(left, 0.5))

    def deploy(self, window):
        for kind in FAILED:
            self.running.wait_for_versions("v1", "v2", service=f"{kind}-{window}")
            self.deployed[kind, window] = self.running.deploy(f"{kind}-{window}", "v2", "v1")

    def happen(self):
        for window, share in WINDOWS:
            self.wait_for_share(share)
            self.say(window)
            self.deploy(window)
            getattr(self, window)()
        self.generator.join(180)

    def say(self, what):
        print(f"  {time.monotonic() - self.generator.begin:5.0f} s: {what}", flush=True)

    def kill(self):
        # So that much is under way, and some of it taken without our knowing.
        self.proxy.delay = SLOW_SECONDS
        time.sleep(2)
        self.in_flight = self.generator.under_way(moment := time.monotonic())
        self.running.kill()
        self.in_flight |= self.generator.under_way(time.monotonic()) | self.proxy.under_way(moment, MARGIN_SECONDS)
        self.running.start()
        self.proxy.delay = 0.0

    def outage(self):
        self.proxy.go()
        time.sleep(OUTAGE_SECONDS / 2)
        # In the middle of what waits, so that it is joined with others.
        self.mark.set()
        time.sleep(OUTAGE_SECONDS / 2)
        self.say(f"{self.queued():.0f} requests wait on {self.own('rollguard_exporter_queue_bytes') / 1e6:.0f} MB of disk")
        assert self.queued() > 0.8 * OUTAGE_SECONDS * self.rate / SPANS, self.queued()
        self.proxy.come()

    def reload(self):
        self.conf["policies"]["defaults"]["runbook_url"] = "https://runbooks.example/shop"
        self.running.write_config(self.conf)
        before = len(self.running.log())
        self.running.process.send_signal(signal.SIGHUP)
        self.running.wait_for_log(["configuration was reloaded"], before)

    def full(self):
        with self.disk.full(leaving=RESERVE_BYTES // 2):
            refused = lambda: self.own("otelcol_receiver_refused_spans") > 0
            wait_until("requests are refused", refused, 30)
            time.sleep(FULL_SECONDS)
            # The verdict knows that it sees only a part.
            waits = lambda: self.running.shown(self.deployed["good", "full"])["blinded_by"] == EXPORTER
            wait_until("the verdict waits for the exporter", waits)
        self.running.wait_for_log(["the queue takes messages again"])

    def own(self, name, **labels):
        labels = labels if name.startswith("otelcol_receiver") or "reason" in labels else {**labels, "exporter": EXPORTER}
        return sum(v for n, have, v in samples(self.running.own_metrics()) if n == name and labels.items() <= have.items())

    def queued(self):
        return self.own("otelcol_exporter_queue_size")

    def check_verdicts(self):
        for (kind, window), name in self.deployed.items():
            if kind == "bad":
                failed = lambda: (shown := self.running.shown(name))["verdict"] == "fail" and shown
                shown = wait_until(f"{kind}-{window} fails", failed, 60)
                assert shown["rollback_ordered"], shown
            else:
                shown = self.running.shown(name)
                assert shown["verdict"] != "fail", shown
        # One rollback for each bad version, sent once.
        bad = sorted(name for (kind, _), name in self.deployed.items() if kind == "bad")
        wait_until("the webhooks", lambda: len(self.receiver.taken) >= len(bad), 30)
        told = sorted(attempt["body"].split(b'"deployment_id":"')[1].split(b'"')[0].decode() for attempt in self.receiver.taken)
        assert told == bad, (told, bad)

    def check_counters(self):
        """Of the second process: what it found and what it accepted is what it sent and what it dropped."""
        took = self.own("otelcol_receiver_accepted_spans")
        found = self.own("rollguard_disk_queue_recovered_records_total")
        sent, failed = self.own("otelcol_exporter_sent_spans"), self.own("otelcol_exporter_send_failed_spans")
        assert took + found == sent + failed, (took, found, sent, failed)
        assert found > 0, "nothing was under way at the kill"
        assert failed == SPANS == self.own("rollguard_exporter_dropped_records_total", reason="permanent"), failed
        assert self.own("rollguard_disk_queue_append_failed_total", reason="reserve") > 0
        for name in ("lost_records", "lost_messages", "damaged_places", "unmarked"):
            assert self.own(f"rollguard_disk_queue_{name}_total") == 0, name
        return {"accepted": took, "recovered": found, "sent": sent, "dropped": failed}

    def check_rejected(self):
        ((number, message),) = self.generator.marked.items()
        exporters = wait_until("the exporters", lambda: http(self.running.url("/api/v1/exporters")), 10)
        assert exporters[0] == 200, exporters
        shown = next(e for e in json.loads(exporters[2])["exporters"] if e["name"] == EXPORTER)
        (rejected,) = shown["last_rejected"]
        assert rejected["sha256"] == hashlib.sha256(message).hexdigest(), rejected
        assert rejected["records"] == SPANS, rejected
        return number

    def check_delivery(self, counts, marked):
        missing, again = [], set()
        for number in range(self.generator.total):
            spans = counts[number * SPANS:(number + 1) * SPANS]
            if number == marked:
                assert not any(spans), "the marked request arrived"
            elif min(spans) == 0:
                missing.append(number)
            elif max(spans) > 1:
                again.add(number)
        assert not missing, f"{len(missing)} acknowledged requests are missing, the first {missing[:10]}"
        assert again <= self.in_flight, f"sent twice, and not under way at the kill: {sorted(again - self.in_flight)[:10]}"
        return len(again)


def delivery(seconds, rate):
    """What was acknowledged arrives, through a kill, an outage, a reload, a full disk and a refusal for good."""
    with (
        tempfile.TemporaryDirectory(prefix="rollguard-delivery-") as folder, SmallDisk(folder, DISK_BYTES) as disk,
        Receiver() as receiver, Collector(folder) as collector, Proxy(collector) as proxy,
    ):
        proof = Proof(seconds, rate, folder, disk, receiver, proxy)
        running = proof.running
        try:
            running.start()
            proof.generator.start()
            proof.happen()
            wait_until("the queue is empty", lambda: proof.queued() == 0, 120)
            marked = proof.check_rejected()
            counters = proof.check_counters()
            proof.check_verdicts()
            assert running.stop() == 0
            collector.stop()
            again = proof.check_delivery(collector.spans(proof.generator.total), marked)
        except BaseException:
            print("--- the log's last lines:", *running.log().splitlines()[-25:], sep="\n    ", file=sys.stderr)
            raise
        finally:
            if running.process and running.process.poll() is None:
                running.kill()
        took = time.monotonic() - proof.generator.begin
        print(f"  {proof.generator.total * SPANS} spans acknowledged in {took:.0f} s, none missing but those of the marked request;"
              f" {again} requests twice of {len(proof.in_flight)} under way at the kill; pushed back: {proof.generator.refusals};"
              f" after the kill {counters}; up to {proxy.joined} requests joined, {proxy.largest / 1e6:.1f} MB")


assert os.access(BINARY, os.X_OK), f"{BINARY} is not there: build it with `cargo build --release`"
