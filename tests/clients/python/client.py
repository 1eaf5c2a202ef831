"""The client for Python. See ../README.md for what a client does."""

import json
import os
import threading
import time

import grpc
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.common.http import Compression as JsonCompression
from opentelemetry.exporter.otlp.json.http import _log_exporter as json_logs
from opentelemetry.exporter.otlp.json.http import metric_exporter as json_metrics
from opentelemetry.exporter.otlp.json.http import trace_exporter as json_spans
from opentelemetry.exporter.otlp.proto.grpc import _log_exporter as grpc_logs
from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc_metrics
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc_spans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http import _log_exporter as http_logs
from opentelemetry.exporter.otlp.proto.http import metric_exporter as http_metrics
from opentelemetry.exporter.otlp.proto.http import trace_exporter as http_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind

EXPORTERS = {
    "grpc": {
        "traces": grpc_spans.OTLPSpanExporter,
        "metrics": grpc_metrics.OTLPMetricExporter,
        "logs": grpc_logs.OTLPLogExporter,
    },
    "http/protobuf": {
        "traces": http_spans.OTLPSpanExporter,
        "metrics": http_metrics.OTLPMetricExporter,
        "logs": http_logs.OTLPLogExporter,
    },
    "http/json": {
        "traces": json_spans.OTLPSpanExporter,
        "metrics": json_metrics.OTLPMetricExporter,
        "logs": json_logs.OTLPLogExporter,
    },
}
PRINTING = threading.Lock()
QUEUE = {"schedule_delay_millis": 200, "max_queue_size": 8192}


def exporter(job):
    make = EXPORTERS[job["protocol"]][job["signal"]]
    if job["protocol"] == "grpc":
        compression = {"none": grpc.Compression.NoCompression, "gzip": grpc.Compression.Gzip}[job["compression"]]
        return make(endpoint=job["endpoint"], insecure=True, compression=compression)
    kinds = Compression if job["protocol"] == "http/protobuf" else JsonCompression
    compression = {"none": "none", "gzip": "gzip", "deflate": "deflate"}[job["compression"]]
    return make(endpoint=f"{job['endpoint']}/v1/{job['signal']}", compression=kinds(compression))


def counted(exporter, size, tally):
    """Counts the items of exports that ended well and of those that did not."""
    inner = exporter.export

    def export(items, *arguments, **more):
        number = size(items)
        result = inner(items, *arguments, **more)
        tally["ok" if result.name == "SUCCESS" else "failed"] += number
        return result

    exporter.export = export
    return exporter


def spread(job, make):
    """`count` calls of `make`, spread evenly over `seconds`."""
    begin = time.monotonic()
    for number in range(job["count"]):
        time.sleep(max(0.0, begin + number * job["seconds"] / job["count"] - time.monotonic()))
        make(number)


def traces(job, resource, tally):
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(counted(exporter(job), len, tally), **QUEUE))
    tracer = provider.get_tracer("client")
    item = lambda number: tracer.start_span(
        "GET /items", kind=SpanKind.SERVER, attributes={"item.number": number}, start_time=time.time_ns() - 5_000_000
    ).end()
    spread(job, item)
    return provider


def metrics(job, resource, tally):
    points = lambda data: sum(
        len(metric.data.data_points)
        for one in data.resource_metrics for scope in one.scope_metrics for metric in scope.metrics
    )
    reader = PeriodicExportingMetricReader(counted(exporter(job), points, tally), export_interval_millis=1000)
    provider = MeterProvider(resource=resource, metric_readers=[reader])
    histogram = provider.get_meter("client").create_histogram("http.server.request.duration", "s")
    request = {"http.request.method": "GET", "http.route": "/items"}
    spread(job, lambda number: histogram.record(0.005, {**request, "item.number": number}))
    return provider


def logs(job, resource, tally):
    provider = LoggerProvider(resource=resource)
    provider.add_log_record_processor(BatchLogRecordProcessor(counted(exporter(job), len, tally), **QUEUE))
    logger = provider.get_logger("client")
    item = lambda number: logger.emit(LogRecord(
        timestamp=time.time_ns(), severity_number=SeverityNumber.INFO, body="an item", attributes={"item.number": number}
    ))
    spread(job, item)
    return provider


def run(job):
    tally = {"id": job["id"], "sent": job["count"], "ok": 0, "failed": 0}
    identity = {"service.name": job["id"], "service.version": "v1", "service.instance.id": "0"}
    try:
        provider = {"traces": traces, "metrics": metrics, "logs": logs}[job["signal"]](job, Resource(identity), tally)
        provider.force_flush(30_000)
        provider.shutdown()
    except Exception as error:  # whatever it is, the harness shows it
        tally["error"] = repr(error)[:300]
    with PRINTING:
        print(json.dumps(tally), flush=True)


def main():
    threads = [threading.Thread(target=run, args=(job,)) for job in json.loads(os.environ["CLIENT_JOBS"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
