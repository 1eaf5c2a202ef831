//! The measures of every service: what the SLIs of its policies count, each with a number that is never given to
//! another while the program runs, and the program that the walkers compare spans with. A measure whose SLI was
//! taken out of the policy goes on being counted, because a running deployment keeps the policy it began with.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::cohorts::ServiceCohorts;
use super::registry::lock;
use crate::model::{Measure, MeasureKey, Program, TooMany, UnixNanos, VersionId};
use crate::verdict::Dimension;
use crate::window::Wanted;

/// The measures of one service.
#[derive(Debug, Default)]
pub(crate) struct ServiceMeasures {
    admitted: Mutex<Vec<Measure>>,
    program: ArcSwapOption<Program>,
    /// Since when points are read for each of them, by number: what a counter holds from before came unread, and
    /// nobody knows when.
    reads_since: ArcSwap<Vec<UnixNanos>>,
    /// The same as it was before a restart, also of those that are not asked for yet.
    read_before: Mutex<BTreeMap<MeasureKey, UnixNanos>>,
    /// When metrics of a version came last, of whatever name: what no point says is 0 only where others came. Of at
    /// most as many versions as [`HEARD`].
    heard: Mutex<BTreeMap<VersionId, UnixNanos>>,
    /// Whether any service has a measure that metrics count, or dimensions; shared by all.
    any_metrics: Arc<AtomicBool>,
    /// What its requests are told apart by beside their operation.
    pub(super) cohorts: ServiceCohorts,
}

/// Versions of a service whose metrics are known to come; the one that was heard of least recently goes first.
const HEARD: usize = 256;

impl ServiceMeasures {
    /// No measures yet; `any_metrics` is set by the first that metrics count, or that tells them apart.
    pub(super) fn of(any_metrics: &Arc<AtomicBool>) -> Self {
        Self { any_metrics: Arc::clone(any_metrics), ..Self::default() }
    }

    /// Metrics of a version have come.
    pub(super) fn hear(&self, version: VersionId, now: UnixNanos) {
        let mut heard = lock(&self.heard);
        if heard.len() >= HEARD
            && !heard.contains_key(&version)
            && let Some(oldest) = heard.iter().min_by_key(|(_, at)| **at).map(|(id, _)| *id)
        {
            heard.remove(&oldest);
        }
        let last = heard.entry(version).or_default();
        *last = (*last).max(now);
    }

    /// Whether metrics of a version have come since `then`.
    pub(super) fn has_heard(&self, version: VersionId, then: UnixNanos) -> bool {
        lock(&self.heard).get(&version).is_some_and(|at| *at >= then)
    }

    /// What spans are compared with; `None` where there are no measures.
    pub(crate) fn program(&self) -> Option<Arc<Program>> {
        self.program.load_full()
    }

    /// Which measures want more than counts.
    pub(super) fn wanted(&self) -> Wanted {
        self.program.load().as_deref().map_or_else(Wanted::default, wanted)
    }

    /// Since when points are read for each measure, by its number.
    pub(super) fn reads_since(&self) -> Arc<Vec<UnixNanos>> {
        self.reads_since.load_full()
    }

    /// The same by key, to be kept.
    pub(super) fn read_so_far(&self) -> BTreeMap<MeasureKey, UnixNanos> {
        let admitted = lock(&self.admitted);
        admitted.iter().map(|measure| measure.key).zip(self.reads_since.load().iter().copied()).collect()
    }

    /// Goes on from before a restart: what was read then is not new now.
    pub(super) fn go_on(&self, read_before: BTreeMap<MeasureKey, UnixNanos>) {
        let admitted = lock(&self.admitted);
        let now = self.reads_since.load();
        let of =
            |(measure, now): (&Measure, &UnixNanos)| read_before.get(&measure.key).copied().unwrap_or(*now);
        self.reads_since.store(Arc::new(admitted.iter().zip(now.iter()).map(of).collect()));
        *lock(&self.read_before) = read_before;
    }

    /// What was read before a restart and is not read since is new when it is named again.
    pub(super) fn went_on(&self) {
        lock(&self.read_before).clear();
    }

