//! Requests and errors of a version over time, for displays and burn rates: 10-s steps for an hour, 60-s
//! steps for a day. Never used by a test of the judge.
//!
//! Compact, because every version has one: a step takes 2 bytes while its counts are below 256, then 4, then
//! 8, for the whole ring at once; memory grows with the age of the version.

use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

/// Steps by which the memory of a ring grows.
const GROWTH: usize = 360;

/// One ring of steps of equal width.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ring {
    width_s: i64,
    capacity: usize,
    /// Bytes of one count: 1, 2 or 4.
    count_bytes: usize,
    /// Pairs (requests, errors), little-endian; step `i` of event time is at `i mod capacity` once full.
    bytes: Vec<u8>,
    /// First step there ever was, and the newest, in units of `width_s`; `None` before the first.
    span: Option<(i64, i64)>,
}

snapshot_fields!(Ring { width_s, capacity, count_bytes, bytes, span });

impl Ring {
    fn new(width_s: i64, capacity: usize) -> Self {
        Self { width_s, capacity, count_bytes: 1, bytes: Vec::new(), span: None }
    }

    fn add(&mut self, slot: Slot, requests: u32, errors: u32) {
        let step = slot.div_euclid(self.width_s);
        let (first, newest) = *self.span.get_or_insert((step, step));
        if step < first || step <= newest - self.capacity as i64 {
            return;
        }
        if step > newest || self.bytes.is_empty() {
            self.advance(first, newest, step);
        }
        let (old_requests, old_errors) = self.get(first, step);
        let (requests, errors) = (old_requests.saturating_add(requests), old_errors.saturating_add(errors));
        while self.count_bytes < 4 && requests.max(errors) >> (8 * self.count_bytes) != 0 {
            self.widen();
        }
        self.set(first, step, requests, errors);
    }

    /// Makes room for the steps up to `step`, all empty.
    fn advance(&mut self, first: i64, newest: i64, step: i64) {
        let needed = usize::try_from(step - first + 1).unwrap_or(self.capacity).min(self.capacity);
        let pair = 2 * self.count_bytes;
        if self.bytes.capacity() < needed * pair {
            let room = needed.next_multiple_of(GROWTH).min(self.capacity) * pair;
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.resize(needed * pair, 0);
        let skipped = (newest + 1).max(step - self.capacity as i64 + 1);
        (skipped..=step).for_each(|at| self.set(first, at, 0, 0));
        self.span = Some((first, step));
    }

    fn offset(&self, first: i64, step: i64) -> usize {
        (step - first).rem_euclid(self.capacity as i64) as usize * 2 * self.count_bytes
    }

    fn get(&self, first: i64, step: i64) -> (u32, u32) {
        let at = self.offset(first, step);
        let read = |at: usize| {
            let mut raw = [0; 4];
            if let Some(bytes) = self.bytes.get(at..at + self.count_bytes) {
                raw[..self.count_bytes].copy_from_slice(bytes);
            }
            u32::from_le_bytes(raw)
        };
        (read(at), read(at + self.count_bytes))
    }

    fn set(&mut self, first: i64, step: i64, requests: u32, errors: u32) {
        let (at, width) = (self.offset(first, step), self.count_bytes);
        for (at, count) in [(at, requests), (at + width, errors)] {
            if let Some(bytes) = self.bytes.get_mut(at..at + width) {
                bytes.copy_from_slice(&count.to_le_bytes()[..width]);
            }
        }
    }

    fn widen(&mut self) {
        let width = self.count_bytes;
        let mut wide = Vec::new();
        wide.reserve_exact(self.bytes.capacity() * 2);
        for count in self.bytes.chunks_exact(width) {
            wide.extend_from_slice(count);
            wide.resize(wide.len() + width, 0);
        }
        self.bytes = wide;
        self.count_bytes = 2 * width;
    }

    fn sum_last(&self, seconds: i64, now: Slot) -> (u64, u64) {
        let Some((first, newest)) = self.span else { return (0, 0) };
        let last = now.div_euclid(self.width_s);
        let steps = (seconds + self.width_s - 1).div_euclid(self.width_s);
        let from = (last - steps + 1).max(first).max(newest - self.capacity as i64 + 1);
        (from..=last.min(newest))
            .map(|step| self.get(first, step))
            .fold((0, 0), |sum, (requests, errors)| (sum.0 + u64::from(requests), sum.1 + u64::from(errors)))
    }
}

/// The display history of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    hour: Ring,
    day: Ring,
}

snapshot_fields!(History { hour, day });

impl Default for History {
    fn default() -> Self {
        Self { hour: Ring::new(10, 360), day: Ring::new(60, 1_440) }
    }
}

impl History {
    /// Counts a closed slot. Slots come in order; one older than the history is dropped.
    pub fn add(&mut self, slot: Slot, requests: u64, errors: u64) {
        let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        self.hour.add(slot, narrow(requests), narrow(errors));
        self.day.add(slot, narrow(requests), narrow(errors));
    }

    /// Requests and errors of the last `seconds` up to `now`, in whole steps, the running one included:
    /// steps of 10 s up to an hour back, of 60 s beyond.
    pub fn sum_last(&self, seconds: i64, now: Slot) -> (u64, u64) {
        let ring = if seconds <= 3_600 { &self.hour } else { &self.day };
        ring.sum_last(seconds, now)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.hour.bytes.capacity() + self.day.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::snapshot::{Reader, Snapshot, Writer};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_quiet_version_takes_two_bytes_a_step() {
        let mut history = History::default();
        (0..90_000).for_each(|slot| history.add(slot, 1, 0));
        assert_eq!(history.heap_bytes(), 2 * (360 + 1_440));
        assert_eq!(history.sum_last(300, 89_999), (300, 0));
        assert_eq!(history.sum_last(86_400, 89_999), (86_400, 0));
    }

    proptest! {
        #[test]
        fn sums_equal_a_naive_model(adds in prop::collection::vec((0i64..400, 0u32..90_000, 0u32..300), 1..150),
                                    seconds in 1i64..200, capacity in 1usize..9) {
            let mut ring = Ring::new(10, capacity);
            let mut model = BTreeMap::<i64, (u64, u64)>::new();
            let mut slot = 1_000;
            for (gap, requests, errors) in adds {
                slot += if gap > 300 { gap } else { gap % 4 };
                ring.add(slot, requests, errors);
                let step = model.entry(slot.div_euclid(10)).or_default();
                *step = (step.0 + u64::from(requests), step.1 + u64::from(errors));
                let now = slot + gap % 7;
                let last = now.div_euclid(10);
                let from = (last - (seconds + 9) / 10 + 1).max(slot.div_euclid(10) - capacity as i64 + 1);
                let expected = model.range(from.min(last + 1)..=last).fold((0, 0), |s, (_, c)| (s.0 + c.0, s.1 + c.1));
                prop_assert_eq!(ring.sum_last(seconds, now), expected);
            }
            let mut out = Writer::default();
            ring.save(&mut out);
            prop_assert_eq!(Ring::load(&mut Reader::new(&out.into_bytes())).unwrap(), ring);
        }
    }
}
