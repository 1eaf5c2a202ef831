//! What a stream of metric points last said, and what is new in the next point: cumulative points become
//! differences, differences pass. The rules are those of OpenTelemetry's metrics data model ("Resets and
//! gaps", "Overlap").
//!
//! Points of one cumulative stream are told apart by their start as well: two processes that report under the
//! same identity (no instance id) are then two counters, and a process that begins anew is a third. Taking a
//! changed start for a reset of one counter would count the whole value again with each point.

use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer, snapshot_fields};
use crate::model::{BoundsId, Level, Shape, Temporality, UnixNanos};

/// Starts of one cumulative stream that are remembered: processes behind one identity. Of more, which no instance id
/// tells apart, the rest is not believed.
const COUNTERS: usize = 32;
/// Intervals of a delta stream that are remembered, to see repetitions.
const INTERVALS: usize = 4;
/// Falls, each worth 3 and forgotten by one with each point that grows, at which a counter is not believed:
/// two processes report under one identity and one start.
const FALLS_MAX: u8 = 6;
const FALL: u8 = 3;

/// A point of a stream, with its bucket counts.
#[derive(Debug, Clone, Copy)]
pub struct Point<'a> {
    /// Start; 0 where the sender does not say.
    pub start: UnixNanos,
    /// Its time.
    pub time: UnixNanos,
    /// Requests.
    pub count: u64,
    /// How to read `counts`.
    pub shape: Shape,
    /// Bucket counts.
    pub counts: &'a [u64],
}

/// What a point adds to what is known. Its bucket counts are in the buffer that was passed along.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delta {
    /// Begin of the interval.
    pub start: UnixNanos,
    /// End of the interval: decides the slot.
    pub end: UnixNanos,
    /// Requests.
    pub count: u64,
    /// How to read the bucket counts.
    pub shape: Shape,
    /// Whether the interval overlaps an earlier one: two processes write one stream.
    pub overlaps: bool,
    /// Time since the point before, if there was one: how often the sender exports.
    pub since_last: Option<u64>,
}

/// What became of a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Taken {
    /// It adds this.
    Delta(Delta),
    /// The first of a counter: what later points are counted from.
    Base,
    /// It repeats what was said before, or is older than what was said.
    Duplicate,
    /// Its counter falls again and again: it cannot be one counter.
    Contradiction,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stream {
    said: Said,
    /// The newest start of a counter that was known once and is not any more: what one that began no later holds may
    /// have been counted already.
    passed: UnixNanos,
    /// When it was last heard of, by arrival.
    pub touched: UnixNanos,
}

/// What was said last. Of nearly all streams that is one counter or a few intervals, which lie in the stream itself: of
/// a large fleet each look elsewhere is a cache miss.
#[derive(Debug, Clone, PartialEq, Default)]
enum Said {
    #[default]
    Nothing,
    /// Delta.
    Intervals(Intervals),
    /// Cumulative: one counter per start.
    Counters {
        /// The one heard of last.
        last: Counter,
        /// The others, the one heard of last at the back.
        others: Vec<Counter>,
    },
}

/// The newest intervals of a delta stream, in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Intervals {
    /// Start and end.
    known: [(UnixNanos, UnixNanos); INTERVALS],
    len: u8,
}

impl Intervals {
    fn all(&self) -> &[(UnixNanos, UnixNanos)] {
        self.known.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn push(&mut self, interval: (UnixNanos, UnixNanos)) {
        match self.known.get_mut(usize::from(self.len)) {
            Some(place) => {
                *place = interval;
                self.len += 1;
            }
            None => {
                self.known.rotate_left(1);
                self.known[INTERVALS - 1] = interval;
            }
        }
    }
}

/// One counter: what its last point said.
#[derive(Debug, Clone, PartialEq)]
struct Counter {
    start: UnixNanos,
    time: UnixNanos,
    count: u64,
    shape: Shape,
    counts: Box<[u64]>,
    falls: u8,
}

snapshot_fields!(Counter { start, time, count, shape, counts, falls });

impl Stream {
    /// One that may have been known before: counters that began no later than `passed` may have been counted.
    pub fn met_again(passed: UnixNanos) -> Self {
        Self { passed, ..Self::default() }
    }

    fn counters(&self) -> impl Iterator<Item = &Counter> {
        let (others, last) = match &self.said {
            Said::Counters { last, others } => (others.as_slice(), Some(last)),
            Said::Nothing | Said::Intervals(_) => (&[][..], None),
        };
        others.iter().chain(last)
    }

    /// The newest start of a counter that it knows or knew.
    pub fn newest_start(&self) -> UnixNanos {
        self.counters().map(|counter| counter.start).fold(self.passed, UnixNanos::max)
    }

