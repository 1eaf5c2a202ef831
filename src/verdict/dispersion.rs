//! How bursty are the baseline's bad events? Errors come in incidents; a test that takes each for itself
//! would see a regression in every incident. Two halves of the baseline that should behave alike are
//! compared block by block, and their excess spread gives the dispersion `phi` and the mean incident size
//! `cbar` of `docs/statistics.md`, equation (3).

use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

/// What is assumed of a service that was never seen: phi 1.2, worth 5 units of variance.
const PRIOR_PHI: f64 = 1.2;
const PRIOR_V: f64 = 5.0;
/// Seconds after which half of what was learned has decayed towards the prior.
const HALF_LIFE_S: f64 = 6.0 * 3600.0;

/// Incident size for a dispersion: geometric clusters have phi = 2 cbar - 1.
pub(crate) fn incident_size(phi: f64) -> f64 {
    f64::midpoint(phi, 1.0).max(1.0)
}

/// Decayed sums of squared excess and of expected variance between two halves.
#[derive(Debug, Clone, PartialEq)]
struct Spread {
    s: f64,
    v: f64,
    /// Number of the last pair that was counted.
    last: Option<i32>,
}

snapshot_fields!(Spread { s, v, last });

impl Default for Spread {
    fn default() -> Self {
        Self { s: PRIOR_PHI * PRIOR_V, v: PRIOR_V, last: None }
    }
}

impl Spread {
    /// Counts one closed pair of halves with requests `n` and bad events `x`; `number` counts pairs of
    /// `width_s` seconds.
    fn close(&mut self, number: i32, width_s: i64, n: [u64; 2], x: [u64; 2]) {
        if n[0] == 0 || n[1] == 0 || x[0] + x[1] == 0 {
            return;
        }
        let [n1, n2, x1, x2] = [n[0], n[1], x[0], x[1]].map(|v| v as f64);
        let share = n1 / (n1 + n2);
        if let Some(last) = self.last {
            let keep = 0.5f64.powf(f64::from(number - last) * width_s as f64 / HALF_LIFE_S);
            self.s = PRIOR_PHI * PRIOR_V + (self.s - PRIOR_PHI * PRIOR_V) * keep;
            self.v = PRIOR_V + (self.v - PRIOR_V) * keep;
        }
        self.last = Some(number);
        self.s += (x1 - share * (x1 + x2)).powi(2);
        self.v += (x1 + x2) * share * (1.0 - share);
    }

    fn phi(&self) -> f64 {
        (1.0 + 2.0 / self.v.sqrt()) * self.s / self.v
    }
}

/// Dispersion of one kind of bad event, in two forms: between two consecutive blocks in time (always kept:
/// what a remembered baseline needs, since nothing is concurrent), and between two groups of instances
/// (cancels bursts that all instances share; used as soon as it has learned something).
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Dispersion {
    time: Spread,
    pair: i32,
    pair_n: [u32; 2],
    pair_x: [u32; 2],
    groups: Spread,
    block: i32,
    block_n: [u32; 2],
    block_x: [u32; 2],
}

snapshot_fields!(Dispersion { time, pair, pair_n, pair_x, groups, block, block_n, block_x });

impl Dispersion {
    /// Requests and bad events of slot `t`, in blocks of `block_s` seconds, per instance group (all in the
    /// first where instances are unknown).
    pub(crate) fn add(&mut self, t: Slot, block_s: i64, n: [u64; 2], x: [u64; 2]) {
        self.close(t, block_s);
        (self.pair, self.block) = (number(t, 2 * block_s), number(t, block_s));
        let half = (t.div_euclid(block_s).rem_euclid(2)) as usize;
        add(&mut self.pair_n[half], n[0] + n[1]);
        add(&mut self.pair_x[half], x[0] + x[1]);
        for group in 0..2 {
            add(&mut self.block_n[group], n[group]);
            add(&mut self.block_x[group], x[group]);
        }
    }

