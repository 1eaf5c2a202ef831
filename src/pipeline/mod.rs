//! Threads, shards and ticks: spans in at one end, an immutable [`Board`] and durable decisions out at the
//! other. Knows no protocol.

mod board;
pub mod clock;
mod command;
pub mod human;
mod intake;
mod journal;
mod passage;

pub use board::{Board, ServiceBoard, VersionBoard};
pub use command::{Command, CommandError};
pub use intake::{Batch, Intake, Refused};
pub use journal::{Commit, Journal, JournalError, NoJournal, Restored};
pub use passage::{Admission, AdmissionBatch, Downstream, Full, NoDownstream, Permit, Signal};
