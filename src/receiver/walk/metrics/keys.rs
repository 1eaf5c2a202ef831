//! Keys of points (see [`PointKey`]): a digest over all bytes that decide what a point is, made without reading
//! them. The bytes are those of the resource, of the scope, of what identifies the metric, and of the point's
//! attributes, in the order in which they stand, and beside them the settings by which they are read.
//!
//! Equal keys are taken for equal bytes, without a look at the bytes: a copy of them would be 300 bytes a stream
//! and a cache miss a point. The digest has 128 bits, so among a million streams two meet by chance once in 2^89;
//! and its seeds are random per process and nothing made of a key leaves it, so nobody can make two meet.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::OnceLock;

use foldhash::quality::SeedableRandomState;

use crate::model::PointKey;
use crate::receiver::seeds::seeded;
use crate::receiver::settings::WalkSettings;

/// Whose bytes are added to a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Resource,
    Scope,
    Name,
    Unit,
    Kind,
    Attributes,
    Measures,
}

/// Makes keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    hashes: &'static [SeedableRandomState; 2],
}

impl Keys {
    pub(super) fn new() -> Self {
        static HASHES: OnceLock<[SeedableRandomState; 2]> = OnceLock::new();
        Self { hashes: HASHES.get_or_init(seeded) }
    }

    /// Where all keys of a message begin.
    pub(super) fn begin(self, settings: &WalkSettings) -> PointKey {
        self.with(|hasher| settings.hash(hasher))
    }

    /// A key with more bytes.
    #[inline]
    pub(super) fn add(self, key: PointKey, part: Part, bytes: &[u8]) -> PointKey {
        self.with(|hasher| {
            hasher.write_u128(key.0);
            hasher.write_u64((bytes.len() as u64) << 3 | part as u64);
            hasher.write(bytes);
        })
    }

    #[inline]
    fn with(self, feed: impl Fn(&mut <SeedableRandomState as BuildHasher>::Hasher)) -> PointKey {
        let [low, high] = self.hashes.each_ref().map(|hash| {
            let mut hasher = hash.build_hasher();
            feed(&mut hasher);
            hasher.finish()
        });
        PointKey(u128::from(low) | u128::from(high) << 64)
    }
}
