"""Runs real clients against the real binary and writes down what arrived: docs/conformance.md.

    python3 tests/clients/run.py                    every cell of the plan, then the mixed run; writes the table
    python3 tests/clients/run.py --check            the same; a table that differs is a failure (what CI does)
    python3 tests/clients/run.py --plan             without the mixed run
    python3 tests/clients/run.py python go          only the cells of these clients; writes nothing
    python3 tests/clients/run.py --mixed 3600       only the mixed run, for an hour (120 s otherwise): all clients at once,
                                                    and every record that Rollguard received is accounted for
    python3 tests/clients/run.py --build            only build the clients

The binary is target/release/rollguard, or ROLLGUARD_BIN. A client whose tools are missing is a loud skip; where CI is
set it is a failure. The last line is "clients result: N passed; N failed; N skipped", one test a cell."""

import argparse
import concurrent.futures
import os
import sys
import threading
import time
import traceback

import build
from plan import BEHAVIOURS, CLIENTS, ITEMS, SECONDS, cells

try:
    build.python()
except (build.Missing, RuntimeError) as why:
    # Without it there is no harness either.
    print(f"\n*** SKIPPED: all clients: {why} ***\n")
    print(f"clients result: 0 passed; {1 if os.environ.get('CI') else 0} failed; {len(CLIENTS)} skipped")
    sys.exit(1 if os.environ.get("CI") else 0)
if os.path.realpath(sys.prefix) != os.path.realpath(os.path.join(build.TARGET, "venv")):
    # gRPC and the definitions are in the environment of the Python client.
    os.execv(build.venv("python"), [build.venv("python"), *sys.argv])

import clients
import mixed
import page
import table
import worlds

# Two cores: a third world fills the waits of the other two.
AT_ONCE = 3
ARRIVAL_SECONDS = 40
# Lateness, and two export intervals of metrics.
COUNT_SECONDS = 30
MIXED_SECONDS = 120
JAVASCRIPT = ("node", "browser")


def built(names, tests):
    """Builds what is needed. Returns the clients that cannot run; a build that fails is a failed test."""
    makers, absent = {}, set()
    for name in names:
        makers.setdefault(clients.LAUNCHERS[name][0], []).append(name)

    def make(one):
        begin = time.monotonic()
        try:
            one()
        except build.Missing as why:
            for name in makers[one]:
                tests.skip(name, why)
            absent.update(makers[one])
        except RuntimeError as why:
            tests.take(f"build-{one.__name__}", str(why))
            absent.update(makers[one])
        print(f"{one.__name__}: {time.monotonic() - begin:.0f} s", flush=True)

    # `js` before `browser`, which shares its product; the others do not meet.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(make, [one for one in makers if one is not build.browser]))
    if build.browser in makers:
        make(build.browser)
    return absent


def run_world(client, behaviour):
    """All cells of one client under one behaviour, at once. Returns (cell, outcome, why it failed) of each."""
    chosen = cells(client, behaviour)
    more = with_cors if client.name == "browser" else lambda conf: conf
    with worlds.world(more) as (running, sink):
        jobs = clients.jobs_of(chosen, running, lambda cell: ITEMS, SECONDS[behaviour])
        over = worlds.happen(behaviour, running, sink)
        said = clients.LAUNCHERS[client.name][1](jobs, lambda: sink.complete(jobs))
        over()
        return judge(chosen, said, running, sink)


def with_cors(conf):
    conf["receiver"]["http"]["cors"] = page.CORS
    return conf


def without_cors():
    """A page whose origin is not named gets nothing in. Returns what is wrong with that."""
    client = next(one for one in CLIENTS if one.name == "browser")
    chosen = cells(client, "plain")
    with worlds.world() as (running, sink):
        jobs = clients.jobs_of(chosen, running, lambda cell: 10, 1)
        said = page.launch(jobs, lambda: False)
        arrived = {job["id"]: sink.arrived(job["id"])[0] for job in jobs}
    if any(arrived.values()) or any(one["ok"] for one in said.values()):
        return f"{arrived} arrived; the page said {said}"
    return None


def judge(chosen, said, running, sink):
    taken = lambda cell: min(ITEMS, said.get(cell.job, {}).get("ok", 0))
    expected = {cell.job: taken(cell) if cell.abandoned else ITEMS for cell in chosen}
    end = time.monotonic() + ARRIVAL_SECONDS
    # What a client has delivered is on its way to the sink.
    while any(sink.arrived(job)[0] < count for job, count in expected.items()) and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(0.5)
    return [(cell, *outcome(cell, said.get(cell.job), running, sink)) for cell in chosen]


