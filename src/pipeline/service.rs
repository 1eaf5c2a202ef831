//! One service as the evaluator keeps it: its versions, the clock of its slots, and the deployments that are
//! running. Slots close in order, for all versions together, once the wall clock has passed their end by the
//! lateness that was fixed when they began.

mod shown;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::arms::Closed;
use super::arrivals::Arrivals;
use super::blindness::Blindness;
use super::changes::Behind;
use super::findings::Finding;
use super::gauges::ServiceGauges;
use super::hours;
use super::journal::Commit;
use super::ledger::{Disposition, Ledger};
use super::logs::ServiceLogs;
use super::measures::ServiceMeasures;
use super::metered::Metered;
use super::objectives::ServiceObjectives;
use super::passage::Signal;
use super::registry::{Registry, SeriesMeta, VersionMeta};
use super::running::Running;
use super::version::{RECENT_SLOTS, Version, Versions};
use crate::deployment::{Deployment, Event, KNOWN_REQUESTS, KNOWN_SECONDS, Sighting, is_version};
use crate::model::{
    Discard, Exemplar, Extra, MeasureKey, NANOS_PER_SECOND, Observation, Outcome, Program, SeriesId,
    ServiceKey, Slot, Source, UnixNanos, VersionId, VersionKey,
};
use crate::verdict::{
    ALL_OPERATIONS, Cell, Cells, Counts, EarlierReleases, Hours, OwnSli, Policy, Verdict, with_old,
};
use crate::window::{Lateness, LatenessConfig, Placed, Wanted};

/// Slots that may be closed in one tick; after a longer stop of the clock the rest is skipped, for all
/// versions alike.
const CATCH_UP_SLOTS: i64 = 600;
/// Versions that failed which a service remembers.
const FAILED: usize = 100;

/// A service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) key: Arc<ServiceKey>,
    pub(super) policy: Policy,
    /// What SLIs of its policies count.
    pub(super) measures: Arc<ServiceMeasures>,
    pub(super) lateness: Lateness,
    pub(super) versions: Versions,
    /// The oldest open slot.
    pub(super) next: Slot,
    pub(super) running: Vec<Running>,
    /// Versions whose newest verdict is a fail.
    pub(super) failed: BTreeSet<String>,
    ended: Vec<Arc<Deployment>>,
    arrivals: Arrivals,
    pub(super) ledger: Arc<Ledger>,
    /// The side of its request metrics; `None` where it sends none.
    pub(super) metered: Option<Box<Metered>>,
    /// Gauges that SLIs read; `None` where none came.
    pub(super) gauges: Option<Box<ServiceGauges>>,
    pub(super) lateness_config: LatenessConfig,
    /// When we began to look.
    pub(super) watched_since: UnixNanos,
    /// Error logs and exceptions; absent where there are none and nothing is judged.
    pub(super) logs: Option<Box<ServiceLogs>>,
    /// Before this slot nothing is concluded from silence: we were not there.
    pub(super) gone_not_before: Slot,
    /// Its error budget and that of its journeys.
    pub(super) objectives: ServiceObjectives,
    /// How long its releases took to get fast.
    pub(super) releases: EarlierReleases,
    /// What was remembered a minute ago, where a time that has passed is likely to be asked for.
    pub(super) behind: Option<Box<Behind>>,
    /// What it does around the clock, where that is kept.
    pub(super) hours: Option<Box<Hours>>,
}

impl Service {
    pub(super) fn new(
        key: Arc<ServiceKey>,
        (policy, measures): (Policy, Arc<ServiceMeasures>),
        lateness_config: LatenessConfig,
        ledger: Arc<Ledger>,
        watched_since: UnixNanos,
        now: UnixNanos,
    ) -> Self {
        let mut lateness = Lateness::new(lateness_config);
        // Spans of the seconds before may be on their way: they belong to the first slots.
        let next = lateness.open_from(now);
        Self {
            key,
            policy,
            measures,
            lateness,
            versions: BTreeMap::new(),
            next,
            running: Vec::new(),
            failed: BTreeSet::new(),
            ended: Vec::new(),
            arrivals: Arrivals::default(),
            ledger,
            metered: None,
            gauges: None,
            lateness_config,
            watched_since,
            logs: None,
            gone_not_before: Slot::MIN,
            objectives: ServiceObjectives::default(),
            releases: EarlierReleases::default(),
            behind: None,
            hours: None,
        }
    }

