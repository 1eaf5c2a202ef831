//! From the published picture to metric families. The labels of a service or version are written and escaped
//! once and used for all its series; that nothing is there twice (which would spoil a whole scrape) is
//! ensured in one place, when the subjects are gathered.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::definitions as names;
use super::definitions::Definition;
use super::objectives;
use super::text::{Format, Writer, label};
use crate::deployment::{Deployment, Phase};
use crate::model::{ServiceKey, Source};
use crate::pipeline::{Board, ServiceBoard, SourceBoard, VersionBoard};
use crate::verdict::{Sli, Verdict};

/// Label names that identity attributes may not take.
const RESERVED: [&str; 23] = [
    "deployment_id",
    "baseline",
    "mode",
    "origin",
    "job",
    "instance",
    "service_namespace",
    "service_name",
    "environment",
    "version",
    "verdict",
    "sli",
    "bound",
    "side",
    "window",
    "journey",
    "severity",
    "part",
    "reason",
    "flag",
    "phase",
    "quantile",
    "le",
];

/// Label names for the configured identity attributes: `k8s.cluster.name` becomes `k8s_cluster_name`.
pub(super) fn identity_labels(attributes: &[String]) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for attribute in attributes {
        let mut name = String::new();
        for c in attribute.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }) {
            if c != '_' || !name.ends_with('_') {
                name.push(c);
            }
        }
        let name = name.trim_matches('_');
        let mut unique = if RESERVED.contains(&name) || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            format!("identity_{name}")
        } else {
            name.to_owned()
        };
        while labels.contains(&unique) {
            unique.push_str("_2");
        }
        labels.push(unique);
    }
    labels
}

/// Writes the page.
pub(super) fn render(
    board: &Board,
    identity: &[String],
    rollbacks: &BTreeMap<ServiceKey, u64>,
    format: Format,
) -> String {
    let page = Page::new(board, identity);
    let mut out = Writer::new(format);
    candidates(&page, &mut out);
    versions(&page, &mut out);
    services(&page, rollbacks, identity, &mut out);
    objectives::objectives(board, identity, &mut out);
    program(board, &mut out);
    out.finish()
}

