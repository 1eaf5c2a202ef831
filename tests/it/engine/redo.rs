//! Doubting a verdict: the log that the API serves is summed again by a second writing of the recursion in
//! `docs/statistics.md`, sections 3, 10 and 13, that shares nothing with the processes but the formula of a
//! term. What comes out must be the evidence that the deployment shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt;
use rollguard::api::{ApiState, Readiness, WriteAccess, router};
use rollguard::deployment::{Deployment, Mode, Phase};
use rollguard::model::UnixNanos;
use rollguard::pipeline::clock::Clock;
use rollguard::stats::Term;
use rollguard::verdict::Verdict;
use serde_json::Value;
use tower::ServiceExt;

use super::world::{World, quick, traffic};

struct Stopped(UnixNanos);

impl Clock for Stopped {
    fn now(&self) -> UnixNanos {
        self.0
    }
}

/// What the API answers about the world as it is.
fn get(world: &World, path: &str) -> (u16, Value) {
    let board = Arc::new(ArcSwap::from_pointee(world.engine.board(world.now())));
    let (commands, _) = tokio::sync::mpsc::channel(1);
    let clock = Arc::new(Stopped(world.now()));
    let state = ApiState::new(board, commands, Arc::new(Readiness::default()), clock, WriteAccess::Open);
    let api = router(Arc::new(state), Duration::from_secs(5), Router::new());
    let request = axum::http::Request::get(path).body(Body::empty()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let response = api.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    })
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} of {value}"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn term(value: &Value) -> Term {
    let of = |key| number(value, key);
    match value["form"].as_str().unwrap() {
        "rate_ratio" => Term::RateRatio {
            n_c: of("n_c"),
            x_c: of("x_c"),
            n_b: of("n_b"),
            x_b: of("x_b"),
            r0: of("r0"),
            delta: of("delta"),
            c: of("cbar"),
        },
        "bernoulli" => Term::Bernoulli {
            n_c: of("n_c"),
            x_c: of("x_c"),
            n_b: of("n_b"),
            x_b: of("x_b"),
            p: of("p"),
            phi: of("phi"),
        },
        "one_sample" => Term::OneSample { n: of("n"), x: of("x"), p0: of("p0"), c: of("cbar") },
        other => panic!("{other}"),
    }
}

/// A process in the words of the documentation.
struct Redone {
    start: i64,
    elapsed: i64,
    mass: Vec<f64>,
    block: Vec<f64>,
    /// `None`: a watch.
    unspent: Option<f64>,
    /// Whether anything was added since the last restart: a watch places mass only then.
    fed: bool,
}

/// What holds for all processes of a log.
struct Rules {
    cap: f64,
    horizon: f64,
    block: i64,
    restart: i64,
}

impl Redone {
    fn resumed(state: &Value) -> Self {
        Self {
            start: state["start"].as_i64().unwrap(),
            elapsed: state["elapsed_seconds"].as_i64().unwrap(),
            mass: numbers(&state["ln_mass"]),
            block: numbers(&state["block"]),
            unspent: state["unspent"].as_f64(),
            fed: state["fed"].as_bool().unwrap_or_default(),
        }
    }

    fn begun(start: i64, steps: usize, watch: bool) -> Self {
        let mass = vec![if watch { 0.0 } else { 0.5f64.ln() }; steps];
        let unspent = if watch { None } else { Some(0.5) };
        Self { start, elapsed: 0, mass, block: vec![0.0; steps], unspent, fed: false }
    }

    fn advance(&mut self, slot: i64, rules: &Rules) {
        while self.start + self.elapsed < slot {
            self.elapsed += 1;
            if self.elapsed % rules.block == 0 {
                for (mass, block) in self.mass.iter_mut().zip(&mut self.block) {
                    *mass += block.min(rules.cap);
                    *block = 0.0;
                }
            }
            let fresh = match &mut self.unspent {
                _ if self.elapsed % rules.restart != 0 => continue,
                None if !std::mem::take(&mut self.fed) => continue,
                None => rules.restart as f64 / 60.0,
                Some(unspent) if *unspent > 1e-12 => {
                    let part = (0.5 * rules.restart as f64 / rules.horizon).min(*unspent);
                    *unspent -= part;
                    part
                }
                _ => continue,
            };
            self.mass.iter_mut().for_each(|mass| *mass = (mass.exp() + fresh).ln());
        }
    }

    fn ln(&self, cap: f64) -> f64 {
        let sum: f64 = self.mass.iter().zip(&self.block).map(|(m, b)| (m + b.min(cap)).exp()).sum();
        (sum / self.mass.len() as f64 + self.unspent.unwrap_or(0.0)).ln()
    }
}

/// Every process of a log, summed again.
fn redo(log: &Value) -> BTreeMap<String, f64> {
    let rules = Rules {
        cap: number(log, "cap"),
        horizon: number(log, "horizon_seconds"),
        block: log["block_seconds"].as_i64().unwrap(),
        restart: log["restart_seconds"].as_i64().unwrap(),
    };
    let watch = log["statistic"] == "R";
    let mut each: BTreeMap<String, Redone> = log["checkpoint"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, state)| (name.clone(), Redone::resumed(state)))
        .collect();
    for line in log["lines"].as_array().unwrap() {
        let term = term(&line["term"]);
        let start = line["start"].as_i64().unwrap();
        let process = each
            .entry(line["process"].as_str().unwrap().to_owned())
            .or_insert_with(|| Redone::begun(start, term.ladder().len(), watch));
        process.advance(line["slot"].as_i64().unwrap(), &rules);
        process.fed = true;
        process.block.iter_mut().zip(term.ladder()).for_each(|(sum, g)| *sum += term.nats(*g));
    }
    let through = log["through_slot"].as_i64().unwrap();
    let last = |process: &mut Redone| {
        process.advance(through, &rules);
        process.ln(rules.cap)
    };
    each.iter_mut().map(|(name, process)| (name.clone(), last(process))).collect()
}

