//! Reads `ExportMetricsServiceRequest` bytes in place and hands on the data points that count requests. A
//! metric whose name matters to nobody is passed over by its length, its points only counted.
//!
//! As with spans, whatever prost accepts is accepted here with the same meaning: resource, scope, unit and
//! temporality may come after the points they belong to, and messages that occur twice are merged. Buckets are
//! copied into two buffers that live as long as the walk, because the wire does not align them.

mod attributes;
mod digest;
mod names;
mod point;

pub(in crate::receiver) use self::attributes::NAMES_MAX as POINT_NAMES_MAX;
use self::attributes::{PointAttributes, PointNames};
use self::digest::{Digest, Pieces};
use self::names::Recognised;
use self::point::{Buckets, RawPoint};
use super::super::identity::Identity;
use super::super::settings::WalkSettings;
use crate::model::{Discard, Outcome, PointSink, PointView, ResourceView, Temporality, UnixNanos};
use crate::wire::{BYTES, Fields, VARINT, WalkError, key, numbers};

/// `ExportMetricsServiceRequest.resource_metrics`.
const RESOURCE_METRICS: u32 = key(1, BYTES);

/// Fields of `ResourceMetrics`.
const RESOURCE: u32 = key(1, BYTES);
const SCOPE_METRICS: u32 = key(2, BYTES);

/// Fields of `ScopeMetrics`.
const SCOPE: u32 = key(1, BYTES);
const METRIC: u32 = key(2, BYTES);

/// Fields of `Metric`.
const NAME: u32 = key(1, BYTES);
const UNIT: u32 = key(3, BYTES);
const GAUGE: u32 = key(5, BYTES);
const SUM: u32 = key(7, BYTES);
const HISTOGRAM: u32 = key(9, BYTES);
const EXPONENTIAL: u32 = key(10, BYTES);
const SUMMARY: u32 = key(11, BYTES);
const OF_METRIC: u32 = numbers([1, 3, 5, 7, 9, 10, 11]);

/// Fields that `Gauge`, `Sum`, `Histogram`, `ExponentialHistogram` and `Summary` share, as far as they have
/// them.
const POINT: u32 = key(1, BYTES);
const TEMPORALITY: u32 = key(2, VARINT);
const MONOTONIC: u32 = key(3, VARINT);

/// What a metrics message held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PointCounts {
    /// All data points.
    pub points: u64,
    /// Points handed on to [`PointSink::point`].
    pub handed_on: u64,
    /// Points of duration metrics whose unit is none of s, ms, us, ns, min: unusable.
    pub unknown_unit: u64,
}

/// Reads `message` and hands what it holds to `sink`, in the order of the message. On an error the sink has
/// seen the part before it; the caller forgets that part.
pub fn walk_metrics<S: PointSink>(
    message: &[u8],
    settings: &WalkSettings,
    sink: &mut S,
) -> Result<PointCounts, WalkError> {
    let mut walk = Walk {
        settings,
        names: PointNames::new(settings),
        sink,
        counts: PointCounts::default(),
        buckets: Buckets::default(),
        digest: Digest::new(),
    };
    let mut fields = Fields::new(message);
    while let Some(key) = fields.next_key()? {
        match key {
            RESOURCE_METRICS => walk.resource_metrics(fields.bytes()?)?,
            _ => fields.skip_unknown(key, numbers([1]))?,
        }
    }
    Ok(walk.counts)
}

struct Walk<'s, S> {
    settings: &'s WalkSettings,
    names: PointNames<'s>,
    sink: &'s mut S,
    counts: PointCounts,
    buckets: Buckets,
    digest: Digest,
}

/// The resource of the points being read.
struct Envelope<'a> {
    resource: ResourceView<'a>,
    identity: u128,
}

/// Which of the types of a metric is meant; of several the last one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Sum,
    Histogram,
    Exponential,
    Summary,
}

const fn kind_of(key: u32) -> Option<Kind> {
    match key {
        GAUGE => Some(Kind::Gauge),
        SUM => Some(Kind::Sum),
        HISTOGRAM => Some(Kind::Histogram),
        EXPONENTIAL => Some(Kind::Exponential),
        SUMMARY => Some(Kind::Summary),
        _ => None,
    }
}

