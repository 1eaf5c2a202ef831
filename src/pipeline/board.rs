//! What readers see: one immutable picture of every service, version and deployment, published whole after
//! each evaluation. A scrape therefore shows one evaluation, and a version that has ended is gone from the
//! next picture on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::diagnosis::ServiceTelemetry;
use super::engine::EngineCounters;
use super::logs::LogTotals;
use super::objectives::ObjectiveBoard;
use crate::deployment::Deployment;
use crate::model::{ServiceKey, Source, UnixNanos, VersionKey};
use crate::verdict::BoundTest;

/// The published picture.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// When it was made (wall clock as the evaluator was told).
    pub at: UnixNanos,
    /// Services in name order.
    pub services: Vec<ServiceBoard>,
    /// Deployments: running and watched ones, and the ended ones still kept, newest first.
    pub deployments: Vec<Arc<Deployment>>,
    /// The exporter for which undecided verdicts wait, because it refuses telemetry for all.
    pub blinded_by: Option<Arc<str>>,
    /// What is known of the senders of each service, in name order, a few seconds old.
    pub telemetry: Arc<Vec<ServiceTelemetry>>,
    /// Objectives of services and journeys, those of services without traffic included, a few seconds old.
    pub objectives: Arc<Vec<ObjectiveBoard>>,
    /// What the engine could not use or refused.
    pub counters: EngineCounters,
}

/// One service.
#[derive(Debug, Clone)]
pub struct ServiceBoard {
    /// Which.
    pub key: ServiceKey,
    /// Versions with telemetry, in name order; ended ones are left out.
    pub versions: Vec<VersionBoard>,
    /// How long a slot stays open after its end, seconds (L of `docs/statistics.md`).
    pub lateness_seconds: f64,
    /// Share of the last 5 minutes' spans that arrived before their slot closed, 0 to 1.
    pub completeness: f64,
    /// Objective of the policy in force.
    pub slo: f64,
    /// How its request metrics are read; `None` where it sends none, or too few to know their interval.
    pub metrics: Option<MetricsSide>,
    /// The metrics that SLIs of the policy's own read, and whether a point that counts for one has come.
    pub sli_metrics: BTreeMap<String, bool>,
}

/// How the request metrics of a service are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricsSide {
    /// Seconds between two exports, as learned: the length of its slots.
    pub slot_seconds: i64,
    /// How long a slot stays open after its end, seconds.
    pub lateness_seconds: f64,
    /// Share of the points of the last 5 minutes that came in time, 0 to 1.
    pub completeness: f64,
    /// Which of its metrics counts, in one word; empty before the first slot is closed.
    pub metric: &'static str,
    /// How its latencies are tested in explicit buckets, by what its busiest version shows; `None` on the log grid.
    pub bounds: Option<[BoundTest; 3]>,
}

/// What one source says of a version.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SourceBoard {
    /// Requests in closed slots since it was first seen.
    pub requests_total: u64,
    /// Failed ones.
    pub errors_total: u64,
    /// Requests and failed ones of the last 5 minutes.
    pub requests_5m: u64,
    /// See `requests_5m`.
    pub errors_5m: u64,
}

impl ServiceBoard {
    /// Share of the requests of the last 5 minutes that carry no version; 0 without requests.
    pub fn unversioned_share(&self) -> f64 {
        let all: u64 = self.versions.iter().map(|v| v.requests_5m).sum();
        let without = self.versions.iter().filter(|v| v.version == VersionKey::UNVERSIONED);
        let without: u64 = without.map(|v| v.requests_5m).sum();
        if all == 0 { 0.0 } else { without as f64 / all as f64 }
    }
}

/// One version. Totals never fall while the version lives.
#[derive(Debug, Clone, Default)]
pub struct VersionBoard {
    /// Version label.
    pub version: String,
    /// Where the numbers below come from: the source that showed its requests first. The two count the same
    /// requests, so they are never added.
    pub source: Source,
    /// What each source says, in the order of [`Source::ALL`]; `None` where it says nothing.
    pub sources: [Option<SourceBoard>; 2],
    /// Requests in closed slots since it was first seen.
    pub requests_total: u64,
    /// Failed ones.
    pub errors_total: u64,
    /// Refused as the client's fault.
    pub client_errors_total: u64,
    /// Sum of sampling weights: requests before sampling, as far as known.
    pub weighted_requests_total: f64,
    /// Spans that came after their slot had closed.
    pub late_total: u64,
    /// Spans more than 5 s in the future.
    pub future_total: u64,
    /// Spans whose end was before their start.
    pub skewed_total: u64,
    /// Requests and failed ones of the last 5 minutes.
    pub requests_5m: u64,
    /// See `requests_5m`.
    pub errors_5m: u64,
    /// Error budget burn over 5 minutes: (errors / requests) / (1 - SLO); 0 without requests.
    pub burn_5m: f64,
    /// Requests per second over the last 10 closed slots.
    pub rate: f64,
    /// p50, p95, p99 over the last 5 minutes in seconds; `None` without requests.
    pub latency_seconds: Option<[f64; 3]>,
    /// Instances with traffic in the last minute; 0 where no instance is named.
    pub instances: u64,
    /// First and last span by event time.
    pub first_seen: UnixNanos,
    /// See `first_seen`.
    pub last_seen: UnixNanos,
    /// Error logs and exceptions.
    pub logs: LogTotals,
}
