//! The metric side of a service: its export interval, the clock of its slots, which metric counts, and the
//! form in which latencies are compared. All of it is the same for every version, because versions are
//! compared slot by slot.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::choice::Choice;
use super::interval::Interval;
use super::run::{Export, PutInto};
use super::streams::StreamPlace;
use super::version::MeteredVersion;
use crate::deployment::is_version;
use crate::histogram::Form;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer};
use crate::model::{
    Class, Discard, Family, MEASURES_MAX, MeasureKey, Outcome, PointObservation, Slot, Source, StreamMeta,
    Temporality, UnixNanos, VersionId, part_bit, total_bit,
};
use crate::pipeline::arms::Closed;
use crate::pipeline::arrivals::Arrivals;
use crate::pipeline::blindness::Blindness;
use crate::pipeline::board::MetricsSide;
use crate::pipeline::hours;
use crate::pipeline::journal::Commit;
use crate::pipeline::ledger::Disposition;
use crate::pipeline::passage::Signal;
use crate::pipeline::running::{COMPLETE, Surroundings};
use crate::pipeline::service::Service;
use crate::pipeline::version::{Version, Versions};
use crate::verdict::Timing;
use crate::window::{
    Addition, ClosedInterval, Delta, Lateness, LatenessConfig, Placed, Placement, Taken, Wanted,
};

/// Seconds of slots that may be closed in one tick; after a longer stop of the clock the rest is skipped, for
/// all versions alike.
const CATCH_UP_S: i64 = 600;

/// The metric side of a service.
#[derive(Debug)]
pub(in crate::pipeline) struct Metered {
    interval: Interval,
    /// `None` until the export interval is known.
    timing: Option<Timing>,
    lateness: Lateness,
    /// The oldest open slot.
    next: Slot,
    /// The earliest end among the points that came before the interval was known.
    earliest: Option<Slot>,
    choice: Choice,
    /// What the buckets of all versions share.
    pub(super) form: Form,
    /// The same of the measures whose latencies are compared.
    pub(super) measure_forms: BTreeMap<MeasureKey, Form>,
    pub(super) wanted: Wanted,
    /// Since when points are read for each measure, by its number.
    pub(super) reads_since: Arc<Vec<UnixNanos>>,
    /// Measures whose metric any version has sent.
    pub(super) shown: BTreeMap<MeasureKey, bool>,
    /// Where the requests of rates came from last.
    pub(super) requests: Option<Source>,
    /// When we began to look: what a counter that began later holds at its first point is all new.
    watched_since: UnixNanos,
    arrivals: Arrivals,
    /// Bucket counts of the difference in hand.
    buffer: Vec<u64>,
}

/// Whose a point is.
#[derive(Debug, Clone, Copy)]
pub(in crate::pipeline) struct PointPlace<'a> {
    pub(in crate::pipeline) version: VersionId,
    pub(in crate::pipeline) meta: &'a StreamMeta,
    /// The number of its instance.
    pub(in crate::pipeline) ordinal: Option<u32>,
    /// Bounds in seconds where its buckets are explicit.
    pub(in crate::pipeline) bounds: Option<&'a Arc<[f64]>>,
}

impl Metered {
    pub(in crate::pipeline) fn new(lateness: LatenessConfig, watched_since: UnixNanos) -> Self {
        Self {
            interval: Interval::default(),
            timing: None,
            lateness: Lateness::new(lateness),
            next: Slot::MIN,
            earliest: None,
            choice: Choice::default(),
            form: Form::default(),
            measure_forms: BTreeMap::new(),
            wanted: Wanted::default(),
            reads_since: Arc::default(),
            shown: BTreeMap::new(),
            requests: None,
            watched_since,
            arrivals: Arrivals::default(),
            buffer: Vec::new(),
        }
    }

    /// Seconds of a slot; `None` until the export interval is known.
    pub(super) fn slot_s(&self) -> Option<i64> {
        self.timing.map(Timing::slot_s)
    }

