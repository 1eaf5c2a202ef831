//! What the last attributes and spans came to. Those of one service repeat: an attribute has few values and a span
//! meets few different sets of conditions, so that most are looked up and not compared again. The cost of that does not
//! grow with the number of SLIs, and a lookup that hits takes the same branches for all values.

use super::Marks;
use crate::model::{Outcome, SpanKind, SpanStatus};

/// How a span ended and what it was: what conditions look at beside their bits.
pub(super) type Ends = (SpanKind, SpanStatus, Outcome);

/// What is kept of one program, some 9 kB. Each value and set of conditions has its place, and the last one there is
/// the one that is known.
#[derive(Debug, Clone)]
pub struct Recent {
    spans: [Came; SPANS],
    values: [Noted; VALUES],
}

const SPANS: usize = 128;
const VALUES: usize = 128;

/// The value of an attribute as it stands on the wire, if it has at most 32 bytes: a route of 28 letters, say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncodedValue {
    /// The first and the last 16 of the last 32 bytes of the attribute, of which the value is the end.
    words: [u64; 4],
    length: u8,
}

impl EncodedValue {
    /// The value, which is the end of the attribute. What stands before it must follow from the name of the
    /// attribute and the length of the value.
    #[inline(always)]
    pub fn at_end(attribute: &[u8], value: &[u8]) -> Option<Self> {
        // All are loaded in the same way whatever the length: that differs from span to span.
        let end: &[u8; 16] = attribute.last_chunk()?;
        let beginning: &[u8; 16] = attribute.get(attribute.len().saturating_sub(32)..)?.first_chunk()?;
        let words =
            [beginning.first_chunk()?, beginning.last_chunk()?, end.first_chunk()?, end.last_chunk()?];
        if value.len() > 32 {
            return None;
        }
        let word = |at: usize| u64::from_le_bytes(*words[at]);
        Some(Self { words: [word(0), word(1), word(2), word(3)], length: value.len() as u8 })
    }

    /// Where it is kept.
    #[inline(always)]
    const fn place(self, name: u8) -> usize {
        // Rotations keep equal words from cancelling each other.
        let [a, b, c, d] = self.words;
        place(a ^ b.rotate_left(11) ^ c.rotate_left(23) ^ d.rotate_left(41) ^ name as u64, VALUES)
    }
}

/// Which conditions a value meets.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Noted {
    words: [u64; 4],
    /// Of which attribute and of which length; 0 where nothing came yet.
    of: u64,
    pub(super) bits: u64,
}

/// The number of an attribute and the length of its value in one, never 0.
#[inline(always)]
const fn value_of(name: u8, length: u8) -> u64 {
    1 << 16 | (name as u64) << 8 | length as u64
}

impl Noted {
    pub(super) const fn new(name: u8, encoded: EncodedValue, bits: u64) -> Self {
        Self { words: encoded.words, of: value_of(name, encoded.length), bits }
    }

    #[inline(always)]
    pub(super) fn is_of(&self, name: u8, encoded: EncodedValue) -> bool {
        // In one: branches that differ from value to value cost more than comparing what is left.
        let [a, b, c, d] = self.words;
        let [e, f, g, h] = encoded.words;
        (a ^ e | b ^ f | c ^ g | d ^ h | self.of ^ value_of(name, encoded.length)) == 0
    }
}

/// What a span counts for that meets these conditions.
#[derive(Debug, Clone, Copy, Default)]
struct Came {
    bits: u64,
    /// The kind, status and outcome in one; 0 where nothing came yet.
    ends: u8,
    marks: Marks,
}

/// Fibonacci hashing: numbers that differ in one bit come to different places.
#[inline(always)]
const fn place(number: u64, of: usize) -> usize {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - of.ilog2())) as usize
}

impl Default for Recent {
    fn default() -> Self {
        Self { spans: [Came::default(); SPANS], values: [Noted::default(); VALUES] }
    }
}

impl Recent {
    /// The conditions that a value met, if that is known.
    #[inline(always)]
    pub(super) fn value(&self, name: u8, encoded: EncodedValue) -> Option<u64> {
        let noted = &self.values[encoded.place(name)];
        noted.is_of(name, encoded).then_some(noted.bits)
    }

    /// Keeps the conditions that a value meets.
    pub(super) fn keep(&mut self, name: u8, encoded: EncodedValue, bits: u64) {
        self.values[encoded.place(name)] = Noted::new(name, encoded, bits);
    }

    /// What a span counts for, computed unless it is known.
    #[inline]
    pub(super) fn span(&mut self, bits: u64, ends: Ends, compute: impl FnOnce() -> Marks) -> Marks {
        let (kind, status, outcome) = ends;
        let ends = 1 + ((kind as u8) << 4 | (status as u8) << 2 | outcome as u8);
        let came = &mut self.spans[place(bits ^ u64::from(ends) << 32, SPANS)];
        if came.bits != bits || came.ends != ends {
            *came = Came { bits, ends, marks: compute() };
        }
        came.marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attribute whose value is this.
    fn encoded(value: &[u8]) -> Option<EncodedValue> {
        EncodedValue::at_end(&[b"a name of 20 letters", value].concat(), value)
    }

    #[test]
    fn values_are_known_by_every_byte_their_length_and_their_name() {
        for length in 0..=32 {
            let mut value = vec![b'a'; length];
            let known = encoded(&value).unwrap();
            let noted = Noted::new(7, known, 0);
            assert!(noted.is_of(7, known) && !noted.is_of(6, known));
            let longer = EncodedValue { length: known.length + 1, ..known };
            assert!(!noted.is_of(7, longer), "{length}");
            for at in 0..length {
                value[at] = b'b';
                assert!(!noted.is_of(7, encoded(&value).unwrap()), "{length} {at}");
                value[at] = b'a';
            }
        }
        assert_eq!(encoded(&[b'a'; 33]), None);
        assert_eq!(EncodedValue::at_end(b"fifteen letters", b"letters"), None, "too short to load at once");
        assert!(EncodedValue::at_end(b"sixteen letters.", b"letters.").is_some());
    }

    #[test]
    fn what_came_before_is_not_computed_again() {
        let mut recent = Recent::default();
        let server = (SpanKind::Server, SpanStatus::Unset, Outcome::Good);
        let client = (SpanKind::Client, server.1, server.2);
        assert_eq!(recent.span(0, server, || 5), 5);
        assert_eq!(recent.span(0, server, || unreachable!()), 5);
        assert_eq!(recent.span(0, client, || 6), 6);
        assert_eq!(recent.span(1, server, || 7), 7);
    }
}
