//! The same rule for requests that are told apart by dimensions: which parts of an operation stand on their own, which
//! regions may decide, and every parameter of the whole, of its parts and of each value are fixed before the counts of
//! the slot are read; what is split is fixed even before its totals are.

use super::*;
use crate::verdict::cohort::CohortJudges;
use crate::verdict::split::PartKey;

const REGION: &str = "cloud.region";
const CLIENT: &str = "client.class";
const OPERATIONS: usize = 2;
const REGIONS: usize = 3;
const CLIENTS: usize = 2;

/// Requests of one operation in one combination of values: how many a second, and when there are any.
#[derive(Debug, Clone)]
struct Source {
    rates: [f64; 2],
    present: std::ops::Range<i64>,
}

/// One version in one slot, by operation, region and client.
#[derive(Debug, Clone, Default)]
struct Requests {
    warm: BTreeMap<[usize; 3], Cell>,
    old: BTreeMap<[usize; 3], Cell>,
    young: BTreeMap<[usize; 3], Counts>,
}

fn labels([_, region, client]: [usize; 3]) -> Vec<Arc<str>> {
    let mut labels: Vec<Arc<str>> = vec![
        cohort_label(REGION, &format!("region-{region}")).into(),
        cohort_label(CLIENT, &format!("client-{client}")).into(),
    ];
    labels.push(joint_label(&labels).into());
    labels
}

impl Requests {
    /// The whole, and its cohorts.
    fn arm(&self) -> (Arm, Cells) {
        let (mut arm, mut before) = (Arm { status_seen: true, ..Arm::default() }, Cells::new());
        let name = |key: &[usize; 3]| Arc::<str>::from(format!("GET /{}", key[0]));
        for (key, cell) in &self.warm {
            arm.warm.entry(name(key)).or_default().merge(cell);
        }
        for (key, cell) in &self.old {
            before.entry(name(key)).or_default().merge(cell);
        }
        self.young.values().for_each(|counts| arm.young.merge(counts));
        count_instances(&mut arm);
        let keys = self.warm.keys().chain(self.old.keys()).chain(self.young.keys());
        for key in keys.collect::<std::collections::BTreeSet<_>>() {
            for (i, label) in labels(*key).into_iter().enumerate() {
                let one = arm.cohorts.entry(label).or_default();
                one.is_joint = i == 2;
                one.arm.status_seen = true;
                // An instance counts whole in each cohort.
                one.arm.instances.clone_from(&arm.instances);
                if let Some(cell) = self.warm.get(key) {
                    one.arm.warm.entry(name(key)).or_default().merge(cell);
                }
                if let Some(cell) = self.old.get(key) {
                    one.started_before.entry(name(key)).or_default().merge(cell);
                }
                self.young.get(key).into_iter().for_each(|counts| one.arm.young.merge(counts));
            }
        }
        (arm, before)
    }

    /// Others with the same totals.
    fn changed(&self, rng: &mut Rng, change: Change) -> Self {
        let mut other = self.clone();
        let cells = other.warm.values_mut().chain(other.old.values_mut());
        let groups = cells.flat_map(|cell| &mut cell.groups);
        groups
            .chain(other.young.values_mut())
            .for_each(|counts| redraw(rng, counts, None, change.outcomes, change.latencies));
        other
    }
}

fn input([candidate, baseline]: &[Requests; 2]) -> SlotInput {
    let (baseline, started_before) = baseline.arm();
    SlotInput { candidate: candidate.arm().0, baseline, started_before }
}

/// Traffic of a service: the candidate begins, and its combinations of values come and go.
struct Traffic {
    rng: Rng,
    sources: BTreeMap<[usize; 3], Source>,
    candidate_from: i64,
    warmup_s: i64,
}