    /// How it is read, for displays.
    pub(in crate::pipeline) fn board(&self, now: UnixNanos) -> Option<MetricsSide> {
        Some(MetricsSide {
            slot_seconds: self.slot_s()?,
            lateness_seconds: self.lateness.current_seconds(),
            completeness: self.completeness(now),
            metric: self.choice.class().map_or("", Class::as_str),
            bounds: None,
        })
    }

    /// The oldest open slot.
    pub(in crate::pipeline) fn next(&self) -> Slot {
        self.next
    }

    /// Whether a metric counts the requests of the service.
    pub(super) fn counts_requests(&self) -> bool {
        self.choice.class().is_some()
    }

    pub(in crate::pipeline) fn forget(&mut self, version: VersionId) {
        self.lateness.forget(version);
    }

    /// The metric side of a version. One that is new knows which measures the versions before it have shown.
    pub(super) fn side<'v>(&self, version: &'v mut Version) -> &'v mut MeteredVersion {
        version.metered.get_or_insert_with(|| {
            let mut fresh = MeteredVersion::new(self.timing.unwrap_or_default(), self.next);
            let counted = self.shown.iter().filter(|(_, counts)| **counts);
            fresh.shown = counted.map(|(key, _)| (*key, false)).collect();
            Box::new(fresh)
        })
    }

    /// Takes in one point of a version; what became of it, or `None` while it waits in its slot.
    pub(super) fn observe(
        &mut self,
        to: &mut PutInto<'_>,
        (place, stream): (&PointPlace<'_>, &mut StreamPlace),
        (point, counts): (&PointObservation, &[u64]),
        now: UnixNanos,
    ) -> Option<Disposition> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let since = self.reads_since(place.meta);
        let taken = self.side(to.version).take(place.meta, stream, point, counts, since, &mut buffer);
        let became = match taken {
            Taken::Base => Some(Disposition::Discarded(Discard::BasePoint)),
            Taken::Duplicate => Some(Disposition::Duplicate),
            Taken::Contradiction => Some(Disposition::Discarded(Discard::Numbers)),
            Taken::Delta(delta) => self.add(to, place, point, (&delta, &buffer), now),
        };
        self.buffer = buffer;
        became
    }

    /// Since when the points of a stream are read. What a counter that began before holds at its first point is no
    /// news: a policy may have begun to name its metric a moment ago.
    fn reads_since(&self, stream: &StreamMeta) -> UnixNanos {
        if stream.family != Family::Measure {
            return self.watched_since;
        }
        let counts_for = |n: &usize| stream.marks & (total_bit(*n) | part_bit(*n)) != 0;
        // It would have been met by the one that is read for longest.
        let since = (0..MEASURES_MAX).filter(counts_for).filter_map(|n| self.reads_since.get(n)).min();
        self.watched_since.max(since.copied().unwrap_or_default())
    }

    /// Puts what a point adds into its slot, or keeps it until there are slots.
    fn add(
        &mut self,
        to: &mut PutInto<'_>,
        place: &PointPlace<'_>,
        point: &PointObservation,
        (delta, counts): (&Delta, &[u64]),
        now: UnixNanos,
    ) -> Option<Disposition> {
        self.learn(place.meta, delta, now);
        if self.timing.is_some() {
            return self.put(to, place, (delta, counts), point.arrival, now);
        }
        // A stream that was heard of once does not tell how long a slot is.
        let end = delta.end.slot();
        self.earliest = Some(self.earliest.map_or(end, |earliest| earliest.min(end)));
        let kept = to.version.metered.as_mut()?.early.keep(place, point, delta, counts);
        (!kept).then_some(Disposition::Discarded(Discard::BasePoint))
    }

    /// Puts a difference into its slot. One whose slot is closed still counts in the error budget, if its metric is
    /// the one that counts.
    fn put(
        &mut self,
        to: &mut PutInto<'_>,
        place: &PointPlace<'_>,
        (delta, counts): (&Delta, &[u64]),
        arrival: UnixNanos,
        now: UnixNanos,
    ) -> Option<Disposition> {
        let placement = self.placement(to, place, delta, arrival);
        let PutInto { version, objectives, .. } = to;
        let addition = Addition {
            stream: place.meta,
            start: delta.start,
            end: delta.end,
            arrival,
            count: delta.count,
            shape: delta.shape,
            counts,
            bounds: place.bounds,
        };
        let side = version.metered.as_mut()?;
        // The side of a version that was met before the interval was known has had no slot yet.
        if let Some(timing) = self.timing.filter(|timing| timing.slot_s() != side.slot_s()) {
            side.begin_anew(timing, self.next);
        }
        side.open.set_wanted(self.wanted);
        let placed = side.open.record(&addition, placement);
        self.arrivals.add(now.slot(), 1, u64::from(placed != Placed::Counted));
        match placed {
            Placed::Late => {
                if self.choice.counts(place.meta.family, &side.sent) && version.shows(Source::Metrics) {
                    let failed = if place.meta.outcome == Outcome::Bad { delta.count } else { 0 };
                    let operation = version.operation(place.meta.series);
                    objectives.late(delta.end.slot(), operation, delta.count, failed);
                }
                return Some(Disposition::Late);
            }
            Placed::Future => return Some(Disposition::Future),
            Placed::Counted => {}
        }
        if delta.count > 0 && place.meta.family != Family::Measure {
            version.see(delta.start, delta.end);
        }
        None
    }

    /// Where the requests of a point belong, which all points of an export have in common.
    fn placement(
        &mut self,
        to: &mut PutInto<'_>,
        place: &PointPlace<'_>,
        delta: &Delta,
        arrival: UnixNanos,
    ) -> Placement {
        let (version, instance) = (place.version, place.meta.instance);
        to.version.note_cohorts(place.meta.series, instance);
        let of = (version, instance, delta.start, delta.end, arrival);
        if let Some(export) = to.export.as_mut().filter(|export| export.of == of) {
            export.points += 1;
            return export.placement;
        }
        self.end_export(&mut to.export);
        let placement = to.version.metered_placement(instance, delta, arrival, place.ordinal);
        to.export = Some(Export { of, placement, points: 1 });
        placement
    }

    /// Learns how late the points of an export came.
    pub(super) fn end_export(&mut self, export: &mut Option<Export>) {
        if let Some(Export { of: (version, instance, _, end, arrival), points, .. }) = export.take() {
            self.lateness.record_many(version, instance, end, arrival, points);
        }
    }

    /// Learns how often instances export; the first answer fixes the slots.
    fn learn(&mut self, stream: &StreamMeta, delta: &Delta, now: UnixNanos) {
        // An idle stream of deltas skips exports, but each of its points says how long its interval was; the first
        // one may have begun in the middle of one.
        let gap = match stream.temporality {
            Temporality::Delta => delta.since_last.map(|_| delta.end.since(delta.start)),
            Temporality::Cumulative => delta.since_last,
        };
        if let Some(gap) = gap.filter(|gap| *gap > 0) {
            self.interval.note(gap);
        }
        if self.timing.is_none()
            && let Some(seconds) = self.interval.mode()
        {
            let end = self.earliest.map_or(delta.end.slot(), |earliest| earliest.min(delta.end.slot()));
            let oldest = self.lateness.open_from(now).min(end).max(now.slot() - CATCH_UP_S);
            self.begin(Timing::of_slot(seconds), oldest);
        }
    }

    /// Slots of this length from now on; what is open lies in slots of another.
    fn begin(&mut self, timing: Timing, oldest: Slot) {
        self.timing = Some(timing);
        self.next = timing.slot_of(oldest);
        self.form = Form::default();
    }

    /// The slot to close next, if its time has come; not before `spans`, the oldest open slot of spans, where their
    /// requests are counted as well.
    fn due(&mut self, now: UnixNanos, spans: Option<Slot>) -> Option<Slot> {
        let timing = self.timing?;
        let open_from = self.lateness.open_from(now);
        let open_from = spans.map_or(open_from, |spans| open_from.min(spans));
        self.next = self.next.max(timing.slot_of(open_from - CATCH_UP_S));
        (self.next + timing.slot_s() <= open_from).then_some(self.next)
    }

    /// Share of the points of the last 5 minutes that came in time.
    fn completeness(&self, now: UnixNanos) -> f64 {
        let [all, missed] = self.arrivals.last_5m(now.slot());
        if all == 0 { 1.0 } else { 1.0 - missed as f64 / all as f64 }
    }

    pub(in crate::pipeline) fn save(&self, out: &mut Writer) {
        self.timing.save(out);
        self.lateness.current_seconds().save(out);
        self.choice.class().map(|class| class as u8).save(out);
        self.form.save(out);
        self.measure_forms.save(out);
        self.shown.save(out);
        self.watched_since.save(out);
    }

    /// As it was before a restart at `now`. What a counter began before we looked stays so.
    pub(in crate::pipeline) fn load(
        from: &mut Reader<'_>,
        config: LatenessConfig,
        now: UnixNanos,
    ) -> Result<Self, Corrupt> {
        let timing = Option::<Timing>::load(from)?;
        let lateness = LatenessConfig { initial: f64::load(from)?, ..config };
        let class = Option::<u8>::load(from)?;
        let mut metered = Self::new(lateness, now);
        metered.choice = Choice::of(class.map(class_of).transpose()?);
        metered.form = Form::load(from)?;
        metered.measure_forms = BTreeMap::load(from)?;
        metered.shown = BTreeMap::load(from)?;
        metered.watched_since = UnixNanos::load(from)?;
        if let Some(timing) = timing {
            metered.timing = Some(timing);
            metered.next = timing.slot_of(now.slot()) + timing.slot_s();
        }
        Ok(metered)
    }
}

