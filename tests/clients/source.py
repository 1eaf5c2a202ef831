"""A sender for the Collector: items of one job as OTLP over gRPC, in small batches over the job's time."""

import secrets
import threading
import time

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

BATCH = 12
METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}


class Source(threading.Thread):
    """Sends at once when it is made."""

    def __init__(self, job, port):
        super().__init__(daemon=True)
        self.job, self.ok, self.error = job, 0, None
        # The connector gets spans and makes metrics.
        self.signal = "traces" if job["id"].startswith("span_metrics") else job["signal"]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.export = self.channel.unary_unary(METHODS[self.signal])
        self.start()

    def run(self):
        begin, count = time.monotonic(), self.job["count"]
        started = time.time_ns()
        for first in range(0, count, BATCH):
            time.sleep(max(0.0, begin + first * self.job["seconds"] / count - time.monotonic()))
            numbers = range(first, min(first + BATCH, count))
            if self.send(numbers, started):
                self.ok += len(numbers)
        if self.signal == "metrics":
            # Like an SDK it exports again what it has counted: two exports tell how often it does.
            time.sleep(1)
            self.send(numbers, started)
        self.channel.close()

    def send(self, numbers, started):
        """Whether it was taken."""
        try:
            self.export(request(self.signal, self.job["id"], numbers, started).SerializeToString(), timeout=20)
        except grpc.RpcError as error:
            self.error = str(error.details())[:300]
            return False
        return True

    def result(self):
        return {"id": self.job["id"], "sent": self.job["count"], "error": self.error}


def request(signal, service, numbers, started):
    now = time.time_ns()
    if signal == "traces":
        message = ExportTraceServiceRequest()
        scope = identified(message.resource_spans.add(), service).scope_spans.add()
        for number in numbers:
            span = scope.spans.add(trace_id=secrets.token_bytes(16), span_id=secrets.token_bytes(8), name="GET /items", kind=2)
            span.start_time_unix_nano, span.end_time_unix_nano = now - 5_000_000, now
            numbered(span, number)
    elif signal == "metrics":
        message = ExportMetricsServiceRequest()
        scope = identified(message.resource_metrics.add(), service).scope_metrics.add()
        metric = scope.metrics.add(name="http.server.request.duration", unit="s")
        metric.histogram.aggregation_temporality = 2
        for number in numbers:
            point = metric.histogram.data_points.add(count=1, sum=0.005, bucket_counts=[1, 0], explicit_bounds=[0.01])
            point.start_time_unix_nano, point.time_unix_nano = started, now
            numbered(point, number)
    else:
        message = ExportLogsServiceRequest()
        scope = identified(message.resource_logs.add(), service).scope_logs.add()
        for number in numbers:
            record = scope.log_records.add(time_unix_nano=now, severity_number=9)
            record.body.string_value = "an item"
            numbered(record, number)
    return message


def identified(resource, service):
    for key, value in (("service.name", service), ("service.version", "v1"), ("service.instance.id", "0")):
        resource.resource.attributes.add(key=key).value.string_value = value
    return resource


def numbered(record, number):
    record.attributes.add(key="item.number").value.int_value = number
