//! What gauges of young instances show, by age. Neighbouring values of one instance say the same thing, and a young
//! instance shows others than an old one, so each instance gives one observation for each bin of its age: the mean of
//! what it reported in it. It is taken when the instance has reported past the end of the bin; one that ends before
//! gives none, for half a bin is another thing than a whole one.
//!
//! Ages count from when an instance was first heard of. That is its start only if we had been listening for a while:
//! what we find when we begin, come back or begin to read a gauge may have run for long, and is not observed. Nor is a
//! bin in which we were away. Without arrival of telemetry nothing happens here, and nothing depends on when it arrives.

use std::collections::BTreeMap;

use super::open::Placed;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer};
use crate::model::{MeasureKey, NANOS_PER_SECOND, Slot, UnixNanos};

/// Where bins of age begin and end, in seconds since an instance was first heard of.
pub const AGE_EDGES_S: [i64; AGES + 1] = [0, 60, 120, 300, 600, 1_800];
/// Bins of age.
pub const AGES: usize = 5;
/// Seconds of listening after which an instance that is heard of for the first time has just started: the longest export
/// interval. And by how much its counters may be older than that.
const LISTENED_S: i64 = 300;
/// Instances of one version that are known; of more the one that has been silent for longest is forgotten.
const INSTANCES: usize = 1_000;
/// A point this far ahead of its arrival has a wrong clock.
const FUTURE_NANOS: u64 = 5 * NANOS_PER_SECOND;

/// What a point of a gauge says, and of whom.
#[derive(Debug, Clone, Copy)]
pub struct AgePoint {
    /// Identity of its stream.
    pub stream: u128,
    /// Names its instance, the same in every run of the program; `None` where its telemetry does not.
    pub instance: Option<u64>,
    /// The first second in which the instance was heard of by other means, if it was.
    pub heard_of: Option<Slot>,
    /// When what it counts began, as far as it says; else 0.
    pub start: UnixNanos,
    /// Its time.
    pub time: UnixNanos,
    /// When it arrived.
    pub arrival: UnixNanos,
    /// What the gauge stands at.
    pub value: f64,
}

/// What an instance showed over a bin of its age.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observed {
    /// Which gauge.
    pub measure: MeasureKey,
    /// The bin.
    pub age: u8,
    /// The second in which the instance was first heard of.
    pub first: Slot,
    /// The mean of what it reported.
    pub value: f64,
}

/// What became of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// As of a span.
    Placed(Placed),
    /// It repeats what its stream said before, or is older.
    Duplicate,
}

/// The gauges of the instances of one version.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ages {
    /// By name.
    instances: BTreeMap<u64, Instance>,
    /// By identity: time and arrival of the newest point.
    streams: BTreeMap<u128, [UnixNanos; 2]>,
    /// Where the version was there before and came back: when we heard of it again.
    back_since: Option<Slot>,
}

#[derive(Debug, Clone, PartialEq)]
struct Instance {
    first: Slot,
    /// Whether it started then, as far as we know.
    is_start: bool,
    last: UnixNanos,
    open: Vec<OpenBin>,
}

#[derive(Debug, Clone, PartialEq)]
struct OpenBin {
    measure: MeasureKey,
    age: u8,
    sum: f64,
    points: u32,
}

/// The bin of an age; `AGES` beyond the last.
fn bin_of(age_s: i64) -> u8 {
    AGE_EDGES_S.iter().skip(1).filter(|end| **end <= age_s).count() as u8
}

impl Ages {
    /// Those of a version that was there before: who is heard of in the first minutes may have been as well. The time of
    /// its first point may be long ago, where it waited on the way; nothing was heard before it came.
    pub fn came_back(time: UnixNanos, arrival: UnixNanos) -> Self {
        Self { back_since: Some(time.max(arrival).slot()), ..Self::default() }
    }

