//! Messages that come twice. A client that lost our answer sends the same bytes again, and counting them again
//! would make a burst out of one slow answer. So the digest of every message that was committed is remembered
//! for a while, and a message with a digest that is known is answered like the first one and nothing else.
//!
//! Whoever asks first holds the claim to a message until it is committed or given up. Meanwhile the same bytes
//! are neither known nor free: their request waits, and then sees the first committed, or takes the claim over.
//! So none is lost, for a message is known only once it counts, and none counts or is passed on twice. The
//! memory ends with the process; after a restart a resend counts again.
//!
//! The digest is 128 bits from two hashes with seeds of their own, random per process. It covers the kind of data,
//! whose data it is, and the message as protobuf; nobody outside can make two messages meet.
//!
//! Memory: 40 bytes a message and its share of a table, at most [`MESSAGES`] of them, so 20 MB; a busier gateway
//! forgets the oldest early and counts them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::quality::SeedableRandomState;

use super::seeds::seeded;
use crate::model::UnixNanos;
use crate::pipeline::DataType;

/// Messages remembered over all parts.
pub(super) const MESSAGES: usize = 1 << 18;
/// Parts with a lock each.
const PARTS: usize = 16;
/// Steps in which messages are forgotten; a message is known for the configured time and up to one step more.
const STEPS: u64 = 6;

/// Names a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest([u64; 2]);

/// What the first one was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct First {
    pub(super) records: u64,
    pub(super) rejected: u64,
}

/// The memory of messages.
#[derive(Debug)]
pub(super) struct Resends {
    step_nanos: u64,
    messages_per_part: usize,
    hashes: [SeedableRandomState; 2],
    parts: [Mutex<Part>; PARTS],
}

#[derive(Debug, Default)]
struct Part {
    /// By the step in which they were committed, oldest first.
    steps: VecDeque<(u64, HashMap<Digest, First, foldhash::fast::RandomState>)>,
    len: usize,
    /// Messages that are being taken in: as many as there are requests in progress, at most.
    claimed: HashSet<Digest, foldhash::fast::RandomState>,
}

/// What is known of a message.
#[derive(Debug)]
pub(super) enum Asked {
    /// It came before, and was answered like this.
    Known(First),
    /// The same bytes are being taken in by another request.
    InProgress,
    /// It is new; hold the claim until it is committed.
    New(Claim),
}

/// The right to commit a message that is not known. Dropped unused, it is given back.
#[derive(Debug)]
pub(super) struct Claim {
    resends: Arc<Resends>,
    digest: Digest,
    step: u64,
}

impl Resends {
    /// A memory that reaches back this long; `None` where it is not wanted.
    pub(super) fn new(reach: Duration) -> Option<Arc<Self>> {
        Self::with_room(reach, MESSAGES)
    }

    fn with_room(reach: Duration, messages: usize) -> Option<Arc<Self>> {
        let nanos = u64::try_from(reach.as_nanos()).unwrap_or(u64::MAX);
        (nanos > 0).then(|| {
            Arc::new(Self {
                step_nanos: nanos.div_ceil(STEPS),
                messages_per_part: messages / PARTS,
                hashes: seeded(),
                parts: std::array::from_fn(|_| Mutex::default()),
            })
        })
    }

    /// The digest of a message of `tenant`, who is told apart by forwarded metadata.
    pub(super) fn digest(&self, data: DataType, tenant: &[u8], message: &[u8]) -> Digest {
        Digest(self.hashes.each_ref().map(|hash| {
            let mut hasher = hash.build_hasher();
            hasher.write_u8(data as u8);
            hasher.write_usize(tenant.len());
            hasher.write(tenant);
            hasher.write_usize(message.len());
            hasher.write(message);
            hasher.finish()
        }))
    }

    /// Whether the message came before, comes just now, or is new.
    pub(super) fn ask(self: &Arc<Self>, digest: Digest, now: UnixNanos) -> Asked {
        let mut part = self.part(digest);
        let step = part.advance(now.0 / self.step_nanos);
        match part.find(digest) {
            Some(first) => Asked::Known(first),
            None if part.claimed.insert(digest) => {
                Asked::New(Claim { resends: Arc::clone(self), digest, step })
            }
            None => Asked::InProgress,
        }
    }

    fn part(&self, digest: Digest) -> MutexGuard<'_, Part> {
        self.parts[digest.0[0] as usize % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// The message is committed. Answers how many others were forgotten early to make room.
    pub(super) fn committed(self, first: First) -> usize {
        let mut part = self.resends.part(self.digest);
        let mut forgotten = 0;
        while part.len >= self.resends.messages_per_part {
            let Some((_, oldest)) = part.steps.pop_front() else { break };
            part.len -= oldest.len();
            forgotten += oldest.len();
        }
        if part.steps.back().is_none_or(|(step, _)| *step < self.step) {
            part.steps.push_back((self.step, HashMap::default()));
        }
        if let Some((_, newest)) = part.steps.back_mut() {
            newest.insert(self.digest, first);
            part.len += 1;
        }
        forgotten
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.resends.part(self.digest).claimed.remove(&self.digest);
    }
}

impl Part {
    /// Forgets what is old; answers the step in which messages are remembered now.
    fn advance(&mut self, step: u64) -> u64 {
        let newest = self.steps.back().map_or(step, |(newest, _)| *newest);
        if newest > step + STEPS {
            // The clock was set back: what is remembered would stay for who knows how long.
            self.steps.clear();
            self.len = 0;
            return step;
        }
        while let Some((oldest, messages)) = self.steps.front()
            && oldest + STEPS < step
        {
            self.len -= messages.len();
            self.steps.pop_front();
        }
        step.max(newest)
    }

