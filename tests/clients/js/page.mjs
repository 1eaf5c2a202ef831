// The client for a browser page; esbuild bundles it. The page gets its jobs from the server that it comes from and
// posts the results there; what it sends to Rollguard goes to another origin, as in the field.

import { OTLPLogExporter as JsonLogs } from "@opentelemetry/exporter-logs-otlp-http";
import { OTLPLogExporter as ProtoLogs } from "@opentelemetry/exporter-logs-otlp-proto";
import { OTLPMetricExporter as JsonMetrics } from "@opentelemetry/exporter-metrics-otlp-http";
import { OTLPMetricExporter as ProtoMetrics } from "@opentelemetry/exporter-metrics-otlp-proto";
import { OTLPTraceExporter as JsonSpans } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtoSpans } from "@opentelemetry/exporter-trace-otlp-proto";
import { run } from "./jobs.mjs";

const exporters = {
  "http/protobuf": { traces: ProtoSpans, metrics: ProtoMetrics, logs: ProtoLogs },
  "http/json": { traces: JsonSpans, metrics: JsonMetrics, logs: JsonLogs },
};

function makeExporter(job) {
  return new exporters[job.protocol][job.signal]({ url: `${job.endpoint}/v1/${job.signal}` });
}

async function main() {
  const jobs = await (await fetch("/jobs")).json();
  await Promise.all(
    jobs.map(async (job) => {
      const result = await run(job, makeExporter);
      await fetch("/results", { method: "POST", body: JSON.stringify(result) });
    }),
  );
  await fetch("/done", { method: "POST", body: navigator.userAgent });
}

main();
