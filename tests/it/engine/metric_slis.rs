//! SLIs of a policy's own that are counted by metrics, end to end: a configuration file, OTLP over HTTP to the real
//! receiver, the real pipeline, a verdict. Requests are told by spans; beside them each instance exports its metrics
//! every five seconds, at a moment of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exponential_histogram_data_point::Buckets,
    metric::Data, number_data_point::Value as Number,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use rollguard::deployment::{Deployment, Mode};
use rollguard::pipeline::{Disposition, Signal};
use rollguard::verdict::{Flag, Policy, Verdict};

use super::front::{
    Front, Stage, WELL, all_of, is_decided, is_failed_by, is_passed_on, line, policy, resource, stages, text,
    walked_by, walked_metrics,
};
use super::world::{World, at};

/// Seconds between two exports of an instance.
pub(super) const EXPORT_S: u64 = 5;
/// Requests a second of one instance.
const RPS: u64 = 10;
/// Bounds of the durations of charges, in seconds.
const BOUNDS: [f64; 8] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0];

/// What a version does wrong, as its metrics show it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trouble {
    /// Share of payments that are declined.
    declined: f64,
    /// Factor on how long a charge takes.
    slow: f64,
    /// Database calls per request.
    calls: u64,
    /// Deadlocks a second of an instance.
    deadlocks: f64,
    /// Share of orders that are announced.
    announced: f64,
    /// Charges per request.
    charges: u64,
}

pub(super) const FINE: Trouble =
    Trouble { declined: 0.03, slow: 1.0, calls: 3, deadlocks: 0.1, announced: 0.6, charges: 1 };
/// Scale of the exponential buckets.
const SCALE: i32 = 5;

/// The counters of one instance.
#[derive(Debug, Clone, Default)]
pub(super) struct Meters {
    started_s: u64,
    /// Whether its SDK counts its requests.
    counts_requests: bool,
    /// Seconds after which deadlocks and announcements are counted for the first time: these series begin then.
    late_s: u64,
    exported_s: u64,
    accepted: u64,
    declined: u64,
    calls: u64,
    deadlocks: u64,
    announced: u64,
    charges: [u64; BOUNDS.len() + 1],
    /// The same charges by exponential bucket.
    spread: BTreeMap<i32, u64>,
}

impl Trouble {
    /// Nothing but so many deadlocks a second.
    pub(super) fn of_deadlocks(deadlocks: f64) -> Self {
        Self { deadlocks, ..FINE }
    }
}

impl Meters {
    /// Those of an instance that counts its requests too.
    pub(super) fn begun(started_s: u64) -> Self {
        Self { started_s, exported_s: started_s, counts_requests: true, ..Self::default() }
    }