/// A metric without its points.
#[derive(Debug, Clone, Copy)]
struct Header<'a> {
    name: &'a [u8],
    unit: &'a [u8],
    kind: Kind,
    /// Number of data fields before the first of the last kind: another kind replaces what came before it.
    replaced: usize,
    temporality: i32,
    monotonic: bool,
}

impl<S: PointSink> Walk<'_, S> {
    fn resource_metrics(&mut self, message: &[u8]) -> Result<(), WalkError> {
        let mut identity = Identity::new(self.settings);
        let mut pieces = Pieces::default();
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                RESOURCE => {
                    let resource = fields.bytes()?;
                    identity.merge(resource)?;
                    pieces.add_attributes(&self.digest, resource, 1)?;
                }
                SCOPE_METRICS => fields.skip(key)?,
                _ => fields.skip_unknown(key, numbers([1, 2]))?,
            }
        }
        let envelope = Envelope { resource: identity.view(), identity: pieces.finish(&self.digest) };
        let before = self.counts.points;
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                SCOPE_METRICS => self.scope_metrics(&envelope, fields.bytes()?)?,
                _ => fields.skip(key)?,
            }
        }
        let points = self.counts.points - before;
        if points > 0 {
            self.sink.sender_of_points(&envelope.resource, points);
        }
        Ok(())
    }

    fn scope_metrics(&mut self, envelope: &Envelope<'_>, message: &[u8]) -> Result<(), WalkError> {
        let mut pieces = Pieces::default();
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                SCOPE => pieces.add_scope(&self.digest, fields.bytes()?)?,
                METRIC => fields.skip(key)?,
                _ => fields.skip_unknown(key, numbers([1, 2]))?,
            }
        }
        let scope = pieces.finish(&self.digest);
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                METRIC => self.metric(envelope, scope, fields.bytes()?)?,
                _ => fields.skip(key)?,
            }
        }
        Ok(())
    }

    fn metric(&mut self, envelope: &Envelope<'_>, scope: u128, message: &[u8]) -> Result<(), WalkError> {
        let Some(header) = Header::read(message)? else { return Ok(()) };
        let meaning = match names::recognise(&header, self.settings) {
            Ok(recognised) => recognised,
            Err(reason) => {
                let points = header.count_points(message)?;
                self.counts.points += points;
                if reason == Discard::Unit {
                    self.counts.unknown_unit += points;
                }
                self.discard(reason, points);
                return Ok(());
            }
        };
        let identity = self.digest.of_parts(&[
            envelope.identity,
            scope,
            self.digest.of(header.name),
            self.digest.of(header.unit),
            header.kind as u128
                | (header.temporality as u32 as u128) << 8
                | u128::from(header.monotonic) << 64,
        ]);
        header.each_point(message, |point| self.point(envelope, &meaning, header.kind, identity, point))
    }

    fn discard(&mut self, reason: Discard, points: u64) {
        if points > 0 {
            self.sink.discard_points(reason, points);
        }
    }

    fn point(
        &mut self,
        envelope: &Envelope<'_>,
        meaning: &Recognised,
        kind: Kind,
        metric: u128,
        message: &[u8],
    ) -> Result<(), WalkError> {
        self.counts.points += 1;
        let mut attributes = PointAttributes::new();
        let mut pieces = Pieces::default();
        let raw = RawPoint::read(kind, message, &mut self.buckets, |attribute| {
            pieces.add(&self.digest, attribute);
            attributes.read(attribute, &self.names)
        })?;
        if let Some(reason) = raw.discard(&self.buckets).or_else(|| attributes.discard(&self.names)) {
            self.discard(reason, 1);
            return Ok(());
        }
        attributes.adopt_status(&self.names);
        if attributes.is_excluded(&self.names) {
            self.discard(Discard::Excluded, 1);
            return Ok(());
        }
        self.counts.handed_on += 1;
        let operation = attributes.operation(&self.names);
        let [service, namespace, environment] = attributes.subject(&self.names);
        let (outcome, status) = attributes.outcome();
        let version = attributes.version(&self.names);
        let view = PointView {
            stream: self.digest.of_parts(&[metric, pieces.finish(&self.digest)]),
            family: meaning.family,
            temporality: meaning.temporality,
            service,
            namespace,
            environment,
            version: &version,
            operation_head: operation.head,
            operation_joint: operation.joint,
            operation_tail: operation.tail,
            outcome,
            status,
            overflow: attributes.overflow,
            start: UnixNanos(raw.start),
            time: UnixNanos(raw.time),
            count: raw.count,
            unit: meaning.unit,
            durations: raw.durations(&self.buckets),
            trace_id: if outcome == Outcome::Bad { raw.trace_id() } else { b"" },
        };
        self.sink.point(&envelope.resource, &view);
        Ok(())
    }
}

