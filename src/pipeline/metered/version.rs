//! The metric side of one version: what its streams said last, its open intervals, what is remembered of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::early::Early;
use super::forgotten::Forgotten;
use super::streams::{StreamPlace, Streams};
use crate::histogram::Form;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer};
use crate::model::{Family, InstanceId, MeasureKey, PointObservation, Slot, StreamMeta, UnixNanos};
use crate::pipeline::version::{RECENT_SLOTS, Totals};
use crate::verdict::{Memory, Timing};
use crate::window::{
    ClosedInterval, Counts, Delta, History, Instances, OpenIntervals, Placement, Point, Stream, Taken,
};

/// The metric side of a version.
#[derive(Debug)]
pub(in crate::pipeline) struct MeteredVersion {
    streams: Streams,
    forgotten: Forgotten,
    /// Streams that are another version's by now, until they are retired here.
    given: Vec<u128>,
    pub(in crate::pipeline) memory: Memory,
    pub(super) open: OpenIntervals,
    /// What waits until the export interval is known.
    pub(super) early: Early,
    pub(in crate::pipeline) history: History,
    pub(in crate::pipeline) totals: Totals,
    /// What its own buckets share.
    pub(super) form: Form,
    /// The same of the measures whose latencies are compared.
    pub(super) measure_forms: BTreeMap<MeasureKey, Form>,
    /// Measures whose metric came, and whether from this version or only from one before it.
    pub(super) shown: BTreeMap<MeasureKey, bool>,
    /// Families that it has sent: of two names of one metric the legacy one does not count.
    pub(super) sent: BTreeSet<Family>,
    instances: Instances,
    /// Requests and failed ones of the newest closed slots.
    recent: VecDeque<[u64; 2]>,
    /// Whether its latencies lie on the grid, so that a quantile is a duration.
    pub(super) is_on_grid: bool,
    /// Points whose interval overlapped another of their stream: two processes write it.
    pub(in crate::pipeline) overlaps: u64,
}

impl MeteredVersion {
    pub(super) fn new(timing: Timing, open_from: Slot) -> Self {
        Self {
            streams: Streams::default(),
            forgotten: Forgotten::default(),
            given: Vec::new(),
            memory: Memory::new(timing),
            open: OpenIntervals::new(timing.slot_s(), open_from),
            early: Early::default(),
            history: History::default(),
            totals: Totals::default(),
            form: Form::default(),
            measure_forms: BTreeMap::new(),
            shown: BTreeMap::new(),
            sent: BTreeSet::new(),
            instances: Instances::new(),
            recent: VecDeque::new(),
            is_on_grid: false,
            overlaps: 0,
        }
    }

    /// Whether a point of this stream came before. `place` is where the stream was last.
    pub(super) fn knows(&self, key: u128, place: &mut StreamPlace) -> bool {
        self.streams.contains(key, place)
    }

    /// Gives up a stream that turns out to be another version's.
    pub(super) fn give(&mut self, key: u128) -> Option<Stream> {
        let known = self.streams.remove(key);
        if known.is_some() {
            self.given.push(key);
        }
        known.or_else(|| self.forgotten.give(key).map(Stream::met_again))
    }

    /// Goes on with a stream of another version: what that one counted of it is not counted here as well.
    pub(super) fn receive(&mut self, key: u128, stream: Stream) {
        self.streams.insert(key, stream);
    }

    /// What a point adds. `place` is where its stream was last.
    pub(super) fn take(
        &mut self,
        meta: &StreamMeta,
        place: &mut StreamPlace,
        point: &PointObservation,
        counts: &[u64],
        watched_since: UnixNanos,
        out: &mut Vec<u64>,
    ) -> Taken {
        let forgotten = &mut self.forgotten;
        let fresh = || Stream::met_again(forgotten.take(meta.key));
        let stream = self.streams.get_or_insert_with(meta.key, place, fresh);
        stream.touched = stream.touched.max(point.arrival);
        let point =
            Point { start: point.start, time: point.time, count: point.count, shape: point.shape, counts };
        let taken = stream.take(&point, meta.temporality, watched_since, out);
        if let Taken::Delta(delta) = &taken {
            self.overlaps += u64::from(delta.overlaps);
        }
        taken
    }

    /// Where the requests of an interval belong: young if it starts within the warm-up of its instance.
    /// Answers as well whether the instance is new.
    pub(in crate::pipeline) fn placement(
        &mut self,
        instance: InstanceId,
        delta: &Delta,
        ordinal: Option<u32>,
        warmup_s: i64,
    ) -> (Placement, bool) {
        let slot = delta.start.slot();
        let is_new = self.instances.note_at(instance, slot, ordinal.unwrap_or(0));
        (self.instances.placement(instance, slot, warmup_s), is_new)
    }

    /// Counts a closed slot.
    pub(super) fn count(&mut self, slot: Slot, total: &Counts) {
        self.totals.add(total);
        if total.n > 0 {
            self.history.add(slot, total.n, total.bad);
        }
        if self.recent.len() >= RECENT_SLOTS {
            self.recent.pop_front();
        }
        self.recent.push_back([total.n, total.bad]);
    }

    /// Closed slots that are kept one by one and cover `seconds`.
    fn slots_in(&self, seconds: i64) -> usize {
        let slots = self.memory.timing().whole(seconds) / self.memory.timing().slot_s();
        usize::try_from(slots).unwrap_or(1).clamp(1, RECENT_SLOTS)
    }

    /// Requests and failed ones of the last closed slots that cover `seconds`.
    pub(in crate::pipeline) fn last_seconds(&self, seconds: i64) -> [u64; 2] {
        let newest = self.recent.iter().rev().take(self.slots_in(seconds));
        newest.fold([0, 0], |sum, r| [sum[0] + r[0], sum[1] + r[1]])
    }

