//! The evidence in plain words: one short paragraph that somebody who was just woken up can act on. It says
//! who is worse by how much, where, and on how many requests; or what is still missing. Numbers have two
//! significant digits, because the third one is noise.

use super::cohort_words::{cohort_words, zone_words};
use super::day_words::{unlike, withheld};
use super::log_words::beside;
use super::notes::{notes, passed_latencies};
use super::own_words::{own_ground, share_words};
use super::words::{count, duration, interval, per_cent, round2, share, time_of_day};
use super::{Evidence, Flag, Grain, OwnKind, Policy, Sli, SliEvidence, Verdict};
use crate::model::Source;

/// What a pending deployment waits for, beside evidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Waiting {
    /// Nothing: it is being compared.
    Evidence,
    /// The candidate's first request.
    Traffic,
    /// A version to compare with.
    Baseline,
    /// The end of the warm-up, in so many seconds.
    Warmup(f64),
    /// The change, at this second, in so many seconds.
    Change(i64, f64),
}

/// What there is to explain.
#[derive(Debug, Clone, Copy)]
pub struct ExplainInput<'a> {
    /// Candidate version; before and after a change the service.
    pub candidate: &'a str,
    /// Baseline version.
    pub baseline: Option<&'a str>,
    /// The verdict.
    pub verdict: Verdict,
    /// Its grounds.
    pub evidence: &'a Evidence,
    /// The policy it was reached by.
    pub policy: &'a Policy,
    /// What it waits for; read only while pending.
    pub waiting: Waiting,
}

/// Explains a verdict in one paragraph. What the logs say comes last, for it is no ground of the verdict.
pub fn explain(d: &ExplainInput<'_>) -> String {
    let logs = d.evidence.logs.as_deref().map_or_else(String::new, |logs| beside(logs, d.candidate, old(d)));
    verdict(d) + &logs
}

fn verdict(d: &ExplainInput<'_>) -> String {
    let text = match d.verdict {
        Verdict::Fail => fail(d) + &unlike(d.evidence),
        _ if d.evidence.has(Flag::AsOtherDays) => fail(d) + &withheld(d.evidence, d.verdict),
        _ if d.evidence.has(Flag::Degraded) => degraded(d),
        Verdict::Pass => pass(d),
        Verdict::Inconclusive => inconclusive(d),
        Verdict::Pending
            if matches!(d.waiting, Waiting::Traffic | Waiting::Baseline | Waiting::Change(..)) =>
        {
            return pending(d);
        }
        Verdict::Pending => pending(d),
    };
    format!("{text}{}{}", cohort_words(d.evidence), notes(d.evidence))
}

fn fail(d: &ExplainInput<'_>) -> String {
    if let Some(region) = d.evidence.deciding_region() {
        let slis = region.sli.iter().cloned().collect();
        let (requests, errors) = (region.requests, region.errors);
        let own = Evidence { slis, requests, errors, regions: None, ..d.evidence.clone() };
        let inside = fail(&ExplainInput { evidence: &own, ..*d });
        return format!("In {} {}: {inside}", region.attribute, region.value);
    }
    let Some(cause) = heaviest(d.evidence) else {
        return format!("{} is worse{} than {}; {}.", d.candidate, since(d), old(d), requests(d));
    };
    let what = match cause.sli {
        Sli::Absolute => {
            let (allowed, objective) = (per_cent(d.policy.error_budget()), per_cent(d.policy.slo));
            format!(
                "{} fails {}{}; its objective of {objective} allows {allowed}, and {} showed nothing like \
                 it in {} last 30 minutes",
                d.candidate,
                of_requests(cause),
                since(d),
                if d.evidence.change.is_some() { "it" } else { old(d) },
                if d.evidence.change.is_some() { "the" } else { "its" },
            )
        }
        Sli::Guard => format!(
            "{}: beyond the guard of 10 times as many and 5 points more, which counts from the first request",
            errors(d, cause, "fails")
        ),
        Sli::ErrorRate => errors(d, cause, "fails"),
        Sli::ClientErrors => {
            format!("{}, as the client's fault (401, 403 and the like)", errors(d, cause, "refuses"))
        }
        Sli::LatencyP50 | Sli::LatencyP75 | Sli::LatencyP95 | Sli::LatencyP99 => latency(d, cause),
        Sli::Own(_) => {
            cause.own.as_ref().map_or_else(String::new, |own| own_ground(d.candidate, old(d), cause, own))
        }
    };
    if cause.own.as_ref().is_some_and(|own| own.kind == OwnKind::Gauge) {
        return format!("{what}; {}.", requests(d));
    }
    let place = place(d, cause).map_or_else(String::new, |place| format!("; {place}"));
    let compared = service_level(d.evidence, cause).requests[0];
    let by = if cause.source == Source::Metrics { " counted by metrics" } else { "" };
    format!("{what}{place}; {} requests{by}.", count(compared))
}

