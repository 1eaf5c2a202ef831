"""The Python SDK's exporters against the real binary: what they send is what /metrics counts, exactly."""

import time

import grpc
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from harness import http, rollguard, samples, test, wait_until


def resource(service, version):
    return Resource.create({"service.name": service, "service.version": version, "service.instance.id": version + "-0"})


def send_spans(exporter, service, version, good, bad):
    """Entry spans, and inside each a client span that must not be counted."""
    provider = TracerProvider(resource=resource(service, version))
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=200))
    tracer = provider.get_tracer("e2e")
    for number in range(good + bad):
        with tracer.start_as_current_span("GET /items", kind=SpanKind.SERVER) as span:
            with tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT):
                pass
            if number < bad:
                span.set_status(StatusCode.ERROR)
    assert provider.force_flush(10_000)
    provider.shutdown()


def span_exporters(ports):
    grpc_at, http_at = f"127.0.0.1:{ports.grpc}", f"http://127.0.0.1:{ports.http}/v1/traces"
    return {
        "grpc": lambda: GrpcSpans(endpoint=grpc_at, insecure=True),
        "grpc-gzip": lambda: GrpcSpans(endpoint=grpc_at, insecure=True, compression=grpc.Compression.Gzip),
        "http": lambda: HttpSpans(endpoint=http_at, compression=Compression.NoCompression),
        "http-gzip": lambda: HttpSpans(endpoint=http_at, compression=Compression.Gzip),
    }


@test
def every_span_of_each_exporter_is_counted_once():
    with rollguard() as running:
        expected = {}
        for turn, (name, make) in enumerate(span_exporters(running.ports).items()):
            for version, good, bad in (("v1", 600 + turn, 3), ("v2", 200 + turn, 40)):
                send_spans(make(), "shop-" + name, version, good, bad)
                expected["shop-" + name, version] = (good + bad, bad)

        def counted():
            return {
                key: tuple(running.value(n, service_name=key[0], version=key[1])
                           for n in ("rollguard_requests_total", "rollguard_errors_total"))
                for key in expected
            }

        wait_until("all counts are exact", lambda: counted() == expected or NotYet(counted(), expected))
        # Nothing comes later either: what was counted stays what it is.
        assert counted() == expected


class NotYet(str):
    """A false value that says why, for the last line of a failure."""

    def __new__(cls, got, expected):
        return str.__new__(cls, f"got {got}, expected {expected}")

    def __bool__(self):
        return False


@test
def metrics_are_accepted_over_both_transports():
    with rollguard() as running:
        for exporter in (
            GrpcMetrics(endpoint=f"127.0.0.1:{running.ports.grpc}", insecure=True),
            HttpMetrics(endpoint=f"http://127.0.0.1:{running.ports.http}/v1/metrics", compression=Compression.Gzip),
        ):
            reader = PeriodicExportingMetricReader(exporter, export_interval_millis=60_000)
            provider = MeterProvider(resource=resource("shop", "v1"), metric_readers=[reader])
            provider.get_meter("e2e").create_counter("orders").add(3)
            assert provider.force_flush(10_000)
            provider.shutdown()

        def accepted():
            status, _, text = http(f"http://127.0.0.1:{running.ports.own}/metrics")
            assert status == 200, text
            return sum(v for n, _, v in samples(text) if n == "otelcol_receiver_accepted_metric_points")

        # One point each; the shutdown of a provider may export once more.
        wait_until("both points are counted", lambda: accepted() >= 2)


@test
def json_over_http_is_counted_too():
    with rollguard() as running:
        body = b"""{"resourceSpans":[{"resource":{"attributes":[
          {"key":"service.name","value":{"stringValue":"shop-json"}},
          {"key":"service.version","value":{"stringValue":"v1"}}]},
          "scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174",
          "name":"GET /items","kind":2,"startTimeUnixNano":"%d","endTimeUnixNano":"%d"}]}]}]}"""
        now = time.time_ns()
        url = f"http://127.0.0.1:{running.ports.http}/v1/traces"
        status, headers, text = http(url, body % (now - 10**7, now))
        assert status == 200 and text.strip() == "{}", (status, text)
        assert headers.get("content-type", headers.get("Content-Type")) == "application/json", headers
        wait_until("it is counted", lambda: running.value("rollguard_requests_total", service_name="shop-json") == 1)
