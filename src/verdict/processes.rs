//! The set of e-processes of a deployment: one per SLI at service level and per operation, each with its
//! share of alpha. What goes in is logged as [`Term`]s, so that whoever doubts a verdict can redo the sum.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::evidence::Sli;
use super::slot_log::SlotLog;
use crate::model::Slot;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer, snapshot_fields};
use crate::stats::{EProcess, Rhythm, STEPS, Steps, Term, WatchProcess, ln_sum_exp, watch_unit};

/// Terms kept for the redo; older ones are folded into a checkpoint of the processes.
/// At about 100 bytes a line this is under 1 MB a deployment.
const LOG_CAPACITY: usize = 8_000;

/// Names one process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The operation, or `None` for the service.
    pub operation: Option<Arc<str>>,
    /// What is compared.
    pub sli: Sli,
}

impl Key {
    /// A process at service level.
    pub fn service(sli: Sli) -> Self {
        Self { operation: None, sli }
    }

    /// A process of one operation.
    pub fn operation(operation: &Arc<str>, sli: Sli) -> Self {
        Self { operation: Some(Arc::clone(operation)), sli }
    }

    /// The name in traces: `service/err`, `operation/GET /a/err`.
    pub fn name(&self) -> String {
        match &self.operation {
            None => format!("service/{}", self.sli.as_str()),
            Some(operation) => format!("operation/{operation}/{}", self.sli.as_str()),
        }
    }
}

impl Snapshot for Arc<str> {
    fn save(&self, out: &mut Writer) {
        self.to_string().save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(String::load(from)?.into())
    }
}

snapshot_fields!(Key { operation, sli });

/// One line of the slot log: what one slot added to one process.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// The slot.
    pub slot: Slot,
    /// Start of the process.
    pub start: Slot,
    /// Which process.
    pub key: Key,
    /// What went in.
    pub term: Term,
}

snapshot_fields!(Logged { slot, start, key, term });

/// How processes are made: ladder length aside, all alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    pub(crate) cap: f64,
    pub(crate) horizon_s: i64,
    pub(crate) rhythm: Rhythm,
}

snapshot_fields!(Shape { cap, horizon_s, rhythm });

impl Shape {
    fn process(self, term: &Term, start: Slot) -> EProcess {
        EProcess::new(term.ladder().len(), start, self.cap, self.horizon_s, self.rhythm)
    }
}

/// Processes by key, with the totals that went in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Processes {
    shape: Shape,
    each: BTreeMap<Key, EProcess>,
    totals: BTreeMap<Key, [f64; 4]>,
    log: VecDeque<Logged>,
    checkpoint: BTreeMap<Key, EProcess>,
}

/// The log is not part of a snapshot: after a restart the redo begins at the processes as they stood.
impl Snapshot for Processes {
    fn save(&self, out: &mut Writer) {
        self.shape.save(out);
        self.each.save(out);
        self.totals.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let (shape, each, totals) = (Shape::load(from)?, BTreeMap::load(from)?, BTreeMap::load(from)?);
        Ok(Self { shape, checkpoint: BTreeMap::clone(&each), each, totals, log: VecDeque::new() })
    }
}

impl Processes {
    pub(crate) fn new(shape: Shape) -> Self {
        let (each, totals, log, checkpoint) = Default::default();
        Self { shape, each, totals, log, checkpoint }
    }

    /// Adds the terms of slot `t` to a process, which begins in slot `start` if it has not yet.
    pub(crate) fn add(&mut self, key: Key, terms: &[Term], t: Slot, start: Slot) {
        let Some(first) = terms.first() else { return };
        let mut nats: Steps = [0.0; STEPS];
        let totals = self.totals.entry(key.clone()).or_default();
        for term in terms {
            term.add_to(&mut nats, term.ladder());
            totals.iter_mut().zip(term.counts()).for_each(|(sum, v)| *sum += v);
            self.log.push_back(Logged { slot: t, start, key: key.clone(), term: *term });
        }
        let shape = self.shape;
        self.each.entry(key).or_insert_with(|| shape.process(first, start)).add(t, &nats);
        while self.log.len() > LOG_CAPACITY {
            self.fold_oldest();
        }
    }

    /// Moves the oldest slot of one process from the log into the checkpoint.
    fn fold_oldest(&mut self) {
        if let Some(line) = self.log.pop_front() {
            apply(self.shape, &mut self.checkpoint, &line);
        }
    }

    /// Executes block ends and restarts of all processes up to slot `t`.
    pub(crate) fn advance(&mut self, t: Slot) {
        self.each.values_mut().for_each(|p| p.advance(t));
    }

