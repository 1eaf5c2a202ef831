//! Rollguard answers one question inside the telemetry path: is the new version of a service worse than the
//! one before? OTLP comes in, a verdict with its evidence goes out, and a rollback is fired where a team
//! allows it. This page is the map.
//!
//! ```text
//!  OTLP -> receiver --[SpanView]--> pipeline::Batch --Observation--> pipeline::Shards   one log per worker
//!                 \--bytes--> forward                                    | drained often
//!                                                                        v
//!                              pipeline::Engine: window (open seconds) -> verdict (Memory, Judge)
//!                                   | tick(now)                              -> deployment::transition
//!                                   v
//!                 Commit --> store (decision, evidence, outbox: one transaction) --> remedy (signed webhook)
//!                 Board  --> exporter (/metrics), api (JSON)      published after the commit, immutable
//! ```
//!
//! Strictly downward, lowest layer first; modules of one layer do not import each other, and a test in
//! `tests/it` holds it:
//!
//! | layer | modules | what for |
//! |---|---|---|
//! | words | `wire`, [`model`], [`stats`], [`histogram`], [`exception`] | the protobuf wire format; time, identity, spans as borrowed views; e-processes; one fixed latency grid; names of exceptions |
//! | state | [`window`] | seconds that are still open, how long they stay open, what a display remembers |
//! | judgement | [`verdict`], [`objective`], [`deployment`] | evidence and verdicts; error budgets and their alerts; the life of a deployment |
//! | ourselves | [`telemetry`] | our own log and metrics |
//! | engine | [`pipeline`] | threads, shards, ticks, the [`pipeline::Board`]; the only place with a clock |
//! | memory | [`store`], [`spool`], [`credentials`] | SQLite: decisions, outbox, snapshots; queues of messages on disk; certificates, tokens and users |
//! | edges | [`receiver`], [`forward`], [`exporter`], [`remedy`], [`api`] | one protocol each |
//! | wiring | [`config`], [`app`], [`cli`] | composing, running, asking |
//!
//! What is absent on purpose: nothing from [`model`] to [`deployment`] and [`window`] knows the time, a file,
//! a socket, a thread or a random number; they are told. Nothing outside [`pipeline::clock`] reads a clock.
//! No protobuf struct is built on the way of a span, and no reader ever takes a lock that a writer holds:
//! readers load the last published picture.
//!
//! To follow a span, read [`receiver`], [`pipeline`], [`window`], then [`verdict`]. To follow a decision,
//! read [`verdict`], [`deployment`], [`store`], [`remedy`].

#![forbid(unsafe_code)]

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod deployment;
pub mod exception;
pub mod exporter;
pub mod forward;
pub mod histogram;
pub mod model;
pub mod objective;
pub mod pipeline;
pub mod receiver;
pub mod remedy;
pub mod spool;
pub mod stats;
pub mod store;
pub mod telemetry;
pub mod verdict;
pub mod window;
mod wire;
