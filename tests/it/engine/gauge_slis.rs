//! Gauges as SLIs, end to end: a configuration file, OTLP over HTTP to the real receiver, the real pipeline, a verdict.
//! The old version's instances have run for long when Rollguard begins to listen; then it grows by some more, whose
//! heap rises and whose cache is cold at first, and a new version rolls out in the same way.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data,
    number_data_point::Value as Number,
};
use prost::Message;
use rollguard::deployment::{Deployment, Mode, Phase};
use rollguard::model::{ResourceView, ServiceKey, UnixNanos};
use rollguard::pipeline::{Disposition, Signal};
use rollguard::verdict::{Grain, OwnEvidence, Policy, SliEvidence, Verdict};

use super::front::{Front, WELL, is_decided, is_one_budget, line, resource, text, walked, walked_metrics};
use super::world::{World, at, post};

/// Seconds between two exports of an instance.
const EXPORT_S: u64 = 15;
/// Seconds after which Rollguard has listened for long enough to know a start.
const LISTENED_S: u64 = 310;
/// Instances that start one after the other, and the seconds between them.
const GROWN: u64 = 10;
const ROLLED_OUT: u64 = 8;
const SPACING_S: u64 = 31;

const SLIS: &str = concat!(
    "      heap: {kind: gauge, value: {metric: process.memory.usage, attributes: {area: heap}}, weight: 0.3}\n",
    "      hit_ratio: {kind: gauge, value: {metric: cache.hit_ratio}, direction: decrease, weight: 0.3}\n",
);

/// A policy that waits for instances to grow older before it passes.
fn policy(slis: &str, min_pass: &str) -> Policy {
    let yaml = format!(
        "policies:\n  defaults:\n    slo: 0.99\n    warmup: 10s\n    min_pass: {min_pass}\n    horizon: 20m\n    slis:\n{slis}"
    );
    let config = rollguard::config::parse(&yaml, |_| None).unwrap_or_else(|e| panic!("{yaml}\n{e}"));
    config.policies.resolve(&ServiceKey::default(), Deployment::VERSION).policy
}

/// What is wrong with a version.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    /// Factor on the heap.
    heap: f64,
    /// Share of the warmth that its cache reaches.
    warm: f64,
}

const FINE: Trouble = Trouble { heap: 1.0, warm: 1.0 };

/// What an instance of an age exports.
fn export(
    version: &str,
    instance: u64,
    (started_s, now_s): (u64, u64),
    trouble: Trouble,
    noise: f64,
) -> Vec<u8> {
    let age = (now_s - started_s) as f64;
    let heap = 4e8 + 3e8 * (1.0 - (-age / 200.0).exp());
    let hits = 0.3 + 0.6 * trouble.warm * (1.0 - (-age / 60.0).exp());
    let point = |attributes: Vec<KeyValue>, value: Number| NumberDataPoint {
        attributes,
        time_unix_nano: at(now_s),
        value: Some(value),
        ..Default::default()
    };
    // As SDKs write a gauge and an up/down counter, which says when it began.
    let gauge = |name: &str, value: f64| Metric {
        name: name.into(),
        data: Some(Data::Gauge(Gauge { data_points: vec![point(Vec::new(), Number::AsDouble(value))] })),
        ..Default::default()
    };
    let area = |area: &str, bytes: f64| NumberDataPoint {
        start_time_unix_nano: at(started_s),
        ..point(vec![text("area", area)], Number::AsInt(bytes as i64))
    };
    let memory = Sum {
        data_points: vec![area("heap", heap * trouble.heap * noise), area("other", 9e9)],
        aggregation_temporality: 2,
        is_monotonic: false,
    };
    let metrics = vec![
        Metric { name: "process.memory.usage".into(), data: Some(Data::Sum(memory)), ..Default::default() },
        gauge("cache.hit_ratio", hits * noise.min(1.05)),
        // Nobody asks for it.
        gauge("process.threads", 40.0),
    ];
    let scope_metrics = vec![ScopeMetrics { metrics, ..Default::default() }];
    let resource = resource(version, instance as usize);
    let envelope = ResourceMetrics { resource, scope_metrics, ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![envelope] }.encode_to_vec()
}

