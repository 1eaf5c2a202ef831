//! How long a second stays open after its end: L, learned per service from the delays with which spans
//! really arrive. SDKs hold spans for 5 s by default and each instance flushes in its own phase, so a fixed
//! small wait would lose most of a healthy service, and a fixed large one would cost detection time.
//!
//! L is the 99.9 % quantile of (arrival - end) over the last 10 minutes, of the slower version, plus half a
//! second. It is fixed for a slot before the slot begins, the same for all versions, and slots close in
//! order. Instances whose delays are far above their service's stay out of it and are flagged. A batch that
//! is sent twice cannot be told from a late one; it is too rare to move the quantile of a busy service.

use std::collections::{BTreeMap, HashMap, VecDeque};

use foldhash::fast::FixedState;

use super::delays::Delays;
use crate::model::{InstanceId, NANOS_PER_SECOND, Slot, UnixNanos, VersionId};

/// Width of a bin of delays in nanoseconds; a quantile is read at the upper edge.
const BIN_NANOS: u64 = 100_000_000;
/// Delays beyond the last bin (60 s) count in it.
const LAST_BIN: u64 = 600;
/// Delays are kept in parts of this many seconds, so that old ones can be forgotten.
const PART_S: i64 = 300;
/// Parts kept beside the current one: 10 minutes.
const PARTS: i64 = 2;
/// Seconds between two renewals of L.
const RENEWAL_S: i64 = 10;
/// Spans of a version that an estimate needs.
const SPANS_NEEDED: u64 = 200;
const QUANTILE: f64 = 0.999;
/// Added to the quantile, in seconds.
const MARGIN_S: f64 = 0.5;
/// L shrinks by at most this much in a second.
const SHRINK_PER_S: f64 = 0.5 / 60.0;
/// An instance is slow when its median delay is this many seconds above its service's.
const SLOW_S: f64 = 5.0;
/// Spans after which the median of an instance counts.
const PROVEN_SPANS: u32 = 20;
/// One-second bins of the delays of an instance.
const COARSE_BINS: usize = 32;

/// Bounds of L in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatenessConfig {
    /// Never shorter.
    pub min: f64,
    /// Never longer: what comes later than this is late.
    pub max: f64,
    /// Before there is anything to learn from.
    pub initial: f64,
}

impl Default for LatenessConfig {
    fn default() -> Self {
        Self { min: 1.0, max: 30.0, initial: 7.0 }
    }
}

/// The lateness of one service.
#[derive(Debug)]
pub struct Lateness {
    config: LatenessConfig,
    current_s: f64,
    /// First slot and its L in nanoseconds; each holds until the next. Never empty.
    schedule: VecDeque<(Slot, u64)>,
    renewed_at: Option<Slot>,
    open_from: Slot,
    delays: BTreeMap<VersionId, VersionDelays>,
    /// The ids are ours, so a fixed seed is safe.
    instances: HashMap<InstanceId, InstanceDelays, FixedState>,
    median_s: Option<f64>,
}

/// Delays of one version in parts of [`PART_S`], newest last.
#[derive(Debug, Default)]
struct VersionDelays {
    parts: VecDeque<(i64, Delays)>,
}

/// Delays of one instance, halved with each part, in whole seconds.
#[derive(Debug, Default)]
struct InstanceDelays {
    bins: [u16; COARSE_BINS],
    spans: u32,
    last_part: i64,
    /// Whether its median was looked at; until then far-off delays are not believed.
    proven: bool,
    slow: bool,
}

impl Lateness {
    /// Nothing learned yet.
    pub fn new(config: LatenessConfig) -> Self {
        let current_s = config.initial.clamp(config.min, config.max);
        Self {
            config,
            current_s,
            schedule: VecDeque::from([(Slot::MIN, nanos(current_s))]),
            renewed_at: None,
            open_from: Slot::MIN,
            delays: BTreeMap::new(),
            instances: HashMap::default(),
            median_s: None,
        }
    }

    /// Learns from one span, late ones included. Spans from the future (negative delays) teach nothing
    /// beyond "no delay".
    pub fn record(&mut self, version: VersionId, instance: InstanceId, end: UnixNanos, arrival: UnixNanos) {
        self.record_many(version, instance, end, arrival, 1);
    }

