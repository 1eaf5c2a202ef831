"""A downstream that knows what it got: which items of which job, how often, over OTLP/gRPC. It can be shut for a
while; then it refuses as an overloaded backend does."""

import collections
import concurrent.futures
import threading

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SERVICE = "/opentelemetry.proto.collector."
# A connector's count of calls; one job sends it, and its streams' values add up to the job's items.
CALLS = "traces.span.metrics.calls"


class Sink(grpc.GenericRpcHandler):
    def __init__(self):
        self.lock, self.shut = threading.Lock(), False
        # By job: how often each item arrived. An item is known by its number; one without, by its span id or order.
        self.items = collections.defaultdict(collections.Counter)
        self.calls = collections.defaultdict(dict)
        self.methods = {
            SERVICE + "trace.v1.TraceService/Export": (ExportTraceServiceRequest, self.spans),
            SERVICE + "metrics.v1.MetricsService/Export": (ExportMetricsServiceRequest, self.points),
            SERVICE + "logs.v1.LogsService/Export": (ExportLogsServiceRequest, self.records),
        }
        self.server = grpc.server(
            concurrent.futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 64 << 20)]
        )
        self.server.add_generic_rpc_handlers((self,))
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    def service(self, details):
        if details.method not in self.methods:
            return None
        message, take = self.methods[details.method]

        def export(body, context):
            if self.shut:
                context.abort(grpc.StatusCode.UNAVAILABLE, "shut")
            with self.lock:
                take(message.FromString(body))
            return b""

        return grpc.unary_unary_rpc_method_handler(export)

    def spans(self, message):
        for resource in message.resource_spans:
            items = self.items[service_of(resource)]
            for scope in resource.scope_spans:
                for span in scope.spans:
                    # Senders that wrap their spans in others make several of one item; entry spans are what counts.
                    if span.kind == span.SPAN_KIND_SERVER:
                        items[number_of(span, span.span_id)] += 1

    def records(self, message):
        for resource in message.resource_logs:
            items = self.items[service_of(resource)]
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    items[number_of(record, ("record", items.total()))] += 1

    def points(self, message):
        for resource in message.resource_metrics:
            job = service_of(resource)
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    data = getattr(metric, metric.WhichOneof("data"))
                    for point in data.data_points:
                        if metric.name == CALLS:
                            self.calls[job][repr(point.attributes)] = point.as_int
                        else:
                            self.items[job][number_of(point, ("point", self.items[job].total()))] += 1

    def arrived(self, job):
        """How many of a job's items arrived, and how many of those more than once."""
        with self.lock:
            if job in self.calls:
                return sum(self.calls[job].values()), 0
            counts = self.items.get(job, {})
            # Where items are numbered, what has no number is the client's telemetry about itself.
            counts = {item: count for item, count in counts.items() if isinstance(item, int)} or counts
            return len(counts), sum(1 for count in counts.values() if count > 1)

    def complete(self, jobs):
        """Whether all items of these jobs arrived."""
        return all(self.arrived(job["id"])[0] >= job["count"] for job in jobs)

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop(0)


def service_of(resource):
    for attribute in resource.resource.attributes:
        if attribute.key == "service.name":
            return attribute.value.string_value
    return None


def number_of(record, other):
    for attribute in record.attributes:
        if attribute.key == "item.number":
            return attribute.value.int_value
    return other