def outcome(cell, said, running, sink):
    """What happened to a cell's items, in the table's words, and what is wrong with it."""
    arrived, again = sink.arrived(cell.job)
    missing = ITEMS - arrived
    note = f"{arrived} of {ITEMS} arrived, {again} of them more than once; the client said {said}"
    if said is None:
        return "broken", f"no result: {note}"
    if arrived > ITEMS:
        return "broken", f"more than was sent: {note}"
    # What a client was told is there must be there, whatever the client gives up by itself. Metrics are sent again
    # and again as they grow, so their exports are no count of items.
    if cell.signal != "metrics" and arrived < min(said.get("ok", 0), ITEMS):
        return "lost", f"acknowledged, and lost: {note}"
    if cell.abandoned:
        return f"gives up ({missing} of {ITEMS} missing)", None
    if missing:
        return "incomplete", note
    if again and cell.signal != "metrics" and cell.behaviour != "restarts":
        return "twice", note
    if cell.counted and (wrong := miscounted(running, cell)):
        return "miscounted", f"{wrong}: {note}"
    return "complete", None


def miscounted(running, cell):
    """What is wrong with Rollguard's number of a cell's requests once all slots are closed; None when it is right."""
    count = lambda: running.value("rollguard_requests_total", service_name=cell.job, version="v1") or 0
    # A stream that begins in the very moment of its first export does not know its start (OTLP: start = time), so
    # its first value is no number of new requests. JavaScript's clock of milliseconds makes some of these.
    unknown = lambda: worlds.own(running, "rollguard_records_total", signal="metrics", reason="base_point")
    least = lambda: ITEMS - (unknown() if cell.signal == "metrics" and cell.client in JAVASCRIPT else 0)
    end = time.monotonic() + COUNT_SECONDS
    while not least() <= count() <= ITEMS and time.monotonic() < end:
        time.sleep(0.2)
    return None if least() <= count() <= ITEMS else f"Rollguard counts {count():.0f} requests"


class Tests:
    """What passed and what did not, and the table's contents."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.outcomes = {}
        self.lock = threading.Lock()

    def take(self, name, failure, cell=None, outcome=None):
        with self.lock:
            if cell:
                self.outcomes[cell] = outcome
            if failure:
                self.failed += 1
                print(f"test clients::{name} ... FAILED: {failure}", flush=True)
            else:
                self.passed += 1
                print(f"test clients::{name} ... ok" + (f" ({outcome})" if outcome else ""), flush=True)

    def skip(self, name, why):
        if os.environ.get("CI"):
            self.take(name, f"{why}, and CI is set")
        else:
            self.skipped += 1
            print(f"\n*** SKIPPED: client {name}: {why} ***\n", flush=True)


def run_plan(chosen, behaviours, tests):
    def one(pair):
        client, behaviour = pair
        begin = time.monotonic()
        try:
            for cell, outcome, failure in run_world(client, behaviour):
                tests.take(cell.job, failure, cell, outcome)
        except Exception:
            tests.take(f"{client.name}-{behaviour}", traceback.format_exc())
        print(f"world {client.name}-{behaviour}: {time.monotonic() - begin:.0f} s", flush=True)

    pairs = [(client, behaviour) for behaviour in reversed(behaviours) for client in chosen]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, pairs))
    if any(client.name == "browser" for client in chosen):
        tests.take("browser-without-cors", without_cors())


def main():
    parser = argparse.ArgumentParser(add_help=True)
    parser.add_argument("clients", nargs="*", help="only these clients")
    parser.add_argument("--behaviour", choices=BEHAVIOURS, help="only this one")
    parser.add_argument("--check", action="store_true", help="fail where docs/conformance.md is out of date")
    parser.add_argument("--plan", action="store_true", help="without the mixed run")
    parser.add_argument("--mixed", type=int, metavar="SECONDS", help="only the mixed run, for this long")
    parser.add_argument("--build", action="store_true", help="only build the clients")
    options = parser.parse_args()
    chosen = [client for client in CLIENTS if not options.clients or client.name in options.clients]
    tests = Tests()
    absent = built([client.name for client in chosen], tests)
    chosen = [client for client in chosen if client.name not in absent]
    if options.build:
        return 1 if tests.failed else 0
    if not os.access(worlds.BINARY, os.X_OK):
        sys.exit(f"{worlds.BINARY} is not there: build it with `cargo build --release`")
    begin = time.monotonic()
    behaviours = (options.behaviour,) if options.behaviour else BEHAVIOURS
    if options.mixed is None:
        run_plan(chosen, behaviours, tests)
    everything = options.mixed is None and not options.clients and not options.behaviour
    if everything and not absent and (options.check or not tests.failed):
        tests.take("table", table.update(tests.outcomes, clients.versions(), options.check))
    if options.mixed or (everything and not options.plan):
        mixed.run(chosen, options.mixed or MIXED_SECONDS, tests)
    print(f"clients took {time.monotonic() - begin:.0f} s apart from builds")
    print(f"clients result: {tests.passed} passed; {tests.failed} failed; {tests.skipped} skipped", flush=True)
    return 1 if tests.failed else 0


if __name__ == "__main__":
    sys.exit(main())
