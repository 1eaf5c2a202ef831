//! Instances that die and are replaced. A process that dies on a request takes its unexported spans with it, so no
//! failed span may ever show it; what shows is that an instance falls silent for good and another one begins in
//! its place. A death without a replacement is scaling down, a birth without a death is scaling up: neither counts.
//!
//! Being rolled out, moved to another node or restarted by hand replaces an instance once; what dies of its own
//! requests does so again. So a death is told only of an instance that took the place of a dead one itself; the totals,
//! by which a person is warned, hold all of them.
//!
//! It goes by closed seconds, whose spans have all arrived. One entry of 40 bytes per instance, and the lives that
//! ended in the last minutes.

use std::collections::{BTreeMap, VecDeque};

use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer};
use crate::model::{InstanceId, Slot};

/// Silence after which an instance counts as gone: three export intervals of an SDK that holds spans for 5 s, and
/// ten of its own mean gaps.
const SILENT_S: i64 = 15;
const SILENT_GAPS: f64 = 10.0;
/// Own mean gaps for which an instance without a span still counts as one that lives: of one that will turn out to be
/// dead, the time until that is known would count as well.
const LIVING_GAPS: f64 = 3.0;
/// Seconds by which little traffic is taken to be less than it looks: the mean gap of an instance with few spans.
const UNSURE_S: i64 = 10;
/// A replacement begins within this many seconds after the last sign of life.
const REPLACED_S: i64 = 120;
/// Seconds for which a death with a replacement waits to be sure: after a single span it takes 18 minutes.
const UNTOLD_S: i64 = 1_200;
/// Deaths below which nothing is concluded, and how many times the baseline's rate they must be.
const DEATHS_MIN: u64 = 3;
const TIMES_BASELINE: u64 = 3;

/// One instance.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Life {
    first: Slot,
    last: Slot,
    /// Seconds with a span.
    seconds: u32,
    /// Whether it took the place of one that died.
    is_replacement: bool,
    /// Whether its death was told: it was silent for long and came back.
    is_told: bool,
}

impl Life {
    /// Its mean gap, rather too long than too short.
    fn gap(&self) -> f64 {
        (self.last - self.first + 1 + UNSURE_S) as f64 / f64::from(self.seconds.max(1))
    }

    /// A mean gap that it hardly exceeds: a few spans close together say little of how often others come.
    fn longest_gap(&self) -> f64 {
        let surely = (f64::from(self.seconds).sqrt() - 1.0).powi(2).max(0.1);
        (self.last - self.first + 1 + UNSURE_S) as f64 / surely
    }
}

/// An instance that fell silent.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Lost {
    instance: InstanceId,
    life: Life,
    /// When its replacement began, once there is one.
    replaced: Option<Birth>,
}

impl Lost {
    /// Whether its death waits to be told.
    fn is_untold(&self) -> bool {
        self.replaced.is_some() && !self.life.is_told
    }
}

/// The beginning of an instance.
type Birth = (Slot, InstanceId);

/// What a closed second showed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Toll {
    /// Instances that live.
    pub living: u64,
    /// First seconds of those that are known, since the second before, to have died and been replaced after they had
    /// replaced others themselves.
    pub dead: Vec<Slot>,
}

/// The instances of one version, and how many died and were replaced.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Churn {
    living: BTreeMap<InstanceId, Life>,
    lost: VecDeque<Lost>,
    /// Beginnings that have replaced nobody yet.
    births: VecDeque<Birth>,
    deaths: u64,
    instance_seconds: u64,
}

