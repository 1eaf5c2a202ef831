//! The message about an error budget: what burns how fast, what is left, and what the running deployment has to do
//! with it. One type for beginnings and ends; both carry the same `alert_id`, so that a receiver can match them.

use serde::Serialize;

use super::body::{Links, Service, rfc3339, shorten};
use crate::deployment::Deployment;
use crate::model::{NANOS_PER_SECOND, Slot, UnixNanos};
use crate::objective::{Change, Ended, Episode, Severity, TARGET_BURN, Window};
use crate::pipeline::{Alert, ObjectiveBoard};
use crate::verdict::words::{count, duration, number, per_cent};

/// Kinds of the outbox rows.
pub const KIND_ALERT_FIRING: &str = "alert.firing";
/// See [`KIND_ALERT_FIRING`].
pub const KIND_ALERT_RESOLVED: &str = "alert.resolved";

#[derive(Serialize)]
struct Message<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    alert_id: &'a str,
    status: &'static str,
    severity: &'static str,
    rule: &'static str,
    service: Service<'a>,
    journey: Option<&'a str>,
    summary: String,
    started_at: String,
    ended_at: Option<String>,
    ended_because: Option<&'static str>,
    slo: f64,
    burn_limit: f64,
    burn_target: f64,
    worst_burn: f64,
    long_window: Tally,
    short_window_seconds: i64,
    burn: Vec<Burn>,
    budget: Option<BudgetView>,
    deployment: Option<Candidate<'a>>,
    runbook_url: Option<String>,
    dashboard_url: Option<String>,
}

#[derive(Serialize)]
struct Tally {
    seconds: i64,
    requests: u64,
    failed: u64,
}

#[derive(Serialize)]
struct Burn {
    window: &'static str,
    burn: Option<f64>,
    watched: f64,
}

#[derive(Serialize)]
struct BudgetView {
    days: u32,
    allowed_requests: f64,
    spent_requests: u64,
    left_requests: f64,
    left_ratio: f64,
    completeness: f64,
}

#[derive(Serialize)]
struct Candidate<'a> {
    id: &'a str,
    candidate: &'a str,
    baseline: Option<&'a str>,
    phase: &'static str,
    verdict: &'static str,
    under_review: bool,
    requests: u64,
    spent_requests: u64,
    spent_ratio: Option<f64>,
}

/// Whether it begins or is over, as the outbox calls it.
pub const fn alert_kind(alert: &Alert) -> &'static str {
    match alert.change {
        Change::Fired(_) => KIND_ALERT_FIRING,
        Change::Ended(..) => KIND_ALERT_RESOLVED,
    }
}

/// The body; `alert_id` is the same for the beginning and the end.
pub fn alert_body(alert: &Alert, alert_id: &str, links: &Links) -> Vec<u8> {
    let episode = alert.change.episode();
    let tier = episode.rule.tier();
    let objective = &alert.objective;
    let (status, why) = match alert.change {
        Change::Fired(_) => ("firing", None),
        Change::Ended(_, why) => ("resolved", Some(why)),
    };
    let cut = |text: &Option<String>| text.as_deref().map(shorten);
    let burns = Window::ALL.into_iter().zip(objective.burn).zip(objective.watched);
    let message = Message {
        r#type: "rollguard.alert",
        timestamp: rfc3339(alert.at),
        data: Data {
            alert_id,
            status,
            severity: tier.severity.as_str(),
            rule: episode.rule.as_str(),
            service: Service::new(&objective.service),
            journey: objective.journey.as_deref(),
            summary: shorten(&summary(alert)),
            started_at: rfc3339(at(episode.since)),
            ended_at: why.map(|_| rfc3339(alert.at)),
            ended_because: why.map(Ended::as_str),
            slo: objective.slo,
            burn_limit: tier.factor,
            burn_target: TARGET_BURN,
            worst_burn: episode.worst_burn,
            long_window: Tally {
                seconds: tier.long.seconds(),
                requests: alert.long.requests,
                failed: alert.long.failed,
            },
            short_window_seconds: tier.short.seconds(),
            burn: burns
                .map(|((window, burn), watched)| Burn { window: window.as_str(), burn, watched })
                .collect(),
            budget: objective.budget.map(|b| BudgetView {
                days: objective.days,
                allowed_requests: b.allowed,
                spent_requests: b.spent,
                left_requests: b.left(),
                left_ratio: b.left_ratio(),
                completeness: b.completeness,
            }),
            deployment: alert.deployment.as_deref().map(Candidate::new),
            runbook_url: cut(&links.runbook_url),
            dashboard_url: cut(&links.dashboard_url),
        },
    };
    // Strings, numbers and lists only: there is nothing in it that serialisation could refuse.
    serde_json::to_vec(&message).unwrap_or_default()
}

