"""The proof that forwarding loses nothing: the real binary, a real Collector behind it, a real small file system.

    python3 tests/forwarding/run.py                             what CI does: 3 minutes at 2,000 spans a second, and full disks
    python3 tests/forwarding/run.py --seconds 600 --rate 5000   longer
    python3 tests/forwarding/run.py full                        only tests whose name contains a word

The binary is target/release/rollguard, or ROLLGUARD_BIN. The Collector is the one of tests/clients. The last line is
"forwarding result: N passed; N failed; N skipped". What cannot be had (Go, a mount namespace) is a loud skip; where CI is set
it is a failure."""

import argparse
import os
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path += [os.path.join(os.path.dirname(HERE), "clients"), os.path.join(os.path.dirname(HERE), "e2e")]

import build

INSIDE = "ROLLGUARD_FORWARDING_INSIDE"


def skip(why):
    print(f"\n*** SKIPPED: the proof of delivery: {why} ***\n")
    print(f"forwarding result: 0 passed; {1 if os.environ.get('CI') else 0} failed; 1 skipped")
    sys.exit(1 if os.environ.get("CI") else 0)


def enter():
    """Goes on in the environment of the clients, in a mount namespace of its own."""
    try:
        build.python()
        build.collector()
    except (build.Missing, RuntimeError) as why:
        skip(why)
    # Root of its own user namespace; where that is not allowed, real root will do.
    for namespace in (["unshare", "--user", "--map-root-user", "--mount"], ["unshare", "--mount"]):
        try:
            if subprocess.run([*namespace, "mount", "-t", "tmpfs", "probe", "/mnt"], capture_output=True).returncode == 0:
                os.environ[INSIDE] = "1"
                os.execvp(namespace[0], [*namespace, build.venv("python"), *sys.argv])
        except FileNotFoundError:
            skip("unshare (util-linux) is not installed")
    skip("this machine allows no mount namespace")


def main():
    words = argparse.ArgumentParser(description="The proof that forwarding loses nothing.")
    words.add_argument("names", nargs="*", help="only tests whose name contains one of these")
    words.add_argument("--seconds", type=float, default=180)
    words.add_argument("--rate", type=float, default=2000, help="spans a second")
    arguments = words.parse_args()
    if INSIDE not in os.environ:
        enter()

    import full_disk
    from delivery import delivery

    def long_one():
        delivery(arguments.seconds, arguments.rate)

    tests = {
        "a_full_disk_stands_in_nobodys_way": full_disk.a_full_disk_stands_in_nobodys_way,
        "a_disk_without_any_space_loses_nothing": full_disk.a_disk_without_any_space_loses_nothing,
        "what_is_acknowledged_arrives": long_one,
    }
    passed = failed = 0
    for name, function in tests.items():
        if arguments.names and not any(word in name for word in arguments.names):
            continue
        begin = time.monotonic()
        try:
            function()
            passed += 1
            print(f"test forwarding::{name} ... ok ({time.monotonic() - begin:.0f} s)", flush=True)
        except Exception:
            failed += 1
            traceback.print_exc()
            print(f"test forwarding::{name} ... FAILED ({time.monotonic() - begin:.0f} s)", flush=True)
    print(f"forwarding result: {passed} passed; {failed} failed; 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
