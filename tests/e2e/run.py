"""Runs the end-to-end tests against target/release/rollguard (or ROLLGUARD_BIN). Words on the command line pick
tests whose name contains one of them. Exit code 1 when a test failed."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness
import test_exporters  # noqa: F401  importing a module registers its tests
import test_forward  # noqa: F401
import test_objectives  # noqa: F401
import test_operations  # noqa: F401
import test_prometheus  # noqa: F401
import test_replay  # noqa: F401
import test_security  # noqa: F401
import test_durability  # noqa: F401

if not os.access(harness.BINARY, os.X_OK):
    sys.exit(f"{harness.BINARY} is not there: build it with `cargo build --release`")
sys.exit(harness.main())
