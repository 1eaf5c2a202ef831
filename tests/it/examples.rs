//! The worked examples of `config/examples`: what real SDKs sent, recorded by `tests/examples/record.py`, goes through
//! the real walkers, pipeline and judge in simulated time, under the example's own configuration file. The fault is
//! found, an A/A twin does not fail, and what a neighbour does wrong is not claimed; docs/examples.md says no more than
//! what is measured here.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rollguard::app::replay::{ReplayOptions, replay};
use rollguard::config::{self, Config};
use rollguard::deployment::{Action, Deployment, Mode, Phase, Request};
use rollguard::model::{DeploymentId, NANOS_PER_SECOND, ServiceKey, UnixNanos};
use rollguard::pipeline::objectives::ObjectiveSettings;
use rollguard::pipeline::recording::Selection;
use rollguard::pipeline::{
    Commit, DEFAULT_SHARD_CAPACITY, DeploymentLimits, Drained, Engine, EngineParts, Intake, Policies,
    Registry, Restored, Shards, Signal,
};
use rollguard::receiver::{WalkSettings, signal_of_message, walk_logs, walk_metrics, walk_traces};
use rollguard::remedy::{Links, fail_body};
use rollguard::verdict::{AgeEvidence, Policy, SliEvidence, Verdict};
use rollguard::window::LatenessConfig;

/// When every recording begins.
const BEGIN_S: u64 = 1_800_000_000;
/// Seconds into a recording at which a change without a version is made, and where pods start before it.
const CHANGE_S: u64 = 300;
const GROWN_S: u64 = 420;
/// Field 1000, fixed64, at the end of a message: when it arrived.
const ARRIVAL: [u8; 2] = [0xc1, 0x3e];
/// How long the engine goes on after the last message, so that all of its slots are closed.
const REST_S: u64 = 40;

