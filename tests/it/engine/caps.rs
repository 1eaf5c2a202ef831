//! What a service can make Rollguard keep is capped: operations, instances, values of dimensions and their combinations
//! come from outside, and of those beyond the caps nothing is kept, neither by the service nor by a deployment that runs.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rollguard::deployment::Mode;
use rollguard::model::UnixNanos;
use rollguard::pipeline::RegistryLimits;
use rollguard::receiver::{WalkSettings, walk_traces};

use super::dimensions::policy;
use super::front::text;
use super::world::{Kept, World, at};

const OPERATIONS: usize = 10;
const INSTANCES: usize = 4;
const VALUES: usize = 4;

const POLICY: &str = concat!(
    "    dimensions: {client.class: {values: 4}, cell: {values: 4}}\n",
    "    slis:\n",
    "      mobile: {kind: ratio, total: {attributes: {client.class: 'value-1'}}, bad: {outcome: bad}}\n",
    "      slow: {kind: latency, total: {attributes: {cell: 'value-1'}}, quantile: 0.95}\n",
);

/// Bytes of the state that is kept of a service and of its running deployment, where there are so many times as many
/// operations, instances and values as the caps allow.
fn kept(times: usize) -> usize {
    let limits = RegistryLimits {
        operations_per_version: OPERATIONS,
        instances_per_version: INSTANCES,
        ..RegistryLimits::default()
    };
    let mut world = World::with(policy(POLICY), Mode::Observe, Kept::default(), limits);
    let mut random = fastrand::Rng::with_seed(3);
    for second in 0..260 {
        world.run(1);
        let versions: &[&str] = if second < 180 { &["v1"] } else { &["v1", "v2"] };
        for version in versions {
            let instance = random.usize(..INSTANCES * times);
            let spans = (0..60).map(|_| request(&mut random, times, world.now_s)).collect();
            send(&world, version, instance, spans);
        }
    }
    let deployment = world.deployment("v2").expect("it runs");
    assert!(deployment.decided_after_seconds.is_none(), "{}", deployment.explanation);
    let commit = world.engine.snapshot_all(world.now());
    commit.snapshots.iter().map(|snapshot| snapshot.bytes.len()).sum()
}

fn request(random: &mut fastrand::Rng, times: usize, now_s: u64) -> Span {
    let end = at(now_s - 1) + random.u64(..1_000_000_000);
    let mut value = |of: usize| format!("value-{}", random.usize(..of * times));
    let attributes = vec![
        text("http.route", &value(OPERATIONS)),
        text("client.class", &value(VALUES)),
        text("cell", &value(VALUES)),
    ];
    Span {
        trace_id: vec![1; 16],
        span_id: vec![1; 8],
        kind: 2,
        start_time_unix_nano: end - 20_000_000 - random.u64(..20_000_000),
        end_time_unix_nano: end,
        attributes,
        ..Default::default()
    }
}

fn send(world: &World, version: &str, instance: usize, spans: Vec<Span>) {
    let attributes = vec![
        text("service.name", "shop"),
        text("service.version", version),
        text("service.instance.id", &format!("{version}-{instance}")),
    ];
    let resource = Some(Resource { attributes, ..Default::default() });
    let scope_spans = vec![ScopeSpans { spans, ..Default::default() }];
    let envelope = ResourceSpans { resource, scope_spans, ..Default::default() };
    let body = ExportTraceServiceRequest { resource_spans: vec![envelope] }.encode_to_vec();
    let mut batch = world.intake.begin(UnixNanos(at(world.now_s) + 300_000_000));
    walk_traces(&body, &WalkSettings::default(), &mut batch).expect("sound");
    batch.commit().expect("room");
}

/// Scenario: a service at its caps, at twice and at ten times as many operations, instances and values of both
/// dimensions. Guarantee: up to the caps more is kept; beyond them nothing.
#[test]
fn beyond_the_caps_nothing_more_is_kept() {
    let [at, twice, tenfold] = [1, 2, 10].map(kept);
    println!("{at} bytes at the caps, {twice} and {tenfold} beyond");
    assert!(at > 20_000, "{at}");
    assert!(twice < at * 2, "the overflow is one more of each: {at} and {twice}");
    assert!(tenfold * 100 <= twice * 105, "{twice} and {tenfold}");
}
