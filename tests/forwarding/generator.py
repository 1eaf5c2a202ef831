"""A sender that knows what it was promised: numbered requests of numbered spans, each sent until it is acknowledged, with
a note of when each attempt was under way."""

import random
import threading
import time

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
SPANS = 100
SENDERS = 8
# In front of the request's number in each trace id.
TAG = b"forward:"
# In a request that the backend never takes.
MARK = "backend.never.takes.this"
SERVER, ERROR = 2, 2


def body(number, service, version, failed_share, marked=False):
    """The request with this number, as bytes."""
    dice, now = random.Random(number), time.time_ns()
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    attributes = {"service.name": service, "service.version": version, "service.instance.id": f"{version}-{number % 3}"}
    if marked:
        attributes[MARK] = "yes"
    for key, value in attributes.items():
        resource.resource.attributes.add(key=key).value.string_value = value
    spans = resource.scope_spans.add().spans
    for index in range(SPANS):
        operation = ("GET /items", "POST /checkout", "GET /items/{id}")[index % 3]
        span = spans.add(name=operation, kind=SERVER, trace_id=TAG + number.to_bytes(8, "big"), span_id=span_id(number, index))
        end = now - int(dice.random() * 2e8)
        span.start_time_unix_nano, span.end_time_unix_nano = end - int(dice.lognormvariate(-3.2, 0.4) * 1e9), end
        span.attributes.add(key="http.request.method").value.string_value = operation.split()[0]
        span.attributes.add(key="url.path").value.string_value = f"/items/{dice.randrange(10**6)}"
        span.attributes.add(key="http.response.status_code").value.int_value = 200
        if dice.random() < failed_share:
            span.status.code = ERROR
    return message.SerializeToString()


def span_id(number, index):
    return ((number + 1) << 8 | index).to_bytes(8, "big")


def numbers_in(message):
    """Of the requests that are joined in this one."""
    found, at = set(), message.find(TAG)
    while at >= 0:
        found.add(int.from_bytes(message[at + len(TAG):at + len(TAG) + 8], "big"))
        at = message.find(TAG, at + len(TAG))
    return found


class Generator:
    """`rate` spans a second for `seconds`. `content(number, elapsed)` says what is in a request: the arguments of `body`
    behind the number. Requests that are pushed back are sent again, and what is late is made up for."""

    def __init__(self, port, rate, seconds, content):
        self.port, self.rate, self.content = port, rate, content
        self.total = int(rate * seconds / SPANS)
        self.lock, self.next = threading.Lock(), 0
        # By number: when it was acknowledged, and its attempts as (begin, end).
        self.acknowledged, self.attempts = {}, {}
        self.refusals = {}
        # Bodies that somebody asks for later.
        self.marked = {}
        self.failure = None
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[
            ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500),
        ])
        self.call = self.channel.unary_unary(EXPORT)
        self.threads = [threading.Thread(target=self.send_all, daemon=True) for _ in range(SENDERS)]

    def start(self):
        self.begin = time.monotonic()
        for thread in self.threads:
            thread.start()

    def send_all(self):
        try:
            while True:
                with self.lock:
                    number, self.next = self.next, self.next + 1
                if number >= self.total:
                    return
                due = self.begin + number * SPANS / self.rate
                time.sleep(max(0.0, due - time.monotonic()))
                arguments = self.content(number, time.monotonic() - self.begin)
                message = body(number, **arguments)
                if arguments.get("marked"):
                    self.marked[number] = message
                self.deliver(number, message)
        except Exception as error:
            self.failure = error

    def deliver(self, number, message):
        self.attempts[number] = []
        while True:
            attempt = [time.monotonic(), None]
            self.attempts[number].append(attempt)
            try:
                answer = self.call(message, timeout=10)
                assert answer == b"", f"request {number}: {answer}"
                self.acknowledged[number] = attempt[1] = time.monotonic()
                return
            except grpc.RpcError as error:
                attempt[1] = time.monotonic()
                code = error.code().name
                assert code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"), f"request {number}: {error}"
                with self.lock:
                    self.refusals[code] = self.refusals.get(code, 0) + 1
                time.sleep(0.2)

    def under_way(self, moment):
        """Requests that were being sent at this moment."""
        during = lambda attempt: attempt[0] <= moment and (attempt[1] is None or attempt[1] >= moment)
        return {number for number, attempts in list(self.attempts.items()) if any(map(during, list(attempts)))}

    def join(self, timeout):
        """Waits until everything is acknowledged."""
        end = time.monotonic() + timeout
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))
        if self.failure:
            raise self.failure
        missing = self.total - len(self.acknowledged)
        assert not missing, f"{missing} requests are not acknowledged after {timeout:.0f} s more"
        self.channel.close()
