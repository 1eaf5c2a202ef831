//! What the metrics of a recording count for by the SLIs of the policy that it is judged by. The rules are those of a
//! gateway that runs; what it knows when an interval closes is looked up in the whole recording here.

use std::collections::{BTreeMap, BTreeSet};

use super::Ordinals;
use crate::histogram::Form;
use crate::model::{Completion, InstanceId, Marks, Program, Slot};
use crate::pipeline::metered::{by_group, measured_cells, requests_behind, requests_by_group};
use crate::verdict::{Arm, SlotInput, Timing};
use crate::window::MeasuredInterval;

/// What is known beside the points: the program, the spans, and which instances they name. Of two, the first is the
/// baseline.
pub(super) struct Beside<'a> {
    pub(super) program: &'a Program,
    spans: &'a BTreeMap<Slot, SlotInput>,
    /// Numbers of the instances that have spans; those that only send metrics come after them.
    pub(super) ordinals: [BTreeMap<InstanceId, u32>; 2],
}

/// What is known of the intervals of both versions.
pub(super) struct Intervals<'a> {
    pub(super) timing: Timing,
    /// Whether metrics count requests, so that rates are per request of those.
    pub(super) counts_requests: bool,
    pub(super) margin: i32,
    pub(super) ordinals: &'a [BTreeMap<InstanceId, u32>; 2],
    pub(super) heard: &'a Heard,
}

/// In which slots metrics of each version came, and each of its instances was there.
#[derive(Debug, Default)]
pub(super) struct Heard {
    slots: [BTreeSet<Slot>; 2],
    instances: [BTreeMap<InstanceId, Seen>; 2],
}

/// When an instance was heard of.
#[derive(Debug, Clone, Default)]
struct Seen {
    first: Slot,
    slots: BTreeSet<Slot>,
}

impl Seen {
    fn note(&mut self, t: Slot, timing: Timing) {
        self.first = if self.slots.is_empty() { t } else { self.first.min(t) };
        self.slots.insert(timing.slot_of(t));
    }
}

impl Heard {
    /// `exported` are the times of points, `served` the instances with the begin of an interval that they counted in; both
    /// with whether they are the candidate's.
    pub(super) fn new(
        exported: impl Iterator<Item = (bool, Slot)>,
        served: impl Iterator<Item = (bool, InstanceId, Slot)>,
        timing: Timing,
    ) -> Self {
        let mut heard = Self::default();
        for (is_candidate, second) in exported {
            heard.slots[usize::from(is_candidate)].insert(timing.slot_of(second));
        }
        for (is_candidate, instance, second) in served.filter(|(_, id, _)| *id != InstanceId::UNKNOWN) {
            let instances = &mut heard.instances[usize::from(is_candidate)];
            instances.entry(instance).or_default().note(second, timing);
        }
        heard
    }
}

impl<'a> Beside<'a> {
    pub(super) fn new(
        program: &'a Program,
        spans: &'a BTreeMap<Slot, SlotInput>,
        ordinals: &Ordinals,
        (baseline, candidate): (u32, u32),
    ) -> Self {
        let of = |wanted: u32| {
            let own = ordinals.iter().filter(|((version, _), _)| *version == wanted);
            own.map(|((_, instance), ordinal)| (InstanceId(*instance), *ordinal)).collect()
        };
        Self { program, spans, ordinals: [of(baseline), of(candidate)] }
    }

