//! Threads, shards and ticks: spans in at one end, an immutable [`Board`] and durable decisions out at the
//! other. Knows no protocol.
//!
//! Memory is what a version holds: about 24 kB with three operations and a span a second, 3.5 kB of it per
//! operation (`examples/memory.rs` measures it, `docs/limits.md` has the numbers). All of it is given back when
//! the version's series end.

mod advice;
mod arms;
mod arrivals;
mod batch;
mod blindness;
mod board;
mod changes;
pub mod clock;
mod cohorts;
mod command;
pub mod config;
mod diagnosis;
mod engine;
mod evaluator;
mod exporters;
mod findings;
mod flags;
mod gauges;
mod hours;
pub mod human;
mod intake;
mod joins;
mod journal;
mod known;
mod ledger;
mod logs;
mod measures;
mod metered;
pub mod objectives;
mod orders;
mod passage;
mod point_log;
mod points;
pub mod recording;
mod registry;
mod restore;
mod running;
mod senders;
mod service;
mod shards;
mod unversioned;
mod version;
mod zones;

#[cfg(test)]
mod ledger_tests;

pub use advice::Missing;
pub use batch::Batch;
pub use blindness::{Blindness, Refusal};
pub use board::{Board, MetricsSide, ServiceBoard, SourceBoard, VersionBoard};
pub use command::{Command, CommandError};
pub use diagnosis::{PLACED_BY, ServiceTelemetry, SignalTelemetry, VersionTelemetry};
pub use engine::{DeploymentLimits, Engine, EngineCounters, EngineParts, Policies};
pub use evaluator::{Evaluator, EvaluatorParts};
pub use exporters::{ExporterReport, Exporters, NoExporters, QueueReport, RejectedRequest};
pub use flags::FlagTelemetry;
pub use hours::{HourRow, WantedHours};
pub use intake::Intake;
pub use joins::JoinCounters;
pub use journal::{Commit, Journal, JournalError, NoJournal, ObjectiveState, Restored, ServiceSnapshot};
pub use ledger::{Disposition, Ledger};
pub use logs::LogTotals;
pub use objectives::{Alert, ObjectiveBoard};
pub use passage::{
    Admission, AdmissionBatch, Appended, DataType, Downstream, Full, Metadata, NoDownstream, Passage, Permit,
    Signal,
};
pub use registry::{
    InstanceMeta, OVERFLOW_OPERATION, Registry, RegistryCounters, RegistryLimits, SeriesMeta,
    UNKNOWN_SERVICE, VersionMeta,
};
pub use senders::Sdk;
pub use shards::{DEFAULT_SHARD_CAPACITY, Drained, IntakeCounters, Refused, Room, Shards};
