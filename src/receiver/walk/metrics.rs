//! Reads `ExportMetricsServiceRequest` bytes in place and hands on the data points that count requests. A
//! metric whose name matters to nobody is passed over by its length, its points only counted.
//!
//! As with spans, whatever prost accepts is accepted here with the same meaning: resource, scope, unit and
//! temporality may come after the points they belong to, and messages that occur twice are merged.
//!
//! What the attributes of a point say is most of the work and the same each time. A sink that remembers is
//! asked by a key over their bytes first (see [`PointSink`]); only of a point that it does not know are they
//! read.

mod attributes;
mod buckets;
mod digest;
mod keys;
mod names;
mod point;

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;

pub(in crate::receiver) use self::attributes::NAMES_MAX as POINT_NAMES_MAX;
use self::attributes::{PointAttributes, PointNames};
use self::buckets::Buckets;
use self::digest::{Digest, Pieces};
use self::keys::{Keys, Part};
use self::names::Recognised;
use self::point::{RawAttributes, RawPoint};
use super::super::identity::Identity;
use super::super::ids::bad_exemplars;
use super::super::settings::WalkSettings;
use super::super::value::key_value;
use super::watch::{note_attribute, of_resource};
use crate::model::{
    AttributeValue, Discard, Family, Outcome, PointKey, PointSink, PointView, Program, Recalled,
    ResourceView, Temporality,
};
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
    /// Exemplars with a trace or span id of the wrong length, of whatever metric: the point counts, the exemplar
    /// is not passed on.
    pub bad_exemplars: u64,
}

/// Reads `message` and hands what it holds to `sink`, in the order of the message. On an error the sink has
/// seen the part before it; the caller forgets that part.
pub fn walk_metrics<S: PointSink>(
    message: &[u8],
    settings: &WalkSettings,
    sink: &mut S,
) -> Result<PointCounts, WalkError> {
    let keys = sink.remembers().then(Keys::new);
    let mut walk = Walk {
        settings,
        names: PointNames::new(settings),
        key: keys.map(|keys| keys.begin(settings)),
        keys,
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
    /// Makes keys of points for a sink that remembers.
    keys: Option<Keys>,
    /// Where they begin.
    key: Option<PointKey>,
}

/// The resource of the points being read.
struct Envelope<'a> {
    resource: ResourceView<'a>,
    level: Level<'a>,
    /// What the SLIs of its service's policy read.
    program: Option<Arc<Program>>,
}

impl Envelope<'_> {
    /// What a metric means that counts no requests for `reason`, by the SLIs that read it.
    fn measured(&self, header: &Header<'_>, reason: Discard) -> Result<Recognised, Discard> {
        let reads = |is_level| self.program.as_ref().is_some_and(|p| p.reads_metric(header.name, is_level));
        if !reads(false) && !reads(true) {
            return Err(reason);
        }
        // A gauge is no counter, and the other way round.
        names::measured(header)
            .and_then(|found| reads(found.is_level()).then_some(found).ok_or(Discard::Kind))
    }
}

/// What the points being read are of: a resource, a scope within it.
struct Level<'a> {
    /// The message that has it.
    message: &'a [u8],
    /// Its part of the identity of a stream; made when it is asked for.
    identity: Cell<Option<u128>>,
    key: Option<PointKey>,
}

impl<'a> Level<'a> {
    const fn new(message: &'a [u8], key: Option<PointKey>) -> Self {
        Self { message, identity: Cell::new(None), key }
    }

    /// The identity, from the fields of the message that have this key.
    fn identity(
        &self,
        digest: &Digest,
        wanted: u32,
        add: impl Fn(&mut Pieces, &[u8]) -> Result<(), WalkError>,
    ) -> Result<u128, WalkError> {
        if let Some(identity) = self.identity.get() {
            return Ok(identity);
        }
        let mut pieces = Pieces::default();
        let mut fields = Fields::new(self.message);
        while let Some(key) = fields.next_key()? {
            if key == wanted {
                add(&mut pieces, fields.bytes()?)?;
            } else {
                fields.skip(key)?;
            }
        }
        let identity = pieces.finish(digest);
        self.identity.set(Some(identity));
        Ok(identity)
    }
}