/// What the buckets of all living versions share with `begin`. What cannot be judged has a say only where nothing can.
pub(super) fn common_form(
    versions: &Versions,
    begin: Form,
    margin: i32,
    form: impl Fn(&MeteredVersion) -> Option<&Form>,
) -> Form {
    let of = |is_judged: bool| {
        let living = versions.iter().filter(move |(label, v)| !v.ended && is_version(label) == is_judged);
        let forms = living.filter_map(|(_, version)| form(version.metered.as_ref()?));
        forms.fold(begin.clone(), |form, own| form.shared(own, margin))
    };
    Some(of(true)).filter(|form| *form != Form::Unknown).unwrap_or_else(|| of(false))
}

fn class_of(number: u8) -> Result<Class, Corrupt> {
    let all = [Class::Sdk, Class::SpanDuration, Class::SpanCalls, Class::OtherDuration, Class::OtherCalls];
    all.get(usize::from(number)).copied().ok_or(Corrupt::Body)
}

impl Service {
    /// Closes and judges the intervals whose time has come.
    pub(in crate::pipeline) fn tick_metrics(
        &mut self,
        now: UnixNanos,
        blindness: &Blindness,
        commit: &mut Commit,
    ) {
        if let Some(metered) = &mut self.metered {
            metered.lateness.renew(now);
        }
        self.settle_early(now);
        self.change_interval(now);
        let spans = self.counts_requests_of_spans().then_some(self.next);
        while let Some(slot) = self.metered.as_mut().and_then(|metered| metered.due(now, spans)) {
            self.close_interval(slot, now, blindness, commit);
            if let Some(metered) = &mut self.metered {
                metered.next = slot + metered.slot_s().unwrap_or(1);
            }
        }
    }