impl Churn {
    /// Takes note of a closed second and the instances with a span in it. Where `is_telling` is not, silence says nothing
    /// (spans were refused, or we were away): whoever lives lives on, and nobody is counted. A death is told once; where
    /// somebody turns out to have been silent only, the totals take it back, and what was told stands.
    pub fn close(
        &mut self,
        slot: Slot,
        instances: impl Iterator<Item = InstanceId>,
        is_telling: bool,
    ) -> Toll {
        for instance in instances.filter(|instance| *instance != InstanceId::UNKNOWN) {
            self.see(slot, instance);
        }
        if !is_telling {
            self.living.values_mut().for_each(|life| life.last = slot);
            return Toll::default();
        }
        let dead = self.bury(slot);
        let lives = |life: &&Life| (slot - life.last) as f64 <= LIVING_GAPS * life.gap();
        let living = self.living.values().filter(lives).count() as u64;
        self.instance_seconds += living;
        Toll { living, dead }
    }

    /// A span of a closed second came late: the instance lived then.
    pub fn heard_late(&mut self, slot: Slot, instance: InstanceId) {
        if let Some(life) = self.living.get_mut(&instance) {
            life.last = life.last.max(slot);
        } else if self.lost.iter().any(|lost| lost.instance == instance && lost.life.last < slot) {
            self.come_back(slot, instance);
        }
    }

    fn see(&mut self, slot: Slot, instance: InstanceId) {
        if let Some(life) = self.living.get_mut(&instance) {
            (life.last, life.seconds) = (slot, life.seconds.saturating_add(1));
        } else if !self.come_back(slot, instance) {
            let life = Life { first: slot, last: slot, seconds: 1, is_replacement: false, is_told: false };
            self.living.insert(instance, life);
            self.births.push_back((slot, instance));
        }
    }

    /// One that was lost was only silent, so what replaced it is an addition; `false` where it is not among them.
    fn come_back(&mut self, slot: Slot, instance: InstanceId) -> bool {
        let at = self.lost.iter().position(|lost| lost.instance == instance);
        let Some(lost) = at.and_then(|at| self.lost.remove(at)) else { return false };
        if let Some(birth) = lost.replaced {
            self.deaths = self.deaths.saturating_sub(1);
            // What was told stands, and with it who took its place: a beginning is told as one death at most.
            if !lost.life.is_told {
                self.life_of(birth.1).into_iter().for_each(|life| life.is_replacement = false);
                self.births.push_back(birth);
            }
        }
        let seconds = lost.life.seconds.saturating_add(1);
        self.living.insert(instance, Life { last: slot, seconds, ..lost.life });
        true
    }

    fn life_of(&mut self, instance: InstanceId) -> Option<&mut Life> {
        let lost = self.lost.iter_mut().find(|lost| lost.instance == instance).map(|lost| &mut lost.life);
        self.living.get_mut(&instance).or(lost)
    }

    /// Gives up those that are silent for too long, and finds out who replaced them; the first seconds of those whose
    /// death is told now.
    fn bury(&mut self, slot: Slot) -> Vec<Slot> {
        let is_lost =
            |life: &Life| slot - life.last > SILENT_S && (slot - life.last) as f64 > SILENT_GAPS * life.gap();
        let silent: Vec<InstanceId> =
            self.living.iter().filter(|(_, life)| is_lost(life)).map(|(instance, _)| *instance).collect();
        for instance in silent {
            if let Some(life) = self.living.remove(&instance) {
                self.lost.push_back(Lost { instance, life, replaced: None });
            }
        }
        let mut replacements = Vec::new();
        for lost in self.lost.iter_mut().filter(|lost| lost.replaced.is_none()) {
            let last = lost.life.last;
            let own = lost.instance;
            let fits = |(birth, by): &Birth| *by != own && (last..=last + REPLACED_S).contains(birth);
            if let Some(at) = self.births.iter().position(fits) {
                lost.replaced = self.births.remove(at);
                replacements.extend(lost.replaced.map(|(_, by)| by));
                self.deaths += 1;
            }
        }
        for by in replacements {
            self.life_of(by).into_iter().for_each(|life| life.is_replacement = true);
        }
        // The count is taken back for who returns; what was told cannot be, and waits until that is hardly possible.
        let is_sure = |lost: &Lost| (slot - lost.life.last) as f64 > SILENT_GAPS * lost.life.longest_gap();
        let mut dead = Vec::new();
        for lost in self.lost.iter_mut().filter(|lost| lost.is_untold() && is_sure(lost)) {
            lost.life.is_told = true;
            if lost.life.is_replacement {
                dead.push(lost.life.first);
            }
        }
        // Twice as long: whoever is found silent late may have been replaced early.
        let old = slot - 2 * REPLACED_S;
        self.births.retain(|(birth, _)| *birth >= old);
        self.lost
            .retain(|lost| lost.life.last >= old || lost.is_untold() && lost.life.last >= slot - UNTOLD_S);
        dead
    }