    /// Seconds an instance is young.
    fn warmup_s(&self, version: &VersionMeta) -> i64 {
        if version.is_function { 0 } else { self.policy.warmup_s }
    }

    pub(super) fn name_series(
        &mut self,
        label: &Arc<str>,
        meta: &VersionMeta,
        id: SeriesId,
        series: &SeriesMeta,
        stored: bool,
    ) {
        let warmup_s = self.warmup_s(meta);
        let next = self.next;
        let was_known = stored && !self.versions.contains_key(label);
        let version = self.versions.entry(Arc::clone(label)).or_insert_with(|| Box::new(Version::new(next)));
        if version.id != Some(meta.id) {
            version.came_back = was_known || version.ended;
            version.id = Some(meta.id);
            version.ended = false;
            version.warmup_s = warmup_s;
        }
        version.stored |= stored;
        version.name_series(id, series);
    }

    /// The door for a run of spans of one version.
    pub(super) fn run(&mut self, label: &Arc<str>, id: VersionId) -> Option<Run<'_>> {
        let version = self.versions.get_mut(label)?;
        let wanted = self.measures.wanted();
        let Self { lateness, arrivals, ledger, objectives, .. } = self;
        Some(Run {
            id,
            version,
            lateness,
            arrivals,
            ledger,
            objectives,
            wanted,
            spans: 0,
            late: 0,
            future: 0,
        })
    }

    /// Makes the measures and the dimensions of a policy known, to be counted from `now` on.
    pub(super) fn admit(&self, policy: &Policy, now: UnixNanos) {
        let without_room = self.measures.admit_dimensions(&policy.dimensions);
        if !without_room.is_empty() {
            tracing::error!(service = %self.key, dimensions = without_room.join(", "),
                "there is no room for these dimensions beside those that were counted since the start; requests are \
                 not told apart by them until a restart");
        }
        if let Err((refused, why)) = self.measures.admit(policy.slis.iter().map(|sli| &sli.measure), now) {
            let of = |sli: &&OwnSli| refused.contains(&sli.measure.key);
            let names: Vec<&str> = policy.slis.iter().filter(of).map(|sli| sli.name.as_str()).collect();
            tracing::error!(service = %self.key, slis = names.join(", "), ?why,
                "there is no room for these SLIs beside those that were counted since the start; they are not \
                 tested until a restart");
        }
    }

    /// Takes in what a span counts for beside being a request, or without being one.
    pub(super) fn extra(&mut self, label: &Arc<str>, extra: &Extra) {
        let wanted = self.measures.wanted();
        let placed = self.versions.get_mut(label).map(|version| version.extra(extra, wanted));
        let became = match placed {
            Some(Placed::Counted) => return,
            Some(Placed::Late) => Disposition::Late,
            Some(Placed::Future) => Disposition::Future,
            // Calls of a version that was never asked for anything say nothing.
            None => Disposition::Discarded(Discard::Kind),
        };
        self.ledger.settle(Signal::Traces, became, u64::from(extra.is_record));
    }

    /// Closes and judges the slots whose time has come, and moves the deployments on.
    pub(super) fn tick(&mut self, now: UnixNanos, blindness: &Blindness, commit: &mut Commit) {
        self.judge_gauges();
        self.lateness.renew(now);
        let open_from = self.lateness.open_from(now);
        self.next = self.next.max(open_from - CATCH_UP_SLOTS);
        while self.next < open_from {
            self.close(self.next, now, blindness, commit);
            self.close_logs(self.next, blindness.covers_logs(self.next));
            self.next += 1;
        }
        self.tick_metrics(now, blindness, commit);
        self.move_on(now, blindness.by(now).is_some(), commit);
        self.begin_second_opinions();
        self.write_hours(now, commit);
        self.notice_returns();
        self.know_versions(commit);
    }

    /// Closes a slot of all versions. Where nothing is judged, each version is done with at once. Of a slot that
    /// misses what was refused nothing is concluded and nothing remembered. The error budget counts what came: what was
    /// refused comes again, and counts as late.
    fn close(&mut self, slot: Slot, now: UnixNanos, blindness: &Blindness, commit: &mut Commit) {
        self.begin_changes(slot, now, commit);
        self.copy_behind(slot);
        self.begin_hour(slot);
        let program = self.measures.program();
        let program = program.as_deref();
        let is_telling = slot >= self.gone_not_before && !blindness.delays_spans(slot);
        if blindness.covers(Source::Spans, slot) {
            for version in self.versions.values_mut() {
                let one = version.close(slot, program, is_telling);
                one.settle(&self.ledger);
                if version.shows(Source::Spans) {
                    self.objectives.close(slot, &one);
                }
            }
            return;
        }
        let is_usual = self.leave_out_failing();
        let error_logs = program.and_then(Program::error_logs);
        if error_logs.is_some() && self.logs.is_none() {
            self.logs = Some(Box::new(ServiceLogs::new(&self.versions, slot)));
        }
        let logs = error_logs.zip(self.logs.as_deref()).filter(|_| !blindness.covers_logs(slot));
        if !self.needs_slots() {
            for (label, version) in &mut self.versions {
                let mut one = version.close(slot, program, is_telling);
                count_logs(&mut one, label, slot, logs);
                one.settle(&self.ledger);
                if version.shows(Source::Spans) {
                    self.objectives.close(slot, &one);
                    hours::count(self.hours.as_deref_mut().filter(|_| is_usual), slot, &one);
                }
                version.memory.begin_of(slot, one.is_present(), &one.arm);
                version.memory.end(slot, &seen(&one), &one.arm);
            }
            return;
        }
        let mut closed: BTreeMap<Arc<str>, Closed> = BTreeMap::new();
        for (label, version) in &mut self.versions {
            let mut one = version.close(slot, program, is_telling);
            count_logs(&mut one, label, slot, logs);
            one.settle(&self.ledger);
            if version.shows(Source::Spans) {
                self.objectives.close(slot, &one);
                hours::count(self.hours.as_deref_mut().filter(|_| is_usual), slot, &one);
            }
            version.memory.begin_of(slot, one.is_present(), &one.arm);
            closed.insert(Arc::clone(label), one);
        }
        let context = self.context(now);
        for running in &mut self.running {
            running.judge_slot((Source::Spans, slot), &closed, &self.versions, context, now, commit);
        }
        for (version, one) in self.versions.values_mut().zip(closed.values()) {
            version.memory.end(slot, &seen(one), &one.arm);
        }
    }

    /// Closes a second of the logs, once the spans' is closed. Of one that misses what was refused nothing is summed.
    fn close_logs(&mut self, slot: Slot, is_blind: bool) {
        if self.logs.is_none() && self.is_judging() {
            self.logs = Some(Box::new(ServiceLogs::new(&self.versions, slot)));
        }
        if let Some(logs) = &mut self.logs {
            logs.close(slot, is_blind, &self.versions, &self.running, &self.ledger);
        }
    }

    /// Takes in an error log or an exception of a version; `false` where an exception found no room.
    pub(super) fn find(&mut self, label: &Arc<str>, finding: &Finding, is_first: bool) -> bool {
        let (versions, next) = (&self.versions, self.next);
        let logs = self.logs.get_or_insert_with(|| Box::new(ServiceLogs::new(versions, next)));
        logs.find(label, finding, next, is_first, &self.ledger)
    }

    /// Draws up what the logs say of the deployments that are judged.
    pub(super) fn draw_up_logs(&mut self, registry: &Registry) {
        let Some(logs) = &mut self.logs else { return };
        if self.measures.program().is_some_and(|program| program.error_logs().is_some()) {
            logs.note_senders(&self.versions, registry);
        }
        for running in self.running.iter_mut().filter(|r| r.is_judging()) {
            let evidence = logs.evidence(running, &self.versions, registry, self.next);
            running.set_logs(evidence, self.next);
        }
    }

    /// What the judge cannot see in the slots.
    fn context(&self, now: UnixNanos) -> super::running::Surroundings {
        super::running::Surroundings {
            gone_not_before: self.gone_not_before,
            late_data: self.completeness(now) < super::running::COMPLETE,
            coarse_scale: None,
        }
    }

    /// Share of the spans of the last 5 minutes that came in time.
    fn completeness(&self, now: UnixNanos) -> f64 {
        let [all, missed] = self.arrivals.last_5m(now.slot());
        if all == 0 { 1.0 } else { 1.0 - missed as f64 / all as f64 }
    }

    /// Spans of the last 5 minutes without a version, and all.
    pub(super) fn unversioned(&self, now: UnixNanos) -> [u64; 2] {
        let of = |version: &Version| version.sum_last(300, now.slot()).0;
        let none = self.versions.get(VersionKey::UNVERSIONED).map_or(0, |v| of(v));
        if none == 0 { [0, 0] } else { [none, self.versions.values().map(|v| of(v)).sum()] }
    }

    /// We were stopped, suspended, or the clock was set: silence until now says nothing.
    pub(super) fn was_away(&mut self, now: UnixNanos) {
        self.gone_not_before = now.slot() + 1 + self.lateness.current_seconds().ceil() as Slot;
        self.versions.values_mut().filter(|v| !v.ended).for_each(|v| v.touched = now);
    }

    /// Everything about deployments that is not the judgement of a slot.
    fn move_on(&mut self, now: UnixNanos, is_blind: bool, commit: &mut Commit) {
        if self.running.is_empty() {
            return;
        }
        let sightings = self.sightings();
        let next = self.next_slots();
        let seeing = now.slot() > self.gone_not_before + RECENT_SLOTS as Slot && !is_blind;
        for running in &mut self.running {
            let known = (&*sightings, &self.releases);
            running.move_on(&mut self.versions, known, (next, seeing), is_blind, now, commit);
        }
        self.supersede(now, commit);
        for i in 0..self.running.len() {
            let deployment = Arc::clone(self.running[i].deployment());
            self.note_verdict(&deployment);
            let has_failed = self.failed.contains(&deployment.candidate);
            self.running[i].teach(&mut self.releases, has_failed);
        }
        let (over, running) = std::mem::take(&mut self.running).into_iter().partition(Running::is_over);
        self.running = running;
        self.ended.extend(over.into_iter().map(Running::into_deployment));
        if self.running.iter().all(|r| !r.is_judging()) {
            self.versions.values_mut().for_each(|v| v.set_censor(None));
        }
    }

    /// What began by itself takes the place of what is judged already only once it is more than a stray request.
    fn supersede(&mut self, now: UnixNanos, commit: &mut Commit) {
        let of_version = |r: &&Running| r.is_judging() && r.deployment().time.is_none();
        let Some(newest) = self.running.iter().rfind(of_version) else { return };
        let newest = Arc::clone(newest.deployment());
        // A change whose time came later has been judged with this version there.
        let began = |d: &Deployment| d.time.unwrap_or(d.started_at);
        let older = |r: &Running| {
            let is_other = r.deployment().id != newest.id && began(r.deployment()) <= newest.started_at;
            r.is_judging() && !r.is_waiting() && is_other
        };
        if !self.running.iter().any(older) {
            return;
        }
        let of = |label: &str| self.versions.get(label);
        let (Some(candidate), Some(first)) = (of(&newest.candidate), newest.candidate_first) else { return };
        let requests = candidate.shown_totals()[0].saturating_sub(newest.spent_before[0]);
        let recent = |label: &str| of(label).map_or(0, |v| v.sum_last(300, now.slot()).0);
        let most_of_others =
            self.running.iter().filter(|r| older(r)).map(|r| recent(&r.deployment().candidate)).max();
        let is_known = requests >= KNOWN_REQUESTS || Some(requests) > most_of_others;
        if !is_known || now.since(first) < KNOWN_SECONDS * NANOS_PER_SECOND {
            return;
        }
        for running in self.running.iter_mut().filter(|r| older(r)) {
            running.apply(Event::SupersededBy(newest.id.clone()), now, commit);
        }
    }

    /// Takes note of what a deployment came to, in the order of their beginnings. What a change did to a version is no
    /// fault of the version.
    pub(super) fn note_verdict(&mut self, deployment: &Deployment) {
        let candidate = &deployment.candidate;
        if deployment.time.is_some() {
            return;
        }
        match deployment.verdict {
            Verdict::Fail if !self.failed.contains(candidate) => {
                if self.failed.len() >= FAILED {
                    self.failed.pop_first();
                }
                self.failed.insert(candidate.clone());
                self.forget_gauges(candidate);
            }
            Verdict::Pass => _ = self.failed.remove(candidate),
            Verdict::Fail | Verdict::Pending | Verdict::Inconclusive => {}
        }
    }

    /// A version that failed and went out of traffic is looked at again when it comes back.
    fn notice_returns(&mut self) {
        if self.failed.is_empty() {
            return;
        }
        let next = self.next_slots();
        for (label, version) in &mut self.versions {
            let judged = self.running.iter().any(|r| r.deployment().candidate == **label);
            if judged || !self.failed.contains(&**label) {
                continue;
            }
            if version.has_fallen_silent(next) {
                version.withdrawn = true;
            } else if version.withdrawn && version.serves() {
                (version.withdrawn, version.looked_at) = (false, false);
            }
        }
    }

    /// Versions seen long enough become known, durably.
    fn know_versions(&mut self, commit: &mut Commit) {
        for (label, version) in &mut self.versions {
            let failed = self.failed.contains(&**label);
            if !version.stored && version.has_served() && is_version(label) && !failed {
                version.stored = true;
                commit
                    .known_versions
                    .push(VersionKey { service: (*self.key).clone(), version: label.to_string() });
            }
        }
    }

    /// The oldest open slots of spans and of metrics.
    fn next_slots(&self) -> [Slot; 2] {
        [self.next, self.metered.as_ref().map_or(self.next, |metered| metered.next())]
    }

    pub(super) fn sightings(&self) -> Vec<Sighting> {
        let failed = |label: &Arc<str>| self.failed.contains(&**label);
        let one = |label: &Arc<str>, v: &Version| Sighting {
            failed: failed(label),
            ..v.sighting(label, self.next)
        };
        self.versions.iter().map(|(label, v)| one(label, v)).collect()
    }

    pub(super) fn exemplar(&mut self, label: &str, exemplar: &Exemplar) {
        let version = self.versions.get(label);
        let is_own = |d: &Deployment| {
            let is_within = || version.is_some_and(|v| v.is_within(exemplar.series, &d.scope));
            d.candidate == label && (d.scope.is_whole() || is_within())
        };
        self.running.iter_mut().filter(|r| is_own(r.deployment())).for_each(|r| r.exemplar(exemplar));
    }

    /// Ends the series of versions silent for longer than `ttl_s`. What a deployment is held against stays
    /// in memory, off the board.
    pub(super) fn end_versions(&mut self, now: UnixNanos, ttl_s: u64, retired: &mut Vec<VersionId>) {
        let old = |v: &Version| now.since(v.last.max(v.touched)) > ttl_s * NANOS_PER_SECOND;
        for version in self.versions.values_mut().filter(|v| !v.ended && old(v)) {
            version.end();
            if let Some(id) = version.id.take() {
                self.lateness.forget(id);
                if let Some(metered) = &mut self.metered {
                    metered.forget(id);
                }
                retired.push(id);
            }
        }
        let needed = |label: &Arc<str>| self.running.iter().any(|r| r.needs(label));
        let mut counted = UnixNanos::default();
        self.versions.retain(|label, v| {
            let kept = !v.ended || needed(label);
            if !kept {
                // Of a version that ends, nothing closes any more.
                self.ledger.settle(Signal::Traces, Disposition::Orphaned, v.waiting());
                let points = v.metered.as_ref().map_or(0, |side| side.waiting());
                self.ledger.settle(Signal::Metrics, Disposition::Orphaned, points);
                counted = v.metered.as_mut().map_or(counted, |side| counted.max(side.newest_start()));
            }
            kept
        });
        self.watch_after(counted);
        if let Some(logs) = &mut self.logs {
            logs.end(now, ttl_s, &self.versions, retired);
        }
        if self.logs.as_ref().is_some_and(|logs| logs.is_over()) {
            self.logs = None;
        }
    }

    /// Whether nothing is left of it.
    pub(super) fn is_over(&self) -> bool {
        self.versions.is_empty() && self.running.is_empty() && self.ended.is_empty() && self.logs.is_none()
    }

    pub(super) fn take_ended(&mut self) -> Vec<Arc<Deployment>> {
        std::mem::take(&mut self.ended)
    }

    pub(super) fn is_judging(&self) -> bool {
        self.running.iter().any(Running::is_judging)
    }

    /// Whether a deployment waits for its verdict.
    pub(super) fn is_deciding(&self) -> bool {
        self.running.iter().any(Running::is_deciding)
    }

    pub(super) fn deployments(&self) -> impl Iterator<Item = &Arc<Deployment>> {
        self.running.iter().map(Running::deployment)
    }
}