impl Traffic {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut sources = BTreeMap::new();
        for i in 0..OPERATIONS * REGIONS * CLIENTS {
            let key = [i % OPERATIONS, i / OPERATIONS % REGIONS, i / OPERATIONS / REGIONS];
            let rate = |rng: &mut Rng| [0.04, 0.15, 0.8][rng.usize(0..3)];
            // Some come late, and some end so early that they are thin again before the end.
            let from = if rng.u8(..) < 60 { rng.i64(60..120) } else { 0 };
            let until = if rng.u8(..) < 100 { from + 60 } else { i64::MAX };
            let source = Source { rates: [rate(&mut rng), rate(&mut rng)], present: from..until };
            sources.insert(key, source);
        }
        let candidate_from = rng.i64(0..40);
        Self { rng, sources, candidate_from, warmup_s: if seed.is_multiple_of(2) { 0 } else { 20 } }
    }

    fn slot(&mut self, i: i64) -> [Requests; 2] {
        let mut both = [Requests::default(), Requests::default()];
        let rng = &mut self.rng;
        for (key, source) in self.sources.iter().filter(|(_, source)| source.present.contains(&i)) {
            for side in [0, 1] {
                let age = i - self.candidate_from;
                let half = source.rates[side] / 2.0;
                let cell = Cell { groups: [counts(rng, half), counts(rng, half)], bounds: None };
                if cell.requests() == 0 || (side == 0 && age < 0) {
                    continue;
                }
                match side {
                    0 if age < self.warmup_s => drop(both[0].young.insert(*key, cell.merged())),
                    1 if (0..5).contains(&age) && rng.bool() => drop(both[1].old.insert(*key, cell)),
                    _ => drop(both[side].warm.insert(*key, cell)),
                }
            }
        }
        both
    }
}

#[derive(Debug, Clone)]
struct Divided {
    policy: Policy,
    memory: Memory,
    judge: Judge,
    cohorts: CohortJudges,
}

impl Divided {
    fn new(warmup_s: i64) -> Self {
        let dimension = |attribute: &str| Dimension { attribute: attribute.into(), values: 8 };
        let policy = Policy {
            warmup_s,
            dimensions: Arc::new(vec![dimension(REGION), dimension(CLIENT)]),
            regions: Some(Regions { attribute: REGION.into(), action: RegionAction::Fail }),
            ..Policy::default()
        };
        let judge = Judge::new(policy.clone(), Timing::default());
        Self { policy, memory: Memory::default(), judge, cohorts: CohortJudges::default() }
    }

    fn step(&mut self, t: Slot, input: &SlotInput) {
        let present = !input.baseline.is_silent() || !input.started_before.is_empty();
        self.memory.begin_of(t, present, &input.baseline);
        self.cohorts.slot(
            (crate::model::Source::Spans, t),
            (&self.policy, (None, 0)),
            Context::default(),
            &self.memory,
            input,
        );
        self.judge.slot(t, &self.memory, input);
        self.memory.end(t, &with_old(&input.baseline.warm, &input.started_before), &input.baseline);
    }

    /// The whole, and each value.
    fn judges(&self) -> impl Iterator<Item = (&str, &Judge)> {
        self.cohorts.judges().chain([("", &self.judge)])
    }

    fn split(&self) -> Vec<&PartKey> {
        let parts = self.judge.parts.iter();
        parts.filter(|(_, part)| part.is_split).map(|(key, _)| key).collect()
    }

    /// What slot `t` added to the logs, by judge.
    fn logged(&self, t: Slot) -> Vec<(String, Vec<Logged>)> {
        let of = |judge: &Judge| {
            let logs = sets(judge).flat_map(|set| set.log().iter().rev().take_while(|l| l.slot == t));
            logs.cloned().collect()
        };
        self.judges().map(|(label, judge)| (label.to_owned(), of(judge))).collect()
    }

    /// What was decided for the slot beside the terms.
    fn decisions(&self) -> Vec<impl PartialEq + std::fmt::Debug> {
        let one = |(label, judge): (&str, &Judge)| {
            (
                (label.to_owned(), judge.gone, judge.renamed(), judge.first, judge.settling.from),
                judge.weights.clone(),
                judge.spread,
                judge.requests,
                self.cohorts.region_labels().to_vec(),
            )
        };
        self.judges().map(one).collect()
    }
}

