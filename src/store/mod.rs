//! Where durable things live: one SQLite file (write-ahead log, synced at each commit). A decision, the
//! webhooks that follow from it and the state it was made in are written in one transaction, so after a
//! `kill -9` either all of it happened or none, and nothing is decided or sent under two names.
//!
//! Invariants: the file has one owner at a time (a second process is refused); ended deployments, finished
//! outbox rows and known versions are pruned, so the file is bounded; the id of an outbox row follows from
//! what caused it, so writing it again changes nothing.

mod config;
mod error;
mod hours;
mod objectives;
mod outbox;
mod queue;
mod schema;
mod sqlite;

pub use config::StoreConfig;
pub use error::StoreError;
pub use outbox::{
    AttemptOutcome, GAPS_SECONDS, LONGEST_RETRY_AFTER_SECONDS, NewOutboxRow, OutboxRow, OutboxState,
    next_attempt, outbox_id,
};
pub use sqlite::{KEEP_DEPLOYMENTS, KEEP_KNOWN_VERSIONS, KEEP_OUTBOX, RESTORE_ENDED, Store};
