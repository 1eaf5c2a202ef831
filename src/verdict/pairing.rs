//! The unit of comparison: consecutive slots up to the first in which both versions have had a request, at
//! most 10 s (two slots, where slots are long). With traffic in both each second it is the slot itself; on
//! sparse traffic it pairs what would otherwise be thrown away. Only request totals decide, never outcomes.

use std::collections::VecDeque;

use super::dispersion::incident_size;
use super::input::Counts;
use super::thresholds::Cuts;
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

/// Everything that must be fixed before a group's counts are read; a group uses what stood at its first slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fixed {
    pub(crate) cuts: Option<Cuts>,
    /// phi of errors, p50, p95, p99 at service level.
    pub(crate) service: [f64; 4],
    /// The same of the operation itself.
    pub(crate) own: [f64; 4],
    /// phi of client errors at service level.
    pub(crate) client_errors: f64,
    /// Factor on the tolerated error ratio and buckets on the latency margin for unlike instances.
    pub(crate) error_factor: f64,
    pub(crate) latency_extra: i32,
}

snapshot_fields!(Fixed { cuts, service, own, client_errors, error_factor, latency_extra });

impl Fixed {
    /// cbar of errors, p50, p95, p99 at service level.
    pub(crate) fn service_sizes(&self) -> [f64; 4] {
        self.service.map(incident_size)
    }

    /// cbar of the operation itself.
    pub(crate) fn own_sizes(&self) -> [f64; 4] {
        self.own.map(incident_size)
    }
}

snapshot_fields!(Counts { requests, bad, client_errors, latency });

#[derive(Debug, Clone, PartialEq)]
struct Slice {
    t: Slot,
    candidate: Counts,
    baseline: Counts,
    fixed: Fixed,
}

snapshot_fields!(Slice { t, candidate, baseline, fixed });

/// A closed group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    /// First slot.
    pub(crate) since: Slot,
    pub(crate) candidate: Counts,
    pub(crate) baseline: Counts,
    pub(crate) fixed: Fixed,
}

/// The open group of one operation.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Pairing {
    slices: VecDeque<Slice>,
}

snapshot_fields!(Pairing { slices });

impl Pairing {
    /// Adds slot `t`; answers with the group if it closes. Slots that are `longest_s` old leave it.
    pub(crate) fn add(
        &mut self,
        t: Slot,
        longest_s: i64,
        candidate: Counts,
        baseline: Counts,
        fixed: Fixed,
    ) -> Option<Group> {
        while self.slices.front().is_some_and(|s| s.t <= t - longest_s) {
            self.slices.pop_front();
        }
        self.slices.push_back(Slice { t, candidate, baseline, fixed });
        let sum = |f: fn(&Slice) -> u64| self.slices.iter().map(f).sum::<u64>();
        if sum(|s| s.candidate.requests) == 0 || sum(|s| s.baseline.requests) == 0 {
            return None;
        }
        let first = self.slices.pop_front()?;
        let mut group = Group {
            since: first.t,
            candidate: first.candidate,
            baseline: first.baseline,
            fixed: first.fixed,
        };
        for slice in self.slices.drain(..) {
            group.candidate.merge(&slice.candidate);
            group.baseline.merge(&slice.baseline);
        }
        Some(group)
    }

    /// First slot of the open group, as slot `t` finds it.
    #[cfg(test)]
    pub(crate) fn since(&self, t: Slot, longest_s: i64) -> Option<Slot> {
        self.slices.iter().map(|slice| slice.t).find(|first| *first > t - longest_s)
    }

    /// Drops the open group: at a change of form nothing is judged twice.
    pub(crate) fn clear(&mut self) {
        self.slices.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_match_the_vector() {
        let all: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/statistics-vectors.json")).unwrap();
        let v = &all["pairing"];
        let list = |v: &serde_json::Value| -> Vec<u64> {
            v.as_array().unwrap().iter().map(|x| x.as_u64().unwrap()).collect()
        };
        let fixed = Fixed {
            cuts: None,
            service: [1.0; 4],
            own: [1.0; 4],
            client_errors: 1.0,
            error_factor: 1.0,
            latency_extra: 0,
        };
        let counts = |requests| Counts { requests, ..Counts::default() };
        let (mut pairing, mut got) = (Pairing::default(), Vec::new());
        for (t, (n_c, n_b)) in list(&v["n_c"]).into_iter().zip(list(&v["n_b"])).enumerate() {
            if let Some(g) = pairing.add(t as i64, 10, counts(n_c), counts(n_b), fixed) {
                got.push(vec![g.since as u64, t as u64, g.candidate.requests, g.baseline.requests]);
            }
        }
        let want: Vec<Vec<u64>> = v["groups"].as_array().unwrap().iter().map(list).collect();
        assert_eq!(got, want);
    }
}
