//! What is new and what is not, and the bounds of the table.

use std::sync::Arc;

use super::*;

fn version(label: &str) -> Arc<str> {
    label.into()
}

fn exception(kind: &str) -> Arc<Exception> {
    Arc::new(Exception::named(kind, Box::default()))
}

fn at(slot: Slot) -> Occurrence<'static> {
    Occurrence { slot, trace_id: Some([slot as u8; 16]), values: &[], counts: true, is_record: true }
}

/// Seconds of traffic of a version from `from` on.
fn serve(shown: &mut Shown, label: &str, from: Slot, seconds: Slot) {
    (from..from + seconds).for_each(|slot| shown.second(&version(label), slot));
}

fn new_kinds(shown: &Shown, since: Slot, now: Slot) -> Vec<String> {
    let news = shown.news("v2", Some("v1"), since, now, true);
    news.new.iter().map(|n| n.exception.kind.to_string()).collect()
}

#[test]
fn new_is_what_no_version_before_has_shown() {
    let mut shown = Shown::default();
    serve(&mut shown, "v0", 0, 400);
    shown.show(&version("v0"), &exception("Old"), &at(399));
    serve(&mut shown, "v1", 400, 600);
    shown.show(&version("v1"), &exception("Usual"), &at(700));
    serve(&mut shown, "v2", 1000, 50);
    for kind in ["Old", "Usual", "Mine", "Mine", "Rare"] {
        shown.show(&version("v2"), &exception(kind), &at(1010));
    }
    // A version that came later says nothing about this one.
    shown.show(&version("v3"), &exception("Mine"), &at(1040));
    assert_eq!(new_kinds(&shown, 1000, 1050), ["Mine", "Rare"]);
    let news = shown.news("v2", Some("v1"), 1000, 1050, true);
    assert_eq!((news.new[0].showing.count, news.new[0].showing.traces.len()), (2, 2));
    assert_eq!((news.watched_s, news.is_complete), (600, true));
    // The baseline shows it too: it was no news of this version.
    shown.show(&version("v1"), &exception("Rare"), &at(1045));
    assert_eq!(new_kinds(&shown, 1000, 1050), ["Mine"]);
    // Shown before the deployment: a version that comes back.
    assert_eq!(new_kinds(&shown, 1020, 1050), Vec::<String>::new());
    assert_eq!(shown.news("v9", None, 0, 1050, true).new, []);
}

#[test]
fn too_short_a_watch_calls_nothing_new() {
    let mut shown = Shown::default();
    serve(&mut shown, "v1", 0, Slot::from(WATCHED_S) - 1);
    shown.show(&version("v2"), &exception("Mine"), &at(500));
    assert_eq!(new_kinds(&shown, 0, 501), Vec::<String>::new());
    serve(&mut shown, "v1", 502, 1);
    assert_eq!(new_kinds(&shown, 0, 503), ["Mine"]);
}

#[test]
fn a_late_one_is_remembered_and_not_counted() {
    let mut shown = Shown::default();
    serve(&mut shown, "v1", 0, 400);
    let late = Occurrence { counts: false, ..at(390) };
    shown.show(&version("v1"), &exception("Usual"), &late);
    shown.show(&version("v2"), &exception("Usual"), &at(400));
    shown.show(&version("v2"), &exception("Mine"), &Occurrence { counts: false, ..at(400) });
    assert_eq!(new_kinds(&shown, 0, 401), Vec::<String>::new());
}

#[test]
fn a_baseline_without_logs_makes_no_news_of_log_records() {
    let mut shown = Shown::default();
    shown.watched_before(&version("v1"), 0, 600);
    shown.show(&version("v2"), &exception("Logged"), &at(600));
    shown.show(&version("v2"), &exception("Thrown"), &Occurrence { is_record: false, ..at(600) });
    let news = |baseline_logs| shown.news("v2", Some("v1"), 0, 601, baseline_logs).new.len();
    assert_eq!((news(true), news(false)), (2, 1));
}

