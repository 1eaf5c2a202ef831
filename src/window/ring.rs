//! Counts over time in steps of equal width, for displays and error budgets; and the display history of a
//! version: 10-s steps for an hour, 60-s steps for a day. Never used by a test of the judge.
//!
//! Compact, because every version has one: a count takes one byte while all are below 256, then 2, 4 and 8, for
//! the whole ring at once; memory grows with the age of the ring.

use crate::model::Slot;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer, snapshot_fields};

/// Steps by which the memory of a ring grows.
const GROWTH: usize = 360;

/// A ring of steps of equal width with `N` counts each.
///
/// A step that is older than the ring, or than its first step, takes nothing in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring<const N: usize> {
    width_s: i64,
    capacity: usize,
    /// Bytes of one count: 1, 2, 4 or 8.
    count_bytes: usize,
    /// `N` counts a step, little-endian; step `i` of event time is at `i mod capacity` once full.
    bytes: Vec<u8>,
    /// First step there ever was, and the newest, in units of `width_s`; `None` before the first.
    span: Option<(i64, i64)>,
}

impl<const N: usize> Snapshot for Ring<N> {
    fn save(&self, out: &mut Writer) {
        self.width_s.save(out);
        self.capacity.save(out);
        self.count_bytes.save(out);
        self.bytes.save(out);
        self.span.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self {
            width_s: Snapshot::load(from)?,
            capacity: Snapshot::load(from)?,
            count_bytes: Snapshot::load(from)?,
            bytes: Snapshot::load(from)?,
            span: Snapshot::load(from)?,
        })
    }
}

impl<const N: usize> Ring<N> {
    /// An empty ring of `capacity` steps of `width_s` seconds.
    pub fn new(width_s: i64, capacity: usize) -> Self {
        Self { width_s, capacity, count_bytes: 1, bytes: Vec::new(), span: None }
    }

    /// Seconds of a step.
    pub fn width_s(&self) -> i64 {
        self.width_s
    }

    /// Seconds of all steps.
    pub fn length_s(&self) -> i64 {
        self.width_s * self.capacity as i64
    }

    /// First second of the first step there ever was, and last second of the newest.
    pub fn span_s(&self) -> Option<(Slot, Slot)> {
        self.span.map(|(first, newest)| (first * self.width_s, (newest + 1) * self.width_s - 1))
    }

