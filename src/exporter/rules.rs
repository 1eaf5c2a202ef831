//! A rules file for Prometheus: the table of `docs/objectives.md` as recording rules and alerts over the counters of
//! `/metrics`, for one service or for all. The objective is read from `rollguard_slo_ratio`, so a file stays right when
//! an objective changes or a journey is added.
//!
//! It is written by hand and not by a YAML library: what varies are label names, which are plain words, and label
//! values, which are escaped as Prometheus wants them.

use std::fmt::Write as _;

use super::text::label;
use crate::objective::{HOLD_S, LEAST_FAILED, Severity, TIERS, Tier, Window};

const ERRORS: &str = "rollguard_objective_errors_total";
const REQUESTS: &str = "rollguard_objective_requests_total";

/// What the file is for.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// Labels and values of the services that it is for; none: all, also those yet to come.
    pub(super) only: Vec<(&'static str, String)>,
    /// Where the alerts send whoever gets them.
    pub(super) runbook_url: Option<String>,
}

/// One alert of the file: the tiers of one severity, and how it reads.
struct Alert {
    name: &'static str,
    severity: Severity,
    deploying: bool,
    summary: &'static str,
    description: &'static str,
}

const ALERTS: [Alert; 4] = [
    Alert {
        name: "ErrorBudgetBurnsFast",
        severity: Severity::Page,
        deploying: false,
        summary: "{{ WHO }} burns its error budget fast",
        description: "Somebody must act now: at this rate days of the error budget are gone within hours.",
    },
    Alert {
        name: "DeploymentBurnsErrorBudget",
        severity: Severity::Page,
        deploying: true,
        summary: "{{ WHO }} burns its error budget while a deployment is running or watched",
        description: "Somebody must act now: more than five times the failures that the objective allows, over 5 minutes.",
    },
    Alert {
        name: "ErrorBudgetBurnsSlowly",
        severity: Severity::Ticket,
        deploying: false,
        summary: "{{ WHO }} burns its error budget faster than its objective allows",
        description: "Somebody must look in working hours: the error budget will not last.",
    },
    Alert {
        name: "DeploymentUnderReview",
        severity: Severity::Review,
        deploying: true,
        summary: "The newest deployment of {{ WHO }} is under review",
        description: "For 5 minutes more than twice the failures that the objective allows. Nothing is rolled back by this.",
    },
];

/// The file.
pub(super) fn rules(wanted: &Wanted, identity: &[String]) -> String {
    let mut out = String::from(
        "# Error budget rules made by Rollguard from its table of burn rates; `promtool check rules` accepts them.\n\
         # Prometheus must scrape Rollguard's /metrics.\ngroups:\n",
    );
    let mut selector = String::new();
    for (i, (name, value)) in wanted.only.iter().enumerate() {
        selector.push_str(if i > 0 { "," } else { "" });
        label(&mut selector, name, value);
    }
    let values: Vec<&str> = wanted.only.iter().map(|(_, value)| value.as_str()).collect();
    let name = format!("rollguard-objectives {}", values.join("/"));
    let mut by = vec!["service_namespace", "service_name", "environment"];
    by.extend(identity.iter().map(String::as_str));
    let deployment = by.join(", ");
    by.push("journey");
    let names = Names { selector: &selector, by: by.join(", "), deployment };
    let _ = writeln!(out, "  - name: {}\n    interval: 30s\n    rules:", quoted(name.trim_end()));
    for window in Window::ALL {
        let _ = writeln!(out, "      - record: {}\n        expr: |-", record(window));
        lines(&mut out, 10, &names.ratio(window));
    }
    for alert in &ALERTS {
        let tiers = TIERS.iter().filter(|t| t.severity == alert.severity && t.deploying == alert.deploying);
        let tiers: Vec<&Tier> = tiers.collect();
        let any: Vec<String> = tiers.iter().map(|tier| names.burns(tier)).collect();
        let _ = writeln!(out, "      - alert: {}\n        expr: |-", alert.name);
        lines(&mut out, 10, &any.join("\nor\n"));
        if let Some(hold) = tiers.iter().map(|tier| tier.hold_s).max().filter(|hold| *hold > 0) {
            let _ = writeln!(out, "        for: {hold}s");
        }
        let who = "{{ $labels.service_name }}{{ with $labels.journey }} ({{ . }}){{ end }}";
        let _ = writeln!(out, "        keep_firing_for: {HOLD_S}s");
        let _ = writeln!(out, "        labels:\n          severity: {}", alert.severity.as_str());
        let _ = writeln!(out, "        annotations:");
        let _ = writeln!(out, "          summary: {}", quoted(&alert.summary.replace("{{ WHO }}", who)));
        let measured =
            "Burn rate over the short window: {{ $value | printf \"%.1f\" }}; 1 uses the budget up exactly.";
        let _ =
            writeln!(out, "          description: {}", quoted(&format!("{} {measured}", alert.description)));
        if let Some(url) = &wanted.runbook_url {
            let _ = writeln!(out, "          runbook_url: {}", quoted(url));
        }
    }
    out
}

