//! What is remembered of one measure of one version: its rate, how bursty it is, and of a latency the histogram
//! that sets its threshold. About 0.3 kB, and 3 kB more for a latency.

use super::super::dispersion::Dispersion;
use super::super::input::{Cell, MeasuredCells, pooled};
use super::super::stratum::Stratum;
use super::super::timing::Timing;
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

/// What is remembered of one measure.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct MeasureMemory {
    /// Decayed number of all, and of the bad ones, events or quantity.
    pub(super) all: f64,
    pub(super) part: f64,
    /// Seconds of its slots so far: the clock of the decay.
    pub(super) traffic_s: u64,
    pub(super) dispersion: Dispersion,
    /// Of a latency.
    pub(super) stratum: Option<Box<Stratum>>,
}

snapshot_fields!(MeasureMemory { all, part, traffic_s, dispersion, stratum });

impl MeasureMemory {
    /// To be called for every slot before it is judged.
    pub(crate) fn begin(&mut self, t: Slot, timing: Timing) {
        self.dispersion.close(t, timing.dispersion_s());
        if let Some(stratum) = &mut self.stratum {
            stratum.dispersions.close(t, timing.dispersion_s());
            stratum.begin(t, timing);
        }
    }

    /// To be called after the slot was judged.
    pub(crate) fn end(&mut self, t: Slot, timing: Timing, cells: &MeasuredCells) {
        if cells.is_new {
            return;
        }
        let mut all = pooled(&cells.warm).unwrap_or_default();
        pooled(&cells.old).into_iter().for_each(|old| all.merge(&old));
        let [n, x] = all.groups.iter().fold([0, 0], |s, g| [s[0] + g.requests, s[1] + g.bad]);
        if n + x == 0 {
            return;
        }
        if let Some(unit) = self.unit(cells.is_quantity) {
            let groups = all.groups.each_ref();
            let scaled = groups.map(|g| units(g.bad, unit).round() as u64);
            self.dispersion.add(t, timing.dispersion_s(), groups.map(|g| g.requests), scaled);
        }
        let keep = timing.decay();
        self.all = self.all * keep + n as f64;
        self.part = self.part * keep + x as f64;
        self.traffic_s += timing.slot_s() as u64;
        if all.has_latency() {
            let now = self.traffic_s;
            self.stratum.get_or_insert_default().end(t, timing, now, &all);
        }
    }

    /// How much of a quantity counts as one event: its trailing mean per request, once there is one.
    pub(super) fn unit(&self, is_quantity: bool) -> Option<f64> {
        if !is_quantity {
            return Some(1.0);
        }
        (self.all > 0.0 && self.part > 0.0).then(|| self.part / self.all)
    }

    /// Remembered events of a measure with this unit.
    pub(super) fn events(&self, unit: f64) -> f64 {
        self.part / unit
    }

    /// Incident size for a concurrent comparison, and where nothing is concurrent. Latency has its own, at the
    /// threshold of a quantile.
    pub(super) fn sizes(&self, quantile: Option<usize>) -> [f64; 2] {
        let own = self.dispersion_of(quantile);
        [own.incident_size(), own.incident_size_in_time()]
    }

    /// Dispersion of its events, at least 1.
    pub(super) fn phi(&self, quantile: Option<usize>) -> f64 {
        self.dispersion_of(quantile).phi().max(1.0)
    }

    fn dispersion_of(&self, quantile: Option<usize>) -> &Dispersion {
        match (quantile, &self.stratum) {
            (Some(0 | 1), Some(stratum)) => &stratum.dispersions.p50,
            (Some(2), Some(stratum)) => &stratum.dispersions.p95,
            (Some(_), Some(stratum)) => &stratum.dispersions.p99,
            _ => &self.dispersion,
        }
    }

    /// Takes over how bursty the measure is from the version before.
    pub(crate) fn inherit(&mut self, from: &Self) {
        self.dispersion = from.dispersion.clone();
        if let Some(theirs) = &from.stratum {
            self.stratum.get_or_insert_default().dispersions = theirs.dispersions.clone();
        }
    }
}

/// A number of events, or a quantity in units of its mean.
pub(super) fn units(x: u64, unit: f64) -> f64 {
    if unit == 1.0 { x as f64 } else { x as f64 / unit }
}

/// All of a cell: number, events, and its latency above a bucket.
pub(super) fn above(cell: &Cell, bucket: i32) -> u64 {
    cell.groups.iter().map(|group| group.latency.count_above(bucket)).sum()
}