    /// Points that came before the interval was known go into their slots, now that there are some. Those that
    /// have waited for longer than any interval are a base, as if we had begun to look after them.
    fn settle_early(&mut self, now: UnixNanos) {
        let Some(metered) = &mut self.metered else { return };
        for version in self.versions.values_mut() {
            let Some(side) = version.metered.as_mut().filter(|side| side.early.len() > 0) else { continue };
            if metered.timing.is_none() {
                let given_up = side.early.give_up(now);
                self.ledger.settle(Signal::Metrics, Disposition::Discarded(Discard::BasePoint), given_up);
                continue;
            }
            let early = side.early.take();
            let mut to = PutInto { version, objectives: &mut self.objectives, export: None };
            for early in early {
                let what = (&early.delta, &*early.counts);
                let became = metered.put(&mut to, &early.place(), what, early.arrival, now);
                became.into_iter().for_each(|became| self.ledger.settle(Signal::Metrics, became, 1));
            }
            metered.end_export(&mut to.export);
        }
    }

    /// Begins anew where the service exports at another interval now, unless a deployment waits for its verdict.
    fn change_interval(&mut self, now: UnixNanos) {
        let is_deciding = self.is_deciding();
        let Some(metered) = self.metered.as_mut().filter(|_| !is_deciding) else { return };
        let Some(changed) = metered.slot_s().and_then(|current| metered.interval.change_from(current)) else {
            return;
        };
        let timing = Timing::of_slot(changed);
        let oldest = metered.lateness.open_from(now);
        metered.begin(timing, oldest);
        metered.interval.forget();
        let next = metered.next;
        for version in self.versions.values_mut() {
            let Some(side) = &mut version.metered else { continue };
            let open = side.begin_anew(timing, next);
            let sent = side.sent.clone();
            for interval in open {
                self.ledger.settle(Signal::Metrics, Disposition::Late, interval.points());
                if version.shows(Source::Metrics) {
                    let counts = |family| metered.choice.counts(family, &sent);
                    for (series, requests, failed) in interval.by_operation(counts) {
                        self.objectives.late(interval.slot(), version.operation(series), requests, failed);
                    }
                }
            }
        }
        self.running.iter_mut().for_each(|running| running.forget(Source::Metrics));
    }

