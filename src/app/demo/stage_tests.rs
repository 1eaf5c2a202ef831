//! Scenarios played without a gateway: the director is shown deployments, and judged by what it orders and
//! how it ends.

use super::*;
use crate::deployment::{Beginning, Deployment, Mode, Origin, Transition};
use crate::model::{DeploymentId, ServiceKey, UnixNanos};
use crate::verdict::Policy;

fn deployment(verdict: Verdict, phase: Phase) -> Deployment {
    let beginning = Beginning {
        id: DeploymentId("d1".into()),
        service: ServiceKey::default(),
        baseline: Some("v1".into()),
        candidate: "v2".into(),
        time: None,
        scope: Default::default(),
        origin: Origin::Requested,
        release: Deployment::VERSION.into(),
        mode: Mode::Act,
        policy: Policy::default(),
        url: None,
        commit: None,
        share: None,
    };
    let mut deployment = beginning.begin(UnixNanos::from_secs(1));
    (deployment.verdict, deployment.phase) = (verdict, phase);
    deployment
}

fn message(verified: Result<(), crate::remedy::VerifyError>) -> Received {
    Received {
        id: "msg_1".into(),
        verified,
        bytes: 900,
        kind: "rollguard.rollback".into(),
        candidate: "v2".into(),
        deployment: "d1".into(),
    }
}

/// Plays `words` one after the other, a second each; returns whether it ended, and as expected or not.
fn play(scenario: Scenario, words: &str) -> (Option<bool>, Director) {
    let mut director = Director::new(Script::of(scenario));
    let mut at_s = director.script.candidate_at_s;
    let mut shown = None;
    for word in words.split_whitespace() {
        match word {
            "hook" => director.webhook(at_s, &message(Ok(()))),
            "forged" => director.webhook(at_s, &message(Err(crate::remedy::VerifyError::Mismatch))),
            "later" => at_s += ONSET_S,
            "time" => at_s = LONGEST_S,
            "pending" => shown = Some(deployment(Verdict::Pending, Phase::Evaluating)),
            "pass" => shown = Some(deployment(Verdict::Pass, Phase::Watching)),
            "fail" => shown = Some(deployment(Verdict::Fail, Phase::Failed)),
            "recovered" => shown = Some(deployment(Verdict::Fail, Phase::Recovered)),
            "lost" => shown = Some(deployment(Verdict::Fail, Phase::NotRecovered)),
            other => assert_eq!(other, "up"),
        }
        director.step(at_s, shown.as_ref());
        at_s += 1.0;
    }
    (director.ending.as_ref().map(|ending| ending.as_expected), director)
}

#[test]
fn scenarios_end_as_they_should_or_not() {
    use Scenario::{Errors, Healthy, Late, Replace};
    for (scenario, words, ended) in [
        (Errors, "up pending fail hook recovered", Some(true)),
        (Errors, "up pending fail hook fail", None),
        (Errors, "up pending fail fail", None),
        (Errors, "up pending fail recovered", None),
        (Errors, "up pending pass", Some(false)),
        (Errors, "up pending fail forged", Some(false)),
        (Errors, "up pending fail hook hook recovered", Some(false)),
        (Errors, "up pending fail hook lost", Some(false)),
        (Errors, "up pending time pending", Some(false)),
        (Healthy, "up pending pass", Some(true)),
        (Healthy, "up pending fail", Some(false)),
        (Healthy, "up pending hook", Some(false)),
        (Late, "up fail", Some(false)),
        (Late, "up pending later fail hook recovered", Some(true)),
        (Late, "up pending pass later fail hook recovered", Some(true)),
        (Replace, "up pending fail hook recovered", Some(true)),
    ] {
        assert_eq!(play(scenario, words).0, ended, "{scenario:?}: {words}");
    }
}

#[test]
fn the_traffic_follows_the_story() {
    let script = Script::of(Scenario::Errors);
    let mut director = Director::new(script);
    assert_eq!(director.step(1.0, None), []);
    let load = Load { shares: [0.5, 0.5], candidate: script.candidate };
    assert_eq!(director.step(6.0, None), [Order::Announce, Order::Traffic(load)]);
    let failed = deployment(Verdict::Fail, Phase::Failed);
    assert_eq!(director.step(20.0, Some(&failed)), []);
    director.webhook(21.0, &message(Ok(())));
    assert_eq!(director.step(21.0, Some(&failed)), [Order::Traffic(Director::opening())]);
}

#[test]
fn a_late_version_turns_bad_once() {
    let mut director = Director::new(Script::of(Scenario::Late));
    director.step(6.0, None);
    let pending = deployment(Verdict::Pending, Phase::Evaluating);
    assert_eq!(director.step(17.0, Some(&pending)), []);
    assert!(matches!(director.step(18.0, Some(&pending))[..], [Order::Traffic(_)]));
    assert_eq!(director.step(19.0, Some(&pending)), []);
}

#[test]
fn each_line_of_history_is_told_once() {
    let mut director = Director::new(Script::of(Scenario::Healthy));
    let mut shown = deployment(Verdict::Pending, Phase::Warming);
    director.step(1.0, Some(&shown));
    director.step(2.0, Some(&shown));
    assert_eq!(director.story.len(), 2);
    let reason = "The warm-up is over.".to_owned();
    shown.history.push(Transition { at: UnixNanos::from_secs(3), phase: Phase::Evaluating, reason });
    director.step(3.0, Some(&shown));
    assert_eq!(director.story.len(), 3);
    assert_eq!(director.story[2].text, "evaluating: The warm-up is over.");
}
