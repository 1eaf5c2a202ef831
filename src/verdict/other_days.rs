//! The second opinion on a fail that rests on what is remembered: the same time of day, yesterday and a week ago. What is
//! remembered is half an hour old, so a service that gets worse at this hour every day looks like a bad change. Where the
//! level is no worse than what one of those days showed then, the evidence of it is set aside; a fail has to stand on the
//! rest. It can only withhold: nothing that is set aside makes anything else weigh more (`docs/statistics.md`, section 8).

use super::evidence::{Evidence, Sli};
use super::hours::{BLOCK_S, HOUR_S, Hour, Hours, Marks, Tally, sum};
use super::input::Cells;
use super::memory::Memory;
use super::{RegionAction, SliEvidence};
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;
use crate::stats::ln_sum_exp;

/// Days that are looked at.
const DAYS_AGO: [u8; 2] = [1, 7];
const DAY_S: i64 = 86_400;
/// Minutes by which what recurs may begin earlier or later than it did.
const SHIFT_MIN: i64 = 10;
/// Seconds before the change whose latencies it is held against, and after it for which other days are read.
const BEFORE_S: i64 = 1_800;
const AHEAD_S: i64 = 1_800;
/// Requests that a window of another day must have to say anything; as many as half of those that it is held against,
/// and failed ones among them: what a few show is chance.
const LEAST: u64 = 50;
const LEAST_BAD: u64 = 4;
/// Share of requests beyond the highest mark above which marks do not tell any more how slow they were.
const TELLING: f64 = 0.2;
/// Share of failed requests from which on nothing is set aside: a service that is down is no time of day.
const DOWN: f64 = 0.5;
/// A share is like another day's up to so much more, and a standard deviation of both.
const LIKE: f64 = 1.25;
/// Only what has risen by so much in the service as a whole can be what recurs: of failed requests, of slow ones.
const RISEN: [f64; 2] = [1.5, 1.25];

/// What one of the days showed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OtherDay {
    /// How many days ago.
    pub days_ago: u8,
    /// Requests at the same time of day.
    pub tally: Tally,
    /// Whether requests were counted beyond the same latencies then.
    pub is_marked: bool,
    /// Whether the share of failed requests is no worse than around that time.
    pub errors_alike: bool,
    /// The same of latencies.
    pub latency_alike: bool,
}

snapshot_fields!(OtherDay { days_ago, tally, is_marked, errors_alike, latency_alike });

/// The second opinion.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OtherDays {
    /// Requests since the change, or since the baseline went away.
    pub now: Tally,
    /// Whether the latencies of them can be compared with those of other days.
    pub is_marked: bool,
    /// What other days showed; those of which nothing is known are missing.
    pub days: Vec<OtherDay>,
}

snapshot_fields!(OtherDays { now, is_marked, days });

impl OtherDays {
    /// Whether what an SLI says is set aside.
    pub fn sets_aside(&self, sli: Sli) -> bool {
        match sli {
            Sli::ErrorRate | Sli::Guard | Sli::Absolute => self.days.iter().any(|day| day.errors_alike),
            Sli::LatencyP50 | Sli::LatencyP75 | Sli::LatencyP95 | Sli::LatencyP99 => {
                self.days.iter().any(|day| day.latency_alike)
            }
            // Of these nothing is counted by the time of day.
            Sli::ClientErrors | Sli::Own(_) => false,
        }
    }

    /// Whether a fail on these grounds does not stand without what is set aside.
    pub fn withholds(&self, evidence: &Evidence) -> bool {
        let stands = |line: &&SliEvidence| line.weight > 0.0 && !self.sets_aside(line.sli);
        let rest = evidence.slis.iter().filter(stands).map(|line| line.weight.ln() + line.ln_e);
        let acts = |attribute: &str| {
            let regions = evidence.regions.as_ref();
            regions.is_some_and(|r| r.action == RegionAction::Fail && r.attribute == attribute)
        };
        let mut regions =
            evidence.cohorts.iter().filter(|one| acts(&one.attribute) && one.ln_e >= one.threshold);
        let region_stands = regions.any(|one| one.sli.as_ref().is_none_or(|line| !self.sets_aside(line.sli)));
        ln_sum_exp(rest.collect::<Vec<_>>().into_iter()) < evidence.fail_threshold && !region_stands
    }
}

/// The requests of a service since a change, or since the baseline went away.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Since {
    from: Slot,
    until: Slot,
    marks: Option<Marks>,
    now: Tally,
    /// What the service did before.
    before: Tally,
}

snapshot_fields!(Since { from, until, marks, now, before });