/// Instances with their starts.
#[derive(Debug, Default)]
struct Fleet {
    started_s: BTreeMap<(&'static str, u64), u64>,
    noise: BTreeMap<(&'static str, u64), f64>,
}

impl Fleet {
    fn start(&mut self, version: &'static str, instance: u64, now_s: u64) {
        self.started_s.entry((version, instance)).or_insert(now_s);
        // Instances differ by a few percent, the same each time.
        let noise = 0.93 + 0.02 * (instance % 8) as f64;
        self.noise.insert((version, instance), noise);
    }

    /// What is exported in a second.
    fn exports(&self, now_s: u64, trouble: impl Fn(&str) -> Trouble) -> Vec<Vec<u8>> {
        let due = |(who, started): &(&(&'static str, u64), &u64)| {
            (now_s - **started + who.1).is_multiple_of(EXPORT_S)
        };
        let all = self.started_s.iter().filter(due);
        all.map(|(who, started)| export(who.0, who.1, (*started, now_s), trouble(who.0), self.noise[who]))
            .collect()
    }
}

/// A shop whose instances send gauges beside the spans of a few of them.
struct Shop {
    front: Front,
    fleet: Fleet,
    trouble: Trouble,
}

impl Shop {
    async fn open(policy: Policy, trouble: Trouble) -> Self {
        Self { front: Front::open(policy).await, fleet: Fleet::default(), trouble }
    }

    async fn second(&mut self, versions: &[&'static str]) {
        let spans: Vec<_> = versions.iter().map(|version| (*version, 2, 20, WELL)).collect();
        self.front.second(&spans).await;
        let (now, trouble) = (self.front.world.now_s, self.trouble);
        for version in versions {
            // Those that send spans start with them.
            (0..2).for_each(|instance| self.fleet.start(version, instance, now));
        }
        let of = |version: &str| if version == "v2" { trouble } else { FINE };
        for body in self.fleet.exports(now, of) {
            self.front.post("/v1/metrics", body).await;
        }
    }

    /// The old version is found running, and grows by so many instances once Rollguard knows a start from a find.
    async fn grow(&mut self, instances: u64) {
        for _ in 0..LISTENED_S {
            self.second(&["v1"]).await;
        }
        for instance in 2..2 + instances {
            let now = self.front.world.now_s;
            self.fleet.start("v1", instance, now);
            for _ in 0..SPACING_S {
                self.second(&["v1"]).await;
            }
        }
    }

    /// The new version rolls out until there is a verdict.
    async fn roll_out(&mut self, seconds: u64) -> Arc<Deployment> {
        let begin = self.front.world.now_s;
        for second in 0..seconds {
            if second % SPACING_S == 0 && second / SPACING_S < ROLLED_OUT {
                self.fleet.start("v2", 2 + second / SPACING_S, begin + second);
            }
            self.second(&["v1", "v2"]).await;
            if is_decided(&self.front.world) {
                break;
            }
        }
        self.front.world.deployment("v2").expect("v2 was seen")
    }
}

fn own(line: &SliEvidence) -> &OwnEvidence {
    line.own.as_deref().expect("it is the policy's own")
}

/// Scenario: the heap of a new version is three times as large; or its cache stays cold. Guarantees: it fails by that
/// gauge, against instances of the old version of the same age, and the verdict says so in values; within six minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gauge_finds_its_fault() {
    let troubles = [
        ("heap", Trouble { heap: 3.0, ..FINE }, "is higher than after earlier starts"),
        ("hit_ratio", Trouble { warm: 0.0, ..FINE }, "is lower than after earlier starts"),
    ];
    for (name, trouble, words) in troubles {
        let mut shop = Shop::open(policy(SLIS, "15m"), trouble).await;
        shop.grow(GROWN).await;
        let d = shop.roll_out(600).await;
        assert_eq!(d.verdict, Verdict::Fail, "{name}: {}\n{:#?}", d.explanation, line(&d, name));
        let found = line(&d, name);
        assert!(found.degraded && found.ln_e > 5.0 && found.grain == Grain::Fine, "{found:?}");
        assert!(d.explanation.contains(name) && d.explanation.contains(words), "{}", d.explanation);
        assert!(d.decided_after_seconds.is_some_and(|s| s < 600.0), "{:?}", d.decided_after_seconds);
        is_one_budget(&d);
        println!("{name}: {:?} s: {}", d.decided_after_seconds, d.explanation);
        shop.front.end().await;
    }
}

/// Scenario: a version that is as good rolls out: its heaps rise and its caches are cold at first, as those of the old
/// version were. Guarantees: it passes; both gauges were tested, at each age by as many starts as there were; points that
/// they read are `aggregated`, the others are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_version_passes_beside_gauges() {
    let mut shop = Shop::open(policy(SLIS, "7m"), FINE).await;
    shop.grow(GROWN).await;
    let d = shop.roll_out(900).await;
    assert_eq!(d.verdict, Verdict::Pass, "{}\n{:#?}", d.explanation, d.evidence.slis);
    for name in ["heap", "hit_ratio"] {
        let found = line(&d, name);
        assert!(found.ln_e < 1.0 && !found.degraded && found.grain == Grain::Fine, "{found:?}");
        let ages = &own(found).ages;
        let tested: Vec<bool> = ages.iter().map(|age| age.is_testable).collect();
        assert_eq!(tested, [true, true, true, false, false], "{ages:#?}");
        // Two instances began together with the spans.
        assert_eq!((ages[0].instances, ages[0].starts), ([10, 10], [8, 10]), "{ages:#?}");
    }
    let ledger = shop.front.world.shards.ledger();
    let (all, read) =
        (ledger.received(Signal::Metrics), ledger.settled(Signal::Metrics, Disposition::Aggregated));
    assert!(read * 2 <= all + 8 && read * 2 + 64 > all, "two of four points are read: {read} of {all}");
    let boards = shop.front.world.engine.board(shop.front.world.now()).services;
    let shown = &boards.iter().find(|s| s.key.name == "shop").expect("it serves").sli_metrics;
    assert!(shown.len() == 2 && shown.values().all(|seen| *seen), "{shown:?}");
    shop.front.end().await;
}

/// Scenario: the old version's instances have run since before Rollguard listened, and none was seen to start; the new
/// version's heap is three times as large. Guarantee: the gauge is not testable, says so, and decides nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_earlier_starts_a_gauge_is_not_tested() {
    let mut shop = Shop::open(policy(SLIS, "7m"), Trouble { heap: 3.0, ..FINE }).await;
    shop.grow(2).await;
    let d = shop.roll_out(900).await;
    assert_eq!(d.verdict, Verdict::Pass, "{}\n{:#?}", d.explanation, d.evidence.slis);
    let found = line(&d, "heap");
    assert_eq!((found.ln_e, found.grain, found.degraded), (0.0, Grain::NotTestable, false), "{found:?}");
    let ages = &own(found).ages;
    assert!(ages.iter().all(|age| !age.is_testable) && ages[0].instances[0] > 0, "{ages:#?}");
    assert!(d.explanation.contains("heap and hit_ratio are not tested"), "{}", d.explanation);
    shop.front.end().await;
}

/// Scenario: gauges as they are by default, and everything is wrong at once. Guarantee: they show it and decide nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gauge_reports_only_unless_it_is_given_weight() {
    let slis = SLIS.replace(", weight: 0.3", "");
    let mut shop = Shop::open(policy(&slis, "8m"), Trouble { heap: 3.0, warm: 0.0 }).await;
    shop.grow(GROWN).await;
    let d = shop.roll_out(900).await;
    assert_eq!(d.verdict, Verdict::Pass, "{}", d.explanation);
    for name in ["heap", "hit_ratio"] {
        let found = line(&d, name);
        assert!(found.weight == 0.0 && found.ln_e > 4.0 && found.degraded, "{found:?}");
    }
    shop.front.end().await;
}

