//! State of a service as bytes, and back. Snapshots hold everything that later evidence rests on; open slots
//! are not among it: what was in them is skipped for both versions, never filled with zeros.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::engine::Engine;
use super::gauges::ServiceGauges;
use super::journal::{ObjectiveState, Restored, ServiceSnapshot};
use super::logs::ServiceLogs;
use super::metered::{Metered, MeteredVersion};
use super::passage::Signal;
use super::running::{Before, Running, SecondOpinion};
use super::service::Service;
use super::version::{Totals, Version, Versions};
use crate::deployment::Deployment;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer};
use crate::model::{DeploymentId, MeasureKey, ServiceKey, Slot, UnixNanos};
use crate::verdict::{EarlierReleases, Hours, Memory, Panel};
use crate::window::{Churn, Counts, Fates, History, Lateness, LatenessConfig};

impl Service {
    pub(super) fn snapshot(&self, now: UnixNanos) -> ServiceSnapshot {
        let mut out = Writer::with_header();
        (self.versions.len() as u32).save(&mut out);
        for (label, version) in &self.versions {
            label.save(&mut out);
            version.save(&mut out);
        }
        self.lateness.current_seconds().save(&mut out);
        self.metered.is_some().save(&mut out);
        if let Some(metered) = &self.metered {
            metered.save(&mut out);
        }
        self.save_gauges(&mut out);
        let judged = || self.running.iter().filter(|r| r.panel().is_some() || r.before().is_some());
        (judged().count() as u32).save(&mut out);
        for running in judged() {
            running.deployment().id.save(&mut out);
            running.judge_from().save(&mut out);
            running.panel().cloned().save(&mut out);
            running.before().cloned().save(&mut out);
            running.second_opinion().kept().save(&mut out);
        }
        self.logs.is_some().save(&mut out);
        self.logs.iter().for_each(|logs| logs.save(&mut out));
        self.measures.read_so_far().save(&mut out);
        self.hours.as_deref().cloned().save(&mut out);
        self.releases.save(&mut out);
        ServiceSnapshot { service: (*self.key).clone(), at: now, bytes: out.into_bytes() }
    }
}

impl Version {
    fn save(&self, out: &mut Writer) {
        self.memory.save(out);
        self.history.save(out);
        self.open.fates().save(out);
        self.measures.as_ref().map_or(0, |measures| measures.waiting()).save(out);
        self.sampling.save(out);
        self.churn.save(out);
        self.totals.save(out);
        self.first.save(out);
        self.last.save(out);
        self.first_start.save(out);
        self.warmup_s.save(out);
        self.stored.save(out);
        self.ended.save(out);
        self.metered.is_some().save(out);
        if let Some(side) = &self.metered {
            side.save(out);
        }
    }

    /// A version as it was, and how many of its spans and points were in open slots.
    fn load(from: &mut Reader<'_>, now: UnixNanos) -> Result<(Self, [u64; 2]), Corrupt> {
        // Spans that came before the stop are lost for the slots that were open then, for all versions.
        let mut version = Self::new(now.slot() + 1);
        version.memory = Memory::load(from)?;
        version.history = History::load(from)?;
        let mut fates = Fates::load(from)?;
        let marked = u64::load(from)?;
        version.sampling = Counts::load(from)?;
        version.churn = Churn::load(from)?;
        version.totals = Totals::load(from)?;
        // What was in open slots is gone.
        let lost = fates.counted.saturating_sub(version.totals.requests);
        fates.counted -= lost;
        version.open.restore_fates(fates);
        version.first = UnixNanos::load(from)?;
        version.last = UnixNanos::load(from)?;
        version.first_start = UnixNanos::load(from)?;
        version.warmup_s = i64::load(from)?;
        version.stored = bool::load(from)?;
        version.ended = bool::load(from)?;
        let mut points = 0;
        if bool::load(from)? {
            let (side, waiting) = MeteredVersion::load(from, now.slot())?;
            (version.metered, points) = (Some(Box::new(side)), waiting);
        }
        version.continued(now);
        Ok((version, [lost + marked, points]))
    }
}

/// A panel that goes on after a restart.
struct Continued {
    id: DeploymentId,
    judge_from: Slot,
    panel: Option<Panel>,
    before: Option<Before>,
    second: SecondOpinion,
}

/// What a snapshot holds.
struct State {
    versions: Versions,
    lateness_s: f64,
    metered: Option<Box<Metered>>,
    gauges: Option<Box<ServiceGauges>>,
    judges: Vec<Continued>,
    /// Spans and points in slots that were open.
    lost: [u64; 2],
    /// Error logs and exceptions, and log records in seconds that were open.
    logs: Option<(ServiceLogs, u64)>,
    /// Since when points are read for measures.
    reads_since: BTreeMap<MeasureKey, UnixNanos>,
    /// What it did in the last hours.
    hours: Option<Hours>,
    /// How long releases took to get fast.
    releases: EarlierReleases,
}

