//! The client for Rust. See ../README.md for what a client does.

mod counted;

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{Span, SpanKind, Tracer, TracerProvider};
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{
    Compression, LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
    WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{BatchConfigBuilder as LogBatch, BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use serde::Deserialize;

use counted::{Counted, Tally};

const EXPORT_EVERY: Duration = Duration::from_millis(200);
const QUEUE: usize = 8192;

/// What the harness asks for; the fields are explained in the README.
#[derive(Clone, Deserialize)]
struct Job {
    id: String,
    endpoint: String,
    protocol: String,
    compression: String,
    signal: String,
    count: u32,
    seconds: f64,
}

type Done = Result<(), Box<dyn Error + Send + Sync>>;

fn main() -> Done {
    let jobs: Vec<Job> = serde_json::from_str(&std::env::var("CLIENT_JOBS")?)?;
    // The gRPC exporter's connections live here; exports are made by threads of the SDK.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let threads: Vec<_> = jobs
        .into_iter()
        .map(|job| {
            let handle = runtime.handle().clone();
            thread::spawn(move || run(&job, &handle))
        })
        .collect();
    for one in threads {
        let _ = one.join();
    }
    Ok(())
}

fn run(job: &Job, runtime: &tokio::runtime::Handle) {
    let tally = Tally::default();
    let _inside = runtime.enter();
    let done = match job.signal.as_str() {
        "traces" => traces(job, &tally),
        "metrics" => metrics(job, &tally),
        _ => logs(job, &tally),
    };
    println!("{}", tally.line(&job.id, job.count, done.err().map(|error| error.to_string())));
}

impl Job {
    fn protocol(&self) -> Protocol {
        if self.protocol == "http/json" { Protocol::HttpJson } else { Protocol::HttpBinary }
    }

    fn compression(&self) -> Option<Compression> {
        match self.compression.as_str() {
            "gzip" => Some(Compression::Gzip),
            "zstd" => Some(Compression::Zstd),
            _ => None,
        }
    }

    fn url(&self) -> String {
        format!("{}/v1/{}", self.endpoint, self.signal)
    }

    fn resource(&self) -> Resource {
        let identity = [("service.version", "v1"), ("service.instance.id", "0")]
            .map(|(key, value)| KeyValue::new(key, value));
        Resource::builder_empty().with_service_name(self.id.clone()).with_attributes(identity).build()
    }

    /// Makes the items, evenly over the job's time.
    fn spread(&self, mut item: impl FnMut(i64)) {
        let begin = Instant::now();
        for number in 0..self.count {
            let due =
                begin + Duration::from_secs_f64(f64::from(number) * self.seconds / f64::from(self.count));
            thread::sleep(due.saturating_duration_since(Instant::now()));
            item(i64::from(number));
        }
    }
}

/// An exporter of one signal, as the job wants it; the builders of the three signals share no trait for it.
macro_rules! exporter {
    ($kind:ident, $job:expr) => {{
        let job: &Job = $job;
        if job.protocol == "grpc" {
            let builder = $kind::builder().with_tonic().with_endpoint(&job.endpoint);
            match job.compression() {
                Some(compression) => builder.with_compression(compression).build()?,
                None => builder.build()?,
            }
        } else {
            let builder = $kind::builder().with_http().with_protocol(job.protocol()).with_endpoint(job.url());
            match job.compression() {
                Some(compression) => builder.with_compression(compression).build()?,
                None => builder.build()?,
            }
        }
    }};
}

fn traces(job: &Job, tally: &Tally) -> Done {
    let exporter = Counted::new(exporter!(SpanExporter, job), tally);
    let batch =
        BatchConfigBuilder::default().with_scheduled_delay(EXPORT_EVERY).with_max_queue_size(QUEUE).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batch).build();
    let provider =
        SdkTracerProvider::builder().with_resource(job.resource()).with_span_processor(processor).build();
    let tracer = provider.tracer("client");
    job.spread(|number| {
        let start = SystemTime::now() - Duration::from_millis(5);
        tracer
            .span_builder("GET /items")
            .with_kind(SpanKind::Server)
            .with_start_time(start)
            .with_attributes([KeyValue::new("item.number", number)])
            .start(&tracer)
            .end();
    });
    provider.force_flush()?;
    Ok(provider.shutdown()?)
}

fn metrics(job: &Job, tally: &Tally) -> Done {
    let exporter = Counted::new(exporter!(MetricExporter, job), tally);
    let reader = PeriodicReader::builder(exporter).with_interval(Duration::from_secs(1)).build();
    let provider = SdkMeterProvider::builder().with_resource(job.resource()).with_reader(reader).build();
    let histogram =
        provider.meter("client").f64_histogram("http.server.request.duration").with_unit("s").build();
    job.spread(|number| {
        let request = [("http.request.method", "GET"), ("http.route", "/items")]
            .map(|(key, value)| KeyValue::new(key, value));
        let [method, route] = request;
        histogram.record(0.005, &[method, route, KeyValue::new("item.number", number)]);
    });
    provider.force_flush()?;
    Ok(provider.shutdown()?)
}

fn logs(job: &Job, tally: &Tally) -> Done {
    let exporter = Counted::new(exporter!(LogExporter, job), tally);
    let batch = LogBatch::default().with_scheduled_delay(EXPORT_EVERY).with_max_queue_size(QUEUE).build();
    let processor = BatchLogProcessor::builder(exporter).with_batch_config(batch).build();
    let provider =
        SdkLoggerProvider::builder().with_resource(job.resource()).with_log_processor(processor).build();
    let logger = provider.logger("client");
    job.spread(|number| {
        let mut record = logger.create_log_record();
        record.set_timestamp(SystemTime::now());
        record.set_severity_number(Severity::Info);
        record.set_body(AnyValue::from("an item"));
        record.add_attribute(Key::new("item.number"), number);
        logger.emit(record);
    });
    provider.force_flush()?;
    Ok(provider.shutdown()?)
}
