//! The evaluator as a plain struct: spans and commands in, commits and a [`Board`] out, time as an argument.
//! One thread owns it (see [`super::evaluator`]); simulations drive it directly.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::blindness::Blindness;
use super::board::{Board, ServiceBoard};
use super::diagnosis::{ServiceTelemetry, diagnose};
use super::findings::LogPlaces;
use super::journal::{Commit, Restored};
use super::known::Known;
use super::ledger::{Disposition, Ledger};
use super::objectives::{ObjectiveBoard, ObjectiveSettings, ServiceObjectives};
use super::passage::Signal;
use super::points::Streams;
use super::registry::{InstanceMeta, Registry, SeriesMeta};
use super::service::Service;
use super::shards::Drained;
use super::unversioned;
use crate::deployment::{Deployment, Mode};
use crate::exception::Recent;
use crate::model::{
    DeploymentId, Exemplar, InstanceId, NANOS_PER_SECOND, Observation, SeriesId, ServiceKey, UnixNanos,
    VersionId,
};
use crate::telemetry::Limiter;
use crate::verdict::Policy;
use crate::window::LatenessConfig;

/// Ended deployments kept for readers; older ones are in the store.
const ENDED_KEPT: usize = 200;
/// Seconds between state snapshots of a service that is being judged, and of one that is not.
const SNAPSHOT_S: u64 = 10;
const QUIET_SNAPSHOT_S: u64 = 300;

/// Seconds between two log lines about the same lack of a service's telemetry.
const DIAGNOSIS_REPEAT_S: u64 = 3_600;

/// Seconds between two ticks beyond which we count as having been away: stopped, suspended, or the clock was
/// set. Nothing is concluded from what was not seen meanwhile.
const AWAY_S: u64 = 10;

/// Seconds between two looks at the objectives.
const LOOK_S: u64 = 10;
/// Services of which copies of what was remembered a minute ago are kept.
const KEPT_BEHIND: usize = 200;
/// Services without versions whose budgets are kept.
const DORMANT: usize = 2_000;

/// Policies by service, as they are configured now. A reload changes what later deployments get.
pub trait Policies: Send + Sync {
    /// Policy and mode for a kind of release of a service.
    fn resolve(&self, service: &ServiceKey, release: &str) -> (Policy, Mode);

    /// The kinds of release for which a service has policies of their own. Their SLIs are measured before such a
    /// release begins: what is remembered of a service is all that a change without a version is held against.
    fn releases(&self, _: &ServiceKey) -> Vec<String> {
        Vec::new()
    }

    /// Whether anything is configured for this service by name.
    fn is_named(&self, _: &ServiceKey) -> bool {
        false
    }

    /// The journeys of a service and the days of its budget.
    fn objectives(&self, _: &ServiceKey) -> ObjectiveSettings {
        ObjectiveSettings::default()
    }
}

impl<F: Fn(&ServiceKey, &str) -> (Policy, Mode) + Send + Sync> Policies for F {
    fn resolve(&self, service: &ServiceKey, release: &str) -> (Policy, Mode) {
        self(service, release)
    }
}

/// How many deployments are looked at at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeploymentLimits {
    /// Those that wait for their verdict; one more is refused and counted.
    pub deciding: usize,
    /// Those that are watched after it; for one more the watch of the one that was decided first ends.
    pub watched: usize,
}

impl Default for DeploymentLimits {
    fn default() -> Self {
        Self { deciding: 200, watched: 2_000 }
    }
}

/// What the engine is built from.
pub struct EngineParts {
    /// Names behind the ids of observations.
    pub registry: Arc<Registry>,
    /// What became of every record: that of the shards.
    pub ledger: Arc<Ledger>,
    /// Policies by service.
    pub policies: Arc<dyn Policies>,
    /// How long slots stay open.
    pub lateness: LatenessConfig,
    /// Seconds after its last span at which a version's series end.
    pub series_ttl_s: u64,
    /// How many deployments at the same time.
    pub deployments: DeploymentLimits,
    /// Makes ids of deployments.
    pub ids: Box<dyn FnMut() -> DeploymentId + Send>,
}

