//! Tables and properties of the state machine.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{ResourceAttribute, ResourceTexts};

fn at(seconds: u64) -> UnixNanos {
    UnixNanos::from_secs(1_800_000_000 + seconds)
}

fn begun(mode: Mode, baseline: Option<&str>) -> Deployment {
    Beginning {
        id: DeploymentId("d1".into()),
        service: ServiceKey { name: "checkout".into(), ..ServiceKey::default() },
        baseline: baseline.map(String::from),
        candidate: "v2".into(),
        time: None,
        scope: Default::default(),
        origin: Origin::Detected,
        release: Deployment::VERSION.into(),
        mode,
        policy: Policy::default(),
        url: None,
        commit: None,
        share: None,
    }
    .begin(at(0))
}

fn judged(verdict: Verdict) -> Event {
    Event::Judged {
        verdict,
        evidence: Arc::default(),
        explanation: format!("Judged {}. More words.", verdict.as_str()),
        decided_after_seconds: (verdict != Verdict::Pending).then_some(71.0),
    }
}

fn degraded() -> Event {
    Event::Degraded { evidence: Arc::default(), explanation: "Worse. By far.".into() }
}

fn change(revision: &str) -> Arc<Labels> {
    let mut texts = ResourceTexts::default();
    texts.set(ResourceAttribute::Revision, revision.as_bytes());
    let mut change = Labels::default();
    change.take(&Labels::CHANGE, &texts);
    Arc::new(change)
}

fn event(word: &str) -> Event {
    match word {
        "seen" => Event::CandidateSeen { first: at(1), before: [5, 2] },
        "review" => Event::UnderReview { burn: 2.5 },
        "review over" => Event::ReviewOver,
        "baseline" => Event::BaselineChosen("v1".into()),
        "baseline=v2" => Event::BaselineChosen("v2".into()),
        "baseline=none" => Event::BaselineChosen(VersionKey::UNVERSIONED.into()),
        "change" => Event::ChangeKnown(change("abc")),
        "change=other" => Event::ChangeKnown(change("def")),
        "warm" => Event::WarmupOver,
        "pending" => judged(Verdict::Pending),
        "pass" => judged(Verdict::Pass),
        "fail" => judged(Verdict::Fail),
        "undecided" => judged(Verdict::Inconclusive),
        "horizon" => Event::HorizonOver,
        "degraded" => degraded(),
        "withheld" => {
            Event::Withheld { evidence: Arc::default(), explanation: "As yesterday. More words.".into() }
        }
        "ended" => Event::TrafficEnded,
        "recovered" => Event::Recovered,
        "timeout" => Event::RecoveryTimedOut,
        "time" => Event::TimeCame { version: "v3".into(), before: [7, 1] },
        "over" => Event::MemoryOver("Too old."),
        "superseded" => Event::SupersededBy(DeploymentId("d2".into())),
        "cancelled" => Event::CancelledBy("by alice".into()),
        other => panic!("no event {other}"),
    }
}

/// Runs words through the machine: the deployment afterwards and the number of rollbacks.
fn run(start: Deployment, words: &str) -> (Deployment, usize) {
    let mut deployment = start;
    let mut rollbacks = 0;
    for (i, word) in words.split_whitespace().enumerate() {
        let step = transition(&deployment, event(word), at(i as u64 + 1));
        rollbacks += step.actions.len();
        deployment = step.deployment;
    }
    (deployment, rollbacks)
}

#[test]
fn r6_what_is_known_of_the_change_stays() {
    let start = || begun(Mode::Observe, Some("v1"));
    for (words, revision) in [
        ("seen", None),
        ("change", Some("abc")),
        ("change change=other", Some("abc")),
        ("seen change warm fail change=other", Some("abc")),
        ("cancelled change", None),
    ] {
        let (deployment, _) = run(start(), words);
        assert_eq!(deployment.commit(), revision, "{words}");
    }
    let first = transition(&start(), event("change"), at(1));
    assert!(first.changed && !transition(&first.deployment, event("change=other"), at(2)).changed);
}

