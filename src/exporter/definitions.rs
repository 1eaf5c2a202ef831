//! Every metric of `/metrics`, named once. The table in `docs/metrics.md` is made from this one.

use std::fmt::Write as _;

/// What a metric is to Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up; its name ends in `_total`.
    Counter,
    /// Quantiles under the label `quantile`.
    Summary,
}

impl Kind {
    /// The word in the TYPE line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Summary => "summary",
        }
    }
}

/// Whom the series of a metric are about; decides their first labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Rollguard itself: no further labels.
    Program,
    /// A service: `service_namespace`, `service_name`, `environment`, and the configured identity attributes.
    Service,
    /// One of its versions: the labels of the service and `version`.
    Version,
    /// A version that is or was judged, in its newest deployment: the labels of a version.
    Candidate,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// The name of its samples.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Whom it is about.
    pub subject: Subject,
    /// Labels besides those of the subject.
    pub labels: &'static [&'static str],
    /// One sentence; no quotes or backslashes, so that it needs no escaping.
    pub help: &'static str,
}

macro_rules! definitions {
    ($($id:ident: $kind:ident of $subject:ident, $name:literal, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Definition = Definition {
                name: $name,
                kind: Kind::$kind,
                subject: Subject::$subject,
                labels: &[$($label),*],
                help: $help,
            };
        )*
        /// All metrics in the order in which they are exposed.
        pub const ALL: &[Definition] = &[$($id),*];
    };
}

