//! The record of one deployment: identity, phase, verdict, evidence and history. Everything that the API,
//! the metrics, the webhook and the store show of a deployment is read from here.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::snapshot::{snapshot_fields, snapshot_index};
use crate::model::{DeploymentId, Labels, ResourceAttribute, ServiceKey, UnixNanos};
use crate::objective::{Budget, Spent};
use crate::verdict::{Account, AccountInput, Evidence, Policy, Scope, Verdict, account};

/// Where a deployment is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Phase {
    /// Announced or begun; the candidate is younger than the warm-up or has no traffic yet.
    #[default]
    Warming,
    /// Being compared.
    Evaluating,
    /// Passed; watched for the rest of the version's life.
    Watching,
    /// Failed; waiting for the bad version's traffic to end.
    Failed,
    /// The bad version is gone and the SLIs are back.
    Recovered,
    /// The bad version still serves, or the SLIs are not back, 5 minutes after the fail.
    NotRecovered,
    /// The horizon ended without a decision; watched like a passed one.
    Inconclusive,
    /// A newer deployment of the same service took its place.
    Superseded,
    /// Ended by a person.
    Cancelled,
    /// Its candidate's traffic ended, or its life is over.
    Closed,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 10] = [
        Self::Warming,
        Self::Evaluating,
        Self::Watching,
        Self::Failed,
        Self::Recovered,
        Self::NotRecovered,
        Self::Inconclusive,
        Self::Superseded,
        Self::Cancelled,
        Self::Closed,
    ];

    /// The word used in the API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warming => "warming",
            Self::Evaluating => "evaluating",
            Self::Watching => "watching",
            Self::Failed => "failed",
            Self::Recovered => "recovered",
            Self::NotRecovered => "not_recovered",
            Self::Inconclusive => "inconclusive",
            Self::Superseded => "superseded",
            Self::Cancelled => "cancelled",
            Self::Closed => "closed",
        }
    }

    /// Whether slots are still judged.
    pub const fn is_judging(self) -> bool {
        matches!(self, Self::Warming | Self::Evaluating | Self::Watching | Self::Inconclusive)
    }

    /// Whether nothing more will happen.
    pub const fn is_over(self) -> bool {
        matches!(
            self,
            Self::Recovered | Self::NotRecovered | Self::Superseded | Self::Cancelled | Self::Closed
        )
    }
}

/// Whether a fail fires the rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// The true verdict is kept and shown; nothing is fired.
    #[default]
    Observe,
    /// A fail fires the rollback webhook.
    Act,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 2] = [Self::Observe, Self::Act];

    /// The word used in the configuration and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Act => "act",
        }
    }
}

/// What began a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Origin {
    /// The first span of a new version beside a known one.
    #[default]
    Detected,
    /// The API or the command line.
    Requested,
}

impl Origin {
    /// All origins.
    pub const ALL: [Self; 2] = [Self::Detected, Self::Requested];

    /// The word used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Detected => "detected",
            Self::Requested => "requested",
        }
    }
}

/// What is held against what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Kind {
    /// A version against another.
    #[default]
    Version,
    /// A service after a time against what it showed before.
    BeforeAfter,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Version, Self::BeforeAfter];

    /// The word used in the API, in metrics and in the webhook.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::BeforeAfter => "before/after",
        }
    }
}

/// What a caller says when starting a deployment explicitly.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// `service.name`, or `namespace/name`.
    pub service: String,
    /// Candidate version; empty where a time is named instead.
    pub version: String,
    /// The time of a change that carries no version.
    pub time: Option<UnixNanos>,
    /// The requests that such a change is about; all where it names nothing.
    pub scope: Scope,
    /// Baseline version; chosen by traffic when absent.
    pub baseline: Option<String>,
    /// Environment; may be left out where the service has one only.
    pub environment: Option<String>,
    /// Link to the change or the pipeline run.
    pub url: Option<String>,
    /// Commit of the candidate.
    pub commit: Option<String>,
    /// Kind of release, for the policy that holds: `canary`, `migration`, .. by the caller's own words.
    pub release: Option<String>,
    /// The share of both versions' requests that is meant to go to the candidate from now on, above 0 and at most 1.
    pub share: Option<f64>,
}

/// One change of phase.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// When.
    pub at: UnixNanos,
    /// Into which phase.
    pub phase: Phase,
    /// Why, in one sentence.
    pub reason: String,
}