/// The name of a recording rule: level, metric, operation.
fn record(window: Window) -> String {
    format!("service:rollguard_objective_errors:ratio_rate{}", window.as_str())
}

struct Names<'a> {
    /// Labels of the service; empty for all services.
    selector: &'a str,
    /// Labels of an objective.
    by: String,
    /// Labels that an objective and a deployment have in common.
    deployment: String,
}

impl Names<'_> {
    fn select(&self, metric: &str) -> String {
        if self.selector.is_empty() { metric.to_owned() } else { format!("{metric}{{{}}}", self.selector) }
    }

    fn sum(&self, function: &str, metric: &str, window: Window) -> String {
        let (by, series) = (&self.by, self.select(metric));
        format!("sum by ({by}) ({function}({series}[{}]))", window.as_str())
    }

    fn ratio(&self, window: Window) -> String {
        format!("{}\n/\n{}", self.sum("rate", ERRORS, window), self.sum("rate", REQUESTS, window))
    }

    /// Burn rate over a window, held against a factor.
    fn burn(&self, window: Window, factor: f64) -> String {
        let (by, recorded) = (&self.by, self.select(&record(window)));
        let slo = format!("max by ({by}) ({})", self.select("rollguard_slo_ratio"));
        format!("({recorded} / on ({by}) (1 - {slo}) > {factor})")
    }

    /// The condition of a tier. The short window comes first: its burn rate is the alert's value.
    fn burns(&self, tier: &Tier) -> String {
        let (on, failed) = (&self.by, self.sum("increase", ERRORS, tier.long));
        let mut text = self.burn(tier.short, tier.factor);
        if tier.long != tier.short {
            let _ = write!(text, "\nand on ({on}) {}", self.burn(tier.long, tier.factor));
        }
        let _ = write!(text, "\nand on ({on}) ({failed} >= {LEAST_FAILED})");
        if tier.deploying {
            let mut labels = self.selector.to_owned();
            if !labels.is_empty() {
                labels.push(',');
            }
            // A regular expression: `label` escapes, it has no quotes of its own.
            labels.push_str("phase=~\"warming|evaluating|watching|inconclusive\"");
            let _ = write!(text, "\nand on ({}) rollguard_deployment_info{{{labels}}}", self.deployment);
        }
        text
    }
}

fn lines(out: &mut String, indent: usize, text: &str) {
    text.lines().for_each(|line| {
        let _ = writeln!(out, "{:indent$}{line}", "");
    });
}

/// A double-quoted YAML string: what Prometheus escapes in a label value is what YAML escapes too.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    label(&mut out, "", &text.replace(|c: char| c.is_control() && c != '\n', " "));
    out.trim_start_matches('=').to_owned()
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
