//! When each instance of a version was first and last seen. From it follow warm-up (an instance's first
//! seconds are kept apart), the two groups that measure how clustered errors are, and the number of
//! instances that serve now.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::FixedState;

use super::open::Placement;
use crate::model::{InstanceId, Observation, Slot};

/// Instances of one version. Bounded by the registry's cap on instances.
#[derive(Debug, Default)]
pub struct Instances {
    /// The ids are ours, so a fixed seed is safe.
    seen: HashMap<InstanceId, Seen, FixedState>,
    /// First slot of the version, whoever sent it.
    first: Option<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    first: Slot,
    last: Slot,
    group: u8,
}

impl Instances {
    /// No instance yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a span; answers whether its instance is new. `ordinal` is the instance's place in its
    /// version's order of appearance.
    pub fn note(&mut self, o: &Observation, ordinal: u32) -> bool {
        self.note_at(o.instance, o.end.slot(), ordinal)
    }

    /// The same for an instance that shows in `slot` by other means than a span.
    pub fn note_at(&mut self, instance: InstanceId, slot: Slot, ordinal: u32) -> bool {
        self.first = Some(self.first.map_or(slot, |first| first.min(slot)));
        if instance == InstanceId::UNKNOWN {
            return false;
        }
        let group = (ordinal & 1) as u8;
        let known = self.seen.len();
        let seen = self.seen.entry(instance).or_insert(Seen { first: slot, last: slot, group });
        seen.first = seen.first.min(slot);
        seen.last = seen.last.max(slot);
        self.seen.len() > known
    }

    /// The cell of a span: young within the first `warmup_s` seconds of its instance, or of the version
    /// where no instance is named. Seconds are whole slots, so that all spans of a slot agree.
    pub fn placement(&self, instance: InstanceId, slot: Slot, warmup_s: i64) -> Placement {
        let seen = self.seen.get(&instance);
        let first = seen.map(|seen| seen.first).or(self.first).unwrap_or(slot);
        Placement { young: slot < first + warmup_s, group: seen.map_or(0, |seen| seen.group) }
    }

    /// The first slot in which an instance was seen.
    pub fn first_of(&self, instance: InstanceId) -> Option<Slot> {
        self.seen.get(&instance).map(|seen| seen.first)
    }

    /// First slot of the version.
    pub fn first_slot(&self) -> Option<Slot> {
        self.first
    }

    /// Says that the version was seen before, as known from before a restart: its warm-up does not begin
    /// anew.
    pub fn seen_since(&mut self, slot: Slot) {
        self.first = Some(self.first.map_or(slot, |first| first.min(slot)));
    }

    /// Number of instances that were ever seen, as far as they are still known.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether no instance was named so far.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Number of instances with a span in `slot` or later.
    pub fn active_since(&self, slot: Slot) -> usize {
        self.seen.values().filter(|seen| seen.last >= slot).count()
    }

    /// The instances that were there in the slot of `slot_s` seconds or the one before, here or in `other`, or that have
    /// `sent` something, and were past their warm-up all through the interval that ends in the slot; with their groups.
    pub fn warm(
        &self,
        other: &Self,
        slot: Slot,
        slot_s: i64,
        warmup_s: i64,
        sent: &BTreeSet<InstanceId>,
    ) -> BTreeMap<InstanceId, usize> {
        // An interval that ends in the slot began up to an interval before it.
        let reach = if warmup_s > 0 { warmup_s + slot_s } else { 0 };
        let mut all: HashMap<InstanceId, Seen, FixedState> = self.seen.clone();
        for (id, seen) in &other.seen {
            let known = all.entry(*id).or_insert(*seen);
            (known.first, known.last) = (known.first.min(seen.first), known.last.max(seen.last));
        }
        let is_there = |id: &InstanceId, seen: &Seen| seen.last >= slot - slot_s || sent.contains(id);
        let warm = all.iter().filter(|(id, seen)| seen.first + reach <= slot && is_there(id, seen));
        warm.map(|(id, seen)| (*id, usize::from(seen.group.min(1)))).collect()
    }

    /// Whether every instance with a span in `slot` or later is within its warm-up at `now`.
    pub fn all_young(&self, slot: Slot, now: Slot, warmup_s: i64) -> bool {
        let mut active = self.seen.values().filter(|seen| seen.last >= slot).peekable();
        active.peek().is_some() && active.all(|seen| now < seen.first + warmup_s)
    }

    /// Forgets instances without a span since `slot`.
    pub fn forget_before(&mut self, slot: Slot) {
        self.seen.retain(|_, seen| seen.last >= slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::open::tests::observation;

    #[test]
    fn young_ends_with_the_warm_up_of_the_instance() {
        let mut instances = Instances::new();
        for (instance, second, ordinal) in [(7, 100, 0), (8, 130, 1), (7, 140, 0), (8, 128, 1)] {
            instances.note(&observation(1, instance, second), ordinal);
        }
        for (instance, slot, young, group) in [
            (7, 100, true, 0),
            (7, 159, true, 0),
            (7, 160, false, 0),
            (8, 187, true, 1),
            (8, 188, false, 1),
            (u32::MAX, 159, true, 0),
            (u32::MAX, 160, false, 0),
        ] {
            let got = instances.placement(InstanceId(instance), slot, 60);
            assert_eq!(got, Placement { young, group }, "{instance} at {slot}");
        }
        assert!(!instances.placement(InstanceId(7), 100, 0).young);
        assert_eq!((instances.active_since(131), instances.active_since(130)), (1, 2));
        assert!(instances.all_young(130, 150, 60) && !instances.all_young(130, 170, 60));
        instances.forget_before(135);
        assert_eq!(instances.len(), 1);
    }

    #[test]
    fn seconds_of_an_instance_begin_with_the_first_interval_after_its_warm_up() {
        let (mut spans, mut metrics) = (Instances::new(), Instances::new());
        spans.note_at(InstanceId(1), 100, 0);
        spans.note_at(InstanceId(1), 400, 0);
        // By its metrics it began before it served.
        spans.note_at(InstanceId(2), 130, 1);
        metrics.note_at(InstanceId(2), 100, 1);
        metrics.note_at(InstanceId(2), 180, 1);
        let sent = |ids: &[u32]| ids.iter().map(|id| InstanceId(*id)).collect();
        let warm = |slot, warmup_s, ids: &[u32]| {
            let warm = spans.warm(&metrics, slot, 15, warmup_s, &sent(ids));
            warm.into_iter().map(|(id, group)| (id.0, group)).collect::<Vec<_>>()
        };
        assert_eq!(warm(165, 60, &[]), [], "an interval that ends in it may have begun in the warm-up");
        assert_eq!(warm(180, 60, &[]), [(1, 0), (2, 1)]);
        assert_eq!(warm(240, 60, &[]), [(1, 0)]);
        assert_eq!(warm(240, 60, &[2]), [(1, 0), (2, 1)], "who sends is there");
        assert_eq!(warm(105, 0, &[]), [(1, 0), (2, 1)], "without a warm-up at once");
    }
}