    pub(super) fn serve(&mut self, random: &mut fastrand::Rng, trouble: Trouble) {
        let chance = |random: &mut fastrand::Rng, p: f64| u64::from(random.f64() < p);
        for _ in 0..RPS {
            let declined = chance(random, trouble.declined);
            self.declined += declined;
            self.accepted += 1 - declined;
            self.calls += trouble.calls;
            self.announced += chance(random, trouble.announced);
            for _ in 0..trouble.charges {
                let seconds = 0.02 * 5f64.powf(random.f64()) * trouble.slow;
                self.charges[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
                let bucket = (seconds.log2() * f64::from(1 << SCALE)).ceil() as i32 - 1;
                *self.spread.entry(bucket).or_default() += 1;
            }
        }
        self.deadlocks += chance(random, trouble.deadlocks);
    }

    /// What it exports at `now_s`, as an SDK writes it; with deltas it begins anew.
    pub(super) fn export(&mut self, resource: Option<Resource>, now_s: u64, is_delta: bool) -> Vec<u8> {
        let start = at(if is_delta { self.exported_s } else { self.started_s });
        let aggregation_temporality = if is_delta { 1 } else { 2 };
        let number_since = |start: u64, attributes: Vec<KeyValue>, n: u64| NumberDataPoint {
            attributes,
            start_time_unix_nano: start,
            time_unix_nano: at(now_s),
            value: Some(Number::AsInt(n.cast_signed())),
            ..Default::default()
        };
        let number = |attributes: Vec<KeyValue>, n: u64| number_since(start, attributes, n);
        let later = |n: u64| number_since(start.max(at(self.started_s + self.late_s)), Vec::new(), n);
        let sum = |name: &str, data_points: Vec<NumberDataPoint>| Metric {
            name: name.into(),
            data: Some(Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true })),
            ..Default::default()
        };
        let result = |word: &str, n: u64| number(vec![text("payment.result", word)], n);
        let charges = HistogramDataPoint {
            start_time_unix_nano: start,
            time_unix_nano: at(now_s),
            count: self.charges.iter().sum(),
            explicit_bounds: BOUNDS.to_vec(),
            bucket_counts: self.charges.to_vec(),
            ..Default::default()
        };
        let charges = Histogram { data_points: vec![charges], aggregation_temporality };
        let histogram = Metric {
            name: "charge.duration".into(),
            unit: "s".into(),
            data: Some(Data::Histogram(charges)),
            ..Default::default()
        };
        let offset = self.spread.keys().next().copied().unwrap_or_default();
        let last = self.spread.keys().next_back().copied().unwrap_or_default();
        let positive = Buckets {
            offset,
            bucket_counts: (offset..=last)
                .map(|at| self.spread.get(&at).copied().unwrap_or_default())
                .collect(),
        };
        let spread = ExponentialHistogramDataPoint {
            start_time_unix_nano: start,
            time_unix_nano: at(now_s),
            count: self.spread.values().sum(),
            scale: SCALE,
            positive: Some(positive),
            ..Default::default()
        };
        let spread = ExponentialHistogram { data_points: vec![spread], aggregation_temporality };
        let spread = Metric {
            name: "charge.spread".into(),
            unit: "s".into(),
            data: Some(Data::ExponentialHistogram(spread)),
            ..Default::default()
        };
        let mut metrics = vec![
            sum("payments", vec![result("accepted", self.accepted), result("declined", self.declined)]),
            sum("db.calls", vec![number(Vec::new(), self.calls)]),
            sum("db.deadlocks", vec![later(self.deadlocks)]),
            sum("orders.announced", vec![later(self.announced)]),
            histogram,
            spread,
            // Nobody asks for it.
            sum("process.cpu.time", vec![number(Vec::new(), now_s)]),
        ];
        if self.counts_requests {
            // Each charges once, so they take as long.
            let mut requests = metrics[4].clone();
            requests.name = "http.server.request.duration".into();
            metrics.push(requests);
        }
        self.exported_s = now_s;
        if is_delta {
            let Self { started_s, counts_requests, .. } = *self;
            *self = Self { started_s, counts_requests, exported_s: now_s, ..Self::default() };
        }
        let scope_metrics = vec![ScopeMetrics { metrics, ..Default::default() }];
        let envelope = ResourceMetrics { resource, scope_metrics, ..Default::default() };
        ExportMetricsServiceRequest { resource_metrics: vec![envelope] }.encode_to_vec()
    }
}

/// A shop whose instances send spans and metrics.
pub(super) struct Shop {
    pub(super) front: Front,
    meters: BTreeMap<(&'static str, usize), Meters>,
    is_delta: bool,
    /// Whether its request metrics count all requests, and spans are a tenth of them.
    pub(super) counts_requests: bool,
    /// Versions whose metrics are lost on the way.
    lost: Vec<&'static str>,
    /// Bodies of metrics that were sent.
    pub(super) sent: Vec<Vec<u8>>,
}

impl Shop {
    pub(super) async fn open(slis: &str, is_delta: bool) -> Self {
        let front = Front::open(policy(slis)).await;
        Self {
            front,
            meters: BTreeMap::new(),
            is_delta,
            counts_requests: false,
            lost: Vec::new(),
            sent: Vec::new(),
        }
    }

