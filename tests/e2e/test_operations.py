"""What an operator does: reload, stop, a wrong file, the port's doors."""

import glob
import os
import signal
import subprocess
import tempfile
import time

from harness import BINARY, ROOT, http, rollguard, test, wait_until
from traffic import Sender, request


def one_request(running, service="shop", version="v1"):
    sender = Sender(running.ports.grpc)
    sender.send(request(service, version, [("GET /items", time.time_ns(), 10**7, False)]))
    sender.close()


def slo_of_new_deployment(running, version):
    """A deployment begins with the policy in force; cancelled at once."""
    one_request(running, version=version)
    name = wait_until("the deployment", lambda: running.deploy("shop", version, "v1"))
    slo = running.deployment(name)["policy"]["slo"]
    http(running.url(f"/api/v1/deployments/{name}/cancel"), {})
    return slo


@test
def a_bad_file_keeps_the_old_policy_and_says_why():
    with rollguard(slo=0.99) as running:
        good = open(running.config_path).read()
        one_request(running)
        wait_until("it is counted", lambda: running.value("rollguard_requests_total", service_name="shop") == 1)

        def reload(text):
            lines = len(running.log().splitlines())
            running.write_config(text)
            running.process.send_signal(signal.SIGHUP)
            return wait_until("the log says so", lambda: "\n".join(running.log().splitlines()[lines:]))

        assert "slo" in reload(good.replace('"slo": 0.99', '"slo": 7')), running.log()
        assert running.ready() and slo_of_new_deployment(running, "v2") == 0.99
        # The windows are as they were, and so is the count.
        assert running.value("rollguard_requests_total", service_name="shop", version="v1") == 1

        said = reload(good.replace('"slo"', '"slow"'))
        assert "slow" in said, said
        assert running.ready() and slo_of_new_deployment(running, "v3") == 0.99

        reload(good.replace('"slo": 0.99', '"slo": 0.95'))
        wait_until("the new policy", lambda: slo_of_new_deployment(running, f"v{time.monotonic_ns()}") == 0.95, every=1)
        assert running.value("rollguard_requests_total", service_name="shop", version="v1") == 1


@test
def sigterm_and_ctrl_c_end_it_with_0():
    for how in (signal.SIGTERM, signal.SIGINT):
        with rollguard() as running:
            one_request(running)
            begin = time.monotonic()
            assert running.stop(how) == 0, running.log()
            assert time.monotonic() - begin < 15


@test
def after_a_stop_and_a_start_the_history_is_there():
    with rollguard() as running:
        one_request(running)
        one_request(running, version="v2")
        wait_until("counted", lambda: running.value("rollguard_requests_total", service_name="shop", version="v2") == 1)
        name = running.deploy("shop", "v2", "v1")
        assert running.stop() == 0
        running.start()
        found = running.deployment(name)
        assert (found["id"], found["candidate"], found["verdict"]) == (name, "v2", "pending"), found


@test
def validate_names_the_line_of_a_mistake():
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        f.write("policies:\n  defaults:\n    slo: 0.99\n    warmupp: 1s\n")
        f.flush()
        done = subprocess.run([BINARY, "validate", f.name], capture_output=True, text=True)
        assert done.returncode == 1, done
        said = done.stdout + done.stderr
        assert "warmupp" in said and "4" in said and "warmup" in said.replace("warmupp", ""), said
    for path in glob.glob(os.path.join(ROOT, "config", "**", "*.yaml"), recursive=True):
        done = subprocess.run([BINARY, "validate", path], capture_output=True, text=True)
        assert done.returncode == 0, (path, done)
    printed = subprocess.run([BINARY, "validate", "--print-defaults"], capture_output=True, text=True)
    assert printed.returncode == 0, printed
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        f.write(printed.stdout)
        f.flush()
        assert subprocess.run([BINARY, "validate", f.name], capture_output=True).returncode == 0


@test
def the_command_line_speaks_to_the_port():
    with rollguard() as running:
        for version in ("v1", "v2"):
            one_request(running, version=version)
        wait_until("counted", lambda: running.value("rollguard_requests_total", service_name="shop", version="v2") == 1)

        def deploy(*arguments):
            command = [BINARY, "deploy", *arguments, "--url", running.url("").rstrip("/")]
            return subprocess.run(command, capture_output=True, text=True, timeout=30)

        started = deploy("start", "--service", "shop", "--version", "v2", "--baseline", "v1")
        assert started.returncode == 0, started
        # One request each is not enough to say anything: waiting runs out, which is 2 and not a pass.
        waited = deploy("wait", "--service", "shop", "--version", "v2", "--timeout", "2s")
        assert waited.returncode == 2, waited
    unreachable = subprocess.run([BINARY, "deploy", "status", "--service", "shop", "--url", running.url("").rstrip("/")], capture_output=True)
    assert unreachable.returncode == 3, unreachable
    assert subprocess.run([BINARY, "deploy", "--no-such-flag"], capture_output=True).returncode == 3
