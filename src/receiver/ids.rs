//! Trace and span ids of the wrong length: finding them in a message of any signal, and cutting what has them
//! out of it. An OTLP receiver is free to refuse a whole request because of one such id, and many do, so what
//! has one must not be passed on.
//!
//! A span or log record with a bad id is a rejected record: its sender is told, in a partial success. A link of
//! a span and an exemplar of a data point are parts of a record: they are cut out alone, the record stays, and
//! no one is told, for a success that rejects nothing and says something is taken for a failure by some
//! clients.
//!
//! All other bytes stay as they are, unknown fields included; only the lengths around a cut are written anew.

use prost::encoding::encode_varint;

use crate::pipeline::Signal;
use crate::wire::{BYTES, Fields, WalkError, key};

/// A message on the way to ids.
struct Shape {
    role: Role,
    /// Keys of ids, and the length that each has unless it is empty.
    ids: &'static [(u32, usize)],
    /// Keys of the messages within that matter.
    within: &'static [(u32, &'static Shape)],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Envelope,
    Record,
    Part,
}

const TRACE_ID: usize = 16;
const SPAN_ID: usize = 8;

const fn envelope(within: &'static [(u32, &'static Shape)]) -> Shape {
    Shape { role: Role::Envelope, ids: &[], within }
}

const fn at(number: u32) -> u32 {
    key(number, BYTES)
}

static LINK: Shape = Shape { role: Role::Part, ids: &[(at(1), TRACE_ID), (at(2), SPAN_ID)], within: &[] };
static SPAN: Shape = Shape {
    role: Role::Record,
    ids: &[(at(1), TRACE_ID), (at(2), SPAN_ID), (at(4), SPAN_ID)],
    within: &[(at(13), &LINK)],
};
static LOG_RECORD: Shape =
    Shape { role: Role::Record, ids: &[(at(9), TRACE_ID), (at(10), SPAN_ID)], within: &[] };
static EXEMPLAR: Shape = Shape { role: Role::Part, ids: &[(at(4), SPAN_ID), (at(5), TRACE_ID)], within: &[] };
static NUMBER_POINT: Shape = envelope(&[(at(5), &EXEMPLAR)]);
static HISTOGRAM_POINT: Shape = envelope(&[(at(8), &EXEMPLAR)]);
static EXPONENTIAL_POINT: Shape = envelope(&[(at(11), &EXEMPLAR)]);
static NUMBERS: Shape = envelope(&[(at(1), &NUMBER_POINT)]);
static HISTOGRAM: Shape = envelope(&[(at(1), &HISTOGRAM_POINT)]);
static EXPONENTIAL: Shape = envelope(&[(at(1), &EXPONENTIAL_POINT)]);
static METRIC: Shape =
    envelope(&[(at(5), &NUMBERS), (at(7), &NUMBERS), (at(9), &HISTOGRAM), (at(10), &EXPONENTIAL)]);

// Below each request: resources, scopes, and then the records or metrics.
static TRACES: Shape = envelope(&[(at(1), &envelope(&[(at(2), &envelope(&[(at(2), &SPAN)]))]))]);
static METRICS: Shape = envelope(&[(at(1), &envelope(&[(at(2), &envelope(&[(at(2), &METRIC)]))]))]);
static LOGS: Shape = envelope(&[(at(1), &envelope(&[(at(2), &envelope(&[(at(2), &LOG_RECORD)]))]))]);

fn shape_of(signal: Signal) -> &'static Shape {
    match signal {
        Signal::Traces => &TRACES,
        Signal::Metrics => &METRICS,
        Signal::Logs => &LOGS,
    }
}

/// What has bad ids in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct BadIds {
    /// Spans or log records.
    pub(super) records: u64,
    /// Links of good spans, exemplars.
    pub(super) parts: u64,
}

impl BadIds {
    pub(super) const fn is_empty(self) -> bool {
        self.records == 0 && self.parts == 0
    }
}