fn degraded(d: &ExplainInput<'_>) -> String {
    if let Some(change) = &d.evidence.change {
        let now =
            d.evidence.service(Sli::ErrorRate).filter(|e| e.requests[0] > 0).map_or_else(String::new, |e| {
                format!(": it fails {}, {}", of_requests(e), baseline_part(d, e))
            });
        return format!(
            "{} is worse than before {}{now}; that came too late to be laid at the door of the change, so nothing is \
             rolled back; {}.",
            d.candidate,
            time_of_day(change.at),
            requests(d)
        );
    }
    let now = d
        .evidence
        .service(Sli::ErrorRate)
        .filter(|e| e.requests[0] > 0)
        .map_or_else(String::new, |e| format!(" ({} of requests fail)", share(e.bad[0], e.requests[0])));
    format!(
        "{} is worse than what {} showed before it went away{now}; that came too late to be laid at the deployment's \
         door, so nothing is rolled back; {}.",
        d.candidate,
        old(d),
        requests(d)
    )
}

fn pass(d: &ExplainInput<'_>) -> String {
    let against = if remembered(d) && d.evidence.change.is_none() {
        format!("what {} showed before it went away", old(d))
    } else {
        old(d).into()
    };
    let errors = d.evidence.service(Sli::ErrorRate).filter(|e| e.requests[0] > 0);
    let errors = errors.map_or_else(String::new, |e| format!(": {}", errors_short(d, e)));
    format!(
        "{} is not worse{} than {against}{errors}; {}; {}.",
        d.candidate,
        since(d),
        passed_latencies(d.evidence, &margin(d.policy.pass_latency_margin)),
        requests(d)
    )
}

fn inconclusive(d: &ExplainInput<'_>) -> String {
    let within = duration(d.policy.horizon_s as f64);
    if d.evidence.requests[0] == 0 {
        return format!("No decision within {within}: no request of {} could be compared.", d.candidate);
    }
    let more = match d.evidence.requests_needed {
        Some(n) => format!("about {} more requests would be needed", count(round2(n as f64) as u64)),
        None => "the evidence does not lean towards a pass, so more of it may not help".into(),
    };
    let seen =
        d.evidence.service(Sli::ErrorRate).map_or_else(String::new, |e| format!("{}; ", errors_short(d, e)));
    format!("No decision within {within}: {seen}{more}; {}.{}", requests(d), obstacles(d))
}

fn pending(d: &ExplainInput<'_>) -> String {
    match d.waiting {
        Waiting::Change(at, left) => format!(
            "Waits for {}, {}; what {} shows until then is what it is held against.",
            time_of_day(at),
            in_time(left),
            d.candidate
        ),
        Waiting::Traffic => format!("{} has served no request{} yet.", d.candidate, since(d)),
        Waiting::Baseline => format!("There is no version to compare {} with; {}.", d.candidate, requests(d)),
        Waiting::Warmup(left) => {
            format!("{} warms up; the comparison with {} begins {}.", d.candidate, old(d), in_time(left))
        }
        Waiting::Evidence if d.evidence.requests[0] == 0 => match &d.evidence.change {
            Some(_) => format!("{} has no requests{} that can be compared yet.", d.candidate, since(d)),
            None => format!("{} and {} have no requests that can be compared yet.", d.candidate, old(d)),
        },
        Waiting::Evidence => {
            let seen = d
                .evidence
                .service(Sli::ErrorRate)
                .map_or_else(String::new, |e| format!("{}; ", errors_short(d, e)));
            let more = match d.evidence.requests_needed {
                Some(n) => format!("about {} more are needed for a pass", count(round2(n as f64) as u64)),
                None => "how many more a pass needs cannot be said yet".into(),
            };
            format!("Not decided: {seen}{}; {more}.{}", requests(d), obstacles(d))
        }
    }
}