    fn close_interval(&mut self, slot: Slot, now: UnixNanos, blindness: &Blindness, commit: &mut Commit) {
        let closed = self.reduce(slot);
        let is_blind = blindness.covers(Source::Metrics, slot);
        let is_usual = self.leave_out_failing();
        let Some(metered) = &self.metered else { return };
        let context = Surroundings {
            gone_not_before: self.gone_not_before,
            late_data: metered.completeness(now) < COMPLETE,
            coarse_scale: metered.form.coarse_scale(),
        };
        for (label, one) in &closed {
            let Some(version) = self.versions.get_mut(label) else { continue };
            version.show(Source::Metrics, one.total.n);
            if version.shows(Source::Metrics) {
                self.objectives.close(slot, one);
                if !is_blind {
                    hours::count(self.hours.as_deref_mut().filter(|_| is_usual), slot, one);
                }
            }
            if let Some(side) = &mut version.metered {
                side.count(slot, &one.total);
                if !is_blind {
                    side.memory.begin_of(slot, one.is_present(), &one.arm);
                }
            }
        }
        if is_blind {
            return;
        }
        for running in &mut self.running {
            running.judge_slot((Source::Metrics, slot), &closed, &self.versions, context, now, commit);
        }
        for (label, one) in &closed {
            if let Some(side) = self.versions.get_mut(label).and_then(|v| v.metered.as_mut()) {
                side.memory.end(slot, &one.arm.warm, &one.arm);
            }
        }
    }

