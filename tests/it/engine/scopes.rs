//! Changes without a version that name a scope: one region, one operation. OTLP through the real walker into the real
//! pipeline; what is outside the scope is not judged.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollguard::deployment::{Deployment, Phase};
use rollguard::model::Source;
use rollguard::pipeline::CommandError;
use rollguard::verdict::{Flag, Verdict};

use super::dimensions::{Law, REGION_REPORTS, Shop, WELL, policy};
use super::world::{World, scoped};

const DIMENSIONS: &str = "    dimensions: {client.class: {values: 4}}\n";
pub(super) const ILL: Law = Law { errors: 0.15, ..WELL };

impl Shop {
    pub(super) fn run(&mut self, seconds: u64, laws: [Law; 3]) {
        (0..seconds).for_each(|_| self.second(&[("v1", laws)]));
    }

    /// A shop whose three regions have served for a while.
    fn open_since(keys: &str) -> Self {
        let mut shop = Self::open(policy(keys));
        shop.run(240, [WELL; 3]);
        shop
    }
}

/// A shop that is well, then a change now with a scope; what regions do after it.
fn after(keys: &str, pairs: &[(&str, &str)], laws: [Law; 3]) -> (Arc<Deployment>, World) {
    let mut shop = Shop::open_since(keys);
    let id = shop.world.announce(0, pairs).unwrap();
    shop.run(150, laws);
    (shop.world.again(&id), shop.world)
}

/// Scenario: a change of one region, or of one operation, that breaks it, with the scope named, with none, and with that of
/// another region or operation. Guarantees: with the scope it fails at least as soon as without, in words, account,
/// rollback and counts of the scope; with another scope the fault is not held against the change.
#[test]
fn a_fault_counts_inside_its_scope() {
    let keys = format!("{REGION_REPORTS}{DIMENSIONS}");
    let us = [WELL, ILL, WELL];
    let pay = [Law { pay: 0.15, ..WELL }; 3];
    let us_pay = [WELL, Law { pay: 0.2, ..WELL }, WELL];
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let rows: [(Pairs<'_>, [Law; 3], &str, Pairs<'_>); 4] = [
        (&[("cloud.region", "us-1")], us, "shop (cloud.region us-1) fails ", &[("cloud.region", "eu-1")]),
        (&[("operation", "GET /pay")], pay, "shop (GET /pay) fails ", &[("operation", "GET /cart")]),
        (
            &[("cloud.region", "us-1"), ("operation", "GET /pay")],
            us_pay,
            "shop (cloud.region us-1, GET /pay) fails ",
            &[("cloud.region", "us-1"), ("operation", "GET /cart")],
        ),
        (
            &[("cloud.region", "us-1"), ("client.class", "web")],
            us,
            "shop (client.class web, cloud.region us-1) fails ",
            &[("cloud.region", "ap-1"), ("client.class", "web")],
        ),
    ];
    for (inside, laws, says, outside) in rows {
        let (d, world) = after(&keys, inside, laws);
        assert_eq!((d.verdict, d.phase), (Verdict::Fail, Phase::Failed), "{inside:?}: {}", d.explanation);
        assert!(d.explanation.starts_with(says), "{}", d.explanation);
        assert!(d.account().text().contains(says.trim_end_matches(" fails ")), "{}", d.account().text());
        assert_eq!(d.action_scope(), scoped(inside).labels());
        assert_eq!(world.kept.rollbacks[0].scope, scoped(inside));
        let change = d.evidence.change.unwrap();
        assert!(change.error_rate().is_some_and(|rate| rate < 0.03), "{change:?}");
        // Of 60 requests a second 20 are of the region and 24 of the operation.
        let requests = d.evidence.requests[0] as f64 / d.decided_after_seconds.unwrap().max(1.0);
        assert!(requests < 26.0, "{requests} a second");
        assert!(d.spent.requests > 0 && (d.spent.requests as f64) < 26.0 * 150.0, "{:?}", d.spent);
        // The trace ids begin with the region's number and whether it is the operation to pay.
        let of_scope = |trace: &&String| {
            let is_us = trace.starts_with("01") || !says.contains("us-1");
            is_us && (trace[2..].starts_with("01") || !says.contains("/pay"))
        };
        let exemplars = &d.evidence.exemplars;
        assert!(!exemplars.is_empty() && exemplars.iter().all(|t| of_scope(&t)), "{exemplars:?}");
        let (whole, _) = after(&keys, &[], laws);
        let seconds = |d: &Deployment| d.decided_after_seconds.unwrap_or(f64::INFINITY);
        assert!(seconds(&d) <= seconds(&whole) + 3.0, "{} {}", seconds(&d), seconds(&whole));
        let (other, world) = after(&keys, outside, laws);
        assert!(other.verdict != Verdict::Fail && world.kept.rollbacks.is_empty(), "{}", other.explanation);
        assert!(!other.evidence.has(Flag::Degraded), "{:?}", other.evidence.flags);
    }
}

