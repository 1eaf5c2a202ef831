"""How each client is built and started. A launcher takes jobs, and a function that tells whether all their items have
arrived; it returns what the client said of each job."""

import collections
import json
import os
import subprocess
import tempfile
import time

import build
import page
from plan import GRPC, JSON, PROTOBUF
from source import Source
from ports import free_port, wait_for_port

TIMEOUT = 90
# A Collector's exporter waits 5 s before its first retry and up to 30 s before later ones.
DELIVERY_SECONDS = 60


def jobs_of(cells, running, count, seconds):
    """The jobs as the clients read them; `count` says how many items a cell has."""
    out = []
    for cell in cells:
        port = running.ports.grpc if cell.protocol == GRPC else running.ports.http
        out.append({
            "id": cell.job, "endpoint": f"http://127.0.0.1:{port}", "protocol": cell.protocol,
            "compression": cell.compression, "signal": cell.signal, "count": count(cell), "seconds": seconds,
        })
    return out


def results(text):
    """The result lines in what a client printed, by job."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return {line["id"]: line for line in lines if "id" in line}


def program(command):
    """A launcher for a program that reads CLIENT_JOBS and prints a result for each; `environment` is added to its own."""

    def launch(jobs, _arrived, **environment):
        lines = "\n".join("\t".join(str(value) for value in job.values()) for job in jobs)
        given = {**os.environ, **environment, "CLIENT_JOBS": json.dumps(jobs), "CLIENT_JOB_LINES": lines}
        longest = max(job["seconds"] for job in jobs)
        done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=TIMEOUT + longest)
        if done.returncode:
            raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
        return results(done.stdout)

    return launch


def telemetrygen(jobs, _arrived):
    """One process a job; it counts its items but cannot number them."""
    kind = {"traces": "--traces", "metrics": "--metrics", "logs": "--logs"}
    processes = []
    for job in jobs:
        # A trace is two spans, and the rate is theirs.
        records = job["count"] * (2 if job["signal"] == "traces" else 1)
        command = [
            build.binary("telemetrygen"), job["signal"], "--otlp-insecure", "--workers", "1",
            "--otlp-endpoint", job["endpoint"].removeprefix("http://"), "--service", job["id"],
            "--otlp-attributes", 'service.version="v1"', kind[job["signal"]], str(job["count"]),
            "--rate", str(max(1, round(records / job["seconds"]))), "--allow-export-failures",
        ]
        if job["protocol"] == PROTOBUF:
            command.append("--otlp-http")
        if job["signal"] == "traces":
            command += ["--child-spans", "1", "--span-duration", "5ms"]
        # It has no option for compression; its exporters follow the SDK's variable.
        given = {**os.environ, "OTEL_EXPORTER_OTLP_COMPRESSION": job["compression"]}
        process = subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        processes.append((job, process))
    out = {}
    for job, process in processes:
        said, _ = process.communicate(timeout=TIMEOUT + job["seconds"])
        out[job["id"]] = {"id": job["id"], "sent": job["count"]}
        if process.returncode:
            out[job["id"]]["error"] = said[-300:]
    return out


def collector(jobs, arrived):
    """One Collector with a receiver and an exporter a job; a source sends each receiver its job's items. It is stopped
    when all have arrived, for a Collector that stops gives up what it was about to send again."""
    with tempfile.TemporaryDirectory(prefix="rollguard-collector-") as folder:
        ports = {job["id"]: free_port() for job in jobs}
        path = os.path.join(folder, "collector.yaml")
        with open(path, "w") as f:
            json.dump(collector_config(jobs, ports), f, indent=1)
        log_path = os.path.join(folder, "log")
        with open(log_path, "w") as log:
            process = subprocess.Popen([build.binary("collector"), "--config", path], stdout=log, stderr=log)
        try:
            for port in ports.values():
                wait_for_port(port)
            if process.poll() is not None:
                with open(log_path) as log:
                    raise RuntimeError(f"the Collector ended with {process.returncode}:\n{log.read()[-2000:]}")
            sources = [Source(job, ports[job["id"]]) for job in jobs]
            for source in sources:
                source.join()
            end = time.monotonic() + DELIVERY_SECONDS
            while not arrived() and time.monotonic() < end:
                time.sleep(0.1)
        finally:
            process.terminate()
            process.wait(30)
    return {source.job["id"]: source.result() for source in sources}


def collector_config(jobs, ports):
    conf = {
        "receivers": {}, "exporters": {}, "connectors": {},
        "service": {"telemetry": {"logs": {"level": "error"}, "metrics": {"level": "none"}}, "pipelines": {}},
    }
    pipelines = conf["service"]["pipelines"]
    for number, job in enumerate(jobs):
        receiver, connector = f"otlp/{number}", f"span_metrics/{number}"
        exporter = f"{'otlp_grpc' if job['protocol'] == GRPC else 'otlp_http'}/{number}"
        conf["receivers"][receiver] = {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{ports[job['id']]}"}}}
        conf["exporters"][exporter] = {"endpoint": job["endpoint"], "compression": job["compression"]}
        if job["protocol"] == JSON:
            conf["exporters"][exporter]["encoding"] = "json"
        if job["protocol"] == GRPC:
            conf["exporters"][exporter]["tls"] = {"insecure": True}
        if job["id"].startswith("span_metrics"):
            conf["connectors"][connector] = {"metrics_flush_interval": "1s", "dimensions": [{"name": "service.version"}]}
            pipelines[f"traces/{number}"] = {"receivers": [receiver], "exporters": [connector]}
            pipelines[f"metrics/{number}"] = {"receivers": [connector], "exporters": [exporter]}
        else:
            pipelines[f"{job['signal']}/{number}"] = {"receivers": [receiver], "exporters": [exporter]}
    return conf


def versions():
    """What the table says of each client."""
    go, col = (lambda name: build.module("go", name)), (lambda name: build.module("collector", name))
    js = build.packages("js")
    node = subprocess.run([build.tool("node"), "--version"], capture_output=True, text=True).stdout.strip()
    java = subprocess.run([build.tool("java"), "-version"], capture_output=True, text=True).stderr.split('"')[1]
    return collections.OrderedDict(
        python=f"SDK and exporters {build.pinned('opentelemetry-sdk')}, JSON exporter {build.pinned('opentelemetry-exporter-otlp-json-http')}",
        node=f"exporters {js['@opentelemetry/exporter-trace-otlp-http']}, SDK {js['@opentelemetry/sdk-trace-base']}, Node {node}",
        browser=f"exporters {js['@opentelemetry/exporter-trace-otlp-http']}, bundled with esbuild {js['esbuild']}, {page.version()}",
        go=f"SDK and exporters {go('go.opentelemetry.io/otel')}, logs {go('go.opentelemetry.io/otel/sdk/log')}",
        java=f"SDK and exporters {build.java_version()}, OpenJDK {java}",
        rust=f"opentelemetry-otlp {build.crate('opentelemetry-otlp')}, SDK {build.crate('opentelemetry_sdk')}",
        telemetrygen=go("github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen"),
        collector=col("go.opentelemetry.io/collector/otelcol"),
        span_metrics=col("github.com/open-telemetry/opentelemetry-collector-contrib/connector/spanmetricsconnector"),
    )


JAVA = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]

# Client -> (builder, launcher).
LAUNCHERS = {
    "python": (build.python, program([build.venv("python"), os.path.join(build.HERE, "python", "client.py")])),
    "node": (build.js, program(["node", os.path.join(build.TARGET, "js", "node.mjs")])),
    "browser": (build.browser, page.launch),
    "go": (build.go, program([build.binary("go-client")])),
    "java": (build.java, program([*JAVA, build.java_path(), "Client"])),
    "rust": (build.rust, program([build.binary("rust-client")])),
    "telemetrygen": (build.go, telemetrygen),
    "collector": (build.collector, collector),
    "span_metrics": (build.collector, collector),
}
