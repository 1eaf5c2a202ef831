//! The evaluator's side of time: how long a second stays open ([`Lateness`]), what it holds until it closes
//! ([`OpenSlots`]), who is still warming up ([`Instances`]), and what a display remembers ([`History`]).
//! Pure: time comes with the spans and as `now`.
//!
//! Memory, for one version with one span a second over three operations (tested below): an open slot takes
//! about 320 bytes and 8 of them are open at the usual lateness of 5.6 s; the delays that teach the lateness
//! less than 1 KiB; the display history 3.6 KiB after a day. In all below 8 KiB.

mod ages;
mod cell;
mod churn;
mod delays;
mod instances;
mod intervals;
mod lateness;
mod measures;
mod open;
mod ring;
mod streams;

pub use ages::{AGE_EDGES_S, AGES, AgePoint, Ages, Observed, Read};
pub use cell::{Cell, Counts};
pub use churn::{Churn, Toll};
pub use instances::Instances;
pub use intervals::{Addition, ClosedInterval, MeasuredInterval, OpenIntervals, Reduced};
pub use lateness::{Lateness, LatenessConfig};
pub use measures::{ClosedMeasures, Mark, MeasureCounts, MeasureSlot, OpenMeasures, Wanted};
pub use open::{ClosedSlot, Fates, InstanceSlot, OpenSlots, OperationSlot, Placed, Placement};
pub use ring::{History, Ring};
pub use streams::{Delta, Point, Stream, Taken};

#[cfg(test)]
mod simulation_tests;