    /// Whether its closed slots of the last `seconds` are there and hold no request, and its silence is no
    /// mere gap.
    pub(in crate::pipeline) fn has_fallen_silent(&self, seconds: i64, now: Slot) -> bool {
        self.recent.len() >= self.slots_in(seconds)
            && self.last_seconds(seconds)[0] == 0
            && self.memory.is_gone(now)
    }

    /// Seconds of its slots.
    pub(in crate::pipeline) fn slot_s(&self) -> i64 {
        self.memory.timing().slot_s()
    }

    /// Requests a second over the last closed slots.
    pub(in crate::pipeline) fn rate(&self) -> f64 {
        let seconds = self.recent.len() as i64 * self.slot_s();
        let requests: u64 = self.recent.iter().map(|r| r[0]).sum();
        if seconds > 0 { requests as f64 / seconds as f64 } else { 0.0 }
    }

    /// Quantiles of its latency, as far as its buckets tell.
    pub(in crate::pipeline) fn latency_seconds(&self) -> Option<[f64; 3]> {
        self.memory.latency_seconds().filter(|_| self.is_on_grid)
    }

    /// What it counted cannot be compared any more: other slots, another metric, other buckets. Streams and
    /// totals stay. Answers what was open.
    pub(super) fn begin_anew(&mut self, timing: Timing, open_from: Slot) -> Vec<ClosedInterval> {
        self.forget();
        self.memory = Memory::new(timing);
        self.recent.clear();
        std::mem::replace(&mut self.open, OpenIntervals::new(timing.slot_s(), open_from)).into_closed()
    }

    /// Only what is remembered begins anew: another metric counts.
    pub(super) fn forget(&mut self) {
        self.memory = Memory::new(self.memory.timing());
        self.form = Form::default();
        self.measure_forms.clear();
    }

    /// Its instances, by its metrics.
    pub(in crate::pipeline) fn instances(&self) -> &Instances {
        &self.instances
    }

    /// Forgets streams that were not heard of since `before`; their identities, and those of streams that are another
    /// version's by now.
    pub(super) fn forget_streams(&mut self, before: UnixNanos) -> Vec<u128> {
        let mut old: Vec<u128> =
            self.streams.iter().filter(|(_, stream)| stream.touched < before).map(|(key, _)| key).collect();
        for key in &old {
            if let Some(stream) = self.streams.remove(*key) {
                self.forgotten.note(*key, stream.newest_start());
            }
        }
        self.streams.tidy();
        let given = std::mem::take(&mut self.given);
        let is_back = |key: &u128| self.streams.contains(*key, &mut StreamPlace::default());
        old.extend(given.into_iter().filter(|key| !is_back(key)));
        old
    }

    /// The newest start of a counter of any stream that it knew before its series ended.
    pub(in crate::pipeline) fn newest_start(&mut self) -> UnixNanos {
        self.forgotten.merge(UnixNanos::default())
    }

    /// Its series end.
    pub(in crate::pipeline) fn end(&mut self) {
        let newest = self.streams.drain().map(|stream| stream.newest_start());
        self.forgotten.merge(newest.fold(UnixNanos::default(), UnixNanos::max));
        self.instances.forget_before(Slot::MAX);
    }

    /// Points that wait in open slots or for the first of them.
    pub(in crate::pipeline) fn waiting(&self) -> u64 {
        self.open.waiting() + self.early.len()
    }

    /// Its warm-up, and that of its instances, does not begin anew after a restart.
    pub(in crate::pipeline) fn continued(&mut self, first: Slot) {
        self.instances.seen_since(first);
    }

    pub(in crate::pipeline) fn save(&self, out: &mut Writer) {
        (self.streams.len() as u32).save(out);
        let mut streams: Vec<_> = self.streams.iter().collect();
        streams.sort_unstable_by_key(|(key, _)| *key);
        for (key, stream) in streams {
            ((key >> 64) as u64).save(out);
            (key as u64).save(out);
            stream.save(out);
        }
        self.forgotten.save(out);
        self.memory.save(out);
        self.history.save(out);
        self.totals.save(out);
        self.form.save(out);
        self.measure_forms.save(out);
        self.shown.save(out);
        let sent = Family::ALL.map(|family| self.sent.contains(&family));
        sent.save(out);
        self.overlaps.save(out);
        self.waiting().save(out);
    }

    /// Reads what [`MeteredVersion::save`] wrote, and the number of points that waited then. The slot in
    /// which `now` lies counts as closed.
    pub(in crate::pipeline) fn load(from: &mut Reader<'_>, now: Slot) -> Result<(Self, u64), Corrupt> {
        let mut streams = Streams::default();
        for _ in 0..u32::load(from)? {
            let key = u128::from(u64::load(from)?) << 64 | u128::from(u64::load(from)?);
            streams.insert(key, Stream::load(from)?);
        }
        let forgotten = Forgotten::load(from)?;
        let memory = Memory::load(from)?;
        let timing = memory.timing();
        let mut version = Self::new(timing, timing.slot_of(now) + timing.slot_s());
        (version.streams, version.forgotten, version.memory) = (streams, forgotten, memory);
        version.history = History::load(from)?;
        version.totals = Totals::load(from)?;
        version.form = Form::load(from)?;
        version.measure_forms = BTreeMap::load(from)?;
        version.shown = BTreeMap::load(from)?;
        let sent = <[bool; Family::ALL.len()]>::load(from)?;
        version.sent =
            Family::ALL.into_iter().zip(sent).filter(|(_, sent)| *sent).map(|(family, _)| family).collect();
        version.overlaps = u64::load(from)?;
        Ok((version, u64::load(from)?))
    }
}
