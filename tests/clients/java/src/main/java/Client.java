import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.exporter.otlp.http.logs.OtlpHttpLogRecordExporter;
import io.opentelemetry.exporter.otlp.http.metrics.OtlpHttpMetricExporter;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.logs.OtlpGrpcLogRecordExporter;
import io.opentelemetry.exporter.otlp.metrics.OtlpGrpcMetricExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.logs.SdkLoggerProvider;
import io.opentelemetry.sdk.logs.data.LogRecordData;
import io.opentelemetry.sdk.logs.export.BatchLogRecordProcessor;
import io.opentelemetry.sdk.logs.export.LogRecordExporter;
import io.opentelemetry.sdk.metrics.InstrumentType;
import io.opentelemetry.sdk.metrics.SdkMeterProvider;
import io.opentelemetry.sdk.metrics.data.AggregationTemporality;
import io.opentelemetry.sdk.metrics.data.MetricData;
import io.opentelemetry.sdk.metrics.export.MetricExporter;
import io.opentelemetry.sdk.metrics.export.PeriodicMetricReader;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.IntConsumer;

/**
 * The client for Java. See ../../../../README.md for what a client does; instead of CLIENT_JOBS it reads CLIENT_JOB_LINES,
 * one job a line with its fields between tabs, for Java has no JSON of its own.
 */
public final class Client {
  private static final AttributeKey<Long> NUMBER = AttributeKey.longKey("item.number");
  private static final Duration EXPORT_EVERY = Duration.ofMillis(200);
  private static final int QUEUE = 8192;

  record Job(String id, String endpoint, String protocol, String compression, String signal, int count, double seconds) {
    static Job of(String line) {
      String[] field = line.split("\t");
      return new Job(field[0], field[1], field[2], field[3], field[4], Integer.parseInt(field[5]), Double.parseDouble(field[6]));
    }

    boolean grpc() {
      return protocol.equals("grpc");
    }

    String url() {
      return endpoint + "/v1/" + signal;
    }

    Resource resource() {
      return Resource.create(Attributes.of(
          AttributeKey.stringKey("service.name"), id,
          AttributeKey.stringKey("service.version"), "v1",
          AttributeKey.stringKey("service.instance.id"), "0"));
    }

    /** Makes the items, evenly over the job's time. */
    void spread(IntConsumer item) throws InterruptedException {
      long begin = System.nanoTime();
      for (int number = 0; number < count; number++) {
        long due = begin + (long) (number * seconds / count * 1e9);
        long wait = due - System.nanoTime();
        if (wait > 0) {
          TimeUnit.NANOSECONDS.sleep(wait);
        }
        item.accept(number);
      }
    }
  }

  /** How the exports of a job ended. */
  static final class Tally {
    final AtomicLong ok = new AtomicLong();
    final AtomicLong failed = new AtomicLong();
    volatile String error = "";

    CompletableResultCode count(int items, CompletableResultCode result) {
      result.whenComplete(() -> {
        (result.isSuccess() ? ok : failed).addAndGet(items);
        if (!result.isSuccess()) {
          error = String.valueOf(result.getFailureThrowable());
        }
      });
      return result;
    }
  }

  public static void main(String[] arguments) throws InterruptedException {
    List<Thread> threads = new ArrayList<>();
    for (String line : System.getenv("CLIENT_JOB_LINES").split("\n")) {
      Thread thread = new Thread(() -> run(Job.of(line)));
      thread.start();
      threads.add(thread);
    }
    for (Thread thread : threads) {
      thread.join();
    }
    System.exit(0);
  }

  private static void run(Job job) {
    Tally tally = new Tally();
    try {
      switch (job.signal()) {
        case "traces" -> traces(job, tally);
        case "metrics" -> metrics(job, tally);
        default -> logs(job, tally);
      }
    } catch (InterruptedException | RuntimeException error) {
      tally.error = error.toString();
    }
    String why = tally.error.replaceAll("[^ -~]|[\"\\\\]", " ");
    System.out.printf("{\"id\":\"%s\",\"sent\":%d,\"ok\":%d,\"failed\":%d,\"error\":\"%s\"}%n",
        job.id(), job.count(), tally.ok.get(), tally.failed.get(), why);
  }

