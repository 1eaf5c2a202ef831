//! A seeded world around the real pipeline: services with instances that hold their spans for 5 s as SDKs do,
//! a clock that is a number, and a store that is a few maps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rollguard::deployment::{Action, Deployment, Mode, Request};
use rollguard::model::{
    DeploymentId, NANOS_PER_SECOND, Outcome, ResourceView, SamplingWeight, ServiceKey, SpanSink, SpanView,
    StatusSource, UnixNanos, VersionKey,
};
use rollguard::objective::Change;
use rollguard::pipeline::objectives::{JourneyConfig, ObjectiveSettings, ObjectivesConfig};
use rollguard::pipeline::{
    Admission, Alert, CommandError, Commit, DEFAULT_SHARD_CAPACITY, DataType, DeploymentLimits, Drained,
    Engine, EngineParts, HourRow, Intake, ObjectiveBoard, ObjectiveState, Policies, Registry, RegistryLimits,
    Restored, ServiceSnapshot, Shards, VersionBoard,
};
use rollguard::verdict::{Policy, Scope};
use rollguard::window::LatenessConfig;

/// When every simulation begins: a multiple of 60 s.
const BEGIN_S: u64 = 1_700_000_040;
/// How long an SDK holds spans.
const HOLD_MS: u64 = 5_000;
const MS: u64 = 1_000_000;

/// A policy under which a simulation is short: warm-up 10 s, PASS after 60 s, horizon 5 min.
pub(super) fn quick() -> Policy {
    Policy { slo: 0.99, warmup_s: 10, min_pass_s: 60, horizon_s: 300, ..Policy::default() }
}

/// What one version sends.
#[derive(Debug, Clone)]
pub(super) struct Traffic {
    pub(super) instances: u64,
    /// Requests per second over all instances.
    pub(super) rps: f64,
    /// Share of failed requests.
    pub(super) errors: f64,
}

pub(super) fn traffic(instances: u64, rps: f64, errors: f64) -> Traffic {
    Traffic { instances, rps, errors }
}

/// An instance of a version with the spans that it holds: end in ns, latency in ns, failed.
#[derive(Debug, Default)]
struct Instance {
    phase_ms: u64,
    held: Vec<(u64, u64, bool)>,
}

/// Service, environment, version.
type Who = (String, String, String);

/// What a real store would hold.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) snapshots: BTreeMap<ServiceKey, ServiceSnapshot>,
    pub(super) deployments: BTreeMap<String, Arc<Deployment>>,
    pub(super) known: Vec<VersionKey>,
    pub(super) rollbacks: Vec<Arc<Deployment>>,
    pub(super) objectives: BTreeMap<(ServiceKey, String), ObjectiveState>,
    pub(super) alerts: Vec<Alert>,
    pub(super) hours: BTreeMap<(ServiceKey, i64), HourRow>,
}

impl Kept {
    pub(super) fn take(&mut self, commit: Commit) {
        for snapshot in commit.snapshots {
            self.snapshots.insert(snapshot.service.clone(), snapshot);
        }
        for deployment in commit.deployments {
            self.deployments.insert(deployment.id.0.clone(), deployment);
        }
        for state in commit.objectives {
            self.objectives.insert((state.service.clone(), state.journey.clone()), state);
        }
        for hour in commit.hours {
            self.hours.insert((hour.service.clone(), hour.number), hour);
        }
        self.alerts.extend(commit.alerts);
        self.known.extend(commit.known_versions);
        self.rollbacks.extend(commit.actions.into_iter().map(|Action::Rollback(deployment)| deployment));
    }

    pub(super) fn restored(&self) -> Restored {
        Restored {
            snapshots: self.snapshots.values().cloned().collect(),
            deployments: self.deployments.values().cloned().collect(),
            known_versions: self.known.clone(),
            objectives: self.objectives.values().cloned().collect(),
        }
    }
}

