//! What a deployment is about, decided from what was seen: which version is new, which one it is held
//! against, which service a caller means, and what an explicit request adds to a deployment that began by
//! itself.

use super::lifecycle::is_version;
use super::record::{Deployment, Phase, Request};
use crate::model::{DIMENSIONS_MAX, NANOS_PER_SECOND, ServiceKey, UnixNanos};
use crate::verdict::{OPERATION, Verdict};

/// Seconds between a version's first and last request before it counts as known.
pub const KNOWN_SECONDS: u64 = 60;
/// Requests before a version counts as known.
pub const KNOWN_REQUESTS: u64 = 100;
/// Seconds after a start without any memory in which no version counts as new.
pub const FRESH_START_SECONDS: u64 = 120;
/// Longest service, version or environment that a request may name, in bytes.
pub const LABEL_BYTES: usize = 256;
/// How far back the time of a change may lie, in seconds: what is remembered is kept behind for no longer.
pub const CHANGE_BACK_S: u64 = 60;
/// How far ahead it may lie, in seconds.
pub const CHANGE_AHEAD_S: u64 = 86_400;
/// Longest url or commit that a request may carry, in bytes.
pub const LINK_BYTES: usize = 2048;

/// What was seen of one version of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Version label.
    pub version: String,
    /// First request.
    pub first: UnixNanos,
    /// Last request.
    pub last: UnixNanos,
    /// Requests since the first.
    pub requests: u64,
    /// Requests in the last 5 minutes.
    pub requests_5m: u64,
    /// Requests in the last 30 minutes.
    pub requests_30m: u64,
    /// Whether its newest verdict is a fail: it is no measure for others, and new again when it comes back.
    pub failed: bool,
    /// Whether the store remembers it as known.
    pub stored: bool,
}

impl Sighting {
    /// A version of which only the store knows.
    pub fn stored(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            first: UnixNanos::default(),
            last: UnixNanos::default(),
            requests: 0,
            requests_5m: 0,
            requests_30m: 0,
            failed: false,
            stored: true,
        }
    }

    /// Whether the version has served long enough to be one to compare with.
    pub fn is_known(&self) -> bool {
        let seconds = self.last.since(self.first) / NANOS_PER_SECOND;
        self.stored || (seconds >= KNOWN_SECONDS && self.requests >= KNOWN_REQUESTS)
    }
}

/// Whether `candidate`, at its first sight, starts a deployment: it is new and a known version stands beside
/// it. `fresh_start` is when the program began without any memory; `None` when it remembers earlier versions.
pub fn starts_deployment(candidate: &Sighting, service: &[Sighting], fresh_start: Option<UnixNanos>) -> bool {
    // By its first request, not by the time of asking: what served during the first two minutes is not new
    // later either, however little of it there is.
    let may_be_old = fresh_start
        .is_some_and(|start| candidate.first.since(start) < FRESH_START_SECONDS * NANOS_PER_SECOND);
    let known_beside = |other: &Sighting| {
        other.version != candidate.version && is_version(&other.version) && other.is_known() && !other.failed
    };
    let is_new = candidate.failed || (!candidate.is_known() && !may_be_old);
    is_version(&candidate.version) && is_new && service.iter().any(known_beside)
}

/// The version to hold `candidate` against: the one with most traffic over the last 5 minutes, then over the last 30,
/// else the one that went away last. Known versions come first, so that two new ones are not measured by each other; one
/// that failed is none, for anything would look good beside it.
pub fn choose_baseline<'a>(candidate: &str, service: &'a [Sighting]) -> Option<&'a str> {
    service
        .iter()
        .filter(|s| s.version != candidate && is_version(&s.version) && !s.failed)
        .max_by_key(|s| (s.is_known(), s.requests_5m, s.requests_30m, s.last, std::cmp::Reverse(&s.version)))
        .map(|s| s.version.as_str())
}

