//! What an SLI of a policy's own says in words.

use super::words::{interval, number, share};
use super::{OwnEvidence, OwnKind, SliEvidence};

/// The ground of a fail: `v2: payments_declined is 14 to 31 times v1's (12 % against 0.8 %)`.
pub(super) fn own_ground(candidate: &str, baseline: &str, e: &SliEvidence, own: &OwnEvidence) -> String {
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
    }
}