pub(super) struct World {
    pub(super) registry: Arc<Registry>,
    pub(super) intake: Intake,
    pub(super) shards: Arc<Shards>,
    pub(super) engine: Engine,
    pub(super) kept: Kept,
    /// Seconds since the epoch.
    pub(super) now_s: u64,
    /// Phases of the deployments as they were first seen, in order: `candidate phase`.
    pub(super) phases: Vec<String>,
    /// Versions whose requests an exporter without room refuses.
    pub(super) refused: Vec<String>,
    /// Versions that begin twice as slow and get fast with a time constant of two minutes, and since when.
    pub(super) slow_since: BTreeMap<String, u64>,
    /// Versions whose requests take so many times as long.
    pub(super) slower: BTreeMap<String, f64>,
    drained: Drained,
    limits: RegistryLimits,
    policy: Arc<Mutex<Policy>>,
    mode: Mode,
    ttl_s: u64,
    /// Takes effect at a restart.
    pub(super) deployments: DeploymentLimits,
    /// Whether hours cannot be read from the store.
    pub(super) is_unreadable: bool,
    senders: BTreeMap<Who, (Traffic, Vec<Instance>)>,
    random: fastrand::Rng,
    next_id: u64,
}

impl World {
    pub(super) fn new(policy: Policy, mode: Mode) -> Self {
        Self::with(policy, mode, Kept::default(), RegistryLimits::default())
    }

    pub(super) fn with(policy: Policy, mode: Mode, kept: Kept, limits: RegistryLimits) -> Self {
        let policy = Arc::new(Mutex::new(policy));
        let (registry, shards, engine) =
            build(&policy, mode, &kept, limits, BEGIN_S, 0, (900, DeploymentLimits::default()));
        Self {
            intake: Intake::new(Arc::clone(&registry), Arc::clone(&shards)),
            registry,
            shards,
            engine,
            kept,
            now_s: BEGIN_S,
            phases: Vec::new(),
            refused: Vec::new(),
            slow_since: BTreeMap::new(),
            slower: BTreeMap::new(),
            drained: Drained::default(),
            limits,
            policy,
            mode,
            ttl_s: 900,
            deployments: DeploymentLimits::default(),
            is_unreadable: false,
            senders: BTreeMap::new(),
            random: fastrand::Rng::with_seed(7),
            next_id: 0,
        }
    }

    /// The process dies now and is back after some seconds, with what was durable.
    pub(super) fn restart(&mut self, after_s: u64) {
        self.now_s += after_s;
        self.next_id += 1_000;
        let (registry, shards, engine) = build(
            &self.policy,
            self.mode,
            &self.kept,
            self.limits,
            self.now_s,
            self.next_id,
            (self.ttl_s, self.deployments),
        );
        self.intake = Intake::new(Arc::clone(&registry), Arc::clone(&shards));
        (self.registry, self.shards, self.engine, self.drained) =
            (registry, shards, engine, Drained::default());
        // What the exporters held is gone with their failed requests.
        self.senders.values_mut().flat_map(|(_, all)| all).for_each(|i| i.held.clear());
    }

    /// The process is asked to end, and another version of it, which reads the snapshots or does not, is there after some
    /// seconds.
    pub(super) fn upgrade(&mut self, after_s: u64, reads_snapshots: bool) {
        self.kept.take(self.engine.snapshot_all(self.now()));
        if !reads_snapshots {
            // The format follows the magic.
            self.kept.snapshots.values_mut().for_each(|snapshot| snapshot.bytes[4] ^= 0x80);
        }
        self.restart(after_s);
    }

    /// As `restart`, and the configuration has another policy when it is back.
    pub(super) fn restart_under(&mut self, after_s: u64, policy: Policy) {
        self.reload(policy);
        self.restart(after_s);
    }

    /// The configuration has another policy from now on.
    pub(super) fn reload(&mut self, policy: Policy) {
        *self.policy.lock().unwrap() = policy;
    }

    /// What a version of `shop` sends from now on; no requests: its instances stop and flush nothing more.
    pub(super) fn sends(&mut self, version: &str, traffic: Traffic) {
        self.sends_as(("shop", "", version), traffic);
    }

    pub(super) fn sends_as(&mut self, who: (&str, &str, &str), traffic: Traffic) {
        let who = (who.0.to_owned(), who.1.to_owned(), who.2.to_owned());
        let (old, instances) = self.senders.entry(who).or_insert_with(|| (traffic.clone(), Vec::new()));
        while (instances.len() as u64) < traffic.instances {
            let phase_ms = self.random.u64(..HOLD_MS);
            instances.push(Instance { phase_ms, held: Vec::new() });
        }
        *old = traffic;
    }

    pub(super) fn stops(&mut self, version: &str) {
        self.sends(version, traffic(0, 0.0, 0.0));
    }

    pub(super) fn now(&self) -> UnixNanos {
        UnixNanos::from_secs(self.now_s)
    }

