//! What the SLIs of a policy's own count by metrics, when an interval closes: counts by instance group become cells,
//! with the requests or the instance-seconds that they are per.
//!
//! What no point says is not zero. Where the exposure is not counted by the same metric, a slot counts only if
//! metrics of the version came since it began, whichever they are; and a metric that a version never sent is told
//! ([`crate::verdict::MeasuredCells`]), so that its silence is no sign of health.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::service::common_form;
use crate::histogram::Form;
use crate::model::{
    Completion, InstanceId, MetricMeasure, NANOS_PER_SECOND, Program, Slot, Source, UnixNanos,
};
use crate::pipeline::arms::Closed;
use crate::pipeline::service::Service;
use crate::verdict::{ALL_OPERATIONS, Cell, Cells, Counts, MeasuredCells};
use crate::window::MeasuredInterval;

impl Service {
    /// Whether events of metrics are counted per request of spans.
    pub(super) fn counts_requests_of_spans(&self) -> bool {
        let by_metrics = self.metered.as_ref().is_some_and(|metered| metered.counts_requests());
        !by_metrics && self.measures.program().is_some_and(|program| program.needs_requests())
    }

    /// The metrics that SLIs read, by name, and whether a point that counts for one has come.
    pub(in crate::pipeline) fn sli_metrics(&self) -> BTreeMap<String, bool> {
        let Some(program) = self.measures.program() else { return BTreeMap::new() };
        let shown = self.metered.as_ref().map(|metered| &metered.shown);
        let gauges = self.gauges.as_ref().map(|gauges| &gauges.shown);
        let has_come = |measure: &MetricMeasure| {
            shown.is_some_and(|shown| shown.contains_key(&measure.key))
                || gauges.is_some_and(|shown| shown.contains(&measure.key))
        };
        let come =
            program.metric_measures().iter().filter(|m| has_come(m)).fold(0, |bits, m| bits | m.bits());
        let mut metrics = BTreeMap::new();
        for (name, bits) in program.metric_names() {
            *metrics.entry(name.to_owned()).or_default() |= bits & come != 0;
        }
        metrics
    }

    /// Adds to each version's slot what its metrics count for measures.
    pub(super) fn measure_interval(
        &mut self,
        slot: Slot,
        closed: &mut BTreeMap<Arc<str>, Closed>,
        measured: &BTreeMap<Arc<str>, MeasuredInterval>,
    ) {
        let Some(program) = self.measures.program() else { return };
        if program.metric_measures().is_empty() {
            return;
        }
        self.note_shown(&program, measured);
        self.share_forms(&program, measured);
        let Some(metered) = &mut self.metered else { return };
        let Some(slot_s) = metered.slot_s() else { return };
        let requests_of = if metered.counts_requests() { Source::Metrics } else { Source::Spans };
        let has_changed = metered.requests.replace(requests_of).is_some_and(|before| before != requests_of);
        let began = UnixNanos(u64::try_from(slot).unwrap_or(0) * NANOS_PER_SECOND);
        for (label, one) in closed {
            let (Some(version), Some(counted)) = (self.versions.get_mut(label), measured.get(label)) else {
                continue;
            };
            let warm = match program.by_instance() {
                0 => BTreeMap::new(),
                _ => version.warm_instances(slot, slot_s, &counted.instances()),
            };
            let is_heard = version.id.is_some_and(|id| self.measures.has_heard(id, began));
            for measure in program.metric_measures() {
                if has_changed
                    && measure.completion == Completion::PerRequest
                    && let Some(side) = &mut version.metered
                {
                    // Requests are counted otherwise from now on: spans may be a sample.
                    side.memory.measures.remove(&measure.key);
                }
                let exposure = match measure.completion {
                    Completion::PerSecond if is_heard => {
                        by_group(warm.values().map(|group| (*group, slot_s.unsigned_abs())))
                    }
                    Completion::PerRequest if requests_of == Source::Metrics => {
                        requests_by_group(&one.arm.warm)
                    }
                    Completion::PerRequest if is_heard => version.requests_behind(slot, slot_s),
                    _ => [0; 2],
                };
                let form = metered.measure_forms.get(&measure.key);
                let shown = version.metered.as_ref().and_then(|side| side.shown.get(&measure.key).copied());
                if let Some(cells) = measured_cells(measure, counted, &warm, exposure, form, shown) {
                    one.arm.measures.insert(measure.key, cells);
                }
            }
        }
    }

    /// Notes of which measures points came, and whether any counts. What nobody counted is not shown by its version.
    fn note_shown(&mut self, program: &Program, measured: &BTreeMap<Arc<str>, MeasuredInterval>) {
        let Some(metered) = &mut self.metered else { return };
        for (label, counted) in measured {
            let Some(side) = self.versions.get_mut(label).and_then(|v| v.metered.as_mut()) else { continue };
            for measure in program.metric_measures().iter().filter(|m| counted.seen() & m.bits() != 0) {
                let counts = counted.counted() & measure.bits() != 0;
                *metered.shown.entry(measure.key).or_default() |= counts;
                if counts {
                    side.shown.insert(measure.key, true);
                }
            }
        }
    }

