//! SLIs of a policy's own in `rollguard replay`: what instances sent to a gateway is judged again from a recording, and held
//! to the live verdict.

use rollguard::pipeline::recording::{Outcomes, Recording, Selection};
use rollguard::receiver::{WalkSettings, walk_metrics, walk_traces};
use rollguard::verdict::{Grain, Policy, SliEvidence, Verdict};

use super::front::{Fault, Front, WELL, line, policy};
use super::metric_slis::{FINE, Shop, all_kinds, kinds};

/// What was sent, spans and `metrics`, judged from a recording of it.
fn recorded(front: &Front, metrics: &[Vec<u8>], policy: &Policy) -> Outcomes {
    let mut recording = Recording::under(policy);
    for body in &front.sent {
        walk_traces(body, &WalkSettings::default(), &mut recording).unwrap();
    }
    for body in metrics {
        walk_metrics(body, &WalkSettings::default(), &mut recording).unwrap();
    }
    recording.judge(&Selection::default(), policy.clone(), |_, _, _, _| {}).unwrap()
}

/// Scenario: what was sent is judged again from a recording. Guarantee: the same SLI decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_is_judged_by_the_same_slis() {
    let policy = policy(
        "      db_calls: {kind: rate, events: {span_kind: client, attributes: {db.system.name: '*'}}, weight: 0.2}\n",
    );
    let mut front = Front::open(policy.clone()).await;
    let live = front.judge(Fault { calls: 8, ..WELL }, true).await;
    let outcomes = recorded(&front, &[], &policy);
    front.end().await;
    assert_eq!((live.verdict, outcomes.verdict), (Verdict::Fail, Verdict::Fail));
    let own = outcomes.evidence.slis.iter().find(|e| e.name() == "db_calls").unwrap();
    assert!(own.ln_e > 4.0 && own.bad[0] > 2 * own.bad[1], "{own:?}");
}

/// Scenario: what was sent is judged again from a recording, by one SLI of each kind: a version with a trouble, and one that
/// is as good. Guarantees: the same SLI decides, by counts that are nearly those of the live verdict, whether spans or
/// metrics count the requests; the healthy one does not fail; a gauge is not tested.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_is_judged_by_the_same_metric_slis() {
    let gauge = "      pool: {kind: gauge, value: {metric: pool.use}, weight: 0.1}\n";
    for (i, (name, words, trouble)) in kinds().into_iter().enumerate() {
        let slis = format!("      {name}: {{kind: {words}, weight: 0.2}}\n{gauge}");
        let mut shop = Shop::open(&slis, i % 2 == 0).await;
        shop.counts_requests = i % 3 == 2;
        let live = shop.judge(trouble, true).await;
        let own = policy(&slis);
        let judged = recorded(&shop.front, &shop.sent, &own);
        let case = format!("{name}: {:#?}\n{:#?}", judged.evidence.slis, line(&live, name));
        assert_eq!((live.verdict, judged.verdict), (Verdict::Fail, Verdict::Fail), "{case}");
        let of = |slis: &[SliEvidence], name: &str| slis.iter().find(|e| e.name() == name).cloned().unwrap();
        let (before, again) = (of(&live.evidence.slis, name), of(&judged.evidence.slis, name));
        assert!(again.ln_e > 4.0 && again.degraded, "{case}");
        for side in 0..2 {
            let share = |e: &SliEvidence| e.bad[side] as f64 / e.requests[side] as f64;
            assert!(again.requests[side] > 0, "{case}");
            assert!((share(&again) - share(&before)).abs() < 0.15 * share(&before).max(0.1), "{case}");
        }
        assert_eq!(of(&judged.evidence.slis, "pool").grain, Grain::NotTestable);
        shop.front.end().await;
    }
    for counts_requests in [false, true] {
        let slis = all_kinds("");
        let mut shop = Shop::open(&slis, counts_requests).await;
        shop.counts_requests = counts_requests;
        let live = shop.judge(FINE, true).await;
        assert_ne!(live.verdict, Verdict::Fail, "{}", live.explanation);
        let judged = recorded(&shop.front, &shop.sent, &policy(&slis));
        assert_ne!(judged.verdict, Verdict::Fail, "{:#?}", judged.evidence.slis);
        for (name, ..) in kinds() {
            let own = judged.evidence.slis.iter().find(|e| e.name() == name).unwrap();
            assert!(own.requests.iter().all(|n| *n > 100) && own.ln_e < 4.0, "{name}: {own:?}");
        }
        shop.front.end().await;
    }
}
