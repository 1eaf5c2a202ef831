//! What the spans of a recording count for by the SLIs of the policy that it is judged by.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{InstanceId, Marks, Program, Slot, UnixNanos, part_bit, total_bit};
use crate::pipeline::arms::deaths;
use crate::verdict::{ALL_OPERATIONS, Cell, MeasuredCells, SlotInput};
use crate::window::Churn;

/// Something recorded that counts for measures.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordedMark {
    pub(super) service: u32,
    pub(super) version: u32,
    pub(super) instance: u32,
    /// The operation's number; `None` for spans that are no requests.
    pub(super) operation: Option<u32>,
    pub(super) start: UnixNanos,
    pub(super) end: UnixNanos,
    pub(super) bucket: i16,
    pub(super) marks: Marks,
    pub(super) amount: u64,
}

/// Which versions are judged, and what is known of them.
pub(super) struct MarkedArms<'a> {
    pub(super) service: u32,
    pub(super) baseline: u32,
    pub(super) candidate: u32,
    /// The candidate's first start.
    pub(super) first: Option<UnixNanos>,
    /// Numbers of instances in order of appearance, by version.
    pub(super) ordinals: &'a BTreeMap<(u32, u32), u32>,
    pub(super) operations: &'a [Arc<str>],
}

/// Puts the instances that live and those that died and were replaced into the slots of a recording.
pub(super) fn put_deaths(program: &Program, slots: &mut BTreeMap<Slot, SlotInput>) {
    let Some(key) = program.deaths() else { return };
    let (Some(from), Some(to)) = (slots.keys().next().copied(), slots.keys().next_back().copied()) else {
        return;
    };
    let mut churn: [Churn; 2] = Default::default();
    for t in from..=to {
        let mut input = slots.remove(&t).unwrap_or_default();
        for (churn, arm) in churn.iter_mut().zip([&mut input.candidate, &mut input.baseline]) {
            let toll = churn.close(t, arm.instances.iter().map(|seen| InstanceId(seen.ordinal)), true);
            arm.measures.extend(deaths(toll.living, toll.dead.len() as u64).map(|cells| (key, cells)));
        }
        slots.insert(t, input);
    }
}

/// Puts marks into the slots of a recording; what lies outside of its seconds is left out.
pub(super) fn put(
    marks: &[RecordedMark],
    program: &Program,
    arms: &MarkedArms<'_>,
    slots: &mut BTreeMap<Slot, SlotInput>,
) {
    let (Some(from), Some(to)) = (slots.keys().next().copied(), slots.keys().next_back().copied()) else {
        return;
    };
    let all: Arc<str> = ALL_OPERATIONS.into();
    for mark in marks.iter().filter(|mark| mark.service == arms.service) {
        let is_candidate = mark.version == arms.candidate;
        let slot = mark.end.slot();
        if !(is_candidate || mark.version == arms.baseline) || !(from..=to).contains(&slot) {
            continue;
        }
        let input = slots.entry(slot).or_default();
        let arm = if is_candidate { &mut input.candidate } else { &mut input.baseline };
        let is_old = !is_candidate && arms.first.is_some_and(|first| mark.start < first);
        let group = arms.ordinals.get(&(mark.version, mark.instance)).map_or(0, |n| *n as usize % 2);
        let mut rest = mark.marks;
        while rest != 0 {
            let number = (rest.trailing_zeros() / 2) as usize;
            rest &= !(total_bit(number) | part_bit(number));
            let Some(key) = program.key(number) else { continue };
            let by_operation = program.operations() & total_bit(number) != 0;
            let operation =
                mark.operation.filter(|_| by_operation).and_then(|n| arms.operations.get(n as usize));
            let cells = arm.measures.entry(key).or_insert_with(|| MeasuredCells {
                is_quantity: program.is_quantity(number),
                ..MeasuredCells::default()
            });
            let cells = if is_old { &mut cells.old } else { &mut cells.warm };
            let cell = cells.entry(Arc::clone(operation.unwrap_or(&all))).or_default();
            count(cell, if is_old { 0 } else { group }, mark, number, program);
        }
    }
}

fn count(cell: &mut Cell, group: usize, mark: &RecordedMark, number: usize, program: &Program) {
    let counts = &mut cell.groups[group];
    if mark.marks & total_bit(number) != 0 {
        counts.requests += 1;
        if program.latencies() & total_bit(number) != 0 {
            counts.latency.record(mark.bucket);
        }
    }
    if mark.marks & part_bit(number) != 0 {
        counts.bad = counts.bad.saturating_add(mark.amount);
    }
}
