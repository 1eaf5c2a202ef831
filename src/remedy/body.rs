//! The message of a fail, which proposes a rollback or what the policy says instead: everything a script needs to act and a person to believe it, in one
//! JSON document below 20 kB. What does not fit is left out from the end of the lists, never from the facts.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::deployment::{Deployment, Proposal};
use crate::model::{ServiceKey, UnixNanos};
use crate::verdict::{Evidence, SliEvidence};

/// What the id of a fail's message is made of, beside its deployment and endpoint.
pub const KIND_ROLLBACK: &str = "rollback";
/// Upper bound of a body (Standard Webhooks 1.0 advises 20 kB).
pub const BODY_BYTES: usize = 20_000;
/// Lines of evidence to begin with.
const EVIDENCE_LINES: usize = 40;
const WORST_OPERATIONS: usize = 5;
const EXEMPLARS: usize = 10;
const NEW_EXCEPTIONS: usize = 5;
/// Longest text taken over, in characters.
const TEXT_CHARS: usize = 1_000;

/// Links from the configuration of the service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Links {
    /// What to do by hand.
    pub runbook_url: Option<String>,
    /// Where to look.
    pub dashboard_url: Option<String>,
}

#[derive(Serialize)]
struct Message<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    deployment_id: &'a str,
    /// What to do: `rollback`, `tell` a person, `freeze` or `flag_off`.
    proposal: &'static str,
    service: Service<'a>,
    baseline: Option<&'a str>,
    candidate: &'a str,
    /// `version`, or `before/after` a time: then there is no version to go back to, but a change to undo.
    kind: &'static str,
    time: Option<String>,
    verdict: &'static str,
    score: f64,
    explanation: String,
    /// How sure it is, what it rests on and what would have turned it, in words.
    account: Account,
    decided_at: Option<String>,
    decided_after_seconds: Option<f64>,
    requests: Pair,
    errors: Pair,
    flags: Vec<&'static str>,
    /// What is to be rolled back: `all`, or `region=NAME` where only those are worse; of a change that names a scope
    /// its `attribute=value`.
    scope: Vec<String>,
    evidence: Vec<Line<'a>>,
    /// Regions and values of other dimensions that are worse, the worst first.
    worst_cohorts: Vec<CohortLine<'a>>,
    worst_operations: Vec<Line<'a>>,
    exemplar_trace_ids: Vec<&'a str>,
    /// Exceptions that only the candidate shows. Beside the verdict: no ground of it.
    new_exceptions: Vec<Thrown<'a>>,
    /// What the candidate has spent of the error budget.
    budget: Spending,
    runbook_url: Option<String>,
    dashboard_url: Option<String>,
    url: Option<String>,
    commit: Option<String>,
    /// What the telemetry says of the change, by attribute.
    change: BTreeMap<&'static str, String>,
}

/// A value of a dimension that is worse.
#[derive(Serialize)]
struct CohortLine<'a> {
    attribute: &'a str,
    value: &'a str,
    ln_e: f64,
    threshold: f64,
    requests: Pair,
    errors: Pair,
    sli: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Service<'a> {
    namespace: &'a str,
    name: &'a str,
    environment: &'a str,
}

#[derive(Serialize)]
struct Thrown<'a> {
    name: &'a str,
    r#type: &'a str,
    frames: &'a [String],
    count: u64,
    share: Option<f64>,
    trace_ids: &'a [String],
}

#[derive(Serialize)]
struct Account {
    sum: String,
    grounds: Vec<String>,
    turns: Vec<String>,
    unseen: Vec<String>,
}

#[derive(Serialize)]
struct Spending {
    spent_requests: u64,
    spent_ratio: Option<f64>,
    left_requests: Option<f64>,
    left_ratio: Option<f64>,
}

#[derive(Serialize)]
struct Pair {
    candidate: u64,
    baseline: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    sli: &'a str,
    operation: Option<&'a str>,
    ln_e: f64,
    weight: f64,
    requests: Pair,
    bad: Pair,
    ratio: Option<[f64; 3]>,
    threshold_seconds: Option<f64>,
    source: &'static str,
    degraded: bool,
}

impl<'a> Service<'a> {
    pub(super) fn new(key: &'a ServiceKey) -> Self {
        Self { namespace: &key.namespace, name: &key.name, environment: &key.environment }
    }
}

impl Account {
    fn new(d: &Deployment, lines: usize) -> Self {
        let account = d.account();
        let cut = |lines: &[String]| lines.iter().map(|line| shorten(line)).collect();
        let grounds = account.grounds.iter().take(lines);
        Self {
            sum: shorten(&account.sum),
            grounds: grounds.map(|g| shorten(&account.ground(g))).collect(),
            turns: cut(&account.turns),
            unseen: cut(&account.unseen),
        }
    }
}