    /// The same of several that have all this in common.
    pub fn record_many(
        &mut self,
        version: VersionId,
        instance: InstanceId,
        end: UnixNanos,
        arrival: UnixNanos,
        n: u64,
    ) {
        let delay = arrival.since(end);
        let part = arrival.slot().div_euclid(PART_S);
        if self.counts(instance, delay, part, n) {
            let bin = (delay / BIN_NANOS).min(LAST_BIN) as u16;
            self.delays.entry(version).or_default().record(part, bin, n);
        }
    }

    /// Whether the delay belongs into the estimate: not of a slow instance, and not far off from one that
    /// has not shown yet whether it is slow.
    fn counts(&mut self, instance: InstanceId, delay: u64, part: i64, n: u64) -> bool {
        if instance == InstanceId::UNKNOWN {
            return true;
        }
        let seen = self.instances.entry(instance).or_default();
        seen.record(delay, part, n);
        let delay_s = delay as f64 / NANOS_PER_SECOND as f64;
        let far_off = self.median_s.is_some_and(|median| delay_s > median + SLOW_S);
        !seen.slow && (seen.proven || !far_off)
    }

    /// Forgets a version that ended.
    pub fn forget(&mut self, version: VersionId) {
        self.delays.remove(&version);
    }

    /// Renews L each 10 s, for slots that begin later than now.
    pub fn renew(&mut self, now: UnixNanos) {
        let slot = now.slot();
        let previous = *self.renewed_at.get_or_insert(slot);
        if slot.div_euclid(RENEWAL_S) <= previous.div_euclid(RENEWAL_S) {
            return;
        }
        self.renewed_at = Some(slot);
        let part = slot.div_euclid(PART_S);
        self.judge_instances(part);
        if let Some(estimate_s) = self.estimate(part) {
            let lowest = self.current_s - SHRINK_PER_S * (slot - previous) as f64;
            self.current_s = estimate_s.max(lowest).clamp(self.config.min, self.config.max);
        }
        let next = nanos(self.current_s);
        if self.schedule.back().is_none_or(|(_, last)| *last != next) {
            self.schedule.push_back((slot + 1, next));
        }
    }

    fn judge_instances(&mut self, part: i64) {
        self.instances.retain(|_, seen| seen.last_part >= part - PARTS);
        let mut all = [0_u32; COARSE_BINS];
        for seen in self.instances.values() {
            all.iter_mut().zip(seen.bins).for_each(|(sum, n)| *sum += u32::from(n));
        }
        self.median_s = median(&all);
        let Some(service) = self.median_s else { return };
        for seen in self.instances.values_mut().filter(|seen| seen.spans >= PROVEN_SPANS) {
            seen.proven = true;
            seen.slow = median(&seen.bins.map(u32::from)).is_some_and(|own| own > service + SLOW_S);
        }
    }

    fn estimate(&mut self, part: i64) -> Option<f64> {
        self.delays.retain(|_, delays| delays.forget(part));
        let slowest = self.delays.values().filter_map(VersionDelays::quantile_s).max_by(f64::total_cmp);
        slowest.map(|quantile_s| quantile_s + MARGIN_S)
    }

    /// L in seconds for slots that begin now.
    pub fn current_seconds(&self) -> f64 {
        self.current_s
    }

    /// When the slot closes.
    pub fn closes_at(&self, slot: Slot) -> UnixNanos {
        let lateness = self.schedule.iter().rev().find(|(first, _)| *first <= slot).map_or(0, |(_, l)| *l);
        end_of(slot).plus_nanos(lateness)
    }