impl<'a> Header<'a> {
    /// `None` for a metric without data.
    fn read(message: &'a [u8]) -> Result<Option<Self>, WalkError> {
        let (mut name, mut unit): (&[u8], &[u8]) = (b"", b"");
        let (mut kind, mut seen, mut replaced) = (None, 0, 0);
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                NAME => name = fields.bytes()?,
                UNIT => unit = fields.bytes()?,
                GAUGE | SUM | HISTOGRAM | EXPONENTIAL | SUMMARY => {
                    fields.skip(key)?;
                    if kind != kind_of(key) {
                        (kind, replaced) = (kind_of(key), seen);
                    }
                    seen += 1;
                }
                _ => fields.skip_unknown(key, OF_METRIC)?,
            }
        }
        let Some(kind) = kind else { return Ok(None) };
        let mut header = Self { name, unit, kind, replaced, temporality: 0, monotonic: false };
        header.read_data(message)?;
        Ok(Some(header))
    }

    /// Temporality stands behind the points on the wire and is needed before them.
    fn read_data(&mut self, message: &'a [u8]) -> Result<(), WalkError> {
        let (mut temporality, mut monotonic) = (0, false);
        let has_temporality = matches!(self.kind, Kind::Sum | Kind::Histogram | Kind::Exponential);
        self.each_data(message, |data| {
            let mut fields = Fields::new(data);
            while let Some(key) = fields.next_key()? {
                match key {
                    TEMPORALITY if has_temporality => temporality = fields.varint()? as i32,
                    MONOTONIC if self.kind == Kind::Sum => monotonic = fields.varint()? != 0,
                    POINT => fields.skip(key)?,
                    _ => fields.skip_unknown(key, self.known())?,
                }
            }
            Ok(())
        })?;
        (self.temporality, self.monotonic) = (temporality, monotonic);
        Ok(())
    }

    const fn known(&self) -> u32 {
        match self.kind {
            Kind::Sum => numbers([1, 2, 3]),
            Kind::Histogram | Kind::Exponential => numbers([1, 2]),
            Kind::Gauge | Kind::Summary => numbers([1]),
        }
    }

    fn each_data(
        &self,
        message: &'a [u8],
        mut each: impl FnMut(&'a [u8]) -> Result<(), WalkError>,
    ) -> Result<(), WalkError> {
        let mut seen = 0;
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            if kind_of(key).is_none() {
                fields.skip(key)?;
                continue;
            }
            let data = fields.bytes()?;
            if seen >= self.replaced {
                each(data)?;
            }
            seen += 1;
        }
        Ok(())
    }

    fn each_point(
        &self,
        message: &'a [u8],
        mut each: impl FnMut(&'a [u8]) -> Result<(), WalkError>,
    ) -> Result<(), WalkError> {
        self.each_data(message, |data| {
            let mut fields = Fields::new(data);
            while let Some(key) = fields.next_key()? {
                match key {
                    POINT => each(fields.bytes()?)?,
                    _ => fields.skip(key)?,
                }
            }
            Ok(())
        })
    }

    fn count_points(&self, message: &'a [u8]) -> Result<u64, WalkError> {
        let mut points = 0;
        self.each_point(message, |_| {
            points += 1;
            Ok(())
        })?;
        Ok(points)
    }

    /// `None` where the sender leaves it open.
    const fn temporality(&self) -> Option<Temporality> {
        match (self.kind, self.temporality) {
            // A summary counts from its start on; its message has no field for it.
            (Kind::Summary, _) | (_, 2) => Some(Temporality::Cumulative),
            (_, 1) => Some(Temporality::Delta),
            _ => None,
        }
    }
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