/// Spans of one version that arrived one after the other.
pub(super) struct Run<'a> {
    id: VersionId,
    version: &'a mut Version,
    lateness: &'a mut Lateness,
    arrivals: &'a mut Arrivals,
    ledger: &'a Ledger,
    objectives: &'a mut ServiceObjectives,
    wanted: Wanted,
    spans: u64,
    late: u64,
    future: u64,
}

impl Run<'_> {
    pub(super) fn observe(&mut self, o: &Observation, ordinal: Option<u32>) {
        self.lateness.record(self.id, o.instance, o.end, o.arrival);
        self.spans += 1;
        match self.version.observe(o, ordinal, self.wanted) {
            Placed::Counted => {}
            Placed::Late => {
                self.late += 1;
                if self.version.shows(Source::Spans) {
                    let operation = self.version.operation(o.series);
                    let failed = u64::from(o.outcome == Outcome::Bad);
                    self.objectives.late(o.end.slot(), operation, 1, failed);
                }
            }
            Placed::Future => self.future += 1,
        }
    }

    /// Counts the run for the account of records and the service's completeness.
    pub(super) fn end(self, now: UnixNanos) {
        self.ledger.settle(Signal::Traces, Disposition::Late, self.late);
        self.ledger.settle(Signal::Traces, Disposition::Future, self.future);
        self.arrivals.add(now.slot(), self.spans, self.late + self.future);
    }
}

/// Adds the error logs of a second to what SLIs count, per request; of a version that sends no logs there is
/// nothing to count, which is not the same as none.
fn count_logs(one: &mut Closed, label: &str, slot: Slot, logs: Option<(MeasureKey, &ServiceLogs)>) {
    let Some((key, logs)) = logs else { return };
    let Some(errors) = logs.error_logs(label, slot) else { return };
    let counts = Counts { requests: one.total.n, bad: errors, ..Counts::default() };
    if counts.requests + counts.bad > 0 {
        let cell = Cell { groups: [counts, Counts::default()], bounds: None };
        let cells = one.arm.measures.entry(key).or_default();
        cells.warm.insert(ALL_OPERATIONS.into(), cell);
    }
}

/// Warm requests of a slot, those that are only remembered included.
pub(super) fn seen(closed: &Closed) -> Cow<'_, Cells> {
    with_old(&closed.arm.warm, &closed.started_before)
}
