//! The statements of explanations about what would show, held to what does.

use crate::SEED;
use crate::promises::{PROMISES, Promise};

/// Scenario: versions worse by exactly what a statement names. Guarantees: four of five fail in the time that it names.
#[test]
fn four_of_five_show_when_a_statement_says_so() {
    let mut broken = Vec::new();
    println!("{}", Promise::HEAD);
    for promise in &PROMISES {
        let Some(runs) = promise.tested else { continue };
        let kept = promise.keep(runs, SEED);
        let row = promise.markdown(&kept);
        println!("{row}");
        if kept.share() < 0.8 {
            broken.push(row);
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
