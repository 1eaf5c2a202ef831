//! What a queue on disk counts of itself: every name is here.

use metrics::{Counter, Label, counter, describe_counter};

use super::log::Faults;
use super::{AppendError, Recovered};

const RECOVERED: &str = "rollguard_disk_queue_recovered_records_total";
const TORN: &str = "rollguard_disk_queue_torn_messages_total";
const DAMAGED: &str = "rollguard_disk_queue_damaged_places_total";
const LOST: &str = "rollguard_disk_queue_lost_records_total";
const LOST_MESSAGES: &str = "rollguard_disk_queue_lost_messages_total";
const UNMARKED: &str = "rollguard_disk_queue_unmarked_total";
const APPEND_FAILED: &str = "rollguard_disk_queue_append_failed_total";
const SYNCS: &str = "rollguard_disk_queue_syncs_total";
const READ_FAILED: &str = "rollguard_disk_queue_read_failed_total";

const REASONS: [&str; 4] = ["reserve", "too_large", "io", "closed"];

#[derive(Debug)]
pub(super) struct SpoolMetrics {
    lost: Counter,
    lost_messages: Counter,
    unmarked: Counter,
    append_failed: [Counter; REASONS.len()],
    read_failed: Counter,
    syncs: Counter,
}

impl SpoolMetrics {
    /// With what was found when the queue was opened.
    pub(super) fn new(labels: &[Label], recovered: &Recovered) -> Self {
        describe();
        let count = |name: &'static str| counter!(name, labels.to_vec());
        count(RECOVERED).increment(recovered.records);
        count(TORN).increment(recovered.torn);
        count(DAMAGED).increment(recovered.damaged_places);
        let append_failed = REASONS.map(|reason| {
            let labels: Vec<Label> =
                labels.iter().cloned().chain([Label::from_static_parts("reason", reason)]).collect();
            counter!(APPEND_FAILED, labels)
        });
        Self {
            lost: count(LOST),
            lost_messages: count(LOST_MESSAGES),
            unmarked: count(UNMARKED),
            append_failed,
            read_failed: count(READ_FAILED),
            syncs: count(SYNCS),
        }
    }

    pub(super) fn faults(&self, faults: &Faults) {
        self.lost.increment(faults.lost_records);
        self.lost_messages.increment(faults.lost_entries);
        self.unmarked.increment(faults.unmarked);
    }

    pub(super) fn synced(&self, files: u64) {
        self.syncs.increment(files);
    }

    pub(super) fn read_failed(&self) {
        self.read_failed.increment(1);
    }

    pub(super) fn append_failed(&self, error: &AppendError) {
        let reason = REASONS.iter().position(|reason| *reason == error.reason());
        if let Some(counter) = reason.and_then(|reason| self.append_failed.get(reason)) {
            counter.increment(1);
        }
    }
}

fn describe() {
    describe_counter!(RECOVERED, "Records that waited in a queue on disk when it was opened");
    describe_counter!(TORN, "Messages in a queue on disk whose end was missing when it was opened");
    describe_counter!(DAMAGED, "Damaged places in a queue on disk when it was opened");
    describe_counter!(LOST, "Records lost because their message was damaged on the disk");
    describe_counter!(LOST_MESSAGES, "Messages lost because they were damaged on the disk");
    describe_counter!(
        UNMARKED,
        "Marks of sent messages that could not be written: sent again after a restart"
    );
    describe_counter!(
        READ_FAILED,
        "Attempts to read a queue on disk that the system failed; they are repeated"
    );
    describe_counter!(SYNCS, "Syncs of a queue on disk, with fsync");
    describe_counter!(APPEND_FAILED, "Messages that could not be kept on disk, by reason");
}