/// Scenario: scopes that cannot be told apart. Guarantee: each is refused with what may be named and the way out.
#[test]
fn a_scope_must_be_one_that_is_remembered() {
    let mut shop = Shop::open_since(REGION_REPORTS);
    for (pairs, said) in [
        (
            &[("zone", "1")][..],
            "it may name operation, cloud.region. To add \"zone\", list it under `dimensions`",
        ),
        (&[("cloud.region", "eu-9")], "seen: ap-1, eu-1, us-1"),
        (&[("operation", "GET /nothing")], "seen: GET /cart, GET /pay"),
        (&[("cloud.region", "eu-1"), ("operation", "GET /nothing")], "operation \"GET /nothing\" was seen"),
    ] {
        let error = shop.world.announce(0, pairs).unwrap_err();
        assert!(matches!(&error, CommandError::Invalid(text) if text.contains(said)), "{error}");
    }
    assert!(shop.world.kept.deployments.is_empty());
}

/// Scenario: a change introduces an operation that fails a third of its requests; it is told to us 50 s later, with its
/// time and the operation as its scope. Guarantees: what the operation showed after that time is not what it is held
/// against: it waits, passes nothing, and is closed with the horizon.
#[test]
fn a_late_change_is_not_held_against_its_own_time() {
    let mut shop = Shop::open(policy(REGION_REPORTS));
    // Of two requests a second of a region, each is to pay.
    shop.run(240, [Law { rps: 2, ..WELL }; 3]);
    let with_cart = [Law { errors: 0.3, ..WELL }; 3];
    shop.run(50, with_cart);
    let id = shop.world.announce(-50, &[("operation", "GET /cart")]).unwrap();
    for _ in 0..4 {
        shop.run(50, with_cart);
        let d = shop.world.again(&id);
        assert!(d.is_waiting() && d.verdict == Verdict::Pending, "{:?} {}", d.phase, d.explanation);
    }
    shop.run(400, with_cart);
    let d = &shop.world.kept.deployments[id.id.0.as_str()];
    assert_eq!((d.phase, d.verdict), (Phase::Closed, Verdict::Pending), "{}", d.explanation);
}

/// Scenario: changes of two regions at the same time, then one of an operation, while one region breaks. Guarantees: the
/// regions are judged side by side, each by its own requests; the operation's change, which has requests of both, takes
/// their place.
#[test]
fn scopes_without_common_requests_are_judged_side_by_side() {
    let mut shop = Shop::open_since(REGION_REPORTS);
    let [eu, us] = ["eu-1", "us-1"].map(|region| {
        let pairs = [("cloud.region", region)];
        let one = shop.world.announce(0, &pairs).unwrap();
        assert_eq!(shop.world.announce(0, &pairs).unwrap().id, one.id, "named twice, it is one");
        one
    });
    assert_ne!(eu.id, us.id);
    let cart = shop.world.announce(100, &[("operation", "GET /cart")]).unwrap();
    shop.run(80, [WELL, ILL, WELL]);
    assert_eq!(shop.world.again(&us).verdict, Verdict::Fail, "{}", shop.world.again(&us).explanation);
    assert_eq!(
        (shop.world.again(&eu).phase, shop.world.again(&eu).verdict),
        (Phase::Evaluating, Verdict::Pending)
    );
    shop.run(60, [WELL; 3]);
    assert_eq!(shop.world.again(&us).phase, Phase::Recovered, "as it was before, in its region");
    assert_eq!(shop.world.again(&eu).phase, Phase::Superseded);
    assert_eq!(shop.world.again(&cart).phase, Phase::Evaluating);
}

/// Scenario: a change of one region is announced; the process is killed before the time and again while it is judged.
/// Guarantees: scope, memory and counts outlive it; the fault is found, and one outside is not held against it.
#[test]
fn a_scope_survives_restarts() {
    for (laws, fails) in [([WELL, ILL, WELL], true), ([ILL, WELL, ILL], false)] {
        let mut shop = Shop::open_since(REGION_REPORTS);
        let id = shop.world.announce(60, &[("cloud.region", "us-1")]).unwrap();
        shop.run(20, [WELL; 3]);
        shop.world.restart(3);
        shop.run(30, [WELL; 3]);
        assert!(shop.world.again(&id).is_waiting());
        shop.run(20, [WELL; 3]);
        let counted = shop.world.again(&id).spent.requests;
        shop.world.restart(3);
        shop.run(120, laws);
        let d = shop.world.again(&id);
        assert_eq!(d.verdict == Verdict::Fail, fails, "{}", d.explanation);
        assert!(d.explanation.contains("shop (cloud.region us-1)"), "{}", d.explanation);
        assert!(d.spent.requests >= counted, "{counted} {:?}", d.spent);
    }
}

/// Scenario: the same of a service that sends request metrics and no spans. Guarantees: a region, and an operation, is
/// told apart by them too.
#[test]
fn a_scope_is_told_apart_by_metrics_too() {
    let us = [WELL, ILL, WELL];
    for (pairs, fails) in [
        (&[("cloud.region", "us-1")][..], true),
        (&[("cloud.region", "us-1"), ("operation", "GET /pay")], true),
        (&[("cloud.region", "eu-1")], false),
    ] {
        let mut shop = Shop::open(policy(REGION_REPORTS));
        shop.meters = Some(BTreeMap::new());
        shop.run(400, [WELL; 3]);
        let id = shop.world.announce(0, pairs).unwrap();
        shop.run(240, us);
        let d = shop.world.again(&id);
        assert_eq!(d.verdict == Verdict::Fail, fails, "{pairs:?}: {}", d.explanation);
        assert_eq!(d.evidence.required, Source::Metrics);
        assert!(d.explanation.contains(pairs[0].1), "{}", d.explanation);
        assert!(d.spent.requests > 0, "{:?}", d.spent);
    }
}
