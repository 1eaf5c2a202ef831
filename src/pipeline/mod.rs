//! Threads, shards and ticks: spans in at one end, an immutable [`Board`] and durable decisions out at the
//! other. Knows no protocol.

mod board;
pub mod clock;
mod command;
pub mod config;
pub mod human;
mod journal;

pub use board::{Board, ServiceBoard, VersionBoard};
pub use command::{Command, CommandError};
pub use journal::{Commit, Journal, JournalError, NoJournal, Restored};