    /// Lets seconds pass.
    pub(super) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now_s += 1;
            self.send();
            self.evaluate();
        }
    }

    /// One evaluation, and what it says is durable.
    pub(super) fn evaluate(&mut self) {
        let now = self.now();
        self.shards.drain(&mut self.drained);
        self.engine.absorb(&self.drained, now);
        let commit = self.engine.tick(now);
        for d in &commit.deployments {
            let line = format!("{} {}", d.candidate, d.phase.as_str());
            if self.phases.last() != Some(&line) {
                self.phases.push(line);
            }
        }
        self.kept.take(commit);
        for wanted in self.engine.wanted_hours(now) {
            if self.is_unreadable {
                self.engine.hours_unread(&wanted);
                continue;
            }
            let one = |number: &i64| self.kept.hours.get(&((*wanted.service).clone(), *number)).cloned();
            let rows: Vec<HourRow> = wanted.numbers.iter().filter_map(one).collect();
            self.engine.take_hours(&wanted, &rows, now);
        }
    }

    /// The requests of the last second happen; instances whose time has come flush.
    fn send(&mut self) {
        let (from, until) = ((self.now_s - 1) * 1_000, self.now_s * 1_000);
        for ((service, environment, version), (traffic, instances)) in &mut self.senders {
            let slow_s = self.slow_since.get(version).map(|since| (self.now_s - since) as f64);
            let slower = slow_s.map_or(1.0, |age| 1.0 + (-age / 120.0).exp())
                * self.slower.get(version).copied().unwrap_or(1.0);
            let living = instances.iter_mut().take(traffic.instances as usize).enumerate();
            for (number, instance) in living {
                let mean = traffic.rps / traffic.instances as f64;
                let requests = mean as u64 + u64::from(self.random.f64() < mean.fract());
                for _ in 0..requests {
                    let end = (from * MS) + self.random.u64(..1_000 * MS);
                    let latency =
                        (slower * 20.0 * 4f64.powf(self.random.f64() * self.random.f64()) * MS as f64) as u64;
                    instance.held.push((end, latency, self.random.f64() < traffic.errors));
                }
                let flush = from + (instance.phase_ms + HOLD_MS - from % HOLD_MS) % HOLD_MS;
                if flush < until {
                    let name = format!("{version}-{number}");
                    let (out, held) = std::mem::take(&mut instance.held)
                        .into_iter()
                        .partition(|(end, ..)| *end <= flush * MS);
                    instance.held = held;
                    let resource = ResourceView {
                        service: service.as_bytes(),
                        environment: environment.as_bytes(),
                        version: version.as_bytes(),
                        instance: name.as_bytes(),
                        ..ResourceView::default()
                    };
                    let arrival = UnixNanos(flush * MS);
                    if self.refused.contains(version) {
                        self.intake.blinded(DataType::Traces, &"otlp_grpc/full".into(), arrival);
                        continue;
                    }
                    post(&self.intake, &resource, arrival, &out);
                }
            }
        }
    }

    /// Names a time so many seconds from now for `shop`, or for a part of it, over the door of commands; what it answers is
    /// durable.
    pub(super) fn announce(
        &mut self,
        from_now_s: i64,
        scope: &[(&str, &str)],
    ) -> Result<Arc<Deployment>, CommandError> {
        let time = Some(UnixNanos::from_secs(self.now_s.saturating_add_signed(from_now_s)));
        let request = Request { service: "shop".into(), time, scope: scoped(scope), ..Request::default() };
        let mut commit = Commit::default();
        let answer = self.engine.start(&request, self.now(), &mut commit);
        self.kept.take(commit);
        answer
    }

    /// A deployment as it is now.
    pub(super) fn again(&self, deployment: &Deployment) -> Arc<Deployment> {
        let board = self.engine.board(self.now());
        board.deployments.into_iter().find(|d| d.id == deployment.id).unwrap()
    }

    /// The newest deployment of a candidate of `shop`.
    pub(super) fn deployment(&self, candidate: &str) -> Option<Arc<Deployment>> {
        self.engine.board(self.now()).deployments.into_iter().find(|d| d.candidate == candidate)
    }

    /// The objective of a journey of `shop`, or of the whole service.
    pub(super) fn objective(&self, journey: Option<&str>) -> Option<ObjectiveBoard> {
        let board = self.engine.board(self.now());
        board.objectives.iter().find(|o| o.service.name == "shop" && o.journey.as_deref() == journey).cloned()
    }

    /// What was told so far: severity, what happened, journey.
    pub(super) fn told(&self) -> Vec<String> {
        let line = |alert: &Alert| {
            let journey = alert.objective.journey.as_deref().unwrap_or("-");
            match alert.change {
                Change::Fired(e) => {
                    format!("{} {} {journey}", e.rule.tier().severity.as_str(), e.rule.as_str())
                }
                Change::Ended(e, why) => {
                    format!("{} {} {journey}", e.rule.tier().severity.as_str(), why.as_str())
                }
            }
        };
        self.kept.alerts.iter().map(line).collect()
    }

    pub(super) fn version(&self, version: &str) -> Option<VersionBoard> {
        let board = self.engine.board(self.now());
        board.services.into_iter().flat_map(|s| s.versions).find(|v| v.version == version)
    }

    /// `v1` has served long enough to be known, also after a fresh start.
    pub(super) fn with_known_v1(policy: Policy, mode: Mode, rps: f64, errors: f64) -> Self {
        let mut world = Self::new(policy, mode);
        world.sends("v1", traffic(4, rps, errors));
        world.run(180);
        world
    }
}

