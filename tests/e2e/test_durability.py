"""kill -9 in the worst moments: the same verdict, one rollback."""

import base64
import contextlib
import glob
import hashlib
import hmac
import http.server
import json
import os
import shutil
import sqlite3
import tempfile
import threading

from harness import rollguard, samples, test, wait_until, with_webhook
from traffic import Service

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Receiver(http.server.ThreadingHTTPServer):
    """Takes rollback webhooks, and refuses them with 503 for as long as `refuse` is set."""

    daemon_threads = True

    def __init__(self, refuse=False):
        super().__init__(("127.0.0.1", 0), Handler)
        self.refuse, self.attempts, self.taken = refuse, [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/rollback"

    def prepare(self, conf, folder):
        """A configuration that rolls back by this receiver."""
        return with_webhook(conf, folder, self.url, SECRET)

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        attempt = {"id": self.headers["webhook-id"], "at": self.headers["webhook-timestamp"], "body": body}
        signed = b".".join((attempt["id"].encode(), attempt["at"].encode(), body))
        expected = "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        attempt["signed"] = expected in self.headers["webhook-signature"].split()
        self.server.attempts.append(attempt)
        if not self.server.refuse:
            self.server.taken.append(attempt)
        self.send_response(503 if self.server.refuse else 204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def fail(running, name, timeout=90):
    return wait_until(f"{name} fails", lambda: failed if (failed := running.shown(name))["verdict"] == "fail" else None, timeout)


def outbox(running):
    """What is to be sent or was: (id, deployment, state, attempts). The gateway has the file to itself, so it
    must have ended; read is a copy, so that the next start finds what a kill left behind."""
    assert running.process.poll() is not None
    with tempfile.TemporaryDirectory(prefix="rollguard-outbox-") as folder:
        for path in glob.glob(os.path.join(running.folder, "rollguard.db*")):
            shutil.copy(path, folder)
        with contextlib.closing(sqlite3.connect(os.path.join(folder, "rollguard.db"))) as database:
            return database.execute("SELECT id, deployment_id, state, attempts FROM outbox").fetchall()


def compared(running, name):
    """Requests of the candidate that the present evidence rests on."""
    return running.deployment(name)["evidence"]["requests"]["candidate"]


@test
def killed_in_mid_evaluation_it_comes_to_the_same_verdict():
    """Scenario: two gateways get the same traffic; one is killed with half of its evidence. Guarantees: both fail
    the version, the one killed goes on from what it had, and each orders exactly one rollback."""
    bad = {"v1": 0.001, "v2": 0.018}
    play = lambda running: Service(running.ports.grpc, rate=60, bad=bad, seed=4)
    with (
        Receiver() as left, Receiver() as right,
        rollguard(prepare=left.prepare, slo=0.999) as whole, rollguard(prepare=right.prepare, slo=0.999) as torn,
        play(whole), play(torn),
    ):
        names = {}
        for running in (whole, torn):
            running.wait_for_versions("v1", "v2")
            names[running] = running.deploy("shop", "v2", "v1")
        name = names[torn]
        # State is kept each 10 s, so with evidence of 15 s some of it is durable.
        wait_until("evidence of 15 s", lambda: compared(torn, name) >= 15 * 60, 60)
        before = torn.deployment(name)
        assert (before["phase"], before["verdict"]) == ("evaluating", "pending"), before
        torn.kill()
        torn.start()
        # 10 s between snapshots, 1 s of lateness, and what the restart takes: the rest is still there. A judge that
        # began anew would show its first second here.
        again = wait_until("evidence after the restart", lambda: compared(torn, name), 20)
        assert again >= before["evidence"]["requests"]["candidate"] - 13 * 60, (again, before["evidence"]["requests"])

        verdicts = {running: fail(running, names[running]) for running in (whole, torn)}
        for running, receiver in ((whole, left), (torn, right)):
            found = verdicts[running]
            assert (found["phase"], found["final"], found["rollback_ordered"]) == ("failed", True, True), found
            assert [d["id"] for d in running.deployments("shop")] == [names[running]]
            wait_until("the webhook is delivered", lambda: receiver.taken, 20)
        said = [verdicts[running]["explanation"].split(" of requests")[0][:8] for running in (whole, torn)]
        assert said[0] == said[1] == "v2 fails", said
        for running, receiver in ((whole, left), (torn, right)):
            assert running.stop() == 0
            assert len(receiver.attempts) == 1, receiver.attempts
            expected = [(receiver.attempts[0]["id"], names[running], "delivered", 1)]
            assert outbox(running) == expected, (outbox(running), expected)


@test
def killed_in_mid_webhook_retry_there_is_one_rollback():
    with Receiver(refuse=True) as receiver, rollguard(prepare=receiver.prepare) as running:
        with Service(running.ports.grpc, bad={"v1": 0.001, "v2": 0.4}):
            running.wait_for_versions("v1", "v2")
            name = running.deploy("shop", "v2", "v1")
            wait_until("a refused attempt", lambda: len(receiver.attempts) >= 2, 60)
            running.kill()
            assert [row[1:3] for row in outbox(running)] == [(name, "pending")], outbox(running)
            receiver.refuse = False
            running.start()
            wait_until("it is delivered", lambda: receiver.taken, 60)
            shown = running.deployment(name)
            assert shown["verdict"] == "fail" and shown["rollback_ordered"], shown
            delivered = lambda: [v for n, have, v in samples(running.own_metrics())
                                 if n == "rollguard_webhook_attempts_total" and have["outcome"] == "delivered"] == [1.0]
            wait_until("the delivery is recorded", delivered)
        assert running.stop() == 0
        # Nothing else was sent, and nothing else is waiting to be.
        ids = {attempt["id"] for attempt in receiver.attempts}
        assert len(ids) == len(receiver.taken) == 1, receiver.attempts
        assert [row[:3] for row in outbox(running)] == [(*ids, name, "delivered")], outbox(running)
        assert all(attempt["signed"] for attempt in receiver.attempts)
        bodies = {attempt["body"] for attempt in receiver.attempts}
        assert len(bodies) == 1, "the body changed between attempts"
        data = json.loads(bodies.pop())
        assert data["type"] == "rollguard.rollback" and data["data"]["deployment_id"] == name, data
        assert data["data"]["verdict"] == "fail" and data["data"]["candidate"] == "v2", data


@test
def observe_fires_nothing_and_keeps_the_verdict():
    def prepare(conf, folder):
        conf = receiver.prepare(conf, folder)
        conf["policies"]["defaults"]["mode"] = "observe"
        return conf

    with Receiver() as receiver, rollguard(prepare=prepare) as running:
        with Service(running.ports.grpc, bad={"v1": 0.001, "v2": 0.4}):
            running.wait_for_versions("v1", "v2")
            name = running.deploy("shop", "v2", "v1")
            shown = fail(running, name)
            assert (shown["mode"], shown["rollback_ordered"]) == ("observe", False), shown
        assert running.stop() == 0
        # The row would have been written with the verdict.
        assert outbox(running) == [] and receiver.attempts == [], (outbox(running), receiver.attempts)
