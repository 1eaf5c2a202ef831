//! SLIs of a policy's own, end to end: a configuration file, OTLP over HTTP to the real receiver, the real pipeline,
//! a verdict. Each kind of SLI finds its fault and lets a healthy twin pass.

use std::sync::Arc;

use rollguard::deployment::{Deployment, Mode};
use rollguard::verdict::{Flag, Policy, Verdict};

use super::front::{Fault, Front, WELL, all_of, is_failed_by, is_passed_on, line, policy, walked};
use super::world::World;

async fn judged(slis: &str, fault: Fault, beside: bool) -> Arc<Deployment> {
    let mut front = Front::open(policy(slis)).await;
    let deployment = front.judge(fault, beside).await;
    front.end().await;
    deployment
}

/// The kinds, what each is about, and the fault that it finds.
fn kinds() -> Vec<(&'static str, &'static str, Fault)> {
    vec![
        (
            "declined",
            "ratio, total: {operation: 'POST /pay'}, bad: {attributes: {payment.result: 'decl*'}}",
            Fault { declined: 0.2, ..WELL },
        ),
        (
            "gold_accepted",
            "ratio, total: {attributes: {tenant.tier: '!free'}}, good: {attributes: {payment.result: accepted}}",
            Fault { declined: 0.3, ..WELL },
        ),
        (
            "provider_p95",
            "latency, total: {span_kind: client, attributes: {peer.service: provider}}, quantile: 0.95",
            Fault { slow: 1.6, ..WELL },
        ),
        (
            "provider_over_15ms",
            "latency, total: {span_kind: client, attributes: {peer.service: provider}}, threshold: 15ms",
            Fault { slow: 1.6, ..WELL },
        ),
        ("unauthorised", "client_errors, codes: [401, '403']", Fault { refused: 0.2, ..WELL }),
        ("error_logs", "log_errors", Fault { logs: 0.2, ..WELL }),
        (
            "db_calls",
            "rate, events: {span_kind: client, attributes: {db.system.name: '*'}}",
            Fault { calls: 8, ..WELL },
        ),
        ("bytes", "rate, quantity: http.response.body.size", Fault { bytes: 3.0, ..WELL }),
        (
            "orders_announced",
            "rate, events: {span_kind: producer, span_name: 'orders publish'}, direction: decrease",
            Fault { announced: 0.2, ..WELL },
        ),
    ]
}

fn all_kinds(extra: &str) -> String {
    all_of(kinds().iter().map(|(name, words, _)| (*name, *words)), extra)
}

/// Scenario: a policy with one SLI of each kind; a version has one fault after the other, which no SLI that every
/// service has can see. Guarantee: it fails, by the SLI that is about the fault, and the verdict says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_finds_its_fault() {
    for (name, words, fault) in kinds() {
        let d = judged(&format!("      {name}: {{kind: {words}, weight: 0.2}}\n"), fault, true).await;
        is_failed_by(&d, name);
    }
}

/// Scenario: the same policy with all of them at once, each required for a PASS, and a version that is as good.
/// Guarantees: it passes, on all of them; alpha is one budget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_version_passes_all_kinds() {
    let d = judged(&all_kinds(", required: true"), WELL, true).await;
    is_passed_on(&d, kinds().iter().map(|(name, ..)| *name));
}

/// Scenario: all of them report only; a version with every fault at once. Guarantee: each line shows it, and none
/// decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reports_only_decides_nothing() {
    let fault =
        Fault { declined: 0.2, refused: 0.01, slow: 1.6, calls: 8, logs: 0.2, bytes: 3.0, announced: 0.2 };
    let d = judged(&all_kinds(", report_only: true"), fault, true).await;
    assert_eq!(d.verdict, Verdict::Pass, "{}", d.explanation);
    for (name, ..) in kinds().into_iter().filter(|(name, ..)| *name != "unauthorised") {
        let own = line(&d, name);
        assert!(own.weight == 0.0 && own.ln_e > 4.0, "{name}: {own:?}");
    }
}

