//! One version of one service as the evaluator keeps it: its open slots, what is remembered of it, and what
//! the board shows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::arms::{Closed, SeriesCohorts, deaths, measured};
use super::board::{SourceBoard, VersionBoard};
use super::logs::LogTotals;
use super::metered::{MeteredVersion, requests_behind, requests_by_group};
use super::registry::{SeriesMeta, VersionEntry};
use super::zones::InstanceZones;
use crate::deployment::{KNOWN_REQUESTS, KNOWN_SECONDS, Sighting};
use crate::model::snapshot::snapshot_fields;
use crate::model::{
    Extra, InstanceId, NANOS_PER_SECOND, Observation, Program, SeriesId, Slot, Source, UnixNanos, VersionId,
};
use crate::verdict::{LONGEST_SLOT_S, Memories, Memory, Scope};
use crate::window::{
    Churn, ClosedSlot, Counts, Delta, History, Instances, Mark, OpenMeasures, OpenSlots, Placed, Placement,
    Wanted,
};

/// Closed slots whose totals are kept one by one: rates, recovery.
pub(super) const RECENT_SLOTS: usize = 10;
/// Slots of the rate on the board.
const RATE_SLOTS: usize = RECENT_SLOTS;

/// Counters that never fall while the version lives.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Totals {
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) client_errors: u64,
    pub(super) weighted: f64,
}

snapshot_fields!(Totals { requests, errors, client_errors, weighted });

impl Totals {
    /// Adds a closed slot.
    pub(super) fn add(&mut self, total: &Counts) {
        self.requests = self.requests.saturating_add(total.n);
        self.errors = self.errors.saturating_add(total.bad);
        self.client_errors = self.client_errors.saturating_add(total.client);
        self.weighted += total.weight;
    }
}

/// Versions of a service by label. Boxed: a node of the tree has room for eleven, most services have one or two.
pub(super) type Versions = BTreeMap<Arc<str>, Box<Version>>;

/// Seconds of which the warm requests are kept: two of the longest intervals, and what is still to close.
const WARM_REQUESTS_S: i64 = 2 * LONGEST_SLOT_S + 60;

/// A version.
#[derive(Debug)]
pub(super) struct Version {
    /// Its id while telemetry flows; a version that went away and came back gets a new one.
    pub(super) id: Option<VersionId>,
    /// What its senders say of themselves; follows the id.
    pub(super) senders: Option<Arc<VersionEntry>>,
    pub(super) memory: Memory,
    pub(super) open: OpenSlots,
    /// What SLIs of a policy's own count; boxed, because most services have none.
    pub(super) measures: Option<Box<OpenMeasures>>,
    pub(super) history: History,
    pub(super) totals: Totals,
    /// The source that showed its requests first: the one that displays go by.
    shown: Option<Source>,
    /// Warm requests of its newest closed seconds, by instance group, where SLIs count events of metrics per request.
    warm_requests: VecDeque<(Slot, [u64; 2])>,
    /// What its request metrics say; `None` where it sends none.
    pub(super) metered: Option<Box<MeteredVersion>>,
    /// First and last end.
    pub(super) first: UnixNanos,
    pub(super) last: UnixNanos,
    /// Start of the first request: the earliest among those that end in the first slot.
    pub(super) first_start: UnixNanos,
    first_slot: Option<Slot>,
    /// Arrival of its last span, late ones included.
    pub(super) touched: UnixNanos,
    /// Seconds an instance is young.
    pub(super) warmup_s: i64,
    /// Whether the store knows it from before.
    pub(super) stored: bool,
    /// Whether it was asked already if it starts a deployment.
    pub(super) looked_at: bool,
    /// Whether there was no room to judge it when it was asked for.
    pub(super) refused: bool,
    /// Whether it failed and has served nothing since: what it serves next is a deployment of its own.
    pub(super) withdrawn: bool,
    /// Whether it was there before and its series had ended: who is heard of now may have run all the while.
    pub(super) came_back: bool,
    /// Whether its series have ended; it is kept while a deployment is held against it.
    pub(super) ended: bool,
    /// All counts so far: sampling.
    pub(super) sampling: Counts,
    instances: Instances,
    /// Those of its instances that died and were replaced, by its spans.
    pub(super) churn: Churn,
    /// Until then instances that appear are taken for old ones: we were restarted, not they.
    pub(super) restored_until: UnixNanos,
    operations: BTreeMap<SeriesId, Arc<str>>,
    /// Where its service has dimensions: which series is of which cohorts, and which instances served them.
    cohorts: SeriesCohorts,
    pub(super) ordinals: BTreeMap<InstanceId, u32>,
    /// Where its instances run; asked while a deployment is looked at only.
    pub(super) zones: InstanceZones,
    recent: VecDeque<[u64; 2]>,
}

