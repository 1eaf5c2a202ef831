// What the clients in Node and in a browser page have in common: a job's items made with the SDK's own processors
// and readers, and how the exporter said that it went.

import { SpanKind } from "@opentelemetry/api";
import { SeverityNumber } from "@opentelemetry/api-logs";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const EXPORT_EVERY_MS = 200;
const QUEUE = { scheduledDelayMillis: EXPORT_EVERY_MS, maxQueueSize: 8192 };

/** Wraps an exporter so that it counts the items of exports that ended well and of those that did not. */
function counted(exporter, size, tally) {
  const inner = exporter.export.bind(exporter);
  exporter.export = (items, done) =>
    inner(items, (result) => {
      if (result.code === 0) tally.ok += size(items);
      else {
        tally.failed += size(items);
        tally.error = String(result.error?.message ?? result.error).slice(0, 300);
      }
      done(result);
    });
  return exporter;
}

/** `count` calls of `make`, spread evenly over `seconds`. */
async function spread(job, make) {
  const begin = Date.now();
  for (let number = 0; number < job.count; number++) {
    const due = begin + (number * job.seconds * 1000) / job.count;
    if (due > Date.now()) await new Promise((go) => setTimeout(go, due - Date.now()));
    make(number);
  }
}

const kinds = {
  async traces(job, exporter, resource, tally) {
    const processor = new BatchSpanProcessor(counted(exporter, (spans) => spans.length, tally), QUEUE);
    const provider = new BasicTracerProvider({ resource, spanProcessors: [processor] });
    const tracer = provider.getTracer("client");
    await spread(job, (number) =>
      tracer
        .startSpan("GET /items", { kind: SpanKind.SERVER, attributes: { "item.number": number }, startTime: Date.now() - 5 })
        .end(),
    );
    return provider;
  },

  async metrics(job, exporter, resource, tally) {
    const points = (batch) =>
      batch.scopeMetrics.flatMap((scope) => scope.metrics).reduce((sum, metric) => sum + metric.dataPoints.length, 0);
    const reader = new PeriodicExportingMetricReader({
      exporter: counted(exporter, points, tally),
      exportIntervalMillis: 1000,
      exportTimeoutMillis: 1000,
    });
    const provider = new MeterProvider({ resource, readers: [reader] });
    const histogram = provider.getMeter("client").createHistogram("http.server.request.duration", { unit: "s" });
    await spread(job, (number) =>
      histogram.record(0.005, { "http.request.method": "GET", "http.route": "/items", "item.number": number }),
    );
    return provider;
  },

  async logs(job, exporter, resource, tally) {
    const processor = new BatchLogRecordProcessor({ exporter: counted(exporter, (records) => records.length, tally), ...QUEUE });
    const provider = new LoggerProvider({ resource, processors: [processor] });
    const logger = provider.getLogger("client");
    await spread(job, (number) =>
      logger.emit({ severityNumber: SeverityNumber.INFO, body: "an item", attributes: { "item.number": number } }),
    );
    return provider;
  },
};

/** Runs one job; `makeExporter` knows the platform's exporters. */
export async function run(job, makeExporter) {
  const tally = { id: job.id, sent: job.count, ok: 0, failed: 0 };
  const resource = resourceFromAttributes({ "service.name": job.id, "service.version": "v1", "service.instance.id": "0" });
  try {
    const provider = await kinds[job.signal](job, makeExporter(job), resource, tally);
    await provider.forceFlush();
    await provider.shutdown();
  } catch (error) {
    tally.error = String(error?.message ?? error).slice(0, 300);
  }
  return tally;
}