/// One example.
struct Example {
    name: &'static str,
    service: &'static str,
    /// Kind of release of a change that names a time, and when it is; versions begin by themselves.
    change: Option<(&'static str, u64)>,
    /// The SLIs that may decide the fault.
    decided_by: &'static [&'static str],
    proposal: &'static str,
    /// For the page: what the policy looks at, what goes wrong, and what goes wrong beside it.
    words: [&'static str; 3],
    /// What else must hold of the fault, the twin and the neighbour.
    also: fn([&Deployment; 3]),
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What is configured.
struct Configured(Config);

impl Policies for Configured {
    fn resolve(&self, service: &ServiceKey, release: &str) -> (Policy, Mode) {
        let resolved = self.0.policies.resolve(service, release);
        (resolved.policy, resolved.mode)
    }

    fn releases(&self, service: &ServiceKey) -> Vec<String> {
        self.0.policies.releases(service)
    }

    fn is_named(&self, service: &ServiceKey) -> bool {
        self.0.policies.is_named(service)
    }

    fn objectives(&self, service: &ServiceKey) -> ObjectiveSettings {
        self.0.objectives.resolve(service)
    }
}

/// The messages of a recording with the times of their arrival, in order.
fn messages(path: &Path) -> Vec<(u64, Vec<u8>)> {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut bytes = Vec::new();
    let mut decoder = zstd::Decoder::new(file).unwrap();
    decoder.read_to_end(&mut bytes).unwrap();
    let (mut rest, mut all) = (&bytes[..], Vec::new());
    while let Some((length, after)) = rest.split_first_chunk() {
        let (message, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        let (field, arrival) = message.split_last_chunk::<8>().expect("a message ends with its arrival");
        assert!(field.ends_with(&ARRIVAL), "a message ends with its arrival");
        all.push((u64::from_le_bytes(*arrival), message.to_vec()));
        rest = after;
    }
    all
}

/// A recording on its way through the pipeline.
struct Replay {
    engine: Engine,
    intake: Intake,
    shards: Arc<Shards>,
    drained: Drained,
    settings: WalkSettings,
    ordered: Vec<Arc<Deployment>>,
}

impl Replay {
    fn new(config: Config) -> Self {
        let registry = Arc::new(Registry::new((&config.pipeline.limits).into()));
        let shards = Arc::new(Shards::new(1, DEFAULT_SHARD_CAPACITY));
        let settings = config.receiver.walk_settings();
        let mut next = 0;
        let parts = EngineParts {
            registry: Arc::clone(&registry),
            ledger: Arc::clone(shards.ledger()),
            lateness: LatenessConfig::from(&config.pipeline.lateness),
            series_ttl_s: config.pipeline.series_ttl.as_secs(),
            policies: Arc::new(Configured(config)),
            deployments: DeploymentLimits::default(),
            ids: Box::new(move || {
                next += 1;
                DeploymentId(format!("d{next}"))
            }),
        };
        Self {
            engine: Engine::new(parts, Restored::default(), UnixNanos::from_secs(BEGIN_S)),
            intake: Intake::new(registry, Arc::clone(&shards)),
            shards,
            drained: Drained::default(),
            settings,
            ordered: Vec::new(),
        }
    }

    fn receive(&self, arrival: u64, message: &[u8]) {
        let mut batch = self.intake.begin(UnixNanos(arrival));
        let walked = match signal_of_message(message) {
            Signal::Traces => walk_traces(message, &self.settings, &mut batch).map(drop),
            Signal::Metrics => walk_metrics(message, &self.settings, &mut batch).map(drop),
            Signal::Logs => walk_logs(message, &self.settings, &mut batch).map(drop),
        };
        walked.expect("sound OTLP");
        batch.commit().expect("the log has room");
    }

    fn take(&mut self, commit: Commit) {
        self.ordered.extend(commit.actions.into_iter().map(|Action::Rollback(deployment)| deployment));
    }

    fn tick(&mut self, second: u64) {
        let now = UnixNanos::from_secs(BEGIN_S + second);
        self.shards.drain(&mut self.drained);
        self.engine.absorb(&self.drained, now);
        let commit = self.engine.tick(now);
        self.take(commit);
    }
}

/// What became of one recording.
struct Judged {
    deployment: Arc<Deployment>,
    /// What was ordered, at most one.
    ordered: Vec<Arc<Deployment>>,
    config: Config,
}

fn judge(example: &Example, case: &str) -> Judged {
    let file = root("config/examples").join(example.name).join("rollguard.yaml");
    let config =
        config::load(&file, config::Files::Elsewhere).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut replay = Replay::new(config.clone());
    let recording = root("tests/golden/examples").join(example.name).join(format!("{case}.binpb.zst"));
    let mut waiting = messages(&recording).into_iter().peekable();
    let (mut second, mut rest) = (0, REST_S);
    while rest > 0 {
        second += 1;
        let until = (BEGIN_S + second) * NANOS_PER_SECOND;
        while let Some((arrival, message)) = waiting.next_if(|(arrival, _)| *arrival < until) {
            replay.receive(arrival, &message);
        }
        if let Some((release, _)) = example.change.filter(|(_, at)| second == *at) {
            let time = Some(UnixNanos::from_secs(BEGIN_S + second));
            let release = Some(release.to_owned());
            let request = Request { service: example.service.into(), time, release, ..Request::default() };
            let mut commit = Commit::default();
            replay.engine.start(&request, UnixNanos::from_secs(BEGIN_S + second), &mut commit).unwrap();
            replay.take(commit);
        }
        replay.tick(second);
        rest -= u64::from(waiting.peek().is_none());
    }
    let board = replay.engine.board(UnixNanos::from_secs(BEGIN_S + second));
    let mut deployments: Vec<_> =
        board.deployments.into_iter().filter(|d| d.service.name == example.service).collect();
    assert_eq!(deployments.len(), 1, "{} {case}: {deployments:#?}", example.name);
    Judged { deployment: deployments.remove(0), ordered: replay.ordered, config }
}

impl Judged {
    /// The SLI with most of the evidence.
    fn decided_by(&self) -> &str {
        let share = |weight: f64, ln_e: f64| weight.max(f64::MIN_POSITIVE).ln() + ln_e;
        let slis = self.deployment.evidence.slis.iter().filter(|e| e.weight > 0.0);
        slis.max_by(|a, b| share(a.weight, a.ln_e).total_cmp(&share(b.weight, b.ln_e)))
            .expect("evidence")
            .name()
    }

    /// The verdict in a word or two.
    fn words(&self) -> String {
        let d = &self.deployment;
        match d.decided_after_seconds.filter(|_| d.verdict != Verdict::Pending) {
            Some(after) => format!("{} after {after:.0} s", d.verdict.as_str()),
            None => d.verdict.as_str().to_owned(),
        }
    }
}

/// Replays the three recordings of an example.
fn check(example: &Example) {
    let [fault, twin, neighbour] = ["fault", "twin", "neighbour"].map(|case| judge(example, case));
    let d = &fault.deployment;
    let (name, [looks_at, goes_wrong, beside]) = (example.name, example.words);
    let row = format!(
        "| [{name}](../config/examples/{name}) | {looks_at} | {goes_wrong}: {}, by `{}` | {} | {beside}: {} | `{}` |",
        fault.words(),
        fault.decided_by(),
        twin.words(),
        neighbour.words(),
        example.proposal
    );
    println!("{row}");
    assert_eq!(d.verdict, Verdict::Fail, "{name}: {}\n{:#?}", d.explanation, d.evidence.slis);
    assert!(example.decided_by.contains(&fault.decided_by()), "{name}: {row}\n{:#?}", d.evidence.slis);
    (example.also)([&fault, &twin, &neighbour].map(|judged| &*judged.deployment));
    for (case, judged) in [("twin", &twin), ("neighbour", &neighbour)] {
        let d = &judged.deployment;
        assert_ne!(d.verdict, Verdict::Fail, "{name} {case}: {}\n{:#?}", d.explanation, d.evidence.slis);
        assert!(judged.ordered.is_empty(), "{name} {case}");
        assert!(d.evidence.requests[0] > 200, "{name} {case}: {:?}", d.evidence.requests);
    }
    for own in twin.deployment.policy.slis.iter() {
        let line = twin.deployment.evidence.slis.iter().find(|e| e.name() == own.name);
        assert!(line.is_some_and(|e| e.requests[0] > 0), "{name}: {} sees nothing: {line:?}", own.name);
    }
    assert_eq!(fault.ordered.len(), 1, "{name}: one message");
    let ordered = &fault.ordered[0];
    let resolved = fault.config.policies.resolve(&ordered.service, &ordered.release);
    assert!(resolved.webhook.is_some_and(|webhook| fault.config.webhooks.contains_key(&webhook)), "{name}");
    let body = fail_body(ordered, resolved.proposal, &Links::default());
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["data"]["proposal"], example.proposal, "{name}");
    assert_eq!(body["type"], format!("rollguard.{}", example.proposal), "{name}");
    let page = std::fs::read_to_string(root("docs/examples.md")).unwrap();
    assert!(page.lines().any(|line| line == row), "docs/examples.md should have this line:\n{row}");
}

/// Nothing.
fn no_more(_: [&Deployment; 3]) {}

/// The exception that only the new version throws is named, and taking it back was all that was needed.
fn named_and_recovered([d, ..]: [&Deployment; 3]) {
    let new: Vec<&str> = d.evidence.logs.iter().flat_map(|logs| &logs.new).map(|e| e.kind.as_str()).collect();
    assert_eq!(new, ["shop.pricing.NoRateError"], "{:#?}", d.evidence.logs);
    assert_eq!(d.phase, Phase::Recovered, "{:?}", d.history);
}

/// The region is named, and what is to be done is for it alone.
fn only_there([d, ..]: [&Deployment; 3]) {
    let regions = d.evidence.regions.as_ref().expect("regions are judged");
    assert_eq!((regions.judged, regions.scope()), (3, vec!["region=us-east-1".to_owned()]), "{regions:?}");
    assert!(d.explanation.contains("us-east-1"), "{}", d.explanation);
}

/// 5 % of the traffic spends budget that is counted as the deployment's.
fn spends([d, ..]: [&Deployment; 3]) {
    assert!(d.spent.failed >= 5 && d.spent.share.is_some_and(|share| share > 0.0), "{:?}", d.spent);
}

fn line<'a>(d: &'a Deployment, name: &str) -> &'a SliEvidence {
    d.evidence
        .slis
        .iter()
        .find(|e| e.name() == name)
        .unwrap_or_else(|| panic!("no {name}: {:#?}", d.evidence.slis))
}