/// What holds a pass back, as a sentence of its own.
fn obstacles(d: &ExplainInput<'_>) -> String {
    let is_change = d.evidence.change.is_some();
    let mut reasons: Vec<&str> = d
        .evidence
        .flags
        .iter()
        .filter_map(|flag| match flag {
            Flag::SinglePod if is_change => {
                Some("it runs on one instance only, which started after the change")
            }
            Flag::TooHeterogeneous if is_change => Some("its instances differ too much among themselves"),
            Flag::BiasedInput if is_change => Some("sampling depends on the outcome"),
            Flag::CandidateSilent if is_change => Some("it has stopped sending"),
            Flag::SinglePod => Some("the new version runs on one instance only"),
            Flag::TooHeterogeneous => Some("the old version's instances differ too much among themselves"),
            Flag::InstancesRestart => {
                Some("instances of the new version die and are replaced more often than the old one's")
            }
            Flag::BiasedInput => Some("sampling differs between the versions or depends on the outcome"),
            Flag::CandidateSilent => Some("the new version has stopped sending"),
            _ => None,
        })
        .collect();
    let (zones, share) = (zone_words(d.evidence), share_words(d.evidence));
    reasons.extend(zones.as_deref().into_iter().chain(share.as_deref()));
    if reasons.is_empty() { String::new() } else { format!(" No pass while {}.", reasons.join(" and ")) }
}

/// "v2 fails 2.3 % of requests, v1 0.1 % (14 to 31 times as many)".
fn errors(d: &ExplainInput<'_>, cause: &SliEvidence, verb: &str) -> String {
    let e = service_level(d.evidence, cause);
    format!("{} {verb} {}{}, {}", d.candidate, of_requests(e), since(d), baseline_part(d, e))
}

fn errors_short(d: &ExplainInput<'_>, e: &SliEvidence) -> String {
    let verb = if e.bad[0] == 0 { "fails none" } else { "fails" };
    let rate = if e.bad[0] == 0 { String::new() } else { format!(" {}", share(e.bad[0], e.requests[0])) };
    format!("{} {verb}{rate} of its requests{}, {}", d.candidate, since(d), baseline_part(d, e))
}

fn of_requests(e: &SliEvidence) -> String {
    let all = e.bad[0] >= e.requests[0];
    if all { "all requests".into() } else { format!("{} of requests", share(e.bad[0], e.requests[0])) }
}

/// What the baseline did in the same time, or before it went away.
fn baseline_part(d: &ExplainInput<'_>, e: &SliEvidence) -> String {
    let times = interval(e.ratio).map_or_else(String::new, |times| format!(" ({times} times as many)"));
    if let Some(change) = &d.evidence.change {
        let errors = matches!(e.sli, Sli::ErrorRate | Sli::Guard | Sli::Absolute);
        return match change.error_rate().filter(|_| errors) {
            Some(0.0) => "none before".into(),
            Some(rate) => format!("{} before", per_cent(rate)),
            None => "against what it showed before".into(),
        };
    }
    match (e.requests[1], remembered(d)) {
        (0, true) => format!("against what {} showed before it went away{times}", old(d)),
        (0, false) => format!("{} had none to compare", old(d)),
        (n, true) => format!("{} {} before it went away{times}", old(d), share(e.bad[1], n)),
        (n, false) => format!("{} {}{times}", old(d), share(e.bad[1], n)),
    }
}