/// Scenario: a rolling update: `v1` ends as `v2` begins. Guarantees: each kind finds its fault by what is remembered
/// of `v1`, and the verdict says that it is remembered; a healthy version never fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_is_held_to_what_is_remembered() {
    for (name, words, fault) in kinds() {
        let d = judged(&format!("      {name}: {{kind: {words}, weight: 0.2}}\n"), fault, false).await;
        assert_eq!(d.verdict, Verdict::Fail, "{name}: {}\n{:#?}", d.explanation, line(&d, name));
        assert!(d.evidence.has(Flag::RememberedBaseline) && line(&d, name).ln_e > 4.0, "{name}");
    }
    let d = judged(&all_kinds(""), WELL, false).await;
    assert_ne!(d.verdict, Verdict::Fail, "{}", d.explanation);
}

/// Scenario: every 20 s each instance of `v2` dies and another takes its place; no span shows an error. Guarantees:
/// the verdict says so and holds the PASS back; as many instances that stay pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_die_and_are_replaced_hold_a_pass_back() {
    for crashes in [true, false] {
        let mut front = Front::open(Policy { horizon_s: 180, ..policy("      {}\n") }).await;
        front.crashes = crashes;
        let d = front.judge(WELL, true).await;
        let expected = if crashes { Verdict::Inconclusive } else { Verdict::Pass };
        assert_eq!(d.verdict, expected, "{}", d.explanation);
        assert_eq!(d.evidence.has(Flag::InstancesRestart), crashes, "{:?}", d.evidence.flags);
        assert_eq!(d.explanation.contains("die and are replaced"), crashes, "{}", d.explanation);
        front.end().await;
    }
}

/// Scenario: `v2` serves for a while and falls silent while `v1` serves on. Guarantees: never a PASS, never a fail; the
/// verdict says that it is silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_falls_silent_is_told_and_never_passed() {
    let mut front = Front::open(Policy { horizon_s: 120, ..policy("      {}\n") }).await;
    for second in 0..400 {
        let v1 = ("v1", 4, 40, WELL);
        if (170..215).contains(&second) {
            front.second(&[v1, ("v2", 4, 40, WELL)]).await;
        } else {
            front.second(&[v1]).await;
        }
    }
    let d = front.world.deployment("v2").unwrap();
    assert_eq!(d.verdict, Verdict::Inconclusive, "{}", d.explanation);
    assert!(d.evidence.has(Flag::CandidateSilent), "{:?}", d.evidence.flags);
    front.end().await;
}

/// Scenario: Rollguard restarts in the middle of a deployment, and comes back with a configuration that has no SLIs of
/// its own any more; then the new version begins to call the database more often. Guarantees: the deployment keeps
/// the policy that it began with, what was learned of the baseline is there, and the fault is found.
#[test]
fn a_deployment_keeps_its_slis_over_a_restart_and_a_reload() {
    let slis = "      db_calls: {kind: rate, events: {span_kind: client, attributes: {db.system.name: '*'}}, weight: 0.2}\n";
    let mut world = World::new(policy(slis), Mode::Act);
    let mut random = fastrand::Rng::with_seed(5);
    (0..170).for_each(|_| walked(&mut world, &mut random, &[("v1", WELL)]));
    (0..40).for_each(|_| walked(&mut world, &mut random, &[("v1", WELL), ("v2", WELL)]));
    let before = world.deployment("v2").unwrap();
    assert_eq!(before.verdict, Verdict::Pending, "{}", before.explanation);
    world.restart_under(3, policy("      {}\n"));
    (0..20).for_each(|_| walked(&mut world, &mut random, &[("v1", WELL), ("v2", WELL)]));
    let d = world.deployment("v2").unwrap();
    assert_eq!((d.verdict, d.policy.slis.len()), (Verdict::Pending, 1), "{}", d.explanation);
    assert!(
        line(&d, "db_calls").requests[1] > line(&before, "db_calls").requests[1],
        "{:?}",
        line(&d, "db_calls")
    );
    let fault = Fault { calls: 8, ..WELL };
    (0..60).for_each(|_| walked(&mut world, &mut random, &[("v1", WELL), ("v2", fault)]));
    let d = world.deployment("v2").unwrap();
    assert_eq!(d.verdict, Verdict::Fail, "{}", d.explanation);
    assert!(d.explanation.contains("db_calls"), "{}", d.explanation);
}
