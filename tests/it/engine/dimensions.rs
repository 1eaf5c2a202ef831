//! Dimensions and regions, end to end: a configuration, OTLP through the real walker into the real pipeline, a verdict.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    Histogram, HistogramDataPoint, Metric, ResourceMetrics, ScopeMetrics, metric::Data,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rollguard::deployment::{Deployment, Mode};
use rollguard::model::{ServiceKey, Source, UnixNanos};
use rollguard::pipeline::recording::{Recording, Selection};
use rollguard::receiver::{WalkSettings, walk_metrics, walk_traces};
use rollguard::verdict::{Flag, Policy, Verdict};

use super::world::{World, at};

pub(super) const REGIONS: [&str; 3] = ["eu-1", "us-1", "ap-1"];

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, key_strindex: 0 }
}

/// The policy of a configuration with these keys.
pub(super) fn policy(keys: &str) -> Policy {
    let yaml = format!(
        "policies:\n  defaults:\n    slo: 0.99\n    warmup: 10s\n    min_pass: 60s\n    horizon: 10m\n{keys}"
    );
    let config = rollguard::config::parse(&yaml, |_| None).unwrap_or_else(|e| panic!("{yaml}\n{e}"));
    config.policies.resolve(&ServiceKey::default(), Deployment::VERSION).policy
}

const REGION_FAILS: &str = "    regions: {attribute: cloud.region, action: fail}\n";
pub(super) const REGION_REPORTS: &str = "    regions: {attribute: cloud.region}\n";

/// What a version does in one region.
#[derive(Debug, Clone, Copy)]
pub(super) struct Law {
    pub(super) rps: u64,
    /// Share of failed requests, and of those of the mobile clients beside, and of `GET /pay`.
    pub(super) errors: f64,
    pub(super) mobile: f64,
    pub(super) pay: f64,
    /// Factor on latency.
    pub(super) slow: f64,
}

pub(super) const WELL: Law = Law { rps: 20, errors: 0.005, mobile: 0.0, pay: 0.0, slow: 1.0 };

pub(super) struct Shop {
    pub(super) world: World,
    random: fastrand::Rng,
    /// The bodies that were sent.
    sent: Vec<Vec<u8>>,
    /// Where it sends metrics in place of spans, what its instances have counted.
    pub(super) meters: Option<BTreeMap<String, Meter>>,
    /// Second of the comparison from which a few of the old version's requests are traced as well.
    traced_from: Option<u64>,
    is_traced: bool,
}

/// What an instance counts: requests by route, kind of client and status, in buckets of their duration.
#[derive(Debug, Default)]
pub(super) struct Meter {
    started_s: u64,
    requests: BTreeMap<(&'static str, &'static str, &'static str), [u64; BOUNDS.len() + 1]>,
}

const BOUNDS: [f64; 7] = [0.02, 0.03, 0.04, 0.05, 0.06, 0.075, 0.1];
/// Seconds between two exports.
const EXPORT_S: u64 = 5;

impl Meter {
    /// What it exports at `now_s`, as an SDK writes it.
    fn export(&self, resource: Option<Resource>, now_s: u64) -> Vec<u8> {
        let point = |((route, class, code), buckets): (&(&str, &str, &str), &[u64; BOUNDS.len() + 1])| {
            HistogramDataPoint {
                attributes: vec![
                    text("http.request.method", "GET"),
                    text("http.route", route),
                    text("http.response.status_code", code),
                    text("client.class", class),
                ],
                start_time_unix_nano: at(self.started_s),
                time_unix_nano: at(now_s),
                count: buckets.iter().sum(),
                explicit_bounds: BOUNDS.to_vec(),
                bucket_counts: buckets.to_vec(),
                ..Default::default()
            }
        };
        let data_points = self.requests.iter().map(point).collect();
        let metric = Metric {
            name: "http.server.request.duration".into(),
            unit: "s".into(),
            data: Some(Data::Histogram(Histogram { data_points, aggregation_temporality: 2 })),
            ..Default::default()
        };
        let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..Default::default() }];
        let envelope = ResourceMetrics { resource, scope_metrics, ..Default::default() };
        ExportMetricsServiceRequest { resource_metrics: vec![envelope] }.encode_to_vec()
    }
}