    /// The first slot that is still open at `now`; all before it are closed. Never goes back, also when the
    /// clock does.
    pub fn open_from(&mut self, now: UnixNanos) -> Slot {
        // Segment by segment: within one, all slots wait equally long; the first that waits holds up the rest.
        let mut open = Slot::MIN;
        for (i, (first, lateness)) in self.schedule.iter().enumerate() {
            let due = now.0.checked_sub(*lateness).map_or(0, |at| UnixNanos(at).slot());
            let until = self.schedule.get(i + 1).map_or(Slot::MAX, |(next, _)| *next);
            open = due.clamp(*first, until);
            if open < until {
                break;
            }
        }
        self.open_from = self.open_from.max(open);
        while self.schedule.get(1).is_some_and(|(next, _)| *next <= self.open_from) {
            self.schedule.pop_front();
        }
        self.open_from
    }

    /// Number of instances that are flagged as slow.
    pub fn slow_instances(&self) -> usize {
        self.instances.values().filter(|seen| seen.slow).count()
    }

    /// Bytes on the heap, nearly.
    pub fn heap_bytes(&self) -> usize {
        let parts = self.delays.values().flat_map(|delays| &delays.parts);
        parts.map(|(_, part)| size_of::<(i64, Delays)>() + part.heap_bytes()).sum::<usize>()
            + self.instances.len() * size_of::<(InstanceId, InstanceDelays)>()
    }

    /// Whether this instance is flagged as slow.
    pub fn is_slow(&self, instance: InstanceId) -> bool {
        self.instances.get(&instance).is_some_and(|seen| seen.slow)
    }
}

impl VersionDelays {
    fn record(&mut self, part: i64, bin: u16, n: u64) {
        match self.parts.back_mut() {
            // Arrivals of different workers may be a little out of order: they count in the newest part.
            Some((newest, delays)) if *newest >= part => delays.record(bin, n),
            _ => {
                let mut delays = Delays::default();
                delays.record(bin, n);
                self.parts.push_back((part, delays));
                self.forget(part);
            }
        }
    }

    /// Drops old parts; whether anything is left.
    fn forget(&mut self, part: i64) -> bool {
        while self.parts.front().is_some_and(|(oldest, _)| *oldest < part - PARTS) {
            self.parts.pop_front();
        }
        !self.parts.is_empty()
    }

    fn quantile_s(&self) -> Option<f64> {
        let mut all = [0; LAST_BIN as usize + 1];
        let counts = self.parts.iter().flat_map(|(_, delays)| delays.iter());
        counts.for_each(|(bin, n)| all[usize::from(bin)] += n);
        let total = all.iter().sum::<u64>();
        if total < SPANS_NEEDED {
            return None;
        }
        // The slack absorbs rounding, so that of 1,000 spans it is the 999th.
        let needed = QUANTILE * total as f64 - 1e-9;
        let mut below = 0;
        let bin = all.iter().position(|n| {
            below += n;
            below as f64 >= needed
        })?;
        Some((bin as f64 + 1.0) * BIN_NANOS as f64 / NANOS_PER_SECOND as f64)
    }
}

impl InstanceDelays {
    fn record(&mut self, delay: u64, part: i64, n: u64) {
        let bin = ((delay / NANOS_PER_SECOND) as usize).min(COARSE_BINS - 1);
        if part > self.last_part {
            self.halve();
            self.last_part = part;
        }
        let mut rest = n;
        while rest > 0 {
            if self.bins[bin] == u16::MAX {
                self.halve();
            }
            let more = rest.min(u64::from(u16::MAX - self.bins[bin]));
            self.bins[bin] += more as u16;
            rest -= more;
        }
        self.spans = self.spans.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
    }

    fn halve(&mut self) {
        self.bins.iter_mut().for_each(|n| *n /= 2);
    }
}

/// The median of counts in one-second bins, interpolated; `None` without counts.
fn median(bins: &[u32; COARSE_BINS]) -> Option<f64> {
    let half = bins.iter().map(|n| u64::from(*n)).sum::<u64>() as f64 / 2.0;
    let mut below = 0.0;
    for (second, n) in bins.iter().enumerate() {
        let n = f64::from(*n);
        if n > 0.0 && below + n >= half {
            return Some(second as f64 + (half - below) / n);
        }
        below += n;
    }
    None
}

fn nanos(seconds: f64) -> u64 {
    (seconds * NANOS_PER_SECOND as f64).round() as u64
}