/// Exemplars with bad ids of a metric whose points nobody reads.
pub(super) fn bad_exemplars(metric: &[u8]) -> u64 {
    let mut found = BadIds::default();
    let _ = METRIC.survey(metric, &mut found);
    found.parts
}

/// Whether the ids of an exemplar are as long as they must be.
pub(super) fn exemplar_fits(exemplar: &[u8]) -> bool {
    !EXEMPLAR.is_bad(exemplar)
}

/// Counts what has bad ids. What cannot be read has none.
#[cfg(test)]
pub(super) fn bad_ids(signal: Signal, message: &[u8]) -> BadIds {
    let mut found = BadIds::default();
    let _ = shape_of(signal).survey(message, &mut found);
    found
}

/// Whether the ids of a span's link are as long as they must be.
pub(super) fn link_fits(link: &[u8]) -> bool {
    !LINK.is_bad(link)
}

/// The message without what has bad ids.
pub(super) fn without_bad_ids(signal: Signal, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    shape_of(signal).copy(message, &mut out);
    out
}

impl Shape {
    fn within(&self, key: u32) -> Option<&'static Shape> {
        self.within.iter().find(|(wanted, _)| *wanted == key).map(|(_, shape)| *shape)
    }

    /// Whether an id has the wrong length; of an id that occurs twice the last one counts.
    fn is_bad(&self, message: &[u8]) -> bool {
        !self.ids.is_empty() && self.wrong_ids(message).is_ok_and(|wrong| wrong != 0)
    }

    /// A bit for each id of the wrong length.
    fn wrong_ids(&self, message: &[u8]) -> Result<u32, WalkError> {
        let mut wrong = 0;
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            let Some(n) = self.ids.iter().position(|(wanted, _)| *wanted == key) else {
                fields.skip(key)?;
                continue;
            };
            let length = fields.bytes()?.len();
            let is_wrong = length != 0 && length != self.ids[n].1;
            wrong = wrong & !(1 << n) | u32::from(is_wrong) << n;
        }
        Ok(wrong)
    }

    /// Counts into `found`, as far as the message can be read.
    fn survey(&self, message: &[u8], found: &mut BadIds) -> Result<(), WalkError> {
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            let Some(inner) = self.within(key) else {
                fields.skip(key)?;
                continue;
            };
            let content = fields.bytes()?;
            match inner.role {
                role if inner.is_bad(content) => {
                    found.records += u64::from(role == Role::Record);
                    found.parts += u64::from(role == Role::Part);
                }
                _ if inner.within.is_empty() => {}
                _ => _ = inner.survey(content, found),
            }
        }
        Ok(())
    }

    fn holds_bad(&self, message: &[u8]) -> bool {
        let mut found = BadIds::default();
        let _ = self.survey(message, &mut found);
        !found.is_empty()
    }

    /// Appends the message without what is bad in it. What cannot be read is copied as it is.
    fn copy(&self, message: &[u8], out: &mut Vec<u8>) {
        let mut fields = Fields::new(message);
        while !fields.is_empty() {
            let field = fields.rest();
            if self.copy_field(&mut fields, out).is_err() {
                out.extend_from_slice(field);
                return;
            }
        }
    }

    fn copy_field(&self, fields: &mut Fields<'_>, out: &mut Vec<u8>) -> Result<(), WalkError> {
        let field = fields.rest();
        let Some(key) = fields.next_key()? else { return Ok(()) };
        let key_bytes = field.len() - fields.rest().len();
        let inner = self.within(key);
        let content = match inner {
            Some(_) => fields.bytes()?,
            None => {
                fields.skip(key)?;
                &[]
            }
        };
        match inner {
            Some(inner) if inner.is_bad(content) => {}
            Some(inner) if inner.holds_bad(content) => {
                let mut rewritten = Vec::with_capacity(content.len());
                inner.copy(content, &mut rewritten);
                out.extend_from_slice(&field[..key_bytes]);
                encode_varint(rewritten.len() as u64, out);
                out.append(&mut rewritten);
            }
            _ => out.extend_from_slice(&field[..field.len() - fields.rest().len()]),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
