//! Cohorts in the core: what is thick enough to stand alone, what a shift of the mix is, how alpha is shared between the
//! whole and the regions, and that state outlives a restart.

use fastrand::Rng;

use super::*;
use crate::model::Source;
use crate::model::snapshot::{Reader, Snapshot, Writer};
use crate::verdict::{Cell, Flag, InstanceCounts, Memories, Panel, Verdict};

#[test]
fn a_part_is_thick_while_both_versions_had_twenty_requests_in_five_minutes() {
    let mut rolling = Rolling::default();
    for (t, requests) in [(100, [10, 30]), (105, [9, 0])] {
        rolling.add(t, requests);
    }
    assert!(!rolling.is_thick(110), "19 of the candidate");
    rolling.add(112, [1, 0]);
    assert!(rolling.is_thick(120));
    assert!(rolling.is_thick(400));
    assert!(!rolling.is_thick(415), "the first ten seconds have left the window");
    assert!(!rolling.is_empty());
    assert!(!rolling.is_thick(1_000) && rolling.is_empty());
}

#[test]
fn a_shift_names_the_value_whose_share_differs_most() {
    let counts = [("eu", [60, 80]), ("us", [40, 20]), ("ap", [0, 0])];
    let shift = MixShift::of("region", counts.into_iter()).unwrap();
    assert!((shift.distance - 0.2).abs() < 1e-12);
    assert!(shift.value == "eu" || shift.value == "us");
    assert_eq!(MixShift::of("region", [("eu", [5, 0])].into_iter()), None);
}

fn dimension() -> Arc<Vec<Dimension>> {
    Arc::new(vec![Dimension { attribute: "region".into(), values: 8 }])
}

fn policy(action: RegionAction) -> Policy {
    let regions = Some(Regions { attribute: "region".into(), action });
    Policy { warmup_s: 0, min_pass_s: 60, dimensions: dimension(), regions, ..Policy::default() }
}

/// One second of a version: requests and share of failed ones by region.
fn arm(rng: &mut Rng, regions: &[(&str, u64, f64)]) -> Arm {
    let mut arm = Arm { status_seen: true, ..Arm::default() };
    for (i, (region, rate, errors)) in regions.iter().enumerate() {
        let mut cell = Cell::default();
        let mut one = CohortArm { is_joint: true, ..CohortArm::default() };
        for (group, counts) in cell.groups.iter_mut().enumerate() {
            counts.requests = rate / 2;
            counts.bad = (0..rate / 2).filter(|_| rng.f64() < *errors).count() as u64;
            let bucket = |rng: &mut Rng| -120 - (16.0 * (1.0 - rng.f64()).ln()) as i16;
            counts.latency = (0..rate / 2).map(|_| (bucket(rng), 1)).collect();
            let ordinal = (2 * i + group) as u32;
            let (requests, bad) = (counts.requests, counts.bad);
            let instance = InstanceCounts { ordinal, requests, bad, ..InstanceCounts::default() };
            arm.instances.push(instance);
            one.arm.instances.push(instance);
        }
        if cell.requests() > 0 {
            arm.warm.entry("GET /".into()).or_default().merge(&cell);
            one.arm.warm.insert("GET /".into(), cell);
            one.arm.status_seen = true;
            arm.cohorts.insert(cohort_label("region", region).into(), one);
        }
    }
    arm
}

struct World {
    /// Whether instances are named.
    is_named: bool,
    rng: Rng,
    t: Slot,
    memory: Memory,
    panel: Option<Panel>,
}

impl World {
    fn new() -> Self {
        Self { is_named: true, rng: Rng::with_seed(5), t: 1_500_000, memory: Memory::default(), panel: None }
    }