/// Where a series belongs.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) service: Arc<ServiceKey>,
    pub(super) version: Arc<str>,
    pub(super) id: VersionId,
}

pub(super) type Instances = HashMap<InstanceId, InstanceMeta, foldhash::fast::RandomState>;

/// The number of an instance.
pub(super) fn ordinal(known: &mut Instances, registry: &Registry, id: InstanceId) -> Option<u32> {
    instance_meta(known, registry, id).map(|meta| meta.ordinal)
}

/// What is known of an instance; looked up once.
pub(super) fn instance_meta(
    known: &mut Instances,
    registry: &Registry,
    id: InstanceId,
) -> Option<InstanceMeta> {
    if id == InstanceId::UNKNOWN {
        return None;
    }
    if let Some(meta) = known.get(&id) {
        return Some(*meta);
    }
    let meta = registry.instance(id)?;
    known.insert(id, meta);
    Some(meta)
}

/// What the engine could not use or refused. Monotone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineCounters {
    /// Spans taken in and given to a version.
    pub spans: u64,
    /// Detected versions that are not judged because too many deployments are.
    pub deployments_refused: u64,
    /// Exceptions that found no room in the table of what their service has shown.
    pub exceptions_unnamed: u64,
}

/// The evaluator.
pub struct Engine {
    pub(super) parts: EngineParts,
    pub(super) services: BTreeMap<Arc<ServiceKey>, Service>,
    places: HashMap<SeriesId, Option<Place>, foldhash::fast::RandomState>,
    pub(super) streams: Streams,
    /// When we began to look.
    began: UnixNanos,
    pub(super) instances: Instances,
    pub(super) known: Known,
    pub(super) counters: EngineCounters,
    pub(super) ended: VecDeque<Arc<Deployment>>,
    /// When we began without any memory; `None` once there is some.
    pub(super) fresh_start: Option<UnixNanos>,
    /// Trace ids of failed and slow spans since the last tick.
    pub(super) exemplars: Vec<Exemplar>,
    next_snapshot: u64,
    last_tick: Option<UnixNanos>,
    /// Requests that exporters refused.
    blindness: Blindness,
    complaints: Limiter,
    diagnoses: Limiter,
    telemetry: Arc<Vec<ServiceTelemetry>>,
    /// Objectives of services that have no version now.
    pub(super) dormant: BTreeMap<Arc<ServiceKey>, ServiceObjectives>,
    /// The last look at the objectives, and what it showed.
    last_look: Option<UnixNanos>,
    objectives: Arc<Vec<ObjectiveBoard>>,
    /// Where the findings of a version belong.
    pub(super) log_places: LogPlaces,
    /// Exceptions of the last minute or two.
    pub(super) recent: Recent,
}

/// Makes known what the policies of a service measure, whatever kind of release comes, to be counted from `since` on.
fn admit(policies: &dyn Policies, service: &Service, since: UnixNanos) {
    service.admit(&service.policy, since);
    for release in policies.releases(&service.key) {
        service.admit(&policies.resolve(&service.key, &release).0, since);
    }
}

impl Engine {
    /// An engine that begins at `now` with what was kept, if anything.
    pub fn new(parts: EngineParts, restored: Restored, now: UnixNanos) -> Self {
        let fresh = restored.known_versions.is_empty() && restored.snapshots.is_empty();
        let mut engine = Self {
            parts,
            services: BTreeMap::new(),
            places: HashMap::default(),
            streams: Streams::default(),
            began: now,
            instances: HashMap::default(),
            known: Known::default(),
            counters: EngineCounters::default(),
            ended: VecDeque::new(),
            fresh_start: fresh.then_some(now),
            exemplars: Vec::new(),
            next_snapshot: 0,
            last_tick: None,
            blindness: Blindness::default(),
            complaints: Limiter::new(unversioned::REPEAT_S),
            diagnoses: Limiter::new(DIAGNOSIS_REPEAT_S),
            telemetry: Arc::default(),
            dormant: BTreeMap::new(),
            last_look: None,
            objectives: Arc::default(),
            log_places: LogPlaces::default(),
            recent: Recent::default(),
        };
        engine.streams.was_away(now);
        engine.restore(restored, now);
        engine
    }