impl Shop {
    pub(super) fn open(policy: Policy) -> Self {
        Self {
            world: World::new(policy, Mode::Act),
            random: fastrand::Rng::with_seed(11),
            sent: Vec::new(),
            meters: None,
            traced_from: None,
            is_traced: false,
        }
    }

    /// A second in which versions serve, each from two instances in every region.
    pub(super) fn second(&mut self, versions: &[(&str, [Law; 3])]) {
        self.world.run(1);
        let now = self.world.now_s;
        for (version, laws) in versions {
            for (region, law) in REGIONS.iter().zip(laws) {
                for instance in 0..2 {
                    self.send(version, region, instance, *law, now);
                }
            }
        }
    }

    fn send(&mut self, version: &str, region: &str, instance: u64, law: Law, now: u64) {
        let name = format!("{version}-{region}-{instance}");
        let attributes = vec![
            text("service.name", "shop"),
            text("service.version", version),
            text("service.instance.id", &name),
            text("cloud.region", region),
        ];
        let resource = Some(Resource { attributes, ..Default::default() });
        let mut meter = self.meters.as_mut().map(|meters| {
            let fresh = || Meter { started_s: now, ..Meter::default() };
            meters.entry(name).or_insert_with(fresh)
        });
        let mut spans = Vec::new();
        for i in 0..law.rps / 2 {
            let end = at(now - 1) + self.random.u64(..1_000_000_000);
            let took = 20_000_000.0 * law.slow * 4f64.powf(self.random.f64() * self.random.f64());
            let mobile = i % 4 == 0;
            let is_pay = i % 3 == 0;
            let errors =
                law.errors + if mobile { law.mobile } else { 0.0 } + if is_pay { law.pay } else { 0.0 };
            let code = if self.random.f64() < errors { "500" } else { "200" };
            let route = if is_pay { "/pay" } else { "/cart" };
            let class = if mobile { "mobile" } else { "web" };
            if let Some(meter) = &mut meter {
                let buckets = meter.requests.entry((route, class, code)).or_default();
                buckets[BOUNDS.partition_point(|bound| bound * 1e9 < took)] += 1;
                if !(self.is_traced && version == "v1" && i == 0) {
                    continue;
                }
            }
            // What it is of shows in its trace id.
            let region = REGIONS.iter().position(|known| *known == region).unwrap_or_default() as u8;
            let mut trace_id = vec![region, u8::from(is_pay)];
            trace_id.extend_from_slice(&[0; 6]);
            trace_id.extend_from_slice(&end.to_be_bytes());
            spans.push(Span {
                trace_id,
                span_id: vec![1; 8],
                name: "GET /".into(),
                kind: 2,
                start_time_unix_nano: end - took as u64,
                end_time_unix_nano: end,
                attributes: vec![
                    text("http.request.method", "GET"),
                    text("http.route", route),
                    text("http.response.status_code", code),
                    text("client.class", class),
                ],
                status: (code == "500")
                    .then(|| opentelemetry_proto::tonic::trace::v1::Status { code: 2, ..Default::default() }),
                ..Default::default()
            });
        }
        if let Some(meter) = meter
            && (now + instance * 2).is_multiple_of(EXPORT_S)
        {
            let body = meter.export(resource.clone(), now);
            let mut batch = self.world.intake.begin(UnixNanos(at(now) + 300_000_000));
            walk_metrics(&body, &WalkSettings::default(), &mut batch).expect("sound");
            batch.commit().expect("room");
            self.sent.push(body);
        }
        if spans.is_empty() {
            return;
        }
        let scope_spans = vec![ScopeSpans { spans, ..Default::default() }];
        let envelope = ResourceSpans { resource, scope_spans, ..Default::default() };
        let body = ExportTraceServiceRequest { resource_spans: vec![envelope] }.encode_to_vec();
        let mut batch = self.world.intake.begin(UnixNanos(at(now) + 300_000_000));
        walk_traces(&body, &WalkSettings::default(), &mut batch).expect("sound");
        batch.commit().expect("room");
        self.sent.push(body);
    }