fn read(bytes: &[u8], lateness: LatenessConfig, now: UnixNanos) -> Result<State, Corrupt> {
    let mut from = Reader::header(bytes)?;
    let (mut versions, mut lost) = (Versions::new(), [0; 2]);
    for _ in 0..u32::load(&mut from)? {
        let label = Arc::<str>::load(&mut from)?;
        let (version, waiting) = Version::load(&mut from, now)?;
        lost = [lost[0] + waiting[0], lost[1] + waiting[1]];
        versions.insert(label, Box::new(version));
    }
    let lateness_s = f64::load(&mut from)?;
    let metered = match bool::load(&mut from)? {
        true => Some(Box::new(Metered::load(&mut from, lateness, now)?)),
        false => None,
    };
    let gauges = ServiceGauges::load(&mut from)?;
    let judges = (0..u32::load(&mut from)?)
        .map(|_| {
            Ok(Continued {
                id: DeploymentId::load(&mut from)?,
                judge_from: Slot::load(&mut from)?,
                panel: Option::load(&mut from)?,
                before: Option::load(&mut from)?,
                second: SecondOpinion::load(&mut from)?,
            })
        })
        .collect::<Result<_, Corrupt>>()?;
    let logs = if bool::load(&mut from)? { Some(ServiceLogs::load(&mut from)?) } else { None };
    let reads_since = BTreeMap::load(&mut from)?;
    let hours = Option::load(&mut from)?;
    let releases = EarlierReleases::load(&mut from)?;
    if from.is_empty() {
        Ok(State { versions, lateness_s, metered, gauges, judges, lost, logs, reads_since, hours, releases })
    } else {
        Err(Corrupt::Body)
    }
}

impl Engine {
    /// Takes up what was kept: states of services, deployments that are not over, versions that are known.
    pub(super) fn restore(&mut self, restored: Restored, now: UnixNanos) {
        for state in &restored.objectives {
            self.restore_objective(state);
        }
        let mut judges: Vec<Continued> = Vec::new();
        for snapshot in &restored.snapshots {
            match read(&snapshot.bytes, self.parts.lateness, now) {
                Ok(state) => judges.extend(self.restore_service(&snapshot.service, state, now)),
                Err(error) => {
                    tracing::warn!(service = %snapshot.service, ?error,
                        "the state snapshot of a service cannot be read; it is learned anew");
                }
            }
        }
        for known in restored.known_versions {
            self.known.insert(&known);
        }
        let mut deployments = restored.deployments;
        deployments.sort_by_key(|deployment| deployment.started_at);
        for deployment in deployments {
            if let Some(service) = self.services.get_mut(&deployment.service) {
                service.note_verdict(&deployment);
            }
            self.restore_deployment(deployment, &mut judges, now);
        }
        self.services.values().for_each(|service| service.measures.went_on());
    }

    /// Budgets wait with the services that have no version until theirs is seen.
    fn restore_objective(&mut self, state: &ObjectiveState) {
        let key = Arc::new(state.service.clone());
        let slo = self.parts.policies.resolve(&key, Deployment::VERSION).0.slo;
        let settings = self.parts.policies.objectives(&key);
        let objectives = self.dormant.entry(key).or_default();
        objectives.configure(slo, settings);
        if let Err(error) = objectives.restore(state) {
            tracing::warn!(service = %state.service, journey = state.journey, ?error,
                "the error budget of a service cannot be read; it is counted anew");
        }
    }

    fn restore_service(&mut self, key: &ServiceKey, state: State, now: UnixNanos) -> Vec<Continued> {
        let State { versions, lateness_s, metered, gauges, judges, lost, logs, reads_since, hours, releases } =
            state;
        self.parts.ledger.lose(Signal::Traces, lost[0]);
        self.parts.ledger.lose(Signal::Metrics, lost[1]);
        let lateness = Lateness::new(LatenessConfig { initial: lateness_s, ..self.parts.lateness });
        let service = self.service(&Arc::new(key.clone()), now);
        service.measures.go_on(reads_since);
        service.versions = versions;
        service.releases = releases;
        service.metered = metered;
        service.gauges = gauges;
        service.lateness = lateness;
        service.hours = hours.map(Box::new);
        if let Some((logs, lost)) = logs {
            service.ledger.lose(Signal::Logs, lost);
            service.logs = Some(Box::new(logs));
        }
        service.next = now.slot() + 1;
        service.gone_not_before = service.next + service.lateness.current_seconds().ceil() as Slot;
        judges
    }

    fn restore_deployment(
        &mut self,
        deployment: Arc<Deployment>,
        judges: &mut Vec<Continued>,
        now: UnixNanos,
    ) {
        if deployment.phase.is_over() {
            self.ended.push_back(deployment);
            return;
        }
        let at = judges.iter().position(|j| j.id == deployment.id);
        let (judged, from) = match at.map(|i| judges.swap_remove(i)) {
            Some(c) => ((c.panel, c.before, c.second), c.judge_from.min(now.slot() + 1)),
            None => ((None, None, SecondOpinion::default()), Slot::MAX),
        };
        let service = self.service(&Arc::new(deployment.service.clone()), now);
        service.admit(&deployment.policy, now);
        service.running.push(Running::restored(deployment, judged, from));
    }
}
