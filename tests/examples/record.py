"""Records the worked examples of config/examples with the OpenTelemetry SDK for Python.

    python3 tests/examples/record.py                        all of them, a few minutes
    python3 tests/examples/record.py payment-canary         one
    python3 tests/examples/record.py payment-canary/twin    one recording of it

Builds the virtual environment of tests/clients/python where it is not there yet, and needs zstd. Each example is
a function of services.py and is recorded three times: with its fault, as an A/A twin, and with what a neighbour does
wrong. Writes tests/golden/examples/NAME/{fault,twin,neighbour}.binpb.zst, which tests/it/examples.rs replays."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "clients"))

import build

GOLDEN = os.path.join(build.ROOT, "tests", "golden", "examples")
CASES = ["fault", "twin", "neighbour"]


def main():
    build.python()
    if not sys.prefix.startswith(build.TARGET):
        os.execv(build.venv("python"), [build.venv("python"), *sys.argv])
    # Not before: they need the virtual environment.
    import services
    import world

    recorder = world.Recorder()
    for wanted in sys.argv[1:] or services.EXAMPLES:
        name, _, only = wanted.partition("/")
        for case in [only] if only else CASES:
            here = world.World(recorder, f"{name} {case}")
            services.EXAMPLES[name](here, case)
            path = os.path.join(GOLDEN, name, f"{case}.binpb.zst")
            recording = here.end()
            world.pack(recording, path)
            sizes = f"{len(recording)} bytes, {os.path.getsize(path)} packed"
            print(f"{os.path.relpath(path, build.ROOT)}: {sizes}", flush=True)
    # The SDK's threads sleep for hours; everything is written.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