    /// Closes the interval of all versions and reduces it to the metric that counts, in the common form.
    fn reduce(&mut self, slot: Slot) -> BTreeMap<Arc<str>, Closed> {
        let (is_deciding, margin) = (self.is_deciding(), self.policy.latency_margin);
        let Some(metered) = &mut self.metered else { return BTreeMap::new() };
        let mut intervals: BTreeMap<Arc<str>, ClosedInterval> = BTreeMap::new();
        let mut measured = BTreeMap::new();
        for (label, version) in &mut self.versions {
            let Some(side) = &mut version.metered else { continue };
            if let Some(timing) = metered.timing.filter(|timing| timing.slot_s() != side.slot_s()) {
                side.begin_anew(timing, slot);
            }
            let mut interval = side.open.close(slot);
            measured.insert(Arc::clone(label), interval.take_measured());
            self.ledger.settle(Signal::Metrics, Disposition::Late, interval.passed_over);
            side.sent.extend(interval.families());
            metered.choice.note(label, interval.families().map(Family::class));
            intervals.insert(Arc::clone(label), interval);
        }
        // By a metric that one of them has never sent nothing was compared so far: the choice may still change.
        let chosen = metered.choice.class();
        let lacks = |side: &MeteredVersion| {
            !side.sent.is_empty() && side.sent.iter().all(|family| Some(family.class()) != chosen)
        };
        let mut judged = self.versions.iter().filter(|(label, _)| is_version(label));
        let one_lacks = judged.any(|(_, version)| version.metered.as_deref().is_some_and(lacks));
        let anew = metered.choice.look(is_deciding && !one_lacks);
        for (label, version) in &mut self.versions {
            let Some((side, interval)) = version.metered.as_mut().zip(intervals.get(label)) else { continue };
            if anew {
                side.forget();
            }
            interval.admit(&mut side.form, margin, |family| metered.choice.counts(family, &side.sent));
        }
        // While something is compared the form may only shrink: other bounds begin latencies anew.
        let begin = if is_deciding && !anew { metered.form.clone() } else { Form::default() };
        metered.form = common_form(&self.versions, begin, margin, |side| Some(&side.form));
        let mut closed = BTreeMap::new();
        for (label, interval) in intervals {
            let Some(version) = self.versions.get_mut(&label) else { continue };
            let Some(side) = &mut version.metered else { continue };
            side.is_on_grid = matches!(metered.form, Form::Grid(_));
            let reduced = interval.reduce(&metered.form, |family| metered.choice.counts(family, &side.sent));
            self.ledger.settle(Signal::Metrics, Disposition::Aggregated, reduced.points);
            self.ledger.settle(Signal::Metrics, Disposition::Discarded(Discard::OtherMetric), reduced.unused);
            closed.insert(label, version.named(&reduced.slot, metered.form.bounds()));
        }
        if anew {
            self.running.iter_mut().for_each(|running| running.forget(Source::Metrics));
        }
        self.measure_interval(slot, &mut closed, &measured);
        closed
    }

    /// Versions whose counters began no later than this are not known any more. Their processes may come back, and what
    /// their counters hold was counted: it is as if we had begun to look after that.
    pub(in crate::pipeline) fn watch_after(&mut self, start: UnixNanos) {
        let since = start.plus_nanos(1);
        self.watched_since = self.watched_since.max(since);
        if let Some(metered) = &mut self.metered {
            metered.watched_since = metered.watched_since.max(since);
        }
    }

    /// Forgets streams that were not heard of since `before`; by version, their identities.
    pub(in crate::pipeline) fn forget_streams(&mut self, before: UnixNanos) -> Vec<(VersionId, Vec<u128>)> {
        let with_id = self.versions.values_mut().filter_map(|v| Some((v.id?, v.metered.as_mut()?)));
        let forgotten = with_id.map(|(id, side)| (id, side.forget_streams(before)));
        forgotten.filter(|(_, keys)| !keys.is_empty()).collect()
    }
}
