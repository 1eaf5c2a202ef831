"""The memory limiter under a load of several times what leaves: Rollguard at 200 MiB, a backend that is away, senders that
do not stop, and the Python and Go clients among them. The resident set stays below the limit, what does not fit is
refused and counted, and the clients lose nothing once the backend is back.

    python3 tests/clients/pressure.py

The last line is "pressure result: N passed; N failed; N skipped", one test a client's job and one for Rollguard."""

import http.client
import os
import sys
import threading
import time

import build

try:
    build.python()
    build.go()
except (build.Missing, RuntimeError) as why:
    failed = 1 if os.environ.get("CI") else 0
    print(f"\n*** SKIPPED: the memory limiter under pressure: {why} ***\n\npressure result: 0 passed; {failed} failed; 1 skipped")
    sys.exit(failed)
if os.path.realpath(sys.prefix) != os.path.realpath(os.path.join(build.TARGET, "venv")):
    os.execv(build.venv("python"), [build.venv("python"), *sys.argv])

import clients
import worlds
from plan import GRPC, PROTOBUF, SIGNALS, Cell

LIMIT_MIB = 200
FILLER_BYTES = 1 << 20
PUMPS = 6
ITEMS, SECONDS, SHUT_SECONDS, ARRIVAL_SECONDS = 240, 6, 4, 60
# Of themselves both clients give a batch up after ten seconds with all its retries, the second of which may come
# later than that. How long memory is short depends on how fast this machine drains the backlog, so they are told to
# be as patient as somebody who expects an outage would tell them: Python in seconds, Go in milliseconds.
PATIENCE = {
    "python": {"OTEL_EXPORTER_OTLP_TIMEOUT": "60"},
    "go": dict.fromkeys(("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BLRP_EXPORT_TIMEOUT"), "60000"),
}


def limited(conf):
    conf["receiver"]["memory_limiter"] = {"limit_mib": LIMIT_MIB}
    # The queue alone would take far more than the limit.
    conf["exporters"]["otlp_grpc"]["sending_queue"] = {"queue_bytes": 4 << 30, "queue_size": 1_000_000}
    return conf


class Pump(threading.Thread):
    """Sends requests of a resource with a long schema URL, no two alike, as fast as they are answered."""

    def __init__(self, port, ended):
        super().__init__(daemon=True)
        self.port, self.ended, self.taken, self.refused, self.other = port, ended, 0, 0, []
        self.start()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self.ended.is_set():
            url = os.urandom(FILLER_BYTES // 2).hex().encode()
            inner = b"\x1a" + worlds.varint(len(url)) + url
            body = b"\x0a" + worlds.varint(len(inner)) + inner
            connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf"})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                self.taken += 1
            elif answer.status == 503 and answer.getheader("Retry-After"):
                self.refused += 1
            else:
                self.other.append(answer.status)
        connection.close()


class Resident(threading.Thread):
    """The largest resident set that was seen, in MiB."""

    def __init__(self, process, ended):
        super().__init__(daemon=True)
        self.path, self.ended, self.most = f"/proc/{process.pid}/status", ended, 0.0
        self.start()

    def run(self):
        while not self.ended.is_set():
            with open(self.path) as f:
                line = next(line for line in f if line.startswith("VmRSS:"))
            self.most = max(self.most, int(line.split()[1]) / 1024)
            time.sleep(0.01)


def jobs(client, running):
    cells = [Cell(client, protocol, "none", signal, "pressure") for protocol in (GRPC, PROTOBUF) for signal in SIGNALS]
    return clients.jobs_of(cells, running, lambda cell: ITEMS, SECONDS)


def run(tests):
    with worlds.world(limited) as (running, sink):
        ended, pumping = threading.Event(), threading.Event()
        resident = Resident(running.process, ended)
        sink.shut = True
        pumps = [Pump(running.ports.http, pumping) for _ in range(PUMPS)]
        refused = lambda: worlds.own(running, "rollguard_memory_refused_requests_total")
        worlds.wait_until("memory is short", refused, 60)
        said, every = {}, {client: jobs(client, running) for client in ("python", "go")}
        launch = lambda client: said.update(clients.LAUNCHERS[client][1](every[client], lambda: False, **PATIENCE[client]))
        senders = [threading.Thread(target=launch, args=(client,)) for client in every]
        for sender in senders:
            sender.start()
        time.sleep(SHUT_SECONDS)
        pumping.set()
        for pump in pumps:
            pump.join(60)
        sink.shut = False
        for sender in senders:
            sender.join(clients.TIMEOUT)
        wanted = [job for some in every.values() for job in some]
        end = time.monotonic() + ARRIVAL_SECONDS
        while not sink.complete(wanted) and time.monotonic() < end:
            time.sleep(0.1)
        ended.set()
        for job in wanted:
            arrived, again = sink.arrived(job["id"])
            whole = arrived == job["count"] and not (again and job["signal"] != "metrics")
            tests.take(job["id"], None if whole else f"{arrived} of {job['count']} arrived, {again} more than once; {said.get(job['id'])}")
        taken, pushed_back = sum(pump.taken for pump in pumps), sum(pump.refused for pump in pumps)
        other = [status for pump in pumps for status in pump.other]
        note = f"{taken} MiB taken, {pushed_back} MiB refused, at most {resident.most:.0f} MiB resident"
        failures = [f"answers {other}"] * bool(other)
        failures += [f"the resident set went over {LIMIT_MIB} MiB"] * (resident.most > LIMIT_MIB)
        failures += [f"it refused {refused():.0f}, the senders saw {pushed_back}"] * (refused() < pushed_back)
        failures += ["there was no overload"] * (pushed_back == 0)
        print(note)
        tests.take("rollguard", f"{failures}: {note}" if failures else None)


class Tests:
    def __init__(self):
        self.passed = self.failed = 0

    def take(self, name, failure):
        self.failed, self.passed = self.failed + bool(failure), self.passed + (not failure)
        print(f"test pressure::{name} ... {f'FAILED: {failure}' if failure else 'ok'}", flush=True)


def main():
    if not os.access(worlds.BINARY, os.X_OK):
        sys.exit(f"{worlds.BINARY} is not there: build it with `cargo build --release`")
    tests, begin = Tests(), time.monotonic()
    run(tests)
    print(f"pressure took {time.monotonic() - begin:.0f} s")
    print(f"pressure result: {tests.passed} passed; {tests.failed} failed; 0 skipped")
    return 1 if tests.failed else 0


if __name__ == "__main__":
    sys.exit(main())
