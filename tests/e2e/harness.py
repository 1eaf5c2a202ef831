"""What every end-to-end test needs: a registry of tests, the real binary on free ports, conditions to wait for.

A test is a function marked with @test. It uses `rollguard(config)` to run the binary, talks to it through its
ports as a stranger would, and fails by raising. Tests run one after another; a slow machine makes them slower
but not wrong, for they wait for conditions and never for a while."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.environ.get("ROLLGUARD_BIN", os.path.join(ROOT, "target", "release", "rollguard"))
TESTS = []


class Skipped(Exception):
    """A tool is missing and nobody asked for completeness."""


def test(function):
    TESTS.append(function)
    return function


def need(tool_path, name):
    """A missing tool is a failure where completeness is asked for (CI set), a loud skip elsewhere."""
    if tool_path:
        return tool_path
    if os.environ.get("CI"):
        raise AssertionError(f"{name} is not installed, and CI is set")
    raise Skipped(f"{name} is not installed")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(what, condition, timeout=30.0, every=0.1):
    """The first true value of `condition`, or a failure that names `what` and the last value or error."""
    end, last = time.monotonic() + timeout, None
    while time.monotonic() < end:
        try:
            last = condition()
            if last:
                return last
        except (OSError, KeyError, IndexError, ValueError, AssertionError) as error:
            last = repr(error)
        time.sleep(every)
    raise AssertionError(f"{what}: not within {timeout:.0f} s; last: {str(last)[:2000]}")


def http(url, body=None, headers=None, method=None):
    """Status, headers and text, also of errors."""
    data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
    headers = dict(headers or {})
    if data is not None:
        headers.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()


class Ports:
    def __init__(self):
        self.grpc, self.http, self.api, self.own = (free_port() for _ in range(4))


def config(ports, folder, **policy):
    """The one place that knows the configuration's keys. Returns a dict that tests may change."""
    local = "127.0.0.1:{}".format
    return {
        "receiver": {"grpc": {"endpoint": local(ports.grpc)}, "http": {"endpoint": local(ports.http)}},
        "api": {"endpoint": local(ports.api)},
        "telemetry": {"metrics": local(ports.own)},
        "store": {"path": os.path.join(folder, "rollguard.db")},
        "pipeline": {"lateness": {"min": "1s", "initial": "1s"}},
        "policies": {"defaults": {"slo": 0.99, "warmup": "0s", **policy}},
    }


def with_downstream(conf, endpoint, signals=("traces",)):
    conf["exporters"] = {
        "otlp_grpc": {"endpoint": endpoint, "signals": list(signals), "retry_on_failure": {"initial_interval": "200ms"}}
    }
    return conf


def with_webhook(conf, folder, url, secret):
    path = os.path.join(folder, "webhook-secret")
    with open(path, "w") as f:
        f.write(secret + "\n")
    conf["webhooks"] = {"deployer": {"url": url, "secret_file": path, "allow_loopback": True}}
    conf["policies"]["defaults"].update(mode="act", webhook="deployer")
    return conf


