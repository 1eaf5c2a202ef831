//! The judge: slots of two versions in, evidence and a verdict out. Pure; see `docs/statistics.md`.
//!
//! [`Memory`] is what is remembered of a version, deployment or not. [`Judge`] holds a candidate against it;
//! a [`Panel`] has one judge for spans and one for metrics.
//! Invariant: nothing that enters a formula, but for request totals, is read from the slot being judged.

mod beside;
mod buckets;
mod change;
mod cohort;
mod conclusion;
mod coverage;
mod decayed;
mod dispersion;
mod evidence;
mod heterogeneity;
mod hours;
mod input;
mod judge;
mod logs;
mod memory;
mod other_days;
mod own;
mod pairing;
mod panel;
mod passing;
mod policy;
mod process;
mod processes;
mod remembered;
mod scope;
mod settling;
mod slot;
mod slot_log;
mod split;
mod stratum;
mod summary;
mod terms;
mod thresholds;
mod timing;
mod warming;
mod weights;
mod witness;
mod zones;

pub use buckets::on_grid;
pub use change::{Change, ChangeEvidence};
pub use cohort::{
    COHORTS_MAX, CohortArm, CohortEvidence, Dimension, MixShift, NO_COHORT, NO_VALUE, OTHER_VALUE,
    RegionAction, RegionEvidence, Regions, cohort_label, cohort_parts, joint_label,
};
pub use evidence::{Evidence, Flag, Grain, Sli, SliEvidence, Verdict};
pub use hours::{DAYS_KEPT, HOUR_S, Hour, Hours, Marks, Tally};
pub(crate) use input::with_old;
pub use input::{
    ALL_OPERATIONS, Arm, Cell, Cells, Counts, InstanceCounts, Measured, MeasuredCells, SlotInput,
};
pub use judge::{Context, Judge};
pub use logs::{Exposure, Leaning, LogArm, LogEvidence, LogInput, LogSlot, NewException, SAMPLED};
pub use memory::Memory;
pub use other_days::{OtherDay, OtherDays, Since};
pub use own::{AgeEvidence, AgeMemory, OwnEvidence, OwnKind, OwnSli, OwnSource, OwnTest};
pub use panel::{Memories, Panel};
mod account;
mod cohort_words;
mod day_words;
mod explain;
mod log_words;
mod notes;
mod own_words;
mod power;
pub mod words;
pub use account::{Account, AccountInput, Ground, account};
pub use explain::{ExplainInput, Waiting, explain};
pub use policy::Policy;
pub use power::Outlook;
pub use process::{Process, Purpose, Shape};
pub use processes::{Key, Logged};
pub use scope::{OPERATION, Scope, ScopeError};
pub use slot_log::SlotLog;
pub use thresholds::BoundTest;
pub use timing::{LONGEST_SLOT_S, Timing};
pub use warming::EarlierReleases;

#[cfg(test)]
mod explicit_tests;
#[cfg(test)]
mod predictability_tests;
