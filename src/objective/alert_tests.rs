//! The alerts in every kind of weather: tables for what fires, properties for what must never happen.

use proptest::prelude::*;

use super::*;
use crate::model::Slot;
use crate::model::snapshot::{Reader, Snapshot, Writer};

const T: Slot = 1_700_000_000 / 3_600 * 3_600;

/// A service with an objective of 99.9 %, looked at every 10 s.
struct Service {
    record: Record,
    alerts: Alerts,
    now: Slot,
    deploying: bool,
    /// What was told: severity, rule or why it ended, seconds since the start.
    told: Vec<String>,
}

impl Service {
    fn new() -> Self {
        Self {
            record: Record::default(),
            alerts: Alerts::default(),
            now: T,
            deploying: false,
            told: Vec::new(),
        }
    }

    /// A service with a history of days without failures.
    fn healthy(days: Slot, rps: u64) -> Self {
        let mut service = Self::new();
        // The last hours in the finest steps, or their windows would see lumps.
        let steps = (0..days * 288 - 24).map(|_| 300).chain((0..240).map(|_| 30));
        for step in steps {
            service.record.count(service.now, rps * step, 0);
            service.now += step.cast_signed();
            service.record.watch(service.now - step.cast_signed(), service.now);
        }
        service
    }

    /// `seconds` with so many requests per second, of which a share fails. Long ones are looked at once a minute.
    fn run(&mut self, seconds: Slot, rps: u64, share: f64) {
        let step = if seconds > 7_200 { 60 } else { 10 };
        let mut owed = 0.0;
        for _ in 0..seconds / step {
            owed += (rps * step.unsigned_abs()) as f64 * share;
            let failed = owed as u64;
            owed -= failed as f64;
            self.record.count(self.now, rps * step.unsigned_abs(), failed);
            self.record.watch(self.now, self.now + step);
            self.now += step;
            self.look();
        }
    }

    fn look(&mut self) {
        let situation =
            Situation { record: &self.record, slo: 0.999, deploying: self.deploying, now: self.now };
        for change in self.alerts.look(&situation) {
            let what = match change {
                Change::Fired(e) => format!("{} {}", e.rule.tier().severity.as_str(), e.rule.as_str()),
                Change::Ended(e, why) => format!("{} {}", e.rule.tier().severity.as_str(), why.as_str()),
            };
            self.told.push(what);
        }
    }

    /// We were not there.
    fn away(&mut self, seconds: Slot) {
        self.now += seconds;
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }
}

#[test]
fn each_tier_fires_at_its_own_burn_rate_and_no_other() {
    // Burn rate, for how long after three healthy days, and what is told.
    let rows: [(f64, Slot, &[&str]); 6] = [
        (20.0, 3_600, &["page burn_1h"]),
        (8.0, 6 * 3_600, &["page burn_6h"]),
        (4.0, 24 * 3_600, &["ticket burn_1d"]),
        (1.5, 72 * 3_600, &["ticket burn_3d"]),
        (0.9, 72 * 3_600, &[]),
        (13.0, 3_600, &[]),
    ];
    for (burn, seconds, expected) in rows {
        let mut service = Service::healthy(3, 10);
        service.run(seconds, 10, burn * 0.001);
        assert_eq!(service.told(), expected, "burn {burn}");
    }
}

#[test]
fn an_outage_pages_within_minutes_and_once() {
    let mut service = Service::healthy(1, 10);
    service.run(300, 10, 1.0);
    assert_eq!(service.told(), ["page burn_1h"]);
    service.run(7_200, 10, 1.0);
    assert_eq!(service.told(), [""; 0], "once, and the tickets are kept back by the page");
    service.run(2_400, 10, 0.0);
    // Half an hour until six hours at that rate are no page any more, and five calm minutes. The ticket that it kept
    // back comes now: the day is spent.
    assert_eq!(service.told(), ["page recovered", "ticket burn_1d"]);
    service.run(9_000, 10, 0.0);
    assert_eq!(service.told(), [""; 0], "three days are spent as well, which is the same ticket");
    service.run(12_000, 10, 0.0);
    assert_eq!(service.told(), ["ticket recovered"]);
}

#[test]
fn a_fast_start_knows_an_outage_and_does_not_take_ten_minutes_for_three_days() {
    let mut service = Service::new();
    service.run(120, 10, 1.0);
    assert_eq!(service.told(), ["page burn_1h"], "a thousand times the budget in two minutes");
    let mut service = Service::new();
    service.run(600, 100, 0.004);
    assert_eq!(service.told(), [""; 0], "four times the budget for ten minutes is no 10 % of the month");
}

