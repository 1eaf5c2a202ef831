//! The series of a span, and of its cohort where the service has dimensions.

use super::BatchBuffers;
use crate::model::{DimensionTexts, SeriesId, SpanView};
use crate::pipeline::intake::Intake;
use crate::pipeline::senders::Sender;

/// Series that the cache of one buffer holds; beyond it the registry is asked.
const CACHED_SERIES: usize = 8_192;

/// The series of a span: from the buffer's own cache, else from the registry.
pub(super) fn series_of(
    buffers: &mut BatchBuffers,
    sender: &Sender,
    intake: &Intake,
    span: &SpanView<'_>,
    dimensions: Option<&DimensionTexts>,
) -> SeriesId {
    let cohort = dimensions.and_then(|texts| sender.version.measures.cohorts.of(texts));
    let key = &mut buffers.scratch;
    key.clear();
    key.extend_from_slice(&sender.version.meta.id.0.to_le_bytes());
    key.extend_from_slice(&cohort.as_ref().map_or(0, |cohort| cohort.number).to_le_bytes());
    let operation_at = key.len();
    key.extend_from_slice(span.operation_head);
    if !span.operation_head.is_empty() && !span.operation_tail.is_empty() {
        key.extend_from_slice(span.operation_joint);
    }
    key.extend_from_slice(span.operation_tail);
    // Longer names are one series from here on; the registry cuts between characters.
    key.truncate(operation_at + intake.registry.limits().label_bytes.saturating_add(1));
    if let Some(series) = buffers.series.get(key.as_slice()) {
        return *series;
    }
    let operation = &key[operation_at..];
    let series = match &cohort {
        None => intake.registry.resolve_series(&sender.version, operation),
        Some(cohort) => intake.registry.resolve_cohort(&sender.version, operation, cohort),
    };
    if buffers.series.len() < CACHED_SERIES {
        buffers.series.insert(key.as_slice().into(), series);
    }
    series
}
