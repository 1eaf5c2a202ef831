//! SLIs of a policy's own, without a wire: alpha is one budget, a version that is as good does not fail however
//! events come in clusters, what is fixed is fixed before the counts are read, and state survives a restart.

use std::sync::Arc;

use fastrand::Rng;

use super::*;
use crate::model::snapshot::{Reader, Snapshot, Writer};
use crate::model::{Counted, Measure, MeasureKey, Selection, Slot, Source};
use crate::stats::Term;
use crate::verdict::{
    ALL_OPERATIONS, Arm, Cell, Counts, InstanceCounts, Memories, Memory, Panel, Policy, Sli, SlotInput,
    Verdict,
};

const T0: Slot = 1_500_000;

/// An SLI that counts events per request.
fn sli(name: &str, weight: f64, is_decrease: bool) -> OwnSli {
    let counted = Counted::PerRequest {
        requests: Selection::default(),
        events: Selection::default(),
        quantity: Some(name.into()),
    };
    OwnSli {
        name: name.into(),
        kind: OwnKind::Rate,
        source: OwnSource::Spans,
        measure: Measure { key: MeasureKey::of(name), counted },
        test: OwnTest::Rate {
            ratio: 1.25,
            delta: 0.0,
            is_decrease,
            is_share: false,
            pass_ratio: 2.0,
            pass_delta: 0.0,
        },
        weight,
        required: false,
    }
}

fn policy(slis: Vec<OwnSli>) -> Policy {
    Policy { warmup_s: 0, min_pass_s: 60, slis: Arc::new(slis), ..Policy::default() }
}

/// Requests and events of one version in a second: two instances, events in clusters of this mean size.
fn arm(rng: &mut Rng, requests: u64, rate: f64, cluster: f64) -> Arm {
    let mut arm = Arm::default();
    let (mut cell, mut events) = (Cell::default(), Cell::default());
    for (ordinal, (group, counted)) in cell.groups.iter_mut().zip(&mut events.groups).enumerate() {
        let requests = requests / 2;
        let latency = (0..requests).map(|_| (-120 - (16.0 * (1.0 - rng.f64()).ln()) as i16, 1)).collect();
        *group = Counts { requests, latency, ..Counts::default() };
        let mut bad = 0;
        for _ in 0..requests {
            if rng.f64() < rate / cluster {
                bad += 1;
                while rng.f64() < 1.0 - 1.0 / cluster {
                    bad += 1;
                }
            }
        }
        *counted = Counts { requests, bad, ..Counts::default() };
        let ordinal = ordinal as u32;
        arm.instances.push(InstanceCounts { ordinal, requests, ..InstanceCounts::default() });
    }
    arm.warm.insert("GET /".into(), cell);
    for key in ["calls", "orders"] {
        let cells = arm.measures.entry(MeasureKey::of(key)).or_default();
        cells.warm.insert(ALL_OPERATIONS.into(), events.clone());
    }
    arm
}

/// One baseline, one candidate.
struct World {
    rng: Rng,
    t: Slot,
    memory: Memory,
    panel: Option<Panel>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), t: T0, memory: Memory::default(), panel: None }
    }

    fn memories(&self) -> Memories<'_> {
        Memories { spans: Some(&self.memory), metrics: None }
    }

    fn step(&mut self, input: &SlotInput) {
        self.memory.begin(self.t, !input.baseline.is_silent());
        if let Some(panel) = &mut self.panel {
            panel.slot(Source::Spans, self.t, &self.memory, input);
        }
        self.memory.end(self.t, &input.baseline.warm, &input.baseline);
        self.t += 1;
    }

    /// `seconds` with these rates of events; answers whether the verdict was a fail.
    fn run(&mut self, seconds: i64, rates: [f64; 2], cluster: f64) -> bool {
        for _ in 0..seconds {
            let candidate = arm(&mut self.rng, 20, rates[0], cluster);
            let baseline = arm(&mut self.rng, 20, rates[1], cluster);
            self.step(&SlotInput { candidate, baseline, ..SlotInput::default() });
            if self.panel.as_ref().is_some_and(|p| p.verdict(&self.memories()) == Verdict::Fail) {
                return true;
            }
        }
        false
    }

    fn known(seed: u64, rate: f64, cluster: f64) -> Self {
        let mut world = Self::new(seed);
        for _ in 0..600 {
            let baseline = arm(&mut world.rng, 20, rate, cluster);
            world.step(&SlotInput { baseline, ..SlotInput::default() });
        }
        world
    }

    fn deploy(&mut self, policy: Policy) {
        self.panel = Some(Panel::new(policy, &self.memories()));
    }
}