    /// Takes in a point that counts for some measures, each with the second since which it is read and all that was sent
    /// was heard. What is complete by it is added to `observed`.
    pub fn read(
        &mut self,
        point: &AgePoint,
        measures: impl Iterator<Item = (MeasureKey, Slot)> + Clone,
        observed: &mut Vec<Observed>,
    ) -> Read {
        if point.time.since(point.arrival) > FUTURE_NANOS {
            return Read::Placed(Placed::Future);
        }
        let newest = self.streams.entry(point.stream).or_default();
        if point.time <= newest[0] {
            return Read::Duplicate;
        }
        *newest = [point.time, point.arrival];
        let Some(name) = point.instance else { return Read::Placed(Placed::Counted) };
        // Its points have been read since any of them was.
        let Some(read_since) = measures.clone().map(|(_, since)| since).min() else {
            return Read::Placed(Placed::Counted);
        };
        let since = self.back_since.map_or(read_since, |back| back.max(read_since));
        let instance = self.instance(name, point, since);
        let age = bin_of(point.time.slot() - instance.first);
        let mut placed = Placed::Counted;
        for (measure, since) in measures {
            if instance.add(measure, age, point.value, since, observed) == Placed::Late {
                placed = Placed::Late;
            }
        }
        Read::Placed(placed)
    }

    fn instance(&mut self, name: u64, point: &AgePoint, since: Slot) -> &mut Instance {
        if self.instances.len() >= INSTANCES
            && !self.instances.contains_key(&name)
            && let Some(silent) =
                self.instances.iter().min_by_key(|(_, known)| known.last).map(|(name, _)| *name)
        {
            self.instances.remove(&silent);
        }
        let instance = self.instances.entry(name).or_insert_with(|| {
            let now = point.time.slot();
            let first = point.heard_of.map_or(now, |heard| heard.min(now));
            let is_older = point.start.0 > 0 && point.start.slot() + LISTENED_S < first;
            let is_start = first >= since.saturating_add(LISTENED_S) && !is_older;
            Instance { first, is_start, last: point.time, open: Vec::new() }
        });
        instance.last = instance.last.max(point.time);
        instance
    }

    /// Forgets streams that were not heard of since `before`; their identities.
    pub fn forget_streams(&mut self, before: UnixNanos) -> Vec<u128> {
        let old: Vec<u128> =
            self.streams.iter().filter(|(_, at)| at[1] < before).map(|(key, _)| *key).collect();
        self.streams.retain(|_, at| at[1] >= before);
        old
    }
}

impl Instance {
    /// Adds to a bin; the one before it is complete then.
    fn add(
        &mut self,
        measure: MeasureKey,
        age: u8,
        value: f64,
        since: Slot,
        observed: &mut Vec<Observed>,
    ) -> Placed {
        if !self.is_start {
            return Placed::Counted;
        }
        let at = self.open.iter().position(|bin| bin.measure == measure);
        if let Some(at) = at {
            let bin = &mut self.open[at];
            if bin.age > age {
                return Placed::Late;
            }
            if bin.age == age {
                (bin.sum, bin.points) = (bin.sum + value, bin.points + 1);
                return Placed::Counted;
            }
            let bin = self.open.swap_remove(at);
            let began = self.first + AGE_EDGES_S[usize::from(bin.age)];
            if began >= since {
                let value = bin.sum / f64::from(bin.points);
                observed.push(Observed { measure, age: bin.age, first: self.first, value });
            }
        }
        if usize::from(age) < AGES {
            self.open.push(OpenBin { measure, age, sum: value, points: 1 });
        }
        Placed::Counted
    }
}

/// What is in open bins is not kept: we were away from them.
impl Snapshot for Instance {
    fn save(&self, out: &mut Writer) {
        self.first.save(out);
        self.is_start.save(out);
        self.last.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let (first, is_start) = (Slot::load(from)?, bool::load(from)?);
        Ok(Self { first, is_start, last: UnixNanos::load(from)?, open: Vec::new() })
    }
}

