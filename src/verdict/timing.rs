//! How long things last. All times of the method are seconds of event time; where slots are longer than a
//! second (metrics arrive once an export interval) each is rounded up to whole slots, and what needs several
//! observations lasts for at least so many slots (`docs/statistics.md`, "Metrics"). The default, slots of a
//! second, is what spans are judged by.

use super::decayed::DECAY;
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;
use crate::stats::{BLOCK_S, RESTART_S, Rhythm, WATCH_RESTART_S};

/// Longest slot in seconds: five minutes between exports are the most that is judged.
pub const LONGEST_SLOT_S: i64 = 300;
/// Longest pairing group, seconds.
const PAIRING_S: i64 = 10;
/// Seconds of a block of the dispersion; temporal pairs are two of them.
const DISPERSION_S: i64 = 30;
/// Silence of the baseline before it counts as gone: least and most seconds.
const GONE_S: [i64; 2] = [10, 120];
/// Seconds of the baseline before the weights are fixed.
const BASELINE_S: i64 = 5;
/// What is kept per group of the predicted share above the median.
const SHARE_DECAY: f64 = 0.99;

/// The times of one judge and of the memories that it reads, for slots of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    slot_s: i64,
}

snapshot_fields!(Timing { slot_s });

impl Default for Timing {
    /// Slots of a second.
    fn default() -> Self {
        Self { slot_s: 1 }
    }
}

impl Timing {
    /// Slots of so many seconds, within 1 to [`LONGEST_SLOT_S`].
    pub fn of_slot(seconds: i64) -> Self {
        Self { slot_s: seconds.clamp(1, LONGEST_SLOT_S) }
    }

    /// Seconds of a slot. Slots are numbered by their first second, a multiple of this.
    pub fn slot_s(self) -> i64 {
        self.slot_s
    }

    /// The slot in which a second lies.
    pub fn slot_of(self, second: Slot) -> Slot {
        second - second.rem_euclid(self.slot_s)
    }

    /// `seconds` rounded up to whole slots.
    pub fn whole(self, seconds: i64) -> i64 {
        (seconds + self.slot_s - 1).div_euclid(self.slot_s) * self.slot_s
    }

    /// `seconds` rounded up to whole slots, and no fewer than `slots` of them.
    pub(crate) fn at_least(self, seconds: i64, slots: i64) -> i64 {
        self.whole(seconds).max(slots * self.slot_s)
    }

    /// Longest group of slots that is compared as one.
    pub(crate) fn pairing_s(self) -> i64 {
        self.at_least(PAIRING_S, 2)
    }

    /// Blocks and restarts of the processes that decide.
    pub(crate) fn rhythm(self) -> Rhythm {
        let block_s = self.at_least(BLOCK_S, 1);
        Rhythm { block_s, restart_s: whole(RESTART_S.max(2 * block_s), block_s) }
    }

    /// Blocks and restarts in watch mode.
    pub(crate) fn watch_rhythm(self) -> Rhythm {
        let block_s = self.at_least(BLOCK_S, 1);
        Rhythm { block_s, restart_s: whole(WATCH_RESTART_S.max(2 * block_s), block_s) }
    }

    /// Block over which bursts are measured.
    pub(crate) fn dispersion_s(self) -> i64 {
        self.at_least(DISPERSION_S, 2)
    }

    /// What is kept per slot with traffic.
    pub(crate) fn decay(self) -> f64 {
        if self.slot_s == 1 { DECAY } else { DECAY.powf(self.slot_s as f64) }
    }

    /// What is kept per group of the predicted share above the median: the same per second, too.
    pub(crate) fn share_decay(self) -> f64 {
        if self.slot_s == 1 { SHARE_DECAY } else { SHARE_DECAY.powf(self.slot_s as f64) }
    }

    /// Seconds of silence after which a version is gone, least and most. A single export that is late must
    /// not read as an end.
    pub(crate) fn gone_s(self) -> [i64; 2] {
        GONE_S.map(|seconds| self.at_least(seconds, 2))
    }

    /// First slot in which the weights may be fixed, given the first slots of candidate and baseline: 5 s of
    /// the baseline where slots are seconds, else two export intervals of both.
    pub(crate) fn weights_from(self, candidate: Slot, baseline: Slot) -> Slot {
        if self.slot_s == 1 {
            candidate.max(baseline + BASELINE_S)
        } else {
            candidate.max(baseline) + 2 * self.slot_s
        }
    }

    /// Shortest time from the first compared slot to a fail, in seconds: it takes the third block, because
    /// what fits into two is taken for a glitch.
    pub fn earliest_fail_s(self) -> i64 {
        2 * self.rhythm().block_s + self.slot_s
    }
}

/// `seconds` rounded up to whole `units`.
fn whole(seconds: i64, unit: i64) -> i64 {
    (seconds + unit - 1).div_euclid(unit) * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_to_whole_slots() {
        // Slot; pairing, block, restart, restart of the watch, dispersion, gone, earliest fail.
        for (slot, want) in [
            (1, [10, 5, 30, 60, 30, 10, 120, 11]),
            (5, [10, 5, 30, 60, 30, 10, 120, 15]),
            (7, [14, 7, 35, 63, 35, 14, 126, 21]),
            (10, [20, 10, 30, 60, 30, 20, 120, 30]),
            (15, [30, 15, 30, 60, 30, 30, 120, 45]),
            (30, [60, 30, 60, 60, 60, 60, 120, 90]),
            (60, [120, 60, 120, 120, 120, 120, 120, 180]),
        ] {
            let t = Timing::of_slot(slot);
            let [gone, longest] = t.gone_s();
            let got = [
                t.pairing_s(),
                t.rhythm().block_s,
                t.rhythm().restart_s,
                t.watch_rhythm().restart_s,
                t.dispersion_s(),
                gone,
                longest,
                t.earliest_fail_s(),
            ];
            assert_eq!(got, want, "slots of {slot} s");
            assert_eq!(t.rhythm().block_s, t.watch_rhythm().block_s);
        }
    }

    #[test]
    fn the_default_is_seconds() {
        let t = Timing::default();
        assert_eq!((t.rhythm(), t.watch_rhythm()), (Rhythm::SECONDS, Rhythm::WATCH_SECONDS));
        assert_eq!((t.decay(), t.share_decay()), (DECAY, SHARE_DECAY));
        assert_eq!((t.whole(61), t.slot_of(61), t.weights_from(10, 8)), (61, 61, 13));
        assert_eq!(Timing::of_slot(0), t);
    }

    #[test]
    fn slots_lie_on_their_own_grid() {
        let t = Timing::of_slot(15);
        assert_eq!((t.slot_of(61), t.slot_of(60), t.slot_of(-1)), (60, 60, -15));
        assert_eq!((t.whole(60), t.whole(61), t.weights_from(30, 15)), (60, 75, 60));
        assert_eq!(Timing::of_slot(10_000).slot_s(), LONGEST_SLOT_S);
        // Half of what is kept is gone after the same time.
        assert!((t.decay().powi(4) - DECAY.powi(60)).abs() < 1e-12);
    }
}
