//! Two witnesses, one verdict: with spans only a panel is its judge; with both each has half of alpha; and what
//! one source shows keeps the other from taking its own silence for the version's.

use fastrand::Rng;

use super::*;
use crate::model::snapshot::{Reader, Snapshot, Writer};
use crate::verdict::{Arm, Cell, Counts, Evidence, Flag, InstanceCounts, Sli, Timing};

/// A multiple of the slot of metrics.
const T0: Slot = 1_500_000;
const SLOT_S: i64 = 15;

/// What one version does each second.
#[derive(Debug, Clone, Copy)]
struct Law {
    rate: u64,
    errors: f64,
}

/// Two instances that serve `rate` requests a second for `seconds`.
fn arm(rng: &mut Rng, law: Law, seconds: i64) -> Arm {
    let mut arm = Arm { status_seen: true, ..Arm::default() };
    let mut cell = Cell::default();
    for (ordinal, group) in cell.groups.iter_mut().enumerate() {
        let requests = law.rate * seconds as u64 / 2;
        let bad = (0..requests).filter(|_| rng.f64() < law.errors).count() as u64;
        // An exponential tail of half an octave.
        let mut bucket = || -120 - (16.0 * (1.0 - rng.f64()).ln()) as i16;
        let latency = (0..requests).map(|_| (bucket(), 1)).collect();
        *group = Counts { requests, bad, client_errors: 0, latency };
        arm.instances.push(InstanceCounts {
            ordinal: ordinal as u32,
            requests,
            bad,
            ..InstanceCounts::default()
        });
    }
    if cell.requests() > 0 {
        arm.warm.insert("GET /".into(), cell);
    }
    arm
}

/// A service that sends spans each second and metrics every 15 s.
struct World {
    rng: Rng,
    t: Slot,
    spans: Memory,
    metrics: Option<Memory>,
    panel: Option<Panel>,
}

/// What each version sends in a second; `None` for nothing at all.
#[derive(Debug, Clone, Copy)]
struct Second {
    spans: [Option<Law>; 2],
    metrics: [Option<Law>; 2],
}

const WELL: Law = Law { rate: 40, errors: 0.001 };
const ILL: Law = Law { rate: 40, errors: 0.2 };

impl World {
    fn new(with_metrics: bool) -> Self {
        Self {
            rng: Rng::with_seed(7),
            t: T0,
            spans: Memory::default(),
            metrics: with_metrics.then(|| Memory::new(Timing::of_slot(SLOT_S))),
            panel: None,
        }
    }

    fn memories(&self) -> Memories<'_> {
        Memories { spans: Some(&self.spans), metrics: self.metrics.as_ref() }
    }

    fn deploy(&mut self) {
        self.panel =
            Some(Panel::new(Policy { warmup_s: 0, min_pass_s: 60, ..Policy::default() }, &self.memories()));
    }

    fn input(&mut self, [candidate, baseline]: [Option<Law>; 2], seconds: i64) -> SlotInput {
        let mut one = |law: Option<Law>| law.map(|law| arm(&mut self.rng, law, seconds)).unwrap_or_default();
        SlotInput { candidate: one(candidate), baseline: one(baseline), ..SlotInput::default() }
    }

    fn run(&mut self, seconds: i64, second: Second) {
        for _ in 0..seconds {
            let input = self.input(second.spans, 1);
            one(&mut self.spans, &mut self.panel, Source::Spans, self.t, &input);
            self.t += 1;
            if self.t % SLOT_S == 0 && self.metrics.is_some() {
                let input = self.input(second.metrics, SLOT_S);
                if let Some(memory) = &mut self.metrics {
                    one(memory, &mut self.panel, Source::Metrics, self.t - SLOT_S, &input);
                }
            }
        }
    }

    fn evidence(&self) -> Evidence {
        self.panel.as_ref().unwrap().evidence(&self.memories())
    }

    fn verdict(&self) -> Verdict {
        self.panel.as_ref().unwrap().verdict(&self.memories())
    }
}

fn one(memory: &mut Memory, panel: &mut Option<Panel>, source: Source, t: Slot, input: &SlotInput) {
    memory.begin(t, !input.baseline.is_silent());
    if let Some(panel) = panel {
        panel.slot(source, t, memory, input);
    }
    memory.end(t, &input.baseline.warm, &input.baseline);
}

const fn both(candidate: Law) -> Second {
    Second { spans: [Some(candidate), Some(WELL)], metrics: [Some(candidate), Some(WELL)] }
}

const BEFORE: Second = Second { spans: [None, Some(WELL)], metrics: [None, Some(WELL)] };
const NOTHING: [Option<Law>; 2] = [None, None];

