//! Are the spans all of the requests? Where a service counts its requests in metrics too, the two counts say
//! how many spans were dropped on the way: head sampling in the SDK, tail sampling in a Collector. Totals only;
//! nothing of an outcome is read.

use std::collections::VecDeque;

use super::timing::Timing;
use crate::model::snapshot::snapshot_fields;
use crate::model::{Slot, Source};

/// Below this share of the requests that metrics count, spans are a sample.
pub(crate) const COMPLETE: f64 = 0.9;
/// Requests in metrics, and slots of metrics, before the share is told.
const MIN_REQUESTS: f64 = 100.0;
const MIN_SLOTS: u64 = 5;
/// Slots that wait for the other source to arrive; older ones are dropped. 24 bytes each.
const WAITING: usize = 1_200;

/// Counts of one version by both sources, over the same time.
#[derive(Debug, Clone, PartialEq, Default)]
struct Counted {
    spans: f64,
    metrics: f64,
    /// Most spans in one slot of metrics: by so much the two may differ only because exports have phases.
    widest: f64,
    slots: u64,
}

snapshot_fields!(Counted { spans, metrics, widest, slots });

impl Counted {
    fn add(&mut self, keep: f64, spans: u64, metrics: u64) {
        // The first export holds what came before anybody looked.
        if metrics == 0 && self.slots == 0 {
            return;
        }
        self.slots += 1;
        if self.slots == 1 {
            return;
        }
        self.spans = self.spans * keep + spans as f64;
        self.metrics = self.metrics * keep + metrics as f64;
        self.widest = (self.widest * keep).max(spans as f64);
    }

    fn is_known(&self) -> bool {
        self.slots > MIN_SLOTS && self.metrics >= MIN_REQUESTS
    }

    /// Spans per request that metrics count.
    fn share(&self) -> Option<f64> {
        self.is_known().then(|| self.spans / self.metrics)
    }

    /// Whether spans are fewer even if one more interval of them belonged to the same requests.
    fn is_sampled(&self) -> bool {
        self.is_known() && self.spans + self.widest < COMPLETE * self.metrics
    }
}

/// Spans held against metrics for candidate and baseline.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Coverage {
    /// Requests of candidate and baseline by slot, not compared yet: spans, metrics.
    spans: VecDeque<(Slot, [u64; 2])>,
    metrics: VecDeque<(Slot, [u64; 2])>,
    candidate: Counted,
    baseline: Counted,
}

snapshot_fields!(Coverage { spans, metrics, candidate, baseline });

impl Coverage {
    /// Requests of candidate and baseline in slot `t` of a source; `timing` is that of the metrics.
    pub(crate) fn add(&mut self, source: Source, t: Slot, requests: [u64; 2], timing: Timing) {
        let waiting = match source {
            Source::Spans => &mut self.spans,
            Source::Metrics => &mut self.metrics,
        };
        waiting.push_back((t, requests));
        if waiting.len() > WAITING {
            waiting.pop_front();
        }
        self.compare(timing);
    }

    /// Compares the slots of metrics whose seconds of spans are all there.
    fn compare(&mut self, timing: Timing) {
        while let (Some(&(t, metrics)), Some(&(last, _))) = (self.metrics.front(), self.spans.back())
            && last >= t + timing.slot_s() - 1
        {
            self.metrics.pop_front();
            let mut spans = [0; 2];
            while let Some(&(second, n)) = self.spans.front()
                && second < t + timing.slot_s()
            {
                self.spans.pop_front();
                if second >= t {
                    spans = [spans[0] + n[0], spans[1] + n[1]];
                }
            }
            let keep = timing.decay();
            self.candidate.add(keep, spans[0], metrics[0]);
            self.baseline.add(keep, spans[1], metrics[1]);
        }
    }

    /// Spans per request that metrics count, the lower of both versions; `None` until enough was seen.
    pub(crate) fn share(&self) -> Option<f64> {
        [&self.candidate, &self.baseline].into_iter().filter_map(Counted::share).reduce(f64::min)
    }

    /// Whether the spans of either version are only a sample of its requests.
    pub(crate) fn is_sampled(&self) -> bool {
        self.candidate.is_sampled() || self.baseline.is_sampled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten requests a second for five minutes; of the spans `kept` of 10 arrive. Metrics are exported every
    /// 15 s, `phase` seconds after the slot began, and spans lag `lag` seconds behind.
    fn run(kept: u64, phase: i64, lag: i64) -> Coverage {
        let (timing, mut coverage) = (Timing::of_slot(15), Coverage::default());
        for t in 0..300 + lag {
            if t >= lag {
                coverage.add(Source::Spans, t - lag, [kept, 10], timing);
            }
            if t < 300 && (t + 1) % 15 == 0 {
                // The delta of the first export is shorter by its phase.
                let n = if t == 14 { 10 * phase as u64 } else { 150 };
                coverage.add(Source::Metrics, t - 14, [n, 150], timing);
            }
        }
        coverage
    }

    #[test]
    fn spans_are_held_against_metrics_of_the_same_time() {
        for (kept, phase, lag, share, sampled) in [
            (10, 1, 0, 1.0, false),
            (10, 14, 40, 1.0, false),
            // Nine of ten: not below.
            (9, 7, 3, 0.9, false),
            (8, 7, 3, 0.8, true),
            (1, 7, 3, 0.1, true),
            (0, 7, 3, 0.0, true),
        ] {
            let coverage = run(kept, phase, lag);
            let got = coverage.share().unwrap();
            assert!((got - share).abs() < 0.01, "{kept} of 10: {got}");
            assert_eq!(coverage.is_sampled(), sampled, "{kept} of 10");
        }
    }

    #[test]
    fn little_traffic_says_nothing_and_what_waits_is_bounded() {
        let timing = Timing::of_slot(60);
        let mut coverage = Coverage::default();
        for t in 0..5_000 {
            coverage.add(Source::Spans, t, [1, 1], timing);
        }
        assert_eq!((coverage.share(), coverage.is_sampled()), (None, false));
        assert_eq!(coverage.spans.len(), WAITING);
    }
}
