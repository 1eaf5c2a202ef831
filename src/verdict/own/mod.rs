//! SLIs of a policy's own. Each counts something of the two versions (a [`crate::model::Measure`]) and asks one
//! question of it: is there more, less, or is it slower? They share alpha with the SLIs that every service has:
//! weights are renormalised, never added (see [`super::Panel`]).

mod gauge;
mod judge;
mod memory;
mod share;
mod sli;

pub use gauge::AgeMemory;
pub(super) use gauge::GaugeJudges;
pub(super) use judge::{OwnJudge, Stage};
pub(super) use memory::MeasureMemory;
pub(super) use share::ShareJudges;
pub use sli::{AgeEvidence, OwnEvidence, OwnKind, OwnSli, OwnSource, OwnTest};

#[cfg(test)]
mod tests;
