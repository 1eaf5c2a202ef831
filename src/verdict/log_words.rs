//! What the logs say, in plain words behind the verdict's. Types and frames only: messages are never there.

use super::logs::{Exposure, Leaning, LogEvidence, NewException};
use super::words::{count, interval, number, per_cent};

/// One or two sentences with a blank in front; empty where there is nothing worth one.
pub(super) fn beside(logs: &LogEvidence, candidate: &str, baseline: &str) -> String {
    format!("{}{}", errors(logs, candidate, baseline), new(logs))
}

/// " Beside the verdict: v2 logs 30 errors per 100 requests, v1 1 (14 to 62 times as many)."
fn errors(logs: &LogEvidence, candidate: &str, baseline: &str) -> String {
    if logs.leaning == Leaning::Unclear {
        return String::new();
    }
    let (unit, per) = match logs.per {
        Exposure::Requests | Exposure::Points => ("100 requests", 100.0),
        Exposure::InstanceMinutes => ("instance and minute", 1.0),
    };
    let rate = |i: usize| number(per * logs.error_logs[i] as f64 / logs.exposure[i].max(1.0));
    let times = interval(logs.ratio).map_or_else(String::new, |times| format!(" ({times} times as many)"));
    let before = if logs.is_remembered { " before" } else { "" };
    format!(
        " Beside the verdict: {candidate} logs {} errors per {unit}, {baseline} {}{before}{times}.",
        rate(0),
        rate(1)
    )
}

/// " New: NullPointerException in Cart.add, 14 times, 0.4 % of requests; and 2 more."
fn new(logs: &LogEvidence) -> String {
    let Some(first) = logs.new.first() else { return String::new() };
    let more = match logs.new_types {
        0 | 1 => String::new(),
        n => format!("; and {} more", count(n - 1)),
    };
    format!(" New: {}{more}.", one(first))
}

fn one(new: &NewException) -> String {
    let times = if new.count == 1 { "once".to_owned() } else { format!("{} times", count(new.count)) };
    let share = new.share.map_or_else(String::new, |share| format!(", {} of requests", per_cent(share)));
    format!("{}, {times}{share}", new.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str, count: u64, share: Option<f64>) -> NewException {
        NewException { name: name.into(), count, share, ..NewException::default() }
    }

    #[test]
    fn what_is_worth_a_sentence() {
        let said = |logs: &LogEvidence| beside(logs, "v2", "v1");
        assert_eq!(said(&LogEvidence::default()), "");
        let thrown = LogEvidence {
            new: vec![new("NullPointerException in Cart.add", 14, Some(0.004))],
            new_types: 1,
            ..LogEvidence::default()
        };
        assert_eq!(said(&thrown), " New: NullPointerException in Cart.add, 14 times, 0.4 % of requests.");
        let more = LogEvidence { new: vec![new("E", 1, None)], new_types: 3, ..LogEvidence::default() };
        assert_eq!(said(&more), " New: E, once; and 2 more.");
        let noisy = LogEvidence {
            error_logs: [30, 10],
            exposure: [100.0, 1000.0],
            ratio: Some([29.0, 14.0, 62.0]),
            leaning: Leaning::More,
            ..LogEvidence::default()
        };
        assert_eq!(
            said(&noisy),
            " Beside the verdict: v2 logs 30 errors per 100 requests, v1 1 (14 to 62 times as many)."
        );
        let sampled = LogEvidence {
            per: Exposure::InstanceMinutes,
            exposure: [10.0, 10.0],
            is_remembered: true,
            ..noisy
        };
        assert!(said(&sampled).contains("v2 logs 3 errors per instance and minute, v1 1 before ("));
    }
}