impl Version {
    /// A version of which nothing was seen; slots before `open_from` are closed.
    pub(super) fn new(open_from: Slot) -> Self {
        Self {
            id: None,
            senders: None,
            memory: Memory::default(),
            open: OpenSlots::new(open_from),
            measures: None,
            warm_requests: VecDeque::new(),
            history: History::default(),
            totals: Totals::default(),
            shown: None,
            metered: None,
            first: UnixNanos::default(),
            last: UnixNanos::default(),
            first_start: UnixNanos::default(),
            first_slot: None,
            touched: UnixNanos::default(),
            warmup_s: 0,
            stored: false,
            looked_at: false,
            refused: false,
            came_back: false,
            withdrawn: false,
            ended: false,
            sampling: Counts::default(),
            instances: Instances::new(),
            churn: Churn::default(),
            restored_until: UnixNanos::default(),
            operations: BTreeMap::new(),
            cohorts: SeriesCohorts::default(),
            ordinals: BTreeMap::new(),
            zones: InstanceZones::default(),
            recent: VecDeque::with_capacity(RECENT_SLOTS),
        }
    }

    /// What is remembered of it, by source.
    pub(super) fn memories(&self) -> Memories<'_> {
        Memories { spans: Some(&self.memory), metrics: self.metered.as_ref().map(|side| &side.memory) }
    }

    /// Takes in one span.
    pub(super) fn observe(&mut self, o: &Observation, ordinal: Option<u32>, wanted: Wanted) -> Placed {
        self.touched = self.touched.max(o.arrival);
        if self.instances.note(o, ordinal.unwrap_or(0))
            && let Some(ordinal) = ordinal
        {
            self.ordinals.insert(o.instance, ordinal);
        }
        let slot = o.end.slot();
        let mut placement = self.instances.placement(o.instance, slot, self.warmup_s);
        if o.arrival < self.restored_until {
            placement.young = self.instances.placement(InstanceId::UNKNOWN, slot, self.warmup_s).young;
        }
        let placed = self.open.record(o, placement);
        self.cohorts.note(o.series, o.instance);
        if placed == Placed::Late {
            self.churn.heard_late(slot, o.instance);
        }
        if placed == Placed::Counted {
            self.see(o.start, o.end);
            if o.marks != 0 {
                let mark = Mark {
                    series: o.series,
                    start: o.start,
                    end: o.end,
                    arrival: o.arrival,
                    bucket: o.bucket,
                    marks: o.marks,
                    amount: 1,
                    is_record: false,
                };
                self.mark(&mark, placement, wanted);
            }
        }
        placed
    }

    /// Takes in what a span counts for beside being a request, or without being one.
    pub(super) fn extra(&mut self, extra: &Extra, wanted: Wanted) -> Placed {
        let slot = extra.end.slot();
        let mut placement = self.instances.placement(extra.instance, slot, self.warmup_s);
        if extra.arrival < self.restored_until {
            placement.young = self.instances.placement(InstanceId::UNKNOWN, slot, self.warmup_s).young;
        }
        let mark = Mark {
            series: SeriesId(u32::MAX),
            start: extra.start,
            end: extra.end,
            arrival: extra.arrival,
            bucket: extra.bucket,
            marks: extra.marks,
            amount: extra.amount,
            is_record: extra.is_record,
        };
        self.mark(&mark, placement, wanted)
    }

    fn mark(&mut self, mark: &Mark, placement: Placement, wanted: Wanted) -> Placed {
        let (from, censor) = (self.open.open_from(), self.open.censor());
        let fresh = || {
            let mut measures = OpenMeasures::new(from);
            measures.set_censor(censor);
            Box::new(measures)
        };
        self.measures.get_or_insert_with(fresh).record(mark, placement, wanted)
    }

    /// What started before this is remembered only.
    pub(super) fn set_censor(&mut self, censor: Option<UnixNanos>) {
        self.open.set_censor(censor);
        self.measures.iter_mut().for_each(|measures| measures.set_censor(censor));
    }

    /// Notes that there were requests between these times.
    pub(super) fn see(&mut self, start: UnixNanos, end: UnixNanos) {
        self.last = self.last.max(end);
        if self.first == UnixNanos::default() || end < self.first {
            self.first = end;
        }
        let slot = end.slot();
        if self.first_slot.is_none_or(|first| slot < first) {
            (self.first_slot, self.first_start) = (Some(slot), start);
        } else if self.first_slot == Some(slot) {
            self.first_start = self.first_start.min(start);
        }
    }

    /// Takes note of whose requests of a series metrics tell.
    pub(super) fn note_cohorts(&mut self, series: SeriesId, instance: InstanceId) {
        self.cohorts.note(series, instance);
    }

    /// Where the requests of a metric interval belong.
    pub(super) fn metered_placement(
        &mut self,
        instance: InstanceId,
        delta: &Delta,
        arrival: UnixNanos,
        ordinal: Option<u32>,
    ) -> Placement {
        let Some(side) = &mut self.metered else { return Placement::default() };
        let (mut placement, is_new) = side.placement(instance, delta, ordinal, self.warmup_s);
        if let Some(ordinal) = ordinal.filter(|_| is_new) {
            self.ordinals.insert(instance, ordinal);
        }
        if arrival < self.restored_until {
            placement.young = side.placement(InstanceId::UNKNOWN, delta, None, self.warmup_s).0.young;
        }
        placement
    }

    /// Goes on from before a restart at `now`: its warm-up, and that of its instances, does not begin anew.
    pub(super) fn continued(&mut self, now: UnixNanos) {
        const RETURN_S: i64 = 60;
        let metered = self.metered.as_ref().map_or(0, |side| side.totals.requests);
        self.show(Source::Spans, self.totals.requests);
        self.show(Source::Metrics, metered);
        self.first_slot = (self.first != UnixNanos::default()).then(|| self.first.slot());
        self.instances.seen_since(self.first.slot());
        if let Some(side) = &mut self.metered {
            side.continued(self.first.slot());
        }
        self.looked_at = true;
        self.touched = now;
        self.restored_until = now.plus_secs_f64((self.warmup_s + RETURN_S) as f64);
    }

    /// Its series end: their ids are void from now on.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.instances.forget_before(Slot::MAX);
        if let Some(side) = &mut self.metered {
            side.end();
        }
        self.operations.clear();
        self.cohorts = SeriesCohorts::default();
        self.ordinals.clear();
        self.zones = InstanceZones::default();
    }

    /// Whether it has served long enough to be known from now on.
    pub(super) fn has_served(&self) -> bool {
        let seconds = self.last.since(self.first) / NANOS_PER_SECOND;
        seconds >= KNOWN_SECONDS && self.requests() >= KNOWN_REQUESTS
    }

    /// Requests since it was first seen: those of its spans, or those that its metrics count where they are
    /// more (spans may be sampled, or absent). Never the sum of both, for they are the same requests.
    pub(super) fn requests(&self) -> u64 {
        self.totals.requests.max(self.metered.as_ref().map_or(0, |side| side.totals.requests))
    }

    /// Requests and failed ones of the last `seconds` before slot `now`, by spans, else by metrics.
    pub(super) fn sum_last(&self, seconds: i64, now: Slot) -> (u64, u64) {
        let spans = self.history.sum_last(seconds, now);
        match &self.metered {
            Some(side) if spans.0 == 0 => side.history.sum_last(seconds, now),
            _ => spans,
        }
    }

    /// Whether its closed slots of the last seconds are there and hold no request, and its silence is no mere
    /// gap: by everything that it ever sent. `next` are the oldest open slots of its spans and metrics.
    pub(super) fn has_fallen_silent(&self, next: [Slot; 2]) -> bool {
        let spans = self.recent.len() >= RECENT_SLOTS
            && self.last_slots(RECENT_SLOTS)[0] == 0
            && self.memory.is_gone(next[0]);
        let has_spans = self.totals.requests > 0;
        match self.metered.as_ref().filter(|side| side.totals.requests > 0) {
            Some(side) => side.has_fallen_silent(RECENT_SLOTS as i64, next[1]) && (spans || !has_spans),
            None => spans,
        }
    }

    /// Whether there is a request in its newest slots.
    pub(super) fn serves(&self) -> bool {
        let side = self.metered.as_ref();
        self.last_slots(RECENT_SLOTS)[0] > 0
            || side.is_some_and(|s| s.last_seconds(RECENT_SLOTS as i64)[0] > 0)
    }

    /// Whether it serves, and its errors of the last seconds look as they did before.
    pub(super) fn is_well(&self, error_budget: f64) -> bool {
        match self.metered.as_ref().filter(|_| self.totals.requests == 0) {
            Some(side) => side.memory.is_usual(side.last_seconds(RECENT_SLOTS as i64), error_budget),
            None => self.memory.is_usual(self.last_slots(RECENT_SLOTS), error_budget),
        }
    }

    /// Whether its instances are short-lived functions: a cold start is no warm-up there.
    pub(super) fn is_short_lived(&self) -> bool {
        self.id.is_some() && self.warmup_s == 0
    }

    /// Whether any request of it was seen.
    pub(super) fn has_traffic(&self) -> bool {
        self.first_slot.is_some()
    }

    /// Names a series of this version.
    pub(super) fn name_series(&mut self, id: SeriesId, series: &SeriesMeta) {
        self.operations.insert(id, Arc::clone(&series.operation));
        if let Some(cohort) = &series.cohort {
            self.cohorts.add(id, cohort);
        }
    }

    /// Whether the silence of its instances means that they died: not where some could not be told apart, which leaves
    /// those that live longest, and not of functions, whose instances come and go with the traffic.
    fn tells_deaths(&self) -> bool {
        let is_cut = self.senders.as_ref().is_some_and(|entry| entry.is_cut.load(Ordering::Relaxed));
        !is_cut && !self.is_short_lived()
    }

    /// Closes a slot: what is judged and remembered of it. Where `is_telling` is not, spans of it may have been refused or
    /// be on their way.
    pub(super) fn close(&mut self, slot: Slot, program: Option<&Program>, is_telling: bool) -> Closed {
        let late = self.open.fates().late;
        let slots = self.open.close(slot);
        let is_telling = is_telling && self.tells_deaths();
        let toll = self.churn.close(slot, slots.instances.iter().map(|seen| seen.instance), is_telling);
        let mut closed = Closed {
            toll,
            passed_over: self.open.fates().late - late,
            ..Closed::new(&slots, &self.operations, &self.ordinals, None)
        };
        self.cohorts.split(&slots, &self.operations, &self.ordinals, None, &mut closed.arm);
        closed.arm.zones = self.zones.count(&slots.instances);
        if let (Some(measures), Some(program)) = (&mut self.measures, program) {
            let of_slot = measures.close(slot);
            closed.arm.measures = measured(&of_slot, program, &self.operations);
            closed.marked = of_slot.records;
            closed.passed_over += of_slot.passed_over;
        }
        if let Some(key) = program.and_then(Program::deaths)
            && let Some(cells) = deaths(closed.toll.living, closed.toll.dead.len() as u64)
        {
            closed.arm.measures.insert(key, cells);
        }
        if program.is_some_and(Program::needs_requests) {
            let groups = requests_by_group(&closed.arm.warm);
            self.warm_requests.retain(|(t, _)| *t > slot - WARM_REQUESTS_S);
            self.warm_requests.push_back((slot, groups));
        }
        self.count(slot, &closed.total);
        closed
    }

    /// Warm requests of spans that metric intervals which end in a slot of `slot_s` seconds are about, by instance group.
    pub(super) fn requests_behind(&self, slot: Slot, slot_s: i64) -> [u64; 2] {
        requests_behind(self.warm_requests.iter().copied(), slot, slot_s)
    }

    /// Instances past their warm-up that were there in a slot of `slot_s` seconds, or `sent` something in it, with their
    /// groups: those whose seconds and events count. After a restart they are as old as the version.
    pub(super) fn warm_instances(
        &self,
        slot: Slot,
        slot_s: i64,
        sent: &BTreeSet<InstanceId>,
    ) -> BTreeMap<InstanceId, usize> {
        let Some(side) = &self.metered else { return BTreeMap::new() };
        let is_known = slot >= self.restored_until.slot();
        let warmup_s = if is_known || self.first_slot.is_none_or(|first| slot < first + self.warmup_s) {
            self.warmup_s
        } else {
            0
        };
        self.instances.warm(side.instances(), slot, slot_s, warmup_s, sent)
    }

    /// The first second in which an instance was heard of, by its spans or what its metrics count.
    pub(super) fn heard_of(&self, instance: InstanceId) -> Option<Slot> {
        let metered = self.metered.as_ref().and_then(|side| side.instances().first_of(instance));
        [self.instances.first_of(instance), metered].into_iter().flatten().min()
    }

    /// Names what a reduced metric interval knows by number.
    pub(super) fn named(&self, slot: &ClosedSlot, bounds: Option<Arc<[f64]>>) -> Closed {
        let mut closed = Closed::new(slot, &self.operations, &self.ordinals, bounds.as_ref());
        self.cohorts.split(slot, &self.operations, &self.ordinals, bounds.as_ref(), &mut closed.arm);
        closed.arm.zones = self.zones.count(&slot.instances);
        closed
    }

    /// Spans in open slots.
    pub(super) fn waiting(&self) -> u64 {
        let measures = self.measures.as_ref().map_or(0, |measures| measures.waiting());
        self.open.fates().counted.saturating_sub(self.totals.requests) + measures
    }

    fn count(&mut self, slot: Slot, total: &Counts) {
        self.show(Source::Spans, total.n);
        self.totals.add(total);
        self.sampling.add(total);
        if total.n > 0 {
            self.history.add(slot, total.n, total.bad);
        }
        if self.recent.len() >= RECENT_SLOTS {
            self.recent.pop_front();
        }
        self.recent.push_back([total.n, total.bad]);
    }

    /// Requests and failed ones of the last `slots` closed slots.
    pub(super) fn last_slots(&self, slots: usize) -> [u64; 2] {
        self.recent.iter().rev().take(slots).fold([0, 0], |s, r| [s[0] + r[0], s[1] + r[1]])
    }

    /// What the choice of deployments and baselines needs to know.
    pub(super) fn sighting(&self, version: &str, now: Slot) -> Sighting {
        Sighting {
            version: version.to_owned(),
            first: self.first,
            last: self.last,
            requests: self.requests(),
            requests_5m: self.sum_last(300, now).0,
            requests_30m: self.sum_last(1800, now).0,
            stored: self.stored,
            failed: false,
        }
    }

    /// Notes requests in a closed slot of a source: the first one to have any is the one that is shown.
    pub(super) fn show(&mut self, source: Source, requests: u64) {
        if self.shown.is_none() && requests > 0 {
            self.shown = Some(source);
        }
    }

    /// Whether its numbers come from this source.
    pub(super) fn shows(&self, source: Source) -> bool {
        self.shown == Some(source)
    }

    /// Requests and failed ones since it was first seen, by the source that is shown.
    pub(super) fn shown_totals(&self) -> [u64; 2] {
        let side = self.metered.as_ref().filter(|_| self.shows(Source::Metrics));
        let totals = side.map_or(&self.totals, |side| &side.totals);
        [totals.requests, totals.errors]
    }

    /// The operation of a series.
    pub(super) fn operation(&self, series: SeriesId) -> Option<&Arc<str>> {
        self.operations.get(&series)
    }

    /// Whether the requests of a series are of a part of the service's.
    pub(super) fn is_within(&self, series: SeriesId, scope: &Scope) -> bool {
        let labels = self.cohorts.labels(series);
        self.operation(series).is_some_and(|operation| scope.holds(operation, labels))
    }

    /// The line on the board.
    pub(super) fn board(&self, version: &str, next: [Slot; 2], slo: f64) -> VersionBoard {
        let fates = self.open.fates();
        let source = self.shown.unwrap_or_default();
        let side = self.metered.as_ref();
        let of = |totals: &Totals, history: &History| {
            let (requests_5m, errors_5m) = history.sum_last(300, next[0]);
            SourceBoard {
                requests_total: totals.requests,
                errors_total: totals.errors,
                requests_5m,
                errors_5m,
            }
        };
        let spans = (self.totals.requests > 0).then(|| of(&self.totals, &self.history));
        let sources = [spans, side.map(|side| of(&side.totals, &side.history))];
        let shown = sources[source.index()].unwrap_or_default();
        let burn_5m = match shown.requests_5m {
            0 => 0.0,
            requests => shown.errors_5m as f64 / requests as f64 / (1.0 - slo),
        };
        let (totals, rate, latency_seconds, instances) = match side.filter(|_| source == Source::Metrics) {
            Some(side) => {
                (&side.totals, side.rate(), side.latency_seconds(), side.memory.instances_present(next[1]))
            }
            None => {
                let rate = self.last_slots(RATE_SLOTS)[0] as f64 / RATE_SLOTS as f64;
                (&self.totals, rate, self.memory.latency_seconds(), self.memory.instances_present(next[0]))
            }
        };
        VersionBoard {
            version: version.to_owned(),
            source,
            sources,
            requests_total: totals.requests,
            errors_total: totals.errors,
            client_errors_total: totals.client_errors,
            weighted_requests_total: totals.weighted,
            late_total: fates.late,
            future_total: fates.future,
            skewed_total: fates.skewed,
            requests_5m: shown.requests_5m,
            errors_5m: shown.errors_5m,
            burn_5m,
            rate,
            latency_seconds,
            instances,
            first_seen: self.first,
            last_seen: self.last,
            logs: LogTotals::default(),
        }
    }
}
