//! Ten accounts as an on-call person reads them, kept in `tests/golden/explanations.md`. `UPDATE_GOLDEN=1 cargo test --lib
//! account` writes them anew; whoever does so reads them aloud.

use super::super::explain::{ExplainInput, Waiting, explain};
use super::*;

/// One case: what happened, and the evidence.
struct Case {
    title: &'static str,
    verdict: Verdict,
    /// Seconds compared.
    compared_s: i64,
    ln_e_bar: f64,
    flags: &'static [Flag],
    slis: Vec<SliEvidence>,
    needed: Option<u64>,
    incident_size: f64,
    acts: bool,
    slo: f64,
}

impl Case {
    const fn new(title: &'static str, verdict: Verdict, compared_s: i64, slis: Vec<SliEvidence>) -> Self {
        Self {
            title,
            verdict,
            compared_s,
            ln_e_bar: 0.0,
            flags: &[],
            slis,
            needed: None,
            incident_size: 1.1,
            acts: true,
            slo: 0.999,
        }
    }

    fn account(&self) -> Account {
        let sum: f64 = self.slis.iter().map(|e| e.weight * e.ln_e.exp()).sum();
        let rest = (1.0 - self.slis.iter().map(|e| e.weight).sum::<f64>()).max(0.0);
        let ln_e_bar = if self.ln_e_bar == 0.0 { (sum + rest).ln() } else { self.ln_e_bar };
        let policy = Policy { slo: self.slo, ..Policy::default() };
        let service = self.slis.iter().find(|e| e.operation.is_none()).map_or([0, 0], |e| e.requests);
        let evidence = Evidence {
            slot: 1_000_059 + self.compared_s,
            ln_e_bar,
            fail_threshold: policy.fail_threshold(),
            pass_threshold: policy.pass_threshold(),
            requests: service,
            slis: self.slis.clone(),
            flags: self.flags.to_vec(),
            requests_needed: self.needed,
            incident_size: self.incident_size,
            ..Evidence::default()
        };
        let waiting = if self.compared_s > 0 { Waiting::Evidence } else { Waiting::Warmup(40.0) };
        let explanation = explain(&ExplainInput {
            candidate: "v2",
            baseline: Some("v1"),
            verdict: self.verdict,
            evidence: &evidence,
            policy: &policy,
            waiting,
        });
        account(&AccountInput {
            candidate: "v2",
            baseline: Some("v1"),
            verdict: self.verdict,
            evidence: &evidence,
            policy: &policy,
            explanation: &explanation,
            candidate_first: Some(1_000_000),
            acts: self.acts,
        })
    }
}

type Counts = ([u64; 2], [u64; 2]);

/// Bad and all requests of candidate and baseline.
fn line(sli: Sli, weight: f64, ln_e: f64, ln_e_pass: Option<f64>, (bad, requests): Counts) -> SliEvidence {
    let ratio = (bad[0] as f64 / requests[0] as f64) / (bad[1].max(1) as f64 / requests[1].max(1) as f64);
    let ratio = (bad[0] > 0).then_some([ratio, ratio / 1.5, ratio * 1.5]);
    SliEvidence { sli, weight, ln_e, ln_e_pass, bad, requests, ratio, ..SliEvidence::default() }
}

fn at(operation: &str, e: SliEvidence) -> SliEvidence {
    SliEvidence { operation: Some(operation.into()), degraded: true, ..e }
}

/// The latencies of a version that is as fast as the old one, with so much towards a pass.
fn steady(requests: [u64; 2], towards_pass: f64) -> Vec<SliEvidence> {
    let exceeding = |share: f64| [(requests[0] as f64 * share) as u64, (requests[1] as f64 * share) as u64];
    let one = |sli, weight, share: f64, more: f64| {
        line(sli, weight, -1.5, Some(towards_pass + more), (exceeding(share), requests))
    };
    vec![
        one(Sli::LatencyP50, 0.07, 0.5, 4.0),
        one(Sli::LatencyP95, 0.09, 0.05, 1.0),
        one(Sli::LatencyP99, 0.05, 0.01, 0.2),
    ]
}

fn with(mut lines: Vec<SliEvidence>, more: Vec<SliEvidence>) -> Vec<SliEvidence> {
    lines.extend(more);
    lines
}