definitions! {
    VERDICT: Gauge of Candidate, "rollguard_verdict", ["verdict"],
        "1 for the verdict that holds (pending, pass, fail, inconclusive), 0 for the others.";
    VERDICT_TIMESTAMP: Gauge of Candidate, "rollguard_verdict_timestamp_seconds", [],
        "When the verdict was reached, Unix time; absent while pending.";
    VERDICT_FLAG: Gauge of Candidate, "rollguard_verdict_flag", ["flag"],
        "1 for each reservation that goes with the verdict, for example single_pod or bursty.";
    SCORE: Gauge of Candidate, "rollguard_score", [],
        "0 (fail) to 100 (shown not worse); 50 knows nothing.";
    EVIDENCE: Gauge of Candidate, "rollguard_evidence_nats", [],
        "Evidence over all SLIs that the version is worse, in nats; a fail at rollguard_evidence_threshold_nats.";
    EVIDENCE_THRESHOLD: Gauge of Candidate, "rollguard_evidence_threshold_nats", [],
        "Evidence at which a version fails: ln(1/alpha).";
    SLI_EVIDENCE: Gauge of Candidate, "rollguard_sli_evidence_nats", ["sli"],
        "Divergence of one SLI from the baseline: evidence that it is worse, in nats; 0 says nothing.";
    SLI_RATIO: Gauge of Candidate, "rollguard_sli_ratio", ["sli", "bound"],
        "Candidate to baseline ratio of the share of bad requests: point, and the anytime-valid 95 % interval low to high.";
    SLI_BAD_RATIO: Gauge of Candidate, "rollguard_sli_bad_ratio", ["sli", "side"],
        "Share of bad requests (failed, or slower than the threshold) in the comparison, for side candidate and baseline.";
    DEPLOYMENT_INFO: Gauge of Candidate, "rollguard_deployment_info", ["deployment_id", "baseline", "phase", "mode", "origin", "kind"],
        "Always 1; the newest deployment of the version.";
    DEPLOYMENT_STARTED: Gauge of Candidate, "rollguard_deployment_started_timestamp_seconds", [],
        "When the newest deployment of the version began, Unix time.";
    TIME_TO_DETECT: Gauge of Candidate, "rollguard_time_to_detect_seconds", [],
        "From the first request of a failed version to the end of the second of traffic that decided.";
    BUDGET_SPENT: Gauge of Candidate, "rollguard_deployment_budget_spent_requests", [],
        "Failed requests of the version since its newest deployment began: what that has spent of the error budget.";
    BUDGET_SPENT_RATIO: Gauge of Candidate, "rollguard_deployment_budget_spent_ratio", [],
        "The same as a share of the error budget of all its days.";
    UNDER_REVIEW: Gauge of Candidate, "rollguard_deployment_under_review", [],
        "1 while the error budget burns more than twice as fast as allowed and this is the newest deployment; no ground of the verdict.";
    NEW_EXCEPTIONS: Gauge of Candidate, "rollguard_new_exceptions", [],
        "Types of exception that only this version shows; beside the verdict, no ground of it. Absent where nothing was logged.";
    LOG_RATIO: Gauge of Candidate, "rollguard_error_log_ratio", ["bound"],
        "Candidate to baseline ratio of error logs per request: point, and the anytime-valid 95 % interval low to high; no ground of the verdict.";
    REQUESTS: Counter of Version, "rollguard_requests_total", [],
        "Requests in closed slots since the version was first seen, before correcting for sampling; by the source that showed them first.";
    ERRORS: Counter of Version, "rollguard_errors_total", [],
        "Failed requests among them.";
    CLIENT_ERRORS: Counter of Version, "rollguard_client_errors_total", [],
        "Requests among them that were refused as the client's fault.";
    SOURCE_REQUESTS: Counter of Version, "rollguard_source_requests_total", ["source"],
        "Requests by what each source says of them, spans or metrics; the two are the same requests and must not be added.";
    SOURCE_ERRORS: Counter of Version, "rollguard_source_errors_total", ["source"],
        "Failed requests among them.";
    BURN: Gauge of Version, "rollguard_burn_ratio", ["window"],
        "How fast the error budget burns: share of failed requests over 1 - SLO; 1 uses it up exactly.";
    LATENCY: Summary of Version, "rollguard_latency_seconds", ["quantile"],
        "Latency over the last 5 minutes.";
    INSTANCES: Gauge of Version, "rollguard_instances", [],
        "Instances with traffic in the last minute; 0 where telemetry names none.";
    LATE_SPANS: Counter of Version, "rollguard_late_spans_total", ["reason"],
        "Spans with a doubtful time: late (their slot had closed), future (ahead of the clock), skewed (end before start).";
    ERROR_LOGS: Counter of Version, "rollguard_error_logs_total", [],
        "Log records of severity ERROR and above in closed seconds.";
    EXCEPTIONS: Counter of Version, "rollguard_exceptions_total", [],
        "Exceptions of log records and span events in closed seconds, each counted once.";
    LATE_LOGS: Counter of Version, "rollguard_late_logs_total", ["reason"],
        "Error logs and exceptions with a doubtful time: late (their second had closed), future (ahead of the clock).";
    SLO: Gauge of Service, "rollguard_slo_ratio", ["journey"],
        "Objective for the share of good requests: of the policy in force, and with the label journey of each journey.";
    OBJECTIVE_REQUESTS: Counter of Service, "rollguard_objective_requests_total", ["journey"],
        "Requests that count for the objective, over all versions; late ones included.";
    OBJECTIVE_ERRORS: Counter of Service, "rollguard_objective_errors_total", ["journey"],
        "Failed requests among them.";
    OBJECTIVE_BURN: Gauge of Service, "rollguard_objective_burn_ratio", ["journey", "window"],
        "How fast the error budget burns over all versions; 1 uses it up exactly in its days, below 3 is the target. Absent without requests.";
    OBJECTIVE_COMPLETENESS: Gauge of Service, "rollguard_objective_completeness_ratio", ["journey", "window"],
        "Share of the window that was watched; the rest is neither good nor bad.";
    BUDGET_ALLOWED: Gauge of Service, "rollguard_error_budget_requests", ["journey", "part"],
        "Failed requests that the objective allows over its 28 or 30 days, spent and left (below 0 when overdrawn).";
    BUDGET_LEFT: Gauge of Service, "rollguard_error_budget_left_ratio", ["journey"],
        "Share of the error budget that is left; below 0 when overdrawn.";
    OBJECTIVE_ALERT: Gauge of Service, "rollguard_objective_alert", ["journey", "severity"],
        "1 while an alert of this severity (page, ticket, review) is open, else 0.";
    LATENESS: Gauge of Service, "rollguard_lateness_seconds", [],
        "How long a second of traffic stays open for late spans, as learned from their delays.";
    COMPLETENESS: Gauge of Service, "rollguard_completeness_ratio", [],
        "Share of the spans of the last 5 minutes that came before their slot closed.";
    METRIC_INTERVAL: Gauge of Service, "rollguard_metric_interval_seconds", [],
        "Seconds between two exports of the service's request metrics, as learned: what is judged by them is as old as this.";
    ROLLBACKS: Counter of Service, "rollguard_rollbacks_total", [],
        "Rollbacks that were ordered; at most one per deployment.";
    DEPLOYMENTS: Gauge of Program, "rollguard_deployments", ["phase"],
        "Deployments by phase, ended ones included while they are kept.";
    BOARD_TIMESTAMP: Gauge of Program, "rollguard_board_timestamp_seconds", [],
        "When the evaluation shown here was made, Unix time.";
    BUILD_INFO: Gauge of Program, "rollguard_build_info", ["version"],
        "Always 1; the version of Rollguard.";
}

