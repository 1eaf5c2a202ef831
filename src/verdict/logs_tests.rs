//! The ratio of error logs and its denominators, by example.

use std::sync::Arc;

use super::*;
use crate::exception::{Exception, New, Showing};
use crate::model::snapshot::{Reader, Snapshot, Writer};

fn slot(error_logs: u64, requests: u64) -> LogSlot {
    LogSlot { error_logs, requests, instances: 2, ..LogSlot::default() }
}

/// `seconds` alike seconds.
fn arm(seconds: u64, each: LogSlot) -> LogArm {
    let mut arm = LogArm::default();
    (0..seconds).for_each(|_| arm.add(&each));
    arm
}

fn input<'a>(arms: [&'a LogArm; 2], before: &'a LogArm, news: &'a News) -> LogInput<'a> {
    LogInput { arms, before, points: None, is_sampled: false, news, candidate_requests: 1000 }
}

#[test]
fn l3_error_logs_are_divided_by_requests_metrics_or_instance_minutes() {
    let (candidate, baseline) = (arm(60, slot(3, 10)), arm(60, slot(1, 100)));
    let (none, news) = (LogArm::default(), News::default());
    let by_spans = LogEvidence::new(&input([&candidate, &baseline], &none, &news)).unwrap();
    assert_eq!((by_spans.per, by_spans.exposure), (Exposure::Requests, [600.0, 6000.0]));
    let [ratio, low, high] = by_spans.ratio.unwrap();
    assert!((ratio - 30.0).abs() < 1.0 && low > 1.0 && high > ratio, "{ratio} {low} {high}");
    assert_eq!(by_spans.leaning, Leaning::More);
    let points = Some([6000, 6000]);
    let by_metrics =
        LogEvidence::new(&LogInput { points, ..input([&candidate, &baseline], &none, &news) }).unwrap();
    assert_eq!((by_metrics.per, by_metrics.exposure), (Exposure::Points, [6000.0, 6000.0]));
    assert!((by_metrics.ratio.unwrap()[0] - 3.0).abs() < 0.1);
    let sampled = LogInput { is_sampled: true, ..input([&candidate, &baseline], &none, &news) };
    let by_instances = LogEvidence::new(&sampled).unwrap();
    assert_eq!((by_instances.per, by_instances.exposure), (Exposure::InstanceMinutes, [2.0, 2.0]));
    let fewer = LogEvidence::new(&input([&baseline, &candidate], &none, &news)).unwrap();
    assert_eq!(fewer.leaning, Leaning::Fewer);
    let alike = LogEvidence::new(&input([&baseline, &baseline], &none, &news)).unwrap();
    assert_eq!(alike.leaning, Leaning::Unclear);
}

#[test]
fn a_baseline_with_few_requests_is_remembered() {
    let (candidate, concurrent, before) = (arm(60, slot(3, 10)), arm(1, slot(0, 5)), arm(600, slot(1, 10)));
    let news = News::default();
    let evidence = LogEvidence::new(&input([&candidate, &concurrent], &before, &news)).unwrap();
    assert!(evidence.is_remembered);
    assert_eq!((evidence.error_logs, evidence.exposure), ([180, 600], [600.0, 6005.0]));
    let enough = arm(60, slot(1, 10));
    assert!(!LogEvidence::new(&input([&candidate, &enough], &before, &news)).unwrap().is_remembered);
}

#[test]
fn lines_in_bursts_make_the_interval_wider() {
    let news = News::default();
    let none = LogArm::default();
    let width = |arm: &LogArm| {
        let [ratio, low, high] = LogEvidence::new(&input([arm, arm], &none, &news)).unwrap().ratio.unwrap();
        assert!((ratio - 1.0).abs() < 0.01);
        high / low
    };
    let steady = arm(100, slot(2, 10));
    let mut bursts = arm(96, slot(0, 10));
    bursts.merge(&arm(4, slot(50, 10)));
    assert_eq!(steady.error_logs, bursts.error_logs);
    assert!(width(&bursts) > 2.0 * width(&steady), "{} {}", width(&bursts), width(&steady));
}

#[test]
fn silence_says_nothing_and_what_is_new_is_listed() {
    let quiet = arm(60, slot(0, 10));
    let none = LogArm::default();
    assert_eq!(LogEvidence::new(&input([&quiet, &quiet], &none, &News::default())), None);
    let new = |i: u64| New {
        exception: Arc::new(Exception::named(&format!("a.E{i}"), vec!["a.b.Cart.add".into()].into())),
        showing: Showing { count: 14, traces: vec![[0xab; 16]], ..Showing::default() },
    };
    let news = News { new: (0..30).map(new).collect(), expected: 1.5, watched_s: 900, is_complete: true };
    let evidence = LogEvidence::new(&input([&quiet, &quiet], &none, &news)).unwrap();
    assert_eq!((evidence.new.len(), evidence.new_types, evidence.ratio), (20, 30, None));
    let first = &evidence.new[0];
    assert_eq!((first.name.as_str(), first.count, first.share), ("E0 in Cart.add", 14, Some(0.014)));
    assert_eq!(first.traces, ["ab".repeat(16)]);
    let sampled = LogInput { is_sampled: true, ..input([&quiet, &quiet], &none, &news) };
    assert_eq!(LogEvidence::new(&sampled).unwrap().new[0].share, None);
}

#[test]
fn it_is_kept_field_by_field() {
    let (candidate, baseline) = (arm(60, slot(3, 10)), arm(60, slot(1, 100)));
    let evidence =
        LogEvidence::new(&input([&candidate, &baseline], &LogArm::default(), &News::default())).unwrap();
    let mut out = Writer::default();
    evidence.save(&mut out);
    candidate.save(&mut out);
    let bytes = out.into_bytes();
    let mut from = Reader::new(&bytes);
    assert_eq!(LogEvidence::load(&mut from).unwrap(), evidence);
    assert_eq!(LogArm::load(&mut from).unwrap(), candidate);
}
