//! What a verdict rests on, in numbers: per SLI the counts, the ratio with its interval, the weight and the
//! evidence in nats; for the whole the weighted average against its threshold; and the flags that say what
//! a reader should bear in mind. Enough to follow the decision without this program.

use std::sync::Arc;

use super::change::ChangeEvidence;
use super::cohort::{CohortEvidence, MixShift, RegionEvidence};
use super::logs::LogEvidence;
use super::other_days::OtherDays;
use super::own::OwnEvidence;
use super::slot_log::SlotLog;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer, snapshot_fields, snapshot_index};
use crate::model::{Slot, Source};

/// What is known of a candidate now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Verdict {
    /// Being judged; nothing decided.
    #[default]
    Pending,
    /// Shown not to be unacceptably worse than the baseline.
    Pass,
    /// Worse than the baseline by more than the tolerated margin.
    Fail,
    /// The horizon ended without a decision; the evidence says what is missing.
    Inconclusive,
}

impl Verdict {
    /// All verdicts, in the order in which they are exposed.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Pass, Self::Fail, Self::Inconclusive];

    /// The word used in the API, in metrics and in the webhook.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Sli {
    /// Share of failed requests.
    #[default]
    ErrorRate,
    /// Share of requests slower than the baseline's median plus the margin.
    LatencyP50,
    /// The same at the 95th percentile.
    LatencyP95,
    /// The same at the 99th percentile.
    LatencyP99,
    /// The same at the 75th percentile; used against a remembered baseline only.
    LatencyP75,
    /// Catastrophe guard: more than 10 times the errors and 5 points; counts from the first request.
    Guard,
    /// The candidate alone against its objective and what the baseline showed.
    Absolute,
    /// Share of requests refused as the client's fault.
    ClientErrors,
    /// One of the policy's own, by its place in the policy.
    Own(u8),
}

impl Sli {
    /// Those that every service has, in reading order.
    pub const ALL: [Self; 8] = [
        Self::ErrorRate,
        Self::LatencyP50,
        Self::LatencyP75,
        Self::LatencyP95,
        Self::LatencyP99,
        Self::Guard,
        Self::Absolute,
        Self::ClientErrors,
    ];

    /// The word used in the API, in metrics and in traces.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ErrorRate => "err",
            Self::LatencyP50 => "p50",
            Self::LatencyP75 => "p75",
            Self::LatencyP95 => "p95",
            Self::LatencyP99 => "p99",
            Self::Guard => "guard",
            Self::Absolute => "absolute",
            Self::ClientErrors => "client_errors",
            Self::Own(_) => "own",
        }
    }
}

impl Snapshot for Sli {
    fn save(&self, out: &mut Writer) {
        const OWN: usize = 128;
        let index = match self {
            Self::Own(place) => OWN + usize::from(*place).min(OWN - 1),
            known => Self::ALL.iter().position(|sli| sli == known).unwrap_or(0),
        };
        (index as u8).save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        match u8::load(from)? {
            own @ 128.. => Ok(Self::Own(own - 128)),
            index => Self::ALL.get(usize::from(index)).copied().ok_or(Corrupt::Body),
        }
    }
}

/// What to bear in mind when reading a verdict. Some block PASS, none blocks FAIL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flag {
    /// The candidate runs on one instance: its instance and its version cannot be told apart. Blocks PASS.
    SinglePod,
    /// The versions serve different mixes of operations (harmless where stratified).
    MixShift,
    /// The candidate's operations are named differently; the service is judged pooled.
    OperationsDiffer,
    /// Baseline instances differ so much that no PASS is possible. Blocks PASS.
    TooHeterogeneous,
    /// The baseline has no traffic; the candidate is held against what it showed before.
    RememberedBaseline,
    /// Sampling differs between the versions or depends on the outcome. Blocks PASS.
    BiasedInput,
    /// Instances of the candidate die and are replaced more often than the baseline's. Blocks PASS.
    InstancesRestart,
    /// Baseline instances are younger than the warm-up.
    BaselineCold,
    /// Errors come in bursts; evidence gathers slowly.
    Bursty,
    /// No instance identity in the telemetry: differences between instances are unknown.
    InstancesUnknown,
    /// The versions serve from different zones. Blocks PASS.
    ZoneSkew,
    /// The candidate gets clearly fewer requests than the share that is meant to go to it. Blocks PASS.
    ShareMismatch,
    /// The candidate stopped sending while the baseline serves on. Blocks PASS.
    CandidateSilent,
    /// Spans of the service arrive late or from the future beyond what is waited for.
    LateData,
    /// Baseline and candidate burn their error budget together.
    SharedBurn,
    /// Evidence from a remembered baseline after its 5 minutes: worse, but no ground for a rollback.
    Degraded,
    /// Spans are fewer than 90 % of the requests that metrics count: a PASS rests on the metrics.
    Sampled,
    /// The versions are instrumented by different SDKs or versions of one: a difference may be theirs.
    SdkDiffers,
    /// A region or another cohort is worse by its own evidence, where that decides nothing. Blocks PASS.
    CohortWorse,
    /// Worse than what is remembered, as at the same time of another day: a fail is withheld.
    AsOtherDays,
}

