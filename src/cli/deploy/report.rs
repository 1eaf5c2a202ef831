//! A deployment as lines for people, from the API's JSON.

use std::fmt::Write as _;

use serde_json::Value;

use crate::cli::client::service;
use crate::verdict::words::per_cent;

/// One line: who, from where to where, verdict, phase.
pub(super) fn headline(d: &Value) -> String {
    let score = d["score"].as_f64().unwrap_or(0.0);
    let what = match d["time"].as_str() {
        Some(time) => format!("before/after {time}{}", scope(&d["scope"])),
        None => format!("{} -> {}", d["baseline"].as_str().unwrap_or("?"), text(&d["candidate"])),
    };
    format!(
        "{}  {what}  {}  (score {score:.0}, {})",
        service(&d["service"]),
        text(&d["verdict"]).to_uppercase(),
        text(&d["phase"]),
    )
}

/// ` (cloud.region=eu-1)`; empty for the whole service.
fn scope(scope: &Value) -> String {
    let named = scope.as_object().into_iter().flatten();
    let named: Vec<String> = named.map(|(attribute, value)| format!("{attribute}={}", text(value))).collect();
    if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) }
}

/// One deployment with its reasons.
pub(super) fn one(d: &Value) -> String {
    let mut out = headline(d);
    let _ = write!(out, "\n  id {}, {}, mode {}", text(&d["id"]), text(&d["origin"]), text(&d["mode"]));
    if let Some(share) = d["share"].as_f64() {
        let _ = write!(out, ", {} of the traffic", per_cent(share));
    }
    let _ = write!(out, "\n  started {}", text(&d["started_at"]));
    if let Some(seconds) = d["decided_after_seconds"].as_f64() {
        let since = if d["time"].is_string() { "that time" } else { "the first request" };
        let _ = write!(out, ", decided {seconds:.0} s after {since}");
    }
    for (name, key) in [("change", "url"), ("commit", "commit")] {
        if let Some(value) = d[key].as_str() {
            let _ = write!(out, "\n  {name} {value}");
        }
    }
    if let Some(explanation) = d["explanation"].as_str().filter(|e| !e.is_empty()) {
        let _ = write!(out, "\n  {explanation}");
    }
    let slis = d["evidence"]["slis"].as_array().map(Vec::as_slice).unwrap_or_default();
    for sli in slis.iter().filter(|s| s["operation"].is_null()) {
        let _ = write!(out, "\n  {}", evidence(sli));
    }
    out.push_str(&budget(&d["budget"]));
    if let Some(since) = d["under_review_since"].as_str() {
        let _ =
            write!(out, "\n  UNDER REVIEW since {since}: the error budget burns more than twice too fast");
    }
    let flags: Vec<&str> =
        d["evidence"]["flags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !flags.is_empty() {
        let _ = write!(out, "\n  bear in mind: {}", flags.join(", "));
    }
    out.push('\n');
    out
}

/// What it has spent of the error budget; empty before its first failed request.
fn budget(budget: &Value) -> String {
    let Some(spent) = budget["spent_requests"].as_u64().filter(|spent| *spent > 0) else {
        return String::new();
    };
    let share = |key: &str| budget[key].as_f64().map(|share| format!("{:.1} %", 100.0 * share));
    let of = share("spent_ratio").map_or_else(String::new, |share| format!(", {share} of it"));
    let left = share("left_ratio").map_or_else(String::new, |share| format!("; {share} left"));
    format!("\n  error budget: spent {spent} failed requests{of}{left}")
}

/// The latest deployments, one line each.
pub(super) fn list(list: &Value) -> String {
    let deployments = list["deployments"].as_array().map(Vec::as_slice).unwrap_or_default();
    if deployments.is_empty() {
        return "no deployments\n".into();
    }
    deployments.iter().map(|d| format!("{}  {}\n", text(&d["id"]), headline(d))).collect()
}

