//! The life of a deployment as a pure function: a deployment, an event and the time in; the next deployment
//! and what must happen outside out. Any event may come in any phase, and the same one twice: what does not
//! apply changes nothing. So the evaluator may simply say on every tick what it sees.
//!
//! ```text
//!             first request,           judge: pass
//!  warming --- warm-up over --> evaluating ------> watching --- traffic ended --> closed
//!     |                            |  `- horizon -> inconclusive --- " -----------> closed
//!     |  judge: fail (from any of them)
//!     `-----------------------> failed --> recovered | not_recovered
//!  (a newer deployment: superseded; a person: cancelled)
//! ```
//!
//! Where a time is named instead of a version it is warming until that time, evaluating from then on, and closed when what
//! was remembered at the time is too old to be compared with.
//!
//! Invariants, held by property tests: a fail is never taken back; at most one rollback is ordered, and only
//! in mode `act`; without a baseline or without a single request there is neither pass nor fail; what is over
//! stays as it is.

use std::sync::Arc;

use super::record::{Action, Deployment, Mode, Origin, Phase, Transition};
use crate::model::{DeploymentId, Labels, NANOS_PER_SECOND, ServiceKey, UnixNanos, VersionKey};
use crate::objective::Spent;
use crate::verdict::words::time_of_day;
use crate::verdict::{Evidence, Flag, Policy, Scope, Verdict};

/// Seconds after a fail within which the bad version's traffic must end and the SLIs be back.
pub const RECOVERY_SECONDS: u64 = 300;
/// Lines of history kept; the first one stays, the oldest of the others go.
pub const HISTORY_LINES: usize = 64;

/// What a deployment begins with.
#[derive(Debug, Clone)]
pub struct Beginning {
    /// Its id.
    pub id: DeploymentId,
    /// The service.
    pub service: ServiceKey,
    /// The version it is held against, when one is known.
    pub baseline: Option<String>,
    /// The version to be judged.
    pub candidate: String,
    /// The time of a change without a version.
    pub time: Option<UnixNanos>,
    /// The requests that it is about.
    pub scope: Scope,
    /// What began it.
    pub origin: Origin,
    /// Kind of release.
    pub release: String,
    /// Whether a fail fires the rollback.
    pub mode: Mode,
    /// The policy for its whole life.
    pub policy: Policy,
    /// Link to the change.
    pub url: Option<String>,
    /// Commit of the candidate.
    pub commit: Option<String>,
    /// The share of requests that is meant to go to it.
    pub share: Option<f64>,
}

impl Beginning {
    /// The deployment as it is at its first moment.
    pub fn begin(self, now: UnixNanos) -> Deployment {
        let beside = self.baseline.as_ref().map_or_else(String::new, |b| format!(" beside {b}"));
        let reason = match (self.time, self.origin) {
            (Some(time), _) => {
                let of =
                    if self.scope.is_whole() { String::new() } else { format!(" of {}", self.scope.words()) };
                format!("A change{of} at {} was announced.", time_of_day(time.slot()))
            }
            (None, Origin::Detected) => format!("{} was first seen{beside}.", self.candidate),
            (None, Origin::Requested) => format!("The start of {} was announced.", self.candidate),
        };
        Deployment {
            id: self.id,
            service: self.service,
            baseline: self.baseline,
            candidate: self.candidate,
            time: self.time,
            scope: self.scope,
            origin: self.origin,
            release: self.release,
            phase: Phase::Warming,
            verdict: Verdict::Pending,
            mode: self.mode,
            policy: self.policy,
            started_at: now,
            candidate_first: None,
            decided_at: None,
            decided_after_seconds: None,
            rollback_ordered: false,
            evidence: Arc::default(),
            explanation: String::new(),
            url: self.url,
            commit: self.commit,
            share: self.share,
            change: Arc::default(),
            history: vec![Transition { at: now, phase: Phase::Warming, reason }],
            spent: Spent::default(),
            spent_before: [0; 2],
            under_review_since: None,
        }
    }
}

