//! An exporter around an exporter, which counts the items of exports that ended well and of those that did not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// How the exports of a job ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    ok: usize,
    failed: usize,
    error: Option<String>,
}

impl Tally {
    fn count(&self, items: usize, result: OTelSdkResult) -> OTelSdkResult {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Ok(()) => counts.ok += items,
            Err(error) => {
                counts.failed += items;
                counts.error = Some(error.to_string());
            }
        }
        result
    }

    /// What the harness is told.
    pub(crate) fn line(&self, id: &str, sent: u32, error: Option<String>) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let error = counts.error.clone().or(error);
        serde_json::json!({"id": id, "sent": sent, "ok": counts.ok, "failed": counts.failed, "error": error})
            .to_string()
    }
}

/// The exporter around `inner`.
#[derive(Debug)]
pub(crate) struct Counted<E> {
    inner: E,
    tally: Tally,
}

impl<E> Counted<E> {
    pub(crate) fn new(inner: E, tally: &Tally) -> Self {
        Self { inner, tally: tally.clone() }
    }
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let items = batch.len();
        self.tally.count(items, self.inner.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Counted<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let items = batch.iter().count();
        self.tally.count(items, self.inner.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Counted<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let points = |data: &AggregatedMetrics| match data {
            AggregatedMetrics::F64(MetricData::Histogram(histogram)) => histogram.data_points().count(),
            _ => 0,
        };
        let items =
            metrics.scope_metrics().flat_map(|scope| scope.metrics()).map(|one| points(one.data())).sum();
        self.tally.count(items, self.inner.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}