/// What became of the baseline that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaselineMerge {
    /// None named, or the same.
    Same,
    /// Taken over: the comparison begins anew against it.
    Replaced,
    /// Another one, but the verdict is there already: the deployment keeps the baseline it was judged by.
    TooLate,
}

/// A running deployment and what a request added to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The deployment afterwards.
    pub deployment: Deployment,
    /// What became of the named baseline.
    pub baseline: BaselineMerge,
    /// Whether anything changed.
    pub changed: bool,
}

/// Merges a request with a running deployment of the same service and version. Links that are there already
/// are replaced: the caller knows better than whoever came first.
pub fn merge_request(running: &Deployment, request: &Request) -> Merged {
    let mut deployment = running.clone();
    if request.url.is_some() {
        deployment.url.clone_from(&request.url);
    }
    if request.commit.is_some() {
        deployment.commit.clone_from(&request.commit);
    }
    deployment.share = request.share.or(running.share);
    let open =
        running.verdict == Verdict::Pending && matches!(running.phase, Phase::Warming | Phase::Evaluating);
    if let Some(release) = request.release.as_ref().filter(|_| open) {
        deployment.release.clone_from(release);
    }
    let baseline = match &request.baseline {
        None => BaselineMerge::Same,
        Some(asked) if running.baseline.as_ref() == Some(asked) => BaselineMerge::Same,
        Some(asked) if open && is_version(asked) && *asked != running.candidate => {
            deployment.baseline = Some(asked.clone());
            BaselineMerge::Replaced
        }
        Some(_) => BaselineMerge::TooLate,
    };
    let changed = deployment != *running;
    Merged { deployment, baseline, changed }
}

/// Why a request cannot be right.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// A required field is empty.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// A field is longer than any label.
    #[error("{0} is longer than {1} bytes")]
    TooLong(&'static str, usize),
    /// A field holds a label that stands for "no version" or "too many versions".
    #[error("{0} cannot be {1:?}: that is where spans without a usable version are counted")]
    Reserved(&'static str, String),
    /// Neither a version nor a time.
    #[error("name the version that is deployed, or the time of a change that carries none")]
    NothingNamed,
    /// A version and a time.
    #[error("a deployment names a version or a time, not both: a time is for a change without a version")]
    VersionAndTime,
    /// A baseline for a time.
    #[error("baseline goes with a version: what is after a time is held against what was before it")]
    BaselineAndTime,
    /// A scope for a version.
    #[error(
        "scope goes with a time: a version is judged in all its requests, and by regions and dimensions of its policy"
    )]
    ScopeWithoutTime,
    /// A scope of more than there can be.
    #[error("scope names {0} attributes, and {DIMENSIONS_MAX} dimensions and `{OPERATION}` are the most")]
    ScopeTooWide(usize),
    /// A share for a time.
    #[error("share goes with a version: what is after a time serves all requests")]
    ShareAndTime,
    /// A share that is none.
    #[error("share is {0}, and must be above 0 and at most 1: 0.1 for 10 %")]
    NoShare(f64),
    /// The time is too far back.
    #[error(
        "time lies {0} s back, and {CHANGE_BACK_S} s is the most: what is remembered is kept no longer as it was. Announce a \
         change when it begins, or before"
    )]
    TimePast(u64),
    /// The time is too far ahead.
    #[error("time lies {0} s ahead, and {CHANGE_AHEAD_S} s (24 h) is the most: announce the change later")]
    TimeAhead(u64),
    /// Candidate and baseline are one version.
    #[error("baseline and version are both {0:?}")]
    SameVersion(String),
}

