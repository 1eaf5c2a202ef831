//! What a service does around the clock, a minute a block: requests, failed ones, and how many took longer than each of
//! three marks. A remembered baseline is half an hour old and knows nothing of the time of day; these blocks do, and are
//! kept for eight days, an hour a record. They count the service as a whole, and no block without requests says
//! anything: a gap is no zero.

use std::collections::VecDeque;
use std::sync::Arc;

use super::buckets::on_grid;
use super::input::Cells;
use super::memory::Memory;
use crate::histogram::layout;
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

/// Seconds of a block and of a record.
pub(super) const BLOCK_S: i64 = 60;
/// Seconds of a record.
pub const HOUR_S: i64 = 3_600;
/// Days for which records are kept.
pub const DAYS_KEPT: i64 = 8;
/// Blocks of a record, and numbers of a block: requests, failed ones, those beyond each mark.
const BLOCKS: usize = (HOUR_S / BLOCK_S) as usize;
const NUMBERS: usize = 5;
/// Seconds after its end at which an hour is written: metrics come late.
const SETTLED_S: i64 = 600;
/// Hours that are open: the one that is, and the one before.
const OPEN: usize = 2;
/// The first byte of a record. Records outlive upgrades: another layout is another number.
const LAYOUT: u8 = 1;
/// Hours after which marks may be chosen anew, and the share of requests beyond the lowest outside of which they say
/// nothing any more.
const MARKS_HOURS: i64 = 24;
const TELLING: [f64; 2] = [0.02, 0.8];
/// Factor each hour on what tells whether they do.
const DAY_DECAY: f64 = 1.0 - 1.0 / MARKS_HOURS as f64;

/// Latencies beyond which requests are counted, in buckets of the log grid: the service's p75, p95 and p99 when they were
/// chosen. They stay, so that days can be compared.
pub type Marks = [i16; 3];

/// Requests of some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// All.
    pub requests: u64,
    /// Failed ones.
    pub bad: u64,
    /// Those that took longer than each mark.
    pub slow: [u64; 3],
}

snapshot_fields!(Tally { requests, bad, slow });

impl Tally {
    /// Counts requests of a slot; without marks none is slow.
    pub fn of(cells: &Cells, marks: Option<&Marks>) -> Self {
        let mut tally = Self::default();
        for cell in cells.values() {
            let all = cell.merged();
            tally.requests += all.requests;
            tally.bad += all.bad;
            let Some(marks) = marks else { continue };
            let latency = match &cell.bounds {
                None => all.latency,
                Some(bounds) => on_grid(&all.latency, bounds),
            };
            for (slow, mark) in tally.slow.iter_mut().zip(marks) {
                *slow += latency.count_above(i32::from(*mark));
            }
        }
        tally
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.bad += other.bad;
        self.slow.iter_mut().zip(other.slow).for_each(|(slow, more)| *slow += more);
    }

    /// Share of failed requests; `None` without requests.
    pub fn error_rate(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.bad as f64 / self.requests as f64)
    }

    /// Shares of requests beyond each mark; `None` without requests.
    pub fn slow_rates(&self) -> Option<[f64; 3]> {
        (self.requests > 0).then(|| self.slow.map(|slow| slow as f64 / self.requests as f64))
    }

    fn numbers(&self) -> [u32; NUMBERS] {
        let [a, b, c] = self.slow;
        [self.requests, self.bad, a, b, c].map(|n| u32::try_from(n).unwrap_or(u32::MAX))
    }

    fn from_numbers([requests, bad, a, b, c]: [u32; NUMBERS]) -> Self {
        Self { requests: requests.into(), bad: bad.into(), slow: [a, b, c].map(u64::from) }
    }
}

/// An hour of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hour {
    number: i64,
    marks: Option<Marks>,
    blocks: Vec<[u32; NUMBERS]>,
}

snapshot_fields!(Hour { number, marks, blocks });

impl Hour {
    fn new(number: i64, marks: Option<Marks>) -> Self {
        Self { number, marks, blocks: vec![[0; NUMBERS]; BLOCKS] }
    }

    /// Which hour since the epoch.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// Beyond which latencies requests are counted.
    pub fn marks(&self) -> Option<Marks> {
        self.marks
    }

