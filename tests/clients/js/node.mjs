// The client for Node. See ../README.md for what a client does.

import { CompressionAlgorithm } from "@opentelemetry/otlp-exporter-base";
import { OTLPLogExporter as GrpcLogs } from "@opentelemetry/exporter-logs-otlp-grpc";
import { OTLPLogExporter as JsonLogs } from "@opentelemetry/exporter-logs-otlp-http";
import { OTLPLogExporter as ProtoLogs } from "@opentelemetry/exporter-logs-otlp-proto";
import { OTLPMetricExporter as GrpcMetrics } from "@opentelemetry/exporter-metrics-otlp-grpc";
import { OTLPMetricExporter as JsonMetrics } from "@opentelemetry/exporter-metrics-otlp-http";
import { OTLPMetricExporter as ProtoMetrics } from "@opentelemetry/exporter-metrics-otlp-proto";
import { OTLPTraceExporter as GrpcSpans } from "@opentelemetry/exporter-trace-otlp-grpc";
import { OTLPTraceExporter as JsonSpans } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtoSpans } from "@opentelemetry/exporter-trace-otlp-proto";
import { run } from "./jobs.mjs";

const exporters = {
  grpc: { traces: GrpcSpans, metrics: GrpcMetrics, logs: GrpcLogs },
  "http/protobuf": { traces: ProtoSpans, metrics: ProtoMetrics, logs: ProtoLogs },
  "http/json": { traces: JsonSpans, metrics: JsonMetrics, logs: JsonLogs },
};

function makeExporter(job) {
  const url = job.protocol === "grpc" ? job.endpoint : `${job.endpoint}/v1/${job.signal}`;
  const compression = job.compression === "gzip" ? CompressionAlgorithm.GZIP : CompressionAlgorithm.NONE;
  return new exporters[job.protocol][job.signal]({ url, compression });
}

await Promise.all(
  JSON.parse(process.env.CLIENT_JOBS).map(async (job) => console.log(JSON.stringify(await run(job, makeExporter)))),
);
