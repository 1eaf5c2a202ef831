//! Before and after: what counts towards a fail and until when, with a memory that was frozen at the change.

use fastrand::Rng;

use super::*;
use crate::model::Source;
use crate::model::snapshot::{Reader, Snapshot, Writer};
use crate::verdict::{
    Arm, Cell, Counts, ExplainInput, Flag, InstanceCounts, Memories, Memory, Panel, Policy, SlotInput,
    Verdict, Waiting, explain,
};

/// Noon.
const T: Slot = 1_700_049_600;
/// Requests a second.
const RATE: u64 = 40;

/// What the service does in a second.
#[derive(Debug, Clone, Copy)]
struct Law {
    errors: f64,
    slower: i16,
    /// Share of requests of instances that are young.
    young: f64,
    instances: u32,
}

const WELL: Law = Law { errors: 0.001, slower: 0, young: 0.0, instances: 2 };
const ILL: Law = Law { errors: 0.05, ..WELL };

fn arm(rng: &mut Rng, law: Law) -> Arm {
    let mut arm = Arm { status_seen: true, ..Arm::default() };
    let young = (RATE as f64 * law.young) as u64;
    let mut counts = |requests: u64| {
        let bad = (0..requests).filter(|_| rng.f64() < law.errors).count() as u64;
        // An exponential tail of half an octave.
        let mut bucket = || -120 + law.slower - (16.0 * (1.0 - rng.f64()).ln()) as i16;
        Counts { requests, bad, client_errors: 0, latency: (0..requests).map(|_| (bucket(), 1)).collect() }
    };
    arm.young = counts(young);
    let mut cell = Cell::default();
    for ordinal in 0..law.instances {
        let one = counts((RATE - young) / u64::from(law.instances));
        let group = &mut cell.groups[ordinal as usize % 2];
        group.merge(&one);
        arm.instances.push(InstanceCounts {
            ordinal,
            requests: one.requests,
            bad: one.bad,
            ..Default::default()
        });
    }
    if cell.requests() > 0 {
        arm.warm.insert("POST /pay".into(), cell);
    }
    arm
}

/// A service with half an hour of memory, frozen at noon.
struct World {
    rng: Rng,
    memory: Memory,
    panel: Panel,
    t: Slot,
    fail: Option<Slot>,
    pass: Option<Slot>,
}

impl World {
    fn new(seed: u64, before: Law) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut memory = Memory::default();
        for t in T - 1800..T {
            let arm = arm(&mut rng, before);
            memory.begin(t, !arm.is_silent());
            memory.end(t, &arm.warm, &arm);
        }
        let policy = Policy::default();
        let memories = Memories { spans: Some(&memory), metrics: None };
        let panel = Panel::after(Change::new(T, policy.warmup_s), policy, &memories);
        Self { rng, memory, panel, t: T, fail: None, pass: None }
    }

    fn run(&mut self, seconds: i64, law: Option<Law>) {
        for _ in 0..seconds {
            let candidate = law.map(|law| arm(&mut self.rng, law)).unwrap_or_default();
            let input = SlotInput { candidate, ..SlotInput::default() };
            self.panel.slot(Source::Spans, self.t, &self.memory, &input);
            let memories = Memories { spans: Some(&self.memory), metrics: None };
            match self.panel.verdict(&memories) {
                Verdict::Fail => {
                    self.fail.get_or_insert(self.t - T);
                }
                Verdict::Pass => {
                    self.pass.get_or_insert(self.t - T);
                }
                Verdict::Pending | Verdict::Inconclusive => {}
            }
            self.t += 1;
        }
    }

    fn flags(&self) -> Vec<Flag> {
        self.panel.flags(&Memories { spans: Some(&self.memory), metrics: None })
    }
}

#[test]
fn a_fault_counts_for_five_minutes() {
    // Seconds before the fault; young share from the start; whether it fails, and whether it is degraded.
    for (name, well_s, young, fails, degrades) in [
        ("at once", 0, 0.0, true, false),
        ("two minutes later", 120, 0.0, true, false),
        ("after five minutes", 301, 0.0, false, true),
        ("after five minutes, instances restarted", 301, 0.3, true, false),
        ("after six minutes, instances restarted", 361, 0.3, false, true),
    ] {
        let mut world = World::new(1, WELL);
        world.run(well_s.min(60), Some(Law { young, ..WELL }));
        world.run(well_s - well_s.min(60), Some(WELL));
        world.run(240, Some(ILL));
        assert_eq!(world.fail.is_some(), fails, "{name}: {:?}", world.fail);
        assert!(fails || world.panel.degraded() == degrades, "{name}");
        assert!(world.fail.is_none_or(|s| s <= 361), "{name}: {:?}", world.fail);
        assert!(world.flags().contains(&Flag::RememberedBaseline), "{name}");
    }
}

