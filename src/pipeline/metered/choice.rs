//! Which of the metrics of a service counts its requests. Several may count the same ones: the SDK's own
//! histograms under a new and a legacy name (`http/dup`), and what a Collector or a mesh makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::deployment::is_version;
use crate::model::{Class, Family};

/// Slots without a point of the chosen class after which another may be chosen; and for which a version that sent
/// a class still counts as one that does, for versions export at moments of their own.
const ABSENT_SLOTS: u32 = 4;

/// The class that counts for a service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::pipeline) struct Choice {
    class: Option<Class>,
    /// By version, the classes of its points, and in how many slots ago they came last.
    sent: BTreeMap<Arc<str>, BTreeMap<Class, u32>>,
    /// Slots that were looked at.
    looks: u32,
}

impl Choice {
    pub(in crate::pipeline) fn class(&self) -> Option<Class> {
        self.class
    }

    pub(in crate::pipeline) fn of(class: Option<Class>) -> Self {
        Self { class, ..Self::default() }
    }

    /// Notes the classes with points of a version in the slot that is to be looked at.
    pub(in crate::pipeline) fn note(&mut self, version: &Arc<str>, present: impl Iterator<Item = Class>) {
        for class in present {
            if !self.sent.contains_key(version) {
                self.sent.insert(Arc::clone(version), BTreeMap::new());
            }
            self.sent.entry(Arc::clone(version)).or_default().insert(class, 0);
        }
    }

    /// Chooses anew: the best class that all versions send, or else that any does; `is_fixed` while a deployment
    /// waits for its verdict. Whether the choice changed from one class to another: nothing that was counted before
    /// can be compared then.
    pub(in crate::pipeline) fn look(&mut self, is_fixed: bool) -> bool {
        let best = self.best();
        for classes in self.sent.values_mut() {
            classes.retain(|_, age| {
                *age += 1;
                *age < ABSENT_SLOTS
            });
        }
        self.sent.retain(|_, classes| !classes.is_empty());
        self.looks = self.looks.saturating_add(1);
        let Some(best) = best else { return false };
        let Some(chosen) = self.class else {
            self.class = Some(best);
            return false;
        };
        // After a restart not every version has exported yet.
        if is_fixed || best == chosen || self.looks < ABSENT_SLOTS {
            return false;
        }
        self.class = Some(best);
        true
    }

    /// What carries no version has a say only where nothing carries one.
    fn best(&self) -> Option<Class> {
        let has_versions = self.sent.keys().any(|label| is_version(label));
        let heard = self.sent.iter().filter(|(label, _)| is_version(label) || !has_versions);
        let mut each = heard.map(|(_, classes)| classes.keys().copied().collect::<BTreeSet<_>>());
        let first = each.next()?;
        let (mut all, mut any) = (first.clone(), first);
        for classes in each {
            all.retain(|class| classes.contains(class));
            any.extend(classes);
        }
        all.first().or(any.first()).copied()
    }

    /// Whether a family of a version counts, given the families that the version has sent.
    pub(in crate::pipeline) fn counts(&self, family: Family, sent: &BTreeSet<Family>) -> bool {
        let is_legacy_twin = family.present_name().is_some_and(|present| sent.contains(&present));
        self.class == Some(family.class()) && !is_legacy_twin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a slot in which versions sent these classes.
    fn look(choice: &mut Choice, slot: &[(&str, &[Class])], is_fixed: bool) -> bool {
        for (version, classes) in slot {
            choice.note(&Arc::from(*version), classes.iter().copied());
        }
        choice.look(is_fixed)
    }

    #[test]
    fn the_best_class_counts_and_stands_while_it_is_judged() {
        let mut choice = Choice::default();
        let (sdk, calls) = (Class::Sdk, Class::SpanCalls);
        assert!(!look(&mut choice, &[], false) && choice.class().is_none());
        for _ in 0..4 {
            assert!(!look(&mut choice, &[("v1", &[calls])], false));
        }
        assert!(!look(&mut choice, &[("v1", &[sdk, calls])], true));
        assert_eq!(choice.class(), Some(calls));
        assert!(look(&mut choice, &[("v1", &[sdk, calls])], false));
        assert_eq!(choice.class(), Some(sdk));
        // A slot without points of it is no reason to change; several are.
        let looks: Vec<bool> =
            (0..5).map(|_| look(&mut choice, &[("v1", &[Class::SpanDuration])], false)).collect();
        assert_eq!(looks, [false, false, false, true, false]);
    }

    #[test]
    fn what_all_versions_send_comes_first() {
        let mut choice = Choice::default();
        let (sdk, spans) = (Class::Sdk, Class::SpanDuration);
        for _ in 0..4 {
            look(&mut choice, &[("v1", &[sdk, spans])], false);
        }
        assert_eq!(choice.class(), Some(sdk));
        assert!(look(&mut choice, &[("v1", &[sdk, spans]), ("v2", &[spans])], false));
        // They export at moments of their own: a slot without v2 is no slot without its metrics.
        let alternating = |i: i32| -> &[(&str, &[Class])] {
            if i % 2 == 0 {
                &[("v1", &[Class::Sdk, Class::SpanDuration])]
            } else {
                &[("v2", &[Class::SpanDuration])]
            }
        };
        assert!((0..8).all(|i| !look(&mut choice, alternating(i), false)));
        assert_eq!(choice.class(), Some(spans));
        // A stray sender without a version changes nothing.
        assert!(!(0..8).any(|_| look(&mut choice, &[("v1", &[spans]), ("(unversioned)", &[sdk])], false)));
        // Nothing in common: the best of any.
        let mut apart = Choice::default();
        look(&mut apart, &[("v1", &[spans]), ("v2", &[sdk])], false);
        assert_eq!(apart.class(), Some(sdk));
    }

    #[test]
    fn after_a_restart_the_choice_waits_for_all_versions() {
        let mut choice = Choice::of(Some(Class::SpanDuration));
        for _ in 0..3 {
            assert!(!look(&mut choice, &[("v1", &[Class::Sdk, Class::SpanDuration])], false));
        }
        assert!(look(&mut choice, &[("v1", &[Class::Sdk, Class::SpanDuration])], false));
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
