//! The fields of a span as they stand, read from front to back once, with those of its attributes that something looks
//! at.

use super::Watch;
use crate::model::{Attribute, Discard, SpanKind};
use crate::receiver::ids::link_fits;
use crate::receiver::semantics::SpanAttributes;
use crate::receiver::value::{key_value, plain_key_value, short_key_value};
use crate::wire::{BYTES, FIXED32, FIXED64, Fields, VARINT, WalkError, key, numbers};

/// Fields of `Span`.
const TRACE_ID: u32 = key(1, BYTES);
const SPAN_ID: u32 = key(2, BYTES);
const TRACE_STATE: u32 = key(3, BYTES);
const PARENT_ID: u32 = key(4, BYTES);
const NAME: u32 = key(5, BYTES);
const KIND: u32 = key(6, VARINT);
const START: u32 = key(7, FIXED64);
const END: u32 = key(8, FIXED64);
pub(super) const ATTRIBUTE: u32 = key(9, BYTES);
const DROPPED_ATTRIBUTES: u32 = key(10, VARINT);
pub(super) const EVENT: u32 = key(11, BYTES);
const DROPPED_EVENTS: u32 = key(12, VARINT);
const LINK: u32 = key(13, BYTES);
const DROPPED_LINKS: u32 = key(14, VARINT);
const STATUS: u32 = key(15, BYTES);
const FLAGS: u32 = key(16, FIXED32);
const OF_SPAN: u32 = numbers([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

/// `Status.code`.
const STATUS_CODE: u32 = key(3, VARINT);

/// The fields of a span as they stand, the last of each.
#[derive(Debug, Default)]
pub(super) struct RawSpan<'a> {
    pub(super) trace_id: &'a [u8],
    pub(super) span_id: &'a [u8],
    pub(super) parent_id: &'a [u8],
    pub(super) trace_state: &'a [u8],
    pub(super) name: &'a [u8],
    pub(super) kind: SpanKind,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) dropped_attributes: u32,
    pub(super) status_code: i32,
    pub(super) bad_links: u64,
    /// Attributes came while the span was not known to be an entry span, and were skipped.
    pub(super) attributes_missed: bool,
    /// Of some attributes only what measures look at was read, for the span was no entry span then.
    pub(super) only_watched: bool,
    pub(super) has_events: bool,
}

impl<'a> RawSpan<'a> {
    /// Reads the fields; the attributes too if the kind, which senders write before them, says that they
    /// matter.
    #[inline]
    pub(super) fn read(
        message: &'a [u8],
        attributes: &mut SpanAttributes<'a>,
        mut watch: Option<&mut Watch>,
    ) -> Result<Self, WalkError> {
        let mut span = Self::default();
        let mut reads = Reads::of(span.kind, watch.as_deref());
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                TRACE_ID => span.trace_id = fields.bytes()?,
                SPAN_ID => span.span_id = fields.bytes()?,
                TRACE_STATE => span.trace_state = fields.bytes()?,
                PARENT_ID => span.parent_id = fields.bytes()?,
                NAME => span.name = fields.bytes()?,
                KIND => {
                    span.kind = kind_of(fields.varint()? as i32);
                    reads = Reads::of(span.kind, watch.as_deref());
                }
                START => span.start = fields.fixed64()?,
                END => span.end = fields.fixed64()?,
                ATTRIBUTE => match (reads, &mut watch) {
                    (Reads::All, None) => {
                        read_attribute(fields.bytes()?, attributes)?;
                        // They stand together, and to ask for the next one here is cheaper than to choose among all fields.
                        while fields.take_key(ATTRIBUTE) {
                            read_attribute(fields.bytes()?, attributes)?;
                        }
                    }
                    (Reads::All | Reads::Watched, Some(watch)) => {
                        let reads_all = matches!(reads, Reads::All);
                        span.only_watched |= !reads_all;
                        watch_attributes(&mut fields, attributes, watch, reads_all)?;
                    }
                    _ => {
                        span.attributes_missed = true;
                        fields.skip(key)?;
                    }
                },
                STATUS => read_status(fields.bytes()?, &mut span.status_code)?,
                DROPPED_ATTRIBUTES => span.dropped_attributes = fields.varint()? as u32,
                EVENT => {
                    span.has_events = true;
                    fields.skip(key)?;
                }
                LINK => span.bad_links += u64::from(!link_fits(fields.bytes()?)),
                DROPPED_EVENTS | DROPPED_LINKS | FLAGS => fields.skip(key)?,
                _ => fields.skip_unknown(key, OF_SPAN)?,
            }
        }
        Ok(span)
    }

    /// Why the span makes no SLI, as far as its fields tell.
    pub(super) fn discard(&self) -> Option<Discard> {
        let id_fits = |id: &[u8], length| id.is_empty() || id.len() == length;
        if !(id_fits(self.trace_id, 16) && id_fits(self.span_id, 8) && id_fits(self.parent_id, 8)) {
            Some(Discard::BadId)
        } else if !is_entry(self.kind) {
            Some(Discard::Kind)
        } else if self.end == 0 {
            Some(Discard::NoTime)
        } else {
            None
        }
    }
}

