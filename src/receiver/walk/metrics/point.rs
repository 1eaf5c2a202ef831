//! One data point of any type: its numbers and its buckets.

use super::Kind;
use super::buckets::Buckets;
use crate::model::{Discard, DurationUnit, Durations, PointNumbers, UnixNanos};
use crate::receiver::ids::exemplar_fits;
use crate::wire::{BYTES, FIXED64, Fields, VARINT, WalkError, key, numbers};

/// Scales of exponential buckets that can be read: the data model ends at 20, and below -10 one bucket is
/// wider than all numbers.
const SCALES: std::ops::RangeInclusive<i32> = -10..=20;
/// `DataPointFlags.NO_RECORDED_VALUE`.
const NO_RECORDED_VALUE: u64 = 1;

/// Fields that all points share.
const START: u32 = key(2, FIXED64);
const TIME: u32 = key(3, FIXED64);

/// Fields of `NumberDataPoint`.
const NUMBER_ATTRIBUTE: u32 = key(7, BYTES);
const AS_DOUBLE: u32 = key(4, FIXED64);
const AS_INT: u32 = key(6, FIXED64);
const NUMBER_EXEMPLAR: u32 = key(5, BYTES);
const NUMBER_FLAGS: u32 = key(8, VARINT);
const OF_NUMBER: u32 = numbers([2, 3, 4, 5, 6, 7, 8]);

/// Fields of histograms and summaries.
const COUNT: u32 = key(4, FIXED64);
const HISTOGRAM_ATTRIBUTE: u32 = key(9, BYTES);
const BUCKET_COUNTS: u32 = key(6, BYTES);
const BUCKET_COUNT: u32 = key(6, FIXED64);
const BOUNDS: u32 = key(7, BYTES);
const BOUND: u32 = key(7, FIXED64);
const HISTOGRAM_EXEMPLAR: u32 = key(8, BYTES);
const HISTOGRAM_FLAGS: u32 = key(10, VARINT);
const OF_HISTOGRAM: u32 = numbers([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);

/// Fields of `ExponentialHistogramDataPoint`.
const EXPONENTIAL_ATTRIBUTE: u32 = key(1, BYTES);
const SCALE: u32 = key(6, VARINT);
const ZERO_COUNT: u32 = key(7, FIXED64);
const POSITIVE: u32 = key(8, BYTES);
const NEGATIVE: u32 = key(9, BYTES);
const EXPONENTIAL_EXEMPLAR: u32 = key(11, BYTES);
const EXPONENTIAL_FLAGS: u32 = key(10, VARINT);
const OF_EXPONENTIAL: u32 = numbers([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);

/// Fields of its `Buckets`.
const OFFSET: u32 = key(1, VARINT);
const VARINT_COUNTS: u32 = key(2, BYTES);
const VARINT_COUNT: u32 = key(2, VARINT);

/// `Exemplar.trace_id`.
const TRACE_ID: u32 = key(5, BYTES);

/// Fields of `SummaryDataPoint`.
const SUMMARY_ATTRIBUTE: u32 = key(7, BYTES);
const SUMMARY_FLAGS: u32 = key(8, VARINT);
const OF_SUMMARY: u32 = numbers([2, 3, 4, 5, 6, 7, 8]);

/// The attributes of a point, as they stand in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawAttributes<'a> {
    /// Key of each.
    key: u32,
    /// What holds them: themselves alone where they form a run, else the whole point.
    within: &'a [u8],
    /// Whether they form a run: one after the other, key and length in their shortest form. All encoders write
    /// them so.
    is_run: bool,
    /// Where the run ends.
    end: usize,
}

impl<'a> RawAttributes<'a> {
    const fn new(key: u32) -> Self {
        Self { key, within: &[], is_run: true, end: 0 }
    }

    /// Notes an attribute that ends where `rest` begins.
    #[inline]
    fn note(&mut self, message: &'a [u8], attribute: &[u8], rest: &[u8]) {
        if !self.is_run {
            return;
        }
        let end = message.len() - rest.len();
        let first = if self.within.is_empty() { end - field_length(attribute) } else { self.start() };
        let follows = self.within.is_empty() || self.end + field_length(attribute) == end;
        // One that is written longer than need be does not begin with its key where it should.
        let begins = message.get(first).copied().map(u32::from) == Some(self.key);
        match message.get(first..end).filter(|_| follows && begins) {
            Some(run) => (self.within, self.end) = (run, end),
            None => (self.within, self.is_run) = (message, false),
        }
    }

    const fn start(&self) -> usize {
        self.end - self.within.len()
    }

    /// All bytes of the attributes, where they form a run: equal bytes are equal attributes.
    pub(super) const fn run(&self) -> Option<&'a [u8]> {
        if self.is_run { Some(self.within) } else { None }
    }

    /// Shows each attribute to `read`.
    pub(super) fn each(
        &self,
        mut read: impl FnMut(&'a [u8]) -> Result<(), WalkError>,
    ) -> Result<(), WalkError> {
        let mut fields = Fields::new(self.within);
        while let Some(key) = fields.next_key()? {
            if key == self.key {
                read(fields.bytes()?)?;
            } else {
                fields.skip(key)?;
            }
        }
        Ok(())
    }
}

/// Bytes of a field of this content: its key, which is below 16, its length and itself.
const fn field_length(content: &[u8]) -> usize {
    let bits = (usize::BITS - content.len().leading_zeros()) as usize;
    let length = if bits == 0 { 1 } else { bits.div_ceil(7) };
    1 + length + content.len()
}

/// The numbers of a point as they stand, the last of each.
#[derive(Debug)]
pub(super) struct RawPoint<'a> {
    kind: Kind,
    start: u64,
    time: u64,
    count: u64,
    flags: u64,
    scale: i32,
    zero: u64,
    offset: i32,
    /// Whether it is read as what something stands at, and what that is.
    is_level: bool,
    level: f64,
    /// A number that it cannot be: absent or not finite; of a count negative too.
    no_number: bool,
    /// The last of its exemplars, as it stands.
    exemplar: &'a [u8],
    /// Exemplars with ids of the wrong length.
    pub(super) bad_exemplars: u64,
}