    fn memories(&self) -> Memories<'_> {
        Memories { spans: Some(&self.memory), metrics: None }
    }

    fn run(&mut self, seconds: i64, old: &[(&str, u64, f64)], new: &[(&str, u64, f64)]) -> Verdict {
        let mut verdict = Verdict::Pending;
        for _ in 0..seconds {
            let mut input = SlotInput {
                candidate: arm(&mut self.rng, new),
                baseline: arm(&mut self.rng, old),
                ..SlotInput::default()
            };
            if !self.is_named {
                input.candidate.instances.clear();
                input.baseline.instances.clear();
            }
            self.memory.begin_of(self.t, !input.baseline.is_silent(), &input.baseline);
            if let Some(panel) = &mut self.panel {
                panel.slot(Source::Spans, self.t, &self.memory, &input);
            }
            self.memory.end(self.t, &input.baseline.warm, &input.baseline);
            self.t += 1;
            if let Some(panel) = &self.panel {
                verdict = panel.verdict(&self.memories());
                if verdict != Verdict::Pending {
                    break;
                }
            }
        }
        verdict
    }
}

const OLD: [(&str, u64, f64); 3] = [("eu", 20, 0.005), ("us", 20, 0.005), ("(none)", 10, 0.005)];

/// Scenario: one region fails a tenth of its requests. Guarantees: with `fail` it fails for that region, at a threshold
/// of ln(2R/alpha) where R are the regions that the baseline had shown, requests without one not among them; with
/// `report` a region alone fails nothing, but is told and blocks a PASS.
#[test]
fn half_of_alpha_is_for_all_regions_together() {
    for action in RegionAction::ALL {
        let mut world = World::new();
        world.run(120, &OLD, &[]);
        world.panel = Some(Panel::new(policy(action), &world.memories()));
        let new = [("eu", 20, 0.005), ("us", 4, 0.2), ("(none)", 10, 0.005), ("ap", 4, 0.005)];
        let verdict = world.run(600, &OLD, &new);
        let evidence = world.panel.as_ref().unwrap().evidence(&world.memories());
        let regions = evidence.regions.as_ref().unwrap();
        assert_eq!(regions.judged, 2, "ap came later, (none) is no region: {regions:?}");
        let us = evidence.cohorts.iter().find(|one| one.value == "us").unwrap();
        assert!((us.threshold - 400f64.ln()).abs() < 1e-9, "{us:?}");
        let surcharge = if action == RegionAction::Fail { 2.0_f64 } else { 1.0 };
        assert!((evidence.fail_threshold - (100.0 * surcharge).ln()).abs() < 1e-9);
        if action == RegionAction::Fail {
            assert_eq!(verdict, Verdict::Fail);
            assert!(us.is_worse, "{us:?}");
            assert_eq!(regions.scope(), ["region=us"]);
        } else {
            assert_eq!(regions.scope(), ["all"]);
            assert_ne!(verdict, Verdict::Pass);
            assert_eq!(evidence.has(Flag::CohortWorse), us.ln_e >= us.threshold);
        }
        let mut out = Writer::default();
        (world.panel.clone(), world.memory.clone()).save(&mut out);
        let bytes = out.into_bytes();
        let again: (Option<Panel>, Memory) = Snapshot::load(&mut Reader::new(&bytes)).unwrap();
        let mut out = Writer::default();
        again.save(&mut out);
        assert!(out.into_bytes() == bytes, "the same after a restart");
        let (panel, memory) = (again.0.unwrap(), again.1);
        let memories = Memories { spans: Some(&memory), metrics: None };
        assert_eq!(panel.evidence(&memories), evidence);
    }
}

/// Scenario: the same requests with and without cohorts, under a policy without dimensions. Guarantee: the same
/// evidence to the bit.
#[test]
fn without_dimensions_cohorts_change_nothing() {
    let run = |with: bool| {
        let mut world = World::new();
        let plain = Policy { warmup_s: 0, ..Policy::default() };
        let mut input = || {
            let mut one = SlotInput {
                candidate: arm(&mut world.rng, &OLD),
                baseline: arm(&mut world.rng, &OLD),
                ..SlotInput::default()
            };
            if !with {
                one.candidate.cohorts.clear();
                one.baseline.cohorts.clear();
            }
            one
        };
        let (mut memory, mut judge) = (Memory::default(), Judge::new(plain, Default::default()));
        let mut bits = Vec::new();
        for t in 0..200 {
            let input = input();
            memory.begin_of(t, true, &input.baseline);
            judge.slot(t, &memory, &input);
            memory.end(t, &input.baseline.warm, &input.baseline);
            bits.push(judge.ln_e_bar().to_bits());
        }
        bits
    };
    assert_eq!(run(true), run(false));
}

