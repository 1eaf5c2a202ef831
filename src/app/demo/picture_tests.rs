//! The picture in small sizes, and the numbers in it.

use super::*;
use crate::app::demo::stage::{Scenario, Script};
use crate::deployment::{Beginning, Deployment, Mode, Origin};
use crate::model::{DeploymentId, ServiceKey};
use crate::pipeline::ServiceBoard;
use crate::verdict::{Policy, SliEvidence};
use std::sync::Arc;

fn board(at_s: u64, v1: [u64; 2], v2: [u64; 2]) -> Board {
    let version = |label: &str, [requests_total, errors_total]: [u64; 2]| VersionBoard {
        version: label.into(),
        requests_total,
        errors_total,
        latency_seconds: Some([0.018, 0.09, 0.21]),
        ..Default::default()
    };
    let key = ServiceKey { name: SERVICE.into(), ..Default::default() };
    let versions = vec![version("v1", v1), version("v2", v2)];
    let service = ServiceBoard {
        key,
        versions,
        lateness_seconds: 1.0,
        completeness: 1.0,
        slo: 0.99,
        metrics: None,
        sli_metrics: Default::default(),
    };
    Board { at: UnixNanos::from_secs(at_s), services: vec![service], ..Default::default() }
}

fn deployment() -> Deployment {
    let beginning = Beginning {
        id: DeploymentId("d1".into()),
        service: ServiceKey::default(),
        baseline: Some("v1".into()),
        candidate: "v2".into(),
        time: None,
        scope: Default::default(),
        origin: Origin::Requested,
        release: Deployment::VERSION.into(),
        mode: Mode::Act,
        policy: Policy::default(),
        url: None,
        commit: None,
        share: None,
    };
    let errors = SliEvidence {
        sli: Sli::ErrorRate,
        operation: None,
        weight: 0.2,
        ln_e: 3.25,
        ln_e_pass: Some(-1.0),
        requests: [2000, 2000],
        bad: [60, 4],
        ratio: Some([15.0, 6.0, 40.0]),
        threshold_seconds: None,
        degraded: false,
        ..SliEvidence::default()
    };
    let evidence = Evidence {
        ln_e_bar: 2.3,
        fail_threshold: 4.6,
        pass_threshold: 3.0,
        score: 25.0,
        slis: vec![errors],
        ..Default::default()
    };
    let mut deployment = beginning.begin(UnixNanos::from_secs(6));
    deployment.evidence = Arc::new(evidence);
    deployment
}

fn text(line: &Line) -> String {
    line.iter().map(|(_, text)| text.as_str()).collect()
}

fn with_picture<T>(look: impl FnOnce(&Picture<'_>) -> T) -> T {
    let mut meter = Meter::default();
    meter.see(&board(100, [5000, 10], [0, 0]));
    let board = board(104, [7000, 14], [2000, 60]);
    meter.see(&board);
    meter.see(&board);
    let director = Director::new(Script::of(Scenario::Errors));
    let addresses = Addresses { api: "http://127.0.0.1:39999".into(), grpc: "127.0.0.1:38888".into() };
    let deployment = deployment();
    look(&Picture {
        at_s: 65.0,
        director: &director,
        addresses: &addresses,
        board: &board,
        meter: &meter,
        deployment: Some(&deployment),
    })
}

#[test]
fn the_frame_fits_a_small_terminal() {
    with_picture(|picture| {
        let frame = picture.frame(80, 23);
        assert!(frame.len() <= 23);
        for line in &frame {
            assert!(text(line).chars().count() <= 80, "{}", text(line));
        }
        assert_eq!(picture.frame(80, 5).len(), 5);
    });
}

#[test]
fn the_numbers_are_in_the_picture() {
    with_picture(|picture| {
        let frame: Vec<String> = picture.frame(100, 40).iter().map(text).collect();
        let all = frame.join("\n");
        for expected in [
            "Rollguard demo: v2 fails every fourth checkout   01:05",
            "v1               500    0.2 %     18 ms    210 ms       7000       14",
            "v2               500    3.0 %",
            "v2 against v1: PENDING   phase warming, score 25 of 100",
            "worse     [############............] 2.3 of the 4.6 nats for a fail",
            "not worse [........................] 0.0 of the 3.0 nats for a pass",
            "  errors         v2   3.0 %   v1   0.2 %   6.0 to 40 times          3.2 nats",
            "00:00  the shop opens; v1 serves all of it",
        ] {
            assert!(all.contains(expected), "{expected}\nis not in\n{all}");
        }
        assert_eq!(
            picture.status(),
            "01:05 | v1 500/s, 0.2 % errors | v2 500/s, 3.0 % errors | warming, worse [######......] 2.3 of 4.6, \
             not worse 0.0 of 3.0"
        );
    });
}

#[test]
fn text_is_wrapped_at_spaces() {
    for (text, width, expected) in [
        ("", 10, vec![]),
        ("one two three", 7, vec!["one two", "three"]),
        ("one two three", 3, vec!["one", "two", "three"]),
        ("  spaced   out ", 20, vec!["spaced out"]),
    ] {
        assert_eq!(wrap(text, width), expected, "{text} at {width}");
    }
}
