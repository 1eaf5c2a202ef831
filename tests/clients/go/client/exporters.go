package main

import (
	"context"

	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

func spanExporter(ctx context.Context, j job) (sdktrace.SpanExporter, error) {
	if j.grpc() {
		options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(j.address()), otlptracegrpc.WithInsecure()}
		if j.gzip() {
			options = append(options, otlptracegrpc.WithCompressor("gzip"))
		}
		return otlptracegrpc.New(ctx, options...)
	}
	options := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(j.url())}
	if j.gzip() {
		options = append(options, otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	}
	return otlptracehttp.New(ctx, options...)
}

func metricExporter(ctx context.Context, j job) (sdkmetric.Exporter, error) {
	if j.grpc() {
		options := []otlpmetricgrpc.Option{otlpmetricgrpc.WithEndpoint(j.address()), otlpmetricgrpc.WithInsecure()}
		if j.gzip() {
			options = append(options, otlpmetricgrpc.WithCompressor("gzip"))
		}
		return otlpmetricgrpc.New(ctx, options...)
	}
	options := []otlpmetrichttp.Option{otlpmetrichttp.WithEndpointURL(j.url())}
	if j.gzip() {
		options = append(options, otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
	}
	return otlpmetrichttp.New(ctx, options...)
}

func logExporter(ctx context.Context, j job) (sdklog.Exporter, error) {
	if j.grpc() {
		options := []otlploggrpc.Option{otlploggrpc.WithEndpoint(j.address()), otlploggrpc.WithInsecure()}
		if j.gzip() {
			options = append(options, otlploggrpc.WithCompressor("gzip"))
		}
		return otlploggrpc.New(ctx, options...)
	}
	options := []otlploghttp.Option{otlploghttp.WithEndpointURL(j.url())}
	if j.gzip() {
		options = append(options, otlploghttp.WithCompression(otlploghttp.GzipCompression))
	}
	return otlploghttp.New(ctx, options...)
}

type countedSpans struct {
	sdktrace.SpanExporter
	tally *result
}

func (c countedSpans) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	return c.tally.ended(len(spans), c.SpanExporter.ExportSpans(ctx, spans))
}

type countedMetrics struct {
	sdkmetric.Exporter
	tally *result
}

func (c countedMetrics) Export(ctx context.Context, data *metricdata.ResourceMetrics) error {
	points := 0
	for _, scope := range data.ScopeMetrics {
		for _, one := range scope.Metrics {
			if histogram, is := one.Data.(metricdata.Histogram[float64]); is {
				points += len(histogram.DataPoints)
			}
		}
	}
	return c.tally.ended(points, c.Exporter.Export(ctx, data))
}

type countedLogs struct {
	sdklog.Exporter
	tally *result
}

func (c countedLogs) Export(ctx context.Context, records []sdklog.Record) error {
	return c.tally.ended(len(records), c.Exporter.Export(ctx, records))
}