    fn find(&self, digest: Digest) -> Option<First> {
        self.steps.iter().rev().find_map(|(_, messages)| messages.get(&digest).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const FIRST: First = First { records: 3, rejected: 1 };

    fn commit(resends: &Arc<Resends>, digest: Digest, second: u64) -> Option<usize> {
        match resends.ask(digest, UnixNanos::from_secs(second)) {
            Asked::New(claim) => Some(claim.committed(FIRST)),
            _ => None,
        }
    }

    fn knows(resends: &Arc<Resends>, digest: Digest, second: u64) -> bool {
        matches!(resends.ask(digest, UnixNanos::from_secs(second)), Asked::Known(FIRST))
    }

    #[test]
    fn a_message_is_known_once_it_is_committed_and_for_a_minute() {
        let resends = Resends::new(Duration::from_secs(60)).unwrap();
        let digest = resends.digest(DataType::Traces, b"", b"message");
        assert!(!knows(&resends, digest, 1_000), "asking is not committing");
        assert_eq!(commit(&resends, digest, 1_000), Some(0));
        assert!(knows(&resends, digest, 1_060));
        assert!(!knows(&resends, digest, 1_080));
        assert!(Resends::new(Duration::ZERO).is_none());
    }

    #[test]
    fn signal_tenant_and_every_byte_matter() {
        let resends = Resends::new(Duration::from_secs(60)).unwrap();
        let mut seen = HashSet::new();
        for data in DataType::ALL {
            for (tenant, message) in [("", "ab"), ("a", "b"), ("ab", ""), ("", "abc"), ("", "ac")] {
                let digest = resends.digest(data, tenant.as_bytes(), message.as_bytes());
                assert_eq!(digest, resends.digest(data, tenant.as_bytes(), message.as_bytes()));
                assert_ne!(digest.0[0], digest.0[1]);
                assert!(seen.insert(digest));
            }
        }
        let long = vec![7; 100_000];
        for at in (0..long.len()).step_by(997) {
            let mut other = long.clone();
            other[at] ^= 1;
            assert!(seen.insert(resends.digest(DataType::Logs, b"", &other)), "{at}");
        }
        let other = Resends::new(Duration::from_secs(60)).unwrap();
        assert_ne!(
            resends.digest(DataType::Logs, b"", &long),
            other.digest(DataType::Logs, b"", &long),
            "keyed"
        );
    }

    #[test]
    fn it_is_bounded_and_says_what_it_forgot() {
        let resends = Resends::with_room(Duration::from_secs(60), 10 * PARTS).unwrap();
        let digest = |n: u64| resends.digest(DataType::Traces, b"", &n.to_le_bytes());
        let forgotten: usize = (0..1_000).map(|n| commit(&resends, digest(n), n / 50).unwrap_or(0)).sum();
        let kept: usize = resends.parts.iter().map(|part| part.lock().unwrap().len).sum();
        let held: usize = resends
            .parts
            .iter()
            .flat_map(|part| part.lock().unwrap().steps.iter().map(|s| s.1.len()).collect::<Vec<_>>())
            .sum();
        assert_eq!((kept, kept + forgotten), (held, 1_000));
        assert!(kept <= 10 * PARTS);
        assert!(knows(&resends, digest(999), 20));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_keep_messages_for_ever() {
        let resends = Resends::new(Duration::from_secs(60)).unwrap();
        let digest = resends.digest(DataType::Traces, b"", b"message");
        commit(&resends, digest, 10_000);
        assert!(knows(&resends, digest, 9_990));
        assert!(!knows(&resends, digest, 5_000));
        assert_eq!(commit(&resends, digest, 5_000), Some(0));
        assert!(knows(&resends, digest, 5_001));
    }

    #[test]
    fn what_is_in_progress_is_neither_known_nor_free() {
        let resends = Resends::new(Duration::from_secs(60)).unwrap();
        let digest = resends.digest(DataType::Traces, b"", b"message");
        let now = UnixNanos::from_secs(9);
        let Asked::New(claim) = resends.ask(digest, now) else { panic!("it is new") };
        assert!(matches!(resends.ask(digest, now), Asked::InProgress));
        drop(claim);
        let Asked::New(claim) = resends.ask(digest, now) else { panic!("it was given up") };
        claim.committed(FIRST);
        assert!(knows(&resends, digest, 9));
        assert!(resends.parts.iter().all(|part| part.lock().unwrap().claimed.is_empty()));
    }

    /// Scenario: many threads bring the same messages at once; every other commit fails. Guarantees: each
    /// message is committed exactly once, if every thread comes again until it is.
    #[test]
    fn of_messages_at_the_same_time_one_is_committed() {
        let resends = Resends::new(Duration::from_secs(60)).unwrap();
        let committed = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8_usize {
                let (resends, committed) = (&resends, &committed);
                scope.spawn(move || {
                    for n in 0..1_000_usize {
                        let digest = resends.digest(DataType::Traces, b"", &n.to_le_bytes());
                        let mut attempt = n + thread;
                        loop {
                            match resends.ask(digest, UnixNanos::from_secs(1)) {
                                Asked::Known(_) => break,
                                Asked::New(claim) if attempt.is_multiple_of(2) => {
                                    committed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                                    claim.committed(FIRST);
                                }
                                Asked::New(claim) => drop(claim),
                                Asked::InProgress => std::thread::yield_now(),
                            }
                            attempt += 1;
                        }
                    }
                });
            }
        });
        assert_eq!(committed.into_inner(), 1_000);
    }
}
