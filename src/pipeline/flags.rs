//! Where a feature flag is told of that the configuration makes a part of versions: on the spans of requests, where its
//! variant tells versions apart, or elsewhere, where it tells nothing and the diagnosis says so. Nothing is counted
//! where the configuration names no flag; per version and named flag it takes about 100 bytes.

use std::sync::Arc;

use super::batch::Batch;
use super::registry::{VersionEntry, lock};
use crate::model::ToldBy;

/// How many records of a service tell which variant of one flag was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlagTelemetry {
    /// Spans of requests.
    pub requests: u64,
    /// Other spans.
    pub other_spans: u64,
    /// Log records.
    pub log_records: u64,
}

impl FlagTelemetry {
    /// Adds those of another version.
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.other_spans += other.other_spans;
        self.log_records += other.log_records;
    }
}

/// Records of one resource of a message that tell of a flag, until the message is committed.
#[derive(Debug)]
pub(super) struct FlagTold {
    version: Arc<VersionEntry>,
    flag: Box<str>,
    by: ToldBy,
    records: u64,
}

impl FlagTold {
    /// Counts it for its version.
    pub(super) fn settle(self) {
        let mut account = lock(&self.version.account);
        let flag = account.flags.entry(self.flag).or_default();
        match self.by {
            ToldBy::Request => flag.requests += self.records,
            ToldBy::OtherSpan => flag.other_spans += self.records,
            ToldBy::LogRecord => flag.log_records += self.records,
        }
    }
}

/// Of one batch, that many are counted at its commit; further ones are counted at once.
const TOLD: usize = 4_096;

impl Batch {
    /// Notes what records of the sender in hand tell of a flag.
    pub(super) fn note_flag(&mut self, flag: &str, by: ToldBy, records: u64) {
        let (Some(buffers), Some(sender)) = (&mut self.buffers, &self.current) else { return };
        let told = FlagTold { version: Arc::clone(&sender.version), flag: flag.into(), by, records };
        if buffers.flags.len() < TOLD {
            buffers.flags.push(told);
        } else {
            told.settle();
        }
    }
}

#[cfg(test)]
#[path = "flags_tests.rs"]
mod tests;
