//! Drafts of messages: encoded once, with what must be new in each request written into the bytes. So a load whose
//! requests all differ costs its generator little, and the server that is measured is not kept waiting for it.
//!
//! While a draft is made, a mark of eight bytes stands for each value that is filled in later; where the marks are
//! in the encoded message is looked up once. That works for what has eight bytes on the wire: fixed numbers, and
//! trace and span ids.

use prost::Message;

/// The upper half of every mark. The lower one is its number.
const MARK: u64 = 0xb1d5_a7c3;
const BYTES: usize = 8;

/// What stands at a place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// Eight bytes of an id.
    Id,
    /// A time so many nanoseconds before the request is made.
    Before(u64),
    /// The begin of what a data point covers.
    Start,
    /// Number of values of a series.
    Count(usize),
    /// Their sum.
    Sum(usize),
    /// One of its buckets.
    Bucket(usize, usize),
}

/// Hands out marks.
#[derive(Debug, Default)]
pub(crate) struct Marks(Vec<Place>);

impl Marks {
    /// The mark of a place.
    pub(crate) fn number(&mut self, place: Place) -> u64 {
        self.0.push(place);
        (MARK << 32) + (self.0.len() - 1) as u64
    }

    /// The same for an id of so many times eight bytes.
    pub(crate) fn id(&mut self, parts: usize) -> Vec<u8> {
        (0..parts).flat_map(|_| self.number(Place::Id).to_le_bytes()).collect()
    }
}

/// An encoded message with places.
#[derive(Debug)]
pub(crate) struct Draft {
    bytes: Vec<u8>,
    places: Vec<(usize, Place)>,
}

impl Draft {
    /// Encodes a message that holds these marks.
    ///
    /// # Panics
    /// When a mark is not found, or more than there are: then no measurement would mean anything.
    pub(crate) fn new(message: &impl Message, marks: &Marks) -> Self {
        let bytes = message.encode_to_vec();
        let mut places = Vec::with_capacity(marks.0.len());
        let mut at = 0;
        while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk::<BYTES>) {
            let number = u64::from_le_bytes(*eight);
            if number >> 32 == MARK {
                places.extend(marks.0.get(number as u32 as usize).map(|place| (at, *place)));
                at += BYTES;
            } else {
                at += 1;
            }
        }
        assert_eq!(places.len(), marks.0.len(), "each mark stands in the message once");
        Self { bytes, places }
    }

    /// The message with these values.
    pub(crate) fn filled(&mut self, mut value: impl FnMut(Place) -> u64) -> &[u8] {
        for (at, place) in &self.places {
            self.bytes[*at..*at + BYTES].copy_from_slice(&value(*place).to_le_bytes());
        }
        &self.bytes
    }
}
