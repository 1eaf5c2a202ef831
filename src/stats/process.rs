//! Evidence over time. An [`EProcess`] starts as a fair bet of 1 and, while the candidate is not worse, is
//! not expected to grow, whatever the moment at which one looks (Ville's inequality). Two devices make it
//! usable: evidence is capped per block of 5 s, so that one glitch cannot fire, and mass is held back and bet
//! anew every 30 s, so that a late fault is found nearly as fast as an early one. Where slots are longer than
//! a second, blocks and restarts are too: the [`Rhythm`] says how long.

use super::increment::{STEPS, Steps};
use super::logsum::{ln_add_exp, ln_sum_exp};
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

/// Seconds of a block, the unit to which the cap applies, where slots are no longer.
pub const BLOCK_S: i64 = 5;
/// Seconds between restarts, where blocks are shorter.
pub const RESTART_S: i64 = 30;
/// Share of the mass that bets on "worse since the start".
const FIRST_MASS: f64 = 0.5;
/// Held-back mass below this counts as spent.
const SPENT: f64 = 1e-12;
/// Seconds between restarts in watch mode, and the time for which one unit of mass is bet there.
pub const WATCH_RESTART_S: i64 = 60;

/// How the time of a process is cut, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// Length of a block.
    pub block_s: i64,
    /// Time between restarts, whole blocks.
    pub restart_s: i64,
}

snapshot_fields!(Rhythm { block_s, restart_s });

impl Rhythm {
    /// The rhythm of slots of a second.
    pub const SECONDS: Self = Self { block_s: BLOCK_S, restart_s: RESTART_S };
    /// The same in watch mode.
    pub const WATCH_SECONDS: Self = Self { block_s: BLOCK_S, restart_s: WATCH_RESTART_S };
}

/// Most nats one block can add: two full blocks from neutral stay below ln(1/alpha).
pub fn block_cap(alpha: f64) -> f64 {
    0.45 * (1.0 / (alpha * FIRST_MASS)).ln()
}

/// Units of mass that a watch places at its start and at each restart.
pub fn watch_unit(rhythm: Rhythm) -> f64 {
    rhythm.restart_s as f64 / WATCH_RESTART_S as f64
}

/// Section 2: one e-process on a ladder of effect sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct EProcess {
    start: Slot,
    elapsed: i64,
    steps: u8,
    cap: f64,
    rhythm: Rhythm,
    restart_mass: f64,
    ln_mass: Steps,
    block: Steps,
    unspent: f64,
}

snapshot_fields!(EProcess { start, elapsed, steps, cap, rhythm, restart_mass, ln_mass, block, unspent });

impl EProcess {
    /// A process of `steps` effect sizes that begins in slot `start` and spreads its restarts over `horizon_s`:
    /// the longer the time between them, the more mass each places.
    pub fn new(steps: usize, start: Slot, cap: f64, horizon_s: i64, rhythm: Rhythm) -> Self {
        let restart_s = rhythm.restart_s;
        Self {
            start,
            elapsed: 0,
            steps: steps.min(STEPS) as u8,
            cap,
            rhythm,
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
            if self.elapsed % self.rhythm.block_s == 0 {
                self.end_block();
            }
            if self.elapsed % self.rhythm.restart_s == 0 && self.unspent > SPENT {
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
/// (Shiryaev-Roberts), so the statistic grows by at most one a minute on average while nothing is wrong. A minute in
/// which nothing was bet adds none: of a baseline that is gone, weeks of silence would otherwise add up to an alarm.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchProcess {
    start: Slot,
    elapsed: i64,
    steps: u8,
    cap: f64,
    rhythm: Rhythm,
    /// ln of the mass that each restart places.
    ln_unit: f64,
    ln_mass: Steps,
    block: Steps,
    /// Whether anything was added since the last restart.
    fed: bool,
}

snapshot_fields!(WatchProcess { start, elapsed, steps, cap, rhythm, ln_unit, ln_mass, block, fed });

impl WatchProcess {
    /// A watch that begins in slot `start`. One unit of mass is for 60 s, so a restart places as many units as
    /// there are minutes until the next.
    pub fn new(steps: usize, start: Slot, cap: f64, rhythm: Rhythm) -> Self {
        Self::with_unit(steps, start, cap, rhythm, watch_unit(rhythm))
    }

    /// Slot of the first second.
    pub fn start(&self) -> Slot {
        self.start
    }

    /// ln of the mass on each effect size before the running block, and what the block has gained so far.
    pub fn masses(&self) -> [&[f64]; 2] {
        let steps = usize::from(self.steps);
        [&self.ln_mass[..steps], &self.block[..steps]]
    }

    /// Seconds since the start up to which blocks and restarts were executed.
    pub fn elapsed_s(&self) -> i64 {
        self.elapsed
    }

    fn with_unit(steps: usize, start: Slot, cap: f64, rhythm: Rhythm, unit: f64) -> Self {
        let ln_unit = unit.ln();
        Self {
            start,
            elapsed: 0,
            steps: steps.min(STEPS) as u8,
            cap,
            rhythm,
            ln_unit,
            ln_mass: [ln_unit; STEPS],
            block: [0.0; STEPS],
            fed: false,
        }
    }

    /// Whether anything was added since the last restart: only then the next one places mass.
    pub fn is_fed(&self) -> bool {
        self.fed
    }

    /// Executes every block end and restart up to slot `t`.
    pub fn advance(&mut self, t: Slot) {
        while self.elapsed < t - self.start {
            self.elapsed += 1;
            if self.elapsed % self.rhythm.block_s == 0 {
                for (mass, gained) in self.ln_mass.iter_mut().zip(&mut self.block) {
                    *mass += gained.min(self.cap);
                    *gained = 0.0;
                }
            }
            if self.elapsed % self.rhythm.restart_s == 0 && std::mem::take(&mut self.fed) {
                let ln_unit = self.ln_unit;
                self.ln_mass.iter_mut().for_each(|m| *m = ln_add_exp(*m, ln_unit));
            }
        }
    }

    /// Adds the nats of slot `t`.
    pub fn add(&mut self, t: Slot, nats: &Steps) {
        self.advance(t);
        self.fed = true;
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