#[test]
fn an_sli_without_a_say_changes_nothing_to_the_bit() {
    let sums = |slis: Vec<OwnSli>| {
        let mut world = World::known(1, 0.5, 1.0);
        world.deploy(policy(slis));
        world.run(120, [2.0, 0.5], 1.0);
        let panel = world.panel.as_ref().unwrap();
        let evidence = panel.evidence(&world.memories());
        let common: Vec<(Sli, f64, f64)> =
            evidence.slis.iter().filter(|e| e.own.is_none()).map(|e| (e.sli, e.weight, e.ln_e)).collect();
        (panel.ln_e_bar().to_bits(), panel.verdict(&world.memories()), common)
    };
    assert_eq!(sums(vec![sli("calls", 0.0, false)]), sums(Vec::new()));
}

#[test]
fn the_sum_is_one_budget_and_can_be_made_again() {
    let mut world = World::known(2, 0.5, 1.0);
    world.deploy(policy(vec![sli("calls", 0.3, false), sli("orders", 0.1, true)]));
    world.run(60, [0.7, 0.5], 1.0);
    let panel = world.panel.as_ref().unwrap();
    let evidence = panel.evidence(&world.memories());
    let weights: Vec<f64> = evidence.slis.iter().filter(|e| e.own.is_some()).map(|e| e.weight).collect();
    let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
    assert!(near(weights[0], 0.3 / 1.4) && near(weights[1], 0.1 / 1.4), "{weights:?}");
    // The reserve for operations that come later stands at 1.
    let shown: f64 = evidence.slis.iter().map(|e| e.weight).sum();
    let sum: f64 = evidence.slis.iter().map(|e| e.weight * e.ln_e.exp()).sum::<f64>();
    assert!((shown - 1.35 / 1.4).abs() < 1e-9, "{shown}");
    assert!((sum.ln() - panel.ln_e_bar()).abs() < 1e-9, "{} {}", sum.ln(), panel.ln_e_bar());
    let log = panel.decisive_evidence(&world.memories()).own_slot_logs;
    let redone = log[0].redo();
    for line in evidence.slis.iter().filter(|e| e.own.is_some()) {
        let key = crate::verdict::Key::service(line.sli);
        assert!((redone[&key] - line.ln_e).abs() < 1e-12, "{line:?}");
    }
}

/// Seeded: 90 deployments of a version that is as good, three sizes of clusters, both directions at a fifth of all
/// weight together: at most one fails. Twice as many and half as many are found.
#[test]
fn a_version_as_good_does_not_fail_and_a_worse_one_does() {
    let deployed = |seed, rates: [f64; 2], cluster| {
        let mut world = World::known(seed, 0.5, cluster);
        world.deploy(policy(vec![sli("calls", 0.125, false), sli("orders", 0.125, true)]));
        world.run(200, rates, cluster)
    };
    let (mut healthy, mut more, mut fewer) = (0, 0, 0);
    for seed in 0..30 {
        for cluster in [1.0, 3.0, 10.0] {
            healthy += u32::from(deployed(seed, [0.5, 0.5], cluster));
        }
        if seed < 10 {
            more += u32::from(deployed(seed, [1.0, 0.5], 1.0));
            fewer += u32::from(deployed(seed, [0.25, 0.5], 1.0));
        }
    }
    assert!(healthy <= 1, "{healthy} of 90");
    assert!(more >= 9 && fewer >= 9, "{more}, {fewer} of 10");
}

