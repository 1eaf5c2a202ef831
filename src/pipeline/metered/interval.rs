//! How often the instances of a service export: the mode of the times between two points of a stream, in whole
//! seconds. It is the length of a slot, so it is fixed with the first one seen and changed only when most
//! streams say otherwise for a while; a change starts the metric side anew.

use crate::model::NANOS_PER_SECOND;
use crate::verdict::LONGEST_SLOT_S;

/// Times that a change of the interval rests on.
const GAPS_NEEDED: u64 = 30;
/// Share of them that must agree.
const SHARE_NEEDED: f64 = 0.6;
/// Times kept; beyond it all counts are halved.
const GAPS_KEPT: u64 = 1_000;

/// Learns the export interval of one service.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Interval {
    /// Seconds, ascending, and how often they were seen. Few: the services of one exporter agree.
    gaps: Vec<(i64, u64)>,
    seen: u64,
}

impl Interval {
    /// The time between two points of one stream.
    pub(in crate::pipeline) fn note(&mut self, nanos: u64) {
        let seconds = (nanos + NANOS_PER_SECOND / 2) / NANOS_PER_SECOND;
        let seconds = i64::try_from(seconds).unwrap_or(LONGEST_SLOT_S).clamp(1, LONGEST_SLOT_S);
        let at = self.gaps.iter().take_while(|(known, _)| *known < seconds).count();
        match self.gaps.get_mut(at) {
            Some((known, n)) if *known == seconds => *n += 1,
            _ => self.gaps.insert(at, (seconds, 1)),
        }
        self.seen += 1;
        if self.seen > GAPS_KEPT {
            self.gaps.iter_mut().for_each(|(_, n)| *n /= 2);
            self.gaps.retain(|(_, n)| *n > 0);
            self.seen = self.gaps.iter().map(|(_, n)| n).sum();
        }
    }

    /// The commonest time, the shorter of two; `None` before there is any.
    pub(in crate::pipeline) fn mode(&self) -> Option<i64> {
        self.commonest().map(|(seconds, _)| seconds)
    }

    fn commonest(&self) -> Option<(i64, u64)> {
        self.gaps.iter().copied().max_by_key(|(seconds, n)| (*n, -*seconds))
    }

    /// Another interval than `current`, if the evidence for it is strong.
    pub(in crate::pipeline) fn change_from(&self, current: i64) -> Option<i64> {
        let (mode, n) = self.commonest().filter(|(mode, _)| *mode != current && self.seen >= GAPS_NEEDED)?;
        (n as f64 >= SHARE_NEEDED * self.seen as f64).then_some(mode)
    }

    /// Begins to learn anew, after a change.
    pub(in crate::pipeline) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(gaps: &[(f64, u64)]) -> Interval {
        let mut interval = Interval::default();
        for (seconds, times) in gaps {
            (0..*times).for_each(|_| interval.note((seconds * 1e9) as u64));
        }
        interval
    }

    #[test]
    fn the_mode_is_the_interval_and_a_change_needs_proof() {
        assert_eq!(learned(&[]).mode(), None);
        assert_eq!(learned(&[(14.97, 3), (15.02, 4), (30.0, 2)]).mode(), Some(15));
        assert_eq!(learned(&[(0.1, 1)]).mode(), Some(1));
        assert_eq!(learned(&[(4_000.0, 1)]).mode(), Some(300));
        let few = learned(&[(60.0, 20)]);
        assert_eq!((few.change_from(15), few.change_from(60)), (None, None));
        assert_eq!(learned(&[(60.0, 40), (15.0, 10)]).change_from(15), Some(60));
        assert_eq!(learned(&[(60.0, 20), (15.0, 15)]).change_from(15), None);
        // What was long ago counts less and less.
        assert_eq!(learned(&[(15.0, 5_000), (60.0, 3_000)]).change_from(15), Some(60));
    }
}
