//! Alerts of error budgets: a service within its objective is hardly told of, one far outside is told of at once.

use fastrand::Rng;

use crate::days::{Law, live};

const HALF: Law = Law { name: "", share: 0.0005, cluster: 1.0, bursts: None };

/// Scenario: days of services that fail half of what they may, by chance and in clusters. Guarantees: hardly a page.
#[test]
fn a_service_within_its_objective_is_hardly_paged() {
    for (rate, seed) in [(1.0, 2), (100.0, 4)] {
        let told = live(HALF, rate, 4, Rng::with_seed(seed));
        assert_eq!((told.pages, told.tickets), (0, 0), "{rate} a second: {told:?}");
        let clusters = live(Law { cluster: 10.0, ..HALF }, rate, 4, Rng::with_seed(seed));
        assert!(clusters.pages <= 1, "{rate} a second: {clusters:?}");
    }
}

/// Scenario: a service that always fails twenty times what it may, and one that does four hours a day. Guarantees: the
/// first is told of once and before the days that count, the second again and again.
#[test]
fn a_service_far_outside_is_paged() {
    let told = live(Law { share: 0.02, ..HALF }, 10.0, 2, Rng::with_seed(5));
    assert_eq!(told, crate::days::Told::default(), "it was open all the time");
    let rainy = Law { share: 0.004, bursts: Some([0.99, 3_600.0, 4.0]), ..HALF };
    let told = live(rainy, 10.0, 4, Rng::with_seed(6));
    assert!(told.pages >= 4, "an hour at a burn of some twenty, four times a day: {told:?}");
}
