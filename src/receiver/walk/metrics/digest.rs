//! The identity of a stream as a 128-bit hash over everything that OpenTelemetry's data model says identifies
//! one: attributes of resource and scope, the scope's name and version, name, unit, type, temporality and
//! monotonicity of the metric, attributes of the point. Attributes are hashed one by one and added up, so
//! their order does not matter. The seeds are fixed, because a snapshot of the streams outlives the process;
//! whoever makes two of his streams collide spoils nothing but his own numbers.

use std::hash::BuildHasher;

use foldhash::quality::FixedState;

use crate::wire::{BYTES, Fields, WalkError, key};

/// Two independent hashes of 64 bits.
#[derive(Debug)]
pub(super) struct Digest {
    low: FixedState,
    high: FixedState,
}

impl Digest {
    pub(super) fn new() -> Self {
        Self { low: FixedState::with_seed(0x9e37_79b9), high: FixedState::with_seed(0x85eb_ca6b) }
    }

    pub(super) fn of(&self, bytes: &[u8]) -> u128 {
        u128::from(self.low.hash_one(bytes)) | u128::from(self.high.hash_one(bytes)) << 64
    }

    pub(super) fn of_parts(&self, parts: &[u128]) -> u128 {
        u128::from(self.low.hash_one(parts)) | u128::from(self.high.hash_one(parts)) << 64
    }
}

const SCOPE_NAME: u32 = key(1, BYTES);
const SCOPE_VERSION: u32 = key(2, BYTES);

/// Attributes added up, and the names beside them.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    sum: u128,
    names: [u128; 2],
}

impl Pieces {
    /// One attribute as it stands on the wire.
    #[inline]
    pub(super) fn add(&mut self, digest: &Digest, attribute: &[u8]) {
        self.sum = self.sum.wrapping_add(digest.of(attribute));
    }

    /// All attributes of a message that has them as field `number`.
    pub(super) fn add_attributes(
        &mut self,
        digest: &Digest,
        message: &[u8],
        number: u32,
    ) -> Result<(), WalkError> {
        let mut fields = Fields::new(message);
        while let Some(found) = fields.next_key()? {
            if found == key(number, BYTES) {
                self.add(digest, fields.bytes()?);
            } else {
                fields.skip(found)?;
            }
        }
        Ok(())
    }

    /// An `InstrumentationScope`.
    pub(super) fn add_scope(&mut self, digest: &Digest, message: &[u8]) -> Result<(), WalkError> {
        let mut fields = Fields::new(message);
        while let Some(found) = fields.next_key()? {
            match found {
                SCOPE_NAME => self.names[0] = digest.of(fields.bytes()?),
                SCOPE_VERSION => self.names[1] = digest.of(fields.bytes()?),
                _ => fields.skip(found)?,
            }
        }
        self.add_attributes(digest, message, 3)
    }

    pub(super) fn finish(&self, digest: &Digest) -> u128 {
        digest.of_parts(&[self.sum, self.names[0], self.names[1]])
    }
}
