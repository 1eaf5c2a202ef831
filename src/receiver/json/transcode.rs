//! One pass over the text, writing protobuf as it goes. The length of a message stands before its content and
//! is not known until its end: one byte is left for it, and the few messages of 128 bytes and more are moved
//! by the bytes that are missing.

use prost::encoding::{encode_varint, encoded_len_varint};

use super::JsonError;
use super::reader::{Read, Reader, Scalar};
use super::scalar::{put_base64, put_id};
use super::schema::{Field, Kind, Rule, Schema};
use crate::wire::{BYTES, FIXED32, FIXED64, VARINT, key};

/// The message in protobuf, of at most `limit` bytes.
pub(super) fn transcode(schema: &Schema, json: &str, limit: usize) -> Read<Vec<u8>> {
    let out = Vec::with_capacity(json.len() / 2);
    let mut transcoder = Transcoder { reader: Reader::new(json), out, limit };
    transcoder.message(schema)?;
    transcoder.reader.end()?;
    Ok(transcoder.out)
}

struct Transcoder<'a> {
    reader: Reader<'a>,
    out: Vec<u8>,
    limit: usize,
}

impl Transcoder<'_> {
    /// The fields of an object.
    fn message(&mut self, schema: &Schema) -> Read<()> {
        self.reader.open(b'{', "expected an object")?;
        let (mut is_first, mut hint) = (true, 0);
        while self.reader.more(b'}', is_first)? {
            is_first = false;
            let key = self.reader.key()?;
            match schema.find(self.reader.text_of(key), &mut hint) {
                Some(field) => self.field(field)?,
                None => self.reader.skip()?,
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &'static Field) -> Read<()> {
        if self.reader.peek() == b'n' {
            // `null` is as if the key were not there.
            return self.reader.scalar().map(drop);
        }
        match field.rule {
            Rule::Once | Rule::Present => self.value(field),
            Rule::List => self.list(|this| this.value(field)),
            Rule::Packed => {
                let before = self.out.len();
                let mut is_empty = true;
                self.delimited(field.number, |this| {
                    this.list(|this| {
                        is_empty = false;
                        this.number(field)
                    })
                })?;
                if is_empty {
                    self.out.truncate(before);
                }
                Ok(())
            }
        }
    }

    /// Each element of a list; `null` is none.
    fn list(&mut self, mut each: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        self.reader.open(b'[', "expected a list")?;
        let mut is_first = true;
        while self.reader.more(b']', is_first)? {
            is_first = false;
            if self.reader.peek() == b'n' {
                self.reader.scalar()?;
                continue;
            }
            each(self)?;
            if self.out.len() > self.limit {
                return Err(Box::new(JsonError::TooLarge(self.limit)));
            }
        }
        Ok(())
    }

    /// Writes a field with its key.
    fn value(&mut self, field: &'static Field) -> Read<()> {
        match field.kind {
            Kind::Message(schema) => self.delimited(field.number, |this| this.message(schema)),
            Kind::Text | Kind::Id | Kind::Bytes => self.string(field),
            Kind::Int64OrDouble(double) => self.int64_or_double(field, double),
            _ => self.keyed_number(field),
        }
    }

    fn string(&mut self, field: &'static Field) -> Read<()> {
        let scalar = self.reader.scalar()?;
        let out = &mut self.out;
        let Some(text) = scalar.text() else { return self.not_a(field) };
        if text.is_empty() && field.rule == Rule::Once {
            return Ok(());
        }
        encode_varint(key(field.number, BYTES).into(), out);
        if matches!(field.kind, Kind::Text) {
            encode_varint(text.len() as u64, out);
            out.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        let at = out.len();
        out.push(0);
        let read = match field.kind {
            Kind::Id => {
                put_id(text, out);
                Some(())
            }
            _ => put_base64(text, out),
        };
        if read.is_none() {
            return self.not_a(field);
        }
        close(out, at);
        Ok(())
    }

    /// A number, bool or enum with its key, unless it is a default that is not written.
    fn keyed_number(&mut self, field: &'static Field) -> Read<()> {
        let before = self.out.len();
        encode_varint(key(field.number, wire_type(field.kind)).into(), &mut self.out);
        let at = self.out.len();
        self.number(field)?;
        if field.rule == Rule::Once && self.out[at..].iter().all(|&byte| byte == 0) {
            self.out.truncate(before);
        }
        Ok(())
    }

    fn int64_or_double(&mut self, field: &'static Field, double: u32) -> Read<()> {
        let Some(number) = self.reader.scalar()?.whole() else { return self.not_a(field) };
        if let Ok(number) = i64::try_from(number) {
            encode_varint(key(field.number, VARINT).into(), &mut self.out);
            encode_varint(number.cast_unsigned(), &mut self.out);
        } else {
            encode_varint(key(double, FIXED64).into(), &mut self.out);
            self.out.extend_from_slice(&(number as f64).to_le_bytes());
        }
        Ok(())
    }

    /// A number, bool or enum without its key.
    fn number(&mut self, field: &'static Field) -> Read<()> {
        let scalar = self.reader.scalar()?;
        match put_number(field.kind, scalar, &mut self.out) {
            Some(()) => Ok(()),
            None => self.not_a(field),
        }
    }

    /// A field whose content is written by `content`.
    fn delimited(&mut self, number: u32, content: impl FnOnce(&mut Self) -> Read<()>) -> Read<()> {
        encode_varint(key(number, BYTES).into(), &mut self.out);
        let at = self.out.len();
        self.out.push(0);
        content(self)?;
        close(&mut self.out, at);
        Ok(())
    }

    #[cold]
    fn not_a<T>(&self, field: &Field) -> Read<T> {
        let what = match field.kind {
            Kind::Text | Kind::Id => "not a string",
            Kind::Bytes => "not base64",
            Kind::Bool => "neither true nor false",
            Kind::Double => "not a number",
            Kind::Enum(_) => "no value of the enum",
            _ => "no whole number in range",
        };
        Err(Box::new(JsonError::Value { field: field.name, what, at: self.reader.at() }))
    }
}

const fn wire_type(kind: Kind) -> u32 {
    match kind {
        Kind::Text | Kind::Id | Kind::Bytes | Kind::Message(_) => BYTES,
        Kind::Double | Kind::Fixed64 | Kind::SignedFixed64 => FIXED64,
        Kind::Fixed32 => FIXED32,
        Kind::Bool
        | Kind::Unsigned(_)
        | Kind::Int32
        | Kind::Int64OrDouble(_)
        | Kind::Zigzag32
        | Kind::Enum(_) => VARINT,
    }
}

/// Appends a number as its kind has it; `None` when it is none.
#[inline]
fn put_number(kind: Kind, scalar: Scalar<'_>, out: &mut Vec<u8>) -> Option<()> {
    match kind {
        Kind::Bool => out.push(scalar.bool()?.into()),
        Kind::Double => out.extend_from_slice(&scalar.double()?.to_le_bytes()),
        Kind::Fixed64 => out.extend_from_slice(&u64::try_from(scalar.whole()?).ok()?.to_le_bytes()),
        Kind::SignedFixed64 => out.extend_from_slice(&i64::try_from(scalar.whole()?).ok()?.to_le_bytes()),
        Kind::Fixed32 => out.extend_from_slice(&u32::try_from(scalar.whole()?).ok()?.to_le_bytes()),
        Kind::Unsigned(most) => {
            let number = u64::try_from(scalar.whole()?).ok().filter(|number| *number <= most)?;
            encode_varint(number, out);
        }
        Kind::Int32 => put_signed(i32::try_from(scalar.whole()?).ok()?, out),
        Kind::Enum(names) => put_signed(scalar.number_of(names)?, out),
        Kind::Zigzag32 => {
            let number = i32::try_from(scalar.whole()?).ok()?;
            encode_varint(((number << 1) ^ (number >> 31)).cast_unsigned().into(), out);
        }
        Kind::Text | Kind::Id | Kind::Bytes | Kind::Int64OrDouble(_) | Kind::Message(_) => return None,
    }
    Some(())
}

/// `int32` is written as 64 bits.
fn put_signed(number: i32, out: &mut Vec<u8>) {
    encode_varint(i64::from(number).cast_unsigned(), out);
}

/// Writes the length of what follows the byte at `at`.
#[inline]
fn close(out: &mut Vec<u8>, at: usize) {
    let (content, end) = (at + 1, out.len());
    let length = end - content;
    if length < 0x80 {
        out[at] = length as u8;
        return;
    }
    let more = encoded_len_varint(length as u64) - 1;
    out.resize(end + more, 0);
    out.copy_within(content..end, content + more);
    let mut rest = length;
    for byte in &mut out[at..at + more] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[at + more] = rest as u8;
}
