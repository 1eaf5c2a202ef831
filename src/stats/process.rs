//! Evidence over time. An [`EProcess`] starts as a fair bet of 1 and, while the candidate is not worse, is
//! not expected to grow, whatever the moment at which one looks (Ville's inequality). Two devices make it
//! usable: evidence is capped per 5-s block, so that one glitch cannot fire, and mass is held back and bet
//! anew every 30 s, so that a late fault is found nearly as fast as an early one.

use super::increment::{STEPS, Steps};
use super::logsum::{ln_add_exp, ln_sum_exp};
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

/// Seconds of a block, the unit to which the cap applies.
pub const BLOCK_S: i64 = 5;
/// Seconds between restarts.
pub const RESTART_S: i64 = 30;
/// Share of the mass that bets on "worse since the start".
const FIRST_MASS: f64 = 0.5;
/// Held-back mass below this counts as spent.
const SPENT: f64 = 1e-12;
/// Seconds between restarts in watch mode.
pub const WATCH_RESTART_S: i64 = 60;

/// Most nats one block can add: two full blocks from neutral stay below ln(1/alpha).
pub fn block_cap(alpha: f64) -> f64 {
    0.45 * (1.0 / (alpha * FIRST_MASS)).ln()
}

/// Section 2: one e-process on a ladder of effect sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct EProcess {
    start: Slot,
    elapsed: i64,
    steps: u8,
    cap: f64,
    restart_s: i64,
    restart_mass: f64,
    ln_mass: Steps,
    block: Steps,
    unspent: f64,
}

snapshot_fields!(EProcess { start, elapsed, steps, cap, restart_s, restart_mass, ln_mass, block, unspent });

impl EProcess {
    /// A process of `steps` effect sizes that begins in slot `start` and spreads its restarts over `horizon_s`.
    pub fn new(steps: usize, start: Slot, cap: f64, horizon_s: i64) -> Self {
        Self::with_restarts(steps, start, cap, horizon_s, RESTART_S)
    }

    fn with_restarts(steps: usize, start: Slot, cap: f64, horizon_s: i64, restart_s: i64) -> Self {
        Self {
            start,
            elapsed: 0,
            steps: steps.min(STEPS) as u8,
            cap,
            restart_s,
            restart_mass: (1.0 - FIRST_MASS) * restart_s as f64 / horizon_s.max(restart_s) as f64,
            ln_mass: [FIRST_MASS.ln(); STEPS],
            block: [0.0; STEPS],
            unspent: 1.0 - FIRST_MASS,
        }
    }

    /// Slot of the first second.
    pub fn start(&self) -> Slot {
        self.start
    }

    /// Executes every block end and restart up to slot `t`, also where nothing happened.
    pub fn advance(&mut self, t: Slot) {
        while self.elapsed < t - self.start {
            self.elapsed += 1;
            if self.elapsed % BLOCK_S == 0 {
                self.end_block();
            }
            if self.elapsed % self.restart_s == 0 && self.unspent > SPENT {
                let mass = self.restart_mass.min(self.unspent);
                self.ln_mass.iter_mut().for_each(|m| *m = ln_add_exp(*m, mass.ln()));
                self.unspent -= mass;
            }
        }
    }

    fn end_block(&mut self) {
        for (mass, gained) in self.ln_mass.iter_mut().zip(&mut self.block) {
            *mass += gained.min(self.cap);
            *gained = 0.0;
        }
    }

    /// Adds the nats of slot `t`.
    pub fn add(&mut self, t: Slot, nats: &Steps) {
        self.advance(t);
        self.block.iter_mut().zip(nats).for_each(|(b, v)| *b += v);
    }

    /// ln of the mass on each effect size before the running block, and what the block has gained so far.
    pub fn masses(&self) -> [&[f64]; 2] {
        let steps = usize::from(self.steps);
        [&self.ln_mass[..steps], &self.block[..steps]]
    }

    /// Mass that has not begun to bet.
    pub fn unspent(&self) -> f64 {
        self.unspent
    }

    /// Seconds since the start up to which blocks and restarts were executed.
    pub fn elapsed_s(&self) -> i64 {
        self.elapsed
    }

    /// ln E now; may be read at any moment.
    pub fn ln_e(&self) -> f64 {
        let steps = usize::from(self.steps);
        let each = self.ln_mass.iter().zip(&self.block).take(steps).map(|(m, b)| m + b.min(self.cap));
        let mean = ln_sum_exp(each) - (steps as f64).ln();
        if self.unspent > SPENT { ln_add_exp(mean, self.unspent.ln()) } else { mean }
    }
}

/// Section 7.5: watches a version for the rest of its life. Each minute a fresh unit of mass begins to bet
/// (Shiryaev-Roberts), so the statistic grows by at most one a minute on average while nothing is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchProcess {
    start: Slot,
    elapsed: i64,
    steps: u8,
    cap: f64,
    restart_s: i64,
    ln_mass: Steps,
    block: Steps,
}

snapshot_fields!(WatchProcess { start, elapsed, steps, cap, restart_s, ln_mass, block });

impl WatchProcess {
    /// A watch that begins in slot `start`.
    pub fn new(steps: usize, start: Slot, cap: f64) -> Self {
        Self::with_restarts(steps, start, cap, WATCH_RESTART_S)
    }

    fn with_restarts(steps: usize, start: Slot, cap: f64, restart_s: i64) -> Self {
        let ln_mass = [0.0; STEPS];
        Self {
            start,
            elapsed: 0,
            steps: steps.min(STEPS) as u8,
            cap,
            restart_s,
            ln_mass,
            block: [0.0; STEPS],
        }
    }

    /// Executes every block end and restart up to slot `t`.
    pub fn advance(&mut self, t: Slot) {
        while self.elapsed < t - self.start {
            self.elapsed += 1;
            if self.elapsed % BLOCK_S == 0 {
                for (mass, gained) in self.ln_mass.iter_mut().zip(&mut self.block) {
                    *mass += gained.min(self.cap);
                    *gained = 0.0;
                }
            }
            if self.elapsed % self.restart_s == 0 {
                self.ln_mass.iter_mut().for_each(|m| *m = ln_add_exp(*m, 0.0));
            }
        }
    }

    /// Adds the nats of slot `t`.
    pub fn add(&mut self, t: Slot, nats: &Steps) {
        self.advance(t);
        self.block.iter_mut().zip(nats).for_each(|(b, v)| *b += v);
    }

    /// ln R now, the mean over the ladder.
    pub fn ln_r(&self) -> f64 {
        let steps = usize::from(self.steps);
        let each = self.ln_mass.iter().zip(&self.block).take(steps).map(|(m, b)| m + b.min(self.cap));
        ln_sum_exp(each) - (steps as f64).ln()
    }
}

#[cfg(test)]
#[path = "vectors_tests.rs"]
mod vectors_tests;