/// The table of all metrics in Markdown.
pub fn markdown() -> String {
    let mut out =
        String::from("| metric | type | about | further labels | meaning |\n|---|---|---|---|---|\n");
    for d in ALL {
        let subject = match d.subject {
            Subject::Program => "Rollguard",
            Subject::Service => "service",
            Subject::Version => "version",
            Subject::Candidate => "candidate",
        };
        let labels: Vec<String> = d.labels.iter().map(|l| format!("`{l}`")).collect();
        let (name, kind, help) = (d.name, d.kind.as_str(), d.help);
        let _ = writeln!(out, "| `{name}` | {kind} | {subject} | {} | {help} |", labels.join(", "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "<!-- metrics: made from src/exporter/definitions.rs -->\n";
    const END: &str = "<!-- end of metrics -->\n";
    const INTRODUCTION: &str = "\
# Metrics

What `GET /metrics` (port 9464) shows, as OpenMetrics 1.0.0 or text 0.0.4. Series about a service carry
`service_namespace`, `service_name`, `environment` and the configured identity attributes; those about a version
or a candidate carry `version` too. The labels `job` and `instance` are left to Prometheus. A version that has
ended is gone at the next scrape. Operations are in the API (`/api/v1/deployments/{id}`), not here.

";

    /// `UPDATE_DOCS=1 cargo test` writes the file anew.
    #[test]
    fn the_documentation_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        let expected = format!("{INTRODUCTION}{BEGIN}{}{END}", markdown());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &expected).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(found, expected, "docs/metrics.md is stale; run UPDATE_DOCS=1 cargo test");
    }

    /// Where the README shows the table between the same marks, it is the same table.
    #[test]
    fn the_readme_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(path).unwrap_or_default();
        if let Some((_, rest)) = readme.split_once(BEGIN) {
            let (table, _) = rest.split_once(END).expect("the mark that ends the table");
            assert_eq!(table, markdown(), "copy the table from docs/metrics.md");
        }
    }

    #[test]
    fn names_follow_the_rules() {
        let mut names: Vec<&str> = ALL.iter().map(|d| d.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len(), "a name is used twice");
        for d in ALL {
            assert!(d.name.starts_with("rollguard_"), "{}", d.name);
            assert!(d.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", d.name);
            assert_eq!(d.name.ends_with("_total"), d.kind == Kind::Counter, "{}", d.name);
            assert_eq!(d.labels.contains(&"quantile"), d.kind == Kind::Summary, "{}", d.name);
            assert!(!d.help.contains(['\\', '"', '\n', '|']) && d.help.ends_with('.'), "{}", d.name);
            assert!(!d.labels.contains(&"job") && !d.labels.contains(&"instance"), "{}", d.name);
        }
    }
}