#[test]
fn nothing_but_the_counts_depends_on_the_counts() {
    let slis = || vec![sli("calls", 0.2, false), sli("orders", 0.2, true)];
    let mut world = World::known(3, 0.5, 2.0);
    world.deploy(policy(slis()));
    world.run(40, [0.5, 0.5], 2.0);
    let (panel, memory, t) = (world.panel.clone().unwrap(), world.memory.clone(), world.t);
    let last = |rates: [f64; 2]| {
        let mut rng = Rng::with_seed(9);
        let (candidate, baseline) = (arm(&mut rng, 20, rates[0], 1.0), arm(&mut rng, 20, rates[1], 1.0));
        let input = SlotInput { candidate, baseline, ..SlotInput::default() };
        let (mut panel, mut memory) = (panel.clone(), memory.clone());
        memory.begin(t, true);
        panel.slot(Source::Spans, t, &memory, &input);
        let memories = Memories { spans: Some(&memory), metrics: None };
        let logs = panel.decisive_evidence(&memories).own_slot_logs;
        let lines = logs[0].lines.iter().filter(|line| line.slot == t);
        lines
            .map(|line| match line.term {
                Term::RateRatio { n_c, n_b, r0, delta, c, .. } => (line.start, [n_c, n_b, r0, delta, c]),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    let expected = last([0.5, 0.5]);
    assert_eq!(expected.len(), 2);
    for rates in [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]] {
        assert_eq!(last(rates), expected, "{rates:?}");
    }
}

#[test]
fn a_panel_goes_on_after_a_restart_as_if_there_was_none() {
    let mut world = World::known(4, 0.5, 1.0);
    world.deploy(policy(vec![sli("calls", 0.2, false)]));
    world.run(50, [0.6, 0.5], 1.0);
    let mut out = Writer::default();
    world.panel.save(&mut out);
    world.memory.save(&mut out);
    let bytes = out.into_bytes();
    let mut from = Reader::new(&bytes);
    let (panel, memory) = (Option::<Panel>::load(&mut from).unwrap(), Memory::load(&mut from).unwrap());
    assert!(from.is_empty());
    let mut restored = World { rng: world.rng.clone(), t: world.t, memory, panel };
    assert_eq!(world.run(100, [0.6, 0.5], 1.0), restored.run(100, [0.6, 0.5], 1.0));
    let sum = |world: &World| world.panel.as_ref().unwrap().ln_e_bar().to_bits();
    assert_eq!(sum(&world), sum(&restored));
}

#[test]
fn a_baseline_that_is_gone_is_remembered_in_both_directions() {
    for (rate, is_decrease, fails) in
        [(0.9, false, true), (0.2, false, false), (0.02, true, true), (0.2, true, false)]
    {
        let mut world = World::known(5, 0.2, 1.0);
        world.deploy(policy(vec![sli("calls", 0.5, is_decrease)]));
        let mut failed = false;
        for _ in 0..200 {
            let candidate = arm(&mut world.rng, 20, rate, 1.0);
            world.step(&SlotInput { candidate, ..SlotInput::default() });
            failed |= world.panel.as_ref().unwrap().verdict(&world.memories()) == Verdict::Fail;
        }
        assert_eq!(failed, fails, "rate {rate}, fewer is worse: {is_decrease}");
    }
}

/// The numbers of `docs/slis.md`.
#[test]
fn memory_of_an_sli() {
    use crate::stats::EProcess;
    let remembered = size_of::<MeasureMemory>();
    assert!(remembered <= 320, "{remembered}");
    // The process, its copy before the log, and that of what no FAIL reads.
    let evidence = 3 * size_of::<EProcess>();
    assert!(evidence <= 1_024, "{evidence}");
    let entry = size_of::<((u8, Option<crate::model::SeriesId>), crate::window::MeasureCounts)>();
    assert!(entry <= 80, "{entry}");
}
