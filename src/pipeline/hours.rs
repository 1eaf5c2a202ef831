//! What a service does around the clock, on its side of the engine: which services are kept, when an hour is written, and
//! which hours of other days are read back. Nothing of them is in memory but the last two hours, and a few others of a
//! service with a deployment that rests on what is remembered.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::arms::Closed;
use super::engine::Engine;
use super::journal::Commit;
use super::service::{Service, seen};
use crate::model::{ServiceKey, Slot, Source, UnixNanos};
use crate::verdict::{HOUR_S, Hour, Hours};

/// Hours before the present one that are read where hours begin anew: their marks go on, and so do those still open.
const EARLIER: i64 = 26;
/// Services whose hours are read in one tick.
const READ_AT_ONCE: usize = 10;

/// An hour of a service to be written, or one that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HourRow {
    /// Which service.
    pub service: ServiceKey,
    /// Which hour since the epoch.
    pub number: i64,
    /// Its blocks, in a layout that outlives upgrades.
    pub bytes: Vec<u8>,
}

/// Hours of a service that are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedHours {
    /// Which service.
    pub service: Arc<ServiceKey>,
    /// Their numbers.
    pub numbers: Vec<i64>,
}

/// Counts the requests of a version in a closed slot, where its service is kept and it is shown by this source.
pub(super) fn count(hours: Option<&mut Hours>, slot: Slot, one: &Closed) {
    if let Some(hours) = hours {
        hours.add(slot, &seen(one));
    }
}

impl Service {
    /// Begins the hour of a slot.
    pub(super) fn begin_hour(&mut self, slot: Slot) {
        if self.hours.as_ref().is_none_or(|hours| !hours.is_new(slot)) {
            return;
        }
        let serving = self.serving().and_then(|label| self.versions.get(&label));
        let fresh = serving.and_then(|version| match &version.metered {
            Some(side) if version.shows(Source::Metrics) => side.memory.marks(),
            _ => version.memory.marks(),
        });
        if let Some(hours) = &mut self.hours {
            hours.begin(slot, fresh);
        }
    }

    /// Leaves out what a version or a change did that has failed, from its first request on; answers whether there is
    /// none now.
    pub(super) fn leave_out_failing(&mut self) -> bool {
        let failing = self.running.iter().filter_map(|running| running.failing_since()).min();
        if let Some((hours, from)) = self.hours.as_mut().zip(failing) {
            hours.leave_out(from);
        }
        failing.is_none()
    }

    /// Hands over the hours that are to be written.
    pub(super) fn write_hours(&mut self, now: UnixNanos, commit: &mut Commit) {
        let due = self.hours.as_mut().map_or_else(Vec::new, |hours| hours.due(now.slot()));
        commit.hours.extend(due.iter().map(|hour| self.row(hour)));
    }

    /// The same of those that are not over, which are written again when they are.
    pub(super) fn write_open_hours(&self, commit: &mut Commit) {
        let open = self.hours.iter().flat_map(|hours| hours.unwritten());
        commit.hours.extend(open.map(|hour| self.row(hour)));
    }

    fn row(&self, hour: &Hour) -> HourRow {
        HourRow { service: (*self.key).clone(), number: hour.number(), bytes: hour.to_bytes() }
    }

    /// Whether its hours are kept.
    pub(super) fn keep_hours(&mut self, is_kept: bool, commit: &mut Commit) {
        match is_kept {
            true => drop(self.hours.get_or_insert_default()),
            false => {
                self.write_open_hours(commit);
                self.hours = None;
            }
        }
    }

    /// Deployments that rest on what is remembered begin to be counted.
    pub(super) fn begin_second_opinions(&mut self) {
        let next = self.next;
        self.running.iter_mut().for_each(|r| r.begin_second_opinion(next, self.hours.as_deref()));
    }

    /// Numbers of the hours that are to be read; empty where none are.
    fn wanted_hours(&self, now: UnixNanos) -> Vec<i64> {
        let mut numbers: Vec<i64> = self.running.iter().flat_map(|r| r.wanted_hours()).collect();
        if self.hours.as_ref().is_some_and(|hours| hours.wants_earlier()) {
            numbers.extend(earlier(now));
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    fn take_hours(&mut self, asked: &[i64], read: &[Hour], now: UnixNanos) {
        self.running.iter_mut().for_each(|running| running.take_hours(asked, read));
        let earlier = earlier(now);
        let is_asked = asked.contains(earlier.start()) && asked.contains(earlier.end());
        if let Some(hours) = self.hours.as_mut().filter(|hours| hours.wants_earlier() && is_asked) {
            let written = read.iter().filter(|hour| earlier.contains(&hour.number()));
            hours.adopt(written.cloned().collect(), now.slot());
        }
    }

    /// Hours could not be read. There is no second opinion; hours that begin anew do not begin over what may be there, and
    /// are tried again when services are next chosen.
    fn hours_unread(&mut self, asked: &[i64]) {
        self.running.iter_mut().for_each(|running| running.take_hours(asked, &[]));
        self.hours.take_if(|hours| hours.wants_earlier());
    }
}

/// Numbers of the hours that hours which begin anew go on from.
fn earlier(now: UnixNanos) -> RangeInclusive<i64> {
    let present = now.slot().div_euclid(HOUR_S);
    present - EARLIER..=present
}

impl Engine {
    /// Hours that are to be read from the store, of a few services at once.
    pub fn wanted_hours(&self, now: UnixNanos) -> Vec<WantedHours> {
        let of = |(key, service): (&Arc<ServiceKey>, &Service)| {
            let numbers = service.wanted_hours(now);
            (!numbers.is_empty()).then(|| WantedHours { service: Arc::clone(key), numbers })
        };
        self.services.iter().filter_map(of).take(READ_AT_ONCE).collect()
    }

    /// What was read of the hours that were wanted. A record that is not sound is left out, as one that is missing.
    pub fn take_hours(&mut self, wanted: &WantedHours, rows: &[HourRow], now: UnixNanos) {
        let Some(service) = self.services.get_mut(&wanted.service) else { return };
        let mut read = Vec::with_capacity(rows.len());
        for row in rows {
            match Hour::from_bytes(row.number, &row.bytes) {
                Some(hour) => read.push(hour),
                None => tracing::warn!(service = %row.service, hour = row.number,
                    "an hour of a service in the database cannot be read; it is left out"),
            }
        }
        service.take_hours(&wanted.numbers, &read, now);
    }

    /// The hours that were wanted cannot be read.
    pub fn hours_unread(&mut self, wanted: &WantedHours) {
        if let Some(service) = self.services.get_mut(&wanted.service) {
            service.hours_unread(&wanted.numbers);
        }
    }
}