    fn add(&mut self, t: Slot, tally: &Tally) {
        let block = (t.rem_euclid(HOUR_S) / BLOCK_S) as usize;
        if let Some(block) = self.blocks.get_mut(block) {
            let mut sum = Tally::from_numbers(*block);
            sum.add(tally);
            *block = sum.numbers();
        }
    }

    fn leave_out(&mut self, from: Slot) {
        let first = self.number * HOUR_S;
        for (i, block) in self.blocks.iter_mut().enumerate() {
            if first + (i as i64 + 1) * BLOCK_S > from {
                *block = [0; NUMBERS];
            }
        }
    }

    /// What is in the blocks that begin in `from..until`.
    pub(super) fn sum(&self, from: Slot, until: Slot) -> Tally {
        let mut sum = Tally::default();
        for (i, block) in self.blocks.iter().enumerate() {
            let begin = self.number * HOUR_S + i as i64 * BLOCK_S;
            if (from..until).contains(&begin) {
                sum.add(&Tally::from_numbers(*block));
            }
        }
        sum
    }

    /// Whether nothing that counts for it comes any more as of second `now`.
    fn is_settled(&self, now: Slot) -> bool {
        (self.number + 1) * HOUR_S + SETTLED_S <= now
    }

    fn is_empty(&self) -> bool {
        self.blocks.iter().all(|block| block[0] == 0)
    }

    /// As a record: the layout, whether there are marks, the marks, then the numbers of each block, all little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![LAYOUT, u8::from(self.marks.is_some())];
        self.marks.unwrap_or_default().iter().for_each(|mark| bytes.extend_from_slice(&mark.to_le_bytes()));
        self.blocks.iter().flatten().for_each(|n| bytes.extend_from_slice(&n.to_le_bytes()));
        bytes
    }

    /// The inverse; `None` where the record is not sound, or of a layout that is not known.
    pub fn from_bytes(number: i64, bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(8)?;
        let [LAYOUT, marked @ (0 | 1), ..] = head else { return None };
        let (marks, _) = head[2..].as_chunks::<2>();
        let marks: Marks = [0, 1, 2].map(|i| marks.get(i).map_or(0, |mark| i16::from_le_bytes(*mark)));
        let (numbers, odd) = rest.as_chunks::<4>();
        if numbers.len() != BLOCKS * NUMBERS || !odd.is_empty() {
            return None;
        }
        let (blocks, _) = numbers.as_chunks::<NUMBERS>();
        let blocks = blocks.iter().map(|block| block.map(u32::from_le_bytes)).collect();
        Some(Self { number, marks: (*marked == 1).then_some(marks), blocks })
    }
}

/// Sums blocks of several hours that begin in `from..until`; what is slow only where all have the same marks as `marks`.
pub(super) fn sum<'a>(
    hours: impl Iterator<Item = &'a Hour>,
    (from, until): (Slot, Slot),
    marks: Option<&Marks>,
) -> (Tally, bool) {
    let (mut sum, mut is_marked) = (Tally::default(), marks.is_some());
    for hour in hours {
        let own = hour.sum(from, until);
        is_marked &= own.requests == 0 || hour.marks.as_ref() == marks;
        sum.add(&own);
    }
    (sum, is_marked)
}

/// Keeps the blocks of one service.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hours {
    marks: Option<Marks>,
    /// The hour at which they were chosen.
    marked_at: i64,
    /// Whether the store was asked for what was written before; until then nothing is counted.
    is_asked: bool,
    /// Requests of about a day, and those of them beyond the lowest mark.
    day: [f64; 2],
    /// Ascending, each with whether it was written.
    open: VecDeque<(Hour, bool)>,
}

snapshot_fields!(Hours { marks, marked_at, is_asked, day, open });

impl Hours {
    /// The marks in force.
    pub fn marks(&self) -> Option<Marks> {
        self.marks
    }

    /// Whether what was written before is to be asked for: of hours that begin anew, not of those of a snapshot.
    pub fn wants_earlier(&self) -> bool {
        !self.is_asked
    }

    /// Goes on from the hours that were written before second `now`: with the marks of the newest, and with the blocks of
    /// those that may still be written again. A record is written as a whole, so one that began without them would
    /// take the place of what is there.
    pub fn adopt(&mut self, mut written: Vec<Hour>, now: Slot) {
        self.is_asked = true;
        written.sort_by_key(|hour| hour.number);
        if let (None, Some(newest)) = (self.marks, written.last()) {
            (self.marks, self.marked_at) = (newest.marks, newest.number);
        }
        self.open =
            written.into_iter().filter(|hour| !hour.is_settled(now)).map(|hour| (hour, false)).collect();
    }