    /// Deaths with a replacement, and the seconds that instances lived, all together.
    pub fn totals(&self) -> [u64; 2] {
        [self.deaths, self.instance_seconds]
    }

    /// Whether its instances die clearly more often than those of `baseline`: at least three times, and more than
    /// three times as often as if the baseline had one death more than it had.
    pub fn exceeds(&self, baseline: &Self) -> bool {
        let ([deaths, seconds], [theirs, their_seconds]) = (self.totals(), baseline.totals());
        let more = u128::from(deaths) * u128::from(their_seconds);
        let tolerated = u128::from(TIMES_BASELINE * (theirs + 1)) * u128::from(seconds);
        deaths >= DEATHS_MIN && (their_seconds == 0 || more > tolerated)
    }
}

/// Ids are void after a restart: what was counted stays, lives begin anew.
impl Snapshot for Churn {
    fn save(&self, out: &mut Writer) {
        self.totals().save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let [deaths, instance_seconds] = Snapshot::load(from)?;
        Ok(Self { deaths, instance_seconds, ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u32]) -> impl Iterator<Item = InstanceId> + '_ {
        ids.iter().map(|id| InstanceId(*id))
    }

    /// Closes `seconds` from `slot` on with these instances in each; answers the next slot.
    fn serve(churn: &mut Churn, slot: Slot, seconds: i64, instances: &[u32]) -> Slot {
        (slot..slot + seconds).for_each(|t| _ = churn.close(t, ids(instances), true));
        slot + seconds
    }

