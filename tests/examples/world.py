"""A world of services around the real OpenTelemetry SDK, with a clock that is a number, so that ten minutes are recorded
in seconds. Services are made of pods; every pod has its own providers, and exports over OTLP/HTTP as a real one does:
spans each 5 s, metrics each 15 s. What arrives is kept as the Collector's file exporter keeps it with `format: proto`:
a length of four bytes and the request. The time of arrival is a field of its own at the end of the request, which
every reader of OTLP skips.

Random numbers are seeded and ids are counted, so that a recording is made the same again and packs well."""

import http.server
import math
import os
import random
import struct
import subprocess
import threading
import time

# Before the SDK: it takes this function by its name. A multiple of 60 s.
BEGIN = 1_800_000_000
NANOS = 1_000_000_000


class Clock:
    now = BEGIN * NANOS


time.time_ns = lambda: Clock.now

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

SPANS_EVERY_S = 5
METRICS_EVERY_S = 15
# From the flush to the receiver.
TRAVEL_NS = 300_000_000
# Times are multiples of a quarter of a millisecond, a power of two: finer bits are noise that does not pack.
GRAIN_NS = 1 << 18
# Field 1000, fixed64.
ARRIVAL_KEY = b"\xc1\x3e"
HOURS_MS = 24 * 3_600_000


class Recorder:
    """An OTLP/HTTP receiver that keeps what arrives, in order."""

    def __init__(self):
        self.kept = bytearray()
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                recorder.keep(body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def keep(self, request):
        request = request + ARRIVAL_KEY + struct.pack("<Q", Clock.now + TRAVEL_NS)
        self.kept += struct.pack(">I", len(request)) + request

    def take(self):
        kept, self.kept = bytes(self.kept), bytearray()
        return kept


class Counted(IdGenerator):
    """Ids one after the other, the same for every recording."""

    def __init__(self, first):
        self.last = first

    def generate_span_id(self):
        self.last += 1
        return self.last

    def generate_trace_id(self):
        self.last += 1
        return self.last << 64 | self.last


class Pod:
    """One process with its SDK."""

    def __init__(self, world, group, resource):
        self.group, self.born = group, Clock.now
        self.random = random.Random(f"{world.seed} {sorted(resource.items())}")
        self.phase = self.random.randrange(METRICS_EVERY_S)
        resource, none = Resource.create(resource), Compression.NoCompression
        never = {"schedule_delay_millis": HOURS_MS, "max_queue_size": 1 << 16, "max_export_batch_size": 1 << 16}
        ids = Counted(len(world.pods) + 1 << 32)
        self.traces = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False,
                                     span_limits=SpanLimits(max_attributes=32))
        exporter = OTLPSpanExporter(endpoint=f"{world.recorder.url}/v1/traces", compression=none)
        self.traces.add_span_processor(BatchSpanProcessor(exporter, **never))
        self.tracer = self.traces.get_tracer("app")
        self.logs = self.metrics = None
        self.world = world
        self.more = (resource, none, never)

    def logger(self):
        if self.logs is None:
            resource, none, never = self.more
            self.logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
            exporter = OTLPLogExporter(endpoint=f"{self.world.recorder.url}/v1/logs", compression=none)
            self.logs.add_log_record_processor(BatchLogRecordProcessor(exporter, **never))
        return self.logs.get_logger("app")

    def meter(self):
        if self.metrics is None:
            resource, none, _ = self.more
            exporter = OTLPMetricExporter(endpoint=f"{self.world.recorder.url}/v1/metrics", compression=none)
            reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
            self.metrics = MeterProvider(resource=resource, metric_readers=[reader], shutdown_on_exit=False)
        return self.metrics.get_meter("app")

    def span(self, name, kind, end, seconds, attributes, parent=None, failed=False):
        """A span that ends at `end` and took so many seconds."""
        context = set_span_in_context(parent) if parent else None
        start = grain(end - int(seconds * NANOS))
        span = self.tracer.start_span(name, context, kind, attributes, start_time=start)
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        self.open.append((span, grain(end)))
        return span

    def error(self, at, kind, frames, body):
        """An error log with an exception, as an SDK's bridge writes it."""
        attributes = {"exception.type": kind, "exception.stacktrace": frames}
        self.logger().emit(LogRecord(timestamp=at, severity_number=SeverityNumber.ERROR, body=body, attributes=attributes))

    def serve(self, second):
        """The requests of one second; an export where its time has come."""
        group = self.group
        self.open = []
        mean = group.rate / len(group.pods)
        for _ in range(int(mean) + (self.random.random() < mean % 1)):
            end = Clock.now - self.random.randrange(NANOS)
            group.request(self, end)
        for span, end in sorted(self.open, key=lambda s: s[1]):
            span.end(end)
        if (second - self.phase) % SPANS_EVERY_S == 0:
            self.traces.force_flush()
            if self.logs:
                self.logs.force_flush()
        if self.metrics and (second - self.phase) % METRICS_EVERY_S == 0:
            self.metrics.force_flush()

    def end(self):
        """Ends as a process does that is asked to: what it holds is exported."""
        self.traces.force_flush()
        if self.metrics:
            self.metrics.force_flush()

    def age(self):
        """Seconds since it began."""
        return (Clock.now - self.born) / NANOS

    def young(self, seconds):
        return self.age() < seconds

    def chance(self, share):
        return self.random.random() < share

    def about(self, seconds, spread=0.35):
        """A duration around a median."""
        return seconds * math.exp(spread * self.random.gauss(0, 1))


def grain(nanos):
    return nanos // GRAIN_NS * GRAIN_NS


class Group:
    """The pods of one version of a service."""

    def __init__(self, world, resource, pods, rate, request):
        self.world, self.resource, self.rate, self.request = world, resource, rate, request
        self.pods = []
        self.scale(pods)

    def scale(self, pods):
        del self.pods[pods:]
        while len(self.pods) < pods:
            # The SDK makes up one of its own where there is none.
            instance = {"service.instance.id": f"{self.resource['service.version']}-{self.world.numbered}"}
            self.world.numbered += 1
            self.pods.append(Pod(self.world, self, {**self.resource, **instance}))
            self.world.pods.append(self.pods[-1])

    def renew(self):
        """The oldest ends, and another one begins."""
        self.pods.pop(0).end()
        self.scale(len(self.pods) + 1)


class World:
    def __init__(self, recorder, seed):
        self.recorder, self.seed = recorder, seed
        self.second, self.numbered, self.pods, self.groups = 0, 1, [], []
        Clock.now = BEGIN * NANOS

    def group(self, name, version, pods, rate, request, **resource):
        dotted = {name.replace("__", "."): value for name, value in resource.items()}
        resource = {"service.name": name, "service.version": version, **dotted}
        self.groups.append(Group(self, resource, pods, rate, request))
        return self.groups[-1]

    def run(self, seconds):
        for _ in range(seconds):
            self.second += 1
            Clock.now = (BEGIN + self.second) * NANOS
            for group in self.groups:
                for pod in group.pods:
                    pod.serve(self.second)

    def end(self):
        """What was not exported is not recorded: the last seconds of a recording are as any."""
        return self.recorder.take()


def pack(recording, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    subprocess.run(["zstd", "-19", "--long=24", "-q", "-f", "-o", path], input=recording, check=True)
