//! Pages from made-up pictures: what is on them, what is not, and what Prometheus's own linter says.

use std::collections::HashSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::super::definitions::{ALL, Kind};
use super::super::tally::Tally;
use super::*;
use crate::model::{DeploymentId, UnixNanos};
use crate::objective::{Alerts, Record, Situation, Spent, budget};
use crate::pipeline::{MetricsSide, ObjectiveBoard};
use crate::verdict::{Evidence, Flag, LogEvidence, OwnEvidence, OwnKind, SliEvidence};

fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: "shop".into(), name: name.into(), environment: "prod".into(), extra: Vec::new() }
}

fn version(name: &str) -> VersionBoard {
    VersionBoard {
        version: name.into(),
        sources: [
            None,
            Some(SourceBoard { requests_total: 1000, errors_total: 7, ..SourceBoard::default() }),
        ],
        requests_total: 1000,
        errors_total: 23,
        burn_5m: 23.0,
        latency_seconds: Some([0.01, 0.2, 0.5]),
        ..Default::default()
    }
}

fn sli(sli: Sli, operation: Option<&str>) -> SliEvidence {
    SliEvidence {
        sli,
        operation: operation.map(Into::into),
        weight: 0.2,
        ln_e: 1.5,
        ln_e_pass: None,
        requests: [100, 200],
        bad: [5, 1],
        ratio: Some([10.0, 2.0, f64::INFINITY]),
        threshold_seconds: None,
        degraded: false,
        ..SliEvidence::default()
    }
}

/// Two gauges of the policy: one that was tested by starts, and one that was not.
fn gauges() -> [SliEvidence; 2] {
    [("heap", 0, [8, 10], [6, 5], 4.5), ("queue", 1, [0, 0], [0, 0], 0.0)].map(
        |(name, place, requests, bad, ln_e)| {
            let own = OwnEvidence { name: name.into(), kind: OwnKind::Gauge, ..OwnEvidence::default() };
            SliEvidence {
                own: Some(own.into()),
                requests,
                bad,
                ln_e,
                ratio: None,
                ..sli(Sli::Own(place), None)
            }
        },
    )
}

fn deployment(id: &str, candidate: &str, started: u64) -> Deployment {
    let evidence = Evidence {
        score: 12.5,
        flags: vec![Flag::SinglePod],
        slis: [sli(Sli::ErrorRate, None), sli(Sli::ErrorRate, None), sli(Sli::ErrorRate, Some("GET /"))]
            .into_iter()
            .chain(gauges())
            .collect(),
        logs: Some(Arc::new(LogEvidence {
            ratio: Some([3.0, 2.0, 4.0]),
            new_types: 2,
            ..LogEvidence::default()
        })),
        ..Default::default()
    };
    Deployment {
        id: DeploymentId(id.into()),
        service: key("checkout"),
        baseline: Some("v1".into()),
        candidate: candidate.into(),
        time: None,
        scope: Default::default(),
        origin: Default::default(),
        release: Deployment::VERSION.into(),
        phase: Phase::Failed,
        verdict: Verdict::Fail,
        mode: Default::default(),
        policy: Default::default(),
        started_at: UnixNanos::from_secs(started),
        candidate_first: Some(UnixNanos::from_secs(started)),
        decided_at: Some(UnixNanos::from_secs(started + 18)),
        decided_after_seconds: Some(18.0),
        rollback_ordered: true,
        evidence: Arc::new(evidence),
        explanation: String::new(),
        url: None,
        commit: None,
        share: None,
        change: Arc::default(),
        history: Vec::new(),
        spent: Spent { requests: 900, failed: 41, share: Some(0.03), left: None },
        spent_before: [0; 2],
        under_review_since: None,
    }
}

fn service(key: ServiceKey, versions: Vec<VersionBoard>) -> ServiceBoard {
    let metrics = MetricsSide {
        slot_seconds: 15,
        lateness_seconds: 1.0,
        completeness: 1.0,
        metric: "sdk",
        bounds: None,
    };
    ServiceBoard {
        key,
        versions,
        lateness_seconds: 5.5,
        completeness: 0.9995,
        slo: 0.999,
        metrics: Some(metrics),
        sli_metrics: Default::default(),
    }
}

