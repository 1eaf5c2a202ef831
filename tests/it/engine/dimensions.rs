//! Dimensions and regions, end to end: a configuration, OTLP through the real walker into the real pipeline, a verdict.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rollguard::deployment::{Deployment, Mode};
use rollguard::model::{ServiceKey, UnixNanos};
use rollguard::pipeline::recording::{Recording, Selection};
use rollguard::receiver::{WalkSettings, walk_traces};
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
}

impl Shop {
    pub(super) fn open(policy: Policy) -> Self {
        Self { world: World::new(policy, Mode::Act), random: fastrand::Rng::with_seed(11), sent: Vec::new() }
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
        let mut spans = Vec::new();
        for i in 0..law.rps / 2 {
            let end = at(now - 1) + self.random.u64(..1_000_000_000);
            let took = 20_000_000.0 * law.slow * 4f64.powf(self.random.f64() * self.random.f64());
            let mobile = i % 4 == 0;
            let is_pay = i % 3 == 0;
            let errors =
                law.errors + if mobile { law.mobile } else { 0.0 } + if is_pay { law.pay } else { 0.0 };
            let code = if self.random.f64() < errors { "500" } else { "200" };
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
                    text("http.route", if is_pay { "/pay" } else { "/cart" }),
                    text("http.response.status_code", code),
                    text("client.class", if mobile { "mobile" } else { "web" }),
                ],
                status: (code == "500")
                    .then(|| opentelemetry_proto::tonic::trace::v1::Status { code: 2, ..Default::default() }),
                ..Default::default()
            });
        }
        let attributes = vec![
            text("service.name", "shop"),
            text("service.version", version),
            text("service.instance.id", &format!("{version}-{region}-{instance}")),
            text("cloud.region", region),
        ];
        let resource = Some(Resource { attributes, ..Default::default() });
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
    let keys = format!("{REGION_FAILS}    dimensions: {{client.class: {{values: 1}}}}\n");
    let policy = Policy { warmup_s: 10, ..policy(&keys) };
    let mut shop = Shop::open(policy.clone());
    shop.judge([WELL; 3], [WELL, Law { errors: 0.06, ..WELL }, WELL], None);
    let judged = |bodies: &mut dyn Iterator<Item = &Vec<u8>>| {
        let mut recording = Recording::under(&policy);
        for body in bodies {
            walk_traces(body, &WalkSettings::default(), &mut recording).expect("sound");
        }
        recording.judge(&Selection::default(), policy.clone(), |_, _, _, _| {}).expect("two versions")
    };
    let forwards = judged(&mut shop.sent.iter());
    assert_eq!(forwards.verdict, Verdict::Fail, "{:?}", forwards.evidence.cohorts);
    let regions = forwards.evidence.regions.as_ref().expect("regions are judged");
    assert_eq!(regions.scope(), ["region=us-1"], "{:?}", forwards.evidence.cohorts);
    assert_eq!(forwards, judged(&mut shop.sent.iter().rev()));
}
