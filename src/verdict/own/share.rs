//! Whether the candidate gets the share of traffic that it is meant to get. A version whose processes crash, that is
//! never ready, or that a router passes by, gets fewer requests than its weight says, and those that it gets may look
//! perfectly well. So requests themselves are compared: per unit of intended share, the baseline's against the candidate's
//! (`docs/statistics.md`, section 9.2). Both are counted in the same second, so how much traffic there is cancels.
//!
//! How many requests come together (sessions that stick to a version, a client that sends a batch) is measured where it
//! matters, on the split itself: by how much more the candidate's part of the past minutes varied from block to block than
//! chance alone makes it, for blocks of several lengths. Nothing is compared before that is known.
//!
//! The evidence counts towards a FAIL where the policy gives it weight, by default not at all. The flag has processes of
//! its own, for it also has to fall: one asks whether the candidate gets clearly fewer; once it says so, another one asks
//! whether it gets its share again, and then the first begins anew.

use std::collections::{BTreeMap, VecDeque};

use super::super::dispersion::incident_size;
use super::super::evidence::{Grain, Sli, SliEvidence};
use super::super::policy::Policy;
use super::super::process::{Process, Purpose, Shape};
use super::super::processes::{Key, Processes};
use super::super::slot_log::SlotLog;
use super::super::timing::Timing;
use super::judge::Stage;
use super::sli::{OwnEvidence, OwnSli, OwnSource, OwnTest};
use crate::model::snapshot::snapshot_fields;
use crate::model::{Slot, Source};
use crate::stats::{LADDER, LADDER_PASS, Steps, Term, block_cap, ratio_interval};

/// Seconds after another share was named in which nothing is compared: routers need a moment.
const STEP_S: i64 = 30;
/// Shares that are remembered; only those of open slots matter.
const STEPS_KEPT: usize = 16;
/// Blocks of the split that are remembered, ten minutes of those of 30 s, and those without which nothing is compared.
const BLOCKS_KEPT: usize = 20;
const BLOCKS_LEAST: usize = 6;
/// Blocks that are taken together, and so many of the longer ones are needed.
const JOINED: [usize; 3] = [1, 2, 4];
const JOINED_LEAST: usize = 3;

/// The share that is meant to go to the candidate, as it was named over time.
#[derive(Debug, Clone, PartialEq, Default)]
struct Intended {
    /// Each from its slot on; the newest last.
    steps: VecDeque<(Slot, f64)>,
}

snapshot_fields!(Intended { steps });

impl Intended {
    fn set(&mut self, from: Slot, share: f64) {
        if self.now() != Some(share) {
            if self.steps.len() >= STEPS_KEPT {
                self.steps.pop_front();
            }
            self.steps.push_back((from, share));
        }
    }

    fn now(&self) -> Option<f64> {
        self.steps.back().map(|(_, share)| *share)
    }

    /// The share of all of a slot, the policy's before one was named; `None` where it changes within the slot or has just
    /// changed, and where there is none.
    fn of(&self, t: Slot, slot_s: i64, by_policy: Option<f64>) -> Option<f64> {
        let is_moving = |(from, _): &(Slot, f64)| *from < t + slot_s && t < from.saturating_add(STEP_S);
        let named = self.steps.iter().rev().find(|(from, _)| *from <= t).map(|(_, share)| *share);
        named.or(by_policy).filter(|_| !self.steps.iter().any(is_moving))
    }
}

/// Requests of one block of the split.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Block {
    number: i64,
    /// The candidate's, and how many they were if it got its share.
    requests: f64,
    expected: f64,
    /// Those of both versions.
    all: f64,
}

snapshot_fields!(Block { number, requests, expected, all });

impl Block {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.expected += other.expected;
        self.all += other.all;
    }
}

/// How far the split varied in the past minutes.
#[derive(Debug, Clone, PartialEq, Default)]
struct Split {
    /// Closed blocks, the newest last.
    blocks: VecDeque<Block>,
    open: Option<Block>,
    /// Incident size by the closed blocks; `None` with too few.
    size: Option<f64>,
}

snapshot_fields!(Split { blocks, open, size });

impl Split {
    /// To be called before the size is used for slot `t`.
    fn close(&mut self, t: Slot, block_s: i64, kept: usize) {
        if self.open.is_some_and(|open| t.div_euclid(block_s) > open.number) {
            while self.blocks.len() >= kept {
                self.blocks.pop_front();
            }
            self.blocks.extend(self.open.take());
            self.size = (self.blocks.len() >= BLOCKS_LEAST).then(|| incident_size(self.phi()));
        }
    }

    /// To be called after the slot was compared.
    fn add(&mut self, t: Slot, block_s: i64, [requests, all]: [f64; 2], share: f64) {
        let fresh = Block { number: t.div_euclid(block_s), ..Block::default() };
        let seen = Block { requests, expected: share * all, all, ..fresh };
        self.open.get_or_insert(fresh).add(&seen);
    }