/// Scenario: spans only. Guarantees: evidence, verdicts and the state are the judge's, also in the watch.
#[test]
fn with_spans_only_a_panel_is_its_judge() {
    for candidate in [WELL, ILL] {
        let mut world = World::new(false);
        world.run(120, BEFORE);
        world.deploy();
        let policy = world.panel.as_ref().unwrap().policy.clone();
        let mut judge = Judge::new(policy, Timing::default());
        for i in 0..400 {
            let input = world.input([Some(candidate).filter(|_| i > 5), Some(WELL)], 1);
            let (t, mut panel) = (world.t, world.panel.take().unwrap());
            world.spans.begin(t, true);
            judge.slot(t, &world.spans, &input);
            panel.slot(Source::Spans, t, &world.spans, &input);
            if i == 300 {
                judge.watch();
                panel.watch();
            }
            let memories = Memories { spans: Some(&world.spans), metrics: None };
            assert_eq!(panel.verdict(&memories), judge.verdict(&world.spans), "second {i}");
            let (ours, theirs) = (panel.decisive_evidence(&memories), judge.decisive_evidence(&world.spans));
            assert_eq!(ours, theirs, "second {i}");
            assert_eq!(ours.ln_e_bar.to_bits(), theirs.ln_e_bar.to_bits(), "second {i}");
            assert_eq!((panel.degraded(), panel.first_slot()), (judge.degraded(), judge.first_slot()));
            assert_eq!(panel.judge(Source::Spans), Some(&judge));
            world.panel = Some(panel);
            world.spans.end(t, &input.baseline.warm, &input.baseline);
            world.t += 1;
        }
    }
}

/// Scenario: both sources of both versions, the candidate well or ill. Guarantees: half of alpha each, one verdict,
/// the spans' totals, and the evidence says where each line comes from.
#[test]
fn two_sources_have_half_of_alpha_each() {
    for (candidate, want) in [(WELL, Verdict::Pass), (ILL, Verdict::Fail)] {
        let mut world = World::new(true);
        world.run(300, BEFORE);
        world.deploy();
        world.run(if candidate.errors > 0.1 { 90 } else { 900 }, both(candidate));
        assert_eq!(world.verdict(), want);
        let evidence = world.evidence();
        assert_eq!((evidence.required, evidence.slot_seconds), (Source::Spans, Some(SLOT_S)));
        let weight =
            |source| evidence.slis.iter().filter(|e| e.source == source).map(|e| e.weight).sum::<f64>();
        assert!((weight(Source::Spans) - 0.5 * 0.95).abs() < 1e-9, "{}", weight(Source::Spans));
        assert!((weight(Source::Metrics) - 0.5 * 0.95).abs() < 1e-9, "{}", weight(Source::Metrics));
        for source in Source::ALL {
            assert!(evidence.service_of(source, Sli::ErrorRate).unwrap().requests[0] > 500);
        }
        assert_eq!(evidence.service(Sli::ErrorRate).unwrap().source, Source::Spans);
        assert!((evidence.span_share.unwrap() - 1.0).abs() < 0.01 && !evidence.has(Flag::Sampled));
        // The average is the weighted sum of both.
        let sum: f64 = evidence.slis.iter().map(|e| e.weight * e.ln_e.exp()).sum();
        assert!((evidence.ln_e_bar - sum.ln()).abs() < 1e-9, "{} {}", evidence.ln_e_bar, sum.ln());
    }
}

/// Scenario: metrics only. Guarantees: all of alpha; a verdict; weights not before two export intervals of both.
#[test]
fn metrics_alone_are_judged() {
    let only = |candidate| Second { spans: NOTHING, metrics: [candidate, Some(WELL)] };
    for (candidate, want) in [(WELL, Verdict::Pass), (ILL, Verdict::Fail)] {
        let mut world = World::new(true);
        world.run(300, only(None));
        world.deploy();
        assert!(world.panel.as_ref().unwrap().judge(Source::Spans).is_none());
        // No slots of spans are closed where there are none.
        let metrics = |world: &mut World, seconds: i64| {
            for _ in 0..seconds / SLOT_S {
                world.t += SLOT_S;
                let input = world.input([Some(candidate), Some(WELL)], SLOT_S);
                let t = world.t - SLOT_S;
                if let Some(memory) = &mut world.metrics {
                    one(memory, &mut world.panel, Source::Metrics, t, &input);
                }
            }
        };
        metrics(&mut world, 2 * SLOT_S);
        assert!(!world.panel.as_ref().unwrap().judge(Source::Metrics).unwrap().is_weighed());
        metrics(&mut world, SLOT_S);
        assert!(world.panel.as_ref().unwrap().judge(Source::Metrics).unwrap().is_weighed());
        metrics(&mut world, if want == Verdict::Fail { 45 } else { 900 });
        assert_eq!(world.verdict(), want);
        assert_eq!(world.evidence().required, Source::Metrics);
    }
}

/// Scenario: metrics come only after the candidate. Guarantees: they are shown with a weight of 0.
#[test]
fn metrics_that_come_later_decide_nothing() {
    let mut world = World::new(true);
    world.run(300, Second { metrics: NOTHING, ..BEFORE });
    world.deploy();
    world.run(60, Second { metrics: NOTHING, ..both(WELL) });
    world.run(600, Second { metrics: [Some(ILL), Some(WELL)], ..both(WELL) });
    assert_ne!(world.verdict(), Verdict::Fail);
    let evidence = world.evidence();
    let line = evidence.service_of(Source::Metrics, Sli::ErrorRate).unwrap();
    assert!(line.ln_e > 20.0 && line.weight == 0.0, "{line:?}");
}