#[test]
fn what_was_shown_is_remembered_for_30_minutes_of_traffic() {
    let mut shown = Shown::default();
    shown.show(&version("v1"), &exception("Usual"), &at(0));
    serve(&mut shown, "v1", 0, 1800);
    shown.show(&version("v2"), &exception("Usual"), &at(1790));
    assert_eq!(new_kinds(&shown, 0, 1801), Vec::<String>::new());
    // Silence is no traffic: a version that went away keeps what it showed.
    serve(&mut shown, "v2", 1800, 7200);
    assert_eq!(new_kinds(&shown, 0, 9000), Vec::<String>::new());
    // Forgotten in the end; that it was shared once stays known as long as the new version shows it.
    serve(&mut shown, "v1", 9000, 60);
    shown.show(&version("v2"), &exception("Usual"), &at(9060));
    let first_seen_now = new_kinds(&shown, 0, 9061);
    assert_eq!(first_seen_now, ["Usual"], "v2 had forgotten it as well");
    let mut shown = Shown::default();
    shown.show(&version("v1"), &exception("Usual"), &at(0));
    serve(&mut shown, "v1", 0, 1800);
    shown.show(&version("v2"), &exception("Usual"), &at(1790));
    serve(&mut shown, "v1", 1800, 60);
    assert_eq!(new_kinds(&shown, 0, 1861), Vec::<String>::new());
}

#[test]
fn the_table_is_bounded_and_says_so() {
    let mut shown = Shown::default();
    serve(&mut shown, "v1", 0, 400);
    for i in 0..FINGERPRINTS {
        shown.show(&version("v1"), &exception(&format!("E{i}")), &at(400));
    }
    assert!(shown.show(&version("v2"), &exception("E0"), &at(401)));
    assert!(!shown.show(&version("v2"), &exception("Mine"), &at(401)));
    assert_eq!(shown.names.len(), FINGERPRINTS);
    let news = shown.news("v2", Some("v1"), 0, 402, true);
    assert!(!news.is_complete && news.new.is_empty());
    // Half an hour of traffic later there is room again.
    serve(&mut shown, "v1", 401, 1860);
    shown.show(&version("v2"), &exception("Mine"), &at(2300));
    assert_eq!(new_kinds(&shown, 0, 2301), ["Mine"]);
    // Long names: the bytes are bounded too.
    let mut shown = Shown::default();
    let found_room = (0..FINGERPRINTS)
        .filter(|i| shown.show(&version("v1"), &exception(&format!("{i}{}", "x".repeat(2000))), &at(1)));
    assert!(found_room.count() < FINGERPRINTS);
    assert!(shown.name_bytes <= NAME_BYTES);
    // Versions: the one silent for longest goes.
    let mut shown = Shown::default();
    for i in 0..VERSIONS as Slot + 1 {
        shown.second(&version(&format!("v{i}")), i);
        shown.show(&version(&format!("v{i}")), &exception(&format!("E{i}")), &at(i));
    }
    assert_eq!((shown.versions.len(), shown.names.len()), (VERSIONS, VERSIONS));
    assert!(!shown.versions.contains_key("v0"));
}

#[test]
fn it_survives_a_restart() {
    let mut shown = Shown::default();
    serve(&mut shown, "v1", 0, 400);
    let values = [("error.code".to_owned(), "17".to_owned())];
    let frames: Box<[Box<str>]> = vec!["a.B.c".into(), "d".into()].into();
    let exception = Arc::new(Exception::named("E", frames));
    shown.show(&version("v1"), &exception, &Occurrence { values: &values, ..at(7) });
    let mut out = Writer::default();
    shown.save(&mut out);
    let bytes = out.into_bytes();
    let mut from = Reader::new(&bytes);
    assert_eq!(Shown::load(&mut from).unwrap(), shown);
    assert!(from.is_empty());
}

#[test]
fn chance_is_told_from_what_was_seen_once() {
    let mut shown = Shown::default();
    serve(&mut shown, "v1", 0, 400);
    // 10 types seen once, 2 twice, one 86 times: 100 exceptions.
    for (i, times) in [1; 10].into_iter().chain([2, 2, 86]).enumerate() {
        for _ in 0..times {
            shown.show(&version("v1"), &exception(&format!("E{i}")), &at(400));
        }
    }
    for _ in 0..20 {
        shown.show(&version("v2"), &exception("E12"), &at(401));
    }
    let expected = shown.news("v2", Some("v1"), 0, 402, true).expected;
    assert!((expected - (0.2 * 10.0 - 0.04 * 2.0)).abs() < 1e-9, "{expected}");
}