  private static void traces(Job job, Tally tally) throws InterruptedException {
    SpanExporter exporter = job.grpc()
        ? OtlpGrpcSpanExporter.builder().setEndpoint(job.endpoint()).setCompression(job.compression()).build()
        : OtlpHttpSpanExporter.builder().setEndpoint(job.url()).setCompression(job.compression()).build();
    BatchSpanProcessor processor = BatchSpanProcessor.builder(new CountedSpans(exporter, tally))
        .setScheduleDelay(EXPORT_EVERY).setMaxQueueSize(QUEUE).build();
    SdkTracerProvider provider =
        SdkTracerProvider.builder().setResource(job.resource()).addSpanProcessor(processor).build();
    var tracer = provider.get("client");
    job.spread(number -> tracer.spanBuilder("GET /items").setSpanKind(SpanKind.SERVER).setAttribute(NUMBER, number)
        .setStartTimestamp(Instant.now().minusMillis(5)).startSpan().end(Instant.now()));
    provider.forceFlush().join(30, TimeUnit.SECONDS);
    provider.shutdown().join(30, TimeUnit.SECONDS);
  }

  private static void metrics(Job job, Tally tally) throws InterruptedException {
    MetricExporter exporter = job.grpc()
        ? OtlpGrpcMetricExporter.builder().setEndpoint(job.endpoint()).setCompression(job.compression()).build()
        : OtlpHttpMetricExporter.builder().setEndpoint(job.url()).setCompression(job.compression()).build();
    PeriodicMetricReader reader =
        PeriodicMetricReader.builder(new CountedMetrics(exporter, tally)).setInterval(Duration.ofSeconds(1)).build();
    SdkMeterProvider provider =
        SdkMeterProvider.builder().setResource(job.resource()).registerMetricReader(reader).build();
    var histogram = provider.get("client").histogramBuilder("http.server.request.duration").setUnit("s").build();
    AttributeKey<String> method = AttributeKey.stringKey("http.request.method");
    AttributeKey<String> route = AttributeKey.stringKey("http.route");
    job.spread(number -> histogram.record(0.005, Attributes.of(method, "GET", route, "/items", NUMBER, (long) number)));
    provider.forceFlush().join(30, TimeUnit.SECONDS);
    provider.shutdown().join(30, TimeUnit.SECONDS);
  }

  private static void logs(Job job, Tally tally) throws InterruptedException {
    LogRecordExporter exporter = job.grpc()
        ? OtlpGrpcLogRecordExporter.builder().setEndpoint(job.endpoint()).setCompression(job.compression()).build()
        : OtlpHttpLogRecordExporter.builder().setEndpoint(job.url()).setCompression(job.compression()).build();
    BatchLogRecordProcessor processor = BatchLogRecordProcessor.builder(new CountedLogs(exporter, tally))
        .setScheduleDelay(EXPORT_EVERY).setMaxQueueSize(QUEUE).build();
    SdkLoggerProvider provider =
        SdkLoggerProvider.builder().setResource(job.resource()).addLogRecordProcessor(processor).build();
    var logger = provider.get("client");
    job.spread(number -> logger.logRecordBuilder().setTimestamp(Instant.now()).setSeverity(Severity.INFO)
        .setBody("an item").setAttribute(NUMBER, (long) number).emit());
    provider.forceFlush().join(30, TimeUnit.SECONDS);
    provider.shutdown().join(30, TimeUnit.SECONDS);
  }

  record CountedSpans(SpanExporter inner, Tally tally) implements SpanExporter {
    @Override
    public CompletableResultCode export(Collection<SpanData> spans) {
      return tally.count(spans.size(), inner.export(spans));
    }

    @Override
    public CompletableResultCode flush() {
      return inner.flush();
    }

    @Override
    public CompletableResultCode shutdown() {
      return inner.shutdown();
    }
  }

  record CountedMetrics(MetricExporter inner, Tally tally) implements MetricExporter {
    @Override
    public AggregationTemporality getAggregationTemporality(InstrumentType type) {
      return inner.getAggregationTemporality(type);
    }

    @Override
    public CompletableResultCode export(Collection<MetricData> metrics) {
      int points = metrics.stream().mapToInt(metric -> metric.getData().getPoints().size()).sum();
      return tally.count(points, inner.export(metrics));
    }

    @Override
    public CompletableResultCode flush() {
      return inner.flush();
    }

    @Override
    public CompletableResultCode shutdown() {
      return inner.shutdown();
    }
  }

  record CountedLogs(LogRecordExporter inner, Tally tally) implements LogRecordExporter {
    @Override
    public CompletableResultCode export(Collection<LogRecordData> records) {
      return tally.count(records.size(), inner.export(records));
    }

    @Override
    public CompletableResultCode flush() {
      return inner.flush();
    }

    @Override
    public CompletableResultCode shutdown() {
      return inner.shutdown();
    }
  }
}
