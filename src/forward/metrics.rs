//! What exporters count of themselves: every name is here. The first ones are the Collector's.

use std::sync::Arc;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use super::QueueConfig;
use crate::pipeline::DataType;

const SENT: [&str; 4] = [
    "otelcol_exporter_sent_spans",
    "otelcol_exporter_sent_metric_points",
    "otelcol_exporter_sent_log_records",
    "otelcol_exporter_sent_profiles",
];
const SEND_FAILED: [&str; 4] = [
    "otelcol_exporter_send_failed_spans",
    "otelcol_exporter_send_failed_metric_points",
    "otelcol_exporter_send_failed_log_records",
    "otelcol_exporter_send_failed_profiles",
];
const ENQUEUE_FAILED: [&str; 4] = [
    "otelcol_exporter_enqueue_failed_spans",
    "otelcol_exporter_enqueue_failed_metric_points",
    "otelcol_exporter_enqueue_failed_log_records",
    "otelcol_exporter_enqueue_failed_profiles",
];
const QUEUE_SIZE: &str = "otelcol_exporter_queue_size";
const QUEUE_CAPACITY: &str = "otelcol_exporter_queue_capacity";
const IN_FLIGHT: &str = "otelcol_exporter_in_flight_requests";
const QUEUE_BYTES: &str = "rollguard_exporter_queue_bytes";
const QUEUE_CAPACITY_BYTES: &str = "rollguard_exporter_queue_capacity_bytes";
const DROPPED: &str = "rollguard_exporter_dropped_records_total";
const REJECTED: &str = "rollguard_exporter_rejected_records_total";
const RETRIES: &str = "rollguard_exporter_retries_total";
const REFUSED: &str = "rollguard_exporter_refused_requests_total";

/// Why records were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    /// The downstream cannot take them.
    Permanent,
    /// Tried for too long.
    Expired,
    /// Still waiting when the drain deadline came.
    Shutdown,
    /// The queue was full and the exporter goes without.
    QueueFull,
    /// The queue on disk could not be written, and the exporter goes without.
    NotWritten,
    /// What goes along cannot be read back from the queue on disk; without it the request could reach another tenant.
    Unreadable,
}

const REASONS: [&str; 6] = ["permanent", "expired", "shutdown", "queue_full", "not_written", "unreadable"];

/// Counters of one exporter for one kind of data.
#[derive(Debug)]
pub(super) struct LaneMetrics {
    sent: Counter,
    send_failed: Counter,
    enqueue_failed: Counter,
    dropped: [Counter; REASONS.len()],
    rejected: Counter,
    pub(super) retries: Counter,
    pub(super) refused: Counter,
    pub(super) queue_size: Gauge,
    pub(super) queue_bytes: Gauge,
    pub(super) in_flight: Gauge,
}

impl LaneMetrics {
    pub(super) fn new(exporter: &Arc<str>, data: DataType, queue: &QueueConfig) -> Self {
        describe();
        let data_type = data.as_str();
        let of =
            |names: [&'static str; 4]| counter!(names[data as usize], "exporter" => Arc::clone(exporter));
        let own =
            |name: &'static str| counter!(name, "exporter" => Arc::clone(exporter), "data_type" => data_type);
        let level =
            |name: &'static str| gauge!(name, "exporter" => Arc::clone(exporter), "data_type" => data_type);
        level(QUEUE_CAPACITY).set(queue.most_requests() as f64);
        level(QUEUE_CAPACITY_BYTES).set(queue.most_bytes() as f64);
        Self {
            sent: of(SENT),
            send_failed: of(SEND_FAILED),
            enqueue_failed: of(ENQUEUE_FAILED),
            dropped: REASONS.map(|reason| {
                counter!(DROPPED, "exporter" => Arc::clone(exporter), "data_type" => data_type, "reason" => reason)
            }),
            rejected: own(REJECTED),
            retries: own(RETRIES),
            refused: own(REFUSED),
            queue_size: level(QUEUE_SIZE),
            queue_bytes: level(QUEUE_BYTES),
            in_flight: level(IN_FLIGHT),
        }
    }

    /// The downstream took a request with this many records, but for those that it rejected.
    pub(super) fn sent(&self, records: u64, rejected: u64) {
        let rejected = rejected.min(records);
        self.rejected.increment(rejected);
        self.sent.increment(records - rejected);
    }

    pub(super) fn dropped(&self, why: Dropped, records: u64) {
        match why {
            Dropped::QueueFull | Dropped::NotWritten => self.enqueue_failed.increment(records),
            _ => self.send_failed.increment(records),
        }
        self.dropped[why as usize].increment(records);
    }
}

fn describe() {
    for (names, text) in [
        (SENT, "Records that the downstream took"),
        (SEND_FAILED, "Records that were given up"),
        (ENQUEUE_FAILED, "Records that an exporter with a full queue went without"),
    ] {
        names.into_iter().for_each(|name| describe_counter!(name, text));
    }
    describe_gauge!(QUEUE_SIZE, "Requests waiting or being sent");
    describe_gauge!(QUEUE_CAPACITY, "Requests that may wait or be sent");
    describe_gauge!(IN_FLIGHT, "Requests being sent");
    describe_gauge!(QUEUE_BYTES, "Memory, or disk, that waiting requests keep, in bytes");
    describe_gauge!(QUEUE_CAPACITY_BYTES, "Memory, or disk, that waiting requests may keep, in bytes");
    describe_counter!(DROPPED, "Records given up, by reason");
    describe_counter!(REJECTED, "Records that the downstream rejected in a request it took");
    describe_counter!(RETRIES, "Attempts after the first");
    describe_counter!(REFUSED, "Times that a request found the queue full and was pushed back or waited");
}
