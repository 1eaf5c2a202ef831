//! Who has an id when, by example; and that the table is bounded and never names a version that did not claim
//! the id.

use proptest::prelude::*;

use super::*;

fn pod<'a>(ids: &[(ResourceAttribute, &'a str)]) -> ResourceView<'a> {
    let mut view = ResourceView::default();
    for (attribute, text) in ids {
        view.texts.set(*attribute, text.as_bytes());
    }
    view
}

fn claim(version: u32, at: u64) -> Claim {
    Claim {
        version: VersionId(version),
        instance: InstanceId(version),
        by_spans: true,
        at: UnixNanos::from_secs(at),
    }
}

fn one(version: u32) -> Found {
    Found::One(VersionId(version), InstanceId(version))
}

#[test]
fn an_id_leads_to_the_version_that_claims_it() {
    use ResourceAttribute::{ContainerId, InstanceId, K8sNamespace, PodName, PodUid};
    let joins = Joins::default();
    let full = [
        (PodUid, "u1"),
        (PodName, "cart-7d4-x"),
        (K8sNamespace, "shop"),
        (ContainerId, "c1"),
        (InstanceId, "0"),
    ];
    let sender = ResourceView { service: b"cart", ..pod(&full) };
    joins.learn(&sender, claim(1, 1_000), |_| true);
    let rows: [(&[(ResourceAttribute, &str)], Found); 8] = [
        (&[(PodUid, "u1")], one(1)),
        (&[(ContainerId, "c1")], one(1)),
        (&[(PodName, "cart-7d4-x")], one(1)),
        (&[(PodName, "cart-7d4-x"), (K8sNamespace, "shop")], one(1)),
        // A pod of that name in another namespace is known by its bare name only.
        (&[(PodName, "cart-7d4-y"), (K8sNamespace, "shop")], Found::None),
        (&[(PodUid, "c1")], Found::None),
        // An instance id alone says nothing: it is unique in its service only.
        (&[(InstanceId, "0")], Found::None),
        (&[], Found::None),
    ];
    for (ids, expected) in rows {
        assert_eq!(joins.find(&pod(ids), UnixNanos::from_secs(1_010)), expected, "{ids:?}");
    }
    let same = ResourceView { service: b"cart", ..pod(&[(InstanceId, "0")]) };
    assert_eq!(joins.find(&same, UnixNanos::from_secs(1_010)), one(1));
    let other = ResourceView { service: b"till", ..pod(&[(InstanceId, "0")]) };
    assert_eq!(joins.find(&other, UnixNanos::from_secs(1_010)), Found::None);
}

#[test]
fn two_claimants_join_nothing_until_one_is_silent() {
    let joins = Joins::default();
    let web = pod(&[(ResourceAttribute::PodName, "web-0")]);
    let at = |seconds| joins.find(&web, UnixNanos::from_secs(seconds));
    joins.learn(&web, claim(1, 1_000), |_| true);
    joins.learn(&web, claim(2, 1_005), |_| true);
    assert_eq!(at(1_006), Found::Several);
    joins.learn(&web, claim(2, 1_100), |_| true);
    assert_eq!(at(1_120), Found::Several);
    // The first one has been silent for two minutes; the second has it, and keeps it.
    assert_eq!(at(1_121), one(2));
    joins.learn(&web, claim(2, 1_130), |_| true);
    assert_eq!(at(1_131), one(2));
    assert_eq!(at(1_130 + FORGOTTEN_S), one(2));
    assert_eq!(at(1_131 + FORGOTTEN_S), Found::None);
    // One whose version is gone does not have to be waited for.
    joins.learn(&web, claim(3, 1_132), |version| version != VersionId(2));
    assert_eq!(at(1_133), one(3));
}

#[test]
fn spans_go_before_other_signals() {
    let joins = Joins::default();
    let web = pod(&[(ResourceAttribute::PodUid, "u")]);
    let by_labels = |version, at| Claim { by_spans: false, ..claim(version, at) };
    let now = UnixNanos::from_secs(1_010);
    joins.learn(&web, by_labels(1, 1_000), |_| true);
    assert_eq!(joins.find(&web, now), one(1));
    joins.learn(&web, claim(2, 1_001), |_| true);
    joins.learn(&web, by_labels(1, 1_002), |_| true);
    assert_eq!(joins.find(&web, now), one(2));
    // Also about the instance of one version.
    for (by_spans, instance, expected) in [(false, 8, 2), (true, 2, 2), (false, 9, 2)] {
        joins.learn(&web, Claim { by_spans, instance: InstanceId(instance), ..claim(2, 1_003) }, |_| true);
        assert_eq!(joins.find(&web, now), Found::One(VersionId(2), InstanceId(expected)));
    }
}

#[test]
fn a_pod_of_several_processes_has_no_single_instance() {
    let joins = Joins::default();
    let web = pod(&[(ResourceAttribute::PodUid, "u")]);
    for process in [7, 8, 7] {
        let claim = Claim { instance: InstanceId(process), ..claim(1, 1_000) };
        joins.learn(&web, claim, |_| true);
    }
    let found = joins.find(&web, UnixNanos::from_secs(1_001));
    assert_eq!(found, Found::One(VersionId(1), InstanceId::UNKNOWN));
}