/// What can happen to a deployment.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The candidate's first request, and when it started.
    CandidateSeen {
        /// Start of that request.
        first: UnixNanos,
        /// Requests and failed ones of the candidate that were counted before the deployment.
        before: [u64; 2],
    },
    /// The baseline is known now.
    BaselineChosen(String),
    /// What the candidate's telemetry says of the change it carries.
    ChangeKnown(Arc<Labels>),
    /// The candidate's first instance is older than the warm-up.
    WarmupOver,
    /// The judge looked at another slot.
    Judged {
        /// What it says.
        verdict: Verdict,
        /// On what grounds.
        evidence: Arc<Evidence>,
        /// The same in plain words.
        explanation: String,
        /// Seconds from the candidate's first request to the end of the deciding slot.
        decided_after_seconds: Option<f64>,
    },
    /// The horizon of the policy ended.
    HorizonOver,
    /// Worse than a baseline that is gone, too late to be a ground for a rollback.
    Degraded {
        /// On what grounds.
        evidence: Arc<Evidence>,
        /// The same in plain words.
        explanation: String,
    },
    /// It would fail, but around this time of day it looked like this on other days, too.
    Withheld {
        /// On what grounds.
        evidence: Arc<Evidence>,
        /// The same in plain words.
        explanation: String,
    },
    /// The error budget burns faster than twice what the objective allows while this deployment is the newest one.
    UnderReview {
        /// How fast.
        burn: f64,
    },
    /// It does not any more.
    ReviewOver,
    /// The time of the change has come.
    TimeCame {
        /// The version that serves.
        version: String,
        /// Requests and failed ones of it that were counted until then.
        before: [u64; 2],
    },
    /// What was remembered at the time of the change can be compared with no longer, and why.
    MemoryOver(&'static str),
    /// The candidate sends nothing any more and will not.
    TrafficEnded,
    /// So many newer ones are watched that there is no room for it any more.
    WatchEnded {
        /// How many.
        others: usize,
    },
    /// The failed version's traffic is gone and the SLIs are back.
    Recovered,
    /// [`RECOVERY_SECONDS`] after the fail that is not so.
    RecoveryTimedOut,
    /// A newer deployment of the same service began.
    SupersededBy(DeploymentId),
    /// A person ended it, and who or why.
    CancelledBy(String),
}

/// The result of one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The deployment afterwards.
    pub deployment: Deployment,
    /// What must happen outside because of it.
    pub actions: Vec<Action>,
    /// Whether something changed that must be durable: anything but evidence that moved on.
    pub changed: bool,
}

/// Applies one event.
pub fn transition(deployment: &Deployment, event: Event, now: UnixNanos) -> Step {
    let mut step = Step { deployment: deployment.clone(), actions: Vec::new(), changed: false };
    if deployment.phase.is_over() {
        return step;
    }
    let judging = deployment.phase.is_judging();
    match event {
        Event::CandidateSeen { first, before } => step.candidate_seen(first, before),
        Event::BaselineChosen(version) => step.baseline_chosen(version),
        Event::ChangeKnown(change) => step.change_known(&change),
        Event::WarmupOver => step.warmup_over(now),
        Event::Judged { verdict, evidence, explanation, decided_after_seconds } if judging => {
            step.deployment.evidence = evidence;
            step.deployment.explanation = explanation;
            step.judged(verdict, decided_after_seconds, now);
        }
        Event::Withheld { evidence, explanation } if judging => step.withheld(evidence, explanation, now),
        Event::UnderReview { burn } if judging => step.under_review(burn, now),
        Event::ReviewOver => step.review_over(now),
        Event::HorizonOver => step.inconclusive(None, now),
        Event::Degraded { evidence, explanation } if judging => step.degraded(evidence, explanation, now),
        Event::TimeCame { version, before } => step.time_came(version, before, now),
        Event::MemoryOver(why) if judging && deployment.time.is_some() => {
            step.enter(Phase::Closed, why.to_owned(), now);
        }
        Event::TrafficEnded if judging => {
            step.enter(Phase::Closed, format!("{} serves no traffic any more.", deployment.candidate), now);
        }
        Event::WatchEnded { others } if judging && deployment.verdict != Verdict::Pending => {
            step.enter(Phase::Closed, format!("The watch has ended: {others} newer ones are watched."), now);
        }
        Event::Recovered if !judging => {
            let reason = match deployment.time {
                Some(_) => format!("{} is as it was before the change again.", deployment.subject()),
                None => format!("{} is out of traffic and the service is well again.", deployment.candidate),
            };
            step.enter(Phase::Recovered, reason, now);
        }
        Event::RecoveryTimedOut if !judging => {
            let reason =
                format!("Not well again {RECOVERY_SECONDS} seconds after {} failed.", deployment.subject());
            step.enter(Phase::NotRecovered, reason, now);
        }
        // A failed one is left alone: it ends by itself, and whether the service got well again is worth
        // knowing also when a fix is rolled out instead of the old version.
        Event::SupersededBy(id) if judging => {
            step.enter(Phase::Superseded, format!("Deployment {id} took its place."), now);
        }
        Event::CancelledBy(who) => step.enter(Phase::Cancelled, format!("Cancelled: {who}."), now),
        Event::Judged { .. }
        | Event::Degraded { .. }
        | Event::Withheld { .. }
        | Event::UnderReview { .. }
        | Event::MemoryOver(_)
        | Event::TrafficEnded
        | Event::WatchEnded { .. }
        | Event::Recovered
        | Event::RecoveryTimedOut
        | Event::SupersededBy(_) => {}
    }
    step
}

