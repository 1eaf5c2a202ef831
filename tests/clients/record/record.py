"""Records one service three ways: its spans, the metrics of its SDK, and the metrics that a real Collector's
span_metrics connector makes of its spans.

    python3 tests/clients/record/record.py            all scenarios at once, ten minutes
    python3 tests/clients/record/record.py errors     one

Needs Go, for the service (../go/shop) and the Collector (../collector), and zstd. Times are real: the SDKs stamp metrics
with the clock. v1 serves from the beginning, v2 beside it from the second minute on, each on two instances. Writes
tests/golden/threeways/SCENARIO/{spans,sdk-metrics,span-metrics}.jsonl.zst, which tests/it/threeways.rs replays."""

import os
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import build
from ports import free_port, wait_for_port

GOLDEN = os.path.join(build.ROOT, "tests", "golden", "threeways")
RATE = 45
ALONE = 60
# What v2 is like, and how many seconds it serves: a pass needs more of them than a fail.
SCENARIOS = {
    "errors": (["-errors", "0.05"], 180),
    "latency": (["-slower", "2"], 180),
    "healthy": ([], 540),
}


def record(name, folder):
    candidate, seconds = SCENARIOS[name]
    port = free_port()
    environment = {**os.environ, "PORT": str(port), "FOLDER": folder}
    config = os.path.join(HERE, "collector.yaml")
    collector = subprocess.Popen([build.binary("collector"), "--config", config], env=environment)
    wait_for_port(port)
    serve = lambda version, seed, length, *more: subprocess.Popen([
        build.binary("shop"), "-endpoint", f"127.0.0.1:{port}", "-version", version, "-seed", str(seed),
        "-rate", str(RATE), "-for", f"{length}s", *more])
    old = serve("v1", 1, ALONE + seconds)
    threading.Event().wait(ALONE)
    new = serve("v2", 2, seconds, *candidate)
    if any([old.wait(), new.wait()]):
        raise RuntimeError(f"{name}: a version of the shop ended with an error")
    # The connector flushes each 15 s; the last seconds are in the flush after them, or in the one at the end.
    collector.terminate()
    if collector.wait():
        raise RuntimeError(f"{name}: the Collector ended with {collector.returncode}")
    for kind in ("spans", "sdk-metrics", "span-metrics"):
        keep(os.path.join(folder, kind + ".jsonl"), os.path.join(GOLDEN, name, kind + ".jsonl.zst"))


def keep(source, target):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    subprocess.run([build.tool("zstd"), "-19", "-q", "-f", source, "-o", target], check=True)
    sizes = f"{os.path.getsize(source)} bytes, {os.path.getsize(target)} packed"
    print(f"{os.path.relpath(target, build.ROOT)}: {sizes}", flush=True)


def main():
    names = sys.argv[1:] or list(SCENARIOS)
    build.collector()
    build.go()
    with tempfile.TemporaryDirectory(prefix="rollguard-record-") as folder:
        threads = []
        for name in names:
            os.makedirs(os.path.join(folder, name))
            threads.append(threading.Thread(target=record, args=(name, os.path.join(folder, name))))
            threads[-1].start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