    #[test]
    fn only_a_death_with_a_replacement_counts() {
        // Seconds with these instances, one after the other; deaths.
        type Part<'a> = (i64, &'a [u32]);
        let rows: [(&str, &[Part<'_>], u64); 8] = [
            ("steady", &[(200, &[1, 2])], 0),
            ("scaled up", &[(60, &[1]), (60, &[1, 2, 3])], 0),
            ("scaled down", &[(60, &[1, 2, 3]), (200, &[1])], 0),
            ("replaced at once", &[(60, &[1, 2]), (60, &[1, 3])], 1),
            ("replaced after a while", &[(60, &[1, 2]), (90, &[1]), (60, &[1, 3])], 1),
            ("up again much later", &[(60, &[1, 2]), (130, &[1]), (60, &[1, 3])], 0),
            ("silent and back", &[(60, &[1, 2]), (30, &[1, 3]), (60, &[1, 2, 3])], 0),
            ("again and again", &[(30, &[1]), (30, &[2]), (30, &[3]), (30, &[4])], 3),
        ];
        for (name, parts, deaths) in rows {
            let (mut churn, mut slot) = (Churn::default(), 1_000);
            for (seconds, instances) in parts {
                slot = serve(&mut churn, slot, *seconds, instances);
            }
            assert_eq!(churn.totals()[0], deaths, "{name}");
        }
    }

    /// Deaths that are told: when, and the first second of who died.
    fn told(churn: &mut Churn, slot: Slot, seconds: i64, instances: &[u32]) -> Vec<(Slot, Slot)> {
        let close = |t| churn.close(t, ids(instances), true).dead.into_iter().map(move |first| (t, first));
        (slot..slot + seconds).flat_map(close).collect()
    }

    #[test]
    fn a_death_is_told_once_of_who_had_replaced_another() {
        let mut churn = Churn::default();
        assert_eq!(told(&mut churn, 1_000, 60, &[1, 2]), []);
        assert_eq!(told(&mut churn, 1_060, 60, &[1, 3]), [], "a roll-out replaces each once");
        assert_eq!(churn.totals()[0], 1, "the totals hold it");
        for t in 1_120..1_200 {
            let toll = churn.close(t, ids(&[1, 4]), true);
            // For a moment nobody knows that it does not live any more.
            assert_eq!(toll.living, if t <= 1_122 { 3 } else { 2 }, "{t}");
            // After 15 s of silence, ten times its longest gap.
            assert_eq!(toll.dead, if t == 1_135 { vec![1_060] } else { vec![] }, "{t}");
        }
    }

    #[test]
    fn who_comes_back_frees_nobody_and_is_told_no_second_time() {
        let mut churn = Churn::default();
        let mut all = Vec::new();
        all.extend(told(&mut churn, 0, 60, &[9]));
        // 1 to 3 take the place of 9 and of one another; then 4 comes while all of them are silent.
        all.extend(told(&mut churn, 60, 60, &[1]));
        all.extend(told(&mut churn, 120, 60, &[2]));
        let before = (all.len(), churn.totals()[0]);
        assert_eq!(before, (1, 2), "1 was a replacement, 9 was none");
        all.extend(told(&mut churn, 180, 40, &[4]));
        assert_eq!((all.len(), churn.totals()[0]), (2, 3), "2 is taken for dead");
        for _ in 0..4 {
            let t = 220 + 80 * (all.len() as i64);
            all.extend(told(&mut churn, t, 40, &[2, 4]));
            all.extend(told(&mut churn, t + 40, 40, &[4]));
        }
        assert_eq!(all.len(), 2, "one beginning, one death");
    }

    #[test]
    fn a_life_of_one_span_is_told_in_the_end() {
        let mut churn = Churn::default();
        told(&mut churn, 0, 60, &[1, 9]);
        told(&mut churn, 60, 1, &[2, 9]);
        let all = told(&mut churn, 61, 1_200, &[3, 9]);
        assert_eq!(all, [(60 + 1_101, 60)]);
    }

    #[test]
    fn silence_that_says_nothing_buries_nobody() {
        let mut churn = Churn::default();
        told(&mut churn, 0, 60, &[1, 2]);
        told(&mut churn, 60, 60, &[2, 3]);
        assert_eq!(churn.totals()[0], 1);
        for t in 120..160 {
            // Two of them wait to send what was refused; one more comes.
            assert_eq!(churn.close(t, ids(&[4]), false), Toll::default());
        }
        assert_eq!(told(&mut churn, 160, 60, &[2, 3, 4]), []);
        assert_eq!(churn.totals()[0], 1, "nobody died meanwhile");
    }

    #[test]
    fn late_spans_are_signs_of_life() {
        let mut churn = Churn::default();
        told(&mut churn, 0, 60, &[1, 2]);
        told(&mut churn, 60, 60, &[2, 3]);
        // 2 and 3 are silent while 4 comes; what they did meanwhile comes late.
        for t in 120..180 {
            if t % 10 == 0 {
                churn.heard_late(t - 5, InstanceId(2));
                churn.heard_late(t - 5, InstanceId(3));
            }
            assert!(churn.close(t, ids(&[4]), true).dead.is_empty(), "{t}");
        }
        assert_eq!(churn.totals()[0], 1);
        // One that is lost already, and was not.
        assert_eq!(told(&mut churn, 180, 4, &[4, 5]), []);
        assert_eq!(churn.totals()[0], 2, "5 took the place of one");
        churn.heard_late(195, InstanceId(2));
        churn.heard_late(195, InstanceId(3));
        assert_eq!(churn.totals()[0], 1);
    }

    /// Instances that begin one after the other and get a request every half minute are none that die.
    #[test]
    fn new_instances_with_little_traffic_replace_nobody() {
        let (mut churn, mut random) = (Churn::default(), fastrand::Rng::with_seed(4));
        let (mut told, mut lived) = (0, 0);
        for t in 0..1_200 {
            let seen: Vec<u32> =
                (0..20).filter(|i| i64::from(*i) * 15 <= t && random.f64() < 1.0 / 30.0).collect();
            let toll = churn.close(t, ids(&seen), true);
            (told, lived) = (told + toll.dead.len(), lived + toll.living);
        }
        assert_eq!((told, churn.totals()[0]), (0, 0));
        // 20 instances, 15 s apart.
        assert!((lived as f64 / (20.0 * (1_200.0 - 142.5)) - 0.9).abs() < 0.05, "{lived}");
    }

    #[test]
    fn an_instance_with_little_traffic_is_not_dead() {
        let mut churn = Churn::default();
        for t in 0..600 {
            let seen: &[u32] = if t % 20 == 0 { &[1] } else { &[] };
            churn.close(t, ids(seen), true);
            if t == 300 {
                churn.close(t, ids(&[2]), true);
            }
        }
        assert_eq!(churn.totals()[0], 0);
    }

    #[test]
    fn more_than_the_baseline_is_said_and_noise_is_not() {
        let with = |deaths, instance_seconds| Churn { deaths, instance_seconds, ..Churn::default() };
        let rows = [
            (with(2, 600), with(0, 6_000), false),
            (with(3, 600), with(0, 6_000), true),
            (with(3, 600), with(0, 600), false),
            (with(4, 600), with(0, 600), true),
            (with(10, 600), with(100, 6_000), false),
            (with(3, 600), with(0, 0), true),
        ];
        for (candidate, baseline, expected) in rows {
            assert_eq!(candidate.exceeds(&baseline), expected, "{candidate:?} {baseline:?}");
        }
    }

    /// Each pod dies on 0.5 % of its 10 requests a second and another takes its place at once, with a new id. Of 100
    /// seeded deployments of two pods beside two sound ones, at least 95 are told within 5 minutes; of sound ones
    /// none.
    #[test]
    fn a_crash_on_one_request_in_200_is_told_within_five_minutes() {
        let mut told = [0, 0];
        for (kind, crash) in [0.005, 0.0].into_iter().enumerate() {
            for seed in 0..100 {
                let mut random = fastrand::Rng::with_seed(seed);
                let (mut candidate, mut baseline) = (Churn::default(), Churn::default());
                let (mut pods, mut next) = ([1_u32, 2], 3);
                serve(&mut baseline, 0, 300, &[1, 2]);
                for t in 300..600 {
                    baseline.close(t, ids(&[1, 2]), true);
                    candidate.close(t, ids(&pods), true);
                    for pod in &mut pods {
                        if random.f64() < 1.0 - f64::powi(1.0 - crash, 10) {
                            (*pod, next) = (next, next + 1);
                        }
                    }
                }
                told[kind] += u32::from(candidate.exceeds(&baseline));
            }
        }
        assert!(told[0] >= 95 && told[1] == 0, "{told:?}");
    }

    #[test]
    fn what_was_counted_survives_a_restart() {
        let mut churn = Churn::default();
        let slot = serve(&mut churn, 0, 30, &[1]);
        serve(&mut churn, slot, 30, &[2]);
        let mut out = Writer::default();
        churn.save(&mut out);
        let bytes = out.into_bytes();
        let mut restored = Churn::load(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(restored.totals(), churn.totals());
        // All instances are new after it, and none of them replaces anybody.
        serve(&mut restored, 100, 60, &[7, 8]);
        assert_eq!(restored.totals()[0], 1);
    }
}