/// Scenario: in each of two regions the candidate serves mostly the kind of client that fails more requests for both;
/// regions may fail the version. Guarantee: a region is compared within kinds of clients, so that none fails.
#[test]
fn a_region_is_compared_within_the_other_dimensions() {
    let two = Arc::new(vec![
        Dimension { attribute: "region".into(), values: 8 },
        Dimension { attribute: "client".into(), values: 8 },
    ]);
    let split = |rng: &mut Rng, [web, batch]: [u64; 2]| {
        let mut all = Arm { status_seen: true, ..Arm::default() };
        for region in ["eu", "us"] {
            let one = arm(rng, &[("web", web, 0.002), ("batch", batch, 0.06)]);
            for (label, cohort) in one.cohorts {
                let client = cohort_label("client", cohort_parts(&label).1);
                let each: [Arc<str>; 2] = [cohort_label("region", region).into(), client.into()];
                let joint = Arc::from(joint_label(&each));
                for label in each.iter().chain([&joint]) {
                    let one = all.cohorts.entry(Arc::clone(label)).or_default();
                    one.is_joint = *label == joint;
                    one.arm.status_seen = true;
                    for (operation, cell) in &cohort.arm.warm {
                        one.arm.warm.entry(Arc::clone(operation)).or_default().merge(cell);
                    }
                }
            }
            for (operation, cell) in &one.warm {
                all.warm.entry(Arc::clone(operation)).or_default().merge(cell);
            }
        }
        all
    };
    let mut world = World::new();
    for i in 0..600 {
        let t = world.t + i;
        let begun = i >= 180;
        if i == 180 {
            let policy = Policy { dimensions: Arc::clone(&two), ..policy(RegionAction::Fail) };
            world.panel = Some(Panel::new(policy, &world.memories()));
        }
        let input = SlotInput {
            candidate: if begun { split(&mut world.rng, [4, 20]) } else { Arm::default() },
            baseline: split(&mut world.rng, [20, 4]),
            ..SlotInput::default()
        };
        world.memory.begin_of(t, true, &input.baseline);
        if let Some(panel) = &mut world.panel {
            panel.slot(Source::Spans, t, &world.memory, &input);
            assert_ne!(
                panel.verdict(&Memories { spans: Some(&world.memory), metrics: None }),
                Verdict::Fail,
                "{i}"
            );
        }
        world.memory.end(t, &input.baseline.warm, &input.baseline);
    }
    let evidence = world.panel.as_ref().unwrap().evidence(&world.memories());
    let eu = evidence.cohorts.iter().find(|one| one.value == "eu").unwrap();
    assert!(eu.ln_e < 1.0 && eu.requests[0] > 5_000, "{eu:?}");
    assert!(!evidence.has(Flag::CohortWorse));
}

/// Scenario: the candidate serves mostly the region that fails more requests for both. Guarantee: split by region that
/// is no fault; pooled it is one.
#[test]
fn parts_are_compared_within_themselves() {
    let old = [("near", 40, 0.002), ("far", 8, 0.06)];
    let new = [("near", 4, 0.002), ("far", 40, 0.06)];
    let verdict = |dimensions| {
        // Named instances of one region each would widen the margin by how far they differ.
        let mut world = World { is_named: false, ..World::new() };
        world.run(120, &old, &[]);
        let policy = Policy { warmup_s: 0, dimensions, ..Policy::default() };
        world.panel = Some(Panel::new(policy, &world.memories()));
        world.run(400, &old, &new)
    };
    assert_eq!(verdict(Arc::default()), Verdict::Fail);
    assert_ne!(verdict(dimension()), Verdict::Fail);
}
