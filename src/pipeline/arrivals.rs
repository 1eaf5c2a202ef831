//! How complete a service's spans are: those of the last 5 minutes by when they arrived, and how many of them
//! came too late or from the future. Kept in steps of 10 s.

use std::collections::VecDeque;

use crate::model::Slot;

/// Seconds of a step.
const STEP_S: i64 = 10;
/// Steps kept: 5 minutes.
const STEPS: i64 = 30;

/// Arrivals of the last 5 minutes.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Step, spans, missed ones; oldest first.
    steps: VecDeque<(i64, u64, u64)>,
}

impl Arrivals {
    /// Counts spans that arrived in `slot`, `missed` of them in no slot of their own.
    pub(super) fn add(&mut self, slot: Slot, spans: u64, missed: u64) {
        let step = slot.div_euclid(STEP_S);
        match self.steps.back_mut() {
            // Also where the clock was set back: they count in the newest step.
            Some((newest, all, lost)) if *newest >= step => {
                *all += spans;
                *lost += missed;
            }
            _ => self.steps.push_back((step, spans, missed)),
        }
        while self.steps.front().is_some_and(|(oldest, ..)| *oldest <= step - STEPS) {
            self.steps.pop_front();
        }
    }

    /// Spans of the last 5 minutes, and the missed ones among them.
    pub(super) fn last_5m(&self, now: Slot) -> [u64; 2] {
        let from = now.div_euclid(STEP_S) - STEPS + 1;
        let recent = self.steps.iter().filter(|(step, ..)| *step >= from);
        recent.fold([0, 0], |sum, (_, all, missed)| [sum[0] + all, sum[1] + missed])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_steps_are_forgotten_and_the_clock_may_be_set_back() {
        let mut arrivals = Arrivals::default();
        (0..1_000).for_each(|slot| arrivals.add(slot, 2, 1));
        assert_eq!(arrivals.steps.len(), STEPS as usize);
        assert_eq!(arrivals.last_5m(999), [600, 300]);
        assert_eq!(arrivals.last_5m(1_289), [20, 10]);
        assert_eq!(arrivals.last_5m(1_300), [0, 0]);
        arrivals.add(500, 5, 0);
        assert_eq!(arrivals.last_5m(999), [605, 300]);
    }
}
