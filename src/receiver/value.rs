//! `KeyValue` and `AnyValue` of OTLP as borrowed views. Only text, numbers, yes or no and the first element of a
//! list matter to anything that is judged; other kinds are legal (OTLP allows any kind anywhere) and read as
//! [`Value::Other`].
//!
//! Protobuf merges a message that occurs twice. For `AnyValue` this means: a later value replaces an earlier
//! one, an empty later message leaves the earlier one in place, and a second list is appended to the first.

use crate::model::AttributeValue;
use crate::wire::{BYTES, FIXED64, Fields, VARINT, WalkError, key, numbers};

const KEY: u32 = key(1, BYTES);
const VALUE: u32 = key(2, BYTES);
/// Index of the key into the string table of profiles.
const KEY_INDEX: u32 = key(3, VARINT);
const READ: u32 = numbers([1, 2]);

const TEXT: u32 = key(1, BYTES);
const BOOL: u32 = key(2, VARINT);
const INT: u32 = key(3, VARINT);
const DOUBLE: u32 = key(4, FIXED64);
const LIST: u32 = key(5, BYTES);
const MAP: u32 = key(6, BYTES);
const RAW: u32 = key(7, BYTES);
/// Index into the string table of profiles; elsewhere its meaning is "absent".
const TEXT_INDEX: u32 = key(8, VARINT);
const READ_ANY: u32 = numbers([1, 2, 3, 4, 5, 6, 7, 8]);

const ELEMENT: u32 = key(1, BYTES);
const READ_LIST: u32 = numbers([1]);

/// The value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Value<'a> {
    /// No attribute, or one without a value.
    #[default]
    Absent,
    /// A string; not necessarily UTF-8.
    Text(&'a [u8]),
    /// A whole number.
    Int(i64),
    /// A number with a fraction, as its bits.
    Double(u64),
    /// Yes or no.
    Bool(bool),
    /// The first element of a list: its text, or empty where it is no text; `None` for an empty list.
    List(Option<&'a [u8]>),
    /// Anything else.
    Other,
}

impl<'a> Value<'a> {
    /// The text, or that of a list's first element; empty when there is none.
    pub(super) fn text(self) -> &'a [u8] {
        match self {
            Self::Text(text) | Self::List(Some(text)) => text,
            _ => b"",
        }
    }

    /// The number, also where it was sent as text.
    pub(super) fn number(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number),
            Self::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// The value as conditions of SLIs look at it.
    pub(super) fn attribute(self) -> AttributeValue<'a> {
        match self {
            Self::Absent => AttributeValue::Absent,
            Self::Text(text) | Self::List(Some(text)) => AttributeValue::Text(text),
            Self::Int(number) => AttributeValue::Whole(number),
            Self::Double(bits) => AttributeValue::Double(f64::from_bits(bits)),
            Self::Bool(truth) => AttributeValue::Bool(truth),
            Self::List(None) | Self::Other => AttributeValue::Other,
        }
    }

    /// Whether there is any value but an empty string.
    pub(super) fn is_present(self) -> bool {
        !matches!(self, Self::Absent | Self::Text(b""))
    }

    /// Reads an `AnyValue`.
    #[inline]
    pub(super) fn read(message: &'a [u8]) -> Result<Self, WalkError> {
        let mut value = Self::Absent;
        value.replace(message)?;
        Ok(value)
    }

    /// Reads an `AnyValue` in the place of this one. In place, because a value that was just written in pieces is
    /// slow to copy.
    #[inline(always)]
    pub(super) fn replace(&mut self, message: &'a [u8]) -> Result<(), WalkError> {
        // Most are a text of less than 128 bytes and nothing else.
        if let [tag, length @ ..0x80, text @ ..] = message
            && u32::from(*tag) == TEXT
            && usize::from(*length) == text.len()
        {
            *self = Self::Text(text);
            return Ok(());
        }
        *self = Self::Absent;
        self.merge(message)
    }

    /// Reads an `AnyValue` into this one.
    pub(super) fn merge(&mut self, message: &'a [u8]) -> Result<(), WalkError> {
        self.merge_at(message, true)
    }

    /// `outermost` is false for the elements of a list: what they nest is not read, only passed over.
    fn merge_at(&mut self, message: &'a [u8], outermost: bool) -> Result<(), WalkError> {
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            *self = match key {
                TEXT => Self::Text(fields.bytes()?),
                INT => Self::Int(fields.varint()?.cast_signed()),
                LIST if outermost => {
                    let first = if let Self::List(first) = *self { first } else { None };
                    Self::List(first_of_list(first, fields.bytes()?)?)
                }
                BOOL => Self::Bool(fields.varint()? != 0),
                DOUBLE => Self::Double(fields.fixed64()?),
                LIST | MAP | RAW => {
                    fields.skip(key)?;
                    Self::Other
                }
                TEXT_INDEX => {
                    fields.skip(key)?;
                    Self::Absent
                }
                _ => {
                    fields.skip_unknown(key, READ_ANY)?;
                    continue;
                }
            };
        }
        Ok(())
    }
}

