//! What an SLI of a policy's own says in words.

use super::words::{count, interval, number, per_cent, share};
use super::{AgeEvidence, Evidence, Flag, OwnEvidence, OwnKind, SliEvidence};
use crate::window::AGE_EDGES_S;

/// The ground of a fail: `v2: payments_declined is 14 to 31 times v1's (12 % against 0.8 %)`.
pub(super) fn own_ground(candidate: &str, baseline: &str, e: &SliEvidence, own: &OwnEvidence) -> String {
    if own.kind == OwnKind::Gauge {
        return gauge_ground(candidate, own);
    }
    if own.kind == OwnKind::TrafficShare {
        return format!(
            "{candidate}: {} is lower than meant, {}",
            own.name,
            got(own, e.bad[0], e.requests[0])
        );
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

/// The counts of one version: `12 in 340 instance-minutes of v2 (0.04 an instance-minute)`; `None` where they are a part
/// of a whole.
pub(super) fn own_counts(version: &str, own: &OwnEvidence, x: u64, n: u64) -> Option<String> {
    let minutes = || format!("{} instance-minutes", number(n as f64 / 60.0));
    let (events, exposure) = match own.kind {
        OwnKind::Ratio | OwnKind::ClientErrors | OwnKind::Latency | OwnKind::Gauge => return None,
        OwnKind::TrafficShare if n == 0 => return Some(format!("nothing of {version} to compare")),
        OwnKind::TrafficShare => {
            return Some(format!("{} requests of {version} ({} of both versions')", count(x), share(x, n)));
        }
        OwnKind::LogErrors | OwnKind::Rate => (count(x), format!("{} requests", count(n))),
        OwnKind::Counter => (count(x), minutes()),
        OwnKind::Churn => (deaths(count(x)), minutes()),
    };
    if n == 0 {
        return Some(format!("nothing of {version} to compare"));
    }
    Some(format!("{events} in {exposure} of {version} ({})", of_kind(own, x, n)))
}

fn deaths(number: String) -> String {
    if number == "1" { "1 death".into() } else { number + " deaths" }
}

/// A share, or a number per request.
fn of_kind(own: &OwnEvidence, x: u64, n: u64) -> String {
    match own.kind {
        OwnKind::Ratio | OwnKind::ClientErrors => share(x, n),
        OwnKind::Latency => format!("{} beyond the threshold", share(x, n)),
        // Its exposure is counted in seconds of instances.
        OwnKind::Counter | OwnKind::Churn if n == 0 => "nothing".into(),
        OwnKind::Churn if x == 0 => "no deaths".into(),
        OwnKind::Churn => format!("{} an instance-minute", deaths(number(60.0 * x as f64 / n as f64))),
        OwnKind::Counter => format!("{} an instance-minute", number(60.0 * x as f64 / n as f64)),
        OwnKind::LogErrors | OwnKind::Rate if n == 0 => "nothing".into(),
        OwnKind::LogErrors | OwnKind::Rate => format!("{} a request", number(x as f64 / n as f64)),
        // These have words of their own.
        OwnKind::Gauge | OwnKind::TrafficShare => share(x, n),
    }
}

/// `4.8 % of 12,000 requests where 10 % are meant`.
fn got(own: &OwnEvidence, x: u64, n: u64) -> String {
    let meant =
        own.expected.map_or_else(String::new, |share| format!(" where {} are meant", per_cent(share)));
    format!("{} of {} requests{meant}", share(x, n), count(n))
}

/// Why no PASS comes where the candidate gets clearly fewer requests than it is meant to, and the way out. Where it is
/// silent, that says more.
pub(super) fn share_words(evidence: &Evidence) -> Option<String> {
    if !evidence.has(Flag::ShareMismatch) || evidence.has(Flag::CandidateSilent) {
        return None;
    }
    let told = evidence.slis.iter().filter_map(|e| Some((e, e.own.as_deref()?)));
    let of_share = told.filter(|(_, own)| own.kind == OwnKind::TrafficShare);
    let (e, own) = of_share.max_by(|a, b| a.0.ln_e.total_cmp(&b.0.ln_e))?;
    Some(format!(
        "the new version gets clearly fewer requests than its share (so far {}; look for instances that crash or are never \
         ready and for a router that passes it by, or name the share that is meant with `deploy start --share`)",
        got(own, e.bad[0], e.requests[0])
    ))
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
    clearest(own).map_or_else(|| why_untested(own).to_owned(), levels)
}

/// Why a gauge could be tested at no age.
pub(super) fn why_untested(own: &OwnEvidence) -> &'static str {
    match own.ages.iter().all(|age| age.instances[0] == 0) {
        true => "no new instance was watched from its start to the age of a minute",
        false => "fewer than 3 instances were seen to start before",
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_said_with_what_they_are_per() {
        let said = |kind, x, n| own_counts("v2", &OwnEvidence { kind, ..OwnEvidence::default() }, x, n);
        let rows = [
            (OwnKind::Churn, 12, 720, "12 deaths in 12 instance-minutes of v2 (1 death an instance-minute)"),
            (OwnKind::Churn, 0, 720, "0 deaths in 12 instance-minutes of v2 (no deaths)"),
            (OwnKind::Counter, 30, 7_200, "30 in 120 instance-minutes of v2 (0.25 an instance-minute)"),
            (OwnKind::Rate, 3_000, 1_000, "3,000 in 1,000 requests of v2 (3 a request)"),
            (OwnKind::LogErrors, 0, 0, "nothing of v2 to compare"),
            (OwnKind::TrafficShare, 0, 0, "nothing of v2 to compare"),
            (OwnKind::TrafficShare, 480, 10_000, "480 requests of v2 (4.8 % of both versions')"),
        ];
        for (kind, x, n, expected) in rows {
            assert_eq!(said(kind, x, n).as_deref(), Some(expected));
        }
        assert_eq!(said(OwnKind::Ratio, 1, 2), None);
    }

    #[test]
    fn a_gauge_that_is_not_tested_says_why() {
        let own = |new: u32| OwnEvidence {
            kind: OwnKind::Gauge,
            ages: vec![AgeEvidence { instances: [new, 2], ..AgeEvidence::default() }, AgeEvidence::default()],
            ..OwnEvidence::default()
        };
        assert!(gauge_counts(&own(0)).starts_with("no new instance was watched"));
        assert!(gauge_counts(&own(1)).starts_with("fewer than 3 instances"));
    }
}
