"""A sender of records that are not what a healthy SDK sends, in known numbers: bad ids, no end, the far past, the
future, health checks, synthetic traffic, metrics that cannot be read, and all of it once more. With it in the mixed
run Rollguard's account has an entry of each kind."""

import collections
import secrets
import threading
import time

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from source import METHODS, identified

SERVER, CLIENT = 2, 3
ERROR, INFO = 17, 9
CUMULATIVE = 2
SECOND = 10**9
BAD_ID = b"fifteen bytes.."
PAST, FUTURE, NEVER = (lambda now: now - 3600 * SECOND), (lambda now: now + 60 * SECOND), (lambda now: 0)
# What each round holds, by signal: (disposition, reason), how many, and how such a record differs from a good one.
ROUND = {
    "traces": (
        (("aggregated", ""), 5, {}),
        (("unused", "kind"), 3, {"kind": CLIENT}),
        (("rejected", "bad_id"), 2, {"trace_id": BAD_ID}),
        (("unusable", "no_time"), 2, {"end": NEVER}),
        (("late", "slot_closed"), 2, {"end": PAST}),
        (("future", ""), 2, {"end": FUTURE}),
        (("health", "health"), 2, {"attributes": {"http.request.method": "GET", "http.route": "/healthz"}}),
        (("synthetic", "synthetic"), 2, {"attributes": {"user_agent.synthetic.type": "test"}}),
    ),
    "metrics": (
        (("unused", "metric_name"), 3, {"name": "orders"}),
        (("unusable", "temporality"), 2, {"temporality": 0}),
        (("unusable", "unit"), 2, {"unit": "furlong"}),
        (("unused", "stale_mark"), 2, {"flags": 1}),
    ),
    "logs": (
        (("aggregated", ""), 5, {}),
        (("unused", "severity"), 3, {"severity": INFO}),
        (("unused", "no_severity"), 2, {"severity": 0}),
        (("rejected", "bad_id"), 2, {"trace_id": BAD_ID}),
    ),
}
MESSAGES = {
    "traces": (ExportTraceServiceRequest, ExportTraceServiceResponse, "rejected_spans"),
    "metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": (ExportLogsServiceRequest, ExportLogsServiceResponse, "rejected_log_records"),
}


class Odd(threading.Thread):
    """Sends a round each second."""

    def __init__(self, port, seconds):
        super().__init__(daemon=True)
        # (signal, disposition, reason) -> how many.
        self.seconds, self.sent, self.problem = seconds, collections.Counter(), None
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.start()

    def run(self):
        try:
            for _ in range(self.seconds):
                for signal in ROUND:
                    self.round(signal)
                time.sleep(1)
        except Exception as error:
            self.problem = error
        self.channel.close()

    def round(self, signal):
        request, response, rejected = MESSAGES[signal]
        message, now, total = request(), time.time_ns(), collections.Counter()
        for (disposition, reason), count, difference in ROUND[signal]:
            for _ in range(count):
                ADD[signal](message, now, **difference)
            total[disposition, reason] += count
        body, bad = message.SerializeToString(), total["rejected", "bad_id"]
        # The second time as a client does that has lost the answer.
        for _ in range(2):
            answer = response.FromString(self.channel.unary_unary(METHODS[signal])(body, timeout=20))
            assert getattr(answer.partial_success, rejected) == bad, answer
        for (disposition, reason), count in total.items():
            self.sent[signal, disposition, reason] += count
        self.sent[signal, "duplicate", ""] += total.total()


def span(message, now, kind=SERVER, trace_id=None, end=lambda now: now, attributes=None):
    one = first(message.resource_spans, "scope_spans").spans.add(name="GET /items", kind=kind)
    one.trace_id, one.span_id = trace_id or secrets.token_bytes(16), secrets.token_bytes(8)
    one.end_time_unix_nano = end(now)
    one.start_time_unix_nano = max(0, end(now) - SECOND // 100)
    for key, value in (attributes or {}).items():
        one.attributes.add(key=key).value.string_value = value


def point(message, now, name="http.server.request.duration", unit="s", temporality=CUMULATIVE, flags=0):
    metric = first(message.resource_metrics, "scope_metrics").metrics.add(name=name, unit=unit)
    metric.histogram.aggregation_temporality = temporality
    one = metric.histogram.data_points.add(count=1, sum=0.005, bucket_counts=[1, 0], explicit_bounds=[0.01], flags=flags)
    one.start_time_unix_nano, one.time_unix_nano = now - SECOND, now
    # Each is a stream of its own.
    one.attributes.add(key="item").value.string_value = secrets.token_hex(8)


def record(message, now, severity=ERROR, trace_id=None):
    one = first(message.resource_logs, "scope_logs").log_records.add(time_unix_nano=now, severity_number=severity)
    one.trace_id, one.span_id = trace_id or secrets.token_bytes(16), secrets.token_bytes(8)
    one.body.string_value = secrets.token_hex(8)


ADD = {"traces": span, "metrics": point, "logs": record}


def first(resources, scopes):
    """The one scope of a message, of the one resource."""
    resource = resources[0] if resources else identified(resources.add(), "odd")
    held = getattr(resource, scopes)
    return held[0] if held else held.add()