fn objective(journey: Option<&str>) -> ObjectiveBoard {
    let mut alerts = Alerts::default();
    let mut record = Record::default();
    record.watch(0, 3_600);
    record.count(100, 1_000, 500);
    alerts.look(&Situation { record: &record, slo: 0.999, deploying: false, now: 120 });
    ObjectiveBoard {
        service: key("checkout"),
        journey: journey.map(Into::into),
        slo: 0.999,
        days: 30,
        totals: [1_000, 500],
        burn: [Some(500.0), None, Some(20.0), None, None, None, Some(0.5)],
        watched: [1.0, 1.0, 1.0, 0.5, 0.25, 0.1, 0.03],
        budget: budget(&record, 0.999, 30, 120),
        open: alerts.open().map(|(severity, episode)| (severity, *episode)).collect(),
    }
}

fn board() -> Board {
    let odd = ServiceKey { name: "odd \"name\"\\\n".into(), ..Default::default() };
    Board {
        objectives: Arc::new(vec![objective(None), objective(Some("pay")), objective(Some("pay"))]),
        blinded_by: None,
        telemetry: Arc::default(),
        counters: Default::default(),
        at: UnixNanos::from_secs(1_764_031_401),
        services: vec![
            service(key("checkout"), vec![version("v1"), version("v2"), version("v2")]),
            service(key("checkout"), vec![version("v1")]),
            service(odd, vec![version("")]),
        ],
        deployments: vec![Arc::new(deployment("d2", "v2", 200)), Arc::new(deployment("d1", "v2", 100))],
    }
}

fn page(board: &Board, format: Format) -> String {
    render(board, &[], Tally::default().update(board), format)
}

/// The part of each sample line before its value.
fn series(page: &str) -> Vec<&str> {
    let samples = page.lines().filter(|l| !l.starts_with('#'));
    samples.filter_map(|l| l.rsplit_once(' ')).map(|(series, _)| series).collect()
}

const V2: &str = r#"service_namespace="shop",service_name="checkout",environment="prod",version="v2""#;

const CHECKOUT: &str = r#"service_namespace="shop",service_name="checkout",environment="prod""#;

#[test]
fn shows_the_newest_deployment_of_a_candidate() {
    let page = page(&board(), Format::Text);
    for line in [
        format!("rollguard_verdict{{{V2},verdict=\"fail\"}} 1"),
        format!("rollguard_verdict{{{V2},verdict=\"pass\"}} 0"),
        format!("rollguard_score{{{V2}}} 12.5"),
        format!("rollguard_sli_evidence_nats{{{V2},sli=\"err\"}} 1.5"),
        format!("rollguard_sli_ratio{{{V2},sli=\"err\",bound=\"low\"}} 2"),
        format!("rollguard_sli_ratio{{{V2},sli=\"err\",bound=\"high\"}} +Inf"),
        format!("rollguard_sli_bad_ratio{{{V2},sli=\"err\",side=\"candidate\"}} 0.05"),
        format!("rollguard_sli_evidence_nats{{{V2},sli=\"heap\"}} 4.5"),
        format!("rollguard_sli_bad_ratio{{{V2},sli=\"heap\",side=\"candidate\"}} 0.75"),
        format!("rollguard_sli_bad_ratio{{{V2},sli=\"heap\",side=\"baseline\"}} 0.5"),
        format!("rollguard_sli_evidence_nats{{{V2},sli=\"queue\"}} 0"),
        format!("rollguard_time_to_detect_seconds{{{V2}}} 18"),
        format!("rollguard_deployment_started_timestamp_seconds{{{V2}}} 200"),
        format!("rollguard_errors_total{{{V2}}} 23"),
        format!("rollguard_latency_seconds{{{V2},quantile=\"0.99\"}} 0.5"),
        format!("rollguard_deployment_budget_spent_requests{{{V2}}} 41"),
        format!("rollguard_objective_burn_ratio{{{CHECKOUT},window=\"5m\"}} 500"),
        format!("rollguard_objective_burn_ratio{{{CHECKOUT},journey=\"pay\",window=\"1h\"}} 20"),
        format!("rollguard_error_budget_requests{{{CHECKOUT},part=\"spent\"}} 500"),
        format!("rollguard_objective_alert{{{CHECKOUT},severity=\"page\"}} 1"),
        format!("rollguard_objective_alert{{{CHECKOUT},severity=\"ticket\"}} 0"),
        format!("rollguard_slo_ratio{{{CHECKOUT}}} 0.999"),
        "rollguard_deployments{phase=\"failed\"} 2".into(),
        "rollguard_board_timestamp_seconds 1764031401".into(),
    ] {
        assert!(page.lines().any(|l| l == line), "{line}\nis not in\n{page}");
    }
    for series in ["sli_bad_ratio{VERSION,sli=\"queue\"", "sli_ratio{VERSION,sli=\"heap\""] {
        let series = series.replace("VERSION", V2);
        assert!(!page.contains(&series), "{series}: no share of nothing, and no ratio of a gauge");
    }
    assert!(page.contains("service_name=\"odd \\\"name\\\"\\\\\\n\""), "{page}");
}