    /// Adds counts to the step of `slot`.
    pub fn add(&mut self, slot: Slot, counts: [u64; N]) {
        let step = slot.div_euclid(self.width_s);
        let (first, newest) = *self.span.get_or_insert((step, step));
        if step < first || step <= newest - self.capacity as i64 {
            return;
        }
        if step > newest || self.bytes.is_empty() {
            self.advance(first, newest, step);
        }
        let mut sums = self.get(first, step);
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum = sum.saturating_add(count);
        }
        let largest = sums.iter().copied().max().unwrap_or(0);
        while self.count_bytes < 8 && largest >> (8 * self.count_bytes) != 0 {
            self.widen();
        }
        self.set(first, step, sums);
    }

    /// Forgets the steps after that of `slot`: a clock that was ahead has been set back.
    pub fn truncate(&mut self, slot: Slot) {
        let step = slot.div_euclid(self.width_s);
        let Some((first, newest)) = self.span.filter(|(_, newest)| step < *newest) else { return };
        if step < first {
            *self = Self::new(self.width_s, self.capacity);
            return;
        }
        let from = (step + 1).max(newest - self.capacity as i64 + 1);
        (from..=newest).for_each(|at| self.set(first, at, [0; N]));
        self.span = Some((first, step));
    }

    /// Makes room for the steps up to `step`, all empty.
    fn advance(&mut self, first: i64, newest: i64, step: i64) {
        let needed = usize::try_from(step - first + 1).unwrap_or(self.capacity).min(self.capacity);
        let needed = needed.max(self.bytes.len() / (N * self.count_bytes));
        let width = N * self.count_bytes;
        if self.bytes.capacity() < needed * width {
            let room = needed.next_multiple_of(GROWTH).min(self.capacity) * width;
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.resize(needed * width, 0);
        let skipped = (newest + 1).max(step - self.capacity as i64 + 1);
        (skipped..=step).for_each(|at| self.set(first, at, [0; N]));
        self.span = Some((first, step));
    }

    fn offset(&self, first: i64, step: i64) -> usize {
        (step - first).rem_euclid(self.capacity as i64) as usize * N * self.count_bytes
    }

    fn get(&self, first: i64, step: i64) -> [u64; N] {
        let at = self.offset(first, step);
        std::array::from_fn(|i| {
            let at = at + i * self.count_bytes;
            let mut raw = [0; 8];
            if let (Some(bytes), Some(raw)) =
                (self.bytes.get(at..at + self.count_bytes), raw.get_mut(..self.count_bytes))
            {
                raw.copy_from_slice(bytes);
            }
            u64::from_le_bytes(raw)
        })
    }

    fn set(&mut self, first: i64, step: i64, counts: [u64; N]) {
        let (at, width) = (self.offset(first, step), self.count_bytes);
        for (i, count) in counts.into_iter().enumerate() {
            let at = at + i * width;
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

    /// Sums of the last `seconds` up to `now`, in whole steps, the running one included.
    pub fn sum_last(&self, seconds: i64, now: Slot) -> [u64; N] {
        let Some((first, newest)) = self.span else { return [0; N] };
        let last = now.div_euclid(self.width_s);
        let steps = (seconds + self.width_s - 1).div_euclid(self.width_s);
        let from = (last - steps + 1).max(first).max(newest - self.capacity as i64 + 1);
        let mut sums = [0u64; N];
        for step in from..=last.min(newest) {
            for (sum, count) in sums.iter_mut().zip(self.get(first, step)) {
                *sum = sum.saturating_add(count);
            }
        }
        sums
    }

    /// Whether its parts fit each other and `like`: what was read back may be damaged.
    pub fn is_like(&self, like: &Self) -> bool {
        let whole = self.bytes.len() <= self.capacity * N * self.count_bytes;
        let widths = matches!(self.count_bytes, 1 | 2 | 4 | 8);
        (self.width_s, self.capacity) == (like.width_s, like.capacity) && widths && whole
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

/// The display history of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    hour: Ring<2>,
    day: Ring<2>,
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
        self.hour.add(slot, [requests, errors]);
        self.day.add(slot, [requests, errors]);
    }

    /// Requests and errors of the last `seconds` up to `now`, in whole steps, the running one included:
    /// steps of 10 s up to an hour back, of 60 s beyond.
    pub fn sum_last(&self, seconds: i64, now: Slot) -> (u64, u64) {
        let ring = if seconds <= 3_600 { &self.hour } else { &self.day };
        let [requests, errors] = ring.sum_last(seconds, now);
        (requests, errors)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.hour.heap_bytes() + self.day.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let mut ring = Ring::<2>::new(10, capacity);
            let mut model = BTreeMap::<i64, [u64; 2]>::new();
            let mut slot = 1_000;
            for (gap, requests, errors) in adds {
                slot += if gap > 300 { gap } else { gap % 4 };
                ring.add(slot, [requests.into(), errors.into()]);
                let step = model.entry(slot.div_euclid(10)).or_default();
                *step = [step[0] + u64::from(requests), step[1] + u64::from(errors)];
                let now = slot + gap % 7;
                let last = now.div_euclid(10);
                let from = (last - (seconds + 9) / 10 + 1).max(slot.div_euclid(10) - capacity as i64 + 1);
                let expected = model.range(from.min(last + 1)..=last).fold([0, 0], |s, (_, c)| [s[0] + c[0], s[1] + c[1]]);
                prop_assert_eq!(ring.sum_last(seconds, now), expected);
            }
            let mut out = Writer::default();
            ring.save(&mut out);
            prop_assert_eq!(Ring::load(&mut Reader::new(&out.into_bytes())).unwrap(), ring);
        }
    }
}