#[test]
fn a_change_waits_for_its_time_and_ends_with_what_is_remembered() {
    for (words, phase, verdict, rollbacks) in [
        ("", "warming", "pending", 0),
        // Before its time nothing is concluded, whatever is said.
        ("seen baseline warm fail pass", "warming", "pending", 0),
        ("time", "evaluating", "pending", 0),
        ("time time pending", "evaluating", "pending", 0),
        ("time pass", "watching", "pass", 0),
        ("time pass over", "closed", "pass", 0),
        ("time fail", "failed", "fail", 1),
        ("time fail fail over", "failed", "fail", 1),
        ("time fail recovered", "recovered", "fail", 1),
        ("time fail timeout", "not_recovered", "fail", 1),
        ("time withheld withheld undecided", "inconclusive", "inconclusive", 0),
        ("time withheld fail", "failed", "fail", 1),
        ("time fail withheld", "failed", "fail", 1),
        ("time undecided over", "closed", "inconclusive", 0),
        ("time superseded fail pass", "superseded", "pending", 0),
        ("time ended fail", "closed", "pending", 0),
        ("over time", "closed", "pending", 0),
        ("cancelled time", "cancelled", "pending", 0),
    ] {
        let start = Deployment { time: Some(at(0)), ..begun(Mode::Act, None) };
        let (end, ordered) = run(start, words);
        assert_eq!(
            (end.phase.as_str(), end.verdict.as_str(), ordered),
            (phase, verdict, rollbacks),
            "{words}"
        );
    }
    let (begun_at, _) = run(Deployment { time: Some(at(0)), ..begun(Mode::Act, None) }, "time");
    assert_eq!((&*begun_at.candidate, begun_at.baseline.as_deref()), ("v3", Some("v3")));
    assert_eq!((begun_at.candidate_first, begun_at.spent_before), (Some(at(0)), [7, 1]));
    assert_eq!((&*begun_at.subject(), begun_at.kind().as_str()), ("checkout", "before/after"));
    let eu: BTreeMap<String, String> = [("cloud.region".into(), "eu-1".into())].into();
    let scoped = Deployment { scope: Scope::new(eu), ..begun_at };
    assert_eq!(&*scoped.subject(), "checkout (cloud.region eu-1)");
    assert_eq!(scoped.action_scope(), ["cloud.region=eu-1"]);
    // That a fail is withheld is told once.
    let (told, _) = run(Deployment { time: Some(at(0)), ..begun(Mode::Act, None) }, "time withheld withheld");
    let told: Vec<&str> = told.history.iter().map(|line| line.reason.as_str()).collect();
    assert_eq!(
        told.iter().filter(|line| line.starts_with("A fail is withheld: As yesterday.")).count(),
        1,
        "{told:?}"
    );
    // A version's deployment knows neither event.
    let (version, _) = run(begun(Mode::Act, Some("v1")), "seen time over");
    assert_eq!((&*version.candidate, version.phase), ("v2", Phase::Warming));
}

#[test]
fn phases_verdicts_and_rollbacks() {
    for (baseline, words, phase, verdict, rollbacks) in [
        ("v1", "", "warming", "pending", 0),
        ("v1", "seen", "warming", "pending", 0),
        ("v1", "warm", "warming", "pending", 0),
        ("v1", "seen warm", "evaluating", "pending", 0),
        ("v1", "seen warm pending pending", "evaluating", "pending", 0),
        ("v1", "seen warm pass", "watching", "pass", 0),
        ("v1", "seen warm pass pass undecided horizon", "watching", "pass", 0),
        ("v1", "seen warm fail", "failed", "fail", 1),
        ("v1", "seen fail", "failed", "fail", 1),
        ("v1", "seen warm fail fail pass undecided horizon", "failed", "fail", 1),
        ("v1", "seen warm pass fail", "failed", "fail", 1),
        ("v1", "seen warm horizon", "inconclusive", "inconclusive", 0),
        ("v1", "seen warm undecided", "inconclusive", "inconclusive", 0),
        ("v1", "seen warm horizon pass", "inconclusive", "inconclusive", 0),
        ("v1", "seen warm horizon fail", "failed", "fail", 1),
        ("v1", "seen warm fail recovered", "recovered", "fail", 1),
        ("v1", "seen warm fail timeout", "not_recovered", "fail", 1),
        ("v1", "seen warm fail timeout recovered fail", "not_recovered", "fail", 1),
        ("v1", "seen warm fail ended", "failed", "fail", 1),
        ("v1", "seen warm fail superseded", "failed", "fail", 1),
        ("v1", "seen warm fail cancelled", "cancelled", "fail", 1),
        ("v1", "seen warm recovered timeout", "evaluating", "pending", 0),
        ("v1", "seen warm ended", "closed", "pending", 0),
        ("v1", "seen warm pass ended fail", "closed", "pass", 0),
        ("v1", "seen warm superseded fail", "superseded", "pending", 0),
        ("v1", "cancelled seen warm fail", "cancelled", "pending", 0),
        ("v1", "seen warm pass degraded degraded", "watching", "pass", 0),
        // Nothing to compare with, or nothing to compare: neither pass nor fail, whatever the judge says.
        ("", "seen warm", "warming", "pending", 0),
        ("", "seen warm fail pass", "warming", "pending", 0),
        ("", "seen horizon", "inconclusive", "inconclusive", 0),
        ("v1", "warm fail pass", "warming", "pending", 0),
        ("v1", "horizon", "inconclusive", "inconclusive", 0),
        ("", "seen baseline warm fail", "failed", "fail", 1),
        ("", "seen baseline=v2 warm", "warming", "pending", 0),
        ("", "seen baseline=none warm", "warming", "pending", 0),
    ] {
        let baseline = (!baseline.is_empty()).then_some(baseline);
        let (end, ordered) = run(begun(Mode::Act, baseline), words);
        assert_eq!(
            (end.phase.as_str(), end.verdict.as_str(), ordered),
            (phase, verdict, rollbacks),
            "{words}"
        );
        let (observed, ordered) = run(begun(Mode::Observe, baseline), words);
        assert_eq!(
            (observed.phase, observed.verdict, ordered),
            (end.phase, end.verdict, 0),
            "observe: {words}"
        );
        assert!(!observed.rollback_ordered);
    }
}