impl Snapshot for Ages {
    fn save(&self, out: &mut Writer) {
        self.instances.save(out);
        self.back_since.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let instances = BTreeMap::load(from)?;
        Ok(Self { instances, streams: BTreeMap::new(), back_since: Option::load(from)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAP: MeasureKey = MeasureKey(1);

    fn point(instance: u64, second: u64, value: f64) -> AgePoint {
        AgePoint {
            stream: u128::from(instance),
            instance: Some(instance),
            heard_of: None,
            start: UnixNanos(0),
            time: UnixNanos::from_secs(second),
            arrival: UnixNanos::from_secs(second + 1),
            value,
        }
    }

    fn read(ages: &mut Ages, point: &AgePoint, since: Slot) -> (Read, Vec<Observed>) {
        let mut observed = Vec::new();
        let became = ages.read(point, [(HEAP, since)].into_iter(), &mut observed);
        (became, observed)
    }

    /// All observations of an instance that reports every 15 s its age.
    fn of(ages: &mut Ages, (instance, from, until): (u64, u64, u64), since: Slot) -> Vec<(u8, f64)> {
        let seconds = (from..until).step_by(15);
        let each = seconds.flat_map(|s| read(ages, &point(instance, s, (s - from) as f64), since).1);
        each.map(|o| (o.age, o.value)).collect()
    }

    #[test]
    fn each_bin_gives_its_mean_once_it_is_over() {
        let mut ages = Ages::default();
        let all = [(0, 22.5), (1, 82.5), (2, 202.5), (3, 442.5), (4, 1_192.5)];
        assert_eq!(of(&mut ages, (7, 1_000, 4_000), 0), all);
        // One that ends early gives no half bin; one that pauses over a bin none for it.
        assert_eq!(of(&mut ages, (8, 1_000, 1_250), 0), all[..2]);
        read(&mut ages, &point(9, 1_000, 5.0), 0);
        let (_, observed) = read(&mut ages, &point(9, 1_500, 6.0), 0);
        assert_eq!(observed, [Observed { measure: HEAP, age: 0, first: 1_000, value: 5.0 }]);
        assert_eq!([-5, 0, 59, 60, 299, 300, 1_799, 1_800, 9_999].map(bin_of), [0, 0, 0, 1, 2, 3, 4, 5, 5]);
    }

    #[test]
    fn only_a_start_that_was_heard_is_one() {
        let none: [(u8, f64); 0] = [];
        assert_eq!(of(&mut Ages::default(), (7, 1_000, 4_000), 701), none, "we had just begun to listen");
        assert_eq!(of(&mut Ages::default(), (7, 1_000, 4_000), 700).len(), AGES);
        let back = |time, arrival| {
            let [time, arrival] = [time, arrival].map(UnixNanos::from_secs);
            of(&mut Ages::came_back(time, arrival), (7, 1_000, 4_000), 0).len()
        };
        assert_eq!(back(900, 901), 0, "its version was there before");
        assert_eq!(back(200, 900), 0, "and its first point came late");
        assert_eq!(back(699, 700), AGES);
        // Its counters are older than it seems, or its spans were heard before.
        let mut ages = Ages::default();
        let old = AgePoint { start: UnixNanos::from_secs(600), ..point(7, 1_000, 1.0) };
        read(&mut ages, &old, 0);
        assert_eq!(read(&mut ages, &point(7, 1_100, 1.0), 0).1, []);
        let heard = AgePoint { heard_of: Some(900), ..point(8, 1_000, 1.0) };
        read(&mut ages, &heard, 0);
        let (_, observed) = read(&mut ages, &point(8, 1_030, 1.0), 0);
        assert_eq!(observed, [Observed { measure: HEAP, age: 1, first: 900, value: 1.0 }]);
        let unknown = AgePoint { instance: None, ..point(1, 1_000, 1.0) };
        assert_eq!(read(&mut ages, &unknown, 0), (Read::Placed(Placed::Counted), Vec::new()));
    }

    /// Scenario: a reload names a gauge at 1,000, of instances that have run for long; another was read all along.
    /// Guarantees: what is found running is no start; one whose age another gauge tells is observed from then on, and
    /// not over a bin of which points were read in part.
    #[test]
    fn a_gauge_that_is_read_since_a_reload_tells_no_start_before() {
        let (queue, named) = (MeasureKey(2), 1_000);
        let both = [(HEAP, 0), (queue, named)];
        let read = |ages: &mut Ages, measures: &[(MeasureKey, Slot)], from: u64, until: u64| {
            let mut observed = Vec::new();
            for second in (from..until).step_by(15) {
                ages.read(&point(7, second, 1.0), measures.iter().copied(), &mut observed);
            }
            observed.into_iter().map(|o| (o.measure, o.age)).collect::<Vec<_>>()
        };
        // The first of its points comes late in its life: nobody knows how late.
        assert_eq!(read(&mut Ages::default(), &both[1..], 1_005, 4_000), []);
        assert_eq!(read(&mut Ages::default(), &both[1..], 1_300, 4_300).len(), AGES);
        let mut ages = Ages::default();
        assert_eq!(read(&mut ages, &both[..1], 900, 1_000), [(HEAP, 0)]);
        let after = read(&mut ages, &both, 1_005, 4_000);
        let of =
            |wanted| after.iter().filter(|(key, _)| *key == wanted).map(|(_, age)| *age).collect::<Vec<_>>();
        assert_eq!((of(HEAP), of(queue)), (vec![1, 2, 3, 4], vec![2, 3, 4]));
    }

    #[test]
    fn a_bin_in_which_we_were_away_is_left_out() {
        let mut ages = Ages::default();
        assert_eq!(of(&mut ages, (7, 1_000, 1_150), 0), [(0, 22.5), (1, 82.5)]);
        let mut out = Writer::default();
        ages.save(&mut out);
        let bytes = out.into_bytes();
        let mut restored = Ages::load(&mut Reader::new(&bytes)).unwrap();
        // Away from 1,200 on, back at 1,230: the third bin began before.
        let later: Vec<u8> = (1_230..4_000)
            .step_by(15)
            .flat_map(|s| read(&mut restored, &point(7, s, 1.0), 1_230).1)
            .map(|o| o.age)
            .collect();
        assert_eq!(later, [3, 4]);
    }

    #[test]
    fn repeated_late_and_future_points_are_told() {
        let mut ages = Ages::default();
        let became = |ages: &mut Ages, p: AgePoint| read(ages, &p, 0).0;
        assert_eq!(became(&mut ages, point(7, 1_000, 1.0)), Read::Placed(Placed::Counted));
        assert_eq!(became(&mut ages, point(7, 1_000, 1.0)), Read::Duplicate);
        let ahead = AgePoint { arrival: UnixNanos::from_secs(1_000), ..point(7, 1_010, 1.0) };
        assert_eq!(became(&mut ages, ahead), Read::Placed(Placed::Future));
        assert_eq!(became(&mut ages, point(7, 1_090, 1.0)), Read::Placed(Placed::Counted));
        // Another stream of the instance, from before.
        let other = AgePoint { stream: 99, ..point(7, 1_030, 1.0) };
        assert_eq!(became(&mut ages, other), Read::Placed(Placed::Late));
        assert_eq!(ages.forget_streams(UnixNanos::from_secs(1_050)), [99]);
        assert_eq!(ages.forget_streams(UnixNanos::from_secs(5_000)), [7]);
    }

    #[test]
    fn instances_are_bounded_and_the_most_silent_goes() {
        let mut ages = Ages::default();
        for name in 0..INSTANCES as u64 + 10 {
            read(&mut ages, &point(name, 1_000 + name, 1.0), 0);
        }
        assert_eq!(ages.instances.len(), INSTANCES);
        assert!(!ages.instances.contains_key(&9) && ages.instances.contains_key(&10));
    }
}
