//! Metric points of one version on their way into its slots, one after the other. Those of one request are of one
//! sender and of one interval: what follows from that alone is found out once for all of them.

use std::sync::Arc;

use super::service::{Metered, PointPlace};
use super::streams::StreamPlace;
use super::version::MeteredVersion;
use crate::model::{InstanceId, PointObservation, UnixNanos, VersionId};
use crate::pipeline::ledger::Ledger;
use crate::pipeline::objectives::ServiceObjectives;
use crate::pipeline::passage::Signal;
use crate::pipeline::service::Service;
use crate::pipeline::version::Version;
use crate::window::Placement;

/// Where points go.
pub(super) struct PutInto<'a> {
    pub(super) version: &'a mut Version,
    pub(super) objectives: &'a mut ServiceObjectives,
    /// That of the last point.
    pub(super) export: Option<Export>,
}

/// Points that have the same sender and the same times.
pub(super) struct Export {
    /// Version, instance, start, end and arrival.
    pub(super) of: (VersionId, InstanceId, UnixNanos, UnixNanos, UnixNanos),
    pub(super) placement: Placement,
    pub(super) points: u64,
}

/// Metric points of one version, one after the other.
pub(in crate::pipeline) struct PointRun<'a> {
    to: PutInto<'a>,
    /// The metric sides of the service's other versions.
    others: Vec<&'a mut MeteredVersion>,
    metered: &'a mut Metered,
    ledger: &'a Ledger,
}

impl PointRun<'_> {
    /// Takes in a point. `stream` is where its stream lay last, and is set right.
    pub(in crate::pipeline) fn observe(
        &mut self,
        (place, stream): (&PointPlace<'_>, &mut StreamPlace),
        point: (&PointObservation, &[u64]),
        now: UnixNanos,
    ) {
        let version = &mut *self.to.version;
        version.touched = version.touched.max(point.0.arrival);
        self.take_over(place.meta.key, stream);
        if let Some(became) = self.metered.observe(&mut self.to, (place, stream), point, now) {
            self.ledger.settle(Signal::Metrics, became, 1);
        }
    }

    /// A stream that names only a pod is of no version until the pod is known, and may be of none again while two
    /// versions claim it. It goes along with what it said last, for a counter that is met anew would count all that it
    /// holds a second time.
    fn take_over(&mut self, key: u128, stream: &mut StreamPlace) {
        let side = self.to.version.metered.as_ref();
        if self.others.is_empty() || side.is_some_and(|side| side.knows(key, stream)) {
            return;
        }
        let Some(given) = self.others.iter_mut().find_map(|side| side.give(key)) else { return };
        self.metered.side(self.to.version).receive(key, given);
    }
}

impl Drop for PointRun<'_> {
    fn drop(&mut self) {
        self.metered.end_export(&mut self.to.export);
    }
}

impl Service {
    /// Takes in consecutive metric points of one version; `None` where it is not known.
    pub(in crate::pipeline) fn point_run(&mut self, label: &Arc<str>) -> Option<PointRun<'_>> {
        let (mut version, mut others) = (None, Vec::new());
        for (other, one) in &mut self.versions {
            if other == label {
                version = Some(&mut **one);
            } else {
                others.extend(one.metered.as_deref_mut());
            }
        }
        let version = version?;
        let (lateness, since) = (self.lateness_config, self.watched_since);
        let metered = self.metered.get_or_insert_with(|| Box::new(Metered::new(lateness, since)));
        metered.wanted = self.measures.wanted();
        metered.reads_since = self.measures.reads_since();
        let to = PutInto { version, objectives: &mut self.objectives, export: None };
        Some(PointRun { to, others, metered, ledger: &self.ledger })
    }
}