/// Scenario: Rollguard restarts when the old version has grown, and once more in the middle of the rollout. Guarantees:
/// what is remembered and what was found is there; instances are as old as they were, and those that started while it was
/// away are not taken for young ones; the fault is found.
#[test]
fn gauges_go_on_over_a_restart() {
    let mut world = World::new(policy(SLIS, "15m"), Mode::Act);
    let (mut random, mut fleet) = (fastrand::Rng::with_seed(7), Fleet::default());
    let trouble = Trouble { heap: 4.0, ..FINE };
    let mut second = |world: &mut World, fleet: &mut Fleet, versions: &[&'static str]| {
        let spans: Vec<_> = versions.iter().map(|version| (*version, WELL)).collect();
        walked(world, &mut random, &spans);
        let now = world.now_s;
        let of = |version: &str| if version == "v2" { trouble } else { FINE };
        for body in fleet.exports(now, of) {
            walked_metrics(world, &body);
        }
    };
    (0..LISTENED_S).for_each(|_| second(&mut world, &mut fleet, &["v1"]));
    for instance in 10..10 + GROWN {
        fleet.start("v1", instance, world.now_s);
        (0..SPACING_S).for_each(|_| second(&mut world, &mut fleet, &["v1"]));
    }
    // Until a quiet service's snapshot was certainly made.
    (0..450).for_each(|_| second(&mut world, &mut fleet, &["v1"]));
    world.restart(3);
    (0..LISTENED_S).for_each(|_| second(&mut world, &mut fleet, &["v1"]));
    for instance in 10..14 {
        fleet.start("v2", instance, world.now_s);
        (0..SPACING_S).for_each(|_| second(&mut world, &mut fleet, &["v1", "v2"]));
    }
    (0..60).for_each(|_| second(&mut world, &mut fleet, &["v1", "v2"]));
    let before = world.deployment("v2").unwrap();
    let ages = own(line(&before, "heap")).ages.clone();
    assert_eq!(ages[0].starts, [4, 10], "{}\n{ages:#?}", before.explanation);
    assert_eq!(before.verdict, Verdict::Pending, "{}", before.explanation);
    fleet.start("v2", 14, world.now_s + 1);
    world.restart(5);
    (0..200).for_each(|_| second(&mut world, &mut fleet, &["v1", "v2"]));
    let d = world.deployment("v2").unwrap();
    let after = own(line(&d, "heap")).ages.clone();
    assert_eq!(after[0].starts, ages[0].starts, "who started while we were away has no age: {after:#?}");
    // Of the four two were in the middle of their second minute.
    assert_eq!(after[1].starts, [2, 10], "{after:#?}");
    // Those of the rest start when it has listened for long enough.
    (0..LISTENED_S).for_each(|_| second(&mut world, &mut fleet, &["v1", "v2"]));
    for instance in 20..24 {
        fleet.start("v2", instance, world.now_s);
        (0..SPACING_S).for_each(|_| second(&mut world, &mut fleet, &["v1", "v2"]));
    }
    (0..120).for_each(|_| second(&mut world, &mut fleet, &["v1", "v2"]));
    let d = world.deployment("v2").unwrap();
    assert_eq!(d.verdict, Verdict::Fail, "{}\n{:#?}", d.explanation, line(&d, "heap"));
    assert!(d.explanation.contains("heap is higher than after earlier starts"), "{}", d.explanation);
}

