//! Deployments that name a time, on the side of their service: which version is meant, what is remembered of it at
//! that time, and for services that are likely to be asked the copies of what was remembered a minute ago.

use std::collections::VecDeque;
use std::sync::Arc;

use super::journal::Commit;
use super::running::{Before, Running};
use super::service::Service;
use super::version::Version;
use crate::deployment::{Deployment, Event, is_version};
use crate::model::{Slot, UnixNanos, VersionKey};
use crate::verdict::Scope;

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

    /// The version that serves a part of the requests.
    pub(super) fn serving_in(&self, scope: &Scope) -> Option<Arc<str>> {
        if scope.is_whole() {
            return self.serving();
        }
        let may = |label: &str| is_version(label) || label == VersionKey::UNVERSIONED;
        let own = |version: &Version| {
            let memories = version.memories();
            let each = [memories.spans, memories.metrics].into_iter().flatten();
            each.filter_map(|memory| memory.lately_within(scope, self.next)).max()
        };
        let serving = self.versions.iter().filter(|(label, version)| may(label) && !version.ended);
        let serving = serving.filter_map(|(label, version)| Some((label, own(version)?)));
        let most = serving.max_by_key(|(label, own)| (is_version(label), *own));
        most.map(|(label, _)| Arc::clone(label))
    }

    /// Why nothing is remembered of a part of the requests.
    pub(super) fn unseen(&self, scope: &Scope, serving: &str) -> String {
        let Some(version) = self.versions.get(serving) else { return String::new() };
        let memories = version.memories();
        // Where spans tell of no request, metrics may.
        let spans = memories.spans.filter(|memory| memory.first_slot().is_some());
        let memory = spans.or(memories.metrics);
        memory.map_or_else(String::new, |memory| scope.unseen(memory).to_string())
    }

    /// Whether slots are looked at one by one for all versions together.
    pub(super) fn needs_slots(&self) -> bool {
        self.running.iter().any(|running| running.is_judging() || running.is_recovering())
    }

    /// Whether a policy asks how many of its instances die.
    pub(super) fn counts_deaths(&self) -> bool {
        self.measures.program().is_some_and(|program| program.deaths().is_some())
    }

    /// Begins with what waits for a time that is not after slot `slot`, the oldest that is not remembered yet.
    pub(super) fn begin_changes(&mut self, slot: Slot, now: UnixNanos, commit: &mut Commit) {
        let due = |r: &Running| r.is_waiting() && r.change_at().is_some_and(|at| at <= slot);
        if !self.running.iter().any(due) {
            return;
        }
        let mut has_begun = false;
        for i in 0..self.running.len() {
            let Some(at) = self.running[i].change_at().filter(|_| due(&self.running[i])) else { continue };
            let announced = Arc::clone(self.running[i].deployment());
            let scope = &announced.scope;
            let Some(label) = self.serving_in(scope) else { continue };
            let Some(version) = self.versions.get(&label) else { continue };
            let counted = if scope.is_whole() { version.shown_totals() } else { [0; 2] };
            let kept = if at < slot { self.behind.as_ref().and_then(|b| b.at(&label, at)) } else { None };
            let Some(before) = Before::at(kept, (version, slot), scope, at) else { continue };
            // Of two changes after each other the evidence of the first is no longer its own, where they are about the
            // same requests.
            let earlier = |r: &&mut Running| {
                r.change_at().is_some() && !r.is_waiting() && r.deployment().scope.overlaps(scope)
            };
            for other in self.running.iter_mut().filter(earlier) {
                other.apply(Event::SupersededBy(announced.id.clone()), now, commit);
            }
            self.running[i].begin_change(&label, before, slot, counted, (now, commit));
            has_begun = true;
        }
        if !has_begun {
            return;
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

    /// A deployment of this time and scope that is not over.
    pub(super) fn change_at(&mut self, time: UnixNanos, scope: &Scope) -> Option<&mut Running> {
        let is_it = |r: &&mut Running| r.deployment().time == Some(time) && r.deployment().scope == *scope;
        self.running.iter_mut().find(|r| is_it(r) && !r.is_over())
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