impl<'a> RawPoint<'a> {
    /// Reads a point, but for its attributes; `is_level` where it says what something stands at.
    pub(super) fn read(
        (kind, is_level): (Kind, bool),
        message: &'a [u8],
        buckets: &mut Buckets,
    ) -> Result<(Self, RawAttributes<'a>), WalkError> {
        buckets.clear();
        let mut point = Self {
            kind,
            start: 0,
            time: 0,
            count: 0,
            flags: 0,
            scale: 0,
            zero: 0,
            offset: 0,
            is_level,
            level: f64::NAN,
            no_number: matches!(kind, Kind::Sum | Kind::Gauge),
            exemplar: b"",
            bad_exemplars: 0,
        };
        let attributes = match kind {
            Kind::Sum | Kind::Gauge => point.read_number(message)?,
            Kind::Histogram => point.read_histogram(message, buckets)?,
            Kind::Exponential => point.read_exponential(message, buckets)?,
            Kind::Summary => point.read_summary(message)?,
        };
        Ok((point, attributes))
    }

    fn read_number(&mut self, message: &'a [u8]) -> Result<RawAttributes<'a>, WalkError> {
        let mut attributes = RawAttributes::new(NUMBER_ATTRIBUTE);
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                START => self.start = fields.fixed64()?,
                TIME => self.time = fields.fixed64()?,
                AS_INT => {
                    let number = fields.fixed64()?.cast_signed();
                    (self.count, self.no_number) = (number.max(0).cast_unsigned(), number < 0);
                    self.level = number as f64;
                }
                AS_DOUBLE => {
                    let number = f64::from_bits(fields.fixed64()?);
                    // Some senders count in floating point; beyond 2^53 nothing is exact any more.
                    let is_count = (0.0..=9_007_199_254_740_992.0).contains(&number);
                    (self.count, self.no_number) = (number.round().max(0.0) as u64, !is_count);
                    self.level = number;
                }
                NUMBER_ATTRIBUTE => {
                    let attribute = fields.bytes()?;
                    attributes.note(message, attribute, fields.rest());
                }
                NUMBER_FLAGS => self.flags = fields.varint()?,
                NUMBER_EXEMPLAR => self.exemplar(fields.bytes()?),
                _ => fields.skip_unknown(key, OF_NUMBER)?,
            }
        }
        if self.is_level {
            (self.count, self.no_number) = (0, !self.level.is_finite());
        }
        Ok(attributes)
    }

    fn read_histogram(
        &mut self,
        message: &'a [u8],
        buckets: &mut Buckets,
    ) -> Result<RawAttributes<'a>, WalkError> {
        let mut attributes = RawAttributes::new(HISTOGRAM_ATTRIBUTE);
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                START => self.start = fields.fixed64()?,
                TIME => self.time = fields.fixed64()?,
                COUNT => self.count = fields.fixed64()?,
                BUCKET_COUNT => buckets.count(fields.fixed64()?),
                BOUND => buckets.bound(fields.fixed64()?),
                BUCKET_COUNTS => buckets.packed_counts(fields.bytes()?)?,
                BOUNDS => buckets.packed_bounds(fields.bytes()?)?,
                HISTOGRAM_ATTRIBUTE => {
                    let attribute = fields.bytes()?;
                    attributes.note(message, attribute, fields.rest());
                }
                HISTOGRAM_FLAGS => self.flags = fields.varint()?,
                HISTOGRAM_EXEMPLAR => self.exemplar(fields.bytes()?),
                _ if is_passed_over(key, [5, 11, 12]) => fields.skip(key)?,
                _ => fields.skip_unknown(key, OF_HISTOGRAM)?,
            }
        }
        Ok(attributes)
    }

    fn read_exponential(
        &mut self,
        message: &'a [u8],
        buckets: &mut Buckets,
    ) -> Result<RawAttributes<'a>, WalkError> {
        let mut attributes = RawAttributes::new(EXPONENTIAL_ATTRIBUTE);
        let mut negative_offset = 0;
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                START => self.start = fields.fixed64()?,
                TIME => self.time = fields.fixed64()?,
                COUNT => self.count = fields.fixed64()?,
                SCALE => self.scale = zigzag(fields.varint()?),
                ZERO_COUNT => self.zero = fields.fixed64()?,
                POSITIVE => read_buckets(fields.bytes()?, &mut self.offset, |n| buckets.count(n))?,
                NEGATIVE => read_buckets(fields.bytes()?, &mut negative_offset, |n| {
                    buckets.negative = buckets.negative.saturating_add(n);
                })?,
                EXPONENTIAL_ATTRIBUTE => {
                    let attribute = fields.bytes()?;
                    attributes.note(message, attribute, fields.rest());
                }
                EXPONENTIAL_FLAGS => self.flags = fields.varint()?,
                EXPONENTIAL_EXEMPLAR => self.exemplar(fields.bytes()?),
                _ if is_passed_over(key, [5, 12, 13]) || key == super::key(14, FIXED64) => {
                    fields.skip(key)?
                }
                _ => fields.skip_unknown(key, OF_EXPONENTIAL)?,
            }
        }
        Ok(attributes)
    }

    fn read_summary(&mut self, message: &'a [u8]) -> Result<RawAttributes<'a>, WalkError> {
        let mut attributes = RawAttributes::new(SUMMARY_ATTRIBUTE);
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                START => self.start = fields.fixed64()?,
                TIME => self.time = fields.fixed64()?,
                COUNT => self.count = fields.fixed64()?,
                SUMMARY_ATTRIBUTE => {
                    let attribute = fields.bytes()?;
                    attributes.note(message, attribute, fields.rest());
                }
                SUMMARY_FLAGS => self.flags = fields.varint()?,
                _ if is_passed_over(key, [5, 5, 5]) || key == super::key(6, BYTES) => fields.skip(key)?,
                _ => fields.skip_unknown(key, OF_SUMMARY)?,
            }
        }
        Ok(attributes)
    }

    fn exemplar(&mut self, exemplar: &'a [u8]) {
        self.exemplar = exemplar;
        self.bad_exemplars += u64::from(!exemplar_fits(exemplar));
    }

    /// Why the point says nothing about requests, as far as its numbers tell.
    pub(super) fn discard(&self, buckets: &Buckets) -> Option<Discard> {
        if self.time == 0 {
            Some(Discard::NoTime)
        } else if self.flags & NO_RECORDED_VALUE != 0 {
            Some(Discard::StaleMark)
        } else if self.no_number || buckets.too_many || self.start > self.time || !self.adds_up(buckets) {
            Some(Discard::Numbers)
        } else {
            None
        }
    }

    fn adds_up(&self, buckets: &Buckets) -> bool {
        match self.kind {
            Kind::Histogram if buckets.counts.is_empty() => true,
            Kind::Histogram => {
                buckets.counts.len() == buckets.bounds().len() + 1
                    && buckets.bounds_ascend()
                    && buckets.total() == Some(self.count)
            }
            Kind::Exponential => {
                let all = buckets.total().and_then(|sum| sum.checked_add(self.zero));
                SCALES.contains(&self.scale) && all == Some(self.count)
            }
            Kind::Sum | Kind::Gauge | Kind::Summary => true,
        }
    }

    /// What it says; `is_bad` where its requests failed.
    pub(super) fn numbers<'b>(
        &self,
        buckets: &'b Buckets,
        unit: DurationUnit,
        is_bad: bool,
    ) -> PointNumbers<'b>
    where
        'a: 'b,
    {
        PointNumbers {
            start: UnixNanos(self.start),
            time: UnixNanos(self.time),
            count: self.count,
            level: self.is_level.then_some(self.level),
            unit,
            durations: self.durations(buckets),
            trace_id: if is_bad { self.trace_id() } else { b"" },
        }
    }

    /// M8: the trace that its last exemplar is of; empty without one. What cannot be read is none.
    fn trace_id(&self) -> &'a [u8] {
        let (mut fields, mut trace_id) = (Fields::new(self.exemplar), &b""[..]);
        while let Ok(Some(key)) = fields.next_key() {
            let read =
                if key == TRACE_ID { fields.bytes().map(|id| trace_id = id) } else { fields.skip(key) };
            if read.is_err() {
                return b"";
            }
        }
        trace_id
    }

    fn durations<'b>(&self, buckets: &'b Buckets) -> Durations<'b> {
        match self.kind {
            Kind::Histogram if !buckets.counts.is_empty() => {
                Durations::Explicit { bounds: buckets.bounds(), counts: &buckets.counts }
            }
            Kind::Exponential => Durations::Exponential {
                scale: self.scale,
                zero: self.zero.saturating_add(buckets.negative),
                offset: self.offset,
                counts: &buckets.counts,
            },
            _ => Durations::Unknown,
        }
    }
}

/// Known fields of which nothing is needed: numbers of eight bytes.
fn is_passed_over(key: u32, numbers: [u32; 3]) -> bool {
    numbers.iter().any(|number| key == super::key(*number, FIXED64))
}

fn read_buckets(message: &[u8], offset: &mut i32, mut each: impl FnMut(u64)) -> Result<(), WalkError> {
    let mut fields = Fields::new(message);
    while let Some(key) = fields.next_key()? {
        match key {
            OFFSET => *offset = zigzag(fields.varint()?),
            VARINT_COUNT => each(fields.varint()?),
            VARINT_COUNTS => {
                let mut packed = Fields::new(fields.bytes()?);
                while !packed.is_empty() {
                    each(packed.varint()?);
                }
            }
            _ => fields.skip_unknown(key, numbers([1, 2]))?,
        }
    }
    Ok(())
}

/// `sint32`: small numbers of either sign are short.
const fn zigzag(number: u64) -> i32 {
    let number = number as u32;
    (number >> 1) as i32 ^ -((number & 1) as i32)
}
