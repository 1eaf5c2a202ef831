//! What a verdict says beside its grounds: which latencies were tested and how finely, whether the spans are
//! all of the requests, and what the export interval of metrics costs.

use super::own_words::why_untested;
use super::words::{duration, per_cent, time_of_day};
use super::{Evidence, Flag, Grain, OwnKind, Sli, Timing};
use crate::histogram::error_of_scale;
use crate::model::Source;

/// The latency SLIs that a PASS is about, as people call them.
const LATENCIES: [(Sli, &str); 3] =
    [(Sli::LatencyP50, "p50"), (Sli::LatencyP95, "p95"), (Sli::LatencyP99, "p99")];

/// "a", "a and b", "a, b and c".
fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The latency SLIs that are told apart by `grain`.
fn latencies(evidence: &Evidence, grain: Grain) -> Vec<&'static str> {
    let is = |sli: Sli| evidence.service(sli).map_or(Grain::Fine, |e| e.grain) == grain;
    LATENCIES.into_iter().filter(|(sli, _)| is(*sli)).map(|(_, name)| name).collect()
}

/// What a PASS says of latency: `p50, p95 and p99 are less than 24 % longer`.
pub(super) fn passed_latencies(evidence: &Evidence, margin: &str) -> String {
    let (fine, bound) = (latencies(evidence, Grain::Fine), latencies(evidence, Grain::Bound));
    let mut parts = Vec::new();
    if !fine.is_empty() {
        let verb = if fine.len() == 1 { "is" } else { "are" };
        parts.push(format!("{} {verb} less than {margin} longer", list(&fine)));
    }
    if !bound.is_empty() {
        let bounds = if bound.len() == 1 { "bound that stands" } else { "bounds that stand" };
        parts.push(format!(
            "less than twice as many requests lie above the bucket {bounds} for {}",
            list(&bound)
        ));
    }
    if parts.is_empty() { "latency could not be tested".into() } else { parts.join(" and ") }
}

/// Which gauges of weight could not be tested, and why.
fn untested_gauges(evidence: &Evidence) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in evidence.slis.iter().filter(|e| e.grain == Grain::NotTestable && e.weight > 0.0) {
        let Some(own) = line.own.as_ref().filter(|own| own.kind == OwnKind::Gauge) else { continue };
        let reason = why_untested(own);
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(line.name()),
            None => reasons.push((reason, vec![line.name()])),
        }
    }
    let sentence = |(reason, names): &(&str, Vec<&str>)| {
        let verb = if names.len() == 1 { "is" } else { "are" };
        format!(" {} {verb} not tested: {reason}.", list(names))
    };
    reasons.iter().map(sentence).collect()
}

/// Sentences to add at the end, each with a space in front.
pub(super) fn notes(evidence: &Evidence) -> String {
    let mut notes = String::new();
    if let Some(change) = &evidence.change {
        if change.unjudged_s() > 0 {
            notes.push_str(&format!(
                " The call came late: what happened in the {} after {} is not judged.",
                duration(change.unjudged_s() as f64),
                time_of_day(change.at)
            ));
        }
        if change.late_s() > 0 {
            notes.push_str(&format!(
                " What is remembered holds {} of the time after it, so a sudden change looks smaller than it is.",
                duration(change.late_s() as f64)
            ));
        }
    }
    if let Some(seconds) = evidence.settle_s {
        notes.push_str(&format!(
            " Latency is judged from {} after the first request on: earlier releases took that long to get fast.",
            duration(seconds as f64)
        ));
    }
    let untested = latencies(evidence, Grain::NotTestable);
    if !untested.is_empty() {
        let verb = if untested.len() == 1 { "is" } else { "are" };
        notes.push_str(&format!(" {} {verb} not tested: no bucket bound is near.", list(&untested)));
    }
    notes.push_str(&untested_gauges(evidence));
    if let (true, Some(share)) = (evidence.has(Flag::Sampled), evidence.span_share) {
        notes.push_str(&format!(
            " Spans are sampled, {} of the requests that metrics count, so a pass rests on the metrics.",
            per_cent(share)
        ));
    }
    if let (Source::Metrics, Some(slot_s)) = (evidence.required, evidence.slot_seconds) {
        let least = Timing::of_slot(slot_s).earliest_fail_s();
        notes.push_str(&format!(
            " Metrics arrive every {}; a decision takes at least {}.",
            duration(slot_s as f64),
            duration(least as f64)
        ));
    }
    if let Some(scale) = evidence.coarse_scale {
        notes.push_str(&format!(
            " Their exponential buckets are of scale {scale}: a latency is known to within {}.",
            per_cent(error_of_scale(scale))
        ));
    }
    notes
}