fn end_of(slot: Slot) -> UnixNanos {
    UnixNanos(u64::try_from(slot.saturating_add(1)).unwrap_or(0).saturating_mul(NANOS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V: VersionId = VersionId(1);

    fn at(seconds: f64) -> UnixNanos {
        UnixNanos::default().plus_secs_f64(seconds)
    }

    /// Feeds `rate` spans a second with the given delay and renews each second.
    fn feed(l: &mut Lateness, seconds: std::ops::Range<u64>, rate: u64, version: VersionId, delay: f64) {
        for s in seconds {
            for k in 0..rate {
                let end = s as f64 + k as f64 / rate as f64;
                l.record(version, InstanceId::UNKNOWN, at(end), at(end + delay));
            }
            l.renew(UnixNanos::from_secs(s + 1));
        }
    }

    #[test]
    fn starts_at_seven_seconds_and_needs_200_spans() {
        let mut l = Lateness::new(LatenessConfig::default());
        assert_eq!(l.current_seconds(), 7.0);
        feed(&mut l, 1_000..1_100, 1, V, 20.0);
        assert_eq!(l.current_seconds(), 7.0);
        feed(&mut l, 1_100..1_220, 1, V, 20.0);
        assert!((l.current_seconds() - 20.6).abs() < 1e-9, "{}", l.current_seconds());
    }

    #[test]
    fn shrinks_slowly_and_stays_within_its_bounds() {
        let mut l = Lateness::new(LatenessConfig::default());
        feed(&mut l, 1_000..1_061, 10, V, 0.05);
        assert!((l.current_seconds() - 6.5).abs() < 0.1, "{}", l.current_seconds());
        feed(&mut l, 1_061..3_000, 10, V, 0.05);
        assert_eq!(l.current_seconds(), 1.0);
        feed(&mut l, 3_000..3_020, 500, V, 59.0);
        assert_eq!(l.current_seconds(), 30.0);
    }

    #[test]
    fn the_slower_version_decides_and_an_ended_one_does_not() {
        let mut l = Lateness::new(LatenessConfig::default());
        feed(&mut l, 1_000..1_030, 10, VersionId(2), 12.0);
        feed(&mut l, 1_030..1_060, 10, V, 1.0);
        assert!((l.current_seconds() - 12.6).abs() < 1e-9);
        l.forget(VersionId(2));
        feed(&mut l, 1_060..1_080, 10, V, 1.0);
        assert!(l.current_seconds() < 12.6);
    }

    #[test]
    fn a_slot_keeps_the_lateness_it_began_with_and_slots_close_in_order() {
        let mut l = Lateness::new(LatenessConfig::default());
        feed(&mut l, 1_000..1_010, 100, V, 20.0);
        // Renewed at 1010, for slots from 1011 on.
        assert_eq!(l.closes_at(1_010), at(1_018.0));
        assert_eq!(l.closes_at(1_011), UnixNanos(1_032_600_000_000));
        assert_eq!(l.open_from(at(1_017.999)), 1_010);
        assert_eq!(l.open_from(at(1_018.0)), 1_011);
        assert_eq!(l.open_from(at(1_032.5)), 1_011);
        assert_eq!(l.open_from(at(1_032.7)), 1_012);
        assert_eq!(l.open_from(at(900.0)), 1_012, "never back");
        assert_eq!(l.open_from(at(50_000.0)), 49_979);
    }

    #[test]
    fn a_slow_instance_is_flagged_and_left_out() {
        let mut l = Lateness::new(LatenessConfig::default());
        for s in 1_000..1_300 {
            for (instance, delay) in [(0, 0.2), (1, 0.3), (2, if s < 1_020 { 0.2 } else { 14.0 })] {
                let instance = InstanceId(instance + if s < 1_020 { 0 } else { 10 });
                for k in 0..4 {
                    let end = f64::from(s) + f64::from(k) / 4.0;
                    l.record(V, instance, at(end), at(end + delay));
                }
            }
            l.renew(at(f64::from(s + 1)));
        }
        assert!(l.is_slow(InstanceId(12)));
        assert_eq!(l.slow_instances(), 1);
        assert!(l.current_seconds() < 7.0, "{}", l.current_seconds());
    }
}