    async fn second(&mut self, versions: &[(&'static str, Trouble)]) {
        let rps = INSTANCES as u64 * if self.counts_requests { RPS / 10 } else { RPS };
        let spans: Vec<_> = versions.iter().map(|(version, _)| (*version, INSTANCES, rps, WELL)).collect();
        self.front.second(&spans).await;
        let (now, counts_requests) = (self.front.world.now_s, self.counts_requests);
        for &(version, trouble) in versions {
            for instance in 0..INSTANCES {
                let (started_s, exported_s) = (now - 1, now - 1);
                let fresh = || Meters { started_s, exported_s, counts_requests, ..Meters::default() };
                let meters = self.meters.entry((version, instance)).or_insert_with(fresh);
                meters.serve(&mut self.front.random, trouble);
                if (now + 2 * instance as u64).is_multiple_of(EXPORT_S) {
                    let body = meters.export(resource(version, instance), now, self.is_delta);
                    if !self.lost.contains(&version) {
                        self.sent.push(body.clone());
                        self.front.post("/v1/metrics", body).await;
                    }
                }
            }
        }
    }

    /// `v1` alone until it is known, then `v2` beside it or in its place, until there is a verdict.
    pub(super) async fn judge(&mut self, trouble: Trouble, beside: bool) -> Arc<Deployment> {
        let (v1, v2) = (("v1", FINE), ("v2", trouble));
        for stage in stages(beside) {
            match stage {
                Stage::Alone => self.second(&[v1]).await,
                Stage::Both => self.second(&[v1, v2]).await,
                Stage::Instead => self.second(&[v2]).await,
            }
            if is_decided(&self.front.world) {
                break;
            }
        }
        self.front.world.deployment("v2").expect("v2 was seen")
    }
}

const INSTANCES: usize = 4;

async fn judged(slis: &str, trouble: Trouble, beside: bool, is_delta: bool) -> Arc<Deployment> {
    let mut shop = Shop::open(slis, is_delta).await;
    let deployment = shop.judge(trouble, beside).await;
    shop.front.end().await;
    deployment
}

/// The kinds, what each is about, and the trouble that it finds.
pub(super) fn kinds() -> Vec<(&'static str, &'static str, Trouble)> {
    vec![
        ("deadlocks", "counter, events: {metric: db.deadlocks}", Trouble { deadlocks: 0.8, ..FINE }),
        (
            "declined",
            "ratio, bad: {metric: payments, attributes: {payment.result: 'decl*'}}",
            Trouble { declined: 0.2, ..FINE },
        ),
        (
            "accepted",
            "ratio, total: {metric: payments}, good: {attributes: {payment.result: accepted}}",
            Trouble { declined: 0.2, ..FINE },
        ),
        ("db_calls", "rate, events: {metric: db.calls}", Trouble { calls: 8, ..FINE }),
        (
            "calls_per_payment",
            "rate, events: {metric: db.calls}, total: {metric: payments}",
            Trouble { calls: 8, ..FINE },
        ),
        (
            "announced",
            "rate, events: {metric: orders.announced}, direction: decrease",
            Trouble { announced: 0.2, ..FINE },
        ),
        (
            "charge_over_75ms",
            "latency, total: {metric: charge.duration}, threshold: 75ms",
            Trouble { slow: 1.6, ..FINE },
        ),
        (
            "charge_p95",
            "latency, total: {metric: charge.duration}, quantile: 0.95",
            Trouble { slow: 1.6, ..FINE },
        ),
        // Of a histogram its number of values counts.
        ("charges", "counter, events: {metric: charge.duration}", Trouble { charges: 3, ..FINE }),
        (
            "spread_over_75ms",
            "latency, total: {metric: charge.spread}, threshold: 75ms",
            Trouble { slow: 1.6, ..FINE },
        ),
        (
            "spread_p95",
            "latency, total: {metric: charge.spread}, quantile: 0.95",
            Trouble { slow: 1.6, ..FINE },
        ),
    ]
}

pub(super) fn all_kinds(extra: &str) -> String {
    all_of(kinds().iter().map(|(name, words, _)| (*name, *words)), extra)
}

/// Scenario: a policy with one SLI of each kind, by metrics; a version has one trouble after the other, which no span
/// shows. Guarantees: it fails, by the SLI that is about the trouble, and the verdict says so; by deltas and by
/// totals alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_finds_its_fault_by_metrics() {
    for (i, (name, words, trouble)) in kinds().into_iter().enumerate() {
        let slis = format!("      {name}: {{kind: {words}, weight: 0.2}}\n");
        let d = judged(&slis, trouble, true, i % 2 == 0).await;
        is_failed_by(&d, name);
    }
}

/// Scenario: all of them at once, each required for a PASS, and a version that is as good. Guarantees: it passes, on all
/// of them; points that an SLI reads are `aggregated`, and only those that nobody reads are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_version_passes_all_kinds_by_metrics() {
    for is_delta in [true, false] {
        let mut shop = Shop::open(&all_kinds(", required: true"), is_delta).await;
        let d = shop.judge(FINE, true).await;
        is_passed_on(&d, kinds().iter().map(|(name, ..)| *name));
        let boards = shop.front.world.engine.board(shop.front.world.now()).services;
        let read = &boards.iter().find(|s| s.key.name == "shop").expect("it serves").sli_metrics;
        assert!(read.len() == 6 && read.values().all(|seen| *seen), "{read:?}");
        // Six sums, one of them of two points, and two histograms; one is read by nobody, and the first of each may be a base.
        let ledger = shop.front.world.shards.ledger();
        let (all, counted) =
            (ledger.received(Signal::Metrics), ledger.settled(Signal::Metrics, Disposition::Aggregated));
        assert!(counted as f64 > 0.75 * all as f64 && counted < all, "{counted} of {all}");
        shop.front.end().await;
    }
}

/// Scenario: all of them report only; a version with every trouble at once. Guarantee: each line shows it, and none
/// decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reports_only_decides_nothing_by_metrics() {
    let trouble = Trouble { declined: 0.2, slow: 1.6, calls: 8, deadlocks: 0.6, announced: 0.2, charges: 3 };
    let d = judged(&all_kinds(", report_only: true"), trouble, true, true).await;
    assert_eq!(d.verdict, Verdict::Pass, "{}", d.explanation);
    for (name, ..) in kinds() {
        let own = line(&d, name);
        assert!(own.weight == 0.0 && own.ln_e > 4.0, "{name}: {own:?}");
    }
}

