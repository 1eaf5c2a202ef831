//! The log that goes with a decision: what each of the last slots added to each process, and the processes
//! as they stood before the first line. Whoever doubts a verdict sums it again from here.

use std::collections::BTreeMap;

use super::process::{Process, Shape};
use super::processes::{Key, Logged, apply};
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

/// Lines kept per set of processes, and with a decision; about 100 bytes each.
pub(super) const LINES: usize = 1_000;

/// A bounded log of judged slots.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotLog {
    /// How the processes are made, and whether they hold E or R.
    pub shape: Shape,
    /// The last slot that was judged.
    pub through: Slot,
    /// The processes before the first line; those that are missing began later.
    pub checkpoint: BTreeMap<Key, Process>,
    /// What was added, oldest first.
    pub lines: Vec<Logged>,
}

snapshot_fields!(SlotLog { shape, through, checkpoint, lines });

impl SlotLog {
    /// ln E, or ln R of a watch, of every process, summed again.
    pub fn redo(&self) -> BTreeMap<Key, f64> {
        let mut each = self.checkpoint.clone();
        self.lines.iter().for_each(|line| apply(self.shape, &mut each, line));
        each.into_iter()
            .map(|(key, mut process)| {
                process.advance(self.through);
                (key, process.ln())
            })
            .collect()
    }
}