/// Scenario: the container of a pod restarts, and its process has another id; then one that was before is heard again.
/// Guarantees: the pod is the new instance's at once; and of none while two live.
#[test]
fn a_restarted_container_takes_its_pod_over() {
    let joins = Joins::default();
    let web = pod(&[(ResourceAttribute::PodUid, "u")]);
    let heard = |instance, second| {
        let claim = Claim { instance: InstanceId(instance), by_spans: false, ..claim(1, second) };
        joins.learn(&web, claim, |_| true);
    };
    let at = |second| joins.find(&web, UnixNanos::from_secs(second));
    let of = |instance| Found::One(VersionId(1), InstanceId(instance));
    heard(7, 1_000);
    heard(8, 1_060);
    assert_eq!(at(1_061), of(8));
    heard(7, 1_065);
    heard(8, 1_070);
    assert_eq!(at(1_070), of(InstanceId::UNKNOWN.0));
    heard(8, 1_065 + SHARED_S);
    assert_eq!(at(1_065 + SHARED_S), of(InstanceId::UNKNOWN.0));
    assert_eq!(at(1_066 + SHARED_S), of(8), "the other one is over");
}

/// Scenario: claims of one version, in order, some before its instance is known. Guarantees: those say nothing of the
/// instance, in whichever order; and what spans call it goes before what other signals do.
#[test]
fn a_claim_without_an_instance_is_no_second_one() {
    const UNKNOWN: u32 = InstanceId::UNKNOWN.0;
    let web = pod(&[(ResourceAttribute::PodUid, "u")]);
    let rows: [(&[(bool, u32)], u32); 8] = [
        (&[(false, UNKNOWN), (false, 7)], 7),
        (&[(false, 7), (false, UNKNOWN), (false, 7)], 7),
        (&[(true, UNKNOWN), (true, 7)], 7),
        (&[(true, UNKNOWN), (false, 7)], 7),
        (&[(true, UNKNOWN), (false, 7), (true, 8), (false, 7)], 8),
        (&[(false, 7), (true, UNKNOWN), (false, 7)], 7),
        (&[(false, UNKNOWN), (false, 8), (false, 7)], UNKNOWN),
        (&[(false, UNKNOWN), (true, UNKNOWN)], UNKNOWN),
    ];
    for (claims, expected) in rows {
        let joins = Joins::default();
        for (by_spans, instance) in claims {
            let claim = Claim { by_spans: *by_spans, instance: InstanceId(*instance), ..claim(1, 1_000) };
            joins.learn(&web, claim, |_| true);
        }
        let found = joins.find(&web, UnixNanos::from_secs(1_001));
        assert_eq!(found, Found::One(VersionId(1), InstanceId(expected)), "{claims:?}");
    }
}

#[test]
fn what_is_in_use_stays_when_room_runs_out() {
    let joins = Joins::new(SHARDS * 20);
    let kept = pod(&[(ResourceAttribute::PodUid, "kept")]);
    for n in 0..10_000u64 {
        let name = format!("pod-{n}");
        joins.learn(&pod(&[(ResourceAttribute::PodUid, &name)]), claim(2, 1_000), |_| true);
        joins.learn(&kept, claim(1, 1_000), |_| true);
    }
    assert_eq!(joins.find(&kept, UnixNanos::from_secs(1_000)), one(1));
    assert!(joins.len() <= SHARDS * 20);
    assert!(joins.counters().evicted.load(Ordering::Relaxed) >= 10_000 - SHARDS as u64 * 20);
}

proptest! {
    /// Claims of some versions for some pods in any order of time: never more ids than room, never a version
    /// that did not claim the id within the hour, and never one of two that both claimed it just now.
    #[test]
    fn nothing_is_made_up(claims in prop::collection::vec((0..6u64, 0..3u32, 0..200u64), 1..120)) {
        let joins = Joins::new(SHARDS * 4);
        let names: Vec<String> = (0..6).map(|n| format!("pod-{n}")).collect();
        let view = |n: u64| pod(&[(ResourceAttribute::PodName, names[n as usize].as_str())]);
        let mut now = 10_000;
        let mut made: Vec<(u64, u32, u64)> = Vec::new();
        for (n, version, step) in claims {
            now += step;
            joins.learn(&view(n), claim(version, now), |_| true);
            made.push((n, version, now));
            prop_assert!(joins.len() <= SHARDS * 4);
            for other in 0..6 {
                let own: Vec<_> = made.iter().filter(|(pod, ..)| *pod == other).collect();
                if let Found::One(VersionId(found), _) = joins.find(&view(other), UnixNanos::from_secs(now)) {
                    let last = own.iter().rev().find(|(_, version, _)| *version == found);
                    prop_assert!(last.is_some_and(|(.., at)| now - at <= FORGOTTEN_S), "{found} {own:?}");
                    let (_, newest, at) = own[own.len() - 1];
                    prop_assert!(*newest == found || now - at > SILENT_S, "{found} but {own:?}");
                }
            }
        }
    }
}