/// All subjects of a page with their labels.
struct Page<'a> {
    services: Vec<(String, &'a ServiceBoard)>,
    versions: Vec<(String, &'a VersionBoard)>,
    candidates: Vec<(String, &'a Deployment)>,
}

impl<'a> Page<'a> {
    fn new(board: &'a Board, identity: &[String]) -> Self {
        let mut page = Self { services: Vec::new(), versions: Vec::new(), candidates: Vec::new() };
        let mut newest = newest_deployments(board);
        let (mut services, mut versions) = (HashSet::new(), HashSet::new());
        for service in &board.services {
            let labels = service_labels(&service.key, identity);
            for version in &service.versions {
                let labels = version_labels(&labels, &version.version);
                if !versions.insert(labels.clone()) {
                    continue;
                }
                if let Some(deployment) = newest.remove(&(&service.key, version.version.as_str())) {
                    page.candidates.push((labels.clone(), deployment));
                }
                page.versions.push((labels, version));
            }
            if services.insert(labels.clone()) {
                page.services.push((labels, service));
            }
        }
        page.announced(newest, identity, &versions);
        page
    }

    /// Adds candidates that were announced and have no traffic yet: their verdict is pending, not absent.
    fn announced(
        &mut self,
        waiting: HashMap<(&ServiceKey, &str), &'a Deployment>,
        identity: &[String],
        present: &HashSet<String>,
    ) {
        let mut announced: Vec<(String, &Deployment)> = waiting
            .into_values()
            .filter(|d| d.phase == Phase::Warming && d.candidate_first.is_none())
            .map(|d| (version_labels(&service_labels(&d.service, identity), &d.candidate), d))
            .filter(|(labels, _)| !present.contains(labels))
            .collect();
        announced.sort_by(|a, b| a.0.cmp(&b.0));
        announced.dedup_by(|a, b| a.0 == b.0);
        self.candidates.append(&mut announced);
    }
}

fn newest_deployments(board: &Board) -> HashMap<(&ServiceKey, &str), &Deployment> {
    let mut newest: HashMap<(&ServiceKey, &str), &Deployment> = HashMap::new();
    // What waits for its time says nothing of the version yet.
    let begun = board.deployments.iter().map(AsRef::as_ref).filter(|d: &&Deployment| !d.is_waiting());
    for deployment in begun {
        let known = newest.entry((&deployment.service, &deployment.candidate)).or_insert(deployment);
        if deployment.started_at > known.started_at {
            *known = deployment;
        }
    }
    newest
}

pub(super) fn service_labels(key: &ServiceKey, identity: &[String]) -> String {
    let mut out = String::new();
    label(&mut out, "service_namespace", &key.namespace);
    out.push(',');
    label(&mut out, "service_name", &key.name);
    out.push(',');
    label(&mut out, "environment", &key.environment);
    for (index, value) in key.extra.iter().enumerate() {
        out.push(',');
        match identity.get(index) {
            Some(name) => label(&mut out, name, value),
            None => label(&mut out, &format!("identity_{index}"), value),
        }
    }
    out
}

fn version_labels(service: &str, version: &str) -> String {
    let mut out = String::with_capacity(service.len() + version.len() + 16);
    out.push_str(service);
    out.push(',');
    label(&mut out, "version", version);
    out
}

fn candidates(page: &Page<'_>, out: &mut Writer) {
    verdicts(page, out);
    evidence(page, out);
    let mut each = |definition: &'static Definition, write: &dyn Fn(&mut Writer, &str, &Deployment)| {
        out.family(definition);
        page.candidates.iter().for_each(|(labels, d)| write(out, labels, d));
    };
    each(&names::DEPLOYMENT_INFO, &|out, labels, d| {
        let info = [
            ("deployment_id", d.id.0.as_str()),
            ("baseline", d.baseline.as_deref().unwrap_or_default()),
            ("phase", d.phase.as_str()),
            ("mode", d.mode.as_str()),
            ("origin", d.origin.as_str()),
            ("kind", d.kind().as_str()),
        ];
        out.sample(labels, &info, true);
    });
    each(&names::DEPLOYMENT_STARTED, &|out, labels, d| {
        out.sample(labels, &[], d.started_at.as_secs_f64());
    });
    each(&names::TIME_TO_DETECT, &|out, labels, d| {
        if let (Verdict::Fail, Some(seconds)) = (d.verdict, d.decided_after_seconds) {
            out.sample(labels, &[], seconds);
        }
    });
    each(&names::BUDGET_SPENT, &|out, labels, d| out.sample(labels, &[], d.spent.failed));
    each(&names::BUDGET_SPENT_RATIO, &|out, labels, d| {
        d.spent.share.iter().for_each(|share| out.sample(labels, &[], *share));
    });
    each(&names::UNDER_REVIEW, &|out, labels, d| {
        out.sample(labels, &[], d.under_review_since.is_some());
    });
    each(&names::NEW_EXCEPTIONS, &|out, labels, d| {
        d.evidence.logs.iter().for_each(|logs| out.sample(labels, &[], logs.new_types));
    });
    each(&names::LOG_RATIO, &|out, labels, d| {
        let ratio = d.evidence.logs.iter().flat_map(|logs| logs.ratio.into_iter().flatten());
        ["point", "low", "high"]
            .into_iter()
            .zip(ratio)
            .for_each(|(bound, value)| out.sample(labels, &[("bound", bound)], value));
    });
}

fn verdicts(page: &Page<'_>, out: &mut Writer) {
    out.family(&names::VERDICT);
    for (labels, d) in &page.candidates {
        for verdict in Verdict::ALL {
            out.sample(labels, &[("verdict", verdict.as_str())], verdict == d.verdict);
        }
    }
    out.family(&names::VERDICT_TIMESTAMP);
    for (labels, d) in &page.candidates {
        if let Some(at) = d.decided_at {
            out.sample(labels, &[], at.as_secs_f64());
        }
    }
    out.family(&names::VERDICT_FLAG);
    for (labels, d) in &page.candidates {
        for flag in crate::verdict::Flag::ALL.into_iter().filter(|f| d.evidence.has(*f)) {
            out.sample(labels, &[("flag", flag.as_str())], true);
        }
    }
    out.family(&names::SCORE);
    for (labels, d) in &page.candidates {
        out.sample(labels, &[], d.evidence.score);
    }
}

fn evidence(page: &Page<'_>, out: &mut Writer) {
    out.family(&names::EVIDENCE);
    for (labels, d) in &page.candidates {
        out.sample(labels, &[], d.evidence.ln_e_bar);
    }
    out.family(&names::EVIDENCE_THRESHOLD);
    for (labels, d) in &page.candidates {
        out.sample(labels, &[], d.policy.fail_threshold());
    }
    // One process per SLI: those of single operations are in the API, not here.
    let slis = || {
        page.candidates.iter().flat_map(|(labels, d)| {
            let common = Sli::ALL.iter().filter_map(|sli| d.evidence.service(*sli));
            let own = d.evidence.slis.iter().filter(|e| e.own.is_some());
            common.chain(own).map(move |e| (labels, e))
        })
    };
    out.family(&names::SLI_EVIDENCE);
    for (labels, e) in slis() {
        out.sample(labels, &[("sli", e.name())], e.ln_e);
    }
    out.family(&names::SLI_RATIO);
    for (labels, e) in slis() {
        for (bound, value) in ["point", "low", "high"].into_iter().zip(e.ratio.into_iter().flatten()) {
            out.sample(labels, &[("sli", e.name()), ("bound", bound)], value);
        }
    }
    out.family(&names::SLI_BAD_RATIO);
    for (labels, e) in slis() {
        for (side, (bad, requests)) in ["candidate", "baseline"].into_iter().zip(e.bad.iter().zip(e.requests))
        {
            if requests > 0 {
                let share = *bad as f64 / requests as f64;
                out.sample(labels, &[("sli", e.name()), ("side", side)], share);
            }
        }
    }
}

fn versions(page: &Page<'_>, out: &mut Writer) {
    let mut count = |definition: &'static Definition, of: fn(&VersionBoard) -> u64| {
        out.family(definition);
        page.versions.iter().for_each(|(labels, v)| out.sample(labels, &[], of(v)));
    };
    count(&names::REQUESTS, |v| v.requests_total);
    count(&names::ERRORS, |v| v.errors_total);
    count(&names::CLIENT_ERRORS, |v| v.client_errors_total);
    by_source(page, &names::SOURCE_REQUESTS, |s| s.requests_total, out);
    by_source(page, &names::SOURCE_ERRORS, |s| s.errors_total, out);
    out.family(&names::BURN);
    for (labels, v) in &page.versions {
        out.sample(labels, &[("window", "5m")], v.burn_5m);
    }
    out.family(&names::LATENCY);
    for (labels, v) in &page.versions {
        for (quantile, value) in
            ["0.5", "0.95", "0.99"].into_iter().zip(v.latency_seconds.into_iter().flatten())
        {
            out.sample(labels, &[("quantile", quantile)], value);
        }
    }
    out.family(&names::INSTANCES);
    for (labels, v) in &page.versions {
        out.sample(labels, &[], v.instances);
    }
    out.family(&names::LATE_SPANS);
    for (labels, v) in &page.versions {
        for (reason, n) in [("late", v.late_total), ("future", v.future_total), ("skewed", v.skewed_total)] {
            out.sample(labels, &[("reason", reason)], n);
        }
    }
    logs(page, out);
}

