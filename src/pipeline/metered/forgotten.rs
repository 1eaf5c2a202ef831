//! Streams that were silent for so long that they were forgotten. A cumulative counter of one may still run: when it
//! is heard again, all that it was at before must not count a second time.

use std::collections::HashMap;

use crate::model::UnixNanos;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer};

/// Streams of one version that are remembered one by one, at 32 bytes each.
const KEPT: usize = 4_096;

/// What is left of the forgotten streams of one version.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    /// By the digest that names a stream, the newest start of its counters.
    starts: HashMap<u128, UnixNanos, foldhash::fast::RandomState>,
    /// The newest start of those that are not remembered one by one.
    before: UnixNanos,
}

impl Forgotten {
    /// A stream with counters is forgotten.
    pub(super) fn note(&mut self, key: u128, newest_start: UnixNanos) {
        if self.starts.len() >= KEPT {
            self.before = self.starts.drain().map(|(_, start)| start).fold(self.before, UnixNanos::max);
        }
        if newest_start > self.before {
            self.starts.insert(key, newest_start);
        }
    }

    /// A stream is heard of again, or for the first time: counters that began no later than this may have been counted.
    pub(super) fn take(&mut self, key: u128) -> UnixNanos {
        self.starts.remove(&key).map_or(self.before, |start| start.max(self.before))
    }

    /// The newest start of the counters of a stream that is remembered by itself; it is not any more.
    pub(super) fn give(&mut self, key: u128) -> Option<UnixNanos> {
        self.starts.remove(&key)
    }

    /// All are forgotten at once: the newest start of any, from now on that of each.
    pub(super) fn merge(&mut self, newest_start: UnixNanos) -> UnixNanos {
        let all = self.starts.drain().map(|(_, start)| start);
        self.before = all.fold(self.before.max(newest_start), UnixNanos::max);
        self.before
    }
}

impl Snapshot for Forgotten {
    fn save(&self, out: &mut Writer) {
        self.before.save(out);
        (self.starts.len() as u32).save(out);
        let mut starts: Vec<_> = self.starts.iter().collect();
        starts.sort_unstable();
        for (key, start) in starts {
            ((*key >> 64) as u64).save(out);
            (*key as u64).save(out);
            start.save(out);
        }
    }

    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let mut forgotten = Self { before: UnixNanos::load(from)?, ..Self::default() };
        for _ in 0..u32::load(from)? {
            let key = u128::from(u64::load(from)?) << 64 | u128::from(u64::load(from)?);
            forgotten.starts.insert(key, UnixNanos::load(from)?);
        }
        Ok(forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_remembered_one_by_one_and_then_together() {
        let mut forgotten = Forgotten::default();
        forgotten.note(1, UnixNanos(10));
        forgotten.note(2, UnixNanos(20));
        assert_eq!([1, 1, 3].map(|key| forgotten.take(key).0), [10, 0, 0], "once, and only what it was");
        let mut bytes = Writer::default();
        forgotten.save(&mut bytes);
        let bytes = bytes.into_bytes();
        let mut again = Forgotten::load(&mut Reader::new(&bytes)).unwrap();
        assert_eq!((again.give(7), again.give(2), again.give(2)), (None, Some(UnixNanos(20)), None));
        for key in 0..=KEPT as u128 {
            forgotten.note(key, UnixNanos(100 + key as u64));
        }
        let most = 100 + KEPT as u64 - 1;
        assert!(forgotten.starts.len() <= KEPT && forgotten.take(7).0 >= most, "{}", forgotten.before.0);
        assert_eq!(forgotten.merge(UnixNanos(50)).0, 100 + KEPT as u64);
        assert_eq!(forgotten.take(7).0, 100 + KEPT as u64);
    }
}