/// Scenario: a rolling update: `v1` ends as `v2` begins. Guarantees: each kind finds its fault by what is remembered
/// of `v1`; a healthy version never fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_is_held_to_what_is_remembered_by_metrics() {
    for (i, (name, words, trouble)) in kinds().into_iter().enumerate() {
        let slis = format!("      {name}: {{kind: {words}, weight: 0.2}}\n");
        let d = judged(&slis, trouble, false, i % 2 == 1).await;
        assert_eq!(d.verdict, Verdict::Fail, "{name}: {}\n{:#?}", d.explanation, line(&d, name));
        assert!(d.evidence.has(Flag::RememberedBaseline) && line(&d, name).ln_e > 4.0, "{name}");
    }
    let d = judged(&all_kinds(""), FINE, false, false).await;
    assert_ne!(d.verdict, Verdict::Fail, "{}", d.explanation);
}

/// Scenario: request metrics count all requests, and only a tenth of them has a span. Guarantee: a rate of a metric is per
/// request of those metrics, not of the spans: the fault is found, and a healthy twin is not failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_per_request_of_the_request_metrics() {
    let slis = "      db_calls: {kind: rate, events: {metric: db.calls}, weight: 0.2}\n";
    for (trouble, is_delta) in [(Trouble { calls: 8, ..FINE }, true), (FINE, false)] {
        let mut shop = Shop::open(slis, is_delta).await;
        shop.counts_requests = true;
        let d = shop.judge(trouble, true).await;
        let own = line(&d, "db_calls");
        let is_fault = trouble.calls > FINE.calls;
        assert_eq!(d.verdict == Verdict::Fail, is_fault, "{}\n{own:#?}", d.explanation);
        assert_eq!(own.ln_e > 4.0, is_fault, "{own:?}");
        let each = [0, 1].map(|side| own.bad[side] as f64 / own.requests[side] as f64);
        assert!((each[0] - trouble.calls as f64).abs() < 0.1, "per request: {own:?}");
        assert!((each[1] - FINE.calls as f64).abs() < 0.1, "per request: {own:?}");
        shop.front.end().await;
    }
}