    /// Variance of the candidate's part over that of chance alone, the largest for blocks of several lengths: sessions
    /// are longer than one. What few blocks say is raised.
    fn phi(&self) -> f64 {
        let mut all = Block::default();
        self.blocks.iter().for_each(|block| all.add(block));
        if all.requests <= 0.0 {
            return 1.0;
        }
        let got = all.requests / all.expected;
        let mut phi = 1.0f64;
        for joined in JOINED {
            let number = self.blocks.len() / joined;
            if number < JOINED_LEAST {
                continue;
            }
            let newest: Vec<&Block> = self.blocks.iter().rev().take(number * joined).collect();
            let (mut seen, mut chance) = (0.0, 0.0);
            for blocks in newest.chunks(joined) {
                let mut block = Block::default();
                blocks.iter().for_each(|one| block.add(one));
                let mean = (got * block.expected).min(block.all);
                seen += (block.requests - mean).powi(2);
                chance += mean * (1.0 - mean / block.all.max(1.0));
            }
            let number = number as f64;
            if chance > 0.0 {
                phi = phi.max((1.0 + 1.0 / number.sqrt()) * seen / chance * number / (number - 1.0));
            }
        }
        phi
    }
}

/// Whether the candidate gets clearly fewer, and what asks.
#[derive(Debug, Clone, PartialEq, Default)]
struct Alarm {
    /// Asks whether it gets fewer, or while that is so, whether it gets its share again; `None` before anything was compared.
    process: Option<Process>,
    is_raised: bool,
}

snapshot_fields!(Alarm { process, is_raised });

impl Alarm {
    /// A slot of requests. Answers whether it has changed.
    fn add(&mut self, t: Slot, term: &Term, shape: Shape, [raise, lower]: [f64; 2]) -> bool {
        let process = self.process.get_or_insert_with(|| shape.process(term, t));
        let mut nats = Steps::default();
        // The other way round it is the bet of a PASS.
        term.add_to(&mut nats, if self.is_raised { &LADDER_PASS } else { &LADDER });
        process.add(t, &nats);
        let is_shown = process.ln() >= if self.is_raised { lower } else { raise };
        if is_shown {
            *self = Self { process: None, is_raised: !self.is_raised };
        }
        is_shown
    }
}

/// One such SLI of a policy.
#[derive(Debug, Clone, PartialEq, Default)]
struct ShareJudge {
    /// Its place in the policy.
    place: u8,
    split: Split,
    alarm: Alarm,
    /// First slot that was compared.
    begin: Option<Slot>,
    /// Requests that were compared: candidate's and baseline's.
    requests: [u64; 2],
    /// How many of them were the candidate's if it got its share.
    expected: f64,
}

snapshot_fields!(ShareJudge { place, split, alarm, begin, requests, expected });

/// Those of a deployment.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::verdict) struct ShareJudges {
    each: Vec<ShareJudge>,
    /// As the deployment names it; else it is the policy's.
    named: Intended,
    /// By whose requests they are judged: those on which a PASS rests when the comparison begins.
    source: Option<Source>,
    timing: Timing,
    processes: Processes,
    last_slot: Slot,
}

snapshot_fields!(ShareJudges { each, named, source, timing, processes, last_slot });

impl ShareJudges {
    /// Those of a policy; `None` without any.
    pub(in crate::verdict) fn new(policy: &Policy) -> Option<Self> {
        let own = policy.slis.iter().enumerate().filter(|(_, sli)| sli.is_share());
        let each: Vec<ShareJudge> =
            own.map(|(place, _)| ShareJudge { place: place as u8, ..ShareJudge::default() }).collect();
        let timing = Timing::default();
        (!each.is_empty()).then(|| Self {
            each,
            named: Intended::default(),
            source: None,
            timing,
            processes: Processes::new(shape(policy, timing)),
            last_slot: 0,
        })
    }

    /// The share is this from a slot on, whatever the policy says.
    pub(in crate::verdict) fn name(&mut self, from: Slot, share: f64) {
        self.named.set(from, share);
    }

    /// What a source counts now cannot be compared with what it counted: it is judged anew.
    pub(in crate::verdict) fn forget(&mut self, policy: &Policy, source: Source) {
        if self.source == Some(source)
            && let Some(fresh) = Self::new(policy)
        {
            *self = Self { named: std::mem::take(&mut self.named), ..fresh };
        }
    }

    /// Whether they are judged by this source. The first that is asked for while `is_chosen` stays.
    pub(in crate::verdict) fn are_of(
        &mut self,
        policy: &Policy,
        source: Source,
        timing: Timing,
        is_chosen: bool,
    ) -> bool {
        if self.source.is_none() && is_chosen {
            (self.source, self.timing) = (Some(source), timing);
            self.processes = Processes::new(shape(policy, timing));
        }
        self.source == Some(source)
    }

