//! The same service as it looks from its metrics: every instance counts its requests and exports the difference
//! once an interval, each in its own phase. A burst that hits all instances in one second therefore falls into
//! one slot at some of them and into the next at others.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use rollguard::histogram::{SparseHistogram, layout};
use rollguard::model::Slot;
use rollguard::verdict::{Arm, SlotInput};

use crate::scenario::{Scenario, Sending};
use crate::traffic::Service;

/// The default bounds of OpenTelemetry's HTTP durations, seconds.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// A simulated service and what it has counted but not exported yet.
#[derive(Debug)]
pub(crate) struct Exports {
    service: Service,
    slot_s: i64,
    warmup_s: i64,
    bounds: Option<Arc<[f64]>>,
    /// Phase of each instance's export, and its first second with a request: candidate, baseline.
    phases: [Vec<i64>; 2],
    first: [Vec<Option<Slot>>; 2],
    open: BTreeMap<Slot, SlotInput>,
}

/// One second of spans, and the slot of metrics that ended with it.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) t: Slot,
    /// Seconds since the candidate began, negative before.
    pub(crate) age: i64,
    pub(crate) spans: SlotInput,
    pub(crate) metrics: Option<(Slot, SlotInput)>,
}

impl Exports {
    pub(crate) fn new(scenario: Scenario, sending: Sending, history_s: i64, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x5eed);
        let [c, b] = scenario.load.instances;
        let phases = [c, b].map(|n| (0..n).map(|_| rng.i64(0..sending.interval_s)).collect());
        Self {
            // Who is young is decided here: by the second for spans, by the difference for metrics.
            service: Service::new(Scenario { warmup_s: 0, ..scenario }, history_s, seed),
            slot_s: sending.interval_s,
            warmup_s: scenario.warmup_s,
            bounds: sending.explicit.then(|| Arc::from(BOUNDS)),
            phases,
            first: [vec![None; c], vec![Some(Slot::MIN / 2); b]],
            open: BTreeMap::new(),
        }
    }

    /// The next second.
    pub(crate) fn second(&mut self) -> Heard {
        let (t, age, parts) = self.service.second_by_instance();
        let mut spans = SlotInput::default();
        for part in parts {
            let first = &mut self.first[part.side][part.instance];
            if part.arm.totals()[0] > 0 {
                first.get_or_insert(t);
            }
            let warm_from = first.map_or(Slot::MAX, |first| first + self.warmup_s);
            // A second's requests are in the first export after it, and the difference begins an interval before.
            let end = t + 1 + (self.phases[part.side][part.instance] - t - 1).rem_euclid(self.slot_s);
            let slot = end - end.rem_euclid(self.slot_s);
            let counted = self.counted(&part.arm);
            let input = self.open.entry(slot).or_default();
            add(arm_of(input, part.side), counted, end - self.slot_s < warm_from);
            add(arm_of(&mut spans, part.side), part.arm, t < warm_from);
        }
        let ends = (t + 1) % self.slot_s == 0;
        let metrics = ends.then(|| {
            let slot = t + 1 - self.slot_s;
            (slot, self.open.remove(&slot).unwrap_or_default())
        });
        Heard { t, age, spans, metrics }
    }

    /// The same with the latencies in explicit buckets, where metrics have those.
    fn counted(&self, arm: &Arm) -> Arm {
        let mut arm = arm.clone();
        if let Some(bounds) = &self.bounds {
            for cell in arm.warm.values_mut() {
                cell.groups.iter_mut().for_each(|counts| counts.latency = explicit(&counts.latency, bounds));
                cell.bounds = Some(Arc::clone(bounds));
            }
        }
        arm
    }
}

fn explicit(latencies: &SparseHistogram, bounds: &[f64]) -> SparseHistogram {
    let key = |bucket| bounds.partition_point(|&b| b < layout::upper_edge_seconds(bucket)) as i16;
    latencies.iter().map(|(bucket, n)| (key(bucket), n)).collect()
}

fn arm_of(input: &mut SlotInput, side: usize) -> &mut Arm {
    if side == 0 { &mut input.candidate } else { &mut input.baseline }
}

/// Adds what one instance served.
fn add(sum: &mut Arm, part: Arm, young: bool) {
    sum.status_seen = true;
    if young {
        for cell in part.warm.values() {
            let mut all = cell.merged();
            if let Some(bounds) = &cell.bounds {
                all.latency = rollguard::verdict::on_grid(&all.latency, bounds);
            }
            sum.young.merge(&all);
        }
        return;
    }
    for (operation, cell) in &part.warm {
        sum.warm.entry(Arc::clone(operation)).or_default().merge(cell);
    }
    for one in part.instances {
        match sum.instances.iter_mut().find(|i| i.ordinal == one.ordinal) {
            Some(i) => {
                i.requests += one.requests;
                i.bad += one.bad;
                i.bucket_sum += one.bucket_sum;
                i.bucket_squares += one.bucket_squares;
            }
            None => sum.instances.push(one),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{METRICS_15_S, QUARTER};

    /// Scenario: three minutes in front of a candidate and two with it. Guarantees: no request is lost or counted
    /// twice on its way through the exports, and the interval is kept.
    #[test]
    fn every_request_is_exported_once() {
        let scenario = Scenario { warmup_s: 0, ..Scenario::healthy(QUARTER) };
        let mut exports = Exports::new(scenario, METRICS_15_S, 180, 3);
        let (mut spans, mut metrics, mut slots) = ([0; 2], [0; 2], Vec::new());
        for _ in 0..300 {
            let heard = exports.second();
            let count = |sum: &mut [u64; 2], input: &SlotInput| {
                sum[0] += input.candidate.totals()[0];
                sum[1] += input.baseline.totals()[0];
            };
            count(&mut spans, &heard.spans);
            if let Some((slot, input)) = heard.metrics {
                count(&mut metrics, &input);
                slots.push(slot);
            }
        }
        exports.open.values().for_each(|input| {
            metrics[0] += input.candidate.totals()[0];
            metrics[1] += input.baseline.totals()[0];
        });
        assert_eq!(spans, metrics);
        assert!(slots.len() >= 19 && slots.iter().all(|t| t % 15 == 0), "{slots:?}");
    }
}