/// One deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// The service.
    pub service: ServiceKey,
    /// The version it is held against; `None` until one is known.
    pub baseline: Option<String>,
    /// The version being judged.
    pub candidate: String,
    /// The time of the change, where what is after it is held against what was before: both are of `candidate`, the
    /// version that serves.
    pub time: Option<UnixNanos>,
    /// The requests that such a change is about; what is outside is not judged.
    pub scope: Scope,
    /// What began it.
    pub origin: Origin,
    /// Kind of release; [`Deployment::VERSION`] unless its start was announced as another.
    pub release: String,
    /// Phase now.
    pub phase: Phase,
    /// Verdict now; `Fail` never changes back.
    pub verdict: Verdict,
    /// Whether a fail fires the rollback.
    pub mode: Mode,
    /// The policy it began with.
    pub policy: Policy,
    /// When it began.
    pub started_at: UnixNanos,
    /// Start of the candidate's first request, once there was one.
    pub candidate_first: Option<UnixNanos>,
    /// When the verdict was reached.
    pub decided_at: Option<UnixNanos>,
    /// Seconds from the candidate's first request to the end of the deciding slot.
    pub decided_after_seconds: Option<f64>,
    /// Whether a rollback was ordered: at most once.
    pub rollback_ordered: bool,
    /// The evidence: live while judging, as of the decision afterwards.
    pub evidence: Arc<Evidence>,
    /// The evidence in plain words.
    pub explanation: String,
    /// Link to the change, from the request.
    pub url: Option<String>,
    /// Commit, from the request.
    pub commit: Option<String>,
    /// The share of requests that is meant to go to the candidate, as it was named last; `None`: only the policy says.
    pub share: Option<f64>,
    /// The change it carries as its telemetry says (`vcs.*`, `cicd.*`, `deployment.*`).
    pub change: Arc<Labels>,
    /// Phase changes, oldest first.
    pub history: Vec<Transition>,
    /// What its candidate has spent of the service's error budget.
    pub spent: Spent,
    /// Requests and failed ones of the candidate that were counted before it began.
    pub spent_before: [u64; 2],
    /// Since when the error budget burns too fast while it is the newest deployment. For people; the judge does not
    /// know of it.
    pub under_review_since: Option<UnixNanos>,
}

impl Deployment {
    /// The kind of release of a deployment of which nobody said another.
    pub const VERSION: &str = "version";
    /// The same of one that names a time.
    pub const BEFORE_AFTER: &str = "before/after";

    /// What is held against what.
    pub const fn kind(&self) -> Kind {
        if self.time.is_some() { Kind::BeforeAfter } else { Kind::Version }
    }

    /// What its words are about: the version, or before and after a change the service, and which part of it.
    pub fn subject(&self) -> Cow<'_, str> {
        match self.time {
            None => Cow::Borrowed(&self.candidate),
            Some(_) if self.scope.is_whole() => Cow::Borrowed(&self.service.name),
            Some(_) => Cow::Owned(format!("{} ({})", self.service.name, self.scope.words())),
        }
    }

    /// Which requests an action is for: `all`, or `attribute=value` of the scope that the change names and of the
    /// regions that alone are worse. Of one attribute they are alternatives, different ones hold together.
    pub fn action_scope(&self) -> Vec<String> {
        let mut scope = self.scope.labels();
        scope.extend(self.evidence.regions.iter().filter(|r| !r.scope.is_empty()).flat_map(|r| r.scope()));
        if scope.is_empty() { vec!["all".into()] } else { scope }
    }

    /// Whether it waits for the time of its change.
    pub fn is_waiting(&self) -> bool {
        self.time.is_some() && self.phase == Phase::Warming
    }

    /// The commit: what the request says, else what the telemetry does.
    pub fn commit(&self) -> Option<&str> {
        self.commit.as_deref().or_else(|| self.change.get(ResourceAttribute::Revision))
    }

    /// What decided, the sum, what would have turned it, and what could not have been seen.
    pub fn account(&self) -> Account {
        account(&AccountInput {
            candidate: &self.subject(),
            baseline: self.baseline.as_deref(),
            verdict: self.verdict,
            evidence: &self.evidence,
            policy: &self.policy,
            explanation: &self.explanation,
            candidate_first: self.candidate_first.map(UnixNanos::slot),
            acts: self.mode == Mode::Act,
        })
    }

    /// What it has spent when its candidate's counts stand at `totals`. Never falls: counts that begin anew after a
    /// loss of memory take nothing back.
    pub fn spend(&self, totals: [u64; 2], budget: Option<&Budget>) -> Spent {
        let [requests, failed] = [0, 1].map(|i| totals[i].saturating_sub(self.spent_before[i]));
        let (requests, failed) = (requests.max(self.spent.requests), failed.max(self.spent.failed));
        let share = budget.map(|budget| budget.share(failed)).or(self.spent.share);
        let left = budget.map(|budget| [budget.left(), budget.left_ratio()]).or(self.spent.left);
        Spent { requests, failed, share, left }
    }

    /// Whether the verdict will not change any more, but for a late fail in watch mode.
    pub fn is_final(&self) -> bool {
        self.verdict != Verdict::Pending || self.phase.is_over()
    }
}

/// What should happen outside because of a transition. Derived from its cause: deriving it twice is harmless.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Fire the rollback webhook for this deployment.
    Rollback(Arc<Deployment>),
}

snapshot_index!(Phase, Mode, Origin);
snapshot_fields!(Transition { at, phase, reason });

snapshot_fields!(Deployment {
    id,
    service,
    baseline,
    candidate,
    time,
    scope,
    origin,
    release,
    phase,
    verdict,
    mode,
    policy,
    started_at,
    candidate_first,
    decided_at,
    decided_after_seconds,
    rollback_ordered,
    evidence,
    explanation,
    url,
    commit,
    share,
    change,
    history,
    spent,
    spent_before,
    under_review_since,
});