    /// Judges the requests of slot `t`: candidate's and baseline's, those of young instances included, for an instance
    /// takes its share from its first request on.
    pub(in crate::verdict) fn slot(&mut self, t: Slot, policy: &Policy, stage: Stage, requests: [u64; 2]) {
        self.last_slot = t;
        let (shape, block_s) = (shape(policy, self.timing), self.timing.dispersion_s());
        let thresholds = [policy.fail_threshold(), policy.pass_threshold()];
        let is_compared = t >= stage.begin && !stage.gone;
        for judge in self.each.iter_mut().filter(|_| is_compared) {
            let Some(OwnTest::Share { ratio, share }) =
                policy.slis.get(usize::from(judge.place)).map(|sli| &sli.test)
            else {
                continue;
            };
            let intended = self.named.of(t, self.timing.slot_s(), *share);
            let Some(share) = intended.filter(|share| *share > 0.0 && *share < 1.0) else { continue };
            // While it is missed, the split of when it was is soon forgotten.
            let kept = if judge.alarm.is_raised { BLOCKS_LEAST } else { BLOCKS_KEPT };
            judge.split.close(t, block_s, kept);
            let [x, y] = requests.map(|n| n as f64);
            if let Some(c) = judge.split.size {
                judge.requests = [0, 1].map(|i| judge.requests[i] + requests[i]);
                judge.expected += share * (x + y);
                // The arms swapped: fewer is worse.
                let term = Term::RateRatio {
                    n_c: 1.0 - share,
                    x_c: y,
                    n_b: share,
                    x_b: x,
                    r0: *ratio,
                    delta: 0.0,
                    c,
                };
                let begin = *judge.begin.get_or_insert(t);
                self.processes.add(key(judge.place), &[term], t, begin);
                if judge.alarm.add(t, &term, shape, thresholds) {
                    // How the split varies from now on is another question.
                    judge.split = Split::default();
                }
            }
            judge.split.add(t, block_s, [x, x + y], share);
        }
        self.processes.advance(t);
    }

    /// Whether the candidate gets clearly fewer requests than it is meant to.
    pub(in crate::verdict) fn is_raised(&self) -> bool {
        self.each.iter().any(|judge| judge.alarm.is_raised)
    }

    /// ln of the weighted sum of what they found; minus infinity without any of weight.
    pub(in crate::verdict) fn ln_sum(&self, policy: &Policy) -> f64 {
        let weights: BTreeMap<Key, f64> = self
            .of_policy(policy)
            .filter(|(_, sli)| sli.weight > 0.0)
            .map(|(judge, sli)| (key(judge.place), sli.weight))
            .collect();
        if weights.is_empty() { f64::NEG_INFINITY } else { self.processes.ln_combined(&weights) }
    }

    fn of_policy<'a>(&'a self, policy: &'a Policy) -> impl Iterator<Item = (&'a ShareJudge, &'a OwnSli)> {
        self.each.iter().filter_map(|judge| Some((judge, policy.slis.get(usize::from(judge.place))?)))
    }

    /// The lines of its SLIs, each with the ln of its e-value. `rest` is what remains of a weight.
    pub(in crate::verdict) fn lines(&self, policy: &Policy, rest: f64) -> Vec<(f64, SliEvidence)> {
        let source = self.source.unwrap_or_default();
        let line = |(judge, sli): (&ShareJudge, &OwnSli)| {
            let OwnTest::Share { share, .. } = sli.test else { return None };
            let ln_e = self.processes.ln(&key(judge.place));
            let all = judge.requests[0] + judge.requests[1];
            let counts = [
                judge.expected,
                judge.requests[0] as f64,
                all as f64 - judge.expected,
                judge.requests[1] as f64,
            ];
            let intended = self.named.now().or(share);
            let line = SliEvidence {
                source,
                sli: Sli::Own(judge.place),
                weight: sli.weight * rest,
                ln_e,
                requests: [all; 2],
                bad: judge.requests,
                ratio: ratio_interval(counts, 2.0 * judge.split.size.unwrap_or(1.0) - 1.0),
                grain: if intended.is_some() { Grain::Fine } else { Grain::NotTestable },
                own: Some(Box::new(OwnEvidence {
                    name: sli.name.clone(),
                    kind: sli.kind,
                    source: match source {
                        Source::Spans => OwnSource::Spans,
                        Source::Metrics => OwnSource::Metrics,
                    },
                    is_decrease: true,
                    intended,
                    expected: (all > 0).then(|| judge.expected / all as f64),
                    ..OwnEvidence::default()
                })),
                ..SliEvidence::default()
            };
            Some((ln_e, line))
        };
        self.of_policy(policy).filter_map(line).collect()
    }

    /// The log of the evidence that counts.
    pub(in crate::verdict) fn slot_log(&self) -> SlotLog {
        self.processes.slot_log(self.last_slot)
    }
}

fn key(place: u8) -> Key {
    Key::service(Sli::Own(place))
}

fn shape(policy: &Policy, timing: Timing) -> Shape {
    Shape {
        purpose: Purpose::Decision,
        cap: block_cap(policy.alpha),
        horizon_s: policy.horizon_s,
        watch_from: None,
        rhythm: timing.rhythm(),
    }
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
