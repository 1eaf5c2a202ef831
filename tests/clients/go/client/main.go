// The client for Go. See ../../README.md for what a client does.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const exportEvery = 200 * time.Millisecond

// job is what the harness asks for; its fields are explained in the README.
type job struct {
	ID, Endpoint, Protocol, Compression, Signal string
	Count                                       int
	Seconds                                     float64
}

// result is what the harness is told of a job.
type result struct {
	ID     string `json:"id"`
	Sent   int    `json:"sent"`
	OK     int    `json:"ok"`
	Failed int    `json:"failed"`
	Error  string `json:"error,omitempty"`
	mutex  sync.Mutex
}

// ended counts the items of an export that ended well or did not.
func (r *result) ended(items int, err error) error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if err == nil {
		r.OK += items
	} else {
		r.Failed += items
		r.Error = err.Error()
	}
	return err
}

func main() {
	// Failed exports are in the results.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	var jobs []job
	if err := json.Unmarshal([]byte(os.Getenv("CLIENT_JOBS")), &jobs); err != nil {
		fmt.Fprintln(os.Stderr, "CLIENT_JOBS:", err)
		os.Exit(2)
	}
	var group sync.WaitGroup
	out := json.NewEncoder(os.Stdout)
	var lock sync.Mutex
	for _, one := range jobs {
		group.Go(func() {
			tally := run(context.Background(), one)
			lock.Lock()
			defer lock.Unlock()
			_ = out.Encode(tally)
		})
	}
	group.Wait()
}

type provider interface {
	ForceFlush(context.Context) error
	Shutdown(context.Context) error
}

func run(ctx context.Context, j job) *result {
	tally := &result{ID: j.ID, Sent: j.Count}
	identity := resource.NewSchemaless(attribute.String("service.name", j.ID),
		attribute.String("service.version", "v1"), attribute.String("service.instance.id", "0"))
	signals := map[string]func(context.Context, job, *resource.Resource, *result) (provider, error){
		"traces": traces, "metrics": metrics, "logs": logs,
	}
	made, err := signals[j.Signal](ctx, j, identity, tally)
	if err == nil {
		err = made.ForceFlush(ctx)
		if ended := made.Shutdown(ctx); err == nil {
			err = ended
		}
	}
	if err != nil && tally.Error == "" {
		tally.Error = err.Error()
	}
	return tally
}

// spread makes the job's items, evenly over its time.
func spread(j job, item func(number int)) {
	begin := time.Now()
	for number := range j.Count {
		due := time.Duration(float64(number) * j.Seconds / float64(j.Count) * float64(time.Second))
		time.Sleep(time.Until(begin.Add(due)))
		item(number)
	}
}

func traces(ctx context.Context, j job, identity *resource.Resource, tally *result) (provider, error) {
	exporter, err := spanExporter(ctx, j)
	if err != nil {
		return nil, err
	}
	made := sdktrace.NewTracerProvider(sdktrace.WithResource(identity), sdktrace.WithBatcher(
		countedSpans{exporter, tally}, sdktrace.WithBatchTimeout(exportEvery), sdktrace.WithMaxQueueSize(8192)))
	tracer := made.Tracer("client")
	spread(j, func(number int) {
		_, span := tracer.Start(ctx, "GET /items", trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.Int("item.number", number)), trace.WithTimestamp(time.Now().Add(-5*time.Millisecond)))
		span.End()
	})
	return made, nil
}

func metrics(ctx context.Context, j job, identity *resource.Resource, tally *result) (provider, error) {
	exporter, err := metricExporter(ctx, j)
	if err != nil {
		return nil, err
	}
	reader := sdkmetric.NewPeriodicReader(countedMetrics{exporter, tally}, sdkmetric.WithInterval(time.Second))
	made := sdkmetric.NewMeterProvider(sdkmetric.WithResource(identity), sdkmetric.WithReader(reader))
	histogram, err := made.Meter("client").Float64Histogram("http.server.request.duration", metric.WithUnit("s"))
	if err != nil {
		return nil, err
	}
	spread(j, func(number int) {
		histogram.Record(ctx, 0.005, metric.WithAttributes(attribute.String("http.request.method", "GET"),
			attribute.String("http.route", "/items"), attribute.Int("item.number", number)))
	})
	return made, nil
}

func logs(ctx context.Context, j job, identity *resource.Resource, tally *result) (provider, error) {
	exporter, err := logExporter(ctx, j)
	if err != nil {
		return nil, err
	}
	made := sdklog.NewLoggerProvider(sdklog.WithResource(identity), sdklog.WithProcessor(sdklog.NewBatchProcessor(
		countedLogs{exporter, tally}, sdklog.WithExportInterval(exportEvery), sdklog.WithMaxQueueSize(8192))))
	logger := made.Logger("client")
	spread(j, func(number int) {
		var record log.Record
		record.SetTimestamp(time.Now())
		record.SetSeverity(log.SeverityInfo)
		record.SetBody(log.StringValue("an item"))
		record.AddAttributes(log.Int("item.number", number))
		logger.Emit(ctx, record)
	})
	return made, nil
}

// url is the address of a signal over HTTP.
func (j job) url() string { return j.Endpoint + "/v1/" + j.Signal }

func (j job) grpc() bool { return j.Protocol == "grpc" }

func (j job) gzip() bool { return j.Compression == "gzip" }

// address is an endpoint without its scheme, as Go's gRPC exporters want it.
func (j job) address() string { return strings.TrimPrefix(j.Endpoint, "http://") }