fn latency(d: &ExplainInput<'_>, cause: &SliEvidence) -> String {
    let e = service_level(d.evidence, cause);
    let usual = match cause.sli {
        Sli::LatencyP50 => "half",
        Sli::LatencyP75 => "75 of 100",
        Sli::LatencyP95 => "95 of 100",
        _ => "99 of 100",
    };
    let own = if e.requests[1] == 0 {
        String::new()
    } else {
        let times = interval(e.ratio).map_or_else(String::new, |times| format!(", {times} times as many"));
        format!(" ({}: {} above it{times})", old(d), share(e.bad[1], e.requests[1]))
    };
    if let Some(change) = &d.evidence.change {
        let limit = match e.grain {
            Grain::Bound => "longer than the bucket bound nearest to what".to_owned(),
            _ => format!("over {} longer than what", margin(d.policy.latency_margin)),
        };
        return format!(
            "{} is slower since {}: {} of its requests take {limit} {usual} stayed within before",
            d.candidate,
            time_of_day(change.at),
            share(e.bad[0], e.requests[0]),
        );
    }
    let when = if remembered(d) { " before it went away" } else { "" };
    if e.grain == Grain::Bound {
        return format!(
            "{} is slower: {} of its requests take longer than the bucket bound nearest to what {usual} of {}'s stayed \
             within{when}{own}",
            d.candidate,
            share(e.bad[0], e.requests[0]),
            old(d),
        );
    }
    format!(
        "{} is slower: {} of its requests take over {} longer than what {usual} of {}'s stayed within{when}{own}",
        d.candidate,
        share(e.bad[0], e.requests[0]),
        margin(d.policy.latency_margin),
        old(d),
    )
}

/// Where most of it happens.
fn place(d: &ExplainInput<'_>, cause: &SliEvidence) -> Option<String> {
    // The guard and the absolute check know no operations; the error rate's are theirs too.
    let sli = if matches!(cause.sli, Sli::Guard | Sli::Absolute) { Sli::ErrorRate } else { cause.sli };
    let own = move |e: &&SliEvidence| e.sli == sli && e.operation.is_some() && e.source == cause.source;
    let of_operations = || d.evidence.slis.iter().filter(own);
    let total = service_level(d.evidence, cause).bad[0];
    let most = of_operations().max_by_key(|e| e.bad[0]).filter(|e| e.bad[0] > 0 && e.bad[0] * 2 >= total);
    let (word, e) = match most {
        Some(e) => ("mostly", e),
        None => {
            ("most clearly", of_operations().filter(|e| e.degraded).max_by(|a, b| a.ln_e.total_cmp(&b.ln_e))?)
        }
    };
    let limit = e.threshold_seconds.map_or_else(String::new, |t| {
        let buckets = if e.grain == Grain::Bound { 0 } else { d.policy.latency_margin };
        format!(" (over {})", duration(t * (f64::from(buckets) / 32.0).exp2()))
    });
    Some(format!("{word} {}{limit}", e.operation.as_deref()?))
}

/// The process that adds most to the weighted average.
fn heaviest(evidence: &Evidence) -> Option<&SliEvidence> {
    evidence
        .slis
        .iter()
        .filter(|e| e.weight > 0.0 && e.requests[0] > 0)
        .max_by(|a, b| (a.weight.ln() + a.ln_e).total_cmp(&(b.weight.ln() + b.ln_e)))
}

/// The service-level process of the same SLI, or the process itself where there is none with requests.
fn service_level<'a>(evidence: &'a Evidence, e: &'a SliEvidence) -> &'a SliEvidence {
    evidence.service_of(e.source, e.sli).filter(|s| s.requests[0] > 0).unwrap_or(e)
}

/// " since 12:00:00 UTC", before and after a change.
fn since(d: &ExplainInput<'_>) -> String {
    d.evidence.change.as_ref().map_or_else(String::new, |change| format!(" since {}", time_of_day(change.at)))
}

fn old<'a>(d: &ExplainInput<'a>) -> &'a str {
    if d.evidence.change.is_some() {
        return "before";
    }
    d.baseline.unwrap_or("the version before")
}

fn remembered(d: &ExplainInput<'_>) -> bool {
    d.evidence.has(Flag::RememberedBaseline)
}

fn requests(d: &ExplainInput<'_>) -> String {
    match d.evidence.requests[0] {
        1 => "1 request".into(),
        n => format!("{} requests", count(n)),
    }
}

/// A margin in buckets of 1/32 octave as a percentage.
fn margin(buckets: i32) -> String {
    per_cent((f64::from(buckets) / 32.0).exp2() - 1.0)
}

fn in_time(seconds: f64) -> String {
    if seconds < 1.0 { "now".into() } else { format!("in {}", duration(seconds)) }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
