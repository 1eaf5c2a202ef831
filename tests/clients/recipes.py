"""Runs the recipes of docs/recipes.md as they stand there: the files in the document with other addresses, a real
Collector, the real binary, a source of spans, metrics and logs, and a backend that knows each item.

    python3 tests/clients/recipes.py [words]     recipes whose heading holds one of the words; all without

All run at once. The last line is "recipes result: N passed; N failed; N skipped"."""

import concurrent.futures
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import build

try:
    build.python()
    build.collector()
except (build.Missing, RuntimeError) as why:
    failed = 1 if os.environ.get("CI") else 0
    print(f"\n*** SKIPPED: all recipes: {why} ***\n\nrecipes result: 0 passed; {failed} failed; 1 skipped")
    sys.exit(failed)
if os.path.realpath(sys.prefix) != os.path.realpath(os.path.join(build.TARGET, "venv")):
    os.execv(build.venv("python"), [build.venv("python"), *sys.argv])

import grpc

from ports import free_port, wait_for_port
from sink import Sink
from source import BATCH, METHODS, Source, request
from worlds import BINARY, PATHS, Ports, Rollguard, own, wait_until

ITEMS, SECONDS = 240, 4
ARRIVAL_SECONDS = 60
# More than a queue of 1,000 requests holds while its consumers wait for somebody who never answers.
FLOOD_REQUESTS, FLOOD_AT_A_TIME, FLOOD_SENDERS = 1_500, 250, 16


