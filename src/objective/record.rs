//! What an objective rests on: requests, failures and watched seconds in coarse steps. 30-s steps for two hours,
//! 5-min steps for three days, hours for thirty days; about 10 kB for a service with 100 requests a second, given
//! to it as it grows older. Late requests go into the step in which they ended.

use crate::model::Slot;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer};
use crate::window::Ring;

/// Layout of a kept record. It must outlive upgrades, so it has a version of its own.
const LAYOUT: u8 = 1;
/// Being there without traffic moves a record on by no more than this: a clock that was set a month ahead must
/// not push a month of history out. Traffic does, however long the pause before it was.
const LONGEST_QUIET_S: i64 = 86_400;
/// A step that begins further ahead than this comes from a clock that was set back since.
const AHEAD_S: i64 = 60;

/// A length of time over which a burn rate is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// 5 minutes.
    M5,
    /// 30 minutes.
    M30,
    /// 1 hour.
    H1,
    /// 2 hours.
    H2,
    /// 6 hours.
    H6,
    /// 1 day.
    D1,
    /// 3 days.
    D3,
}

impl Window {
    /// All windows, the shortest first.
    pub const ALL: [Self; 7] = [Self::M5, Self::M30, Self::H1, Self::H2, Self::H6, Self::D1, Self::D3];

    /// The word used in metrics, rules and the API; a duration of Prometheus.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::M5 => "5m",
            Self::M30 => "30m",
            Self::H1 => "1h",
            Self::H2 => "2h",
            Self::H6 => "6h",
            Self::D1 => "1d",
            Self::D3 => "3d",
        }
    }

    /// Its length.
    pub const fn seconds(self) -> i64 {
        match self {
            Self::M5 => 300,
            Self::M30 => 1_800,
            Self::H1 => 3_600,
            Self::H2 => 7_200,
            Self::H6 => 21_600,
            Self::D1 => 86_400,
            Self::D3 => 259_200,
        }
    }
}

/// What a window of a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Requests that ended in it.
    pub requests: u64,
    /// Failed ones among them.
    pub failed: u64,
    /// Seconds of it that were watched.
    pub watched_s: u64,
}

impl Tally {
    /// How fast the budget burns: share of failed requests over `error_budget`, which is 1 - objective. `None`
    /// without requests, which say nothing.
    pub fn burn(self, error_budget: f64) -> Option<f64> {
        (self.requests > 0).then(|| self.failed as f64 / self.requests as f64 / error_budget)
    }
}

/// Requests, failures and watched time of one objective.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    fine: Ring<3>,
    middle: Ring<3>,
    hours: Ring<3>,
    /// Requests and failures counted since the program started: a counter that is read from the outside must begin at
    /// 0, or a reader takes a loss of some minutes for a new beginning of all of it.
    totals: [u64; 2],
}

impl Default for Record {
    fn default() -> Self {
        // One step more than the longest window of each, for the running one.
        Self {
            fine: Ring::new(30, 241),
            middle: Ring::new(300, 865),
            hours: Ring::new(3_600, 721),
            totals: [0; 2],
        }
    }
}

impl Record {
    /// Counts requests that ended in `slot`.
    pub fn count(&mut self, slot: Slot, requests: u64, failed: u64) {
        if requests == 0 {
            return;
        }
        self.each(|ring| ring.add(slot, [requests, failed, 0]));
        self.totals = [self.totals[0].saturating_add(requests), self.totals[1].saturating_add(failed)];
    }

    /// Notes that the seconds from `from` on, `until` left out, were watched.
    pub fn watch(&mut self, from: Slot, until: Slot) {
        let newest = self.fine.span_s().map_or(from, |(_, newest)| newest);
        if from - newest > LONGEST_QUIET_S {
            return;
        }
        let mut at = from;
        while at < until {
            let end = until.min((at.div_euclid(30) + 1) * 30);
            self.each(|ring| ring.add(at, [0, 0, end.abs_diff(at)]));
            at = end;
        }
    }

    /// Forgets steps that lie ahead of the clock: it was set back.
    pub fn settle(&mut self, now: Slot) {
        self.each(|ring| {
            let begin = ring.span_s().map(|(_, last)| last + 1 - ring.width_s());
            if begin.is_some_and(|begin| begin > now + AHEAD_S) {
                ring.truncate(now);
            }
        });
    }

    /// What the last `seconds` hold, in whole steps, the running one included.
    pub fn tally(&self, seconds: i64, now: Slot) -> Tally {
        let fits = |ring: &&Ring<3>| ring.length_s() - ring.width_s() >= seconds;
        let ring = [&self.fine, &self.middle].into_iter().find(fits).unwrap_or(&self.hours);
        let [requests, failed, watched_s] = ring.sum_last(seconds, now);
        Tally { requests, failed, watched_s: watched_s.min(seconds.unsigned_abs()) }
    }

    /// Seconds since it began; 0 before.
    pub fn age_s(&self, now: Slot) -> i64 {
        self.fine.span_s().map_or(0, |(first, _)| (now + 1 - first).max(0))
    }

