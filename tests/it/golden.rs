//! The judge against the reference evaluator: `tests/golden/README.md`. Every slot and process of every golden
//! trace to 1e-9.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use rollguard::pipeline::recording::{Recording, Selection};
use rollguard::receiver::walk_traces;
use rollguard::verdict::{Judge, Memory, Policy};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn recording(file: &Path) -> Recording {
    let mut recording = Recording::default();
    let settings = rollguard::receiver::WalkSettings::default();
    for line in BufReader::new(GzDecoder::new(File::open(file).unwrap())).lines() {
        let request: ExportTraceServiceRequest = serde_json::from_str(&line.unwrap()).unwrap();
        walk_traces(&request.encode_to_vec(), &settings, &mut recording).unwrap();
    }
    recording
}

/// What one slot of ours looks like in the words of the trace.
struct Ours {
    ln_e_bar: f64,
    ln_e: BTreeMap<String, f64>,
    ln_e_pass: [f64; 4],
    remembered: [f64; 2],
    sizes: [f64; 5],
    gone: bool,
    renamed: bool,
    latency_from: Option<i64>,
    shares: BTreeMap<String, f64>,
}

fn ours(judge: &Judge, memory: &Memory) -> Ours {
    Ours {
        ln_e_bar: judge.ln_e_bar(),
        ln_e: judge.trace().into_iter().map(|(name, _, e, _)| (name, e)).collect(),
        ln_e_pass: judge.ln_e_pass(),
        remembered: memory.remembered(),
        sizes: memory.incident_sizes_in_time(),
        gone: judge.baseline_gone(),
        renamed: judge.renamed(),
        latency_from: judge.latency_from(),
        shares: judge.predicted_shares().map(|(o, p)| (o.to_string(), p)).collect(),
    }
}

fn near(got: f64, want: &Value, place: &str) {
    let want = want.as_f64().unwrap_or_else(|| panic!("{place}: no number in the golden trace"));
    assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{place}: {got}, golden {want}");
}

fn check(case: &Value) {
    let text = |key: &str| case[key].as_str().unwrap().to_owned();
    let id = text("id");
    let golden: Value =
        serde_json::from_reader(GzDecoder::new(File::open(folder().join(text("trace"))).unwrap())).unwrap();
    let recording = recording(&folder().join(text("file")));
    let selection = Selection {
        service: Some(text("service")),
        baseline: Some(text("baseline")),
        candidate: Some(text("candidate")),
    };
    let policy = Policy { warmup_s: case["warmup"].as_i64().unwrap(), ..Policy::default() };
    let mut slots = BTreeMap::new();
    let outcome = recording
        .judge(&selection, policy, |_, t, judge, memory| {
            slots.insert(t, ours(judge, memory));
        })
        .unwrap();
    let list = golden["slots"].as_array().unwrap();
    assert_eq!(slots.len(), list.len(), "{id}: slots judged");
    for want in list {
        let t = want["slot"].as_i64().unwrap();
        let place = format!("{id} slot {t}");
        let got = &slots[&t];
        assert_eq!(got.gone, want["gone"].as_bool().unwrap(), "{place}: gone");
        assert_eq!(got.renamed, want["renamed"].as_bool().unwrap(), "{place}: renamed");
        assert_eq!(got.latency_from, want["latency_from"].as_i64(), "{place}: latency_from");
        near(got.remembered[0], &want["X"], &format!("{place} X"));
        near(got.remembered[1], &want["N"], &format!("{place} N"));
        for (size, key) in got.sizes.iter().zip(["err", "p50", "p75", "p95", "p99"]) {
            near(*size, &want["cbar"][key], &format!("{place} cbar {key}"));
        }
        for (o, operation) in want["operations"].as_object().unwrap() {
            near(got.shares[o], &operation["ph"], &format!("{place} ph {o}"));
        }
        let processes = want["ln_e"].as_object().unwrap();
        assert_eq!(got.ln_e.len(), processes.len(), "{place}: processes");
        for (name, e) in processes {
            near(got.ln_e[name], e, &format!("{place} {name}"));
        }
        for (e, key) in got.ln_e_pass.iter().zip(["err", "p50", "p95", "p99"]) {
            near(*e, &want["ln_e_pass"][key], &format!("{place} pass {key}"));
        }
        near(got.ln_e_bar, &want["ln_e_bar"], &format!("{place} ln_e_bar"));
    }
    let result = &golden["result"];
    assert_eq!(outcome.verdict.as_str(), result["verdict"].as_str().unwrap(), "{id}");
    match outcome.decided_after_s {
        Some(after) => near(after, &result["decided_after_s"], &id),
        None => assert!(result["decided_after_s"].is_null(), "{id}"),
    }
    near(outcome.evidence.score, &result["score"], &id);
}

/// Scenario: every golden case. Guarantees: evidence, parameters and verdict equal the reference evaluator's.
#[test]
fn every_golden_trace_is_reproduced() {
    let index: Value = serde_json::from_reader(File::open(folder().join("cases.json")).unwrap()).unwrap();
    let cases = index["cases"].as_array().unwrap();
    assert!(cases.len() >= 24, "{} golden cases", cases.len());
    cases.iter().for_each(check);
}