    /// Makes measures known that are not yet, to be read from `now` on. One that finds no room is left out; the others
    /// are not.
    ///
    /// # Errors
    /// Those that found no room, and why.
    pub(super) fn admit<'a>(
        &self,
        measures: impl IntoIterator<Item = &'a Measure>,
        now: UnixNanos,
    ) -> Result<(), (Vec<MeasureKey>, TooMany)> {
        let mut admitted = lock(&self.admitted);
        let (mut refused, mut why, before) = (Vec::new(), None, admitted.len());
        for measure in measures {
            if admitted.iter().any(|known| known.key == measure.key) {
                continue;
            }
            admitted.push(measure.clone());
            if let Err(error) = self.compile(&admitted) {
                admitted.pop();
                refused.push(measure.key);
                why = Some(error);
            }
        }
        if admitted.len() > before
            && let Ok(program) = self.compile(&admitted)
        {
            let mut since = Vec::clone(&self.reads_since.load());
            let read_before = lock(&self.read_before);
            let fresh = admitted.iter().skip(since.len());
            since.extend(fresh.map(|measure| read_before.get(&measure.key).copied().unwrap_or(now)));
            self.reads_since.store(Arc::new(since));
            if !program.metric_measures().is_empty() {
                self.any_metrics.store(true, Ordering::Relaxed);
            }
            self.program.store(Some(Arc::new(program)));
        }
        why.map_or(Ok(()), |why| Err((refused, why)))
    }

    fn compile(&self, measures: &[Measure]) -> Result<Program, TooMany> {
        Program::with_dimensions(measures, &self.cohorts.attributes())
    }

    /// Makes dimensions known that are not yet. Answers those that found no room.
    pub(super) fn admit_dimensions<'a>(&self, dimensions: &'a [Dimension]) -> Vec<&'a str> {
        let admitted = lock(&self.admitted);
        let before = self.cohorts.attributes().len();
        let refused = self.cohorts.admit(dimensions);
        if self.cohorts.attributes().len() > before
            && let Ok(program) = self.compile(&admitted)
        {
            self.any_metrics.store(true, Ordering::Relaxed);
            self.program.store(Some(Arc::new(program)));
        }
        refused
    }
}

/// Which measures of a program want more than counts.
pub(super) fn wanted(program: &Program) -> Wanted {
    Wanted {
        latencies: program.latencies(),
        operations: program.operations(),
        instances: program.by_instance(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AttributeTest, Counted, MEASURES_MAX, Selection, ValueTest};

    fn measure(value: &str) -> Measure {
        let attributes =
            vec![AttributeTest { name: "a".into(), any: vec![ValueTest::new(value)], is_negated: false }];
        let counted = Counted::Latency { total: Selection { attributes, ..Selection::default() } };
        Measure { key: MeasureKey::of(value), counted }
    }

    fn at(seconds: u64) -> UnixNanos {
        UnixNanos::from_secs(seconds)
    }

    #[test]
    fn a_measure_is_read_since_it_was_admitted_also_after_a_restart() {
        let measures = ServiceMeasures::default();
        measures.admit([&measure("x")], at(5)).unwrap();
        measures.admit([&measure("x"), &measure("y")], at(9)).unwrap();
        assert_eq!(*measures.reads_since(), [at(5), at(9)]);
        let kept = measures.read_so_far();
        let after = ServiceMeasures::default();
        after.admit([&measure("new"), &measure("y")], at(20)).unwrap();
        after.go_on(kept);
        after.admit([&measure("x")], at(21)).unwrap();
        assert_eq!(*after.reads_since(), [at(20), at(9), at(5)]);
        assert_eq!(after.read_so_far().len(), 3);
    }

    #[test]
    fn numbers_stay_and_what_finds_no_room_is_named() {
        let measures = ServiceMeasures::default();
        assert!(measures.program().is_none());
        assert_eq!(measures.admit([&measure("x"), &measure("y")], at(5)), Ok(()));
        let before = measures.program().unwrap();
        assert_eq!(measures.admit([&measure("y"), &measure("x")], at(9)), Ok(()));
        assert!(Arc::ptr_eq(&before, &measures.program().unwrap()), "nothing new, nothing compiled");
        let many: Vec<Measure> = (0..MEASURES_MAX).map(|i| measure(&format!("v{i}"))).collect();
        let (refused, why) = measures.admit(&many, at(9)).unwrap_err();
        assert_eq!((refused.len(), why), (2, TooMany::Measures));
        let program = measures.program().unwrap();
        assert_eq!(program.number(MeasureKey::of("y")), Some(1));
        assert_eq!(program.key(0), Some(MeasureKey::of("x")));
        assert_eq!(program.number(MeasureKey::of(&format!("v{}", MEASURES_MAX - 1))), None);
    }
}
