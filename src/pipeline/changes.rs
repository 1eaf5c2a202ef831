//! Deployments that name a time, on the side of their service: which version is meant, what is remembered of it at
//! that time, and for services that are likely to be asked the copies of what was remembered a minute ago.

use std::collections::VecDeque;
use std::sync::Arc;

use super::journal::Commit;
use super::running::{Before, Running};
use super::service::Service;
use crate::deployment::{Deployment, Event, is_version};
use crate::model::{Slot, UnixNanos, VersionKey};

/// Seconds between two copies. The older of two is always of before [`crate::deployment::CHANGE_BACK_S`] ago.
const STEP_S: i64 = crate::deployment::CHANGE_BACK_S as i64;
const COPIES: usize = 2;

/// What was remembered of the version that serves, one to two minutes ago.
#[derive(Debug, Default)]
pub(super) struct Behind {
    copies: VecDeque<(Arc<str>, Arc<Before>)>,
}

impl Behind {
    /// The newest copy of a version that holds nothing of slot `at` or later.
    fn at(&self, version: &str, at: Slot) -> Option<&Arc<Before>> {
        let fits = |(label, before): &&(Arc<str>, Arc<Before>)| **label == *version && before.until() <= at;
        self.copies.iter().rev().find(fits).map(|(_, before)| before)
    }
}

impl Service {
    /// The version with most requests in the last minute, else the one that served last. Spans without a version are
    /// one where there is no other: a time needs none.
    pub(super) fn serving(&self) -> Option<Arc<str>> {
        let may = |label: &str| is_version(label) || label == VersionKey::UNVERSIONED;
        self.versions
            .iter()
            .filter(|(label, version)| may(label) && version.has_traffic() && !version.ended)
            .max_by_key(|(label, v)| (is_version(label), v.sum_last(60, self.next).0, v.last))
            .map(|(label, _)| Arc::clone(label))
    }

    /// Whether slots are looked at one by one for all versions together.
    pub(super) fn needs_slots(&self) -> bool {
        self.running.iter().any(|running| running.is_judging() || running.is_recovering())
    }

    /// Begins with what waits for a time that is not after slot `slot`, the oldest that is not remembered yet.
    pub(super) fn begin_changes(&mut self, slot: Slot, now: UnixNanos, commit: &mut Commit) {
        let due = |r: &Running| r.is_waiting() && r.change_at().is_some_and(|at| at <= slot);
        if !self.running.iter().any(due) {
            return;
        }
        let Some(label) = self.serving() else { return };
        let Some(version) = self.versions.get(&label) else { return };
        let counted = version.shown_totals();
        let fresh = Arc::new(Before::of(version, slot));
        for i in 0..self.running.len() {
            let Some(at) = self.running[i].change_at().filter(|_| due(&self.running[i])) else { continue };
            let kept = if at < slot { self.behind.as_ref().and_then(|b| b.at(&label, at)) } else { None };
            let before = Arc::clone(kept.unwrap_or(&fresh));
            let id = self.running[i].deployment().id.clone();
            // Of two changes after each other the evidence of the first is no longer its own.
            let earlier = |r: &&mut Running| r.change_at().is_some() && !r.is_waiting();
            for other in self.running.iter_mut().filter(earlier) {
                other.apply(Event::SupersededBy(id.clone()), now, commit);
            }
            self.running[i].begin_change(&label, before, slot, counted, (now, commit));
        }
        // The record and what it is held against become durable together.
        commit.snapshots.retain(|snapshot| snapshot.service != *self.key);
        let snapshot = self.snapshot(now);
        commit.snapshots.push(snapshot);
    }

    /// Whether copies of what was remembered are kept.
    pub(super) fn keep_behind(&mut self, is_kept: bool) {
        match is_kept {
            true => drop(self.behind.get_or_insert_default()),
            false => self.behind = None,
        }
    }

    /// Copies what is remembered before slot `slot` is closed, once a minute.
    pub(super) fn copy_behind(&mut self, slot: Slot) {
        if self.behind.is_none() || slot.rem_euclid(STEP_S) != 0 {
            return;
        }
        let serving = self.serving();
        let copy = serving.and_then(|label| {
            let version = self.versions.get(&label)?;
            Some((Arc::clone(&label), Arc::new(Before::of(version, slot))))
        });
        if let (Some(behind), Some(copy)) = (&mut self.behind, copy) {
            behind.copies.push_back(copy);
            while behind.copies.len() > COPIES {
                behind.copies.pop_front();
            }
        }
    }

    /// A deployment of this time that is not over.
    pub(super) fn change_at(&mut self, time: UnixNanos) -> Option<&mut Running> {
        self.running.iter_mut().find(|r| r.deployment().time == Some(time) && !r.is_over())
    }

    /// Takes a deployment on whose time is to come, or begins with it where it has come already.
    pub(super) fn take_change(
        &mut self,
        running: Running,
        now: UnixNanos,
        commit: &mut Commit,
    ) -> Option<Arc<Deployment>> {
        let id = running.deployment().id.clone();
        self.running.push(running);
        self.begin_changes(self.next, now, commit);
        self.running.iter().find(|r| r.deployment().id == id).map(|r| Arc::clone(r.deployment()))
    }
}