    /// Takes in what arrived. Spans come in runs of one version: what a run shares is looked up once.
    pub fn absorb(&mut self, drained: &Drained, now: UnixNanos) {
        let mut observations = drained.observations().peekable();
        while let Some(first) = observations.peek() {
            let Some(place) = self.place(first.series, now) else {
                self.parts.ledger.settle(Signal::Traces, Disposition::Orphaned, 1);
                observations.next();
                continue;
            };
            let Self { services, places, instances, parts, counters, .. } = self;
            let Some(mut run) =
                services.get_mut(&place.service).and_then(|s| s.run(&place.version, place.id))
            else {
                parts.ledger.settle(Signal::Traces, Disposition::Orphaned, 1);
                observations.next();
                continue;
            };
            let same = |o: &&Observation| {
                places.get(&o.series).and_then(Option::as_ref).is_some_and(|p| p.id == place.id)
            };
            while let Some(o) = observations.next_if(same) {
                counters.spans += 1;
                run.observe(o, ordinal(instances, &parts.registry, o.instance));
            }
            run.end(now);
        }
        self.absorb_extras(drained);
        self.absorb_points(drained, now);
        self.exemplars.extend_from_slice(&drained.exemplars);
        self.blindness.extend(drained.blindness.clone());
        self.absorb_findings(drained, now);
    }

    /// Takes in what spans count for beside being requests; their versions are known by their requests.
    fn absorb_extras(&mut self, drained: &Drained) {
        for run in drained.extras.chunk_by(|a, b| a.version == b.version) {
            let place = run.first().and_then(|first| self.log_place(first.version));
            match place.and_then(|(key, label)| Some((self.services.get_mut(&key)?, label))) {
                Some((service, label)) => run.iter().for_each(|extra| service.extra(&label, extra)),
                None => {
                    let records = run.iter().filter(|extra| extra.is_record).count() as u64;
                    self.parts.ledger.settle(Signal::Traces, Disposition::Orphaned, records);
                }
            }
        }
    }

    /// Where a series belongs; looked up once.
    pub(super) fn place(&mut self, series: SeriesId, now: UnixNanos) -> Option<Place> {
        if let Some(known) = self.places.get(&series) {
            return known.clone();
        }
        let place = self.parts.registry.series(series).and_then(|meta| self.meet(series, &meta, now));
        self.places.insert(series, place.clone());
        place
    }