/// The body for a failed deployment.
pub fn fail_body(deployment: &Deployment, proposal: Proposal, links: &Links) -> Vec<u8> {
    let mut lines = EVIDENCE_LINES;
    loop {
        let body = render(deployment, proposal, links, lines);
        if body.len() <= BODY_BYTES || lines == 0 {
            return body;
        }
        lines /= 2;
    }
}

fn render(d: &Deployment, proposal: Proposal, links: &Links, lines: usize) -> Vec<u8> {
    let evidence = &*d.evidence;
    let cut = |text: &Option<String>| text.as_deref().map(shorten);
    let message = Message {
        r#type: proposal.message_type(),
        timestamp: rfc3339(d.decided_at.unwrap_or(d.started_at)),
        data: Data {
            deployment_id: &d.id.0,
            proposal: proposal.as_str(),
            service: Service::new(&d.service),
            baseline: d.baseline.as_deref(),
            candidate: &d.candidate,
            kind: d.kind().as_str(),
            time: d.time.map(rfc3339),
            verdict: d.verdict.as_str(),
            score: evidence.score,
            explanation: shorten(&d.explanation),
            account: Account::new(d, lines),
            decided_at: d.decided_at.map(rfc3339),
            decided_after_seconds: d.decided_after_seconds,
            requests: pair(evidence.requests),
            errors: pair(evidence.errors),
            flags: evidence.flags.iter().map(|f| f.as_str()).collect(),
            scope: d.action_scope(),
            worst_cohorts: worst_cohorts(evidence, lines.min(WORST_OPERATIONS)),
            evidence: evidence.slis.iter().take(lines).map(line).collect(),
            worst_operations: worst_operations(evidence, lines.min(WORST_OPERATIONS)),
            exemplar_trace_ids: evidence.exemplars.iter().take(EXEMPLARS).map(String::as_str).collect(),
            new_exceptions: new_exceptions(evidence, lines.min(NEW_EXCEPTIONS)),
            budget: Spending {
                spent_requests: d.spent.failed,
                spent_ratio: d.spent.share,
                left_requests: d.spent.left.map(|[requests, _]| requests),
                left_ratio: d.spent.left.map(|[_, ratio]| ratio),
            },
            runbook_url: cut(&links.runbook_url),
            dashboard_url: cut(&links.dashboard_url),
            url: cut(&d.url),
            commit: d.commit().map(shorten),
            change: d.change.iter().map(|(attribute, text)| (attribute.as_str(), shorten(text))).collect(),
        },
    };
    // Strings, numbers and lists only: there is nothing in it that serialisation could refuse.
    serde_json::to_vec(&message).unwrap_or_default()
}

/// The most frequent new exceptions; attributes are in the API only.
fn new_exceptions(evidence: &Evidence, limit: usize) -> Vec<Thrown<'_>> {
    let new = evidence.logs.iter().flat_map(|logs| &logs.new).take(limit);
    new.map(|e| Thrown {
        name: &e.name,
        r#type: &e.kind,
        frames: &e.frames,
        count: e.count,
        share: e.share,
        trace_ids: &e.traces,
    })
    .collect()
}

/// The operations with most of the evidence, each by its strongest SLI.
fn worst_operations(evidence: &Evidence, limit: usize) -> Vec<Line<'_>> {
    let share = |e: &SliEvidence| e.weight.max(f64::MIN_POSITIVE).ln() + e.ln_e;
    let mut operations: Vec<&SliEvidence> =
        evidence.slis.iter().filter(|e| e.operation.is_some() && e.ln_e > 0.0).collect();
    operations.sort_by(|a, b| share(b).total_cmp(&share(a)).then_with(|| a.operation.cmp(&b.operation)));
    let mut seen = std::collections::HashSet::new();
    operations.retain(|e| seen.insert(e.operation.as_deref()));
    operations.into_iter().take(limit).map(line).collect()
}

fn worst_cohorts(evidence: &Evidence, limit: usize) -> Vec<CohortLine<'_>> {
    let worse = evidence.cohorts.iter().filter(|one| one.is_worse).take(limit);
    worse
        .map(|one| CohortLine {
            attribute: &one.attribute,
            value: &one.value,
            ln_e: one.ln_e,
            threshold: one.threshold,
            requests: pair(one.requests),
            errors: pair(one.errors),
            sli: one.sli.as_ref().map(SliEvidence::name),
        })
        .collect()
}

fn line(e: &SliEvidence) -> Line<'_> {
    Line {
        sli: e.name(),
        operation: e.operation.as_deref(),
        ln_e: e.ln_e,
        weight: e.weight,
        requests: pair(e.requests),
        bad: pair(e.bad),
        ratio: e.ratio,
        threshold_seconds: e.threshold_seconds,
        source: e.source.as_str(),
        degraded: e.degraded,
    }
}

