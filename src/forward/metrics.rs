//! What forwarding counts of itself: every name is here. The first ones are the Collector's.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use crate::pipeline::Signal;

const SENT: [&str; 3] = [
    "otelcol_exporter_sent_spans",
    "otelcol_exporter_sent_metric_points",
    "otelcol_exporter_sent_log_records",
];
const SEND_FAILED: [&str; 3] = [
    "otelcol_exporter_send_failed_spans",
    "otelcol_exporter_send_failed_metric_points",
    "otelcol_exporter_send_failed_log_records",
];
const ENQUEUE_FAILED: [&str; 3] = [
    "otelcol_exporter_enqueue_failed_spans",
    "otelcol_exporter_enqueue_failed_metric_points",
    "otelcol_exporter_enqueue_failed_log_records",
];
const QUEUE_SIZE: &str = "otelcol_exporter_queue_size";
const QUEUE_CAPACITY: &str = "otelcol_exporter_queue_capacity";
const DROPPED: &str = "rollguard_forward_dropped_records_total";
const REJECTED: &str = "rollguard_forward_rejected_records_total";
const RETRIES: &str = "rollguard_forward_retries_total";
const REFUSED: &str = "rollguard_forward_refused_messages_total";

/// The label under which the Collector shows its OTLP/gRPC exporter.
const EXPORTER: &str = "otlp_grpc";

/// Why a message was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    /// The downstream cannot take it.
    Permanent,
    /// Tried for too long.
    Expired,
    /// Still waiting when the drain deadline came.
    Shutdown,
}

/// Counters of one downstream.
#[derive(Debug, Clone)]
pub(super) struct ForwardMetrics {
    pub(super) sent: Counter,
    send_failed: Counter,
    dropped: [Counter; 3],
    pub(super) rejected: Counter,
    pub(super) retries: Counter,
    pub(super) refused: Counter,
    pub(super) queue_size: Gauge,
}

impl ForwardMetrics {
    pub(super) fn new(signal: Signal, capacity_bytes: usize) -> Self {
        describe();
        let of = |names: [&'static str; 3]| counter!(names[signal as usize], "exporter" => EXPORTER);
        let data_type = signal.as_str();
        let queue = |name: &'static str| gauge!(name, "exporter" => EXPORTER, "data_type" => data_type);
        queue(QUEUE_CAPACITY).set(capacity_bytes as f64);
        // A full queue pushes back before anything is taken over, so this one stays at 0.
        drop(of(ENQUEUE_FAILED));
        Self {
            sent: of(SENT),
            send_failed: of(SEND_FAILED),
            dropped: ["permanent", "expired", "shutdown"]
                .map(|reason| counter!(DROPPED, "signal" => data_type, "reason" => reason)),
            rejected: counter!(REJECTED, "signal" => data_type),
            retries: counter!(RETRIES, "signal" => data_type),
            refused: counter!(REFUSED, "signal" => data_type),
            queue_size: queue(QUEUE_SIZE),
        }
    }

    pub(super) fn dropped(&self, why: Dropped, records: u64) {
        self.send_failed.increment(records);
        self.dropped[why as usize].increment(records);
    }
}

fn describe() {
    for (names, text) in [
        (SENT, "Records that the downstream took"),
        (SEND_FAILED, "Records that were given up"),
        (ENQUEUE_FAILED, "Records lost before the queue"),
    ] {
        names.into_iter().for_each(|name| describe_counter!(name, text));
    }
    describe_gauge!(QUEUE_SIZE, "Bytes waiting to be sent");
    describe_gauge!(QUEUE_CAPACITY, "Bytes that may wait to be sent");
    describe_counter!(DROPPED, "Records given up, by reason");
    describe_counter!(REJECTED, "Records that the downstream rejected in a message it took");
    describe_counter!(RETRIES, "Attempts after the first");
    describe_counter!(REFUSED, "Times that a message found the queue full and was pushed back or waited");
}
