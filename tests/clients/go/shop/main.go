// shop is a service as a team would write it: it makes spans and the metric http.server.request.duration with the
// OpenTelemetry SDK and sends both to a Collector. tests/clients/record/record.py runs it to record one service three
// ways. No request is made: each one's duration and outcome are drawn from a seeded generator, in real time.
//
// Ids are counted and times are whole microseconds, so that recordings compress well. Nothing else is unusual.
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// The service's operations: how often each is called, and its median duration.
var operations = []struct {
	method, route string
	share         float64
	median        float64
}{{"GET", "/items/{id}", 0.7, 0.050}, {"POST", "/checkout", 0.3, 0.070}}

// The spread of the durations: the standard deviation of their logarithm.
const sigma = 0.65

type settings struct {
	endpoint, version string
	instances         int
	rate, errors      float64
	slower            float64
	duration          time.Duration
	interval          time.Duration
	seed              uint64
}

func main() {
	var s settings
	flag.StringVar(&s.endpoint, "endpoint", "127.0.0.1:4317", "OTLP/gRPC address")
	flag.StringVar(&s.version, "version", "v1", "service.version")
	flag.IntVar(&s.instances, "instances", 2, "instances, each with SDKs of its own")
	flag.Float64Var(&s.rate, "rate", 60, "requests a second, of all instances")
	flag.Float64Var(&s.errors, "errors", 0.001, "share of requests that fail")
	flag.Float64Var(&s.slower, "slower", 1, "factor on all durations")
	flag.DurationVar(&s.duration, "for", time.Minute, "how long to serve")
	flag.DurationVar(&s.interval, "interval", 15*time.Second, "interval of the metric export")
	flag.Uint64Var(&s.seed, "seed", 1, "of the random numbers")
	flag.Parse()
	if err := run(context.Background(), s); err != nil {
		log.Println(err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	instances := make([]*instance, s.instances)
	for number := range instances {
		var err error
		if instances[number], err = start(ctx, s, number); err != nil {
			return err
		}
	}
	dice := rand.New(rand.NewPCG(s.seed, 1))
	begin := time.Now()
	for next := begin; next.Sub(begin) < s.duration; {
		// Requests end as a Poisson process; a turn in which the clock has passed several serves them all.
		next = next.Add(time.Duration(dice.ExpFloat64() / s.rate * float64(time.Second)))
		time.Sleep(time.Until(next))
		instances[dice.IntN(len(instances))].serve(ctx, s, dice)
	}
	for _, one := range instances {
		if err := one.stop(ctx); err != nil {
			return err
		}
	}
	return nil
}

type instance struct {
	spans    *sdktrace.TracerProvider
	metrics  *sdkmetric.MeterProvider
	tracer   trace.Tracer
	duration metric.Float64Histogram
}

func start(ctx context.Context, s settings, number int) (*instance, error) {
	spans, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(s.endpoint), otlptracegrpc.WithInsecure())
	if err != nil {
		return nil, err
	}
	metrics, err := otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpoint(s.endpoint), otlpmetricgrpc.WithInsecure())
	if err != nil {
		return nil, err
	}
	identity := resource.NewSchemaless(
		attribute.String("service.name", "shop"),
		attribute.String("service.version", s.version),
		attribute.String("service.instance.id", fmt.Sprintf("%s-%d", s.version, number)),
	)
	ids := &countedIDs{}
	ids.next.Store(s.seed<<48 | uint64(number)<<40)
	one := &instance{
		spans: sdktrace.NewTracerProvider(
			sdktrace.WithResource(identity),
			sdktrace.WithIDGenerator(ids),
			sdktrace.WithBatcher(spans, sdktrace.WithBatchTimeout(time.Second)),
		),
		metrics: sdkmetric.NewMeterProvider(
			sdkmetric.WithResource(identity),
			sdkmetric.WithReader(sdkmetric.NewPeriodicReader(metrics, sdkmetric.WithInterval(s.interval))),
		),
	}
	one.tracer = one.spans.Tracer("shop")
	one.duration, err = one.metrics.Meter("shop").Float64Histogram(
		"http.server.request.duration",
		metric.WithUnit("s"),
		metric.WithDescription("Duration of HTTP server requests."),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
	)
	return one, err
}

// serve records one request that ends now.
func (one *instance) serve(ctx context.Context, s settings, dice *rand.Rand) {
	operation := operations[0]
	if dice.Float64() >= operation.share {
		operation = operations[1]
	}
	seconds := operation.median * math.Exp(sigma*dice.NormFloat64()) * s.slower
	took := time.Duration(seconds * float64(time.Second)).Round(10 * time.Microsecond)
	end := time.Now().Truncate(time.Millisecond)
	failed := dice.Float64() < s.errors
	attributes := []attribute.KeyValue{
		attribute.String("http.request.method", operation.method),
		attribute.String("http.route", operation.route),
		attribute.Int("http.response.status_code", map[bool]int{false: 200, true: 500}[failed]),
	}
	if failed {
		attributes = append(attributes, attribute.String("error.type", "500"))
	}
	_, span := one.tracer.Start(ctx, operation.method+" "+operation.route,
		trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(end.Add(-took)), trace.WithAttributes(attributes...))
	if failed {
		span.SetStatus(codes.Error, "")
	}
	span.End(trace.WithTimestamp(end))
	one.duration.Record(ctx, took.Seconds(), metric.WithAttributes(attributes...))
}

func (one *instance) stop(ctx context.Context) error {
	if err := one.spans.Shutdown(ctx); err != nil {
		return err
	}
	return one.metrics.Shutdown(ctx)
}

// countedIDs gives ids that follow each other.
type countedIDs struct{ next atomic.Uint64 }

func (c *countedIDs) NewIDs(context.Context) (trace.TraceID, trace.SpanID) {
	number := c.next.Add(1)
	var id trace.TraceID
	var span trace.SpanID
	binary.BigEndian.PutUint64(id[8:], number)
	binary.BigEndian.PutUint64(span[:], number)
	return id, span
}

func (c *countedIDs) NewSpanID(context.Context, trace.TraceID) trace.SpanID {
	var span trace.SpanID
	binary.BigEndian.PutUint64(span[:], c.next.Add(1))
	return span
}