/// Checks the fields of a request that need no knowledge of the services.
pub fn check_request(request: &Request) -> Result<(), RequestError> {
    match (request.version.is_empty(), request.time.is_some()) {
        (true, false) if !request.service.is_empty() => return Err(RequestError::NothingNamed),
        (false, true) => return Err(RequestError::VersionAndTime),
        _ if request.time.is_some() && request.baseline.is_some() => {
            return Err(RequestError::BaselineAndTime);
        }
        _ => {}
    }
    if let Some(share) = request.share {
        if request.time.is_some() {
            return Err(RequestError::ShareAndTime);
        }
        if !(share > 0.0 && share <= 1.0) {
            return Err(RequestError::NoShare(share));
        }
    }
    let named = request.scope.iter().count();
    if named > 0 && request.time.is_none() {
        return Err(RequestError::ScopeWithoutTime);
    }
    if named > DIMENSIONS_MAX + 1 {
        return Err(RequestError::ScopeTooWide(named));
    }
    for text in request.scope.iter().flat_map(|(attribute, value)| [attribute, value]) {
        match text.len() {
            0 => return Err(RequestError::Empty("scope")),
            bytes if bytes > LABEL_BYTES => return Err(RequestError::TooLong("scope", LABEL_BYTES)),
            _ => {}
        }
    }
    let fields = [
        ("service", Some(&request.service), LABEL_BYTES),
        ("version", Some(&request.version), LABEL_BYTES),
        ("baseline", request.baseline.as_ref(), LABEL_BYTES),
        ("environment", request.environment.as_ref(), LABEL_BYTES),
        ("url", request.url.as_ref(), LINK_BYTES),
        ("commit", request.commit.as_ref(), LINK_BYTES),
        ("release", request.release.as_ref(), LABEL_BYTES),
    ];
    for (name, value, limit) in fields {
        let Some(value) = value else { continue };
        if value.len() > limit {
            return Err(RequestError::TooLong(name, limit));
        }
        let is_label = matches!(name, "service" | "version" | "baseline");
        let is_left_out = name == "version" && request.time.is_some();
        if is_label && value.is_empty() && !is_left_out {
            return Err(RequestError::Empty(name));
        }
        if matches!(name, "version" | "baseline") && !is_left_out && !is_version(value) {
            return Err(RequestError::Reserved(name, value.clone()));
        }
    }
    if request.baseline.as_ref() == Some(&request.version) {
        return Err(RequestError::SameVersion(request.version.clone()));
    }
    Ok(())
}

/// Checks that the time of a change lies where something is remembered of before, and not out of sight.
pub fn check_time(time: UnixNanos, now: UnixNanos) -> Result<(), RequestError> {
    let seconds = |nanos: u64| nanos.div_ceil(NANOS_PER_SECOND);
    if now.since(time) > CHANGE_BACK_S * NANOS_PER_SECOND {
        return Err(RequestError::TimePast(seconds(now.since(time))));
    }
    if time.since(now) > CHANGE_AHEAD_S * NANOS_PER_SECOND {
        return Err(RequestError::TimeAhead(seconds(time.since(now))));
    }
    Ok(())
}

/// Which service a caller means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// This one.
    Found(ServiceKey),
    /// None that was seen; the key it would have by the caller's words.
    Unknown(ServiceKey),
    /// Several, in order.
    Ambiguous(Vec<ServiceKey>),
}

/// Resolves `name` or `namespace/name`, and an environment where one is given, against the known services.
pub fn resolve_service<'a>(
    service: &str,
    environment: Option<&str>,
    known: impl IntoIterator<Item = &'a ServiceKey>,
) -> Resolution {
    let split = service.split_once('/');
    let named =
        |key: &ServiceKey| key.name == service || split == Some((key.namespace.as_str(), key.name.as_str()));
    let mut matching: Vec<&ServiceKey> = known
        .into_iter()
        .filter(|key| named(key) && environment.is_none_or(|wanted| key.environment == wanted))
        .collect();
    matching.sort();
    matching.dedup();
    match matching.as_slice() {
        [] => {
            let (namespace, name) = split.unwrap_or(("", service));
            let environment = environment.unwrap_or_default().to_owned();
            Resolution::Unknown(ServiceKey {
                namespace: namespace.into(),
                name: name.into(),
                environment,
                extra: Vec::new(),
            })
        }
        [one] => Resolution::Found((*one).clone()),
        several => Resolution::Ambiguous(several.iter().copied().cloned().collect()),
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
