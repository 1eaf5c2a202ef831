//! What an SLI of a policy's own says in words.

use super::words::{interval, number, share};
use super::{AgeEvidence, OwnEvidence, OwnKind, SliEvidence};
use crate::window::AGE_EDGES_S;

/// The ground of a fail: `v2: payments_declined is 14 to 31 times v1's (12 % against 0.8 %)`.
pub(super) fn own_ground(candidate: &str, baseline: &str, e: &SliEvidence, own: &OwnEvidence) -> String {
    if own.kind == OwnKind::Gauge {
        return gauge_ground(candidate, own);
    }
    let rate = |side: usize| of_kind(own, e.bad[side], e.requests[side]);
    let what = match (own.is_decrease, own.kind) {
        (true, _) => "is lower".to_owned(),
        (false, OwnKind::Latency) => "is slower".to_owned(),
        (false, _) => match interval(e.ratio) {
            Some(times) => format!("is {times} times as high"),
            None => "is higher".to_owned(),
        },
    };
    if e.requests[1] == 0 {
        // Held against what is remembered, of which there are no counts.
        return format!("{candidate}: {} {what} than {baseline}, {}", own.name, rate(0));
    }
    format!("{candidate}: {} {what}, {} against {} of {baseline}", own.name, rate(0), rate(1))
}

/// A share, or a number per request.
fn of_kind(own: &OwnEvidence, x: u64, n: u64) -> String {
    match own.kind {
        OwnKind::Ratio | OwnKind::ClientErrors => share(x, n),
        OwnKind::Latency => format!("{} beyond the threshold", share(x, n)),
        // Its exposure is counted in seconds of instances.
        OwnKind::Counter if n == 0 => "nothing".into(),
        OwnKind::Counter => format!("{} an instance-minute", number(60.0 * x as f64 / n as f64)),
        OwnKind::LogErrors | OwnKind::Rate if n == 0 => "nothing".into(),
        OwnKind::LogErrors | OwnKind::Rate => format!("{} a request", number(x as f64 / n as f64)),
        // It has words of its own.
        OwnKind::Gauge => share(x, n),
    }
}

/// The age at which a gauge says most, of those that could be tested; the oldest of several.
fn clearest(own: &OwnEvidence) -> Option<&AgeEvidence> {
    let known = own.ages.iter().filter(|age| age.is_testable);
    known.max_by(|a, b| a.ln_e.total_cmp(&b.ln_e))
}

/// `v2: heap is higher than after earlier starts: 820 million in the middle of 5 starts at an age of 5 to 10 minutes, 410
/// million in that of 22 earlier ones`.
fn gauge_ground(candidate: &str, own: &OwnEvidence) -> String {
    let word = if own.is_decrease { "lower" } else { "higher" };
    let head = format!("{candidate}: {} is {word} than after earlier starts", own.name);
    clearest(own).map_or_else(|| head.clone(), |age| format!("{head}: {}", levels(age)))
}

/// What a gauge showed on either side, and where.
fn levels(age: &AgeEvidence) -> String {
    let side = |i: usize| age.middles[i].map_or_else(|| "nothing".to_owned(), level);
    let starts = if age.starts[0] == 1 { "1 start".to_owned() } else { format!("{} starts", age.starts[0]) };
    format!(
        "{} in the middle of {starts} at an age of {}, {} in that of {} earlier ones",
        side(0),
        age_words(age.age),
        side(1),
        age.starts[1]
    )
}

/// The counts of a gauge in words, for the account.
pub(super) fn gauge_counts(own: &OwnEvidence) -> String {
    clearest(own).map_or_else(|| "fewer than 3 instances of earlier starts are known".into(), levels)
}

fn age_words(age: u8) -> String {
    let edge = |at: usize| AGE_EDGES_S.get(at).map_or(0, |seconds| seconds / 60);
    let at = usize::from(age);
    match edge(at + 1) {
        1 => "0 to 1 minute".into(),
        end => format!("{} to {end} minutes", edge(at)),
    }
}

/// A number of whatever unit: `820 million`.
fn level(value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    let text = match value.abs() {
        v if v >= 1e9 => format!("{} billion", number(v / 1e9)),
        v if v >= 1e6 => format!("{} million", number(v / 1e6)),
        v => number(v),
    };
    format!("{sign}{text}")
}
