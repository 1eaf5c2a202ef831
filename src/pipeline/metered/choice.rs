//! Which of the metrics of a service counts its requests. Several may count the same ones: the SDK's own
//! histograms under a new and a legacy name (`http/dup`), and what a Collector or a mesh makes of them.

use std::collections::BTreeSet;

use crate::model::{Class, Family};

/// Slots without a point of the chosen class after which another may be chosen.
const ABSENT_SLOTS: u32 = 4;

/// The class that counts for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::pipeline) struct Choice {
    class: Option<Class>,
    absent: u32,
}

impl Choice {
    pub(in crate::pipeline) fn class(self) -> Option<Class> {
        self.class
    }

    pub(in crate::pipeline) fn of(class: Option<Class>) -> Self {
        Self { class, absent: 0 }
    }

    /// Looks at the classes with points in a slot; `is_fixed` while a deployment is judged. Whether the choice
    /// changed from one class to another: nothing that was counted before can be compared then.
    pub(in crate::pipeline) fn look(&mut self, present: &BTreeSet<Class>, is_fixed: bool) -> bool {
        let Some(best) = present.first().copied() else { return false };
        let Some(chosen) = self.class else {
            self.class = Some(best);
            return false;
        };
        if present.contains(&chosen) {
            self.absent = 0;
        } else {
            self.absent += 1;
        }
        let is_over = best < chosen || self.absent >= ABSENT_SLOTS;
        if is_fixed || !is_over || best == chosen {
            return false;
        }
        *self = Self::of(Some(best));
        true
    }

    /// Whether a family of a version counts, given the families that the version has sent.
    pub(in crate::pipeline) fn counts(self, family: Family, sent: &BTreeSet<Family>) -> bool {
        let is_legacy_twin = family.present_name().is_some_and(|present| sent.contains(&present));
        self.class == Some(family.class()) && !is_legacy_twin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_class_counts_and_stands_while_it_is_judged() {
        let mut choice = Choice::default();
        let set = |list: &[Class]| list.iter().copied().collect::<BTreeSet<_>>();
        assert!(!choice.look(&set(&[]), false) && choice.class().is_none());
        assert!(!choice.look(&set(&[Class::SpanCalls]), false));
        assert!(!choice.look(&set(&[Class::Sdk, Class::SpanCalls]), true));
        assert_eq!(choice.class(), Some(Class::SpanCalls));
        assert!(choice.look(&set(&[Class::Sdk, Class::SpanCalls]), false));
        assert_eq!(choice.class(), Some(Class::Sdk));
        // A slot without points of it is no reason to change; several are.
        let looks: Vec<bool> = (0..5).map(|_| choice.look(&set(&[Class::SpanDuration]), false)).collect();
        assert_eq!(looks, [false, false, false, true, false]);
    }

    #[test]
    fn m6_the_legacy_name_counts_only_alone() {
        let choice = Choice::of(Some(Class::Sdk));
        let both = BTreeSet::from([Family::Http, Family::HttpLegacy, Family::RpcLegacy]);
        assert!(choice.counts(Family::Http, &both) && !choice.counts(Family::HttpLegacy, &both));
        assert!(choice.counts(Family::RpcLegacy, &both) && choice.counts(Family::Messaging, &both));
        assert!(!choice.counts(Family::SpanDuration, &both));
        assert!(choice.counts(Family::HttpLegacy, &BTreeSet::from([Family::HttpLegacy])));
    }
}