#[test]
fn a_slower_service_fails_and_one_that_settles_does_not() {
    let mut world = World::new(2, WELL);
    world.run(120, Some(Law { slower: 64, ..WELL }));
    assert!(world.fail.is_some(), "four times as slow");
    // Restarted: its young requests are left out, and it is slow until its caches are warm.
    let mut world = World::new(3, WELL);
    for i in 0..120 {
        let young = if i < 60 { 1.0 } else { 0.0 };
        world.run(1, Some(Law { slower: 120 - i, young, ..WELL }));
    }
    world.run(900, Some(WELL));
    assert_eq!(world.fail, None);
    assert!(world.pass.is_some(), "{:?}", world.panel.warmup_left_s());
}

#[test]
fn without_any_change_it_passes_and_hardly_ever_fails() {
    let ends: Vec<[Option<Slot>; 2]> = (10..40)
        .map(|seed| {
            let mut world = World::new(seed, WELL);
            world.run(900, Some(WELL));
            [world.fail, world.pass]
        })
        .collect();
    assert!(ends.iter().filter(|end| end[0].is_some()).count() <= 1, "{ends:?}");
    assert!(ends.iter().filter(|end| end[1].is_some()).count() >= 20, "{ends:?}");
    assert!(ends.iter().all(|end| end[1].is_none_or(|s| s >= 300)), "{ends:?}");
}

#[test]
fn silence_is_neither_good_nor_bad() {
    let mut world = World::new(4, WELL);
    world.run(250, Some(WELL));
    world.run(600, None);
    assert_eq!((world.fail, world.pass), (None, None));
    assert!(world.flags().contains(&Flag::CandidateSilent));
    // Nothing is remembered: nothing is concluded, however bad it is.
    let mut world = World::new(5, WELL);
    world.memory = Memory::default();
    world.run(600, Some(Law { errors: 0.5, ..WELL }));
    assert_eq!((world.fail, world.pass, world.panel.degraded()), (None, None, false));
}

#[test]
fn one_instance_is_its_own_baseline_unless_it_was_restarted() {
    let one = Law { instances: 1, ..WELL };
    for (young, blocks) in [(0.0, false), (1.0, true)] {
        let mut world = World::new(6, one);
        world.run(60, Some(Law { young, ..one }));
        world.run(100, Some(one));
        assert_eq!(world.flags().contains(&Flag::SinglePod), blocks, "{young}");
    }
}

#[test]
fn it_goes_on_after_a_restart() {
    let mut world = World::new(7, WELL);
    world.run(100, Some(Law { young: 0.5, ..WELL }));
    let mut out = Writer::default();
    world.panel.save(&mut out);
    let bytes = out.into_bytes();
    let restored = Panel::load(&mut Reader::new(&bytes)).unwrap();
    assert!(restored.first_slot() == Some(T) && restored.warmup_left_s() == world.panel.warmup_left_s());
    world.panel = restored;
    world.run(230, Some(WELL));
    world.run(60, Some(ILL));
    assert!(world.fail.is_some(), "the restart of its instances was forgotten");
}

#[test]
fn its_words_say_since_when() {
    let mut world = World::new(8, WELL);
    world.run(60, Some(ILL));
    let memories = Memories { spans: Some(&world.memory), metrics: None };
    let mut evidence = world.panel.evidence(&memories);
    let change =
        ChangeEvidence { at: T, judged_from: T, remembered_until: T, remembered: world.memory.remembered() };
    let policy = Policy::default();
    let mut say = |verdict, waiting, change| {
        evidence.change = Some(change);
        let (baseline, evidence, policy) = (Some("v1"), &evidence, &policy);
        explain(&ExplainInput { candidate: "checkout", baseline, verdict, evidence, policy, waiting })
    };
    let failed = say(Verdict::Fail, Waiting::Evidence, change);
    assert!(
        failed.starts_with("checkout fails 5.1 % of requests since 12:00:00 UTC, 0.11 % before; 2,400 req"),
        "{failed}"
    );
    assert!(failed.contains(" before") && !failed.contains("went away"), "{failed}");
    let late = ChangeEvidence { judged_from: T + 40, remembered_until: T + 30, ..change };
    let pending = say(Verdict::Pending, Waiting::Evidence, late);
    assert!(pending.contains("what happened in the 40 s after 12:00:00 UTC is not judged"), "{pending}");
    assert!(pending.contains("holds 30 s of the time after it"), "{pending}");
    let waits = say(Verdict::Pending, Waiting::Change(T, 90.0), change);
    assert_eq!(
        waits,
        "Waits for 12:00:00 UTC, in 90 s; what checkout shows until then is what it is held against."
    );
}
