//! Gauges that SLIs read: what instances show while they are young goes to the deployments of their version, and is
//! remembered of the service for those to come. Points have no slots; what they say is taken in as they come, and each
//! observation is handed on at the next tick.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::sync::Arc;

use super::engine::{Engine, Place, instance_meta};
use super::ledger::Disposition;
use super::passage::Signal;
use super::running::Running;
use super::service::Service;
use super::version::Version;
use crate::deployment::is_version;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer};
use crate::model::{
    Level, MeasureKey, PointObservation, Program, Shape, Slot, StreamMeta, UnixNanos, VersionId, total_bit,
};
use crate::verdict::AgeMemory;
use crate::window::{AgePoint, Ages, Observed, Placed, Read};

/// The gauges of one service.
#[derive(Debug, Default)]
pub(super) struct ServiceGauges {
    /// Of living versions.
    ages: BTreeMap<Arc<str>, Ages>,
    /// What starts of the service showed.
    memory: BTreeMap<MeasureKey, AgeMemory>,
    /// Measures of which a point came.
    pub(super) shown: BTreeSet<MeasureKey>,
    /// What is not handed on yet.
    observed: Vec<(Arc<str>, Observed)>,
}

/// Whose a point of a gauge is.
pub(super) struct LevelPlace<'a> {
    meta: &'a StreamMeta,
    /// The name of its instance.
    instance: Option<u64>,
}

/// Points of gauges of one version, one after the other.
pub(super) struct LevelRun<'a> {
    label: &'a Arc<str>,
    version: &'a mut Version,
    gauges: &'a mut ServiceGauges,
    program: Arc<Program>,
    listening_since: Slot,
    /// By number of the measure.
    reads_since: Arc<Vec<UnixNanos>>,
}

impl LevelRun<'_> {
    fn observe(&mut self, place: &LevelPlace<'_>, point: &PointObservation, level: Level) -> Disposition {
        let Self { label, version, gauges, program, listening_since, reads_since } = self;
        version.touched = version.touched.max(point.arrival);
        let ServiceGauges { ages, shown, observed, .. } = &mut **gauges;
        let known = match ages.get_mut(*label) {
            Some(known) => known,
            None => {
                let back = std::mem::take(&mut version.came_back);
                let fresh =
                    || if back { Ages::came_back(point.time, point.arrival) } else { Ages::default() };
                ages.entry(Arc::clone(label)).or_insert_with(fresh)
            }
        };
        let marks = place.meta.marks;
        let counts =
            |measure: &&crate::model::MetricMeasure| marks & total_bit(usize::from(measure.number)) != 0;
        let listening_since = *listening_since;
        let since = |number: u8| {
            let read = reads_since.get(usize::from(number)).map_or(listening_since, |since| since.slot());
            read.max(listening_since)
        };
        let counted = program.metric_measures().iter().filter(counts);
        let measures = counted.map(|measure| (measure.key, since(measure.number)));
        shown.extend(measures.clone().map(|(key, _)| key));
        let point = AgePoint {
            stream: place.meta.key,
            // What carries no version is nobody's start.
            instance: place.instance.filter(|_| is_version(label)),
            heard_of: version.heard_of(place.meta.instance),
            start: point.start,
            time: point.time,
            arrival: point.arrival,
            value: level.value(),
        };
        let mut complete = Vec::new();
        let became = known.read(&point, measures, &mut complete);
        observed.extend(complete.into_iter().map(|one| (Arc::clone(label), one)));
        match became {
            Read::Placed(Placed::Counted) => Disposition::Aggregated,
            Read::Placed(Placed::Late) => Disposition::Late,
            Read::Placed(Placed::Future) => Disposition::Future,
            Read::Duplicate => Disposition::Duplicate,
        }
    }
}

impl Service {
    fn level_run<'a>(&'a mut self, label: &'a Arc<str>) -> Option<LevelRun<'a>> {
        let program = self.measures.program()?;
        let listening_since = self.watched_since.slot().max(self.gone_not_before);
        let reads_since = self.measures.reads_since();
        let version = &mut **self.versions.get_mut(label)?;
        let gauges = self.gauges.get_or_insert_default();
        Some(LevelRun { label, version, gauges, program, listening_since, reads_since })
    }