    /// Whether slot `t` begins an hour.
    pub fn is_new(&self, t: Slot) -> bool {
        self.is_asked && self.open.iter().all(|(hour, _)| hour.number != t.div_euclid(HOUR_S))
    }

    /// Leaves out what came from slot `from` on: a version that failed is nothing that a service does at some hour.
    pub fn leave_out(&mut self, from: Slot) {
        self.open.iter_mut().for_each(|(hour, _)| hour.leave_out(from));
    }

    /// Begins the hour of slot `t`. `fresh` are marks as they would be chosen now.
    pub fn begin(&mut self, t: Slot, fresh: Option<Marks>) {
        let number = t.div_euclid(HOUR_S);
        // Of a clock that was ahead for a while.
        self.open.retain(|(hour, _)| hour.number <= number);
        self.marked_at = self.marked_at.min(number);
        if let Some((last, _)) = self.open.back() {
            let all = last.sum(Slot::MIN, Slot::MAX);
            let own = [all.requests, all.slow[0]].map(|n| n as f64);
            self.day = [0, 1].map(|i| self.day[i] * DAY_DECAY + own[i]);
        }
        let share = self.day[1] / self.day[0].max(1.0);
        let is_mute = self.day[0] > 0.0 && !(TELLING[0]..=TELLING[1]).contains(&share);
        let may =
            self.is_asked && (self.marks.is_none() || number - self.marked_at >= MARKS_HOURS && is_mute);
        if may && fresh.is_some() && fresh != self.marks {
            (self.marks, self.marked_at, self.day) = (fresh, number, [0.0; 2]);
        }
        self.open.push_back((Hour::new(number, self.marks), false));
    }

    /// Counts requests of a slot; what is older than the hours that are open is left out.
    pub fn add(&mut self, t: Slot, cells: &Cells) {
        let number = t.div_euclid(HOUR_S);
        if let Some((hour, _)) = self.open.iter_mut().find(|(hour, _)| hour.number == number) {
            hour.add(t, &Tally::of(cells, hour.marks.as_ref()));
        }
    }

    /// Hours that were not written yet and have any requests.
    pub fn unwritten(&self) -> impl Iterator<Item = &Hour> {
        let open = self.open.iter().filter(|(hour, is_written)| !is_written && !hour.is_empty());
        open.map(|(hour, _)| hour)
    }

    /// Hours that are to be written as of second `now`: each once, a while after its end.
    pub fn due(&mut self, now: Slot) -> Vec<Hour> {
        let mut due = Vec::new();
        for (hour, is_written) in &mut self.open {
            if hour.is_settled(now) && !*is_written && !hour.is_empty() {
                due.push(hour.clone());
                *is_written = true;
            }
        }
        while self.open.len() > OPEN {
            self.open.pop_front();
        }
        due
    }

    /// What is in the open blocks that begin in `from..until`, and whether all have the marks in force.
    pub(super) fn sum(&self, from: Slot, until: Slot) -> (Tally, bool) {
        sum(self.open.iter().map(|(hour, _)| hour), (from, until), self.marks.as_ref())
    }
}

impl Memory {
    /// p75, p95 and p99 of the last minutes on the log grid; `None` before there are any.
    pub fn marks(&self) -> Option<Marks> {
        let [_, marks @ ..] = self.pooled_thresholds?;
        let place = |mark: Option<i16>| match &self.pooled_bounds {
            None => mark,
            Some(bounds) => on_the_grid(bounds, mark?),
        };
        let [a, b, c] = marks.map(place);
        // Of explicit buckets not every quantile has a bound near it.
        let c = c.or(b).or(a)?;
        Some([a.or(b).unwrap_or(c), b.unwrap_or(c), c])
    }
}

/// Where a bound of explicit buckets lies on the grid.
fn on_the_grid(bounds: &Arc<[f64]>, key: i16) -> Option<i16> {
    let bound = bounds.get(usize::try_from(key).ok()?)?;
    Some(layout::bucket_of_nanos((bound.max(0.0) * 1e9) as u64))
}

#[cfg(test)]
#[path = "hours_tests.rs"]
mod tests;