const fn pair(counts: [u64; 2]) -> Pair {
    Pair { candidate: counts[0], baseline: counts[1] }
}

pub(super) fn shorten(text: &str) -> String {
    text.chars().take(TEXT_CHARS).collect()
}

/// `2026-01-02T03:04:05.006Z`, to the millisecond.
pub(super) fn rfc3339(at: UnixNanos) -> String {
    let millis = i64::try_from(at.0 / 1_000_000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| String::new(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::deployment::{Beginning, Mode, Origin};
    use crate::model::{DeploymentId, Labels, ResourceTexts};
    use crate::verdict::{
        Flag, LogEvidence, NewException, OwnEvidence, OwnKind, Policy, Scope, Sli, Verdict,
    };

    fn sli(sli: Sli, operation: Option<String>, ln_e: f64) -> SliEvidence {
        SliEvidence {
            sli,
            operation: operation.map(Into::into),
            weight: 0.2,
            ln_e,
            ln_e_pass: None,
            requests: [1240, 11_900],
            bad: [29, 12],
            ratio: Some([21.0, 14.0, 31.0]),
            threshold_seconds: None,
            degraded: ln_e > 1.0,
            ..SliEvidence::default()
        }
    }

    fn new_exception(frame: &str) -> NewException {
        NewException {
            name: format!("E in {frame}"),
            kind: "x.E".into(),
            frames: vec![frame.into(); 5],
            count: 14,
            share: Some(0.004),
            traces: vec!["ab".repeat(16); 3],
            values: vec![("user.id".into(), "alice".into())],
        }
    }

    fn failed(slis: Vec<SliEvidence>) -> Deployment {
        let beginning = Beginning {
            id: DeploymentId("d1".into()),
            service: ServiceKey {
                namespace: "shop".into(),
                name: "checkout".into(),
                ..ServiceKey::default()
            },
            baseline: Some("v1".into()),
            candidate: "v2".into(),
            time: None,
            scope: Default::default(),
            origin: Origin::Detected,
            release: Deployment::VERSION.into(),
            mode: Mode::Act,
            policy: Policy::default(),
            url: Some("https://ci/7".into()),
            commit: None,
            share: None,
        };
        let mut deployment = beginning.begin(UnixNanos::from_secs(1_767_323_000));
        deployment.verdict = Verdict::Fail;
        deployment.decided_at = Some(UnixNanos(1_767_323_045_006_000_000));
        deployment.explanation = "v2 fails.".into();
        let exemplars = vec!["0af7651916cd43dd8448eb211c80319c".into(); 12];
        deployment.evidence = Arc::new(Evidence {
            slis,
            flags: vec![Flag::SinglePod],
            exemplars,
            requests: [1240, 11_900],
            errors: [29, 12],
            logs: Some(Arc::new(LogEvidence {
                new: vec![new_exception("Cart.add"); 7],
                ..LogEvidence::default()
            })),
            ..Evidence::default()
        });
        deployment
    }

    fn json(deployment: &Deployment) -> serde_json::Value {
        let links = Links { runbook_url: Some("https://runbook".into()), dashboard_url: None };
        serde_json::from_slice(&fail_body(deployment, Proposal::Rollback, &links)).unwrap()
    }

    #[test]
    fn it_says_what_a_rollback_is_for() {
        let scope = |deployment: &Deployment| json(deployment)["data"]["scope"].clone();
        let mut d = failed(Vec::new());
        assert_eq!(scope(&d), serde_json::json!(["all"]));
        let values = [("operation", "GET /"), ("cloud.region", "eu-1")];
        d.scope = Scope::new(values.map(|(name, value)| (name.into(), value.into())).into());
        assert_eq!(scope(&d), serde_json::json!(["cloud.region=eu-1", "operation=GET /"]));
    }

    #[test]
    fn it_says_what_a_script_needs() {
        let op = |name: &str| Some(name.to_owned());
        let message = json(&failed(vec![
            sli(Sli::ErrorRate, None, 9.0),
            sli(Sli::ErrorRate, op("GET /"), 0.5),
            sli(Sli::ErrorRate, op("POST /pay"), 8.0),
            sli(Sli::LatencyP95, op("POST /pay"), 3.0),
            sli(Sli::LatencyP95, op("GET /cart"), -2.0),
        ]));
        assert_eq!(message["type"], "rollguard.rollback");
        assert_eq!(message["timestamp"], "2026-01-02T03:04:05.006Z");
        let data = &message["data"];
        for (field, value) in [
            ("deployment_id", "d1"),
            ("baseline", "v1"),
            ("candidate", "v2"),
            ("verdict", "fail"),
            ("explanation", "v2 fails."),
            ("runbook_url", "https://runbook"),
            ("url", "https://ci/7"),
            ("decided_at", "2026-01-02T03:04:05.006Z"),
        ] {
            assert_eq!(data[field], value, "{field}");
        }
        assert_eq!(
            data["service"],
            serde_json::json!({"namespace": "shop", "name": "checkout", "environment": ""})
        );
        assert_eq!(data["evidence"].as_array().unwrap().len(), 5);
        let worst: Vec<_> =
            data["worst_operations"].as_array().unwrap().iter().map(|o| &o["operation"]).collect();
        assert_eq!(worst, ["POST /pay", "GET /"]);
        assert_eq!(data["exemplar_trace_ids"].as_array().unwrap().len(), EXEMPLARS);
        assert!(data["dashboard_url"].is_null() && data["commit"].is_null());
        let new = &data["new_exceptions"];
        assert_eq!(
            (new.as_array().unwrap().len(), &new[0]["count"]),
            (NEW_EXCEPTIONS, &serde_json::json!(14))
        );
        assert!(!message.to_string().contains("alice"), "attributes are in the API only");
    }

    /// The line of a gauge counts starts; it is of the service as a whole, whatever it says of operations.
    #[test]
    fn a_gauge_goes_with_the_starts_that_it_is_about() {
        let own = OwnEvidence { name: "heap".into(), kind: OwnKind::Gauge, ..OwnEvidence::default() };
        let (requests, bad) = ([8, 10], [7, 5]);
        let heap =
            SliEvidence { own: Some(own.into()), requests, bad, ratio: None, ..sli(Sli::Own(0), None, 6.0) };
        let data = &json(&failed(vec![heap, sli(Sli::ErrorRate, Some("GET /".into()), 0.5)]))["data"];
        let expected = serde_json::json!({
            "sli": "heap", "operation": null, "ln_e": 6.0, "weight": 0.2, "requests": {"candidate": 8, "baseline": 10},
            "bad": {"candidate": 7, "baseline": 5}, "ratio": null, "threshold_seconds": null, "source": "spans",
            "degraded": true,
        });
        assert_eq!(data["evidence"][0], expected);
        assert_eq!(data["worst_operations"].as_array().map(Vec::len), Some(1));
    }

    /// What the telemetry says of the change, every attribute with the same text.
    fn change(text: &str) -> Arc<Labels> {
        let mut texts = ResourceTexts::default();
        Labels::CHANGE.into_iter().for_each(|attribute| texts.set(attribute, text.as_bytes()));
        let mut change = Labels::default();
        change.take(&Labels::CHANGE, &texts);
        change.into()
    }

    #[test]
    fn r6_the_change_goes_with_it() {
        let mut deployment = failed(vec![sli(Sli::ErrorRate, None, 9.0)]);
        deployment.change = change("abc");
        let data = &json(&deployment)["data"];
        assert_eq!(data["commit"], "abc");
        assert_eq!(data["change"].as_object().unwrap().len(), Labels::CHANGE.len());
        assert_eq!(data["change"]["cicd.pipeline.run.id"], "abc");
        deployment.commit = Some("as requested".into());
        assert_eq!(json(&deployment)["data"]["commit"], "as requested");
    }

    #[test]
    fn it_stays_under_20_kb_and_keeps_the_facts() {
        let long = |i: usize| Some(format!("{i} {}", "\u{1}é".repeat(120)));
        let mut deployment = failed((0..400).map(|i| sli(Sli::ErrorRate, long(i), 1.0)).collect());
        deployment.explanation = "x".repeat(100_000);
        let long = new_exception(&"\u{1}é".repeat(80));
        let logs = Some(Arc::new(LogEvidence { new: vec![long; 20], ..LogEvidence::default() }));
        deployment.evidence = Arc::new(Evidence { logs, ..(*deployment.evidence).clone() });
        deployment.change = change(&"\"".repeat(5_000));
        let body = fail_body(&deployment, Proposal::Rollback, &Links::default());
        assert!(body.len() <= BODY_BYTES, "{}", body.len());
        let data = &json(&deployment)["data"];
        assert_eq!(data["candidate"], "v2");
        assert!(!data["evidence"].as_array().unwrap().is_empty());
    }

    /// Each proposal has a type of its own, so that nobody rolls back who only reads the type.
    #[test]
    fn what_it_proposes_is_its_type_and_a_field() {
        for (proposal, word) in Proposal::ALL.into_iter().zip(["rollback", "tell", "freeze", "flag_off"]) {
            let body = fail_body(&failed(Vec::new()), proposal, &Links::default());
            let message: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(message["type"], format!("rollguard.{word}"));
            assert_eq!(message["data"]["proposal"], word);
        }
    }

    #[test]
    fn numbers_that_json_cannot_say_are_null() {
        let data = &json(&failed(vec![sli(Sli::ErrorRate, None, f64::INFINITY)]))["data"];
        assert!(data["evidence"][0]["ln_e"].is_null());
    }
}