impl Since {
    /// Begins with slot `from`; the service was as before until `changed`.
    pub fn new(from: Slot, changed: Slot, hours: Option<&Hours>) -> Self {
        let marks = hours.and_then(Hours::marks);
        let before = hours.map(|hours| hours.sum(changed - BEFORE_S, changed));
        let before = before.filter(|(_, is_marked)| *is_marked).map(|(before, _)| before);
        Self { from, until: from, marks, now: Tally::default(), before: before.unwrap_or_default() }
    }

    /// Counts a slot.
    pub fn add(&mut self, t: Slot, slot_s: i64, cells: &Cells) {
        self.until = self.until.max(t + slot_s);
        self.now.add(&Tally::of(cells, self.marks.as_ref()));
    }

    /// Numbers of the hours of other days that are asked for.
    pub fn wanted(&self) -> Vec<i64> {
        let shift = SHIFT_MIN * BLOCK_S;
        let of_day = |days: u8| {
            let from = self.from - i64::from(days) * DAY_S;
            (from - shift).div_euclid(HOUR_S)..=(from + AHEAD_S + shift).div_euclid(HOUR_S)
        };
        DAYS_AGO.into_iter().rev().flat_map(of_day).collect()
    }

    /// What other days say, by their hours; `None` where nothing is known of any.
    pub fn look(&self, memory: &Memory, hours: &[Hour]) -> Option<OtherDays> {
        let days: Vec<OtherDay> =
            DAYS_AGO.into_iter().filter_map(|days| self.day(days, memory, hours)).collect();
        let is_marked = self.marks.is_some();
        (!days.is_empty()).then_some(OtherDays { now: self.now, is_marked, days })
    }

    fn day(&self, days_ago: u8, memory: &Memory, hours: &[Hour]) -> Option<OtherDay> {
        let window = |shift: i64| {
            let moved = |t: Slot| t - i64::from(days_ago) * DAY_S + shift * BLOCK_S;
            // Whole blocks, the ones in which it begins and ends included.
            let from = moved(self.from).div_euclid(BLOCK_S) * BLOCK_S;
            let until = moved(self.until.max(self.from + 1));
            sum(hours.iter(), (from, until), self.marks.as_ref())
        };
        let mut day = OtherDay { days_ago, ..OtherDay::default() };
        (day.tally, day.is_marked) = window(0);
        let mut is_known = false;
        let [kept_errors, kept] = memory.remembered();
        let errors_rose = self.rose(0, self.now.bad, [kept_errors, kept]);
        let before = |i: usize| [self.before.slow[i], self.before.requests].map(|n| n as f64);
        let knows_before = self.before.requests >= LEAST;
        let slow_rose = knows_before && (0..3).any(|i| self.rose(1, self.now.slow[i], before(i)));
        let [errors_c, slow_c @ ..] = memory.incident_sizes_in_time();
        let slow_c = slow_c.into_iter().fold(1.0, f64::max);
        for shift in -SHIFT_MIN..=SHIFT_MIN {
            let (then, is_marked) = window(shift);
            if then.requests < LEAST.max(self.now.requests / 2) {
                continue;
            }
            is_known = true;
            let alike = |now: u64, then_bad: u64, c: f64| self.is_alike(now, [then_bad, then.requests], c);
            let is_up = (self.now.bad as f64) < DOWN * self.now.requests as f64;
            let has_failed = is_up && then.bad >= LEAST_BAD;
            day.errors_alike |= errors_rose && has_failed && alike(self.now.bad, then.bad, errors_c);
            let tells = |tally: &Tally| tally.slow[2] as f64 <= TELLING * tally.requests as f64;
            let all_slow = || (0..3).all(|i| alike(self.now.slow[i], then.slow[i], slow_c));
            let is_told = is_marked && tells(&then) && tells(&self.now);
            day.latency_alike |= is_told && slow_rose && all_slow();
        }
        is_known.then_some(day)
    }

    /// Whether a share is well above what it was before in the service as a whole.
    fn rose(&self, kind: usize, now: u64, [before, of]: [f64; 2]) -> bool {
        let level = if of > 0.0 { before / of } else { 0.0 };
        now as f64 > RISEN[kind] * level * self.now.requests as f64
    }

    /// Whether so many are not more than another day's share lets expect: a quarter more, and a standard deviation of
    /// both counts with incidents of size `c`.
    fn is_alike(&self, now: u64, [then, of]: [u64; 2], c: f64) -> bool {
        let times = LIKE * self.now.requests as f64 / of.max(1) as f64;
        let expected = times * then as f64;
        now as f64 <= expected + (expected * c.max(1.0) * (1.0 + times)).sqrt()
    }
}

#[cfg(test)]
#[path = "other_days_tests.rs"]
mod tests;
