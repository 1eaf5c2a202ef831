//! Scopes in the core: which go together, which can be told apart, that a part of the memory is what was served of it,
//! and that a fault is found inside a scope and not outside.

use fastrand::Rng;

use super::*;
use crate::model::Source;
use crate::model::snapshot::{Reader, Snapshot, Writer};
use crate::verdict::{
    Cell, Change, Counts, Dimension, InstanceCounts, Memories, Panel, SlotInput, Verdict, joint_label,
};

const T: Slot = 1_700_049_600;
const REGIONS: [&str; 2] = ["eu", "us"];
const OPERATIONS: [&str; 2] = ["GET /", "POST /pay"];
/// Requests a second of each operation in each region.
const RATE: u64 = 20;

fn scope(pairs: &[(&str, &str)]) -> Scope {
    Scope::new(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
}

fn policy(dimensions: &[&str]) -> Policy {
    let one = |name: &&str| Dimension { attribute: (*name).into(), values: 4 };
    Policy { dimensions: Arc::new(dimensions.iter().map(one).collect()), ..Policy::default() }
}

#[test]
fn scopes_overlap_unless_an_attribute_differs() {
    let rows = [
        (&[][..], &[("region", "eu")][..], true),
        (&[("region", "eu")], &[("region", "eu")], true),
        (&[("region", "eu")], &[("region", "us")], false),
        (&[("region", "eu")], &[("operation", "GET /")], true),
        (&[("region", "eu"), ("operation", "GET /")], &[("operation", "POST /")], false),
        (&[("region", "eu"), ("operation", "GET /")], &[("region", "eu")], true),
    ];
    for (a, b, expected) in rows {
        assert_eq!(scope(a).overlaps(&scope(b)), expected, "{a:?} {b:?}");
        assert_eq!(scope(b).overlaps(&scope(a)), expected, "{b:?} {a:?}");
    }
}

#[test]
fn a_scope_names_the_operation_and_one_dimension_or_all() {
    let three = ["region", "tier", "client"];
    for (pairs, dimensions, said) in [
        (&[("operation", "GET /")][..], &[][..], None),
        (&[("region", "eu")], &three[..], None),
        (&[("region", "eu"), ("tier", "a"), ("client", "b")], &three, None),
        (&[("region", "eu"), ("tier", "a"), ("operation", "GET /")], &three[..2], None),
        (&[("region", "eu"), ("tier", "a")], &three, Some("2 of the 3 dimensions")),
        (&[("zone", "eu")], &three, Some("it may name operation, region, tier, client. To add \"zone\"")),
        (&[("region", "eu")], &[], Some("it may name operation. To add")),
    ] {
        let answer = scope(pairs).check(&policy(dimensions)).map_err(|error| error.to_string());
        match said {
            None => assert_eq!(answer, Ok(()), "{pairs:?}"),
            Some(said) => assert!(answer.as_ref().is_err_and(|e| e.contains(said)), "{pairs:?}: {answer:?}"),
        }
    }
}

/// One second in which each operation is served in each region, `ill` with more errors. Regions and tiers are told
/// apart; tier `a` is all there is.
fn arm(rng: &mut Rng, ill: impl Fn(&str, &str) -> bool) -> Arm {
    let mut arm = Arm { status_seen: true, ..Arm::default() };
    for (i, region) in REGIONS.iter().enumerate() {
        let mut one = CohortArm::default();
        for operation in OPERATIONS {
            let errors = if ill(region, operation) { 0.05 } else { 0.001 };
            let mut cell = Cell::default();
            for (group, counts) in cell.groups.iter_mut().enumerate() {
                let bucket = |rng: &mut Rng| -120 - (16.0 * (1.0 - rng.f64()).ln()) as i16;
                *counts = Counts {
                    requests: RATE / 2,
                    bad: (0..RATE / 2).filter(|_| rng.f64() < errors).count() as u64,
                    client_errors: 0,
                    latency: (0..RATE / 2).map(|_| (bucket(rng), 1)).collect(),
                };
                let ordinal = (2 * i + group) as u32;
                let (requests, bad) = (counts.requests, counts.bad);
                arm.instances.push(InstanceCounts { ordinal, requests, bad, ..Default::default() });
            }
            one.arm.instances.clone_from(&arm.instances);
            one.arm.warm.insert(operation.into(), cell.clone());
            arm.warm.entry(operation.into()).or_default().merge(&cell);
        }
        let each: [Arc<str>; 2] = [cohort_label("region", region).into(), cohort_label("tier", "a").into()];
        let joint = CohortArm { is_joint: true, ..one.clone() };
        arm.cohorts.insert(joint_label(&each).into(), joint);
        for label in each {
            let all = arm.cohorts.entry(label).or_default();
            for (operation, cell) in &one.arm.warm {
                all.arm.warm.entry(Arc::clone(operation)).or_default().merge(cell);
            }
            all.arm.instances.extend_from_slice(&one.arm.instances);
        }
    }
    arm
}

/// What is remembered at `T` of so many seconds.
fn remembered(rng: &mut Rng, seconds: Slot) -> Memory {
    let mut memory = Memory::default();
    for t in T - seconds..T {
        let arm = arm(rng, |_, _| false);
        memory.begin_of(t, true, &arm);
        memory.end(t, &arm.warm, &arm);
    }
    memory
}

#[test]
fn what_is_remembered_of_a_scope_is_what_was_served_of_it() {
    let memory = remembered(&mut Rng::with_seed(5), 200);
    let of = |pairs: &[(&str, &str)]| memory.within(&scope(pairs)).map(|part| part.remembered());
    let [errors, requests] = memory.remembered();
    let near = |part: Option<[f64; 2]>, share: f64| {
        let [_, served] = part.expect("it is remembered");
        assert!((served / (requests * share) - 1.0).abs() < 1e-6, "{part:?} {requests} {share}");
    };
    assert_eq!(of(&[]), Some([errors, requests]));
    near(of(&[("region", "eu")]), 0.5);
    near(of(&[("operation", "GET /")]), 0.5);
    near(of(&[("region", "eu"), ("tier", "a")]), 0.5);
    near(of(&[("tier", "a")]), 1.0);
    near(of(&[("region", "us"), ("tier", "a"), ("operation", "POST /pay")]), 0.25);
    // The failed requests of the parts are those of the whole.
    for parts in [["GET /", "POST /pay"].map(|o| [("operation", o)]), REGIONS.map(|r| [("region", r)])] {
        let sum: f64 = parts.iter().filter_map(|part| Some(of(part)?[0])).sum();
        assert!((sum / errors - 1.0).abs() < 1e-6, "{sum} {errors}");
    }
    // A part has thresholds and a level of its own: it can be held against on its own.
    let part = memory.within(&scope(&[("region", "eu"), ("operation", "GET /")])).unwrap();
    assert_eq!(part.frozen_thresholds().len(), 2, "of the operation, and pooled");
    assert!(part.latency_seconds().is_some());
    let (lately, last) = memory.lately_within(&scope(&[("region", "eu")]), T).unwrap();
    assert_eq!((lately, last), (60 * 2 * RATE, T - 1));
}

#[test]
fn what_was_never_seen_is_named() {
    let memory = remembered(&mut Rng::with_seed(6), 20);
    for (pairs, said) in [
        (&[("region", "ap")][..], "no request with region \"ap\" was seen, so there is nothing"),
        (&[("region", "ap")], "seen: eu, us"),
        (&[("operation", "GET /x"), ("region", "eu")], "operation \"GET /x\" was seen, so"),
        (&[("operation", "GET /x")], "seen: GET /, POST /pay"),
        (&[("zone", "1")], "seen: none"),
    ] {
        assert_eq!(memory.within(&scope(pairs)), None, "{pairs:?}");
        assert_eq!(memory.lately_within(&scope(pairs), T), None, "{pairs:?}");
        let error = scope(pairs).unseen(&memory).to_string();
        assert!(error.contains(said), "{pairs:?}: {error}");
    }
    let young = Memory::default();
    let error = scope(&[("operation", "GET /")]).unseen(&young).to_string();
    assert!(error.contains("nothing is remembered of GET / yet"), "{error}");
    let many: Vec<String> = (0..13).map(|i| i.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(named(&many), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 3 more");
}

/// Scenario: a reload took a third dimension from the policy, and requests are counted by three still. Guarantee: a scope of the
/// two that are left is not said to have been served by nobody.
#[test]
fn what_is_counted_by_more_dimensions_is_said_so() {
    let (mut rng, mut memory) = (Rng::with_seed(9), Memory::default());
    for t in T..T + 60 {
        let mut arm = arm(&mut rng, |_, _| false);
        let joint: Vec<_> = arm.cohorts.keys().filter(|label| is_joint(label)).cloned().collect();
        for label in joint {
            let mut each: Vec<Arc<str>> = labels_of_joint(&label).map(Arc::from).collect();
            each.push("zone=z".into());
            let one = arm.cohorts.remove(&label).unwrap();
            arm.cohorts.insert(joint_label(&each).into(), one);
        }
        memory.begin_of(t, true, &arm);
        memory.end(t, &arm.warm, &arm);
    }
    let wanted = scope(&[("region", "eu"), ("tier", "a")]);
    assert_eq!(memory.within(&wanted), None);
    let error = wanted.unseen(&memory).to_string();
    assert!(error.contains("combinations are of region, tier, zone, the dimensions"), "{error}");
    assert!(memory.within(&scope(&[("region", "eu"), ("tier", "a"), ("operation", "GET /")])).is_none());
    assert!(memory.within(&scope(&[("region", "eu")])).is_some());
}

/// Scenario: an operation that is served for the first time long after the service was, in all regions and in one. Guarantee:
/// what is remembered of it began then: none of it can be held against what came later.
#[test]
fn what_is_remembered_of_an_operation_begins_with_it() {
    let (mut rng, mut memory) = (Rng::with_seed(8), Memory::default());
    for t in T..T + 60 {
        let mut arm = arm(&mut rng, |_, _| false);
        let withdraw =
            |cells: &mut Cells| cells.retain(|operation, _| t >= T + 40 || **operation == *OPERATIONS[0]);
        withdraw(&mut arm.warm);
        arm.cohorts.values_mut().for_each(|one| withdraw(&mut one.arm.warm));
        memory.begin_of(t, true, &arm);
        memory.end(t, &arm.warm, &arm);
    }
    for (pairs, first) in [
        (&[][..], T),
        (&[("operation", OPERATIONS[0])], T),
        (&[("operation", OPERATIONS[1])], T + 40),
        (&[("operation", OPERATIONS[1]), ("region", "eu")], T + 40),
        (&[("region", "eu")], T),
    ] {
        let part = memory.within(&scope(pairs)).unwrap();
        assert_eq!(part.first_slot(), Some(first), "{pairs:?}");
        let mut bytes = Writer::default();
        part.save(&mut bytes);
        assert_eq!(Memory::load(&mut Reader::new(&bytes.into_bytes())).unwrap().first_slot(), Some(first));
    }
}

#[test]
fn a_part_of_a_slot_has_what_began_before_it_too() {
    let mut all = arm(&mut Rng::with_seed(7), |_, _| false);
    let cell =
        |n| Cell { groups: [Counts { requests: n, ..Counts::default() }, Counts::default()], bounds: None };
    let old: Cells = [("GET /".into(), cell(3)), ("POST /pay".into(), cell(4))].into();
    all.cohorts.get_mut("region=eu").unwrap().started_before = [("GET /".into(), cell(2))].into();
    let requests = |pairs: &[(&str, &str)]| scope(pairs).arm(&all, &old).totals()[0];
    assert_eq!(requests(&[]), 4 * RATE + 7);
    assert_eq!(requests(&[("operation", "GET /")]), 2 * RATE + 3);
    assert_eq!(requests(&[("region", "eu")]), 2 * RATE + 2);
    assert_eq!(requests(&[("region", "eu"), ("operation", "GET /")]), RATE + 2);
    assert_eq!(requests(&[("region", "ap")]), 0);
    // Below an operation its values are told apart as before.
    assert_eq!(scope(&[("operation", "GET /")]).arm(&all, &old).cohorts["region=us"].arm.totals()[0], RATE);
}

/// Seconds until the fail; `None` within five minutes.
fn judged((rng, memory): (&Rng, &Memory), scope: &Scope, ill: impl Fn(&str, &str) -> bool) -> Option<Slot> {
    let (mut rng, own) = (rng.clone(), memory.within(scope).unwrap());
    let policy = policy(&["region", "tier"]).within(scope);
    let memories = Memories { spans: Some(&own), metrics: None };
    let mut panel = Panel::after(Change::new(T, policy.warmup_s), policy, &memories);
    for t in T..T + 300 {
        let candidate = scope.arm(&arm(&mut rng, &ill), &Cells::new());
        panel.slot(Source::Spans, t, &own, &SlotInput { candidate, ..SlotInput::default() });
        if t == T + 7 {
            let mut bytes = Writer::default();
            panel.save(&mut bytes);
            panel = Panel::load(&mut Reader::new(&bytes.into_bytes())).unwrap();
        }
        if panel.verdict(&memories) == Verdict::Fail {
            return Some(t - T);
        }
    }
    None
}

#[test]
fn a_fault_is_found_inside_its_scope_only() {
    let whole = Scope::default();
    // Before each change the service did the same, so that what is remembered is made once.
    let befores = [0, 1, 2].map(|seed| {
        let mut rng = Rng::with_seed(seed);
        let memory = remembered(&mut rng, 900);
        (rng, memory)
    });
    for (pairs, is_outside) in [
        (&[("region", "eu")][..], ("us", "GET /")),
        (&[("operation", "POST /pay")], ("eu", "GET /")),
        (&[("region", "eu"), ("operation", "POST /pay")], ("us", "POST /pay")),
        (&[("region", "eu"), ("tier", "a"), ("operation", "POST /pay")], ("eu", "GET /")),
    ] {
        let scope = scope(pairs);
        for before in befores.iter().map(|(rng, memory)| (rng, memory)) {
            let inside = |region: &str, operation: &str| {
                scope.holds(operation, &[cohort_label("region", region).into(), "tier=a".into()])
            };
            let own = judged(before, &scope, inside).expect("the fault is in the scope");
            // Undiluted by what is well, it is found no later.
            let of_whole = judged(before, &whole, inside);
            assert!(of_whole.is_none_or(|of_whole| own <= of_whole), "{pairs:?} {own} {of_whole:?}");
            let outside = |region: &str, operation: &str| (region, operation) == is_outside;
            assert_eq!(judged(before, &scope, outside), None, "{pairs:?}");
        }
    }
}
