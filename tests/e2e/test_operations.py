"""What an operator does: reload, stop, a wrong file, the port's doors."""

import glob
import json
import os
import re
import signal
import subprocess
import tempfile
import time

from harness import BINARY, ROOT, Ports, config, http, rollguard, test, wait_until
from traffic import Sender, Service, request


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
        done = subprocess.run([BINARY, "validate", "--without-files", path], capture_output=True, text=True)
        assert done.returncode == 0, (path, done)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        f.write("api:\n  token_file: /nowhere/token\n")
        f.flush()
        done = subprocess.run([BINARY, "validate", f.name], capture_output=True, text=True)
        assert done.returncode == 1 and "line 2, column 15: api.token_file" in done.stderr, done
    printed = subprocess.run([BINARY, "validate", "--print-defaults"], capture_output=True, text=True)
    assert printed.returncode == 0, printed
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        f.write(printed.stdout)
        f.flush()
        assert subprocess.run([BINARY, "validate", f.name], capture_output=True).returncode == 0


def command(running, *arguments):
    line = [BINARY, "deploy", *arguments, "--url", running.url("").rstrip("/")]
    return subprocess.run(line, capture_output=True, text=True, timeout=90)


@test
def the_command_line_speaks_to_the_port():
    with rollguard() as running:
        for version in ("v1", "v2"):
            one_request(running, version=version)
        running.wait_for_versions("v1", "v2")
        deploy = lambda *arguments: command(running, *arguments)
        assert deploy("status").stdout == "no deployments\n"

        start = ("start", "--service", "shop", "--version", "v2", "--baseline", "v1", "--commit", "abc")
        started = deploy(*start)
        assert started.returncode == 0 and "v1 -> v2  PENDING" in started.stdout and "abc" in started.stdout, started
        name = started.stdout.split("id ")[1].split(",")[0]
        again = deploy(*start)
        assert again.returncode == 0 and name in again.stdout, again
        listed = json.loads(deploy("status", "--json").stdout)["deployments"]
        assert [d["id"] for d in listed] == [name], listed
        assert f"id {name}" in deploy("status", name).stdout

        # One request each is not enough to say anything: waiting runs out, which is 2 and not a pass.
        waited = deploy("wait", "--service", "shop", "--version", "v2", "--timeout", "2s")
        assert waited.returncode == 2, waited

        cancelled = deploy("cancel", name)
        assert cancelled.returncode == 0 and "cancelled" in cancelled.stdout, cancelled
        for arguments, words in (
            (("status", "nope"), "no deployment nope"),
            (("cancel", name), "cancelled already"),
            (("start", "--service", "shop", "--version", ""), "version"),
            (("wait", "--no-such-flag"), "--no-such-flag"),
        ):
            done = deploy(*arguments)
            assert done.returncode == 3 and words in done.stderr, (arguments, done)
    away = command(running, "status")
    assert away.returncode == 3 and str(running.ports.api) in away.stderr, away


@test
def waiting_ends_with_the_verdict():
    with rollguard() as running, Service(running.ports.grpc, bad={"v1": 0.001, "v2": 0.5}):
        running.wait_for_versions("v1", "v2")
        assert command(running, "start", "--service", "shop", "--version", "v2", "--baseline", "v1").returncode == 0
        waited = command(running, "wait", "--service", "shop", "--version", "v2", "--timeout", "60s")
        assert waited.returncode == 1 and "v2 fails" in waited.stdout, waited
        assert waited.stdout.count("FAIL") == 1, waited.stdout
        # A number of thirteen digits is no help to anybody.
        assert not re.search(r"\d{6}\.\d", waited.stdout), waited.stdout
        failed = running.wait_for_log(("WARN", "v2 fails"))
        assert "verdict=\"fail\"" in failed and "mode=\"observe\"" in failed, failed