/// When a failed deployment that is not well again stops waiting; `None` when it does not wait.
pub fn recovery_deadline(deployment: &Deployment) -> Option<UnixNanos> {
    let failed = deployment.phase == Phase::Failed;
    deployment.decided_at.filter(|_| failed).map(|at| at.plus_nanos(RECOVERY_SECONDS * NANOS_PER_SECOND))
}

/// Whether a version label can be judged or judged against.
pub fn is_version(label: &str) -> bool {
    !label.is_empty() && label != VersionKey::UNVERSIONED && label != VersionKey::OVERFLOW
}

impl Step {
    fn enter(&mut self, phase: Phase, reason: String, now: UnixNanos) {
        self.deployment.phase = phase;
        self.note(reason, now);
    }

    /// Adds a line of history under the present phase.
    fn note(&mut self, reason: String, now: UnixNanos) {
        let history = &mut self.deployment.history;
        if history.len() >= HISTORY_LINES {
            history.remove(1);
        }
        history.push(Transition { at: now, phase: self.deployment.phase, reason });
        self.changed = true;
    }

    fn candidate_seen(&mut self, first: UnixNanos, before: [u64; 2]) {
        if self.deployment.candidate_first.is_none() && self.deployment.time.is_none() {
            self.deployment.candidate_first = Some(first);
            self.deployment.spent_before = before;
            self.changed = true;
        }
    }

    /// From now on the version that serves is held against what it showed until now.
    fn time_came(&mut self, version: String, before: [u64; 2], now: UnixNanos) {
        let d = &mut self.deployment;
        let Some(time) = d.time.filter(|_| d.is_waiting()) else { return };
        d.baseline = Some(version.clone());
        d.candidate = version;
        d.candidate_first = Some(time);
        d.spent_before = before;
        let since = time_of_day(time.slot());
        let reason = format!("{} since {since} is compared with what it showed before.", d.subject());
        self.enter(Phase::Evaluating, reason, now);
    }

    fn baseline_chosen(&mut self, version: String) {
        let d = &mut self.deployment;
        let open = matches!(d.phase, Phase::Warming | Phase::Evaluating) && d.time.is_none();
        if open && is_version(&version) && version != d.candidate && d.baseline.as_ref() != Some(&version) {
            d.baseline = Some(version);
            self.changed = true;
        }
    }

    /// What is known stays, so that instances that say different things change nothing for ever.
    fn change_known(&mut self, change: &Labels) {
        let mut known = (*self.deployment.change).clone();
        if known.complete(change) {
            self.deployment.change = Arc::new(known);
            self.changed = true;
        }
    }

    fn warmup_over(&mut self, now: UnixNanos) {
        let d = &self.deployment;
        if d.phase != Phase::Warming || d.candidate_first.is_none() {
            return;
        }
        if let Some(baseline) = &d.baseline {
            let reason = format!("The warm-up is over; {} is compared with {baseline}.", d.candidate);
            self.enter(Phase::Evaluating, reason, now);
        }
    }