/// A gauge of the policy claims nothing; what it showed of the youngest age.
fn youngest<'a>(d: &'a Deployment, name: &str) -> &'a AgeEvidence {
    let line = line(d, name);
    assert!(line.ln_e <= 0.0 && !line.degraded, "{line:#?}");
    &line.own.as_ref().expect("it is the policy's own").ages[0]
}

/// New pods and those that started before the change are counted, with their queues: of a spike that more pods follow, and
/// as ever. A spike that they do not follow fails before any of them is a minute old.
fn queues_by_pods([fault, twin, neighbour]: [&Deployment; 3]) {
    for (d, pods, is_tested) in [(fault, [0, 0], false), (twin, [1, 3], true), (neighbour, [12, 3], true)] {
        let age = youngest(d, "new_pods_queue");
        assert_eq!((age.instances, age.is_testable), (pods, is_tested), "{age:?}");
        assert!(age.middles.iter().all(|queue| queue.is_none_or(|n| n < 2.0)), "{age:?}");
        assert_eq!(line(d, "new_pods_queue").weight, 0.0);
    }
    assert!(line(fault, "queue_length").degraded);
}

/// Memory of new instances was held against that of earlier ones. That more of the neighbour's calls meet a cold start
/// shows, and neither counts.
fn memory_by_age([fault, twin, neighbour]: [&Deployment; 3]) {
    for d in [twin, neighbour] {
        let age = youngest(d, "memory");
        assert!(age.is_testable && age.starts[0] >= 6 && age.starts[1] >= 3, "{age:?}");
        let [new, old] = age.middles.map(Option::unwrap);
        assert!(new > 1e8 && (new / old - 1.0).abs() < 0.1, "{age:?}");
        assert!(line(d, "memory").weight > 0.04);
        assert_eq!(line(d, "cold_starts").weight, 0.0);
    }
    let cold = line(neighbour, "cold_starts");
    let share = |i: usize| cold.bad[i] as f64 / cold.requests[i] as f64;
    assert!(share(0) > 4.0 * share(1) && cold.ln_e > 1.0, "{cold:?}");
    let why = "memory is not tested: no new instance was watched from its start to the age of a minute.";
    assert!(fault.explanation.ends_with(why), "{}", fault.explanation);
}