    /// ln E of a process; 0 where it has not begun.
    pub(crate) fn ln_e(&self, key: &Key) -> f64 {
        self.each.get(key).map_or(0.0, EProcess::ln_e)
    }

    /// ln of the weighted average of all processes.
    pub(crate) fn ln_average(&self, weights: &BTreeMap<Key, f64>) -> f64 {
        if weights.is_empty() {
            return 0.0;
        }
        let terms: Vec<f64> = weights.iter().map(|(key, w)| self.ln_e(key) + w.ln()).collect();
        ln_sum_exp(terms.iter().copied())
    }

    /// Candidate requests, bad ones, baseline requests, bad ones that went into a process.
    pub(crate) fn totals(&self, key: &Key) -> [f64; 4] {
        self.totals.get(key).copied().unwrap_or_default()
    }

    pub(crate) fn start(&self, key: &Key) -> Option<Slot> {
        self.each.get(key).map(EProcess::start)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    pub(crate) fn log(&self) -> &VecDeque<Logged> {
        &self.log
    }

    /// The log and what stood before it, as of slot `through`: at most `lines` lines, older ones folded in.
    pub(crate) fn slot_log(&self, through: Slot, lines: usize) -> SlotLog {
        let mut checkpoint = self.checkpoint.clone();
        let older = self.log.len().saturating_sub(lines);
        self.log.iter().take(older).for_each(|line| apply(self.shape, &mut checkpoint, line));
        let lines = self.log.iter().skip(older).cloned().collect();
        SlotLog { shape: self.shape, through, checkpoint, lines }
    }
}

/// Adds a line to the process it is about.
pub(super) fn apply(shape: Shape, each: &mut BTreeMap<Key, EProcess>, line: &Logged) {
    let mut nats: Steps = [0.0; STEPS];
    line.term.add_to(&mut nats, line.term.ladder());
    each.entry(line.key.clone())
        .or_insert_with(|| shape.process(&line.term, line.start))
        .add(line.slot, &nats);
}

/// Watch processes by key: the life after the verdict.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Watches {
    cap: f64,
    start: Slot,
    rhythm: Rhythm,
    each: BTreeMap<Key, WatchProcess>,
    totals: BTreeMap<Key, [f64; 4]>,
}

snapshot_fields!(Watches { cap, start, rhythm, each, totals });

impl Watches {
    pub(crate) fn new(cap: f64, start: Slot, rhythm: Rhythm) -> Self {
        Self { cap, start, rhythm, each: BTreeMap::new(), totals: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, key: Key, terms: &[Term], t: Slot) {
        let Some(first) = terms.first() else { return };
        let mut nats: Steps = [0.0; STEPS];
        let totals = self.totals.entry(key.clone()).or_default();
        for term in terms {
            term.add_to(&mut nats, term.ladder());
            totals.iter_mut().zip(term.counts()).for_each(|(sum, v)| *sum += v);
        }
        let (cap, start, rhythm) = (self.cap, self.start, self.rhythm);
        let make = || WatchProcess::new(first.ladder().len(), start, cap, rhythm);
        self.each.entry(key).or_insert_with(make).add(t, &nats);
    }

    pub(crate) fn advance(&mut self, t: Slot) {
        self.each.values_mut().for_each(|p| p.advance(t));
    }

    /// ln of the mass that began to bet up to slot `t`: R divided by it is an e-value.
    pub(crate) fn ln_mass(&self, t: Slot) -> f64 {
        let restarts = (t - self.start).max(0) / self.rhythm.restart_s;
        (watch_unit(self.rhythm) * (1.0 + restarts as f64)).ln()
    }

    /// ln R of a watch; 0 where it has not begun.
    pub(crate) fn ln_r(&self, key: &Key) -> f64 {
        self.each.get(key).map_or(0.0, WatchProcess::ln_r)
    }

    /// Candidate requests, bad ones, baseline requests, bad ones that went into a watch.
    pub(crate) fn totals(&self, key: &Key) -> [f64; 4] {
        self.totals.get(key).copied().unwrap_or_default()
    }

    /// ln of the weighted sum of all watches; those that have not begun count nothing.
    pub(crate) fn ln_sum(&self, weights: &BTreeMap<Key, f64>) -> f64 {
        let terms: Vec<f64> =
            weights.iter().filter_map(|(key, w)| Some(self.each.get(key)?.ln_r() + w.ln())).collect();
        ln_sum_exp(terms.iter().copied())
    }
}