/// A gauge that does not say when its instance began.
const HITS: &str =
    "      hit_ratio: {kind: gauge, value: {metric: cache.hit_ratio}, direction: decrease, weight: 0.3}\n";

/// A shop without receivers in front of the pipeline.
struct Quiet {
    world: World,
    random: fastrand::Rng,
    fleet: Fleet,
    /// Whether `v1` fails requests.
    is_ill: bool,
}

impl Quiet {
    fn new(slis: &str) -> Self {
        let world = World::new(policy(slis, "15m"), Mode::Act);
        Self { world, random: fastrand::Rng::with_seed(7), fleet: Fleet::default(), is_ill: false }
    }

    fn seconds(&mut self, seconds: u64, versions: &[&'static str]) {
        for _ in 0..seconds {
            let spans: Vec<_> = versions.iter().map(|version| (*version, WELL)).collect();
            walked(&mut self.world, &mut self.random, &spans);
            if self.is_ill {
                let end = at(self.world.now_s) - 500_000_000;
                let own = ResourceView { service: b"shop", version: b"v1", ..ResourceView::default() };
                post(&self.world.intake, &own, UnixNanos(end + 800_000_000), &[(end, 20_000_000, true); 20]);
            }
            let exports = self.fleet.exports(self.world.now_s, |_| FINE);
            exports.iter().for_each(|body| walked_metrics(&self.world, body));
        }
    }

    /// Instances start, one in half a minute.
    fn start(&mut self, version: &'static str, instances: std::ops::Range<u64>, versions: &[&'static str]) {
        for instance in instances {
            self.fleet.start(version, instance, self.world.now_s);
            self.seconds(SPACING_S, versions);
        }
    }