    /// `v1` alone until it is known, then `v2` beside it until there is a verdict.
    fn judge(&mut self, old: [Law; 3], new: [Law; 3], restart_at: Option<u64>) -> Arc<Deployment> {
        for _ in 0..170 {
            self.second(&[("v1", old)]);
        }
        for second in 0..600 {
            self.is_traced = self.traced_from.is_some_and(|from| second >= from);
            self.second(&[("v1", old), ("v2", new)]);
            if restart_at == Some(second) {
                self.world.restart(1);
            }
            let decided = self.world.deployment("v2").is_some_and(|d| d.verdict != Verdict::Pending);
            if decided {
                break;
            }
        }
        self.world.deployment("v2").expect("v2 was seen")
    }
}

fn judged(keys: &str, old: [Law; 3], new: [Law; 3]) -> Arc<Deployment> {
    Shop::open(policy(keys)).judge(old, new, None)
}

/// Scenario: three regions; the new version fails requests, or is slow, in one of them. Guarantees: it fails for that
/// region alone, which verdict, explanation and rollback name; over a restart too.
#[test]
fn a_bad_region_fails_and_is_the_scope() {
    let failing = Law { errors: 0.06, ..WELL };
    let slow = Law { slow: 1.5, ..WELL };
    for (bad, restart_at) in [(failing, None), (slow, None), (failing, Some(15))] {
        let mut shop = Shop::open(policy(REGION_FAILS));
        let d = shop.judge([WELL; 3], [WELL, bad, WELL], restart_at);
        assert_eq!(d.verdict, Verdict::Fail, "{bad:?}: {}", d.explanation);
        let regions = d.evidence.regions.as_ref().expect("regions are judged");
        assert_eq!(regions.scope(), ["region=us-1"], "{bad:?}: {regions:?} {:#?}", d.evidence.cohorts);
        assert_eq!((regions.judged, regions.odd.as_deref()), (3, Some("us-1")));
        assert_eq!(d.evidence.cohorts[0].value, "us-1", "the worst first");
        assert!(d.explanation.contains("us-1"), "{}", d.explanation);
        let rollback = &shop.world.kept.rollbacks[0];
        assert_eq!(rollback.evidence.regions.as_ref().map(|r| r.scope()), Some(vec!["region=us-1".into()]));
    }
}

/// Scenario: the same fault in every region. Guarantee: the action is for all of them.
#[test]
fn a_fault_everywhere_has_no_scope() {
    let d = judged(REGION_FAILS, [WELL; 3], [Law { errors: 0.06, ..WELL }; 3]);
    assert_eq!(d.verdict, Verdict::Fail, "{}", d.explanation);
    let regions = d.evidence.regions.as_ref().expect("regions are judged");
    assert_eq!((regions.scope(), &regions.odd), (vec!["all".to_owned()], &None));
}

/// Scenario: nothing is wrong. Guarantee: it passes, region by region.
#[test]
fn a_healthy_version_passes() {
    let d = judged(REGION_FAILS, [WELL; 3], [WELL; 3]);
    assert_eq!(d.verdict, Verdict::Pass, "{} {:?}", d.explanation, d.evidence.flags);
    assert!((d.evidence.fail_threshold - 200f64.ln()).abs() < 1e-9, "half of alpha is the regions'");
    assert_eq!(d.evidence.cohorts.len(), 3);
    assert!(d.evidence.cohorts.iter().all(|one| !one.is_worse && one.requests[0] > 0));
}