const SLOTS: i64 = 420;

/// Scenario: outcomes and latencies of a slot are others, in the whole and in every cohort. Guarantees: what is split,
/// which regions may decide, and every parameter of every judge are the same.
#[test]
fn no_cohort_reads_the_slot_that_it_judges() {
    let (mut terms, mut of_cohorts, mut of_parts) = (0, 0, 0);
    for seed in 0..6 {
        let mut traffic = Traffic::new(seed);
        let mut world = Divided::new(traffic.warmup_s);
        let rng = &mut Rng::with_seed(seed ^ 1);
        for i in 0..SLOTS {
            let (t, slot) = (T0 + i, traffic.slot(i));
            let mut other = world.clone();
            world.step(t, &input(&slot));
            let change = CHANGES[i as usize % CHANGES.len()];
            let mut changed = slot;
            for (side, is_changed) in [change.candidate, change.baseline].into_iter().enumerate() {
                if is_changed {
                    changed[side] = changed[side].changed(rng, change);
                }
            }
            other.step(t, &input(&changed));
            assert_eq!(world.decisions(), other.decisions(), "seed {seed}, slot {i}");
            assert_eq!(world.split(), other.split(), "seed {seed}, slot {i}");
            let (a, b) = (world.logged(t), other.logged(t));
            assert_eq!(a.len(), b.len());
            for ((label, a), (other, b)) in a.iter().zip(&b) {
                assert_eq!(label, other);
                check(change, a, b, &format!("seed {seed}, slot {i}, {label}")).unwrap();
                terms += a.len();
                of_cohorts += if label.is_empty() { 0 } else { a.len() };
            }
            of_parts += world.split().len();
        }
    }
    assert!(terms > 10_000 && of_cohorts > 1_000 && of_parts > 1_000, "{terms} {of_cohorts} {of_parts}");
}

/// Scenario: a slot is another altogether, its totals too, and so is all that comes after it for ten seconds. Guarantees:
/// what is split in it, and which regions may decide, was fixed before it; ten seconds later it may differ.
#[test]
fn what_is_split_in_a_slot_was_fixed_before_it() {
    let (mut became_split, mut became_pooled, mut differed) = (0, 0, 0);
    for seed in 0..6 {
        let (mut traffic, mut others) = (Traffic::new(seed), Traffic::new(seed ^ 0x77));
        others.candidate_from = traffic.candidate_from;
        let mut world = Divided::new(traffic.warmup_s);
        for i in 0..SLOTS {
            let t = T0 + i;
            let before = world.clone();
            world.step(t, &input(&traffic.slot(i)));
            became_split += world.split().iter().filter(|key| !before.split().contains(key)).count();
            became_pooled += before.split().iter().filter(|key| !world.split().contains(key)).count();
            let mut other = before;
            // More of it than any window needs.
            let mut slot = others.slot(i);
            let cells = slot.iter_mut().flat_map(|one| one.warm.values_mut());
            cells.flat_map(|cell| &mut cell.groups).for_each(|counts| counts.requests += 40);
            other.step(t, &input(&slot));
            assert_eq!(world.split(), other.split(), "seed {seed}, slot {i}");
            if world.judge.first == other.judge.first {
                assert_eq!(world.cohorts.region_labels(), other.cohorts.region_labels(), "slot {i}");
            }
            if i % 60 == 30 {
                let mut world = world.clone();
                for j in 1..=10 {
                    world.step(t + j, &SlotInput::default());
                    other.step(t + j, &SlotInput::default());
                }
                differed += usize::from(world.split() != other.split());
            }
        }
    }
    assert!(
        became_split > 10 && became_pooled > 3 && differed > 3,
        "{became_split} {became_pooled} {differed}"
    );
}