    /// Takes a point in. `watched_since` is when we began to look: what a counter that began later holds at its
    /// first point is all new. `out` receives the bucket counts of the answer.
    pub fn take(
        &mut self,
        point: &Point<'_>,
        temporality: Temporality,
        watched_since: UnixNanos,
        out: &mut Vec<u64>,
    ) -> Taken {
        out.clear();
        match temporality {
            Temporality::Delta => self.take_delta(point, out),
            Temporality::Cumulative => self.take_cumulative(point, watched_since, out),
        }
    }

    /// M3: exact repetitions are dropped, overlaps reported. A gap is no traffic seen, not no traffic.
    fn take_delta(&mut self, point: &Point<'_>, out: &mut Vec<u64>) -> Taken {
        if !matches!(self.said, Said::Intervals(_)) {
            self.said = Said::Intervals(Intervals::default());
        }
        let Said::Intervals(intervals) = &mut self.said else { return Taken::Contradiction };
        let newest = intervals.all().iter().map(|(_, end)| *end).max();
        let start =
            if point.start.0 == 0 { newest.unwrap_or(point.time).min(point.time) } else { point.start };
        let interval = (start, point.time);
        if intervals.all().contains(&interval) || point.start.0 == 0 && newest == Some(point.time) {
            return Taken::Duplicate;
        }
        let overlaps = intervals.all().iter().any(|(s, e)| start < *e && *s < point.time);
        intervals.push(interval);
        out.extend_from_slice(point.counts);
        Taken::Delta(Delta {
            start,
            end: point.time,
            count: point.count,
            shape: point.shape,
            overlaps,
            since_last: newest.filter(|newest| *newest < point.time).map(|newest| point.time.since(newest)),
        })
    }

    /// M4.
    fn take_cumulative(&mut self, point: &Point<'_>, watched_since: UnixNanos, out: &mut Vec<u64>) -> Taken {
        if let Said::Counters { last, others } = &mut self.said {
            if last.start != point.start
                && let Some(at) = others.iter().position(|counter| counter.start == point.start)
            {
                let found = others.remove(at);
                others.push(std::mem::replace(last, found));
            }
            if last.start == point.start {
                return last.take(point, out);
            }
        }
        self.meet(point, watched_since, out)
    }

    /// The first point of a counter. All it holds is new if it began after we did, and says when; `start ==
    /// time` says that it does not know.
    fn meet(&mut self, point: &Point<'_>, watched_since: UnixNanos, out: &mut Vec<u64>) -> Taken {
        let may_be_counted = point.start <= self.passed;
        if self.counters().count() >= COUNTERS && may_be_counted {
            // More live processes than are remembered: taking turns, each would be met again and again.
            return Taken::Contradiction;
        }
        let met = Counter::new(point);
        match &mut self.said {
            Said::Counters { last, others } => {
                if others.len() + 1 >= COUNTERS {
                    self.passed = self.passed.max(others.remove(0).start);
                }
                others.push(std::mem::replace(last, met));
            }
            said => *said = Said::Counters { last: met, others: Vec::new() },
        }
        if may_be_counted || point.start == point.time || point.start < watched_since {
            return Taken::Base;
        }
        out.extend_from_slice(point.counts);
        Taken::Delta(Delta {
            start: point.start,
            end: point.time,
            count: point.count,
            shape: point.shape,
            overlaps: false,
            // Another process, which exports at moments of its own.
            since_last: None,
        })
    }

    /// Bytes on the heap, nearly.
    pub fn heap_bytes(&self) -> usize {
        let counts = self.counters().map(|counter| size_of_val(&*counter.counts)).sum::<usize>();
        let others = if let Said::Counters { others, .. } = &self.said { others.capacity() } else { 0 };
        counts + others * size_of::<Counter>()
    }
}

/// As lists: what was said in the order in which it came, of the other kind nothing.
impl Snapshot for Stream {
    fn save(&self, out: &mut Writer) {
        let counters: Vec<&Counter> = self.counters().collect();
        (counters.len() as u32).save(out);
        counters.into_iter().for_each(|counter| counter.save(out));
        self.passed.save(out);
        let intervals = if let Said::Intervals(intervals) = &self.said { intervals.all() } else { &[] };
        intervals.to_vec().save(out);
        self.touched.save(out);
    }

    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let mut counters = Vec::<Counter>::load(from)?;
        let passed = UnixNanos::load(from)?;
        let known = Vec::load(from)?;
        let mut intervals = Intervals::default();
        known.into_iter().for_each(|interval| intervals.push(interval));
        let said = match counters.pop() {
            Some(last) => Said::Counters { last, others: counters },
            None if intervals.len > 0 => Said::Intervals(intervals),
            None => Said::Nothing,
        };
        Ok(Self { said, passed, touched: UnixNanos::load(from)? })
    }
}

impl Counter {
    fn new(point: &Point<'_>) -> Self {
        Self {
            start: point.start,
            time: point.time,
            count: point.count,
            shape: point.shape,
            counts: point.counts.into(),
            falls: 0,
        }
    }

    fn remember(&mut self, point: &Point<'_>) {
        (self.time, self.count, self.shape) = (point.time, point.count, point.shape);
        if self.counts.len() == point.counts.len() {
            self.counts.copy_from_slice(point.counts);
        } else {
            self.counts = point.counts.into();
        }
    }