/// Scenario: one region is far away and slow for both versions; the new version serves more of it. Guarantees: that is
/// no fault where regions are told apart, and the shift is told; where they are not, it looks like one.
#[test]
fn a_far_region_is_no_slow_version() {
    let far = |rps| Law { slow: 4.0, rps, ..WELL };
    let (old, new) = ([WELL, WELL, far(10)], [Law { rps: 6, ..WELL }, Law { rps: 6, ..WELL }, far(40)]);
    let d = judged(REGION_REPORTS, old, new);
    assert_ne!(d.verdict, Verdict::Fail, "{}", d.explanation);
    let mix = d.evidence.mix.as_ref().expect("both serve");
    assert_eq!((mix.by.as_str(), mix.value.as_str()), ("cloud.region", "ap-1"));
    assert!(d.evidence.has(Flag::MixShift) && mix.distance > 0.3, "{mix:?}");
    assert!(d.explanation.contains("different mixes"), "{}", d.explanation);
    let pooled = judged("", old, new);
    assert_eq!(pooled.verdict, Verdict::Fail, "{}", pooled.explanation);
}

/// Scenario: requests of one kind of client fail in a service of two dimensions, one of the span and one of its
/// resource. Guarantee: that kind is named as the worst, no region is.
#[test]
fn a_kind_of_client_is_named() {
    let keys = format!("{REGION_REPORTS}    dimensions: {{client.class: {{values: 4}}}}\n");
    let d = judged(&keys, [WELL; 3], [Law { mobile: 0.2, ..WELL }; 3]);
    assert_eq!(d.verdict, Verdict::Fail, "{}", d.explanation);
    let worst = &d.evidence.cohorts[0];
    assert_eq!((worst.attribute.as_str(), worst.value.as_str()), ("client.class", "mobile"), "{worst:?}");
    assert!(worst.is_worse, "{worst:?}");
    assert!(d.evidence.cohorts.iter().any(|one| one.attribute == "cloud.region"));
    assert!(d.explanation.contains("client.class mobile"), "{}", d.explanation);
    let of_web = d.evidence.cohorts.iter().find(|one| one.value == "web").expect("web is judged");
    assert!(!of_web.is_worse && of_web.ln_e < 1.0, "{of_web:?}");
}

/// Scenario: what was sent is judged again from a recording, forwards and backwards. Guarantees: the same region is the
/// scope, and the order in the file changes nothing.
#[test]
fn a_recording_is_told_apart_by_the_same_dimensions() {
    for by_metrics in [false, true] {
        a_recording_is_told_apart(by_metrics);
    }
}

fn a_recording_is_told_apart(by_metrics: bool) {
    let keys = format!("{REGION_FAILS}    dimensions: {{client.class: {{values: 1}}}}\n");
    let policy = Policy { warmup_s: 10, ..policy(&keys) };
    let mut shop = Shop::open(policy.clone());
    shop.meters = by_metrics.then(BTreeMap::new);
    shop.judge([WELL; 3], [WELL, Law { errors: 0.06, ..WELL }, WELL], None);
    let judged = |bodies: &mut dyn Iterator<Item = &Vec<u8>>| {
        let mut recording = Recording::under(&policy);
        for body in bodies {
            let settings = WalkSettings::default();
            let walked = match by_metrics {
                false => walk_traces(body, &settings, &mut recording).map(drop),
                true => walk_metrics(body, &settings, &mut recording).map(drop),
            };
            walked.expect("sound");
        }
        recording.judge(&Selection::default(), policy.clone(), |_, _, _, _| {}).expect("two versions")
    };
    let forwards = judged(&mut shop.sent.iter());
    assert_eq!(forwards.verdict, Verdict::Fail, "{:?}", forwards.evidence.cohorts);
    let regions = forwards.evidence.regions.as_ref().expect("regions are judged");
    assert_eq!(regions.scope(), ["region=us-1"], "{:?}", forwards.evidence.cohorts);
    assert_eq!(forwards, judged(&mut shop.sent.iter().rev()));
}