    /// Requests and failures counted since the program started.
    pub fn totals(&self) -> [u64; 2] {
        self.totals
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.fine.heap_bytes() + self.middle.heap_bytes() + self.hours.heap_bytes()
    }

    fn each(&mut self, mut change: impl FnMut(&mut Ring<3>)) {
        [&mut self.fine, &mut self.middle, &mut self.hours].into_iter().for_each(&mut change);
    }
}

impl Snapshot for Record {
    fn save(&self, out: &mut Writer) {
        LAYOUT.save(out);
        self.fine.save(out);
        self.middle.save(out);
        self.hours.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        if u8::load(from)? != LAYOUT {
            return Err(Corrupt::Header);
        }
        let record = Self {
            fine: Ring::load(from)?,
            middle: Ring::load(from)?,
            hours: Ring::load(from)?,
            totals: [0; 2],
        };
        let like = Self::default();
        let whole = record.fine.is_like(&like.fine)
            && record.middle.is_like(&like.middle)
            && record.hours.is_like(&like.hours);
        if whole { Ok(record) } else { Err(Corrupt::Body) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T: Slot = 1_700_000_000;

    #[test]
    fn windows_hold_what_ended_in_them() {
        let mut record = Record::default();
        for minute in 0..60 * 24 * 4 {
            record.count(T + minute * 60, 10, u64::from(minute % 60 == 0));
            record.watch(T + minute * 60, T + (minute + 1) * 60);
        }
        let now = T + 60 * 60 * 24 * 4 - 1;
        for window in Window::ALL {
            let seconds = window.seconds();
            let tally = record.tally(seconds, now);
            let step = if seconds <= 7_200 { 30 } else { 300 };
            let near = |found: u64, exact: i64, off: i64| (found as i64 - exact).abs() <= off;
            assert!(near(tally.watched_s, seconds, step), "{window:?} {tally:?}");
            assert!(near(tally.requests, seconds / 6, step / 6 + 10), "{window:?} {tally:?}");
            assert!(near(tally.failed, seconds / 3_600, 1), "{window:?} {tally:?}");
        }
        let month = record.tally(30 * 86_400, now);
        assert_eq!((month.requests, month.failed, month.watched_s), (57_600, 96, 4 * 86_400));
        assert_eq!(record.totals(), [57_600, 96]);
    }

    #[test]
    fn a_month_of_a_busy_service_takes_ten_kilobytes() {
        let mut record = Record::default();
        for step in 0..30 * 2_880 {
            record.count(T + step * 30, 3_000, 3);
            record.watch(T + step * 30, T + (step + 1) * 30);
        }
        assert_eq!(record.heap_bytes(), 241 * 6 + 865 * 6 + 721 * 12);
    }

    #[test]
    fn a_clock_that_jumps_forgets_little() {
        let mut record = Record::default();
        for step in 0..2_000 {
            record.count(T + step * 30, 30, 3);
            record.watch(T + step * 30, T + (step + 1) * 30);
        }
        let now = T + 60_000;
        let before = record.clone();
        // A month ahead, and traffic goes on where it really is.
        record.watch(now + 30 * 86_400, now + 30 * 86_400 + 600);
        assert_eq!(record, before, "being there moves nothing that far");
        // Three hours ahead for ten minutes, then back.
        record.watch(now + 10_800, now + 11_400);
        record.settle(now);
        record.count(now, 30, 3);
        let tally = record.tally(300, now);
        assert_eq!((tally.requests, tally.failed), (30, 3), "what comes after it is counted");
        assert_eq!(record.tally(30 * 86_400, now).requests, 60_030, "the hours are all there");
        // An honest pause of forty days.
        let later = now + 40 * 86_400;
        record.count(later, 7, 0);
        assert_eq!(record.tally(30 * 86_400, later).requests, 7);
    }

    #[test]
    fn late_requests_go_where_they_belong() {
        let mut record = Record::default();
        record.watch(T, T + 7_200);
        record.count(T + 600, 5, 5);
        let now = T + 7_199;
        assert_eq!(record.tally(300, now).failed, 0);
        assert_eq!(record.tally(7_200, now).failed, 5);
        // Before it began there is no room.
        record.count(T - 86_400, 5, 5);
        assert_eq!(record.tally(30 * 86_400, now).failed, 5);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_kept_comes_back(adds in prop::collection::vec((0i64..400_000, 0u64..1 << 40, 0u64..9), 0..30)) {
            let mut record = Record::default();
            for (at, requests, failed) in adds {
                record.count(T + at, requests, failed.min(requests));
                record.watch(T + at, T + at + 10);
            }
            let mut out = Writer::default();
            record.save(&mut out);
            let bytes = out.into_bytes();
            let read = Record::load(&mut Reader::new(&bytes)).unwrap();
            prop_assert_eq!(read.totals(), [0; 2]);
            prop_assert_eq!(read, Record { totals: [0; 2], ..record });
            for cut in 1..20 {
                let end = bytes.len() * cut / 20;
                prop_assert!(Record::load(&mut Reader::new(&bytes[..end])).is_err());
            }
        }
    }
}