    fn take(&mut self, point: &Point<'_>, out: &mut Vec<u64>) -> Taken {
        if point.time <= self.time {
            return Taken::Duplicate;
        }
        let (last, since_last) = (self.time, point.time.since(self.time));
        let difference = self.difference(point, out);
        self.remember(point);
        let (count, shape) = match difference {
            Difference::Grew(count, shape) => {
                self.falls = self.falls.saturating_sub(1);
                (count, shape)
            }
            Difference::Fell => {
                self.falls = self.falls.saturating_add(FALL);
                if self.falls >= FALLS_MAX {
                    return Taken::Contradiction;
                }
                // It was reset at a time that it does not tell: what it holds now came since.
                out.clear();
                out.extend_from_slice(point.counts);
                (point.count, point.shape)
            }
            Difference::Unlike => return Taken::Base,
        };
        Taken::Delta(Delta {
            start: last,
            end: point.time,
            count,
            shape,
            overlaps: false,
            since_last: Some(since_last),
        })
    }

    /// What the point holds beyond the last one; bucket counts go to `out`.
    fn difference(&self, point: &Point<'_>, out: &mut Vec<u64>) -> Difference {
        let Some(count) = point.count.checked_sub(self.count) else { return Difference::Fell };
        let shape = match (self.shape, point.shape) {
            (Shape::Count, Shape::Count) => Some(Shape::Count),
            // With other bounds and the same start there is nothing to subtract from, and the whole value was
            // counted already: a reset at an unknown start, which contributes nothing.
            (Shape::Explicit(a), Shape::Explicit(b)) if a != b => return Difference::Unlike,
            (Shape::Explicit(_), Shape::Explicit(_)) if self.counts.len() == point.counts.len() => {
                subtract(point.counts, &self.counts, out).then_some(point.shape)
            }
            (Shape::Exponential { .. }, Shape::Exponential { .. }) => {
                return self.difference_of_scales(point, count, out);
            }
            _ => return Difference::Unlike,
        };
        shape.map_or(Difference::Fell, |shape| Difference::Grew(count, shape))
    }

    /// E2: a sender lowers its scale as its values spread. What it said before is brought to the lower scale,
    /// exactly. A higher scale without a new start cannot be.
    fn difference_of_scales(&self, point: &Point<'_>, count: u64, out: &mut Vec<u64>) -> Difference {
        let (
            Shape::Exponential { scale: old_scale, offset: old_offset, zero: old_zero },
            Shape::Exponential { scale, offset, zero },
        ) = (self.shape, point.shape)
        else {
            return Difference::Unlike;
        };
        if scale > old_scale {
            return Difference::Unlike;
        }
        let Some(zero) = zero.checked_sub(old_zero) else { return Difference::Fell };
        let shift = (old_scale - scale).clamp(0, 31);
        out.extend_from_slice(point.counts);
        for (i, n) in self.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
            let index = (i64::from(old_offset) + i as i64) >> shift;
            let at = usize::try_from(index - i64::from(offset)).ok();
            match at.and_then(|at| out.get_mut(at)).and_then(|now| Some((now.checked_sub(*n)?, now))) {
                Some((rest, now)) => *now = rest,
                None => return Difference::Fell,
            }
        }
        Difference::Grew(count, Shape::Exponential { scale, offset, zero })
    }
}

enum Difference {
    Grew(u64, Shape),
    Fell,
    Unlike,
}

/// `now - before` into `out`; `false` where any count fell.
fn subtract(now: &[u64], before: &[u64], out: &mut Vec<u64>) -> bool {
    let pairs = || now.iter().zip(before);
    // Without a way out in the middle it is done several numbers at a time.
    if pairs().fold(false, |fell, (now, before)| fell | (now < before)) {
        return false;
    }
    out.extend(pairs().map(|(now, before)| now - before));
    true
}

impl Snapshot for Shape {
    fn save(&self, out: &mut Writer) {
        match self {
            Self::Count => 0_u8.save(out),
            Self::Explicit(bounds) => {
                1_u8.save(out);
                bounds.0.save(out);
            }
            Self::Exponential { scale, offset, zero } => {
                2_u8.save(out);
                i16::from(*scale).save(out);
                offset.save(out);
                zero.save(out);
            }
            Self::Level(level) => {
                3_u8.save(out);
                level.value().save(out);
            }
        }
    }

    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(match u8::load(from)? {
            0 => Self::Count,
            1 => Self::Explicit(BoundsId(u64::load(from)?)),
            2 => Self::Exponential {
                scale: i8::try_from(i16::load(from)?).map_err(|_| Corrupt::Body)?,
                offset: i32::load(from)?,
                zero: u64::load(from)?,
            },
            3 => Self::Level(Level::new(f64::load(from)?)),
            _ => return Err(Corrupt::Body),
        })
    }
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