    fn meet(&mut self, series: SeriesId, meta: &SeriesMeta, now: UnixNanos) -> Option<Place> {
        let version = self.parts.registry.version(meta.version)?;
        let stored = self.known.contains(&version.key);
        let key = match self.services.get_key_value(&version.key.service) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::new(version.key.service.clone()),
        };
        let label: Arc<str> = version.key.version.as_str().into();
        let service = self.service(&key, now);
        service.name_series(&label, &version, series, meta, stored);
        Some(Place { service: key, version: label, id: meta.version })
    }

    pub(super) fn service(&mut self, key: &Arc<ServiceKey>, now: UnixNanos) -> &mut Service {
        if !self.services.contains_key(key) {
            let (policy, _) = self.parts.policies.resolve(key, Deployment::VERSION);
            let mut objectives = self.dormant.remove(key).unwrap_or_default();
            objectives.configure(policy.slo, self.parts.policies.objectives(key));
            let mut service = Service::new(
                Arc::clone(key),
                (policy, self.parts.registry.measures(key)),
                self.parts.lateness,
                Arc::clone(&self.parts.ledger),
                self.began,
                now,
            );
            service.objectives = objectives;
            self.ended.iter().filter(|d| d.service == **key).for_each(|d| service.note_verdict(d));
            // All that it counted since we began to look would have been met when it came.
            admit(&*self.parts.policies, &service, service.watched_since);
            self.services.insert(Arc::clone(key), service);
        }
        self.services.entry(Arc::clone(key)).or_insert_with_key(|_| unreachable!("inserted above"))
    }

    /// Closes and judges every slot whose time has come, moves deployments on, and answers what must be made
    /// durable. Publish [`Engine::board`] only after that.
    pub fn tick(&mut self, now: UnixNanos) -> Commit {
        let mut commit = Commit { at: now, ..Commit::default() };
        self.notice_absence(now);
        self.notice_blindness(now);
        self.assign_exemplars(now);
        self.know_senders();
        self.detect(now, &mut commit);
        for service in self.services.values_mut() {
            service.draw_up_logs(&self.parts.registry);
            service.learn_zones(&self.parts.registry, now);
            service.tick(now, &self.blindness, &mut commit);
        }
        commit.known_versions.iter().for_each(|key| self.known.insert(key));
        self.bound_watches(now, &mut commit);
        self.look_at_objectives(now, &mut commit);
        self.collect_ended();
        self.end_versions(now, &mut commit);
        self.sweep_streams(now);
        self.every_snapshot(now, &mut commit);
        commit
    }

    /// What the engine could not use or refused.
    pub fn counters(&self) -> EngineCounters {
        self.counters
    }

    /// After a longer stop nothing is concluded from the silence during it, and no version ends by it.
    fn notice_absence(&mut self, now: UnixNanos) {
        let away = self.last_tick.is_some_and(|last| now.since(last) > AWAY_S * NANOS_PER_SECOND);
        self.last_tick = Some(now);
        if away {
            self.streams.was_away(now);
            self.services.values_mut().for_each(|service| service.was_away(now));
        }
    }

    /// While an exporter refuses requests nothing is concluded from what does not come, and no version ends by
    /// it.
    fn notice_blindness(&mut self, now: UnixNanos) {
        let Some(by) = self.blindness.by(now) else { return };
        self.streams.was_away(now);
        self.services.values_mut().for_each(|service| service.was_away(now));
        if self.complaints.allow(&format!("blinded by {by}"), now).is_some() {
            tracing::warn!(exporter = %by, "an exporter without room refuses telemetry for all: verdicts wait; see \
                GET /api/v1/exporters, or set its sending_queue.on_full to drop");
        }
    }

    /// Lets versions of deployments, and of services whose deaths count, know what their senders say of themselves.
    fn know_senders(&mut self) {
        let judging = self.services.values_mut().filter(|s| !s.running.is_empty() || s.counts_deaths());
        for version in judging.flat_map(|service| service.versions.values_mut()) {
            if version.senders.as_ref().map(|entry| entry.meta.id) != version.id {
                version.senders = version.id.and_then(|id| self.parts.registry.entry(id));
            }
        }
    }

    /// Hands trace ids to the deployments of their candidates.
    fn assign_exemplars(&mut self, now: UnixNanos) {
        for exemplar in std::mem::take(&mut self.exemplars) {
            if let Some(place) = self.place(exemplar.series, now)
                && let Some(service) = self.services.get_mut(&place.service)
            {
                service.exemplar(&place.version, &exemplar);
            }
        }
    }

    /// Ends the series of versions without spans, and services without versions.
    fn end_versions(&mut self, now: UnixNanos, commit: &mut Commit) {
        let ttl = self.parts.series_ttl_s;
        let mut retired = Vec::new();
        for service in self.services.values_mut() {
            service.end_versions(now, ttl, &mut retired);
        }
        let over: Vec<Arc<ServiceKey>> =
            self.services.iter().filter(|(_, s)| s.is_over()).map(|(key, _)| Arc::clone(key)).collect();
        for key in over {
            self.parts.registry.forget_measures(&key);
            if let Some(service) = self.services.remove(&key) {
                service.write_open_hours(commit);
                self.began = self.began.max(service.watched_since);
                self.sleep(key, service.objectives, now);
            }
        }
        if retired.is_empty() {
            return;
        }
        let retired: HashSet<VersionId> = retired.into_iter().collect();
        for id in &retired {
            self.parts.registry.retire_version(*id);
        }
        self.streams.retain(|place| !retired.contains(&place.id));
        self.places.retain(|_, place| place.as_ref().is_some_and(|p| !retired.contains(&p.id)));
        self.instances.retain(|_, meta| !retired.contains(&meta.version));
        self.log_places.retain(|id, _| !retired.contains(id));
    }

    /// Looks at all objectives, a few times a minute: what must be told and kept goes into the commit.
    fn look_at_objectives(&mut self, now: UnixNanos, commit: &mut Commit) {
        let waited = self.last_look.map_or(u64::MAX, |last| now.0.abs_diff(last.0));
        if waited < LOOK_S * NANOS_PER_SECOND {
            return;
        }
        // After an absence, or at our first look, nobody knows what was in between.
        let there = |last: &UnixNanos| *last < now && waited <= (LOOK_S + AWAY_S) * NANOS_PER_SECOND;
        let since = self.last_look.filter(there).map(|last| last.slot());
        self.last_look = Some(now);
        let mut boards = Vec::with_capacity(self.objectives.len());
        let slot = now.slot();
        for (key, service) in &mut self.services {
            service.look_at_objectives(since, now, commit);
            boards.extend(service.objectives.boards(key, slot));
        }
        for (key, objectives) in &mut self.dormant {
            let told = commit.alerts.len();
            objectives.look(key, None, since, now, &mut commit.alerts);
            if commit.alerts.len() > told {
                objectives.save(key, now, commit);
            }
            boards.extend(objectives.boards(key, slot));
        }
        self.dormant.retain(|_, objectives| objectives.is_worth_keeping(slot));
        boards.sort_by(|a, b| (&a.service, &a.journey).cmp(&(&b.service, &b.journey)));
        self.objectives = Arc::new(boards);
    }

    /// Keeps the budget of a service without versions for its return, as far as there is room.
    fn sleep(&mut self, key: Arc<ServiceKey>, objectives: ServiceObjectives, now: UnixNanos) {
        if objectives.is_worth_keeping(now.slot()) && self.dormant.len() < DORMANT {
            self.dormant.insert(key, objectives);
        }
    }

    fn collect_ended(&mut self) {
        for service in self.services.values_mut() {
            self.ended.extend(service.take_ended());
        }
        while self.ended.len() > ENDED_KEPT {
            self.ended.pop_front();
        }
    }

    /// What is done when snapshots are due. A clock that was set back does not put it off.
    fn every_snapshot(&mut self, now: UnixNanos, commit: &mut Commit) {
        let second = now.0 / NANOS_PER_SECOND;
        if second < self.next_snapshot && self.next_snapshot - second <= SNAPSHOT_S {
            return;
        }
        self.next_snapshot = second + SNAPSHOT_S;
        self.diagnose(now);
        self.choose_behind(commit);
        let round = second / SNAPSHOT_S;
        let rounds = QUIET_SNAPSHOT_S / SNAPSHOT_S;
        self.keep_dormant(round, now, commit);
        for (i, service) in self.services.values_mut().enumerate() {
            if service.is_judging() || i as u64 % rounds == round % rounds {
                commit.snapshots.push(service.snapshot(now));
                service.objectives.save(&service.key, now, commit);
            }
            // A reload changes the objective and the warm-up of versions yet to come.
            service.policy = self.parts.policies.resolve(&service.key, Deployment::VERSION).0;
            service.objectives.configure(service.policy.slo, self.parts.policies.objectives(&service.key));
            admit(&*self.parts.policies, service, now);
            let [unversioned, all] = service.unversioned(now);
            if let Some(text) = unversioned::complaint(&service.key, unversioned, all)
                && self.complaints.allow(&service.key.to_string(), now).is_some()
            {
                tracing::warn!(service = %service.key, spans = unversioned, "{text}");
            }
        }
    }

    /// Copies of what was remembered, and what they do around the clock, are kept for the services that are likely to be asked about a time that has
    /// passed: those with a policy of their own and those with a recent deployment.
    fn choose_behind(&mut self, commit: &mut Commit) {
        let recent: HashSet<&ServiceKey> = self.ended.iter().map(|d| &d.service).collect();
        let mut kept = 0;
        for (key, service) in &mut self.services {
            let is_likely =
                !service.running.is_empty() || recent.contains(&**key) || self.parts.policies.is_named(key);
            let is_kept = is_likely && kept < KEPT_BEHIND;
            kept += usize::from(is_kept);
            service.keep_behind(is_kept);
            service.keep_hours(is_kept, commit);
        }
    }

    /// What is configured now for services without versions, and their states in turn.
    fn keep_dormant(&mut self, round: u64, now: UnixNanos, commit: &mut Commit) {
        let rounds = QUIET_SNAPSHOT_S / SNAPSHOT_S;
        for (i, (key, objectives)) in self.dormant.iter_mut().enumerate() {
            let slo = self.parts.policies.resolve(key, Deployment::VERSION).0.slo;
            objectives.configure(slo, self.parts.policies.objectives(key));
            if i as u64 % rounds == round % rounds {
                objectives.save(key, now, commit);
            }
        }
    }

    /// What the senders of every service say of themselves, and aloud what is missing for good verdicts.
    fn diagnose(&mut self, now: UnixNanos) {
        let used: HashSet<VersionId> =
            self.services.values().flat_map(|s| s.versions.values().filter_map(|v| v.id)).collect();
        self.parts.registry.forget_unused(now, self.parts.series_ttl_s, |id| used.contains(&id));
        let services = &self.services;
        let interval_s = |key: &ServiceKey| services.get(key)?.metrics_interval_s(now);
        self.telemetry = Arc::new(diagnose(&self.parts.registry, interval_s));
        for service in self.telemetry.iter() {
            let shown = |line: &str| (!line.is_empty()).then(|| line.to_owned());
            // Spans without a version have a line of their own.
            for lack in service.missing.iter().filter(|lack| lack.is_warning && lack.what != "version") {
                let key = format!("{} {}", service.service, lack.what);
                if self.diagnoses.allow(&key, now).is_some() {
                    tracing::warn!(service = %service.service, what = lack.what, environment = shown(lack.environment),
                        collector = shown(lack.collector), code = shown(&lack.code.join("; ")), "{}", lack.text);
                }
            }
        }
    }

    /// Snapshots of everything: at shutdown.
    pub fn snapshot_all(&self, now: UnixNanos) -> Commit {
        let snapshots = self.services.values().map(|s| s.snapshot(now)).collect();
        let mut commit = Commit { at: now, snapshots, ..Commit::default() };
        self.services.values().for_each(|s| s.objectives.save(&s.key, now, &mut commit));
        // A new version may not read the snapshots: hours that are not over are written as they are.
        self.services.values().for_each(|s| s.write_open_hours(&mut commit));
        self.dormant.iter().for_each(|(key, objectives)| objectives.save(key, now, &mut commit));
        commit
    }

    /// The picture for readers.
    pub fn board(&self, now: UnixNanos) -> Board {
        let services: Vec<ServiceBoard> = self.services.values().map(|s| s.board(now)).collect();
        let mut deployments: Vec<Arc<Deployment>> = self
            .services
            .values()
            .flat_map(Service::deployments)
            .chain(&self.ended)
            .map(Arc::clone)
            .collect();
        deployments.sort_by(|a, b| b.started_at.cmp(&a.started_at).then_with(|| b.id.cmp(&a.id)));
        Board {
            at: now,
            services,
            deployments,
            blinded_by: self.blindness.by(now).cloned(),
            telemetry: Arc::clone(&self.telemetry),
            objectives: Arc::clone(&self.objectives),
            counters: self.counters(),
        }
    }
}