    /// Earlier starts that those of `v2` in their first minute are held against.
    fn earlier_starts(&mut self) -> u32 {
        let both = ["v1", "v2"];
        self.start("v2", 30..32, &both);
        self.seconds(60, &both);
        let d = self.world.deployment("v2").unwrap();
        let ages = &own(line(&d, "hit_ratio")).ages;
        assert!(ages[0].starts[0] > 0, "{ages:#?}");
        ages[0].starts[1]
    }
}

/// Scenario: a reload names the gauges of instances that have run for long and sent nothing else that is read. Guarantee: none
/// that it finds is taken for a start; those that start later are.
#[test]
fn a_gauge_that_a_reload_names_finds_no_starts() {
    for grown in [0, 5] {
        let mut quiet = Quiet::new("      {}\n");
        (10..16).for_each(|instance| quiet.fleet.start("v1", instance, quiet.world.now_s));
        quiet.seconds(2 * LISTENED_S, &["v1"]);
        quiet.world.reload(policy(HITS, "15m"));
        quiet.seconds(LISTENED_S, &["v1"]);
        quiet.start("v1", 20..20 + grown, &["v1"]);
        assert_eq!(u64::from(quiet.earlier_starts()), grown);
    }
}

/// Scenario: a change without a version fails, and instances start before it, while it is failed, and once it is undone.
/// Guarantee: those that started under it teach nobody how starts of the service look.
#[test]
fn what_starts_under_a_failed_change_is_not_remembered() {
    let mut quiet = Quiet::new(HITS);
    quiet.seconds(LISTENED_S, &["v1"]);
    quiet.start("v1", 10..14, &["v1"]);
    quiet.seconds(60, &["v1"]);
    let change = quiet.world.announce(0, &[]).unwrap();
    quiet.is_ill = true;
    quiet.start("v1", 14..18, &["v1"]);
    quiet.seconds(60, &["v1"]);
    let d = quiet.world.again(&change);
    assert_eq!((d.verdict, d.phase), (Verdict::Fail, Phase::Failed), "{}", d.explanation);
    quiet.is_ill = false;
    quiet.seconds(60, &["v1"]);
    assert_eq!(quiet.world.again(&change).phase, Phase::Recovered);
    quiet.start("v1", 20..23, &["v1"]);
    quiet.seconds(60, &["v1"]);
    assert_eq!(quiet.earlier_starts(), 4 + 3);
}
