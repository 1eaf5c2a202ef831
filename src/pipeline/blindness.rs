//! When telemetry was refused because an exporter had no room, or memory was short. What is refused is missing for both versions and
//! nobody knows of which more, so seconds in which it happened say nothing: they are not judged, nothing is
//! remembered of them, and silence meanwhile proves nothing. Verdicts wait, and say for whom.
//!
//! Refused logs hide errors, not requests: seconds in which logs were refused add nothing to what is compared per
//! request, and the rest of the judgement goes on.

use std::sync::Arc;

use super::passage::DataType;
use crate::model::{Slot, Source, UnixNanos};

/// Seconds after a refusal for which verdicts say that they wait: senders come again more seldom each time, up
/// to twice a minute.
const SHOWN_S: i64 = 60;

/// Seconds for which senders that were refused may keep what they have: they come again after half a minute at the latest.
const DELAYED_S: Slot = 30;

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The exporter that had no room, or the memory limiter.
    pub by: Arc<str>,
    /// When the request came.
    pub at: UnixNanos,
}

/// The last refusals of what is judged, by source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blindness {
    spans: Option<Refusal>,
    metrics: Option<Refusal>,
    logs: Option<Refusal>,
}

impl Blindness {
    /// Notes a request that was refused. Profiles are not judged.
    pub(super) fn note(&mut self, data: DataType, by: &Arc<str>, at: UnixNanos) {
        let last = match data {
            DataType::Traces => &mut self.spans,
            DataType::Metrics => &mut self.metrics,
            DataType::Logs => &mut self.logs,
            DataType::Profiles => return,
        };
        if last.as_ref().is_none_or(|last| last.at <= at) {
            *last = Some(Refusal { by: Arc::clone(by), at });
        }
    }

    /// Takes over what came since.
    pub(super) fn extend(&mut self, newer: Self) {
        self.spans = newer.spans.or(self.spans.take());
        self.metrics = newer.metrics.or(self.metrics.take());
        self.logs = newer.logs.or(self.logs.take());
    }

    /// Whether requests with what a slot of a source holds may have been refused: some were, since it began.
    /// Asked when it is closed.
    pub(super) fn covers(&self, source: Source, slot: Slot) -> bool {
        reaches(self.of(source), slot)
    }

    /// Whether spans of a slot may still be on their way because their sender was refused, in it or shortly before.
    pub(super) fn delays_spans(&self, slot: Slot) -> bool {
        reaches(self.spans.as_ref(), slot - DELAYED_S)
    }

    /// Whether error logs of a second may have been refused, or requests that they are divided by.
    pub(super) fn covers_logs(&self, slot: Slot) -> bool {
        reaches(self.logs.as_ref(), slot) || self.covers(Source::Spans, slot)
    }

    /// The exporter, or the limiter, for which verdicts wait now: they go on where only logs are refused.
    pub(super) fn by(&self, now: UnixNanos) -> Option<&Arc<str>> {
        let newest = self.spans.iter().chain(&self.metrics).max_by_key(|last| last.at)?;
        (now.slot() - newest.at.slot() <= SHOWN_S).then_some(&newest.by)
    }

    const fn of(&self, source: Source) -> Option<&Refusal> {
        match source {
            Source::Spans => self.spans.as_ref(),
            Source::Metrics => self.metrics.as_ref(),
        }
    }
}

fn reaches(last: Option<&Refusal>, slot: Slot) -> bool {
    last.is_some_and(|last| last.at.slot() >= slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_covered_from_their_beginning_and_by_source() {
        let mut blindness = Blindness::default();
        assert!(!blindness.covers(Source::Spans, 0));
        let second = UnixNanos::from_secs;
        blindness.note(DataType::Traces, &"otlp_grpc/a".into(), second(100));
        blindness.note(DataType::Logs, &"otlp_grpc/b".into(), second(200));
        for (slot, spans, logs) in
            [(93, true, true), (100, true, true), (101, false, true), (200, false, true), (201, false, false)]
        {
            assert_eq!(blindness.covers(Source::Spans, slot), spans, "{slot}");
            assert_eq!(blindness.covers_logs(slot), logs, "{slot}");
            assert!(!blindness.covers(Source::Metrics, slot));
        }
        for (slot, is_delayed) in [(100, true), (130, true), (131, false)] {
            assert_eq!(blindness.delays_spans(slot), is_delayed, "{slot}");
        }
        assert_eq!(blindness.by(second(160)).map(|by| &**by), Some("otlp_grpc/a"));
        assert_eq!(blindness.by(second(161)), None);
        let mut newer = Blindness::default();
        newer.note(DataType::Metrics, &"otlp_grpc/c".into(), second(300));
        blindness.extend(newer);
        assert!(blindness.covers(Source::Spans, 100) && blindness.covers(Source::Metrics, 300));
        assert_eq!(blindness.by(second(300)).map(|by| &**by), Some("otlp_grpc/c"));
        assert!(blindness.covers_logs(200) && !blindness.covers_logs(300), "metrics are no logs");
        let mut newer = Blindness::default();
        newer.note(DataType::Traces, &"otlp_grpc/d".into(), second(400));
        newer.note(DataType::Profiles, &"otlp_grpc/d".into(), second(500));
        blindness.extend(newer);
        assert!(blindness.covers_logs(400), "without requests there is nothing to divide by");
        assert!(!blindness.covers_logs(401));
    }
}