/// A shop that sends metrics and no spans, judged.
fn judged_by_metrics(keys: &str, new: [Law; 3], restart_at: Option<u64>) -> (Shop, Arc<Deployment>) {
    judged_by_metrics_and(None, keys, new, restart_at)
}

fn judged_by_metrics_and(
    traced_from: Option<u64>,
    keys: &str,
    new: [Law; 3],
    restart_at: Option<u64>,
) -> (Shop, Arc<Deployment>) {
    let mut shop = Shop::open(policy(keys));
    shop.traced_from = traced_from;
    shop.meters = Some(BTreeMap::new());
    let d = shop.judge([WELL; 3], new, restart_at);
    (shop, d)
}

/// Scenario: a service of three regions that sends metrics and no spans; the new version fails requests, or is slow, in
/// one region. Guarantees: it fails for that region alone, over a restart too.
#[test]
fn a_bad_region_is_the_scope_by_metrics_too() {
    let failing = Law { errors: 0.06, ..WELL };
    let slow = Law { slow: 1.7, ..WELL };
    for (bad, restart_at) in [(failing, None), (slow, None), (failing, Some(25))] {
        let (shop, d) = judged_by_metrics(REGION_FAILS, [WELL, bad, WELL], restart_at);
        assert_eq!(d.verdict, Verdict::Fail, "{bad:?}: {}", d.explanation);
        assert_eq!(d.evidence.required, Source::Metrics);
        let regions = d.evidence.regions.as_ref().expect("regions are judged");
        assert_eq!(regions.scope(), ["region=us-1"], "{bad:?}: {regions:?} {:#?}", d.evidence.cohorts);
        assert_eq!((regions.judged, d.evidence.cohorts[0].value.as_str()), (3, "us-1"));
        assert!(shop.world.kept.rollbacks[0].evidence.regions.is_some());
    }
}

/// Scenario: the same, and soon after the new version has begun a few requests of the old one are traced. Guarantee:
/// regions go on being judged by the metrics, whose verdict stands as before.
#[test]
fn a_first_span_does_not_end_what_metrics_say_of_regions() {
    let failing = Law { errors: 0.06, ..WELL };
    let (_, d) = judged_by_metrics_and(Some(12), REGION_FAILS, [WELL, failing, WELL], None);
    assert_eq!(d.verdict, Verdict::Fail, "{}", d.explanation);
    let worst = &d.evidence.cohorts[0];
    assert_eq!((worst.value.as_str(), worst.is_worse), ("us-1", true), "{:#?}", d.evidence.cohorts);
}

/// Scenario: the same, with an attribute of the points that tells kinds of clients apart; one kind fails, or nothing is
/// wrong. Guarantees: that kind is named; a healthy version passes.
#[test]
fn an_attribute_of_points_tells_clients_apart() {
    let keys = format!("{REGION_REPORTS}    dimensions: {{client.class: {{values: 4}}}}\n");
    let (_, d) = judged_by_metrics(&keys, [Law { mobile: 0.2, ..WELL }; 3], None);
    assert_eq!(d.verdict, Verdict::Fail, "{}", d.explanation);
    let worst = &d.evidence.cohorts[0];
    assert_eq!((worst.attribute.as_str(), worst.value.as_str()), ("client.class", "mobile"), "{worst:?}");
    let (_, d) = judged_by_metrics(&keys, [WELL; 3], None);
    assert_eq!(d.verdict, Verdict::Pass, "{} {:?}", d.explanation, d.evidence.flags);
    assert_eq!(d.evidence.cohorts.len(), 5, "{:#?}", d.evidence.cohorts);
    assert!(d.evidence.cohorts.iter().all(|one| !one.is_worse && one.requests[0] > 0));
}
