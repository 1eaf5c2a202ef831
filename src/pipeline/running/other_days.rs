//! The same time of day on other days, where a deployment rests on what is remembered: its requests are counted beside
//! the judge, the hours of other days are asked for, and a fail that looks like one of them is withheld.

use super::Running;
use crate::deployment::{Event, Phase};
use crate::model::snapshot::snapshot_fields;
use crate::model::{Slot, Source, UnixNanos};
use crate::pipeline::journal::Commit;
use crate::verdict::{
    Cells, Evidence, Flag, Hour, Hours, Memories, OtherDays, Panel, Since, Verdict, Waiting,
};

/// Slots between two looks while nothing would fail: for displays.
const LOOK_S: Slot = 10;

/// What is known of other days.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::pipeline) struct SecondOpinion {
    /// Requests that rest on what is remembered; `None` while none do.
    since: Option<Since>,
    /// Hours of other days; `None` until they were read.
    hours: Option<Vec<Hour>>,
    /// As of the last look.
    days: Option<OtherDays>,
    /// Whether a fail is withheld.
    is_withheld: bool,
}

// Hours are read again after a restart.
snapshot_fields!(SecondOpinion { since, hours, days, is_withheld });

impl SecondOpinion {
    /// As it is kept over a restart: hours are read again.
    pub(in crate::pipeline) fn kept(&self) -> Self {
        Self { hours: None, ..self.clone() }
    }

    /// Adds it to the evidence.
    pub(super) fn furnish(&self, evidence: &mut Evidence) {
        evidence.other_days.clone_from(&self.days);
        if self.is_withheld {
            evidence.flags.push(Flag::AsOtherDays);
        }
    }
}

impl Running {
    /// What is known of other days.
    pub(in crate::pipeline) fn second_opinion(&self) -> &SecondOpinion {
        &self.second
    }

    /// Whether it rests on what is remembered alone, of the whole service, and waits for its verdict.
    fn is_remembered(&self) -> bool {
        let is_open = self.deployment.verdict == Verdict::Pending && self.deployment.scope.is_whole();
        is_open && self.panel.as_ref().is_some_and(Panel::is_remembered_only)
    }

    /// The first slot of a version or change that has failed and has not recovered.
    pub(in crate::pipeline) fn failing_since(&self) -> Option<Slot> {
        let is_failing = matches!(self.deployment.phase, Phase::Failed | Phase::NotRecovered);
        let first = || self.change_at().or_else(|| self.deployment.candidate_first.map(UnixNanos::slot));
        is_failing.then(first).flatten()
    }

    /// Begins to count with slot `next` once it rests on what is remembered; drops it when the baseline is back.
    pub(in crate::pipeline) fn begin_second_opinion(&mut self, next: Slot, hours: Option<&Hours>) {
        match (self.is_remembered(), &self.second.since) {
            (true, None) => {
                let first = self.deployment.candidate_first.map_or(next, UnixNanos::slot);
                let changed = self.change_at().unwrap_or(first);
                self.second.since = Some(Since::new(next.max(changed), changed, hours));
            }
            // A stray request of the version before does not make what is withheld stand.
            (false, Some(_)) if self.deployment.verdict == Verdict::Pending && !self.is_withholding(next) => {
                self.second = SecondOpinion::default();
            }
            _ => {}
        }
    }

    fn is_withholding(&self, t: Slot) -> bool {
        self.second.is_withheld && self.panel.as_ref().is_some_and(|panel| panel.is_in_time(t))
    }

    /// Hours of other days that are still to be read.
    pub(in crate::pipeline) fn wanted_hours(&self) -> Vec<i64> {
        let is_open = self.second.hours.is_none() && self.deployment.verdict == Verdict::Pending;
        self.second.since.as_ref().filter(|_| is_open).map_or_else(Vec::new, Since::wanted)
    }

    /// Hours that were read, of those that were asked for.
    pub(in crate::pipeline) fn take_hours(&mut self, asked: &[i64], read: &[Hour]) {
        let wanted = self.wanted_hours();
        if !wanted.is_empty() && wanted.iter().all(|number| asked.contains(number)) {
            let own = read.iter().filter(|hour| wanted.contains(&hour.number()));
            self.second.hours = Some(own.cloned().collect());
        }
    }

    /// Counts a slot that was judged.
    pub(super) fn count_second(&mut self, (source, slot): (Source, Slot), slot_s: i64, cells: &Cells) {
        let Some(panel) = self.panel.as_ref().filter(|panel| source == panel.required()) else { return };
        if let Some(since) = self.second.since.as_mut().filter(|_| panel.is_in_time(slot)) {
            since.add(slot, slot_s, cells);
        }
    }

    /// A fail that looks like another day is none: it is pending while it could still be the change's doing, then
    /// inconclusive.
    pub(super) fn withhold(
        &mut self,
        verdict: Verdict,
        slot: Slot,
        memories: &Memories<'_>,
        (now, commit): (UnixNanos, &mut Commit),
    ) -> Verdict {
        let Some(panel) = self.panel.as_ref().filter(|_| self.deployment.verdict == Verdict::Pending) else {
            return verdict;
        };
        let fails = verdict == Verdict::Fail;
        if fails || slot % LOOK_S == 0 {
            let since = self.second.since.as_ref().zip(self.second.hours.as_ref());
            let memory = memories.of(panel.required());
            self.second.days =
                since.zip(memory).and_then(|((since, hours), memory)| since.look(memory, hours));
        }
        let withholds = |days: &OtherDays| days.withholds(&panel.evidence(memories));
        let is_withheld = fails && self.second.days.as_ref().is_some_and(withholds);
        let was_withheld = std::mem::replace(&mut self.second.is_withheld, is_withheld);
        if !is_withheld {
            return verdict;
        }
        if !panel.is_in_time(slot) {
            return Verdict::Inconclusive;
        }
        if !was_withheld {
            let mut evidence = panel.evidence(memories);
            self.furnish(&mut evidence);
            let explanation = self.explain(Verdict::Pending, &evidence, Waiting::Evidence);
            self.apply(Event::Withheld { evidence: evidence.into(), explanation }, now, commit);
        }
        Verdict::Pending
    }
}