impl Flag {
    /// All flags.
    pub const ALL: [Self; 20] = [
        Self::SinglePod,
        Self::MixShift,
        Self::OperationsDiffer,
        Self::TooHeterogeneous,
        Self::RememberedBaseline,
        Self::BiasedInput,
        Self::InstancesRestart,
        Self::BaselineCold,
        Self::Bursty,
        Self::InstancesUnknown,
        Self::CandidateSilent,
        Self::LateData,
        Self::SharedBurn,
        Self::Degraded,
        Self::Sampled,
        Self::SdkDiffers,
        Self::CohortWorse,
        Self::AsOtherDays,
        Self::ZoneSkew,
        Self::ShareMismatch,
    ];

    /// The word used in the API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SinglePod => "single_pod",
            Self::MixShift => "mix_shift",
            Self::OperationsDiffer => "operations_differ",
            Self::TooHeterogeneous => "too_heterogeneous",
            Self::RememberedBaseline => "remembered_baseline",
            Self::BiasedInput => "biased_input",
            Self::InstancesRestart => "instances_restart",
            Self::BaselineCold => "baseline_cold",
            Self::Bursty => "bursty",
            Self::InstancesUnknown => "instances_unknown",
            Self::CandidateSilent => "candidate_silent",
            Self::LateData => "late_data",
            Self::SharedBurn => "shared_burn",
            Self::Degraded => "degraded",
            Self::Sampled => "sampled",
            Self::SdkDiffers => "sdk_differs",
            Self::CohortWorse => "cohort_worse",
            Self::AsOtherDays => "as_other_days",
            Self::ZoneSkew => "zone_skew",
            Self::ShareMismatch => "share_mismatch",
        }
    }

    /// Whether a PASS waits until this is no longer so.
    pub const fn blocks_pass(self) -> bool {
        matches!(
            self,
            Self::SinglePod
                | Self::TooHeterogeneous
                | Self::BiasedInput
                | Self::InstancesRestart
                | Self::CandidateSilent
                | Self::CohortWorse
                | Self::ZoneSkew
                | Self::ShareMismatch
        )
    }
}

/// How finely latencies are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Grain {
    /// On the log grid: any threshold can be tested, and a margin on it.
    #[default]
    Fine,
    /// In explicit buckets: at one of their bounds, the same for both versions.
    Bound,
    /// In explicit buckets none of whose bounds is near the quantile: not tested, not required for a PASS.
    NotTestable,
}

impl Grain {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fine, Self::Bound, Self::NotTestable];

    /// The word used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Bound => "bound",
            Self::NotTestable => "not_testable",
        }
    }
}

/// One process: an SLI at service level (`operation` is `None`) or of one operation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SliEvidence {
    /// Where the counts come from.
    pub source: Source,
    /// What is compared.
    pub sli: Sli,
    /// The operation, or `None` for the service.
    pub operation: Option<Arc<str>>,
    /// Share of alpha.
    pub weight: f64,
    /// Evidence that the candidate is worse, in nats. 0 = none either way.
    pub ln_e: f64,
    /// Evidence that it is not unacceptably worse, in nats; service level of the required SLIs only.
    pub ln_e_pass: Option<f64>,
    /// Requests of candidate and baseline that were compared.
    pub requests: [u64; 2],
    /// Bad ones among them (failed, or slower than the threshold).
    pub bad: [u64; 2],
    /// Ratio of the rates with its anytime-valid 95 % interval: `[ratio, low, high]`.
    pub ratio: Option<[f64; 3]>,
    /// Latency threshold of the baseline now in seconds; latency SLIs of one operation only.
    pub threshold_seconds: Option<f64>,
    /// How finely its latencies are told apart; latency SLIs only. At service level `NotTestable` where no
    /// operation can be tested, and `Bound` where one is tested at a bound.
    pub grain: Grain,
    /// Share of the baseline's requests of the last 300 s above the bound; where `grain` is `Bound` and the
    /// operation is named.
    pub exceedance: Option<f64>,
    /// Whether it is on the list of degraded SLIs (e-BH at a false discovery rate of 10 %).
    pub degraded: bool,
    /// What it is, where it is one of the policy's own.
    pub own: Option<Box<OwnEvidence>>,
}