    /// Counts what ended before slot `t`; call it before the dispersion is used for that slot.
    pub(crate) fn close(&mut self, t: Slot, block_s: i64) {
        if number(t, 2 * block_s) > self.pair {
            let (n, x) = (self.pair_n.map(u64::from), self.pair_x.map(u64::from));
            self.time.close(self.pair, 2 * block_s, n, x);
            (self.pair_n, self.pair_x) = ([0; 2], [0; 2]);
        }
        if number(t, block_s) > self.block {
            let (n, x) = (self.block_n.map(u64::from), self.block_x.map(u64::from));
            self.groups.close(self.block, block_s, n, x);
            (self.block_n, self.block_x) = ([0; 2], [0; 2]);
        }
    }

    /// phi for a concurrent comparison.
    pub(crate) fn phi(&self) -> f64 {
        if self.groups.last.is_some() { self.groups.phi() } else { self.time.phi() }
    }

    /// cbar for a concurrent comparison.
    pub(crate) fn incident_size(&self) -> f64 {
        incident_size(self.phi())
    }

    /// cbar where nothing is concurrent: shared bursts count too.
    pub(crate) fn incident_size_in_time(&self) -> f64 {
        incident_size(self.time.phi())
    }
}

/// Number of the block of `width_s` seconds in which slot `t` lies. Blocks are no shorter than 30 s: 32 bits
/// reach beyond the year 4000, and every operation has twelve such numbers.
fn number(t: Slot, width_s: i64) -> i32 {
    i32::try_from(t.div_euclid(width_s)).unwrap_or(i32::MAX)
}

/// Counts of a block fit into 32 bits, and every operation has sixteen of them.
fn add(sum: &mut u32, more: u64) {
    *sum = sum.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of `statistics-vectors.json` `cbar_estimator`, whose prior is 1.5.
    #[test]
    fn the_estimator_matches_its_vector() {
        let all: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/statistics-vectors.json")).unwrap();
        let v = &all["cbar_estimator"];
        let list =
            |k: &str| -> Vec<u64> { v[k].as_array().unwrap().iter().map(|x| x.as_u64().unwrap()).collect() };
        let mut spread = Spread { s: 1.5 * 5.0, v: 5.0, last: None };
        for (((n1, x1), n2), x2) in list("n1").iter().zip(list("x1")).zip(list("n2")).zip(list("x2")) {
            spread.last = None; // the vector does not decay
            spread.close(0, 60, [*n1, n2], [x1, x2]);
        }
        assert!((spread.s - v["S"].as_f64().unwrap()).abs() < 1e-9);
        // The vector's phi is the plain estimate; ours has the factor for what is not learned yet.
        assert!((spread.v - v["V"].as_f64().unwrap()).abs() < 1e-9);
        assert!((spread.s / spread.v - v["phi"].as_f64().unwrap()).abs() < 1e-9);
        assert!((incident_size(spread.phi()) - v["cbar"].as_f64().unwrap()).abs() < 1e-9);
    }

    #[test]
    fn instance_groups_cancel_shared_bursts_and_time_does_not() {
        let mut d = Dispersion::default();
        for t in 0..3600 {
            // Each minute 30 s of errors on all instances alike.
            let x = if t / 30 % 2 == 0 { [5, 5] } else { [0, 0] };
            d.add(t, 30, [50, 50], x);
        }
        d.close(3600, 30);
        assert!(d.incident_size() < 1.1, "{}", d.incident_size());
        assert!(d.incident_size_in_time() > 20.0, "{}", d.incident_size_in_time());
    }

    #[test]
    fn one_group_falls_back_to_time() {
        let mut d = Dispersion::default();
        for t in 0..600 {
            d.add(t, 30, [50, 0], [u64::from(t % 3 == 0), 0]);
        }
        d.close(600, 30);
        assert_eq!(d.incident_size(), d.incident_size_in_time());
    }
}