macro_rules! examples {
    ($($test:ident: $name:literal, $service:literal, $change:expr, $decided_by:expr, $proposal:literal, $words:expr, $also:expr;)*) => {
        const EXAMPLES: &[Example] = &[$(Example {
            name: $name,
            service: $service,
            change: $change,
            decided_by: &$decided_by,
            proposal: $proposal,
            words: $words,
            also: $also,
        }),*];
        $(
            #[test]
            fn $test() {
                check(EXAMPLES.iter().find(|e| e.name == $name).unwrap());
            }
        )*
    };
}

// Scenario: `tests/examples/services.py` says what each recording is of. Guarantees: the fault fails, by an SLI that is
// about it, and sends one message with the proposal; twin and neighbour do not fail.
examples! {
    payment_canary: "payment-canary", "payment", None, ["p50", "p75", "p95", "p99"], "tell",
        ["success, p95, p95 of the acquirer's calls", "p95 x1.5", "the acquirer slow for both"], no_more;
    database_migration: "database-migration", "orders", Some(("migration", CHANGE_S)), ["database_p95"], "freeze",
        ["p95 of database calls, deadlocks (before/after)", "queries x4", "traffic doubled"], no_more;
    authentication: "authentication", "auth", None, ["refused_mobile"], "tell",
        ["401 by class of clients", "401 for a third of the mobile app's", "bots with 401 on both"], no_more;
    autoscaling: "autoscaling", "index", Some(("autoscaling", GROWN_S)), ["queue_length", "p50", "p75", "p95", "p99"], "tell",
        ["p95, queue length per pod (before/after)", "a spike and too few pods", "the spike alone"], queues_by_pods;
    cdn: "cdn", "edge", Some(("cdn", CHANGE_S)), ["misses", "origin_requests"], "tell",
        ["hit ratio, origin requests per request (before/after)", "TTL cut, misses x4", "traffic x3"], no_more;
    security_policy: "security-policy", "gateway", Some(("security-policy", CHANGE_S)), ["denied_known"], "freeze",
        ["denials of who had signed in (before/after)", "half of the exports denied", "a scanner denied"], no_more;
    serverless: "serverless", "thumbnails", None, ["guard", "err", "bucket_errors"], "tell",
        ["errors, errors of the bucket, cold starts, memory", "permission refused", "cold starts x5 at low traffic"], memory_by_age;
    third_party_api: "third-party-api", "shipping-quotes", None, ["parse_errors"], "tell",
        ["errors of calls by peer, parse errors", "schema changed", "the carrier out for both"], no_more;
    experiment_cohort: "experiment-cohort", "search", None, ["p50", "p75", "p95", "p99"], "flag_off",
        ["errors and p95 by variant", "cohort b x2 slower", "cohort b asks other routes"], no_more;
    multi_region: "multi-region", "catalogue", None, ["err"], "tell",
        ["success and p95 by region and pooled", "one region misconfigured", "one region far away"], only_there;
    user_api_kubernetes: "user-api-kubernetes", "user-api", None, ["err"], "tell",
        ["success, p95, budget spent, at 5 % of the traffic", "errors 0.1 to 2 %", "cold pods"], spends;
    incident: "incident", "shop", None, ["err"], "tell",
        ["errors by operation, new exceptions", "a quarter of the checkouts fail", "a retry storm shed by both"],
        named_and_recovered;
}