    /// Brings the latencies of all versions into buckets that they share. While something is compared they may only
    /// become fewer.
    fn share_forms(&mut self, program: &Program, measured: &BTreeMap<Arc<str>, MeasuredInterval>) {
        let (is_deciding, margin) = (self.is_deciding(), self.policy.latency_margin);
        let Some(metered) = &mut self.metered else { return };
        let wanted = |measure: &&MetricMeasure| measure.completion == Completion::Latencies;
        for measure in program.metric_measures().iter().filter(wanted) {
            for (label, counted) in measured {
                if let Some(side) = self.versions.get_mut(label).and_then(|v| v.metered.as_mut()) {
                    counted.admit(measure.number, side.measure_forms.entry(measure.key).or_default(), margin);
                }
            }
            let known = metered.measure_forms.get(&measure.key);
            let begin = known.filter(|_| is_deciding).cloned().unwrap_or_default();
            let form =
                common_form(&self.versions, begin, margin, |side| side.measure_forms.get(&measure.key));
            metered.measure_forms.insert(measure.key, form);
        }
    }
}

/// Sums by instance group.
pub(in crate::pipeline) fn by_group(numbers: impl Iterator<Item = (usize, u64)>) -> [u64; 2] {
    numbers.fold([0; 2], |mut sums, (group, n)| {
        sums[group] += n;
        sums
    })
}

/// Requests by instance group.
pub(in crate::pipeline) fn requests_by_group(cells: &Cells) -> [u64; 2] {
    let each = cells.values().flat_map(|cell| cell.groups.iter().enumerate());
    by_group(each.map(|(group, counts)| (group, counts.requests)))
}

/// Requests of spans, by second and instance group, that metric intervals which end in a slot of `slot_s` seconds are
/// about. Instances export at moments of their own, so of a second near the edges a part of them are.
pub(in crate::pipeline) fn requests_behind(
    requests: impl Iterator<Item = (Slot, [u64; 2])>,
    slot: Slot,
    slot_s: i64,
) -> [u64; 2] {
    let mut sums = [0.0; 2];
    for (t, requests) in requests {
        let middle = (t - slot) as f64 + 0.5;
        let share = (1.0 - middle.abs() / slot_s as f64).max(0.0);
        sums.iter_mut().zip(requests).for_each(|(sum, n)| *sum += share * n as f64);
    }
    sums.map(|sum| sum.round() as u64)
}

/// What an interval of a version counts for a measure; `None` where there is nothing that could be compared. `exposure` are
/// the requests or the seconds of instances by group, where points do not say what it is per; `shown` says whether a
/// point of its metric came, from this version or only from one before it.
pub(in crate::pipeline) fn measured_cells(
    measure: &MetricMeasure,
    counted: &MeasuredInterval,
    warm: &BTreeMap<InstanceId, usize>,
    exposure: [u64; 2],
    form: Option<&Form>,
    shown: Option<bool>,
) -> Option<MeasuredCells> {
    let groups = groups(measure, counted, warm, exposure, form)?;
    let bounds = form.filter(|_| measure.completion == Completion::Latencies).and_then(Form::bounds);
    let (is_unseen, is_new) = (shown != Some(true), shown.is_none());
    let mut cells = MeasuredCells { is_unseen, is_new, ..MeasuredCells::default() };
    cells.warm.insert(ALL_OPERATIONS.into(), Cell { groups, bounds });
    Some(cells)
}

/// The numbers of a measure by instance group; `None` where there is nothing that could be compared.
fn groups(
    measure: &MetricMeasure,
    counted: &MeasuredInterval,
    warm: &BTreeMap<InstanceId, usize>,
    exposure: [u64; 2],
    form: Option<&Form>,
) -> Option<[Counts; 2]> {
    let all = counted.counts(measure.number);
    let count = |requests: u64, bad: u64| Counts { requests, bad, ..Counts::default() };
    let groups = match measure.completion {
        Completion::Counts => all.map(|[n, x]| count(n, x)),
        Completion::GoodOnes => all.map(|[n, good]| count(n, n.saturating_sub(good))),
        Completion::LongerThan(nanos) => {
            let longer = counted.longer_than(measure.number, nanos as f64 / NANOS_PER_SECOND as f64)?;
            [0, 1].map(|group| count(all[group][0], longer[group]))
        }
        Completion::Latencies => {
            let mut latencies = counted.latencies(measure.number, form?).into_iter();
            all.map(|[n, _]| Counts { latency: latencies.next().unwrap_or_default(), ..count(n, 0) })
        }
        Completion::PerRequest => [0, 1].map(|group| count(exposure[group], all[group][1])),
        Completion::PerSecond => {
            // Only of those whose seconds count: an instance is warm for both or for neither.
            let events = counted.of_instances(measure.number);
            let events = by_group(events.filter_map(|(id, n)| Some((*warm.get(&id)?, n))));
            [0, 1].map(|group| count(exposure[group], events[group]))
        }
        Completion::Level => return None,
    };
    groups.iter().any(|counts| counts.requests > 0).then_some(groups)
}