def recipes():
    """Heading -> file name -> text, of those sections that have files."""
    with open(os.path.join(build.ROOT, "docs", "recipes.md")) as f:
        sections = re.split(r"^## ", f.read(), flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        heading = section.splitlines()[0]
        found[heading] = dict(re.findall(r"```yaml\n# (\S+)\n(.*?)```", section, flags=re.DOTALL))
    return found


class World:
    """The parts of a recipe, running."""

    def __init__(self, files, folder, sink):
        self.folder, self.sink, self.ports, self.collector_port = folder, sink, Ports(), free_port()
        self.collector = None
        addresses = {
            "rollguard:4317": f"127.0.0.1:{self.ports.grpc}",
            "collector:4317": f"127.0.0.1:{self.collector_port}",
            "backend:4317": f"127.0.0.1:{sink.port}",
        }
        own_addresses = {"0.0.0.0:4317": f"127.0.0.1:{self.ports.grpc}", "0.0.0.0:4318": f"127.0.0.1:{self.ports.http}"}
        # What the document leaves at its default, and a machine that runs all recipes at once cannot.
        rest = f"""
api: {{endpoint: "127.0.0.1:{self.ports.api}"}}
telemetry: {{metrics: "127.0.0.1:{self.ports.own}"}}
store: {{path: "{folder}/rollguard.db"}}
pipeline: {{lateness: {{min: 5s, initial: 5s}}}}
"""
        self.rollguard = Rollguard(replaced(files["rollguard.yaml"], {**addresses, **own_addresses}) + rest, self.ports, folder)
        text = files.get("collector.yaml")
        self.collector_text = text and replaced(text, {**addresses, "0.0.0.0:4317": f"127.0.0.1:{self.collector_port}"})

    def start(self):
        self.rollguard.start()
        if self.collector_text:
            path = os.path.join(self.folder, "collector.yaml")
            with open(path, "w") as f:
                f.write(self.collector_text)
            command = [build.binary("collector"), "--config", path, "--config", "yaml:service::telemetry::metrics::level: none"]
            with open(os.path.join(self.folder, "collector.log"), "w") as log:
                self.collector = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                wait_for_port(self.collector_port)
            except AssertionError:
                with open(os.path.join(self.folder, "collector.log")) as log:
                    raise RuntimeError(f"the Collector did not start:\n{log.read()[-2000:]}") from None

    def stop(self):
        if self.collector:
            self.collector.kill()
            self.collector.wait()
        if self.rollguard.process and self.rollguard.process.poll() is None:
            self.rollguard.kill()

    def sources(self, port):
        return [Source({"id": f"shop-{s}", "signal": s, "count": ITEMS, "seconds": SECONDS}, port) for s in PATHS]

    def arrived(self, signal="traces"):
        return self.sink.arrived(f"shop-{signal}")

    def everything_arrives(self, signals=tuple(PATHS)):
        complete = lambda: all(self.arrived(signal)[0] >= ITEMS for signal in signals)
        wait_until(f"{ITEMS} items of {signals}", complete, ARRIVAL_SECONDS)
        # Metrics are sent again as they grow.
        twice = {signal: self.arrived(signal)[1] for signal in signals if signal != "metrics"}
        assert not any(twice.values()), f"arrived more than once: {twice}"

    def counted(self):
        """Rollguard's own number of requests."""
        return self.rollguard.value("rollguard_requests_total", service_name="shop-traces", version="v1") or 0

    def rollguard_counts_all(self):
        wait_until(f"{ITEMS} requests are counted", lambda: self.counted() == ITEMS, ARRIVAL_SECONDS)


def replaced(text, addresses):
    for name, address in addresses.items():
        text = text.replace(name, address)
    assert not re.search(r"(backend|collector|rollguard):\d", text), f"an address is left:\n{text}"
    return text


def all_taken(sources):
    for source in sources:
        source.join(SECONDS + 60)
    refused = {source.job["id"]: source.error for source in sources if source.error or source.is_alive()}
    assert not refused, f"senders were refused: {refused}"


def on_the_path(world, port):
    all_taken(world.sources(port))
    world.everything_arrives()
    world.rollguard_counts_all()


def instead_of(world):
    on_the_path(world, world.ports.grpc)


def in_front_of(world):
    on_the_path(world, world.ports.grpc)


def behind(world):
    on_the_path(world, world.collector_port)


def flooded(world):
    """Sends many requests, never more than the backend keeps up with; how many were refused before it stopped, and
    what the last was told."""
    with grpc.insecure_channel(f"127.0.0.1:{world.collector_port}") as channel, concurrent.futures.ThreadPoolExecutor(FLOOD_SENDERS) as pool:
        export = channel.unary_unary(METHODS["traces"])

        def send(n):
            message = request("traces", "flood", range(n * BATCH, (n + 1) * BATCH), 0)
            try:
                export(message.SerializeToString(), timeout=60)
            except grpc.RpcError as error:
                return str(error.details())[:300]
            return None

        for first in range(0, FLOOD_REQUESTS, FLOOD_AT_A_TIME):
            numbers = range(first, first + FLOOD_AT_A_TIME)
            refused = [why for why in pool.map(send, numbers) if why]
            if refused:
                return len(refused), refused[-1:]
            wait_until("the backend keeps up", lambda: world.sink.arrived("flood")[0] == numbers.stop * BATCH, ARRIVAL_SECONDS)
    return 0, []


def tee(world):
    """Rollguard hangs, and later is killed in the middle: senders and the backend do not notice."""
    # It accepts connections and never answers.
    world.rollguard.process.send_signal(signal.SIGSTOP)
    try:
        refused = flooded(world)
    finally:
        world.rollguard.process.send_signal(signal.SIGCONT)
    assert refused[0] == 0, f"a Rollguard that hangs made the Collector refuse {refused}"
    sources = world.sources(world.collector_port)
    taken = lambda: own(world.rollguard, "otelcol_receiver_accepted_spans") > 0
    wait_until("Rollguard gets its share", taken, 30)
    world.rollguard.kill()
    all_taken(sources)
    world.everything_arrives()
    world.rollguard.start()
    # The Collector notices after a while, and drops what it would have sent meanwhile.
    later = lambda: all_taken([Source({"id": "shop-traces", "signal": "traces", "count": 12, "seconds": 0.5}, world.collector_port)])
    wait_until("what came later counts", lambda: later() or world.counted() > 0, ARRIVAL_SECONDS)


def tail_sampler(world):
    all_taken(world.sources(world.ports.grpc))
    world.everything_arrives(("metrics", "logs"))
    world.rollguard_counts_all()
    wait_until("the sampler keeps some", lambda: world.arrived()[0] > 0, ARRIVAL_SECONDS)
    # A tenth, by trace id: more than half has a chance of less than one in 10^90.
    assert world.arrived()[0] < ITEMS / 2, f"the sampler kept {world.arrived()[0]} of {ITEMS}"


CHECKS = {
    "Instead of a Collector": instead_of,
    "In front of a Collector": in_front_of,
    "Behind a Collector": behind,
    "As a tee": tee,
    "Before the tail sampler": tail_sampler,
}


def run(heading, files):
    """What went wrong, or None."""
    try:
        with tempfile.TemporaryDirectory(prefix="rollguard-recipe-") as folder, Sink() as sink, contextlib.ExitStack() as end:
            world = World(files, folder, sink)
            end.callback(world.stop)
            try:
                world.start()
                CHECKS[heading](world)
            except BaseException:
                print(f"--- {heading}: the log's last lines:", *world.rollguard.log().splitlines()[-25:], sep="\n    ", file=sys.stderr)
                raise
    except Exception:
        return traceback.format_exc()
    return None


def main():
    if not os.access(BINARY, os.X_OK):
        sys.exit(f"{BINARY} is not there: build it with `cargo build --release`")
    found = {heading: files for heading, files in recipes().items() if files}
    assert found.keys() == CHECKS.keys(), f"the document has {list(found)}, the tests {list(CHECKS)}"
    words = sys.argv[1:]
    chosen = {h: f for h, f in found.items() if not words or any(word.lower() in h.lower() for word in words)}
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(CHECKS)) as pool:
        outcomes = dict(zip(chosen, pool.map(run, chosen, chosen.values())))
    for heading, failure in outcomes.items():
        print(f"test recipes::{heading} ... {'FAILED: ' + failure if failure else 'ok'}", flush=True)
    failed = sum(1 for failure in outcomes.values() if failure)
    print(f"recipes took {time.monotonic() - begin:.0f} s")
    print(f"recipes result: {len(outcomes) - failed} passed; {failed} failed; 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
