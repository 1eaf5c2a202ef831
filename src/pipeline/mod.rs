//! Threads, shards and ticks: spans in at one end, an immutable [`Board`] and durable decisions out at the
//! other. Knows no protocol.

mod batch;
mod board;
pub mod clock;
mod command;
mod intake;
pub mod config;
pub mod human;
mod journal;
pub mod recording;
mod registry;
mod shards;
pub mod human;
mod passage;

pub use batch::Batch;
pub use board::{Board, ServiceBoard, VersionBoard};
pub use command::{Command, CommandError};
pub use intake::Intake;
pub use journal::{Commit, Journal, JournalError, NoJournal, Restored};
pub use registry::{
    InstanceMeta, OVERFLOW_OPERATION, Registry, RegistryCounters, RegistryLimits, SeriesMeta,
    UNKNOWN_SERVICE, VersionMeta,
};
pub use shards::{DEFAULT_SHARD_CAPACITY, Drained, IntakeCounters, Refused, Shards};
pub use intake::{Batch, Intake, Refused};
pub use passage::{Admission, AdmissionBatch, Downstream, Full, NoDownstream, Permit, Signal};
