//! Which metrics count requests, and in which unit. Names are those of OpenTelemetry's semantic conventions,
//! new and legacy, those of the Collector's `span_metrics` connector with and without a namespace and as
//! Prometheus spells them, and the configured ones.

use super::super::super::settings::WalkSettings;
use super::{Header, Kind};
use crate::model::{Discard, DurationUnit, Family, Reading, Temporality};

/// What a metric means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recognised {
    pub(super) family: Family,
    pub(super) unit: DurationUnit,
    pub(super) temporality: Temporality,
    /// How its points are read.
    pub(super) reading: Reading,
}

impl Recognised {
    /// Whether its points say what something stands at.
    pub(super) fn is_level(&self) -> bool {
        self.reading == Reading::Level
    }
}

/// What the metric means, or why its points are not judged.
pub(super) fn recognise(header: &Header<'_>, settings: &WalkSettings) -> Result<Recognised, Discard> {
    let family = family(header.name, settings).ok_or(Discard::MetricName)?;
    let family = match (family, header.kind) {
        (_, Kind::Gauge) => return Err(Discard::Kind),
        // A configured name does not say what its metric is; its type does.
        (Family::OtherDuration, Kind::Sum) => Family::OtherCalls,
        (family, Kind::Sum) if family.is_duration() => return Err(Discard::Kind),
        (family, Kind::Sum) => family,
        (family, _) if family.is_duration() => family,
        _ => return Err(Discard::Kind),
    };
    if header.kind == Kind::Sum && !header.monotonic {
        return Err(Discard::Kind);
    }
    let unit = match unit(header) {
        Some(unit) => unit,
        // Counts have no durations to convert; a summary has none that are used.
        None if !family.is_duration() || header.kind == Kind::Summary => DurationUnit::Seconds,
        None => return Err(Discard::Unit),
    };
    let temporality = header.temporality().ok_or(Discard::Temporality)?;
    let reading = if family.is_duration() { Reading::Durations } else { Reading::Count };
    Ok(Recognised { family, unit, temporality, reading })
}

/// The meaning of a metric that counts no requests, but that a measure asks for: a sum that only grows or the number of
/// values of a histogram or summary; or what a gauge stands at, or a sum that may fall. The changes of such a sum, its
/// deltas, do not say where it stands.
pub(super) fn measured(header: &Header<'_>) -> Result<Recognised, Discard> {
    if header.kind == Kind::Gauge || header.kind == Kind::Sum && !header.monotonic {
        if header.kind == Kind::Sum && header.temporality() != Some(Temporality::Cumulative) {
            return Err(Discard::Temporality);
        }
        return Ok(Recognised {
            family: Family::Measure,
            unit: DurationUnit::Seconds,
            temporality: Temporality::Cumulative,
            reading: Reading::Level,
        });
    }
    let unit = unit(header).filter(|_| matches!(header.kind, Kind::Histogram | Kind::Exponential));
    let temporality = header.temporality().ok_or(Discard::Temporality)?;
    Ok(Recognised {
        family: Family::Measure,
        unit: unit.unwrap_or(DurationUnit::Seconds),
        temporality,
        reading: if unit.is_some() { Reading::Durations } else { Reading::Count },
    })
}

fn family(name: &[u8], settings: &WalkSettings) -> Option<Family> {
    let known = match name {
        b"http.server.request.duration" => Family::Http,
        b"http.server.duration" => Family::HttpLegacy,
        b"rpc.server.call.duration" => Family::Rpc,
        b"rpc.server.duration" => Family::RpcLegacy,
        b"messaging.process.duration" => Family::Messaging,
        b"traces.span.metrics.duration"
        | b"duration"
        | b"traces_span_metrics_duration"
        | b"traces_span_metrics_duration_seconds"
        | b"traces_span_metrics_duration_milliseconds" => Family::SpanDuration,
        b"traces.span.metrics.calls"
        | b"calls"
        | b"traces_span_metrics_calls"
        | b"traces_span_metrics_calls_total" => Family::SpanCalls,
        _ if settings.request_metrics.iter().any(|wanted| wanted.as_bytes() == name) => Family::OtherDuration,
        _ => return None,
    };
    Some(known)
}

/// The unit decides, not the name; only where a sender leaves the unit empty does the ending that Prometheus
/// prescribes count.
fn unit(header: &Header<'_>) -> Option<DurationUnit> {
    match header.unit {
        b"s" => Some(DurationUnit::Seconds),
        b"ms" => Some(DurationUnit::Millis),
        b"us" => Some(DurationUnit::Micros),
        b"ns" => Some(DurationUnit::Nanos),
        b"min" => Some(DurationUnit::Minutes),
        b"" if header.name.ends_with(b"_seconds") => Some(DurationUnit::Seconds),
        b"" if header.name.ends_with(b"_milliseconds") => Some(DurationUnit::Millis),
        _ => None,
    }
}
