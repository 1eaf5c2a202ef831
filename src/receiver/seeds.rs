//! Hashes whose seeds nobody outside the process knows, for digests over what comes from outside.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

/// Two hashes, independent of each other and of those of any other call.
pub(super) fn seeded() -> [SeedableRandomState; 2] {
    static SHARED: OnceLock<[SharedSeed; 2]> = OnceLock::new();
    // The hasher of the standard library is seeded by the system.
    let random = || RandomState::new().build_hasher().finish();
    let [first, second] = SHARED.get_or_init(|| [random(), random()].map(SharedSeed::from_u64));
    [SeedableRandomState::with_seed(random(), first), SeedableRandomState::with_seed(random(), second)]
}
