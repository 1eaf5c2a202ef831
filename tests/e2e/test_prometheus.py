"""A real Prometheus scrapes both ports and answers a query for the verdict; promtool finds nothing to say."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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


class Plain(ThreadingHTTPServer):
    """Stands between Prometheus, which asks for OpenMetrics, and `port`, and asks for the older text format."""

    daemon_threads = True

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), PlainHandler)
        self.upstream, self.types = f"http://127.0.0.1:{port}", set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class PlainHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urllib.request.Request(self.server.upstream + self.path, headers={"Accept": "text/plain;version=0.0.4"})
        with urllib.request.urlopen(asked, timeout=5) as answer:
            body, content_type = answer.read(), answer.headers["content-type"]
        self.server.types.add(content_type)
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@test
def a_real_prometheus_reads_both_formats():
    with rollguard() as running, Plain(running.ports.api) as plain:
        with prometheus({"openmetrics": running.ports.api, "text": plain.server_port}) as port:
            with Service(running.ports.grpc, bad={"v1": 0.01, "v2": 0.02}):
                running.wait_for_versions("v1", "v2")
                running.deploy("shop", "v2", "v1")

                def targets():
                    _, _, text = http(f"http://127.0.0.1:{port}/api/v1/targets")
                    found = json.loads(text)["data"]["activeTargets"]
                    return {t["labels"]["job"]: (t["health"], t["lastError"]) for t in found}

                wait_until("both are scraped", lambda: targets() == {job: ("up", "") for job in ("openmetrics", "text")})
                # The same series from both, the counters' names included, and their types as metadata.

                def counts():
                    found = {labels["job"]: count for labels, count in query(port, 'count by (job) ({__name__=~"rollguard_.+"})')}
                    scored = {labels["job"] for labels, _ in query(port, 'rollguard_score{service_name="shop"}')}
                    return scored == {"openmetrics", "text"} and found["openmetrics"] == found["text"] > 50

                wait_until("the same series", counts)
                for job in ("openmetrics", "text"):
                    _, _, text = http(f"http://127.0.0.1:{port}/api/v1/targets/metadata?match_target={{job=%22{job}%22}}&metric=rollguard_verdict")
                    assert [m["type"] for m in json.loads(text)["data"]] == ["gauge"], text
        assert plain.types == {"text/plain; version=0.0.4; charset=utf-8"}, plain.types


@test
def a_real_prometheus_answers_for_the_verdict():
    with rollguard() as running, prometheus({"rollguard": running.ports.api, "own": running.ports.own}) as port:
        with Service(running.ports.grpc, bad={"v1": 0.001, "v2": 0.3}):
            running.wait_for_versions("v1", "v2")
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
        running.wait_for_versions("v1", "v2")
        running.deploy("shop", "v2", "v1")
        wait_until("a score", lambda: running.value("rollguard_score", service_name="shop") is not None, 30)
        done = subprocess.run([promtool, "check", "metrics"], input=running.metrics(), capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr.strip(), done.stdout + done.stderr
        assert running.metrics("application/openmetrics-text; version=1.0.0").endswith("# EOF\n")
        # Our own metrics bear the Collector's names, which lack `_total`; there is nothing else to say.
        done = subprocess.run([promtool, "check", "metrics"], input=running.own_metrics(), capture_output=True, text=True)
        said = [line for line in done.stderr.splitlines() if not (line.startswith("otelcol_") and '"_total" suffix' in line)]
        assert not said, said