impl SliEvidence {
    /// The name used in the API and in metrics: of one of the policy's own the name that it has there.
    pub fn name(&self) -> &str {
        self.own.as_ref().map_or(self.sli.as_str(), |own| &own.name)
    }
}

/// The whole evidence for one deployment at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    /// The last slot that was judged.
    pub slot: Slot,
    /// ln of the weighted average of all e-values.
    pub ln_e_bar: f64,
    /// At which it is a fail: ln(1/alpha).
    pub fail_threshold: f64,
    /// At which an SLI has passed: ln(1/beta).
    pub pass_threshold: f64,
    /// 0 (fail) to 100 (proven not worse); 50 knows nothing.
    pub score: f64,
    /// Requests and failed requests compared so far: candidate, baseline.
    pub requests: [u64; 2],
    /// See `requests`.
    pub errors: [u64; 2],
    /// Every process, service level first, then by evidence.
    pub slis: Vec<SliEvidence>,
    /// What to bear in mind.
    pub flags: Vec<Flag>,
    /// Candidate requests still needed for PASS at the present rate of evidence; `None`: unknown or none.
    pub requests_needed: Option<u64>,
    /// Estimated incident size of the baseline's errors (cbar); 1 = independent errors.
    pub incident_size: f64,
    /// Trace ids (hex) of failed or slow candidate requests.
    pub exemplars: Vec<String>,
    /// What the sum is made of; with a decision only.
    pub slot_log: Option<Arc<SlotLog>>,
    /// The same of the metrics, where spans are judged too.
    pub metric_slot_log: Option<Arc<SlotLog>>,
    /// The same of SLIs of the policy's own, one for each clock by which they are judged.
    pub own_slot_logs: Vec<Arc<SlotLog>>,
    /// The source on which a PASS rests; totals above are its own.
    pub required: Source,
    /// Seconds between two exports of the metrics that are judged; `None` without metrics.
    pub slot_seconds: Option<i64>,
    /// Spans per request that metrics count, the lower of both versions; `None` where not both are there.
    pub span_share: Option<f64>,
    /// Scale of the judged exponential buckets where it is coarser than the grid's; `None` otherwise.
    pub coarse_scale: Option<i8>,
    /// What the logs say; beside the verdict, not part of it. `None` where no error was logged.
    pub logs: Option<Arc<LogEvidence>>,
    /// Before and after: what is held against what. `None` where two versions are compared.
    pub change: Option<ChangeEvidence>,
    /// The values of the dimensions, the worst first.
    pub cohorts: Vec<CohortEvidence>,
    /// What the regions say; `None` where none decide or are told apart.
    pub regions: Option<RegionEvidence>,
    /// The largest difference between what the versions serve.
    pub mix: Option<MixShift>,
    /// The difference between the zones that they served from in the last five minutes; `None` where that is not known
    /// well enough.
    pub zones: Option<MixShift>,
    /// Where it rests on what is remembered: what the same time of other days showed. `None` where that is not known.
    pub other_days: Option<OtherDays>,
    /// Seconds after the first request before which latency is not judged, because earlier releases of the service took
    /// so long to get fast; `None` where none took longer than the warm-up.
    pub settle_s: Option<i64>,
}

impl Evidence {
    /// The evidence of one service-level SLI, of the source on which a PASS rests.
    pub fn service(&self, sli: Sli) -> Option<&SliEvidence> {
        self.service_of(self.required, sli)
    }

    /// The evidence of one service-level SLI of one source.
    pub fn service_of(&self, source: Source, sli: Sli) -> Option<&SliEvidence> {
        self.slis.iter().find(|e| e.operation.is_none() && e.sli == sli && e.source == source)
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }
}

snapshot_index!(Verdict, Flag, Grain, Source);
snapshot_fields!(SliEvidence {
    source,
    sli,
    operation,
    weight,
    ln_e,
    ln_e_pass,
    requests,
    bad,
    ratio,
    threshold_seconds,
    grain,
    exceedance,
    degraded,
    own,
});
snapshot_fields!(Evidence {
    slot,
    ln_e_bar,
    fail_threshold,
    pass_threshold,
    score,
    requests,
    errors,
    slis,
    flags,
    requests_needed,
    incident_size,
    exemplars,
    slot_log,
    metric_slot_log,
    own_slot_logs,
    required,
    slot_seconds,
    span_share,
    coarse_scale,
    logs,
    change,
    cohorts,
    regions,
    mix,
    zones,
    other_days,
    settle_s,
});