#[test]
fn a_handful_of_failures_wakes_nobody() {
    let mut service = Service::healthy(1, 1);
    service.record.count(service.now, 9, 9);
    service.run(60, 1, 0.0);
    assert_eq!(service.told(), [""; 0], "nine failures, thirty times the budget of five minutes");
    service.record.count(service.now, 90, 90);
    service.run(60, 1, 0.0);
    assert_eq!(service.told(), ["page burn_1h"]);
}

#[test]
fn deployments_have_rules_of_their_own() {
    let mut service = Service::healthy(1, 100);
    service.run(600, 100, 0.007);
    assert_eq!(service.told(), [""; 0], "seven times the budget for ten minutes, and nothing is deployed");
    service.run(1_200, 100, 0.0);
    service.deploying = true;
    service.run(600, 100, 0.003);
    assert_eq!(service.told(), ["review deploy_review"]);
    service.run(300, 100, 0.008);
    assert_eq!(service.told(), ["page deploy_burn"]);
    service.deploying = false;
    service.run(300, 100, 0.008);
    assert_eq!(service.told(), ["review deployment_over"], "the page goes on until it is calm");
    service.run(900, 100, 0.0);
    assert_eq!(service.told(), ["page recovered"]);
}

#[test]
fn a_review_must_hold_for_five_minutes() {
    let mut service = Service::healthy(1, 100);
    service.deploying = true;
    // Above 2 over five minutes, but for less than five of them.
    service.run(100, 100, 0.009);
    service.run(900, 100, 0.0);
    assert_eq!(service.told(), [""; 0]);
}

#[test]
fn silence_and_our_own_absence_end_nothing_and_begin_nothing() {
    let mut service = Service::healthy(1, 10);
    service.run(300, 10, 0.5);
    assert_eq!(service.told(), ["page burn_1h"]);
    // Nothing is sent: is that recovery, or the end of the world?
    service.run(3_000, 0, 0.0);
    assert_eq!(service.told(), [""; 0]);
    service.run(3_600, 0, 0.0);
    assert_eq!(service.told(), ["page no_traffic"]);
    // We are away while it burns, and back when it is calm.
    service.run(86_400, 10, 0.0);
    service.told();
    service.run(300, 10, 0.5);
    assert_eq!(service.told(), ["page burn_1h"]);
    service.away(7 * 3_600);
    service.look();
    assert_eq!(service.told(), [""; 0]);
    service.run(200, 10, 0.0);
    assert_eq!(service.told(), [""; 0], "five calm minutes must be seen");
    service.run(200, 10, 0.0);
    assert_eq!(service.told(), ["page recovered"]);
}

#[test]
fn an_open_episode_survives_a_restart() {
    let mut service = Service::healthy(1, 10);
    service.run(300, 10, 0.5);
    service.told();
    let mut out = Writer::default();
    service.alerts.save(&mut out);
    service.alerts = Alerts::load(&mut Reader::new(&out.into_bytes())).unwrap();
    service.run(300, 10, 0.5);
    assert_eq!(service.told(), [""; 0], "told already");
    service.run(2_700, 10, 0.0);
    assert_eq!(service.told()[0], "page recovered");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens: beginnings and ends alternate, nothing fires below the least number of failures or without
    /// requests, a ticket never begins beside a page, and a clock that goes back breaks nothing.
    #[test]
    fn whatever_happens(steps in prop::collection::vec((0u8..8, 1i64..400, 0u64..40, 0u64..100), 1..80)) {
        let mut service = Service::new();
        let mut open = [false; 3];
        for (kind, seconds, rps, percent) in steps {
            match kind {
                0 => service.away(seconds * 100),
                1 => service.now -= seconds,
                2 => service.deploying = !service.deploying,
                _ => {
                    for _ in 0..seconds / 10 {
                        service.record.settle(service.now);
                        service.record.count(service.now, rps, rps * percent / 100);
                        service.record.watch(service.now, service.now + 10);
                        service.now += 10;
                    }
                }
            }
            let s = Situation { record: &service.record, slo: 0.999, deploying: service.deploying, now: service.now };
            for change in service.alerts.look(&s) {
                let tier = change.episode().rule.tier();
                let index = Severity::ALL.into_iter().position(|s| s == tier.severity).unwrap();
                let begins = matches!(change, Change::Fired(_));
                prop_assert_eq!(open[index], !begins, "{:?}", change);
                open[index] = begins;
                if begins {
                    let long = service.record.tally(tier.long.seconds(), service.now);
                    prop_assert!(long.failed >= LEAST_FAILED);
                    prop_assert!(tier.severity != Severity::Ticket || !open[0]);
                    prop_assert!(service.deploying || !tier.deploying);
                }
            }
            prop_assert_eq!(open[0], service.alerts.is_open(Severity::Page));
        }
    }
}