/// Scenario: nine of ten spans of both versions are dropped by head sampling. Guarantees: the verdict says so and a
/// PASS rests on the metrics.
#[test]
fn sampled_spans_leave_the_pass_to_the_metrics() {
    let few = Law { rate: 4, ..WELL };
    let sampled = Second { spans: [Some(few), Some(few)], ..both(WELL) };
    let mut world = World::new(true);
    world.run(300, Second { spans: [None, Some(few)], ..BEFORE });
    world.deploy();
    world.run(1200, sampled);
    let evidence = world.evidence();
    assert!(evidence.has(Flag::Sampled) && evidence.required == Source::Metrics);
    assert!((evidence.span_share.unwrap() - 0.1).abs() < 0.01, "{:?}", evidence.span_share);
    assert_eq!(world.verdict(), Verdict::Pass);
    let pass = |source| world.evidence().service_of(source, Sli::ErrorRate).unwrap().ln_e_pass.unwrap();
    assert!(pass(Source::Spans) < 3.0, "a tenth of the requests says too little: {}", pass(Source::Spans));
    assert!(pass(Source::Metrics) >= 3.0);
}

/// Scenario: one source stops, the other goes on. Guarantees: nobody takes that for the end of a version; when
/// both stop, it is one.
#[test]
fn an_outage_of_one_source_is_not_the_versions() {
    let quiet = [
        ("metrics", Second { metrics: NOTHING, ..both(WELL) }),
        ("spans", Second { spans: NOTHING, ..both(WELL) }),
    ];
    for (name, second) in quiet {
        let mut world = World::new(true);
        world.run(300, BEFORE);
        world.deploy();
        world.run(120, both(WELL));
        world.run(400, second);
        let panel = world.panel.as_ref().unwrap();
        for source in Source::ALL {
            assert!(!panel.judge(source).unwrap().baseline_gone(), "{name} stopped: {source:?}");
        }
        let flags = panel.flags(&world.memories());
        assert!(!flags.contains(&Flag::CandidateSilent), "{name} stopped: {flags:?}");
        assert!(!flags.contains(&Flag::RememberedBaseline), "{name} stopped: {flags:?}");
        // The baseline ends in earnest.
        let candidate = [Some(WELL), None];
        world.run(400, Second { spans: candidate, metrics: candidate });
        let panel = world.panel.as_ref().unwrap();
        for source in Source::ALL {
            assert!(panel.judge(source).unwrap().baseline_gone(), "{source:?}");
        }
        assert!(panel.flags(&world.memories()).contains(&Flag::RememberedBaseline));
    }
}

/// Scenario: both fall silent for the candidate. Guarantees: it is silent.
#[test]
fn a_candidate_that_both_sources_miss_is_silent() {
    let mut world = World::new(true);
    world.run(300, BEFORE);
    world.deploy();
    world.run(120, both(WELL));
    world.run(120, BEFORE);
    assert!(world.panel.as_ref().unwrap().flags(&world.memories()).contains(&Flag::CandidateSilent));
}

/// Scenario: a late fail of the watch, by both sources. Guarantees: the sums are averaged as before it.
#[test]
fn the_watch_sums_over_both_sources() {
    let mut world = World::new(true);
    world.run(300, BEFORE);
    world.deploy();
    world.run(300, both(WELL));
    world.panel.as_mut().unwrap().watch();
    world.run(300, both(WELL));
    assert_eq!(world.verdict(), Verdict::Pending);
    let panel = world.panel.as_ref().unwrap();
    let sum: f64 = Source::ALL.iter().map(|s| 0.5 * panel.judge(*s).unwrap().ln_watch().exp()).sum();
    assert!((world.evidence().ln_e_bar - sum.ln()).abs() < 1e-9);
    world.run(180, both(ILL));
    assert_eq!(world.verdict(), Verdict::Fail);
}

/// Scenario: a restart in mid evaluation. Guarantees: all that follows is the same.
#[test]
fn a_snapshot_goes_on_as_if_nothing_had_happened() {
    let mut world = World::new(true);
    world.run(300, BEFORE);
    world.deploy();
    world.run(100, both(WELL));
    let mut out = Writer::with_header();
    world.panel.as_ref().unwrap().save(&mut out);
    let bytes = out.into_bytes();
    let mut reader = Reader::header(&bytes).unwrap();
    let panel = Panel::load(&mut reader).unwrap();
    assert!(reader.is_empty());
    let mut restored = World {
        rng: world.rng.clone(),
        t: world.t,
        spans: world.spans.clone(),
        metrics: world.metrics.clone(),
        panel: Some(panel),
    };
    for _ in 0..10 {
        world.run(20, both(WELL));
        restored.run(20, both(WELL));
        assert_eq!(world.evidence(), restored.evidence());
        assert_eq!(world.verdict(), restored.verdict());
    }
}
