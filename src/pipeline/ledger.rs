//! The account of every record received: each ends in exactly one disposition. Once the slots are closed,
//! per signal,
//!
//! ```text
//! received = aggregated + duplicate + rejected + unusable + unused + synthetic + health + excluded
//!          + late + future + lost
//! ```
//!
//! Until then the difference is what waits in open slots. A request that is refused is not received: its
//! sender sends it again. Numbers only grow; whoever counts adds once per batch, run or slot, without a lock.
//!
//! Over a restart: what was in open slots is lost for all versions alike. The process that goes on counts it
//! as received and as `lost`, from the state it goes on with, so that the account holds for it too. After an
//! orderly stop this is exact; after a kill it is what was open when the state was kept, up to 10 s before for a
//! service that is being judged and 5 minutes before for others. What came between the two was counted by the
//! process that is gone and by nobody else.

use std::sync::atomic::{AtomicU64, Ordering};

use super::passage::Signal;
use crate::model::Discard;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// In a closed slot: young, overflow and unversioned ones included.
    Aggregated,
    /// In a message that came before, byte by byte.
    Duplicate,
    /// Its slot was closed when it came.
    Late,
    /// The series of its version had ended when it was taken in.
    Orphaned,
    /// Its end was too far ahead of its arrival.
    Future,
    /// In a slot that was open when the process before this one ended.
    Lost,
    /// Named by whoever read the message.
    Discarded(Discard),
}

/// Dispositions before those that a reader of messages names.
const OURS: [Disposition; 6] = [
    Disposition::Aggregated,
    Disposition::Duplicate,
    Disposition::Late,
    Disposition::Orphaned,
    Disposition::Future,
    Disposition::Lost,
];
const DISCARDS: usize = Discard::ALL.len();
const DISPOSITIONS: usize = OURS.len() + DISCARDS;

impl Disposition {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        OURS.into_iter().chain(Discard::ALL.map(Self::Discarded))
    }

    const fn number(self) -> usize {
        match self {
            Self::Aggregated => 0,
            Self::Duplicate => 1,
            Self::Late => 2,
            Self::Orphaned => 3,
            Self::Future => 4,
            Self::Lost => 5,
            Self::Discarded(reason) => OURS.len() + reason as usize,
        }
    }

    /// The words used as metric labels: the disposition, and where it has several the reason (else empty).
    pub const fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Aggregated => ("aggregated", ""),
            Self::Duplicate => ("duplicate", ""),
            Self::Late => ("late", "slot_closed"),
            Self::Orphaned => ("late", "series_ended"),
            Self::Future => ("future", ""),
            Self::Lost => ("lost", "restart"),
            Self::Discarded(reason) => (word(reason), reason.as_str()),
        }
    }
}

const fn word(reason: Discard) -> &'static str {
    match reason {
        Discard::Kind
        | Discard::MetricName
        | Discard::Severity
        | Discard::NoSeverity
        | Discard::BasePoint
        | Discard::StaleMark
        | Discard::OtherMetric => "unused",
        Discard::NoTime | Discard::Temporality | Discard::Unit | Discard::Numbers | Discard::Streams => {
            "unusable"
        }
        Discard::Synthetic => "synthetic",
        Discard::Health => "health",
        Discard::Excluded => "excluded",
        Discard::BadId => "rejected",
    }
}

/// The account. Shared by whoever counts.
#[derive(Debug)]
pub struct Ledger {
    received: [AtomicU64; 3],
    settled: [[AtomicU64; DISPOSITIONS]; 3],
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            received: Default::default(),
            settled: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
        }
    }
}

impl Ledger {
    /// Counts records that were taken; what becomes of each is counted by [`Ledger::settle`].
    pub fn receive(&self, signal: Signal, records: u64) {
        add(&self.received[signal as usize], records);
    }

    /// Counts records whose end is known.
    pub fn settle(&self, signal: Signal, disposition: Disposition, records: u64) {
        add(&self.settled[signal as usize][disposition.number()], records);
    }

    /// Counts what a committed batch holds beside its observations as received and settled.
    pub(super) fn discard(&self, tally: &DiscardTally) {
        for signal in Signal::ALL {
            self.receive(signal, tally.of(signal));
            for reason in Discard::ALL {
                let records = tally.records[signal as usize][reason as usize];
                self.settle(signal, Disposition::Discarded(reason), records);
            }
        }
    }

    /// Counts records that the process before this one took and did not bring to an end.
    pub(super) fn lose(&self, signal: Signal, records: u64) {
        self.receive(signal, records);
        self.settle(signal, Disposition::Lost, records);
    }

    /// Records taken.
    pub fn received(&self, signal: Signal) -> u64 {
        self.received[signal as usize].load(Ordering::Relaxed)
    }

    /// Records that ended so.
    pub fn settled(&self, signal: Signal, disposition: Disposition) -> u64 {
        self.settled[signal as usize][disposition.number()].load(Ordering::Relaxed)
    }

    /// Records whose end is not known yet: they wait for the evaluator or in an open slot.
    pub fn open(&self, signal: Signal) -> u64 {
        let settled: u64 = Disposition::all().map(|disposition| self.settled(signal, disposition)).sum();
        self.received(signal).saturating_sub(settled)
    }
}

fn add(counter: &AtomicU64, records: u64) {
    if records > 0 {
        counter.fetch_add(records, Ordering::Relaxed);
    }
}

/// Discarded records of one batch.
#[derive(Debug, Clone, Default)]
pub(super) struct DiscardTally {
    records: [[u64; DISCARDS]; 3],
}

impl DiscardTally {
    pub(super) fn add(&mut self, signal: Signal, reason: Discard, records: u64) {
        self.records[signal as usize][reason as usize] += records;
    }

    fn of(&self, signal: Signal) -> u64 {
        self.records[signal as usize].iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_disposition_has_its_own_number_and_words() {
        let numbers: Vec<usize> = Disposition::all().map(Disposition::number).collect();
        assert_eq!(numbers, (0..DISPOSITIONS).collect::<Vec<_>>());
        let words: BTreeSet<_> = Disposition::all().map(Disposition::labels).collect();
        assert_eq!(words.len(), DISPOSITIONS);
    }

    #[test]
    fn the_documentation_names_them_all() {
        let text = include_str!("../../docs/self-metrics.md");
        for (word, reason) in Disposition::all().map(Disposition::labels) {
            assert!(text.contains(&format!("`{word}`")), "{word}");
            assert!(reason.is_empty() || text.contains(&format!("`{reason}`")), "{word} {reason}");
        }
    }

    #[test]
    fn what_is_not_settled_is_open() {
        let ledger = Ledger::default();
        let mut tally = DiscardTally::default();
        tally.add(Signal::Logs, Discard::Severity, 7);
        tally.add(Signal::Logs, Discard::BadId, 1);
        ledger.discard(&tally);
        ledger.receive(Signal::Logs, 5);
        ledger.settle(Signal::Logs, Disposition::Late, 2);
        ledger.lose(Signal::Logs, 4);
        assert_eq!((ledger.received(Signal::Logs), ledger.open(Signal::Logs)), (17, 3));
        assert_eq!(ledger.settled(Signal::Logs, Disposition::Discarded(Discard::Severity)), 7);
        assert_eq!(ledger.received(Signal::Traces), 0);
    }
}
