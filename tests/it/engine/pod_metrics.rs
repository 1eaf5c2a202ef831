//! Metrics that name only the pod they are of, as node agents and sidecars send them, beside those of the service's own
//! SDK, which names service, version, instance and pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use rollguard::deployment::{Deployment, Mode};
use rollguard::verdict::Verdict;

use super::front::{WELL, line, policy, resource, text, walked_by, walked_metrics};
use super::metric_slis::{EXPORT_S, Meters, Trouble};
use super::world::World;

const INSTANCES: usize = 4;
/// Deadlocks a second of an instance that is well.
const USUAL: f64 = 0.3;
const SLIS: &str =
    "      deadlocks: {kind: counter, events: {metric: db.deadlocks}, weight: 0.3, required: true}\n";

/// A shop of which an agent tells the deadlocks.
struct Shop {
    world: World,
    random: fastrand::Rng,
    meters: BTreeMap<(&'static str, usize, usize), Meters>,
    /// Processes in each pod.
    processes: usize,
    sends_spans: bool,
}

impl Shop {
    fn new(processes: usize, sends_spans: bool) -> Self {
        let world = World::new(policy(SLIS), Mode::Act);
        let random = fastrand::Rng::with_seed(11);
        Self { world, random, meters: BTreeMap::new(), processes, sends_spans }
    }

    fn seconds(&mut self, seconds: u64, versions: &[(&'static str, Trouble)]) {
        for _ in 0..seconds {
            self.world.run(1);
            for &(version, trouble) in versions {
                (0..INSTANCES).for_each(|pod| self.pod(version, pod, trouble));
            }
        }
    }

    fn pod(&mut self, version: &'static str, pod: usize, trouble: Trouble) {
        let now = self.world.now_s;
        for process in 0..self.processes {
            let fresh = || Meters::begun(now - 1);
            let meters = self.meters.entry((version, pod, process)).or_insert_with(fresh);
            meters.serve(&mut self.random, trouble);
            let mut own = resource(version, pod + 100 * process).unwrap_or_default();
            let uid = text("k8s.pod.uid", &format!("uid-{version}-{pod}"));
            own.attributes.push(uid.clone());
            if self.sends_spans {
                walked_by(&self.world, &mut self.random, Some(own.clone()), WELL);
            }
            // Each export is later than the second spans of both processes.
            if now % EXPORT_S != 4 {
                continue;
            }
            let body = meters.export(Some(own), now, false);
            let request = ExportMetricsServiceRequest::decode(&*body).unwrap();
            let [sdk, agent] = parted(request, Resource { attributes: vec![uid], ..Default::default() });
            [sdk, agent].iter().for_each(|part| walked_metrics(&self.world, part));
        }
    }

    /// `v1` alone until it is known, then `v2` beside it.
    fn judge(&mut self, deadlocks: f64) -> Arc<Deployment> {
        let [usual, new] = [USUAL, deadlocks].map(Trouble::of_deadlocks);
        self.seconds(170, &[("v1", usual)]);
        self.seconds(300, &[("v1", usual), ("v2", new)]);
        self.world.deployment("v2").expect("v2 was seen")
    }
}

/// What the SDK says without the deadlocks, and what the agent says of them.
fn parted(mut request: ExportMetricsServiceRequest, pod: Resource) -> [Vec<u8>; 2] {
    let mut agent = request.clone();
    let is_agents = |name: &str| name == "db.deadlocks";
    request.resource_metrics[0].scope_metrics[0].metrics.retain(|metric| !is_agents(&metric.name));
    agent.resource_metrics[0].resource = Some(pod);
    agent.resource_metrics[0].scope_metrics[0].metrics.retain(|metric| is_agents(&metric.name));
    [request, agent].map(|part| part.encode_to_vec())
}

/// Scenario: a node agent sends the counter of an SLI by the pod's uid alone; the new version runs into more deadlocks,
/// or as many. Guarantees: its events are counted for the instance of the pod, as many as there were: the fault is
/// found, and the twin does not fail.
#[test]
fn events_of_an_agent_count_for_the_instance_of_the_pod() {
    for (deadlocks, is_fail) in [(0.9, true), (USUAL, false)] {
        let d = Shop::new(1, false).judge(deadlocks);
        let own = line(&d, "deadlocks");
        assert_eq!(d.verdict == Verdict::Fail, is_fail, "{}\n{own:#?}", d.explanation);
        for (side, each) in [deadlocks, USUAL].into_iter().enumerate() {
            let expected = own.requests[side] as f64 * each;
            let spread = 3.0 * (expected * (1.0 - each)).sqrt();
            assert!((own.bad[side] as f64 - expected).abs() < spread, "{expected} {spread}: {own:?}");
        }
    }
}

/// Scenario: spans of two processes in each pod, so that the pod's uid does not lead to one instance. Guarantee: events
/// that cannot be held against seconds are not taken for none: an SLI that is required is not tested, so there is no PASS.
#[test]
fn what_is_of_no_single_instance_is_not_zero() {
    let d = Shop::new(2, true).judge(USUAL);
    let own = line(&d, "deadlocks");
    assert_eq!(d.verdict, Verdict::Pending, "{}\n{own:#?}", d.explanation);
    assert_eq!((own.requests, own.bad), ([0, 0], [0, 0]), "{own:#?}");
}