/// Scenario: the function's fault, judged from its recording alone. Guarantees: it is found under the same file, and what a
/// recording says nothing of is named, to people and to programs.
#[test]
fn a_recording_says_what_is_not_read_of_it() {
    let file = |path: &str| root(path).join("serverless");
    let options = ReplayOptions {
        files: vec![file("tests/golden/examples").join("fault.binpb.zst")],
        selection: Selection { service: Some("thumbnails".into()), ..Selection::default() },
        config: Some(file("config/examples").join("rollguard.yaml")),
        ..ReplayOptions::default()
    };
    let replayed = replay(&options).unwrap();
    assert_eq!(replayed.verdict(), Verdict::Fail);
    assert!(replayed.report().contains("\nnot read from a recording: memory\n"), "{}", replayed.report());
    let json: serde_json::Value = serde_json::from_str(&replayed.json()).unwrap();
    assert_eq!(json["not_read"], serde_json::json!(["memory"]));
}

/// Every file is one that Rollguard starts with, every folder has its recordings, and none is left over.
#[test]
fn every_example_is_whole() {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(root("config/examples")).unwrap() {
        let path = entry.unwrap().path();
        let file = if path.is_dir() {
            folders.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            path.join("rollguard.yaml")
        } else {
            path
        };
        if let Err(error) = config::load(&file, config::Files::Elsewhere) {
            panic!("{}: {error}", file.display());
        }
    }
    folders.sort();
    let mut recordings: Vec<String> = std::fs::read_dir(root("tests/golden/examples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    recordings.sort();
    let mut tested: Vec<&str> = EXAMPLES.iter().map(|e| e.name).collect();
    tested.sort_unstable();
    assert_eq!(folders, tested);
    assert_eq!(recordings, tested);
}
