//! The panel of a recording with what it reads: both sources slot by slot, in the order in which their slots
//! end.

use crate::model::{Slot, Source};
use crate::verdict::{Evidence, Judge, Memories, Memory, Panel, Policy, SlotInput, Verdict};

use super::MetricSlots;
use super::remembered;

/// Memories and panel.
#[derive(Debug)]
pub(super) struct Court {
    memories: [Option<Memory>; 2],
    panel: Panel,
}

impl Court {
    /// A panel that expects the sources of the recording.
    pub(super) fn new(policy: Policy, has_spans: bool, metrics: &MetricSlots) -> Self {
        let has_metrics = !metrics.slots.is_empty();
        let memories = [
            (has_spans || !has_metrics).then(Memory::default),
            has_metrics.then(|| Memory::new(metrics.timing)),
        ];
        // What a source is expected by is a request of the baseline: here the whole recording is known.
        let mut shown = memories.clone();
        let [of_spans, of_metrics] = &mut shown;
        let of_metrics = of_metrics.as_mut().filter(|_| metrics.counts_requests);
        of_spans.iter_mut().chain(of_metrics).for_each(|memory| memory.begin(0, true));
        let panel = Panel::new(policy, &Memories { spans: shown[0].as_ref(), metrics: shown[1].as_ref() });
        Self { memories, panel }
    }

    /// Judges one slot of a source.
    pub(super) fn slot(&mut self, source: Source, t: Slot, input: &SlotInput) {
        let Some(memory) = &mut self.memories[source.index()] else { return };
        let present = !input.baseline.is_silent() || !input.started_before.is_empty();
        memory.begin_of(t, present, &input.baseline);
        self.panel.slot(source, t, memory, input);
        memory.end(t, &remembered(input), &input.baseline);
    }

    fn all(&self) -> Memories<'_> {
        Memories { spans: self.memories[0].as_ref(), metrics: self.memories[1].as_ref() }
    }

    /// The judge of a source and what it reads.
    pub(super) fn judge(&self, source: Source) -> Option<(&Judge, &Memory)> {
        self.panel.judge(source).zip(self.memories[source.index()].as_ref())
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.panel.verdict(&self.all())
    }

    pub(super) fn evidence(&self) -> Evidence {
        self.panel.evidence(&self.all())
    }
}