/// Which attributes of a span are read.
#[derive(Debug, Clone, Copy)]
enum Reads {
    Nothing,
    /// Those that measures look at.
    Watched,
    /// These and those of every request.
    All,
}

impl Reads {
    fn of(kind: SpanKind, watch: Option<&Watch>) -> Self {
        match watch {
            _ if is_entry(kind) => Self::All,
            Some(watch) if watch.program.reads(kind) && watch.program.reads_codes() => Self::All,
            Some(watch) if watch.program.reads(kind) => Self::Watched,
            _ => Self::Nothing,
        }
    }
}

const fn is_entry(kind: SpanKind) -> bool {
    matches!(kind, SpanKind::Server | SpanKind::Consumer)
}

const fn kind_of(number: i32) -> SpanKind {
    match number {
        1 => SpanKind::Internal,
        2 => SpanKind::Server,
        3 => SpanKind::Client,
        4 => SpanKind::Producer,
        5 => SpanKind::Consumer,
        _ => SpanKind::Unspecified,
    }
}

#[inline(never)]
fn read_attribute<'a>(message: &'a [u8], attributes: &mut SpanAttributes<'a>) -> Result<(), WalkError> {
    let Some((name, content)) = plain_key_value(message)? else {
        return read_unusual_attribute(message, attributes);
    };
    Attribute::named(name).map_or(Ok(()), |attribute| attributes.read(attribute, content))
}

#[cold]
fn read_unusual_attribute<'a>(
    message: &'a [u8],
    attributes: &mut SpanAttributes<'a>,
) -> Result<(), WalkError> {
    if let Some((attribute, value)) = key_value(message, Attribute::named)? {
        attributes.set(attribute, value);
    }
    Ok(())
}

/// The same with what the measures of a service look at, only that where not all is to be read, for all attributes
/// that stand together. The key of the first was read.
#[inline(never)]
fn watch_attributes<'a>(
    fields: &mut Fields<'a>,
    attributes: &mut SpanAttributes<'a>,
    watch: &mut Watch,
    reads_all: bool,
) -> Result<(), WalkError> {
    // In registers, not where the caller has it.
    let mut here = *fields;
    loop {
        match short_key_value(&mut here) {
            Some((message, name, content)) => {
                watch_attribute(message, (name, content), attributes, watch, reads_all)?;
            }
            None => watch_unusual_attribute(here.bytes()?, attributes, watch, reads_all)?,
        }
        if !here.take_key(ATTRIBUTE) {
            *fields = here;
            return Ok(());
        }
    }
}

#[inline(always)]
fn watch_attribute<'a>(
    message: &'a [u8],
    (name, content): (&'a [u8], &'a [u8]),
    attributes: &mut SpanAttributes<'a>,
    watch: &mut Watch,
    reads_all: bool,
) -> Result<(), WalkError> {
    let Some((number, is_watched)) = watch.program.attribute_number(name) else { return Ok(()) };
    if reads_all {
        attributes.read_numbered(number, content)?;
    }
    if is_watched { watch.note(number, message, content) } else { Ok(()) }
}

/// The same for an attribute that is long or written in another way.
#[cold]
fn watch_unusual_attribute<'a>(
    message: &'a [u8],
    attributes: &mut SpanAttributes<'a>,
    watch: &mut Watch,
    reads_all: bool,
) -> Result<(), WalkError> {
    if let Some(plain) = plain_key_value(message)? {
        return watch_attribute(message, plain, attributes, watch, reads_all);
    }
    let named = |name: &'a [u8]| watch.program.attribute_number(name);
    if let Some(((number, _), value)) = key_value(message, named)? {
        attributes.set_numbered(number, value);
        watch.note_value(number, value);
    }
    Ok(())
}

/// For a span whose kind came after (some of) its attributes.
#[cold]
pub(super) fn read_attributes<'a>(
    message: &'a [u8],
    attributes: &mut SpanAttributes<'a>,
    mut watch: Option<&mut Watch>,
) -> Result<(), WalkError> {
    let mut fields = Fields::new(message);
    while let Some(key) = fields.next_key()? {
        match key {
            ATTRIBUTE => match &mut watch {
                None => read_attribute(fields.bytes()?, attributes)?,
                Some(watch) => watch_attributes(&mut fields, attributes, watch, true)?,
            },
            _ => fields.skip(key)?,
        }
    }
    Ok(())
}

fn read_status(message: &[u8], code: &mut i32) -> Result<(), WalkError> {
    let mut fields = Fields::new(message);
    while let Some(key) = fields.next_key()? {
        match key {
            STATUS_CODE => *code = fields.varint()? as i32,
            _ => fields.skip_unknown(key, numbers([3]))?,
        }
    }
    Ok(())
}