impl<'a> Candidate<'a> {
    fn new(d: &'a Deployment) -> Self {
        Self {
            id: &d.id.0,
            candidate: &d.candidate,
            baseline: d.baseline.as_deref(),
            phase: d.phase.as_str(),
            verdict: d.verdict.as_str(),
            under_review: d.under_review_since.is_some(),
            requests: d.spent.requests,
            spent_requests: d.spent.failed,
            spent_ratio: d.spent.share,
        }
    }
}

/// What happened, in words for whoever was just woken up.
fn summary(alert: &Alert) -> String {
    let who = match &alert.objective.journey {
        Some(journey) => format!("Journey {journey} of {}", alert.objective.service),
        None => alert.objective.service.to_string(),
    };
    match alert.change {
        Change::Fired(episode) => format!("{who}: {}{}", fired(alert, &episode), candidate(alert, &episode)),
        Change::Ended(episode, why) => format!("{who}: {}", ended(alert, &episode, why)),
    }
}

fn fired(alert: &Alert, episode: &Episode) -> String {
    let (long, objective) = (alert.long, &alert.objective);
    let burn = long.burn(1.0 - objective.slo).unwrap_or(episode.worst_burn);
    let counts = if long.failed >= long.requests {
        format!("all {} requests failed", count(long.requests))
    } else {
        format!("{} of {} requests failed", count(long.failed), count(long.requests))
    };
    format!(
        "{counts} in the last {}, {} times as many as the objective of {} allows. {}",
        span(episode.rule.tier().long.seconds()),
        number(burn),
        per_cent(objective.slo),
        left(objective, burn),
    )
}

/// How long the budget lasts.
fn left(objective: &ObjectiveBoard, burn: f64) -> String {
    let Some(budget) = objective.budget else {
        return "How much of the budget is left is not known yet.".into();
    };
    let days = objective.days;
    if budget.left() <= 0.0 {
        return format!("The budget of {days} days is used up.");
    }
    let lasts = budget.left_ratio() * f64::from(days) * 86_400.0 / burn.max(f64::MIN_POSITIVE);
    let left = per_cent((budget.left_ratio() * 100.0).round() / 100.0);
    format!("{left} of the {days}-day budget is left; at this rate it lasts {}.", span(lasts as i64))
}

/// What the running deployment has to do with it.
fn candidate(alert: &Alert, episode: &Episode) -> String {
    let Some(d) = &alert.deployment else { return String::new() };
    let failed = match d.spent.failed {
        0 => "none of its requests".into(),
        n => format!("{} of its {} requests", count(n), count(d.spent.requests)),
    };
    let review = if episode.rule.tier().severity == Severity::Review {
        " It is under review: look at it; this rolls nothing back."
    } else {
        ""
    };
    format!(
        " {} is the newest version (verdict so far: {}) and failed {failed}.{review}",
        d.candidate,
        d.verdict.as_str()
    )
}

fn ended(alert: &Alert, episode: &Episode, why: Ended) -> String {
    let tier = episode.rule.tier();
    let lasted = span(alert.at.slot() - episode.since);
    let left = alert.objective.budget.map_or_else(String::new, |b| {
        let left = (b.left_ratio().max(0.0) * 100.0).round() / 100.0;
        format!(" {} of the {}-day budget is left.", per_cent(left), alert.objective.days)
    });
    match why {
        Ended::Recovered => format!(
            "over after {lasted}. Failures were at most {} times as many as the objective allows.{left}",
            number(episode.worst_burn)
        ),
        Ended::NoTraffic => format!(
            "no request came in the last {}, so this alert ends. That does not say that the service is well.",
            span(tier.long.seconds())
        ),
        Ended::DeploymentOver => {
            format!(
                "the deployment under review is decided or over, so the review ends after {lasted}.{left}"
            )
        }
    }
}

/// Lengths of hours and days, which the evidence does not know.
fn span(seconds: i64) -> String {
    let (hours, days) = (seconds as f64 / 3_600.0, seconds as f64 / 86_400.0);
    match seconds {
        3_600 => "hour".into(),
        86_400 => "day".into(),
        s if s >= 2 * 86_400 => format!("{} days", number(days)),
        s if s >= 2 * 3_600 => format!("{} hours", number(hours)),
        s => duration(s.max(0) as f64),
    }
}

fn at(slot: Slot) -> UnixNanos {
    UnixNanos(slot.unsigned_abs().saturating_mul(NANOS_PER_SECOND))
}

#[cfg(test)]
#[path = "alert_tests.rs"]
mod tests;