fn first_of_list<'a>(first: Option<&'a [u8]>, list: &'a [u8]) -> Result<Option<&'a [u8]>, WalkError> {
    let mut first = first;
    let mut fields = Fields::new(list);
    while let Some(key) = fields.next_key()? {
        match key {
            ELEMENT if first.is_none() => {
                let mut value = Value::Absent;
                value.merge_at(fields.bytes()?, false)?;
                first = Some(value.text());
            }
            ELEMENT => fields.skip(key)?,
            _ => fields.skip_unknown(key, READ_LIST)?,
        }
    }
    Ok(first)
}

/// Whether a `KeyValue` names its key or its value by an index into a string table. Only profiles have such a
/// table; elsewhere the attribute counts as absent (G8).
/// What cannot be read is not.
#[cold]
pub(super) fn is_indexed(message: &[u8]) -> bool {
    let mut fields = Fields::new(message);
    while let Ok(Some(key)) = fields.next_key() {
        let read = match key {
            KEY_INDEX => return true,
            VALUE => fields.bytes().map(|value| has_field(value, TEXT_INDEX)),
            _ => fields.skip(key).map(|()| false),
        };
        match read {
            Ok(false) => {}
            Ok(true) => return true,
            Err(_) => return false,
        }
    }
    false
}

fn has_field(message: &[u8], wanted: u32) -> bool {
    let mut fields = Fields::new(message);
    while let Ok(Some(key)) = fields.next_key() {
        if key == wanted {
            return true;
        }
        if fields.skip(key).is_err() {
            return false;
        }
    }
    false
}

/// A key and an encoded value.
type Plain<'a> = (&'a [u8], &'a [u8]);

/// The key and the encoded value of a `KeyValue` that has the key, then the value, then nothing, as nearly every
/// sender writes it.
#[inline(always)]
pub(super) fn plain_key_value(message: &[u8]) -> Result<Option<Plain<'_>>, WalkError> {
    let mut fields = Fields::new(message);
    if fields.next_key()? == Some(KEY) {
        let name = fields.bytes()?;
        if fields.next_key()? == Some(VALUE) {
            let content = fields.bytes()?;
            return Ok(fields.is_empty().then_some((name, content)));
        }
    }
    Ok(None)
}

/// The same for the next field, whose key was read, where all of its lengths are below 128: the whole message, its key
/// and its encoded value. Of any other field nothing is taken.
#[inline(always)]
pub(super) fn short_key_value<'a>(fields: &mut Fields<'a>) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
    const KEY_BYTE: u8 = KEY as u8;
    const VALUE_BYTE: u8 = VALUE as u8;
    let (message, rest) = fields.peek_short()?;
    let [KEY_BYTE, length @ ..0x80, from_name @ ..] = message else { return None };
    let (name, from_value) = from_name.split_at_checked(usize::from(*length))?;
    let [VALUE_BYTE, length @ ..0x80, content @ ..] = from_value else { return None };
    if usize::from(*length) != content.len() {
        return None;
    }
    *fields = rest;
    Some((message, name, content))
}

/// Reads a `KeyValue` whose key `select` recognises; the value of any other is passed over.
#[inline(always)]
pub(super) fn key_value<'a, T>(
    message: &'a [u8],
    select: impl Fn(&'a [u8]) -> Option<T>,
) -> Result<Option<(T, Value<'a>)>, WalkError> {
    let Some((name, content)) = plain_key_value(message)? else {
        return unusual_key_value(message, select);
    };
    let Some(selected) = select(name) else { return Ok(None) };
    Ok(Some((selected, Value::read(content)?)))
}

#[cold]
fn unusual_key_value<'a, T>(
    message: &'a [u8],
    select: impl Fn(&'a [u8]) -> Option<T>,
) -> Result<Option<(T, Value<'a>)>, WalkError> {
    let mut fields = Fields::new(message);
    let (mut name, mut value) = (&b""[..], Value::Absent);
    while let Some(key) = fields.next_key()? {
        match key {
            KEY => name = fields.bytes()?,
            VALUE => value.merge(fields.bytes()?)?,
            _ => fields.skip_unknown(key, READ)?,
        }
    }
    Ok(select(name).map(|selected| (selected, value)))
}
