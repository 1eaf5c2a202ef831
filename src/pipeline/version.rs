//! One version of one service as the evaluator keeps it: its open slots, what is remembered of it, and what
//! the board shows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::board::VersionBoard;
use super::slots::{Closed, Instances, OpenSlots, Placed, Sampling, Sender};
use crate::deployment::Sighting;
use crate::histogram::layout;
use crate::model::snapshot::snapshot_fields;
use crate::model::{Observation, SeriesId, Slot, UnixNanos, VersionId};
use crate::verdict::{Arm, Cells, Memory};
use crate::window::DisplayRing;

/// Closed slots whose totals are kept one by one: rates, recovery.
const RECENT_SLOTS: usize = 60;
/// Slots of the rate on the board.
const RATE_SLOTS: usize = 10;

/// Counters that never fall while the version lives.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Totals {
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) client_errors: u64,
    pub(super) weighted: f64,
    pub(super) late: u64,
    pub(super) future: u64,
    pub(super) skewed: u64,
}

snapshot_fields!(Totals { requests, errors, client_errors, weighted, late, future, skewed });

/// A version.
#[derive(Debug, Default)]
pub(super) struct Version {
    /// Its id while telemetry flows; a version that went away and came back gets a new one.
    pub(super) id: Option<VersionId>,
    pub(super) memory: Memory,
    pub(super) open: OpenSlots,
    pub(super) ring: DisplayRing,
    pub(super) totals: Totals,
    pub(super) first: UnixNanos,
    pub(super) last: UnixNanos,
    /// Start of the first request: the earliest among those that end in the first slot.
    pub(super) first_start: UnixNanos,
    first_slot: Option<Slot>,
    /// Arrival of its last span, late ones included.
    pub(super) touched: UnixNanos,
    /// Seconds an instance is young.
    pub(super) warmup_s: i64,
    /// Whether the store knows it from before.
    pub(super) stored: bool,
    /// Whether it was asked already if it starts a deployment.
    pub(super) looked_at: bool,
    /// Whether its board line has ended; it is kept while a deployment is held against it.
    pub(super) ended: bool,
    pub(super) sampling: Sampling,
    pub(super) instances: Instances,
    /// Until then instances that appear are taken for old ones: we were restarted, not they.
    pub(super) restored_until: UnixNanos,
    operations: BTreeMap<SeriesId, Arc<str>>,
    recent: VecDeque<[u64; 2]>,
}

impl Version {
    /// Takes in one span; `next` is the oldest open slot.
    pub(super) fn observe(&mut self, o: &Observation, ordinal: Option<u32>, next: Slot) -> Placed {
        self.touched = self.touched.max(o.arrival);
        if self.first == UnixNanos::default() || o.end < self.first {
            self.first = o.end;
        }
        let known_before = o.arrival < self.restored_until;
        let asked = if known_before { None } else { ordinal };
        let young = self.instances.is_young(asked, o, self.first, self.warmup_s);
        let placed = self.open.place(o, Sender { ordinal, young }, next);
        match placed {
            Placed::Kept => self.see(o),
            Placed::Late => self.totals.late += 1,
            Placed::Future => self.totals.future += 1,
        }
        placed
    }

    fn see(&mut self, o: &Observation) {
        self.last = self.last.max(o.end);
        let slot = o.end.slot();
        if self.first_slot.is_none_or(|first| slot < first) {
            (self.first_slot, self.first_start) = (Some(slot), o.start);
        } else if self.first_slot == Some(slot) {
            self.first_start = self.first_start.min(o.start);
        }
    }

    /// Whether any span of it was kept.
    pub(super) fn has_traffic(&self) -> bool {
        self.first_slot.is_some() || self.totals.requests > 0
    }

    /// Names a series of this version.
    pub(super) fn name_series(&mut self, id: SeriesId, operation: Arc<str>) {
        self.operations.insert(id, operation);
    }

    /// Closes a slot: what is judged and remembered of it.
    pub(super) fn close(&mut self, slot: Slot) -> Closed {
        let operations = &self.operations;
        let closed = self.open.close(slot, |id| operations.get(&id).cloned());
        self.count(slot, &closed);
        closed
    }

    fn count(&mut self, slot: Slot, closed: &Closed) {
        let (requests, errors, refused) = totals(&closed.arm, &closed.started_before);
        self.totals.requests += requests;
        self.totals.errors += errors;
        self.totals.client_errors += refused;
        self.totals.weighted += closed.sampling.sum;
        self.totals.skewed += closed.skewed;
        self.sampling.merge(&closed.sampling);
        if requests > 0 {
            self.ring.record(slot, requests, errors);
        }
        if self.recent.len() >= RECENT_SLOTS {
            self.recent.pop_front();
        }
        self.recent.push_back([requests, errors]);
    }

    /// Requests and failed ones of the last `slots` closed slots.
    pub(super) fn last_slots(&self, slots: usize) -> [u64; 2] {
        self.recent.iter().rev().take(slots).fold([0, 0], |s, r| [s[0] + r[0], s[1] + r[1]])
    }

    /// What the choice of deployments and baselines needs to know.
    pub(super) fn sighting(&self, version: &str, now: Slot) -> Sighting {
        let [requests_30m, _] = self.ring.sum_last(1800, now);
        Sighting {
            version: version.to_owned(),
            first: self.first,
            last: self.last,
            requests: self.totals.requests,
            requests_30m,
            stored: self.stored,
        }
    }

    /// The line on the board.
    pub(super) fn board(&self, version: &str, now: Slot, slo: f64) -> VersionBoard {
        let [requests_5m, errors_5m] = self.ring.sum_last(300, now);
        let burn_5m =
            if requests_5m > 0 { errors_5m as f64 / requests_5m as f64 / (1.0 - slo) } else { 0.0 };
        VersionBoard {
            version: version.to_owned(),
            requests_total: self.totals.requests,
            errors_total: self.totals.errors,
            client_errors_total: self.totals.client_errors,
            weighted_requests_total: self.totals.weighted,
            late_total: self.totals.late,
            future_total: self.totals.future,
            skewed_total: self.totals.skewed,
            requests_5m,
            errors_5m,
            burn_5m,
            rate: self.last_slots(RATE_SLOTS)[0] as f64 / RATE_SLOTS as f64,
            latency_seconds: self.memory.latency_seconds(),
            instances: self.memory.instances_present(now),
            first_seen: self.first,
            last_seen: self.last,
        }
    }
}

fn totals(arm: &Arm, started_before: &Cells) -> (u64, u64, u64) {
    arm.warm
        .values()
        .chain(started_before.values())
        .flat_map(|cell| &cell.groups)
        .chain([&arm.young])
        .fold((0, 0, 0), |s, c| (s.0 + c.requests, s.1 + c.bad, s.2 + c.client_errors))
}

/// Latency of a bucket as people read it.
pub(super) fn seconds(bucket: i16) -> f64 {
    layout::midpoint_seconds(bucket)
}
