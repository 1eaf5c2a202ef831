//! One data point of any type: its numbers and its buckets.

use super::Kind;
use crate::model::{Discard, Durations};
use crate::wire::{BYTES, FIXED64, Fields, VARINT, WalkError, key, numbers};

/// Buckets of one point beyond which it is unusable: an SDK writes 160 at most, a person a few dozen.
const BUCKETS_MAX: usize = 2_048;
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

/// Buckets of the point being read; kept between points, so that nothing is allocated.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    counts: Vec<u64>,
    bounds: Vec<f64>,
    /// Values below 0.
    negative: u64,
    too_many: bool,
}

impl Buckets {
    fn clear(&mut self) {
        self.counts.clear();
        self.bounds.clear();
        (self.negative, self.too_many) = (0, false);
    }

    fn count(&mut self, count: u64) {
        self.too_many |= self.counts.len() >= BUCKETS_MAX;
        if !self.too_many {
            self.counts.push(count);
        }
    }

    fn bound(&mut self, bits: u64) {
        self.too_many |= self.bounds.len() >= BUCKETS_MAX;
        if !self.too_many {
            self.bounds.push(f64::from_bits(bits));
        }
    }

    /// Sum of all counts; `None` beyond 64 bits.
    fn total(&self) -> Option<u64> {
        self.counts.iter().try_fold(self.negative, |sum, n| sum.checked_add(*n))
    }

    fn bounds_ascend(&self) -> bool {
        self.bounds.iter().all(|b| b.is_finite()) && self.bounds.windows(2).all(|pair| pair[0] < pair[1])
    }
}

/// The numbers of a point as they stand, the last of each.
#[derive(Debug)]
pub(super) struct RawPoint<'a> {
    kind: Kind,
    pub(super) start: u64,
    pub(super) time: u64,
    pub(super) count: u64,
    flags: u64,
    scale: i32,
    zero: u64,
    offset: i32,
    /// A number that no count can be: absent, negative, not finite.
    no_count: bool,
    /// The last of its exemplars, as it stands.
    exemplar: &'a [u8],
}

impl<'a> RawPoint<'a> {
    /// Reads a point; `attribute` is shown each of its attributes.
    pub(super) fn read(
        kind: Kind,
        message: &'a [u8],
        buckets: &mut Buckets,
        attribute: impl FnMut(&'a [u8]) -> Result<(), WalkError>,
    ) -> Result<Self, WalkError> {
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
            no_count: matches!(kind, Kind::Sum | Kind::Gauge),
            exemplar: b"",
        };
        match kind {
            Kind::Sum | Kind::Gauge => point.read_number(message, attribute)?,
            Kind::Histogram => point.read_histogram(message, buckets, attribute)?,
            Kind::Exponential => point.read_exponential(message, buckets, attribute)?,
            Kind::Summary => point.read_summary(message, attribute)?,
        }
        Ok(point)
    }