/// Scenario: the metrics of one version are lost on the way while its spans go on. Guarantees: neither is it failed
/// for what nobody counted nor is the other one, and nothing passes on an SLI that needs them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_metric_says_is_not_zero() {
    let slis = "      deadlocks: {kind: counter, events: {metric: db.deadlocks}, required: true, weight: 0.3}\n      announced: {kind: rate, events: {metric: orders.announced}, direction: decrease, weight: 0.3}\n";
    for lost in ["v1", "v2"] {
        let mut shop = Shop::open(slis, false).await;
        for _ in 0..170 {
            shop.second(&[("v1", FINE)]).await;
        }
        shop.lost.push(lost);
        for _ in 0..240 {
            shop.second(&[("v1", FINE), ("v2", FINE)]).await;
        }
        let d = shop.front.world.deployment("v2").expect("v2 was seen");
        assert_eq!(d.verdict, Verdict::Pending, "{lost}: {}\n{:#?}", d.explanation, d.evidence.slis);
        shop.front.end().await;
    }
}

/// A shop without receivers between it and the pipeline: spans and totals of metrics.
struct Quiet {
    world: World,
    random: fastrand::Rng,
    meters: BTreeMap<(&'static str, usize), Meters>,
    /// Instances of `v2` that do not say which they are.
    unnamed: Vec<usize>,
    /// Seconds between the first and the second instance of `v2`, and so on.
    wave_s: u64,
    /// As [`Meters::late_s`].
    late_s: u64,
}

impl Quiet {
    fn new(policy: Policy) -> Self {
        Self {
            world: World::new(policy, Mode::Act),
            random: fastrand::Rng::with_seed(7),
            meters: BTreeMap::new(),
            unnamed: Vec::new(),
            wave_s: 0,
            late_s: 0,
        }
    }

