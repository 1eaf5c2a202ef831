"""A sender of records that are not what a healthy SDK sends, in known numbers: bad ids, no end, the far past, the
future, health checks, synthetic traffic, and all of it once more. With it in the mixed run Rollguard's account has an entry of each kind."""

import collections
import secrets
import threading
import time

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from source import METHODS, identified

SERVER, CLIENT = 2, 3
SECOND = 10**9
# What each round holds: (disposition, how many, how such a span differs from a good one).
ROUND = (
    ("aggregated", 5, {}),
    ("unused", 3, {"kind": CLIENT}),
    ("rejected", 2, {"trace_id": b"fifteen bytes.."}),
    ("unusable", 2, {"end": lambda now: 0}),
    ("late", 2, {"end": lambda now: now - 3600 * SECOND}),
    ("future", 2, {"end": lambda now: now + 60 * SECOND}),
    ("health", 2, {"attributes": {"http.request.method": "GET", "http.route": "/healthz"}}),
    ("synthetic", 2, {"attributes": {"user_agent.synthetic.type": "test"}}),
)


class Odd(threading.Thread):
    """Sends a round each second."""

    def __init__(self, port, seconds):
        super().__init__(daemon=True)
        self.seconds, self.sent, self.problem = seconds, collections.Counter(), None
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.export = self.channel.unary_unary(METHODS["traces"])
        self.start()

    def run(self):
        try:
            for _ in range(self.seconds):
                self.round()
                time.sleep(1)
        except Exception as error:
            self.problem = error
        self.channel.close()

    def round(self):
        message = ExportTraceServiceRequest()
        spans = identified(message.resource_spans.add(), "odd").scope_spans.add().spans
        now = time.time_ns()
        for disposition, count, difference in ROUND:
            for _ in range(count):
                odd_span(spans, now, **difference)
            self.sent[disposition] += count
        body, rejected = message.SerializeToString(), next(count for disposition, count, _ in ROUND if disposition == "rejected")
        # The second time as a client does that has lost the answer.
        for _ in range(2):
            answer = ExportTraceServiceResponse.FromString(self.export(body, timeout=20))
            assert answer.partial_success.rejected_spans == rejected, answer
        self.sent["duplicate"] += sum(count for _, count, _ in ROUND)


def odd_span(spans, now, kind=SERVER, trace_id=None, end=lambda now: now, attributes=None):
    span = spans.add(name="GET /items", kind=kind, trace_id=trace_id or secrets.token_bytes(16), span_id=secrets.token_bytes(8))
    span.end_time_unix_nano = end(now)
    span.start_time_unix_nano = max(0, end(now) - SECOND // 100)
    for key, value in (attributes or {}).items():
        span.attributes.add(key=key).value.string_value = value