    /// Hands on what gauges have shown, and remembers it; not of a version that was found to be bad, nor of what started
    /// after a change that was, until it is undone.
    pub(super) fn judge_gauges(&mut self) {
        let Some(gauges) = &mut self.gauges else { return };
        let changes = self.running.iter().filter(|running| running.is_recovering());
        let changed =
            |running: &Running| Some((running.deployment().candidate.clone(), running.change_at()?));
        let bad: Vec<(String, Slot)> = changes.filter_map(changed).collect();
        for memory in gauges.memory.values_mut() {
            bad.iter().for_each(|(version, at)| memory.forget(version, *at));
        }
        gauges.ages.retain(|label, _| self.versions.get(label).is_some_and(|version| !version.ended));
        for (label, observed) in std::mem::take(&mut gauges.observed) {
            let memory = gauges.memory.entry(observed.measure).or_default();
            for running in &mut self.running {
                running.observe(&label, &observed, memory);
            }
            let is_bad = |(version, at): &(String, Slot)| **version == *label && observed.first >= *at;
            if !self.failed.contains(&*label) && !bad.iter().any(is_bad) {
                memory.add(&label, &observed);
            }
        }
    }

    /// Forgets what a version's gauges showed.
    pub(super) fn forget_gauges(&mut self, version: &str) {
        let memories = self.gauges.iter_mut().flat_map(|gauges| gauges.memory.values_mut());
        memories.for_each(|memory| memory.forget(version, Slot::MIN));
    }

    /// Forgets streams of gauges that were not heard of since `before`; by version, their identities.
    pub(super) fn forget_level_streams(&mut self, before: UnixNanos) -> Vec<(VersionId, Vec<u128>)> {
        let Self { gauges, versions, .. } = self;
        let all = gauges.iter_mut().flat_map(|gauges| &mut gauges.ages);
        let forgotten = all.filter_map(|(label, ages)| {
            let id = versions.get(label)?.id?;
            Some((id, ages.forget_streams(before)))
        });
        forgotten.filter(|(_, keys)| !keys.is_empty()).collect()
    }

    /// What is kept over a restart: what is remembered of gauges that are still asked for, and how old instances are.
    pub(super) fn save_gauges(&self, out: &mut Writer) {
        let program = self.measures.program();
        let is_read = |key: MeasureKey| program.as_ref().is_some_and(|program| program.number(key).is_some());
        self.gauges.is_some().save(out);
        if let Some(gauges) = &self.gauges {
            gauges.ages.save(out);
            let kept = gauges.memory.iter().filter(|(key, _)| is_read(**key));
            kept.map(|(key, memory)| (*key, memory.clone())).collect::<BTreeMap<_, _>>().save(out);
        }
    }
}

impl ServiceGauges {
    pub(super) fn load(from: &mut Reader<'_>) -> Result<Option<Box<Self>>, Corrupt> {
        if !bool::load(from)? {
            return Ok(None);
        }
        let (ages, memory) = (BTreeMap::load(from)?, BTreeMap::load(from)?);
        Ok(Some(Box::new(Self { ages, memory, ..Self::default() })))
    }
}

impl Engine {
    /// Takes in the points of gauges that come next, of the version that `place` is.
    pub(super) fn absorb_levels<'p>(
        &mut self,
        points: &mut Peekable<impl Iterator<Item = (&'p PointObservation, &'p [u64])>>,
        place: &Place,
    ) {
        let Self { services, streams, instances, parts, .. } = self;
        let mut run = services.get_mut(&place.service).and_then(|service| service.level_run(&place.version));
        while let Some((point, _)) = points.peek() {
            let Shape::Level(level) = point.shape else { return };
            let Some(meta) = streams.meta_of(point.stream, place.id) else { return };
            let became = run.as_mut().map_or(Disposition::Orphaned, |run| {
                let instance = instance_meta(instances, &parts.registry, meta.instance).map(|meta| meta.name);
                run.observe(&LevelPlace { meta, instance }, point, level)
            });
            parts.ledger.settle(Signal::Metrics, became, 1);
            points.next();
        }
    }
}