#[test]
fn history_reads_as_a_story() {
    let (d, _) = run(begun(Mode::Act, Some("v1")), "seen warm pending pass degraded degraded fail recovered");
    let told: Vec<String> = d.history.iter().map(|t| format!("{}: {}", t.phase.as_str(), t.reason)).collect();
    assert_eq!(
        told,
        [
            "warming: v2 was first seen beside v1.",
            "evaluating: The warm-up is over; v2 is compared with v1.",
            "watching: Judged pass.",
            "watching: v2 is worse than what v1 showed before it went away.",
            "failed: Judged fail.",
            "recovered: v2 is out of traffic and the service is well again.",
        ]
    );
    assert_eq!(d.decided_after_seconds, Some(71.0));
    assert_eq!(d.candidate_first, Some(at(1)));
}

#[test]
fn the_rollback_carries_the_decision() {
    let (ready, _) = run(begun(Mode::Act, Some("v1")), "seen warm");
    let step = transition(&ready, judged(Verdict::Fail), at(9));
    let [Action::Rollback(ordered)] = step.actions.as_slice() else { panic!("one action") };
    assert_eq!(**ordered, step.deployment);
    assert!(ordered.rollback_ordered && ordered.verdict == Verdict::Fail);
    assert_eq!(recovery_deadline(&step.deployment), Some(at(309)));
    assert_eq!(recovery_deadline(&ready), None);
}

#[test]
fn evidence_moves_without_a_durable_change_and_stops_at_the_fail() {
    let (ready, _) = run(begun(Mode::Act, Some("v1")), "seen warm");
    let step = transition(&ready, judged(Verdict::Pending), at(9));
    assert!(!step.changed);
    assert_eq!(step.deployment.explanation, "Judged pending. More words.");
    let failed = transition(&step.deployment, judged(Verdict::Fail), at(10)).deployment;
    let after = transition(&failed, judged(Verdict::Pending), at(11));
    assert_eq!((after.deployment, after.changed), (failed, false));
}

#[test]
fn history_is_bounded_and_keeps_its_first_line() {
    let mut step = Step { deployment: begun(Mode::Observe, None), actions: Vec::new(), changed: false };
    for i in 0..200 {
        step.note(format!("line {i}"), at(i));
    }
    assert_eq!(step.deployment.history.len(), HISTORY_LINES);
    assert_eq!(step.deployment.history[0].reason, "v2 was first seen.");
    assert_eq!(step.deployment.history[HISTORY_LINES - 1].reason, "line 199");
}

const WORDS: [&str; 19] = [
    "change",
    "change=other",
    "seen",
    "baseline",
    "baseline=v2",
    "baseline=none",
    "warm",
    "pending",
    "pass",
    "fail",
    "undecided",
    "horizon",
    "degraded",
    "withheld",
    "ended",
    "recovered",
    "timeout",
    "superseded",
    "cancelled",
];

proptest! {
    #[test]
    fn any_sequence_of_events_keeps_the_invariants(
        act in any::<bool>(),
        announced in any::<bool>(),
        events in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..60),
    ) {
        let mode = if act { Mode::Act } else { Mode::Observe };
        let mut before = begun(mode, announced.then_some("v1"));
        let mut rollbacks = 0;
        for (i, word) in events.iter().enumerate() {
            let step = transition(&before, event(word), at(i as u64));
            let after = step.deployment;
            rollbacks += step.actions.len();
            prop_assert!(rollbacks <= usize::from(act), "{rollbacks} rollbacks in mode {mode:?}");
            prop_assert_eq!(after.rollback_ordered, rollbacks == 1);
            if before.verdict == Verdict::Fail {
                prop_assert_eq!(after.verdict, Verdict::Fail);
                prop_assert_eq!(&after.evidence, &before.evidence);
            }
            if before.phase.is_over() {
                prop_assert_eq!(&after, &before);
            }
            if matches!(after.verdict, Verdict::Pass | Verdict::Fail) {
                prop_assert!(after.baseline.is_some() && after.candidate_first.is_some());
            }
            prop_assert_eq!(after.verdict == Verdict::Pending, after.decided_at.is_none());
            prop_assert!(after.baseline.as_deref() != Some("v2"));
            let durable = |d: &Deployment| (d.phase, d.verdict, d.baseline.clone(), d.history.len(), d.candidate_first, d.change.clone());
            prop_assert_eq!(step.changed, durable(&after) != durable(&before));
            before = after;
        }
    }

    #[test]
    fn saying_it_twice_is_saying_it_once(events in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..20)) {
        let mut once = begun(Mode::Act, Some("v1"));
        for (i, word) in events.iter().enumerate() {
            once = transition(&once, event(word), at(i as u64)).deployment;
            let again = transition(&once, event(word), at(i as u64));
            prop_assert_eq!(&again.deployment, &once);
            prop_assert!(!again.changed && again.actions.is_empty());
        }
    }
}
