//! The log that goes with a decision: what each of the last slots added to each process, and the processes
//! as they stood before the first line. Whoever doubts a verdict sums it again from here.

use std::collections::BTreeMap;

use super::processes::{Key, Logged, Shape, apply};
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;
use crate::stats::EProcess;

/// Lines kept with a decision, about 100 bytes each.
pub(super) const LINES: usize = 1_000;

/// A bounded log of judged slots.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotLog {
    pub(super) shape: Shape,
    /// The last slot that was judged.
    pub through: Slot,
    /// The processes before the first line; those that are missing began later.
    pub checkpoint: BTreeMap<Key, EProcess>,
    /// What was added, oldest first.
    pub lines: Vec<Logged>,
}

snapshot_fields!(SlotLog { shape, through, checkpoint, lines });

impl SlotLog {
    /// ln E of every process, summed again.
    pub fn redo(&self) -> BTreeMap<Key, f64> {
        let mut each = self.checkpoint.clone();
        self.lines.iter().for_each(|line| apply(self.shape, &mut each, line));
        each.into_iter()
            .map(|(key, mut process)| {
                process.advance(self.through);
                (key, process.ln_e())
            })
            .collect()
    }
}