/// The metric whose points are being read.
struct Place<'e, 'a> {
    envelope: &'e Envelope<'a>,
    scope: &'e Level<'a>,
    header: &'e Header<'a>,
    meaning: Recognised,
    key: Option<PointKey>,
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
        let mut key = self.key;
        let mut fields = Fields::new(message);
        while let Some(found) = fields.next_key()? {
            match found {
                RESOURCE => {
                    let resource = fields.bytes()?;
                    identity.merge(resource)?;
                    key = self.add(key, Part::Resource, resource);
                }
                SCOPE_METRICS => fields.skip(found)?,
                _ => fields.skip_unknown(found, numbers([1, 2]))?,
            }
        }
        let resource = identity.view();
        let program = self.sink.metric_program(&resource);
        if let Some(program) = &program {
            // What a point counts for may change with the policy.
            key = self.add(key, Part::Measures, &program.revision().to_le_bytes());
        }
        let envelope = Envelope { resource, level: Level::new(message, key), program };
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

    /// A key with more bytes, for a sink that remembers.
    fn add(&self, key: Option<PointKey>, part: Part, bytes: &[u8]) -> Option<PointKey> {
        Some(self.keys?.add(key?, part, bytes))
    }

    fn scope_metrics<'a>(&mut self, envelope: &Envelope<'a>, message: &'a [u8]) -> Result<(), WalkError> {
        let mut key = envelope.level.key;
        let mut fields = Fields::new(message);
        while let Some(found) = fields.next_key()? {
            match found {
                SCOPE => key = self.add(key, Part::Scope, fields.bytes()?),
                METRIC => fields.skip(found)?,
                _ => fields.skip_unknown(found, numbers([1, 2]))?,
            }
        }
        let scope = Level::new(message, key);
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                METRIC => self.metric(envelope, &scope, fields.bytes()?)?,
                _ => fields.skip(key)?,
            }
        }
        Ok(())
    }

    fn metric<'a>(
        &mut self,
        envelope: &Envelope<'a>,
        scope: &Level<'a>,
        message: &'a [u8],
    ) -> Result<(), WalkError> {
        let Some(header) = Header::read(message)? else { return Ok(()) };
        let recognised =
            names::recognise(&header, self.settings).or_else(|reason| envelope.measured(&header, reason));
        let meaning = match recognised {
            Ok(recognised) => recognised,
            Err(reason) => {
                let points = header.count_points(message)?;
                self.counts.points += points;
                self.counts.bad_exemplars += bad_exemplars(message);
                if reason == Discard::Unit {
                    self.counts.unknown_unit += points;
                }
                self.discard(reason, points);
                return Ok(());
            }
        };
        let mut key = self.add(scope.key, Part::Name, header.name);
        key = self.add(key, Part::Unit, header.unit);
        key = self.add(key, Part::Kind, &header.kind_bits().to_le_bytes());
        key.into_iter().for_each(|key| self.sink.metric(key));
        let place = Place { envelope, scope, header: &header, meaning, key };
        let before = self.counts.bad_exemplars;
        header.each_point(message, |point| self.point(&place, point))?;
        if header.replaced > 0 {
            // Points of a kind that another one replaced are passed on all the same.
            self.counts.bad_exemplars = before + bad_exemplars(message);
        }
        Ok(())
    }

    fn discard(&mut self, reason: Discard, points: u64) {
        if points > 0 {
            self.sink.discard_points(reason, points);
        }
    }

    fn point(&mut self, place: &Place<'_, '_>, message: &[u8]) -> Result<(), WalkError> {
        self.counts.points += 1;
        let kind = (place.header.kind, place.meaning.is_level());
        let (raw, attributes) = RawPoint::read(kind, message, &mut self.buckets)?;
        self.counts.bad_exemplars += raw.bad_exemplars;
        let key = attributes.run().and_then(|run| self.add(place.key, Part::Attributes, run));
        match key.and_then(|key| self.sink.recall(key)) {
            None => return self.new_point(place, key, &raw, &attributes),
            Some(Recalled::Discarded(reason)) => {
                self.discard(raw.discard(&self.buckets).unwrap_or(reason), 1);
            }
            Some(Recalled::Stream(stream)) => match raw.discard(&self.buckets) {
                Some(reason) => self.discard(reason, 1),
                None => {
                    self.counts.handed_on += 1;
                    let numbers = raw.numbers(&self.buckets, place.meaning.unit, stream.is_bad);
                    self.sink.known_point(stream, &numbers);
                }
            },
        }
        Ok(())
    }

    /// A point that the sink does not know.
    fn new_point(
        &mut self,
        place: &Place<'_, '_>,
        key: Option<PointKey>,
        raw: &RawPoint<'_>,
        given: &RawAttributes<'_>,
    ) -> Result<(), WalkError> {
        let mut attributes = PointAttributes::new();
        let mut pieces = Pieces::default();
        let program = place.envelope.program.as_ref();
        let measured =
            program.filter(|program| program.reads_metric(place.header.name, place.meaning.is_level()));
        let mut values: Vec<(&[u8], AttributeValue<'_>)> = Vec::new();
        let split = program.filter(|program| program.has_dimensions());
        let mut dimensions = match split {
            Some(program) => Some((program, of_resource(program, place.envelope.level.message)?)),
            None => None,
        };
        given.each(|attribute| {
            pieces.add(&self.digest, attribute);
            if let Some((program, texts)) = &mut dimensions {
                note_attribute(program, attribute, texts)?;
            }
            if measured.is_some()
                && let Some((name, value)) = key_value(attribute, Some)?
            {
                values.push((name, value.attribute()));
            }
            attributes.read(attribute, &self.names)
        })?;
        let is_request = place.meaning.family != Family::Measure;
        let marks = measured.map_or(0, |program| {
            let of = |wanted: &[u8]| values.iter().rfind(|(name, _)| *name == wanted);
            let value = |wanted: &[u8]| of(wanted).map_or(AttributeValue::Absent, |(_, value)| *value);
            program.metric_marks(place.header.name, place.meaning.reading, value)
        });
        if let Some(reason) = raw.discard(&self.buckets) {
            self.discard(reason, 1);
            return Ok(());
        }
        let unread = (marks == 0).then_some(Discard::MetricName);
        if let Some(reason) = if is_request { attributes.discard(&self.names) } else { unread } {
            self.discard(reason, 1);
            key.into_iter().for_each(|key| self.sink.remember_discard(key, reason));
            return Ok(());
        }
        self.counts.handed_on += 1;
        let operation = attributes.operation(&self.names);
        let (outcome, status) = attributes.outcome();
        let mut subject = attributes.subject(&self.names);
        let mut version = attributes.version(&self.names);
        if !is_request {
            // It is about whoever sent it.
            (subject, version) = ([b"".as_slice(); 3], Cow::Borrowed(b"".as_slice()));
        }
        let [service, namespace, environment] = subject;
        let view = PointView {
            stream: self.identity(place, &pieces)?,
            key,
            family: place.meaning.family,
            temporality: place.meaning.temporality,
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
            marks,
            dimensions: dimensions.as_ref().map(|(_, texts)| texts),
            numbers: raw.numbers(&self.buckets, place.meaning.unit, outcome == Outcome::Bad),
        };
        self.sink.point(&place.envelope.resource, &view);
        Ok(())
    }

    /// The identity of a stream whose points have these attributes.
    fn identity(&self, place: &Place<'_, '_>, attributes: &Pieces) -> Result<u128, WalkError> {
        let (digest, header) = (&self.digest, place.header);
        let resource = place
            .envelope
            .level
            .identity(digest, RESOURCE, |pieces, resource| pieces.add_attributes(digest, resource, 1))?;
        let scope = place.scope.identity(digest, SCOPE, |pieces, scope| pieces.add_scope(digest, scope))?;
        let name = digest.of(header.name);
        let metric = digest.of_parts(&[resource, scope, name, digest.of(header.unit), header.kind_bits()]);
        Ok(digest.of_parts(&[metric, attributes.finish(digest)]))
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

    /// Type, temporality and monotonicity.
    const fn kind_bits(&self) -> u128 {
        self.kind as u128 | (self.temporality as u32 as u128) << 8 | (self.monotonic as u128) << 64
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
mod level_tests;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod recall_tests;
#[cfg(test)]
mod tests;