fn evidence(sli: &Value) -> String {
    let share = |side: &str| {
        let requests = sli["requests"][side].as_f64().unwrap_or(0.0);
        let bad = sli["bad"][side].as_f64().unwrap_or(0.0);
        if requests > 0.0 { format!("{:.2} %", 100.0 * bad / requests) } else { "-".into() }
    };
    let nats = sli["nats"].as_f64().unwrap_or(0.0);
    let (name, candidate, baseline) = (text(&sli["sli"]), share("candidate"), share("baseline"));
    let mut out = format!("{name:<13} {candidate:>8} against {baseline:>8}  {nats:6.1} nats");
    if let (Some(low), Some(high)) = (sli["ratio_low"].as_f64(), sli["ratio_high"].as_f64()) {
        out.push_str(&interval(low, high));
    }
    out
}

/// The ends of a ratio's interval, as far as they say something: where the baseline had hardly any bad
/// requests, the upper end is astronomical.
fn interval(low: f64, high: f64) -> String {
    match (low, high) {
        (low, high) if high < 1000.0 => format!("  {low:.2} to {high:.2} times as many"),
        (low, _) if low >= 1.0 => format!("  at least {low:.2} times as many"),
        _ => String::new(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_end_that_says_nothing_is_left_out() {
        for (low, high, text) in [
            (14.0, 31.0, "  14.00 to 31.00 times as many"),
            (0.5, 2.0, "  0.50 to 2.00 times as many"),
            (40.0, 2e4, "  at least 40.00 times as many"),
            (4.6e-8, 4.4e12, ""),
        ] {
            assert_eq!(interval(low, high), text, "{low} {high}");
        }
    }

    #[test]
    fn the_budget_is_told_once_there_is_something_to_tell() {
        assert_eq!(budget(&json!(null)), "");
        assert_eq!(budget(&json!({"spent_requests": 0, "spent_ratio": 0.0})), "");
        let spent = json!({"spent_requests": 41, "spent_ratio": 0.0321, "left_ratio": 0.613});
        assert_eq!(budget(&spent), "\n  error budget: spent 41 failed requests, 3.2 % of it; 61.3 % left");
    }

    #[test]
    fn reads_well() {
        let d = json!({
            "id": "d1", "service": {"namespace": "shop", "name": "checkout", "environment": "prod"},
            "baseline": "v1", "candidate": "v2", "verdict": "fail", "phase": "failed", "score": 0.0,
            "mode": "act", "origin": "detected", "started_at": "2025-11-25T00:43:21Z",
            "decided_after_seconds": 18.0, "url": null, "commit": "abc", "explanation": "v2 fails more.",
            "evidence": {"flags": ["single_pod"], "slis": [
                {"sli": "err", "operation": null, "nats": 6.25, "requests": {"candidate": 1000, "baseline": 2000},
                 "bad": {"candidate": 23, "baseline": 2}, "ratio": 23.0, "ratio_low": 14.0, "ratio_high": 31.0},
                {"sli": "err", "operation": "GET /", "nats": 1.0}]},
        });
        let expected = "\
shop/checkout (prod)  v1 -> v2  FAIL  (score 0, failed)
  id d1, detected, mode act
  started 2025-11-25T00:43:21Z, decided 18 s after the first request
  commit abc
  v2 fails more.
  err             2.30 % against   0.10 %     6.2 nats  14.00 to 31.00 times as many
  bear in mind: single_pod
";
        assert_eq!(one(&d), expected);
        let mut change = d.clone();
        change["time"] = json!("2025-11-25T00:43:00Z");
        change["score"] = json!(50.0);
        let lines = one(&change);
        let first = "shop/checkout (prod)  before/after 2025-11-25T00:43:00Z  FAIL  (score 50, failed)\n";
        assert!(lines.starts_with(first) && lines.contains("decided 18 s after that time"), "{lines}");
        let mut canary = d.clone();
        canary["share"] = json!(0.1);
        let lines = one(&canary);
        assert!(lines.contains("mode act, 10 % of the traffic\n"), "{lines}");
        assert_eq!(list(&json!({"deployments": []})), "no deployments\n");
        assert!(list(&json!({"deployments": [d]})).starts_with("d1  shop/checkout (prod)  v1 -> v2  FAIL"));
    }
}
