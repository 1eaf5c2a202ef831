//! Gauges of young instances, a hundred deployments of each situation.

use crate::SEED;
use crate::gauges::{SITUATIONS, Situation};

/// Scenario: instances of a new version whose heap rises and whose cache is cold at first, as they always are; and some
/// that leak or stay cold. Guarantees: the bounds of the published table, as far as a hundred can tell.
#[test]
fn young_instances_are_compared_with_young_ones() {
    let mut broken = Vec::new();
    println!("{}", Situation::HEAD);
    for situation in &SITUATIONS {
        let outcome = situation.play(100, SEED);
        let row = situation.markdown(&outcome);
        println!("{row}");
        if !situation.is_kept(&outcome) {
            broken.push(row);
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