/// The same for every service; a journey of those who pay.
struct Configured(Arc<Mutex<Policy>>, Mode);

impl Policies for Configured {
    /// A kind of release of its own, so that tests can tell which policy holds.
    fn resolve(&self, _: &ServiceKey, release: &str) -> (Policy, Mode) {
        let policy = self.0.lock().unwrap().clone();
        match release {
            "strict" => (Policy { alpha: policy.alpha / 2.0, ..policy }, self.1),
            _ => (policy, self.1),
        }
    }

    fn objectives(&self, service: &ServiceKey) -> ObjectiveSettings {
        let pay = JourneyConfig {
            name: "pay".into(),
            matches: Default::default(),
            operations: vec!["GET /check*".into()],
            slo: 0.9,
        };
        ObjectivesConfig { journeys: vec![pay], ..ObjectivesConfig::default() }.resolve(service)
    }
}

fn build(
    policy: &Arc<Mutex<Policy>>,
    mode: Mode,
    kept: &Kept,
    limits: RegistryLimits,
    now_s: u64,
    mut next_id: u64,
    (ttl_s, deployments): (u64, DeploymentLimits),
) -> (Arc<Registry>, Arc<Shards>, Engine) {
    let registry = Arc::new(Registry::new(limits));
    let policy = Arc::clone(policy);
    let shards = Arc::new(Shards::new(1, DEFAULT_SHARD_CAPACITY));
    let parts = EngineParts {
        registry: Arc::clone(&registry),
        ledger: Arc::clone(shards.ledger()),
        policies: Arc::new(Configured(policy, mode)),
        lateness: LatenessConfig::default(),
        series_ttl_s: ttl_s,
        deployments,
        ids: Box::new(move || {
            next_id += 1;
            DeploymentId(format!("d{next_id}"))
        }),
    };
    let engine = Engine::new(parts, kept.restored(), UnixNanos::from_secs(now_s));
    (registry, shards, engine)
}

/// One request with spans: end, latency, failed.
pub(super) fn post(
    intake: &Intake,
    resource: &ResourceView<'_>,
    arrival: UnixNanos,
    spans: &[(u64, u64, bool)],
) {
    let mut batch = intake.begin(arrival);
    batch.resource(resource);
    for &(end, latency, failed) in spans {
        let operation: &[u8] = if end % 3 == 0 { b"/checkout" } else { b"/cart" };
        batch.span(&SpanView {
            operation_head: b"GET",
            operation_joint: b" ",
            operation_tail: operation,
            start: UnixNanos(end - latency),
            end: UnixNanos(end),
            outcome: if failed { Outcome::Bad } else { Outcome::Good },
            status: StatusSource::Code,
            weight: SamplingWeight::Unknown,
            trace_id: &[9; 16],
            marks: 0,
            quantities: &[],
        });
    }
    batch.commit().expect("the log has room");
}

/// A scope of these pairs.
pub(super) fn scoped(pairs: &[(&str, &str)]) -> Scope {
    Scope::new(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
}

/// Nanoseconds of a second.
pub(super) const fn at(second: u64) -> u64 {
    second * NANOS_PER_SECOND
}