class Rollguard:
    """A running binary. Its log is kept and shown when a test fails."""

    def __init__(self, conf, ports, folder):
        self.ports, self.folder, self.process = ports, folder, None
        self.config_path = os.path.join(folder, "rollguard.yaml")
        self.log_path = os.path.join(folder, "log")
        self.write_config(conf)

    def write_config(self, conf):
        """JSON is YAML; text is written as it is."""
        with open(self.config_path, "w") as f:
            f.write(conf if isinstance(conf, str) else json.dumps(conf, indent=1))

    def start(self):
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen([BINARY, "run", "--config", self.config_path], stdout=log, stderr=log)
        wait_until("ready", self.ready, 20)
        return self

    def ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"rollguard ended with {self.process.returncode}:\n{self.log()}")
        return http(self.url("/readyz"))[0] == 200

    def url(self, path):
        return f"http://127.0.0.1:{self.ports.api}{path}"

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, how=signal.SIGTERM, timeout=20):
        self.process.send_signal(how)
        return self.process.wait(timeout)

    def wait_for_log(self, words, after=0):
        """The first line behind the first `after` characters of the log that holds all `words`."""
        fits = lambda line: all(word in line for word in words)
        return wait_until(f"a log line with {words}", lambda: next(filter(fits, self.log()[after:].splitlines()), None))

    def own_metrics(self):
        """The page of Rollguard's own metrics."""
        status, _, text = http(f"http://127.0.0.1:{self.ports.own}/metrics")
        assert status == 200, (status, text)
        return text

    def metrics(self, accept="text/plain; version=0.0.4"):
        status, _, text = http(self.url("/metrics"), headers={"Accept": accept})
        assert status == 200, (status, text)
        return text

    def value(self, name, **labels):
        """The sum over the samples of `name` that carry all `labels`; None where there is no such sample."""
        found = [v for n, have, v in samples(self.metrics()) if n == name and labels.items() <= have.items()]
        return sum(found) if found else None

    def wait_for_versions(self, *versions, service="shop"):
        counted = lambda version: self.value("rollguard_requests_total", service_name=service, version=version)
        wait_until(f"requests of {versions}", lambda: all(counted(version) for version in versions))

    def deploy(self, service, version, baseline):
        body = {"service": service, "version": version, "baseline": baseline}
        status, _, text = http(self.url("/api/v1/deployments"), body)
        assert status in (200, 201), (status, text)
        return json.loads(text)["id"]

    def deployments(self, service):
        status, _, text = http(self.url(f"/api/v1/deployments?service={service}"))
        assert status == 200, (status, text)
        return json.loads(text)["deployments"]

    def deployment(self, name):
        """As the API shows it; it may lag a tick behind the answer to the request that started it."""
        return wait_until(f"deployment {name}", lambda: self.shown(name), 10)

    def shown(self, name):
        status, _, text = http(self.url(f"/api/v1/deployments/{name}"))
        assert status == 200, (status, text)
        return json.loads(text)


@contextlib.contextmanager
def rollguard(start=True, prepare=lambda conf, folder: conf, **policy):
    with tempfile.TemporaryDirectory(prefix="rollguard-e2e-") as folder:
        ports = Ports()
        running = Rollguard(prepare(config(ports, folder, **policy), folder), ports, folder)
        try:
            if start:
                running.start()
            yield running
        except BaseException:
            print("--- the log's last lines:", *running.log().splitlines()[-25:], sep="\n    ", file=sys.stderr)
            raise
        finally:
            if running.process and running.process.poll() is None:
                running.kill()


def samples(text):
    """(name, labels, value) of each sample in the text exposition formats."""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, labels, rest = line, {}, ""
        if "{" in line:
            name, rest = line.split("{", 1)
            labels, rest = parse_labels(rest)
        else:
            name, rest = line.split(" ", 1)
        yield name, labels, float(rest.split()[0])


def parse_labels(rest):
    labels = {}
    while not rest.startswith("}"):
        key, rest = rest.split('="', 1)
        value = ""
        while not rest.startswith('"'):
            step = 2 if rest.startswith("\\") else 1
            value += {"\\n": "\n", '\\"': '"', "\\\\": "\\"}.get(rest[:step], rest[:step])
            rest = rest[step:]
        labels[key], rest = value, rest[1:].removeprefix(",")
    return labels, rest[1:]


def main():
    only = sys.argv[1:]
    passed = failed = skipped = 0
    for function in TESTS:
        name = f"{function.__module__.removeprefix('test_')}::{function.__name__}"
        if only and not any(word in name for word in only):
            continue
        begin = time.monotonic()
        try:
            function()
            passed += 1
            print(f"test {name} ... ok ({time.monotonic() - begin:.1f} s)", flush=True)
        except Skipped as why:
            skipped += 1
            print(f"test {name} ... SKIPPED: {why}", flush=True)
        except Exception:
            failed += 1
            traceback.print_exc()
            print(f"test {name} ... FAILED ({time.monotonic() - begin:.1f} s)", flush=True)
    print(f"python result: {passed} passed; {failed} failed; {skipped} skipped")
    return 1 if failed else 0