    fn judged(&mut self, verdict: Verdict, decided_after_seconds: Option<f64>, now: UnixNanos) {
        let d = &self.deployment;
        let comparable = d.baseline.is_some() && d.candidate_first.is_some();
        let undecided = matches!(d.phase, Phase::Warming | Phase::Evaluating);
        match verdict {
            Verdict::Fail if comparable => {
                let reason = sentence(&d.explanation, "Worse than the baseline.");
                self.decide(Verdict::Fail, Phase::Failed, decided_after_seconds, reason, now);
                self.order_rollback();
            }
            Verdict::Pass if comparable && undecided => {
                let reason = sentence(&d.explanation, "Not worse than the baseline.");
                self.decide(Verdict::Pass, Phase::Watching, decided_after_seconds, reason, now);
            }
            Verdict::Inconclusive => self.inconclusive(decided_after_seconds, now),
            Verdict::Fail | Verdict::Pass | Verdict::Pending => {}
        }
    }

    fn inconclusive(&mut self, decided_after_seconds: Option<f64>, now: UnixNanos) {
        if matches!(self.deployment.phase, Phase::Warming | Phase::Evaluating) {
            let reason = match (self.deployment.candidate_first, &self.deployment.baseline) {
                (None, _) => format!("No request of {} came in time.", self.deployment.candidate),
                (_, None) => "There was no version to compare with.".into(),
                _ if self.deployment.evidence.has(Flag::AsOtherDays) => {
                    "Worse than before, but as around this time of other days.".into()
                }
                _ => "The horizon ended without a decision.".into(),
            };
            self.decide(Verdict::Inconclusive, Phase::Inconclusive, decided_after_seconds, reason, now);
        }
    }

    fn decide(&mut self, verdict: Verdict, phase: Phase, after: Option<f64>, reason: String, now: UnixNanos) {
        self.deployment.verdict = verdict;
        self.deployment.decided_at = Some(now);
        self.deployment.decided_after_seconds = after;
        self.enter(phase, reason, now);
    }

    fn order_rollback(&mut self) {
        if self.deployment.mode == Mode::Act && !self.deployment.rollback_ordered {
            self.deployment.rollback_ordered = true;
            self.actions.push(Action::Rollback(Arc::new(self.deployment.clone())));
        }
    }

    /// A mark for people. No threshold and no verdict knows of it.
    fn under_review(&mut self, burn: f64, now: UnixNanos) {
        if self.deployment.under_review_since.is_none() {
            self.deployment.under_review_since = Some(now);
            self.note(
                format!(
                    "Under review: the error budget burns {burn:.1} times as fast as the objective allows."
                ),
                now,
            );
        }
    }

    fn review_over(&mut self, now: UnixNanos) {
        if self.deployment.under_review_since.take().is_some() {
            self.note(
                "No longer under review: the error budget does not burn like that any more.".into(),
                now,
            );
        }
    }

    /// Said once in the history, however often it is seen.
    fn withheld(&mut self, evidence: Arc<Evidence>, explanation: String, now: UnixNanos) {
        const SAID: &str = "A fail is withheld: ";
        let is_said = self.deployment.history.iter().any(|line| line.reason.starts_with(SAID));
        let reason = format!("{SAID}{explanation}");
        (self.deployment.evidence, self.deployment.explanation) = (evidence, explanation);
        if !is_said {
            self.note(reason, now);
        }
    }

    fn degraded(&mut self, evidence: Arc<Evidence>, explanation: String, now: UnixNanos) {
        // Said once in the history; the evidence goes on moving.
        let new = !self.deployment.evidence.has(Flag::Degraded);
        let mut evidence = evidence;
        if !evidence.has(Flag::Degraded) {
            Arc::make_mut(&mut evidence).flags.push(Flag::Degraded);
        }
        self.deployment.evidence = evidence;
        self.deployment.explanation = explanation;
        if new {
            let d = &self.deployment;
            let baseline = d.baseline.as_deref().unwrap_or("the baseline");
            let reason = match d.time {
                Some(time) => {
                    let since = time_of_day(time.slot());
                    format!("{} is worse than before {since}, too late to be laid at its door.", d.subject())
                }
                None => format!("{} is worse than what {baseline} showed before it went away.", d.candidate),
            };
            self.note(reason, now);
        }
    }
}

/// The first sentence of the explanation, or `otherwise`.
fn sentence(explanation: &str, otherwise: &str) -> String {
    let first = explanation.split_inclusive(". ").next().unwrap_or_default().trim();
    if first.is_empty() { otherwise.into() } else { first.into() }
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