/// The log of a deployment, summed again, is the evidence that it shows; `purpose` is what the log is of.
fn check(world: &World, d: &Deployment, purpose: &str, statistic: &str) {
    let (status, log) = get(world, &format!("/api/v1/deployments/{}/slots", d.id));
    assert_eq!((status, &log["purpose"], &log["statistic"]), (200, &purpose.into(), &statistic.into()));
    let lines = log["lines"].as_array().unwrap().len();
    assert!((1..=1_000).contains(&lines), "{lines} lines");
    let mut redone = redo(&log);
    let (status, shown) = get(world, &format!("/api/v1/deployments/{}", d.id));
    assert_eq!(status, 200);
    let slis = shown["evidence"]["slis"].as_array().unwrap();
    let mut combined = 0.0;
    for sli in slis {
        let name = match sli["operation"].as_str() {
            None => format!("service/{}", sli["sli"].as_str().unwrap()),
            Some(operation) => format!("operation/{operation}/{}", sli["sli"].as_str().unwrap()),
        };
        let (nats, again) = (number(sli, "nats"), redone.remove(&name));
        assert!((again.unwrap_or(0.0) - nats).abs() < 1e-9, "{name}: {nats} is shown, {again:?} redone");
        // What has not begun counts 1 in a decision and nothing in a watch.
        let begun = again.is_some() || statistic == "E";
        combined += if begun { number(sli, "weight") * nats.exp() } else { 0.0 };
    }
    assert!(redone.is_empty(), "not shown: {redone:?}");
    let nats = number(&shown["evidence"], "nats");
    assert!((combined.ln() - nats).abs() < 1e-9, "{nats} is shown, {} redone", combined.ln());
}

/// Scenario: a v2 that fails 10 % from its start. Guarantees: an undecided deployment has no log; the log of the
/// fail gives E of every process again, and their weighted sum.
#[test]
fn a_fail_can_be_summed_again_from_its_log() {
    let mut world = World::with_known_v1(quick(), Mode::Observe, 100.0, 0.002);
    world.sends("v2", traffic(3, 100.0, 0.1));
    world.run(10);
    let d = world.deployment("v2").unwrap();
    assert_eq!(d.verdict, Verdict::Pending);
    assert_eq!(get(&world, &format!("/api/v1/deployments/{}/slots", d.id)).0, 404);
    world.run(110);
    let d = world.deployment("v2").unwrap();
    assert_eq!(d.verdict, Verdict::Fail);
    check(&world, &d, "decision", "E");
    let log = d.evidence.slot_log.as_ref().unwrap();
    for (key, ln) in log.redo() {
        let shown = d
            .evidence
            .slis
            .iter()
            .find(|e| e.sli == key.sli && e.operation.as_deref() == key.operation.as_deref());
        assert!((shown.unwrap().ln_e - ln).abs() < 1e-9, "{}", key.name());
    }
}

/// Scenario: v2 passes and turns bad two minutes later. Guarantees: the pass has a log of its E, the late fail
/// one of its R.
#[test]
fn a_late_fail_can_be_summed_again_from_its_log() {
    let mut world = World::with_known_v1(quick(), Mode::Observe, 100.0, 0.002);
    world.sends("v2", traffic(3, 100.0, 0.002));
    world.run(370);
    let d = world.deployment("v2").unwrap();
    assert_eq!(d.verdict, Verdict::Pass, "{}", d.explanation);
    check(&world, &d, "decision", "E");
    world.sends("v2", traffic(3, 100.0, 0.3));
    world.run(120);
    let d = world.deployment("v2").unwrap();
    assert_eq!(d.verdict, Verdict::Fail, "{}", d.explanation);
    check(&world, &d, "watch", "R");
}

/// Scenario: a rolling update; v2 turns bad long after v1 has gone. Guarantees: no fail, and the log of what is
/// shown instead gives its R again.
#[test]
fn what_is_no_ground_for_a_fail_can_be_summed_again() {
    let mut world = World::with_known_v1(quick(), Mode::Observe, 80.0, 0.002);
    world.run(200);
    world.sends("v2", traffic(4, 80.0, 0.002));
    world.run(6);
    world.stops("v1");
    world.run(500);
    let d = world.deployment("v2").unwrap();
    assert!(matches!(d.phase, Phase::Watching | Phase::Inconclusive), "{:?}", d.phase);
    world.sends("v2", traffic(4, 80.0, 0.3));
    world.run(60);
    let d = world.deployment("v2").unwrap();
    assert_ne!(d.verdict, Verdict::Fail);
    assert!(
        d.evidence.has(rollguard::verdict::Flag::Degraded),
        "{:?} {} {:?}",
        d.evidence.flags,
        d.explanation,
        d.phase
    );
    check(&world, &d, "degraded", "R");
}