    fn read_number(
        &mut self,
        message: &'a [u8],
        mut attribute: impl FnMut(&'a [u8]) -> Result<(), WalkError>,
    ) -> Result<(), WalkError> {
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                START => self.start = fields.fixed64()?,
                TIME => self.time = fields.fixed64()?,
                AS_INT => {
                    let number = fields.fixed64()?.cast_signed();
                    (self.count, self.no_count) = (number.max(0).cast_unsigned(), number < 0);
                }
                AS_DOUBLE => {
                    let number = f64::from_bits(fields.fixed64()?);
                    // Some senders count in floating point; beyond 2^53 nothing is exact any more.
                    let is_count = (0.0..=9_007_199_254_740_992.0).contains(&number);
                    (self.count, self.no_count) = (number.round().max(0.0) as u64, !is_count);
                }
                NUMBER_ATTRIBUTE => attribute(fields.bytes()?)?,
                NUMBER_FLAGS => self.flags = fields.varint()?,
                NUMBER_EXEMPLAR => self.exemplar = fields.bytes()?,
                _ => fields.skip_unknown(key, OF_NUMBER)?,
            }
        }
        Ok(())
    }

    fn read_histogram(
        &mut self,
        message: &'a [u8],
        buckets: &mut Buckets,
        mut attribute: impl FnMut(&'a [u8]) -> Result<(), WalkError>,
    ) -> Result<(), WalkError> {
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                START => self.start = fields.fixed64()?,
                TIME => self.time = fields.fixed64()?,
                COUNT => self.count = fields.fixed64()?,
                BUCKET_COUNT => buckets.count(fields.fixed64()?),
                BOUND => buckets.bound(fields.fixed64()?),
                BUCKET_COUNTS => each_fixed(fields.bytes()?, |count| buckets.count(count))?,
                BOUNDS => each_fixed(fields.bytes()?, |bits| buckets.bound(bits))?,
                HISTOGRAM_ATTRIBUTE => attribute(fields.bytes()?)?,
                HISTOGRAM_FLAGS => self.flags = fields.varint()?,
                HISTOGRAM_EXEMPLAR => self.exemplar = fields.bytes()?,
                _ if is_passed_over(key, [5, 11, 12]) => fields.skip(key)?,
                _ => fields.skip_unknown(key, OF_HISTOGRAM)?,
            }
        }
        Ok(())
    }

    fn read_exponential(
        &mut self,
        message: &'a [u8],
        buckets: &mut Buckets,
        mut attribute: impl FnMut(&'a [u8]) -> Result<(), WalkError>,
    ) -> Result<(), WalkError> {
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
                EXPONENTIAL_ATTRIBUTE => attribute(fields.bytes()?)?,
                EXPONENTIAL_FLAGS => self.flags = fields.varint()?,
                EXPONENTIAL_EXEMPLAR => self.exemplar = fields.bytes()?,
                _ if is_passed_over(key, [5, 12, 13]) || key == super::key(14, FIXED64) => {
                    fields.skip(key)?
                }
                _ => fields.skip_unknown(key, OF_EXPONENTIAL)?,
            }
        }
        Ok(())
    }

    fn read_summary(
        &mut self,
        message: &'a [u8],
        mut attribute: impl FnMut(&'a [u8]) -> Result<(), WalkError>,
    ) -> Result<(), WalkError> {
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                START => self.start = fields.fixed64()?,
                TIME => self.time = fields.fixed64()?,
                COUNT => self.count = fields.fixed64()?,
                SUMMARY_ATTRIBUTE => attribute(fields.bytes()?)?,
                SUMMARY_FLAGS => self.flags = fields.varint()?,
                _ if is_passed_over(key, [5, 5, 5]) || key == super::key(6, BYTES) => fields.skip(key)?,
                _ => fields.skip_unknown(key, OF_SUMMARY)?,
            }
        }
        Ok(())
    }

    /// Why the point says nothing about requests, as far as its numbers tell.
    pub(super) fn discard(&self, buckets: &Buckets) -> Option<Discard> {
        if self.time == 0 {
            Some(Discard::NoTime)
        } else if self.flags & NO_RECORDED_VALUE != 0 {
            Some(Discard::StaleMark)
        } else if self.no_count || buckets.too_many || self.start > self.time || !self.adds_up(buckets) {
            Some(Discard::Numbers)
        } else {
            None
        }
    }

    fn adds_up(&self, buckets: &Buckets) -> bool {
        match self.kind {
            Kind::Histogram if buckets.counts.is_empty() => true,
            Kind::Histogram => {
                buckets.counts.len() == buckets.bounds.len() + 1
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

    /// M8: the trace that its last exemplar is of; empty without one. What cannot be read is none.
    pub(super) fn trace_id(&self) -> &'a [u8] {
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

    pub(super) fn durations<'b>(&self, buckets: &'b Buckets) -> Durations<'b> {
        match self.kind {
            Kind::Histogram if !buckets.counts.is_empty() => {
                Durations::Explicit { bounds: &buckets.bounds, counts: &buckets.counts }
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

/// The numbers of a packed field.
fn each_fixed(packed: &[u8], mut each: impl FnMut(u64)) -> Result<(), WalkError> {
    let (numbers, rest) = packed.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(WalkError::Truncated);
    }
    numbers.iter().for_each(|number| each(u64::from_le_bytes(*number)));
    Ok(())
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