fn cases() -> Vec<Case> {
    let outage = ([78, 3], [160, 3_040]);
    let requests = |seconds: u64| [10 * seconds, 190 * seconds];
    let err = |ln_e: f64, pass: f64, bad: [u64; 2], n: [u64; 2]| {
        line(Sli::ErrorRate, 0.2, ln_e, Some(pass), (bad, n))
    };
    vec![
        Case::new(
            "An outage in the first seconds",
            Verdict::Fail,
            16,
            vec![err(6.8, -9.0, outage.0, outage.1), line(Sli::Guard, 0.05, 6.5, None, outage)],
        ),
        Case {
            acts: false,
            ..Case::new(
                "Errors of one operation, observed only",
                Verdict::Fail,
                120,
                vec![
                    err(3.1, -4.0, [29, 23], requests(120)),
                    at("POST /checkout", line(Sli::ErrorRate, 0.05, 7.9, None, ([25, 3], [180, 3_400]))),
                ],
            )
        },
        Case::new(
            "Slower, without an error",
            Verdict::Fail,
            180,
            with(
                vec![err(-0.4, 0.9, [2, 34], requests(180))],
                vec![
                    line(Sli::LatencyP50, 0.07, 7.4, Some(-30.0), ([1_310, 17_100], requests(180))),
                    line(Sli::LatencyP95, 0.09, 3.0, Some(-9.0), ([190, 1_710], requests(180))),
                ],
            ),
        ),
        Case::new(
            "A healthy version with much traffic",
            Verdict::Pass,
            300,
            with(vec![err(-1.9, 22.0, [31, 590], [30_000, 570_000])], steady([30_000, 570_000], 30.0)),
        ),
        Case::new(
            "A healthy version that just made it",
            Verdict::Pass,
            1_500,
            with(vec![err(-1.1, 3.2, [14, 16], [15_000, 15_000])], steady([15_000, 15_000], 3.0)),
        ),
        Case {
            needed: Some(4_300),
            ..Case::new(
                "Not decided after five minutes",
                Verdict::Pending,
                300,
                with(vec![err(-0.2, 1.2, [3, 57], requests(300))], steady(requests(300), 2.2)),
            )
        },
        Case {
            flags: &[Flag::SinglePod],
            ..Case::new(
                "Ready for a pass, but on one instance",
                Verdict::Inconclusive,
                1_800,
                with(vec![err(-1.4, 4.0, [17, 342], requests(1_800))], steady(requests(1_800), 12.0)),
            )
        },
        Case {
            needed: Some(31_000),
            incident_size: 14.0,
            ..Case::new(
                "A bursty service with little traffic",
                Verdict::Inconclusive,
                1_800,
                with(vec![err(0.6, 0.3, [41, 30], [3_600, 3_600])], steady([3_600, 3_600], 1.0)),
            )
        },
        Case {
            flags: &[Flag::RememberedBaseline],
            ..Case::new(
                "The old version has gone",
                Verdict::Pending,
                120,
                with(vec![err(0.1, 0.7, [2, 400], [1_200, 380_000])], steady([1_200, 380_000], 1.5)),
            )
        },
        Case::new("Warming up", Verdict::Pending, 0, Vec::new()),
    ]
}

#[test]
fn ten_accounts_read_well() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/explanations.md");
    let mut text = String::from("# Ten explanations\n");
    for case in cases() {
        let _ = write!(text, "\n## {}\n\n{}", case.title, case.account().markdown());
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(kept, text, "read the new ones, then UPDATE_GOLDEN=1 cargo test --lib account");
}

#[test]
fn text_has_no_marks() {
    let account = cases().swap_remove(0).account();
    assert!(
        !account.text().contains("**") && account.markdown().contains("**How sure**"),
        "{}",
        account.text()
    );
}

#[test]
fn the_shares_of_the_sum_are_shares() {
    for case in cases() {
        let account = case.account();
        let total: f64 = account.grounds.iter().map(|g| g.share).sum();
        assert!(total <= 1.0 + 1e-9, "{}: {total}", case.title);
        assert_eq!(case.verdict == Verdict::Fail, account.odds[0] >= account.odds[1], "{}", case.title);
    }
}
