//! The budget of failures: what an objective allows over its days, what is spent, what is left.

use super::record::Record;
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

const DAY_S: i64 = 86_400;

/// The budget of an objective, in requests.
///
/// Where less than the whole time was watched, `allowed` is what the traffic that was seen would come to over all of
/// it, so that ten bad minutes on the first day read as a small part of the month and not as all of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Failures allowed over the whole time.
    pub allowed: f64,
    /// Failures in it so far.
    pub spent: u64,
    /// Share of the time that was watched, 0 to 1. The rest is neither good nor bad.
    pub completeness: f64,
}

impl Budget {
    /// Failures left; below 0 where more was spent than allowed.
    pub fn left(&self) -> f64 {
        self.allowed - self.spent as f64
    }

    /// Share of the budget that is left; below 0 where it is overdrawn.
    pub fn left_ratio(&self) -> f64 {
        1.0 - self.share(self.spent)
    }

    /// What share of the budget so many failures are.
    pub fn share(&self, failed: u64) -> f64 {
        if self.allowed > 0.0 { failed as f64 / self.allowed } else { 0.0 }
    }
}

/// The budget of the last `days` days of an objective `slo`; `None` while there were no requests.
pub fn budget(record: &Record, slo: f64, days: u32, now: Slot) -> Option<Budget> {
    let whole_s = i64::from(days) * DAY_S;
    let tally = record.tally(whole_s, now);
    if tally.requests == 0 || tally.watched_s == 0 {
        return None;
    }
    let completeness = (tally.watched_s as f64 / whole_s as f64).min(1.0);
    let allowed = (1.0 - slo) * tally.requests as f64 / completeness;
    Some(Budget { allowed, spent: tally.failed, completeness })
}

/// What a deployment has spent of its service's budget: all failed requests of its candidate since it began.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spent {
    /// Requests of the candidate.
    pub requests: u64,
    /// Failed ones.
    pub failed: u64,
    /// Their share of the budget of the whole time, 0 to 1 and beyond; `None` while no budget is known.
    pub share: Option<f64>,
    /// What is left of that budget, in requests and as a share of it.
    pub left: Option<[f64; 2]>,
}

snapshot_fields!(Spent { requests, failed, share, left });

#[cfg(test)]
mod tests {
    use super::*;

    const T: Slot = 1_700_000_000;

    fn days(days: i64, an_hour: u64, failed: u64) -> Record {
        let mut record = Record::default();
        for hour in 0..24 * days {
            record.count(T + hour * 3_600, an_hour, failed);
            record.watch(T + hour * 3_600, T + (hour + 1) * 3_600);
        }
        record
    }

    #[test]
    fn a_whole_month_is_counted_as_it_was() {
        let now = T + 30 * DAY_S - 1;
        let b = budget(&days(30, 1_000, 1), 0.999, 30, now).unwrap();
        assert!((b.allowed - 720.0).abs() < 1.1, "{b:?}");
        assert!((b.completeness - 1.0).abs() < 0.002, "{b:?}");
        assert!(b.left_ratio().abs() < 0.002 && b.left().abs() < 1.1, "{b:?}");
    }

    #[test]
    fn a_first_bad_hour_is_a_small_part_of_the_month() {
        // 1 % of a day's requests fail at an objective of 99.9 %: ten times the rate that is allowed.
        let b = budget(&days(1, 1_000, 10), 0.999, 30, T + DAY_S - 1).unwrap();
        assert!((b.completeness - 1.0 / 30.0).abs() < 1e-9);
        assert!((b.share(b.spent) - 10.0 / 30.0).abs() < 1e-9, "{b:?}");
    }

    #[test]
    fn nothing_seen_is_no_budget() {
        assert_eq!(budget(&Record::default(), 0.999, 30, T), None);
        let mut quiet = Record::default();
        quiet.watch(T, T + 600);
        assert_eq!(budget(&quiet, 0.999, 30, T + 600), None);
    }
}
