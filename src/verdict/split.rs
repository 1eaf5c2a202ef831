//! Operations split by the cohorts of their requests. Two versions that serve the same operations may serve them to
//! different regions or kinds of clients; within one value of every dimension they are alike. A part stands on its own
//! only while both versions had enough requests in it, else it is pooled with the others that had not. Which it is is
//! looked at every ten seconds, by the totals of the slots before.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cohort::{MixShift, Rolling, cohort_parts, is_joint};
use super::input::{Arm, Cell, SlotInput};
use super::judge::{Judge, OperationState};
use super::memory::Memory;
use super::stratum::REFRESH_S;
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

/// Parts of one deployment; further ones stay pooled.
const PARTS_MAX: usize = 256;

/// Operation and label of the combination of values.
pub(crate) type PartKey = (Arc<str>, Arc<str>);

/// One operation in one combination of values.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Part {
    rolling: Rolling,
    pub(crate) is_split: bool,
    pub(super) state: OperationState,
}

snapshot_fields!(Part { rolling, is_split, state });

impl Judge {
    /// Splits parts and pools them, before slot `t` is judged.
    pub(super) fn look_at_parts(&mut self, t: Slot, memory: &Memory) {
        if self.parts.is_empty() || t % self.timing.whole(REFRESH_S) != 0 {
            return;
        }
        for ((operation, label), part) in &mut self.parts {
            let is_known = memory.cohort(label).is_some_and(|one| one.strata.contains_key(operation));
            let is_thick = part.rolling.is_thick(t) && is_known;
            if is_thick != part.is_split {
                part.is_split = is_thick;
                // Nothing is judged twice, and nothing by two rules.
                part.state.pairing.clear();
                if let Some(pooled) = self.operations.get_mut(operation) {
                    pooled.pairing.clear();
                }
            }
        }
        self.parts.retain(|_, part| part.is_split || !part.rolling.is_empty());
    }

    /// After judging: counts the requests of a slot in each part and in each value.
    pub(super) fn count_parts(&mut self, t: Slot, input: &SlotInput) {
        if self.policy.dimensions.is_empty() {
            return;
        }
        let mut parts: BTreeMap<PartKey, [u64; 2]> = BTreeMap::new();
        for (side, arm) in [&input.candidate, &input.baseline].into_iter().enumerate() {
            for (label, cohort) in &arm.cohorts {
                if cohort.is_joint {
                    for (operation, cell) in &cohort.arm.warm {
                        let key = (Arc::clone(operation), Arc::clone(label));
                        parts.entry(key).or_default()[side] += cell.requests();
                    }
                }
                if self.policy.has_dimension(cohort_parts(label).0) && !is_joint(label) && !self.gone {
                    let warm = cohort.arm.warm.values().map(Cell::requests).sum::<u64>();
                    self.values.entry(Arc::clone(label)).or_default()[side] += warm;
                }
            }
        }
        for (key, requests) in parts {
            if self.parts.len() < PARTS_MAX || self.parts.contains_key(&key) {
                self.parts.entry(key).or_default().rolling.add(t, requests);
            }
        }
    }

    /// The largest difference between what the versions serve, by operation or by a dimension.
    pub(crate) fn mix_shift(&self) -> Option<MixShift> {
        let operations = self.operations.iter().map(|(name, state)| (&**name, state.compared));
        let of_operations = MixShift::of("operation", operations);
        let of_dimensions = self.policy.dimensions.iter().filter_map(|dimension| {
            let of_dimension = |(label, counts): (&Arc<str>, &[u64; 2])| {
                let (attribute, _) = cohort_parts(label);
                (attribute == dimension.attribute).then_some(*counts)
            };
            let values = self.values.iter();
            let values = values.filter_map(|one| Some((cohort_parts(one.0).1, of_dimension(one)?)));
            MixShift::of(&dimension.attribute, values)
        });
        of_operations.into_iter().chain(of_dimensions).max_by(|a, b| a.distance.total_cmp(&b.distance))
    }
}

/// The parts of an operation that stand on their own.
pub(super) fn of_operation(parts: &BTreeMap<PartKey, Part>, operation: &Arc<str>) -> Vec<PartKey> {
    if parts.is_empty() {
        return Vec::new();
    }
    let from = (Arc::clone(operation), Arc::from(""));
    let own = parts.range(from..).take_while(|((name, _), _)| name == operation);
    own.filter(|(_, part)| part.is_split).map(|(key, _)| key.clone()).collect()
}

/// What is left of an operation without the parts that stand on their own; `None` without requests.
pub(super) fn rest(arm: &Arm, operation: &Arc<str>, split: &[PartKey]) -> Option<Cell> {
    let mut rest = Cell::default();
    for (label, cohort) in arm.cohorts.iter().filter(|(_, cohort)| cohort.is_joint) {
        if !split.iter().any(|(_, other)| other == label)
            && let Some(cell) = cohort.arm.warm.get(operation)
        {
            rest.merge(cell);
        }
    }
    (rest.requests() > 0).then_some(rest)
}

/// An operation in one combination of values.
pub(super) fn part<'a>(arm: &'a Arm, (operation, label): &PartKey) -> Option<&'a Cell> {
    arm.cohorts.get(label)?.arm.warm.get(operation)
}