/// By version only: what was thrown is in the API, for names of exceptions have no bound.
fn logs(page: &Page<'_>, out: &mut Writer) {
    let mut count = |definition: &'static Definition, of: fn(&VersionBoard) -> u64| {
        out.family(definition);
        page.versions.iter().for_each(|(labels, v)| out.sample(labels, &[], of(v)));
    };
    count(&names::ERROR_LOGS, |v| v.logs.error_logs);
    count(&names::EXCEPTIONS, |v| v.logs.exceptions);
    out.family(&names::LATE_LOGS);
    for (labels, v) in &page.versions {
        for (reason, n) in [("late", v.logs.late), ("future", v.logs.future)] {
            out.sample(labels, &[("reason", reason)], n);
        }
    }
}

fn by_source(
    page: &Page<'_>,
    definition: &'static Definition,
    of: fn(&SourceBoard) -> u64,
    out: &mut Writer,
) {
    out.family(definition);
    for (labels, v) in &page.versions {
        for (source, said) in Source::ALL.into_iter().zip(&v.sources) {
            if let Some(said) = said {
                out.sample(labels, &[("source", source.as_str())], of(said));
            }
        }
    }
}

fn services(page: &Page<'_>, rollbacks: &BTreeMap<ServiceKey, u64>, identity: &[String], out: &mut Writer) {
    let mut measure = |definition: &'static Definition, of: fn(&ServiceBoard) -> f64| {
        out.family(definition);
        page.services.iter().for_each(|(labels, s)| out.sample(labels, &[], of(s)));
    };
    measure(&names::LATENESS, |s| s.lateness_seconds);
    measure(&names::COMPLETENESS, |s| s.completeness);
    out.family(&names::METRIC_INTERVAL);
    for (labels, s) in &page.services {
        if let Some(side) = s.metrics {
            out.sample(labels, &[], side.slot_seconds as u64);
        }
    }
    // A service without a rollback shows 0, so that the first one is seen as an increase; one that has
    // gone keeps its count.
    let mut counts: BTreeMap<String, u64> = page.services.iter().map(|(l, _)| (l.clone(), 0)).collect();
    for (service, count) in rollbacks {
        *counts.entry(service_labels(service, identity)).or_default() += count;
    }
    out.family(&names::ROLLBACKS);
    for (labels, count) in &counts {
        out.sample(labels, &[], *count);
    }
}

fn program(board: &Board, out: &mut Writer) {
    out.family(&names::DEPLOYMENTS);
    for phase in Phase::ALL {
        let count = board.deployments.iter().filter(|d| d.phase == phase).count();
        out.sample("", &[("phase", phase.as_str())], count as u64);
    }
    out.family(&names::BOARD_TIMESTAMP);
    out.sample("", &[], board.at.as_secs_f64());
    out.family(&names::BUILD_INFO);
    out.sample("", &[("version", env!("CARGO_PKG_VERSION"))], true);
}

#[cfg(test)]
#[path = "families_tests.rs"]
mod tests;