    fn seconds(&mut self, seconds: u64, versions: &[(&'static str, Trouble)]) {
        (0..seconds).for_each(|_| self.second(versions));
    }

    fn second(&mut self, versions: &[(&'static str, Trouble)]) {
        self.world.run(1);
        let now = self.world.now_s;
        for &(version, trouble) in versions {
            let since = self.meters.get(&(version, 0)).map_or(now, |first| first.started_s + 1);
            for instance in 0..INSTANCES {
                if version == "v2" && now < since + instance as u64 * self.wave_s {
                    continue;
                }
                let mut resource = resource(version, instance);
                if version == "v2" && self.unnamed.contains(&instance) {
                    resource.iter_mut().for_each(|r| r.attributes.retain(|a| a.key != "service.instance.id"));
                }
                walked_by(&self.world, &mut self.random, resource.clone(), WELL);
                let (started_s, late_s) = (now - 1, self.late_s);
                let fresh = || Meters { started_s, late_s, exported_s: started_s, ..Meters::default() };
                let meters = self.meters.entry((version, instance)).or_insert_with(fresh);
                meters.serve(&mut self.random, trouble);
                if !(now + 2 * instance as u64).is_multiple_of(EXPORT_S) {
                    continue;
                }
                let body = meters.export(resource, now, false);
                walked_metrics(&self.world, &body);
            }
        }
    }
}

/// Scenario: the counters of `v1` run for a quarter of an hour before a policy names them, by a reload or by a restart
/// under the new file; another metric was read all along, and the series of these begin when they count for the first
/// time. Then `v2` takes the place of `v1`. Guarantees: what they counted before does not count in the first interval
/// that is read: a healthy version is not failed for fewer, and one with a trouble is found.
#[test]
fn what_a_counter_held_before_a_policy_named_it_is_no_news() {
    let calls = "      calls: {kind: rate, events: {metric: db.calls}}\n";
    let slis = format!(
        "{calls}      announced: {{kind: rate, events: {{metric: orders.announced}}, direction: decrease, weight: 0.3}}\n      deadlocks: {{kind: counter, events: {{metric: db.deadlocks}}, weight: 0.3}}\n"
    );
    let trouble = Trouble { deadlocks: 0.8, ..FINE };
    for (restarts, fault) in [(false, FINE), (true, FINE), (false, trouble), (true, trouble)] {
        let mut quiet = Quiet::new(policy(calls));
        quiet.late_s = 30;
        quiet.seconds(900, &[("v1", FINE)]);
        if restarts {
            quiet.world.restart_under(3, policy(&slis));
        } else {
            quiet.world.reload(policy(&slis));
        }
        quiet.seconds(200, &[("v1", FINE)]);
        quiet.seconds(3, &[("v1", FINE), ("v2", fault)]);
        quiet.seconds(200, &[("v2", fault)]);
        let d = quiet.world.deployment("v2").unwrap();
        let is_fail = d.verdict == Verdict::Fail;
        let case = format!("restarts: {restarts}, {fault:?}: {}\n{:#?}", d.explanation, d.evidence.slis);
        assert_eq!(is_fail, fault.deadlocks > 0.5, "{case}");
        assert!(!is_fail || line(&d, "deadlocks").degraded, "{case}");
    }
}

/// Scenario: each instance runs into a deadlock every second; those of `v2` join one after the other, or some do not say
/// which they are. Guarantee: the events that are counted and the seconds they are counted over are of the same
/// instances and the same time, so that there is one a second.
#[test]
fn events_and_seconds_of_instances_go_together() {
    let slis = "      deadlocks: {kind: counter, events: {metric: db.deadlocks}, weight: 0.3}\n";
    let each = Trouble { deadlocks: 1.0, ..FINE };
    for (wave_s, unnamed) in [(0, vec![]), (6, vec![]), (0, vec![3]), (6, vec![1, 2])] {
        let mut quiet = Quiet::new(policy(slis));
        (quiet.wave_s, quiet.unnamed) = (wave_s, unnamed.clone());
        quiet.seconds(170, &[("v1", each)]);
        for _ in 0..60 {
            quiet.second(&[("v1", each), ("v2", each)]);
            let Some(d) = quiet.world.deployment("v2") else { continue };
            let Some(own) = d.evidence.slis.iter().find(|e| e.name() == "deadlocks") else { continue };
            for side in 0..2 {
                assert_eq!(own.bad[side], own.requests[side], "{wave_s} s, {unnamed:?}: {own:?}");
            }
        }
        let d = quiet.world.deployment("v2").unwrap();
        assert!(line(&d, "deadlocks").requests[0] > 30, "{:?}", line(&d, "deadlocks"));
    }
}

/// Scenario: Rollguard restarts in the middle of a deployment, and comes back with a configuration that has no SLIs of
/// its own any more; then the new version begins to run into deadlocks, by totals that go on through it all.
/// Guarantees: the deployment keeps the policy that it began with, what was counted and learned is there, nothing is
/// counted twice, and the fault is found.
#[test]
fn a_deployment_keeps_its_metric_slis_over_a_restart_and_a_reload() {
    let slis = "      deadlocks: {kind: counter, events: {metric: db.deadlocks}, weight: 0.2}\n";
    let mut quiet = Quiet::new(policy(slis));
    quiet.seconds(170, &[("v1", FINE)]);
    quiet.seconds(35, &[("v1", FINE), ("v2", FINE)]);
    let before = quiet.world.deployment("v2").unwrap();
    assert_eq!(before.verdict, Verdict::Pending, "{}", before.explanation);
    quiet.world.restart_under(3, policy("      {}\n"));
    quiet.seconds(30, &[("v1", FINE), ("v2", FINE)]);
    let d = quiet.world.deployment("v2").unwrap();
    assert_eq!((d.verdict, d.policy.slis.len()), (Verdict::Pending, 1), "{}", d.explanation);
    let (then, now) = (line(&before, "deadlocks"), line(&d, "deadlocks"));
    assert!(then.requests[1] > 0 && now.requests[1] > then.requests[1], "{then:?} {now:?}");
    let each = |side: usize| {
        (now.bad[side] - then.bad[side]) as f64 / (now.requests[side] - then.requests[side]) as f64
    };
    assert!((0..2).all(|side| each(side) < 0.25), "counted once: {then:?} {now:?}");
    let trouble = Trouble { deadlocks: 0.8, ..FINE };
    quiet.seconds(90, &[("v1", FINE), ("v2", trouble)]);
    let d = quiet.world.deployment("v2").unwrap();
    assert_eq!(d.verdict, Verdict::Fail, "{}\n{:#?}", d.explanation, line(&d, "deadlocks"));
    assert!(d.explanation.contains("deadlocks"), "{}", d.explanation);
}