    /// Adds to each slot what its points count for measures.
    pub(super) fn put(
        &self,
        counted: &[(Slot, [MeasuredInterval; 2])],
        known: &Intervals<'_>,
        slots: &mut BTreeMap<Slot, SlotInput>,
    ) {
        let seen = self.seen(known);
        let forms = self.forms(counted, known.margin);
        let slot_s = known.timing.slot_s();
        let mut shown: [Marks; 2] = [0; 2];
        for (slot, arms) in counted {
            shown.iter_mut().zip(arms).for_each(|(shown, counted)| *shown |= counted.seen());
            let input = slots.entry(*slot).or_default();
            for (i, arm) in [&mut input.baseline, &mut input.candidate].into_iter().enumerate() {
                let warm = warm(&seen[i], &known.ordinals[i], &arms[i], *slot, slot_s);
                let is_heard = [*slot, *slot + slot_s].iter().any(|t| known.heard.slots[i].contains(t));
                for measure in self.program.metric_measures() {
                    let exposure = match measure.completion {
                        Completion::PerSecond if is_heard => {
                            by_group(warm.values().map(|group| (*group, slot_s.unsigned_abs())))
                        }
                        Completion::PerRequest if known.counts_requests => requests_by_group(&arm.warm),
                        Completion::PerRequest if is_heard => self.requests_behind(i, *slot, slot_s),
                        _ => [0; 2],
                    };
                    let has_shown = |marks: Marks| marks & measure.bits() != 0;
                    // The candidate knows what the baseline has shown.
                    let of_before = (i == 1 && has_shown(shown[0])).then_some(false);
                    let shown = if has_shown(shown[i]) { Some(true) } else { of_before };
                    let form = forms.get(&measure.number);
                    if let Some(cells) = measured_cells(measure, &arms[i], &warm, exposure, form, shown) {
                        arm.measures.insert(measure.key, cells);
                    }
                }
            }
        }
    }

    /// When instances were heard of, by their spans or metrics.
    fn seen(&self, known: &Intervals<'_>) -> [BTreeMap<InstanceId, Seen>; 2] {
        [0, 1].map(|i| {
            let mut seen = known.heard.instances[i].clone();
            let names: BTreeMap<u32, InstanceId> =
                self.ordinals[i].iter().map(|(instance, ordinal)| (*ordinal, *instance)).collect();
            for (t, input) in self.spans {
                for one in &arm(input, i).instances {
                    if let Some(instance) = names.get(&one.ordinal) {
                        seen.entry(*instance).or_default().note(*t, known.timing);
                    }
                }
            }
            seen
        })
    }

    /// Requests of spans that the intervals which end in a slot are about.
    fn requests_behind(&self, i: usize, slot: Slot, slot_s: i64) -> [u64; 2] {
        let around = self.spans.range(slot - slot_s..=slot + slot_s);
        let requests = around.map(|(t, input)| (*t, requests_by_group(&arm(input, i).warm)));
        requests_behind(requests, slot, slot_s)
    }

    /// The buckets that the latencies of each measure share all through the recording.
    fn forms(&self, counted: &[(Slot, [MeasuredInterval; 2])], margin: i32) -> BTreeMap<u8, Form> {
        let wanted = self.program.metric_measures().iter().filter(|m| m.completion == Completion::Latencies);
        let form = |number: u8| {
            let mut form = Form::default();
            counted.iter().flat_map(|(_, arms)| arms).for_each(|arm| arm.admit(number, &mut form, margin));
            form
        };
        wanted.map(|measure| (measure.number, form(measure.number))).collect()
    }
}

/// Instances that were there all through an interval that ends in a slot, or the one before, with their groups.
fn warm(
    seen: &BTreeMap<InstanceId, Seen>,
    ordinals: &BTreeMap<InstanceId, u32>,
    counted: &MeasuredInterval,
    slot: Slot,
    slot_s: i64,
) -> BTreeMap<InstanceId, usize> {
    let sent = counted.instances();
    let is_there = |id: &InstanceId, seen: &Seen| {
        sent.contains(id) || [slot - slot_s, slot].iter().any(|t| seen.slots.contains(t))
    };
    let there = seen.iter().filter(|(id, seen)| seen.first <= slot && is_there(id, seen));
    there.map(|(id, _)| (*id, ordinals.get(id).map_or(0, |ordinal| *ordinal as usize % 2))).collect()
}

fn arm(input: &SlotInput, i: usize) -> &Arm {
    if i == 0 { &input.baseline } else { &input.candidate }
}
