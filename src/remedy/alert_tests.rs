//! What an alert says, sentence by sentence, and what a program finds in it.

use std::sync::Arc;

use super::*;
use crate::deployment::{Beginning, Mode, Origin};
use crate::model::{DeploymentId, ServiceKey};
use crate::objective::{Alerts, Record, Situation, Spent, budget};
use crate::verdict::Policy;

const T: Slot = 1_767_312_000;

/// A service with an objective of 99.9 % and 100 requests a second: healthy for ten days, then a share of its requests
/// fails for so many minutes while `v2` is deployed or not.
fn alerts(share: f64, minutes: i64, deploying: bool, after: i64) -> Vec<Alert> {
    let service = ServiceKey {
        namespace: "shop".into(),
        name: "checkout".into(),
        environment: "prod".into(),
        ..ServiceKey::default()
    };
    let beginning = Beginning {
        id: DeploymentId("d1".into()),
        service: service.clone(),
        baseline: Some("v1".into()),
        candidate: "v2".into(),
        time: None,
        scope: Default::default(),
        release: Deployment::VERSION.into(),
        origin: Origin::Detected,
        mode: Mode::Act,
        policy: Policy::default(),
        url: None,
        commit: None,
        share: None,
    };
    let mut deployment = beginning.begin(at(T));
    deployment.spent = Spent { requests: 1_200, failed: 36, share: Some(0.0014), left: None };
    let deployment = deploying.then(|| Arc::new(deployment));
    let (mut record, mut state, mut now, mut told) = (Record::default(), Alerts::default(), T, Vec::new());
    let mut step = |seconds: i64, share: f64, look: bool| {
        let requests = 100 * seconds.unsigned_abs();
        record.count(now, requests, (requests as f64 * share) as u64);
        record.watch(now, now + seconds);
        now += seconds;
        let situation = Situation { record: &record, slo: 0.999, deploying, now };
        for change in if look { state.look(&situation) } else { Vec::new() } {
            let tier = change.episode().rule.tier();
            told.push(Alert {
                at: at(now),
                objective: ObjectiveBoard {
                    service: service.clone(),
                    journey: None,
                    slo: 0.999,
                    days: 30,
                    totals: record.totals(),
                    burn: Window::ALL.map(|w| situation.burn(w)),
                    watched: [1.0; 7],
                    budget: budget(&record, 0.999, 30, now),
                    open: Vec::new(),
                },
                change,
                long: record.tally(tier.long.seconds(), now),
                deployment: deployment.clone(),
            });
        }
    };
    (0..10 * 288 - 24).for_each(|_| step(300, 0.0005, false));
    (0..240).for_each(|_| step(30, 0.0005, false));
    (0..6 * minutes).for_each(|_| step(10, share, true));
    (0..6 * after).for_each(|_| step(10, 0.0005, true));
    told
}

fn json(alert: &Alert) -> serde_json::Value {
    let links = Links { runbook_url: Some("https://runbook".into()), dashboard_url: None };
    serde_json::from_slice(&alert_body(alert, "alert_1", &links)).unwrap()
}

#[test]
fn a_person_who_was_woken_up_reads() {
    let outage = alerts(0.3, 10, false, 60);
    let texts: Vec<String> = outage.iter().map(summary).collect();
    let expected = [
        "shop/checkout (prod): 5,214 of 359,000 requests failed in the last hour, 15 times as many as the objective of \
         99.9 % allows. 81 % of the 30-day budget is left; at this rate it lasts 40 hours.",
        "shop/checkout (prod): over after 41 minutes. Failures were at most 300 times as many as the objective \
         allows. 76 % of the 30-day budget is left.",
        "shop/checkout (prod): 30,705 of 25,914,000 requests failed in the last 3 days, 1.2 times as many as the \
         objective of 99.9 % allows. 76 % of the 30-day budget is left; at this rate it lasts 19 days.",
    ];
    assert_eq!(texts, expected);
    let review = alerts(0.003, 20, true, 0);
    assert_eq!(
        summary(&review[0]),
        "shop/checkout (prod): 81 of 27,000 requests failed in the last 5 minutes, 3 times as many as the objective \
         of 99.9 % allows. 83 % of the 30-day budget is left; at this rate it lasts 8.3 days. v2 is the newest version \
         (verdict so far: pending) and failed 36 of its 1,200 requests. It is under review: look at it; this rolls \
         nothing back."
    );
}

#[test]
fn a_program_finds_the_numbers() {
    let all = alerts(0.3, 10, true, 60);
    let fired = json(all.iter().find(|a| a.change.episode().rule.tier().severity == Severity::Page).unwrap());
    assert_eq!(fired["type"], "rollguard.alert");
    let data = &fired["data"];
    for (field, value) in [
        ("alert_id", "alert_1"),
        ("status", "firing"),
        ("severity", "page"),
        ("runbook_url", "https://runbook"),
    ] {
        assert_eq!(data[field], value, "{field}");
    }
    assert_eq!(data["service"]["name"], "checkout");
    assert_eq!(data["burn"].as_array().unwrap().len(), 7);
    assert_eq!(data["deployment"]["candidate"], "v2");
    assert_eq!(data["deployment"]["spent_requests"], 36);
    assert_eq!(data["ended_at"], serde_json::Value::Null);
    assert!(data["budget"]["left_requests"].as_f64().unwrap() > 0.0);
    let over = all.iter().find(|a| matches!(a.change, Change::Ended(_, Ended::Recovered))).unwrap();
    assert_eq!(json(over)["data"]["status"], "resolved");
    assert_eq!(json(over)["data"]["ended_because"], "recovered");
    assert_eq!((alert_kind(&all[0]), alert_kind(over)), (KIND_ALERT_FIRING, KIND_ALERT_RESOLVED));
}
