"""A real Prometheus scrapes both ports and answers a query for the verdict; promtool finds nothing to say."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import urllib.parse

from harness import free_port, http, need, rollguard, test, wait_until
from traffic import Service


@contextlib.contextmanager
def prometheus(targets):
    binary = need(shutil.which("prometheus"), "prometheus")
    with tempfile.TemporaryDirectory(prefix="rollguard-prometheus-") as folder:
        port = free_port()
        jobs = [{"job_name": n, "scrape_interval": "1s", "scrape_timeout": "1s", "static_configs": [{"targets": [f"127.0.0.1:{p}"]}]} for n, p in targets.items()]
        with open(os.path.join(folder, "prometheus.yml"), "w") as f:
            json.dump({"scrape_configs": jobs}, f)
        with open(os.path.join(folder, "log"), "w") as log:
            process = subprocess.Popen(
                [binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"],
                stdout=log, stderr=log,
            )
        try:
            wait_until("prometheus is ready", lambda: http(f"http://127.0.0.1:{port}/-/ready")[0] == 200)
            yield port
        finally:
            process.kill()
            process.wait()


def query(port, expression):
    """Label sets and values of an instant query."""
    _, _, text = http(f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}")
    return [(r["metric"], float(r["value"][1])) for r in json.loads(text)["data"]["result"]]


@test
def a_real_prometheus_answers_for_the_verdict():
    with rollguard() as running, prometheus({"rollguard": running.ports.api, "own": running.ports.own}) as port:
        with Service(running.ports.grpc, bad={"v1": 0.001, "v2": 0.3}):
            wait_until("both versions", lambda: running.value("rollguard_requests_total", service_name="shop", version="v2"))
            name = running.deploy("shop", "v2", "v1")
            wait_until("a fail", lambda: running.deployment(name)["verdict"] == "fail", 60)
            expression = 'rollguard_verdict{service_name="shop",version="v2",verdict="fail"}'
            result = wait_until("the query's answer", lambda: [r for r in query(port, expression) if r[1] == 1], 15)
            assert len(result) == 1, result
            # The labels of the scrape are Prometheus's own: ours do not clash with them.
            assert "exported_job" not in result[0][0] and "exported_instance" not in result[0][0], result
            up = wait_until("both ports are up", lambda: [v for _, v in query(port, "up")] == [1.0, 1.0])
            assert up
            rate = query(port, 'sum by (version) (rate(rollguard_requests_total{service_name="shop"}[10s]))')
            assert {m["version"] for m, _ in rate} == {"v1", "v2"} and all(v > 10 for _, v in rate), rate


@test
def promtool_finds_nothing_to_say():
    promtool = need(shutil.which("promtool"), "promtool")
    with rollguard() as running, Service(running.ports.grpc, bad={"v1": 0.01, "v2": 0.3}):
        wait_until("both versions", lambda: running.value("rollguard_requests_total", service_name="shop", version="v2"))
        running.deploy("shop", "v2", "v1")
        wait_until("a score", lambda: running.value("rollguard_score", service_name="shop") is not None, 30)
        done = subprocess.run([promtool, "check", "metrics"], input=running.metrics(), capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr.strip(), done.stdout + done.stderr
        assert running.metrics("application/openmetrics-text; version=1.0.0").rstrip().endswith("# EOF")