def on_all_addresses(conf, folder, token=None):
    conf["api"]["endpoint"] = conf["api"]["endpoint"].replace("127.0.0.1", "0.0.0.0")
    if token:
        conf["api"]["token_file"] = os.path.join(folder, "token")
        with open(conf["api"]["token_file"], "w") as f:
            f.write(token + "\n")
    return conf


WRITE = {"service": "shop", "version": "v2", "baseline": "v1"}


@test
def a_port_that_others_reach_refuses_writes_without_a_token():
    with rollguard(prepare=on_all_addresses) as running:
        status, _, text = http(running.url("/api/v1/deployments"), WRITE)
        assert status == 403 and "api.token_file" in text, (status, text)
        running.wait_for_log(("WARN", "403", "api.token_file"))
        assert http(running.url("/api/v1/deployments"))[0] == 200
        assert running.deployments("shop") == []
        refused = command(running, "start", "--service", "shop", "--version", "v2")
        assert refused.returncode == 3 and "403" in refused.stderr, refused


@test
def a_token_opens_writes():
    token = "correct-horse-battery"
    with rollguard(prepare=lambda conf, folder: on_all_addresses(conf, folder, token)) as running:
        for sent, status in ((None, 401), ("Bearer wrong-horse-battery", 401), (f"Bearer {token}", 201)):
            headers = {"Authorization": sent} if sent else {}
            answer = http(running.url("/api/v1/deployments"), WRITE, headers)
            assert answer[0] == status and token not in answer[2], (sent, answer)
        path = os.path.join(running.folder, "token")
        assert command(running, "start", "--service", "shop", "--version", "v3", "--token-file", path).returncode == 0
        assert command(running, "start", "--service", "shop", "--version", "v3").returncode == 3
        assert token not in running.log()


@test
def what_carries_no_version_is_said_once_and_loudly():
    with rollguard() as running, Service(running.ports.grpc, bad={"v1": 0.0, None: 0.0}):
        line = running.wait_for_log(("WARN", "carry no version", "service.version"))
        assert re.search(r"\b[45]\d % of shop's spans", line), line
        shown = lambda: json.loads(http(running.url("/api/v1/services"))[2])["services"][0]
        assert 0.3 < shown()["unversioned_share_5m"] < 0.7, shown()
        assert running.value("rollguard_requests_total", service_name="shop", version="(unversioned)") > 0
        assert running.log().count("carry no version") == 1, running.log()


@test
def what_keeps_it_from_starting_is_one_clear_line():
    with rollguard() as running:
        rows = [
            ({"store": {"path": running.folder + "/rollguard.db"}}, "another process is using it"),
            ({"receiver": {"grpc": {"endpoint": f"127.0.0.1:{running.ports.grpc}"}}}, str(running.ports.grpc)),
            ({"api": {"endpoint": f"127.0.0.1:{running.ports.api}"}}, str(running.ports.api)),
            ({"telemetry": {"metrics": f"127.0.0.1:{running.ports.own}"}}, str(running.ports.own)),
            ({"api": {"token_file": "/nonexistent/token"}}, "/nonexistent/token"),
            ({"webhooks": {"a": {"url": "https://a.example", "secret_file": "/nonexistent/secret"}}}, "/nonexistent/secret"),
            ({"api": {"endpoint": "nonsense"}}, "line"),
        ]
        for change, words in rows:
            with tempfile.TemporaryDirectory(prefix="rollguard-e2e-") as folder:
                conf = config(Ports(), folder)
                for section, values in change.items():
                    conf.setdefault(section, {}).update(values)
                path = os.path.join(folder, "rollguard.yaml")
                with open(path, "w") as f:
                    json.dump(conf, f)
                done = subprocess.run([BINARY, "run", "--config", path], capture_output=True, text=True, timeout=30)
                last = [line for line in done.stderr.splitlines() if line.startswith("rollguard: ")]
                assert done.returncode == 1 and len(last) == 1 and words in last[0], (change, done)