#[test]
fn nothing_is_there_twice_and_everything_is_declared() {
    for format in [Format::Text, Format::OpenMetrics] {
        let page = page(&board(), format);
        let all = series(&page);
        let distinct: HashSet<&str> = all.iter().copied().collect();
        assert_eq!(distinct.len(), all.len(), "duplicate series in\n{page}");
        let written: HashSet<&str> = all.iter().map(|s| s.split('{').next().unwrap_or(s)).collect();
        let declared: HashSet<&str> = ALL.iter().map(|d| d.name).collect();
        assert_eq!(written, declared, "this board touches every metric");
        for d in ALL {
            let family = match format {
                Format::OpenMetrics if d.kind == Kind::Counter => d.name.strip_suffix("_total").unwrap(),
                _ => d.name,
            };
            let line = format!("# TYPE {family} {}", d.kind.as_str());
            assert_eq!(page.lines().filter(|l| **l == *line).count(), 1, "{line}");
        }
    }
}

#[test]
fn labels_are_those_of_the_table() {
    let page = page(&board(), Format::Text);
    for d in ALL {
        let all = series(&page);
        let lines: Vec<&str> = all.into_iter().filter(|s| s.split('{').next() == Some(d.name)).collect();
        // Some labels are only on some of its series: a whole service has no journey.
        for label in d.labels {
            let label = format!("{label}=\"");
            assert!(lines.iter().any(|line| line.contains(&label)), "{label} in {lines:?}");
        }
        assert!(!lines.iter().any(|l| l.contains("job=") || l.contains("instance=")), "{lines:?}");
    }
}

#[test]
fn a_dead_version_is_gone() {
    let mut board = board();
    board.services[0].versions.retain(|v| v.version != "v2");
    assert!(!page(&board, Format::Text).contains("version=\"v2\""));
}

#[test]
fn an_announced_version_is_pending() {
    let mut waiting = deployment("d3", "v3", 300);
    (waiting.phase, waiting.verdict, waiting.candidate_first) = (Phase::Warming, Verdict::Pending, None);
    let mut board = board();
    board.deployments.insert(0, Arc::new(waiting));
    let page = page(&board, Format::Text);
    assert!(page.contains("version=\"v3\",verdict=\"pending\"} 1"), "{page}");
}

#[test]
fn rollbacks_never_fall() {
    let mut tally = Tally::default();
    let mut board = board();
    assert_eq!(tally.update(&board)[&key("checkout")], 2);
    board.deployments.pop();
    assert_eq!(tally.update(&board)[&key("checkout")], 2);
    board.deployments.insert(0, Arc::new(deployment("d3", "v3", 300)));
    assert_eq!(tally.update(&board)[&key("checkout")], 3);
}

#[test]
fn identity_attributes_become_labels() {
    let attributes = ["k8s.cluster.name", "job", "a..b", "a.b", "9"].map(String::from);
    assert_eq!(
        identity_labels(&attributes),
        ["k8s_cluster_name", "identity_job", "a_b", "a_b_2", "identity_9"]
    );
    let key = ServiceKey { name: "a".into(), extra: vec!["east".into(), "x".into()], ..Default::default() };
    let labels = service_labels(&key, &["k8s_cluster_name".into()]);
    assert!(labels.ends_with(",k8s_cluster_name=\"east\",identity_1=\"x\""), "{labels}");
}

/// Prometheus's own linter finds nothing to say about the text format.
#[test]
fn promtool_is_content() {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("SKIPPED: promtool is not installed, the metrics page was not linted");
        assert!(std::env::var_os("CI").is_none(), "promtool must be installed in CI");
        return;
    };
    child.stdin.take().unwrap().write_all(page(&board(), Format::Text).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim().is_empty(), "promtool says: {said}");
}
