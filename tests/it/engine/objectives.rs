//! Error budgets through the whole engine: counted once, kept over restarts, told once, and without any say in verdicts.

use rollguard::deployment::Mode;
use rollguard::objective::Change;
use rollguard::verdict::{Policy, Verdict};

use crate::engine::world::{World, quick, traffic};

/// An objective of 99 %.
fn world(errors: f64) -> World {
    World::with_known_v1(quick(), Mode::Act, 40.0, errors)
}

#[test]
fn requests_count_once_for_the_service_and_once_for_their_journey() {
    let mut world = world(0.0);
    world.run(120);
    let (all, pay) = (world.objective(None).unwrap(), world.objective(Some("pay")).unwrap());
    let closed: u64 = world.engine.board(world.now()).services[0].versions[0].requests_total;
    let off = closed.abs_diff(all.totals[0]);
    assert!(off <= 40 * 11, "looked at every 10 s: {closed} closed, {} counted", all.totals[0]);
    let share = pay.totals[0] as f64 / all.totals[0] as f64;
    assert!((share - 1.0 / 3.0).abs() < 0.03, "a third of the requests are of the journey: {share}");
    assert_eq!((all.slo, pay.slo, all.days), (0.99, 0.9, 30));
    assert_eq!((all.burn[0], all.budget.unwrap().spent), (Some(0.0), 0));
    assert!(all.budget.unwrap().completeness < 0.001, "five minutes of a month");
}

#[test]
fn an_outage_pages_once_and_says_when_it_is_over() {
    let mut world = world(0.0);
    // Ten minutes of it are 2 % of a month's budget at 99 %.
    world.sends("v1", traffic(4, 40.0, 0.95));
    world.run(640);
    assert_eq!(world.told(), ["page burn_1h -"], "the journey's own objective allows a tenth");
    let alert = &world.kept.alerts[0];
    assert!(alert.deployment.is_none(), "nothing is deployed");
    assert!(alert.long.failed >= 10 && alert.objective.burn[0].unwrap() > 14.4);
    world.sends("v1", traffic(4, 40.0, 0.0));
    world.run(3_000);
    assert_eq!(world.told()[1..], ["page recovered -".to_owned()]);
    let causes: Vec<String> = world.kept.alerts.iter().map(|a| a.cause()).collect();
    assert_eq!(causes[0], causes[1], "both are about the same episode");
}

/// Scenario: the process dies while a page is open.
#[test]
fn a_restart_tells_nothing_twice_and_keeps_the_budget() {
    let mut world = world(0.0);
    // Ten minutes of it are 2 % of a month's budget at 99 %.
    world.sends("v1", traffic(4, 40.0, 0.95));
    world.run(640);
    assert_eq!(world.told(), ["page burn_1h -"]);
    let before = world.objective(None).unwrap();
    world.restart(30);
    world.run(120);
    assert_eq!(world.told(), ["page burn_1h -"], "told already");
    let after = world.objective(None).unwrap();
    assert!(after.budget.unwrap().spent > before.budget.unwrap().spent, "{after:?}");
    assert!(after.watched[2] < before.watched[2] + 0.05, "the gap was not watched");
    world.sends("v1", traffic(4, 40.0, 0.0));
    world.run(3_000);
    assert_eq!(world.told().len(), 2);
    assert!(matches!(world.kept.alerts[1].change, Change::Ended(..)));
}

/// Scenario: all versions go away; hours later the service is back.
#[test]
fn a_service_that_goes_away_finds_its_budget_again() {
    let mut world = world(0.05);
    world.run(60);
    let before = world.objective(None).unwrap().budget.unwrap();
    world.stops("v1");
    world.run(1_200);
    assert!(world.engine.board(world.now()).services.is_empty(), "its series have ended");
    let asleep = world.objective(None).expect("its budget has not").budget.unwrap();
    assert!(asleep.spent >= before.spent && asleep.completeness > before.completeness, "we are still there");
    world.restart(5);
    world.run(20);
    assert_eq!(world.objective(None).unwrap().budget.unwrap().spent, asleep.spent, "also over a restart");
    world.sends("v1", traffic(4, 40.0, 0.05));
    world.run(60);
    assert!(world.objective(None).unwrap().budget.unwrap().spent > asleep.spent);
}

#[test]
fn a_deployment_is_told_what_it_spends_and_put_under_review_without_touching_its_verdict() {
    // The budget burns two to five times too fast with both versions alike: no fault of the new one.
    let policy = Policy { horizon_s: 1_800, ..quick() };
    let run = |errors: f64| {
        let mut world = World::with_known_v1(policy.clone(), Mode::Act, 40.0, 0.0);
        world.sends("v1", traffic(3, 20.0, errors));
        world.sends("v2", traffic(3, 20.0, errors));
        world.run(900);
        world
    };
    let mut world = run(0.03);
    let told = world.told();
    assert_eq!(told[0], "review deploy_review -", "{told:?}");
    let d = world.deployment("v2").unwrap();
    assert!(d.under_review_since.is_some());
    assert!(d.history.iter().any(|line| line.reason.starts_with("Under review: the error budget burns")));
    assert_ne!(d.verdict, Verdict::Fail);
    assert!(world.kept.rollbacks.is_empty());
    let bad = world.version("v2").unwrap().errors_total;
    assert!(d.spent.failed > 0 && d.spent.failed <= bad, "{:?} of {bad}", d.spent);
    assert!(d.spent.share.unwrap() > 0.0 && d.spent.left.is_some());
    // The policy and with it every threshold is what the deployment began with.
    assert_eq!(d.policy, policy);
    world.sends("v1", traffic(3, 20.0, 0.0));
    world.sends("v2", traffic(3, 20.0, 0.0));
    world.run(1_000);
    assert!(world.deployment("v2").unwrap().under_review_since.is_none(), "{:?}", world.told());
    assert!(run(0.005).told().is_empty(), "within the objective nobody is told");
}
