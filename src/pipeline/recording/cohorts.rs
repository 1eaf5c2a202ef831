//! The requests of a recording told apart by the dimensions of the policy that it is judged by. Which values are told
//! apart where there are more than fit is decided by the time at which they come and not by their place in the files,
//! so the order of spans in these does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{NO_INSTANCE, Ordinals, Recorded, place};
use crate::model::{DIMENSIONS_MAX, DimensionTexts, Slot, UnixNanos};
use crate::pipeline::cohorts::ServiceCohorts;
use crate::verdict::{CohortArm, Dimension, SlotInput};

/// Combinations of values, by number.
#[derive(Debug, Default)]
pub(super) struct RecordedValues {
    numbers: BTreeMap<[Vec<u8>; DIMENSIONS_MAX], u32>,
    texts: Vec<DimensionTexts>,
}

impl RecordedValues {
    pub(super) fn number(&mut self, texts: &DimensionTexts) -> u32 {
        if let Some(number) = self.numbers.get(texts.all()) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.numbers.insert(texts.all().clone(), number);
        self.texts.push(texts.clone());
        number
    }

    pub(super) fn get(&self, number: u32) -> Option<&DimensionTexts> {
        self.texts.get(number as usize)
    }
}

/// What places the requests of a recording.
pub(super) struct Placing<'a> {
    pub(super) candidate: u32,
    /// The candidate's first start.
    pub(super) first: Option<UnixNanos>,
    pub(super) ordinals: &'a Ordinals,
    pub(super) operations: &'a [Arc<str>],
}

/// Tells the requests in `slots` apart by cohort, as [`crate::pipeline`] does those that arrive: an instance counts
/// whole in each cohort that it has served so far.
pub(super) fn put(
    spans: &[Recorded],
    values: &RecordedValues,
    dimensions: &[Dimension],
    placing: &Placing<'_>,
    slots: &mut BTreeMap<Slot, SlotInput>,
) {
    let known = ServiceCohorts::default();
    known.admit(dimensions);
    let mut by_end: Vec<(&Recorded, &DimensionTexts)> =
        spans.iter().filter_map(|span| Some((span, values.get(span.values?)?))).collect();
    by_end.sort_by(|(a, x), (b, y)| (a.end, x.all()).cmp(&(b.end, y.all())));
    let mut served: BTreeMap<(bool, Arc<str>), BTreeSet<u32>> = BTreeMap::new();
    for of_slot in by_end.chunk_by(|(a, _), (b, _)| a.end.slot() == b.end.slot()) {
        let Some(input) = of_slot.first().and_then(|(span, _)| slots.get_mut(&span.end.slot())) else {
            continue;
        };
        for (span, texts) in of_slot {
            let Some(cohort) = known.of(texts) else { continue };
            let is_candidate = span.version == placing.candidate;
            let ordinal = (span.instance != NO_INSTANCE)
                .then(|| placing.ordinals.get(&(span.version, span.instance)).copied())
                .flatten();
            let arm = if is_candidate { &mut input.candidate } else { &mut input.baseline };
            let operation = &placing.operations[span.operation as usize];
            let is_old = !is_candidate && placing.first.is_some_and(|first| span.start < first);
            let single = cohort.each.len() == 1;
            for label in cohort.each.iter().chain((!single).then_some(&cohort.joint)) {
                let one: &mut CohortArm = arm.cohorts.entry(Arc::clone(label)).or_default();
                one.is_joint = single || *label == cohort.joint;
                let old = is_old.then_some(&mut one.started_before);
                place(span, operation, ordinal, &mut one.arm, old);
                served.entry((is_candidate, Arc::clone(label))).or_default().extend(ordinal);
            }
        }
        for (is_candidate, arm) in [(false, &mut input.baseline), (true, &mut input.candidate)] {
            for (label, one) in &mut arm.cohorts {
                let Some(served) = served.get(&(is_candidate, Arc::clone(label))) else { continue };
                let all = arm.instances.iter();
                one.arm.instances = all.filter(|seen| served.contains(&seen.ordinal)).copied().collect();
            }
        }
    }
}
