//! What was seen a moment ago. One exception may come as a span event and as a log record, in two requests and
//! in either order: of the same span and the same fingerprint it counts once.

use std::collections::HashSet;

use super::Fingerprint;
use crate::model::{NANOS_PER_SECOND, UnixNanos};

/// Exceptions of a half of the window. With both halves full the window takes about 1 MB, and exceptions that
/// come twice further apart count twice.
const HALF: usize = 32_768;
/// Seconds of a half of the window. A log record and its span leave their SDK within seconds of another; a
/// retry of one of them may take a minute.
const HALF_S: u64 = 60;

/// A window over the exceptions of the last one to two minutes.
#[derive(Debug, Default)]
pub struct Recent {
    new: HashSet<u64>,
    old: HashSet<u64>,
    since: UnixNanos,
}

impl Recent {
    /// Whether this is the first time that the exception is seen. Without a trace and a span id nothing can
    /// be said, and it is.
    pub fn is_first(
        &mut self,
        trace_id: Option<[u8; 16]>,
        span_id: Option<[u8; 8]>,
        exception: Fingerprint,
        now: UnixNanos,
    ) -> bool {
        let (Some(trace_id), Some(span_id)) = (trace_id, span_id) else { return true };
        if self.new.len() >= HALF || now.since(self.since) > HALF_S * NANOS_PER_SECOND || now < self.since {
            self.old = std::mem::take(&mut self.new);
            self.since = now;
        }
        let key = key(trace_id, span_id, exception);
        !self.old.contains(&key) && self.new.insert(key)
    }
}

/// Ids are mostly random bits; mixed one after the other, so that equal parts do not cancel out.
fn key(trace_id: [u8; 16], span_id: [u8; 8], exception: Fingerprint) -> u64 {
    let trace = u128::from_le_bytes(trace_id);
    let parts = [trace as u64, (trace >> 64) as u64, u64::from_le_bytes(span_id), exception.0];
    parts.into_iter().fold(0, |key: u64, part| {
        let mixed = (key ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s6_l4_the_same_exception_of_the_same_span_is_one() {
        let mut recent = Recent::default();
        let mut first = |trace: u8, span: u8, exception, second: u64| {
            let at = UnixNanos::from_secs(1_000 + second);
            recent.is_first(Some([trace; 16]), Some([span; 8]), Fingerprint(exception), at)
        };
        assert!(first(1, 1, 7, 0));
        assert!(!first(1, 1, 7, 1));
        assert!(first(1, 2, 7, 1), "another span");
        assert!(first(2, 1, 7, 1), "another trace");
        assert!(first(1, 1, 8, 1), "another exception");
        assert!(!first(1, 1, 7, 70), "over the seam of the halves");
        assert!(first(1, 1, 7, 200), "long ago");
    }

    #[test]
    fn without_ids_each_counts_and_the_window_is_bounded() {
        let mut recent = Recent::default();
        let now = UnixNanos::from_secs(1);
        assert!(recent.is_first(None, Some([1; 8]), Fingerprint(1), now));
        assert!(recent.is_first(None, Some([1; 8]), Fingerprint(1), now));
        for i in 0..3 * HALF as u128 {
            recent.is_first(Some(i.to_le_bytes()), Some([1; 8]), Fingerprint(1), now);
        }
        assert!(recent.new.len() <= HALF && recent.old.len() <= HALF);
    }
}
