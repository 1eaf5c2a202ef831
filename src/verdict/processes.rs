//! A set of processes of a deployment: one per SLI at service level and per operation, each with its share of
//! alpha. There is one set for the decision, one for the watch after it, and one that no FAIL reads. What goes
//! in is logged as [`Term`]s, so that whoever doubts a verdict can redo the sum.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::evidence::Sli;
use super::process::{Process, Shape};
use super::slot_log::{LINES, SlotLog};
use crate::model::Slot;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer, snapshot_fields};
use crate::stats::{STEPS, Steps, Term, ln_sum_exp};

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

    /// Place of an SLI of the policy's own in the policy.
    fn place(&self) -> u8 {
        if let Sli::Own(place) = self.sli { place } else { 0 }
    }

    /// The name in traces: `service/err`, `operation/GET /a/err`.
    pub fn name(&self) -> String {
        match &self.operation {
            None if matches!(self.sli, Sli::Own(_)) => format!("own/{}", self.place()),
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

/// Processes by key, with the totals that went in and the log of the last of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Processes {
    shape: Shape,
    each: BTreeMap<Key, Process>,
    totals: BTreeMap<Key, [f64; 4]>,
    /// At most [`LINES`] lines, about 100 bytes each; older ones are folded into the checkpoint.
    log: VecDeque<Logged>,
    checkpoint: BTreeMap<Key, Process>,
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

    /// Adds the terms of slot `t` to a process, which begins in slot `start` if it has not yet; a watch
    /// begins with its set.
    pub(crate) fn add(&mut self, key: Key, terms: &[Term], t: Slot, start: Slot) {
        let Some(first) = terms.first() else { return };
        let start = self.shape.watch_from.unwrap_or(start);
        let mut nats: Steps = [0.0; STEPS];
        let totals = self.totals.entry(key.clone()).or_default();
        for term in terms {
            term.add_to(&mut nats, term.ladder());
            totals.iter_mut().zip(term.counts()).for_each(|(sum, v)| *sum += v);
            self.log.push_back(Logged { slot: t, start, key: key.clone(), term: *term });
        }
        let shape = self.shape;
        self.each.entry(key).or_insert_with(|| shape.process(first, start)).add(t, &nats);
        while self.log.len() > LINES {
            self.fold_oldest();
        }
    }

    /// Moves the oldest line from the log into the checkpoint.
    fn fold_oldest(&mut self) {
        if let Some(line) = self.log.pop_front() {
            apply(self.shape, &mut self.checkpoint, &line);
        }
    }

    /// Gives the log up: nothing more goes in, and the evidence of the decision has taken its copy.
    pub(crate) fn close_log(&mut self) {
        self.log = VecDeque::new();
        self.checkpoint.clone_from(&self.each);
    }

    /// Executes block ends and restarts of all processes up to slot `t`.
    pub(crate) fn advance(&mut self, t: Slot) {
        self.each.values_mut().for_each(|p| p.advance(t));
    }

    /// ln E or ln R of a process; 0 where it has not begun.
    pub(crate) fn ln(&self, key: &Key) -> f64 {
        self.each.get(key).map_or(0.0, Process::ln)
    }

    /// ln of the weighted sum of all processes. Of those that decide, one that has not begun counts as 1; a
    /// watch that has not begun counts nothing.
    pub(crate) fn ln_combined(&self, weights: &BTreeMap<Key, f64>) -> f64 {
        if weights.is_empty() && !self.is_watch() {
            return 0.0;
        }
        let not_begun = if self.is_watch() { None } else { Some(0.0) };
        let ln = |key: &Key| self.each.get(key).map(Process::ln).or(not_begun);
        let terms: Vec<f64> = weights.iter().filter_map(|(key, w)| Some(ln(key)? + w.ln())).collect();
        ln_sum_exp(terms.iter().copied())
    }

    /// Whether its processes hold R rather than E.
    pub(crate) fn is_watch(&self) -> bool {
        self.shape.watch_from.is_some()
    }

    /// ln of the mass that began to bet up to slot `t`: what a process holds divided by it is an e-value.
    pub(crate) fn ln_mass(&self, t: Slot) -> f64 {
        self.shape.ln_mass(t)
    }

    /// Candidate requests, bad ones, baseline requests, bad ones that went into a process.
    pub(crate) fn totals(&self, key: &Key) -> [f64; 4] {
        self.totals.get(key).copied().unwrap_or_default()
    }

    pub(crate) fn start(&self, key: &Key) -> Option<Slot> {
        self.each.get(key).map(Process::start)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// The log and what stood before it, as of slot `through`.
    pub(crate) fn slot_log(&self, through: Slot) -> SlotLog {
        let (checkpoint, lines) = (self.checkpoint.clone(), self.log.iter().cloned().collect());
        SlotLog { shape: self.shape, through, checkpoint, lines }
    }
}

/// Adds a line to the process it is about.
pub(super) fn apply(shape: Shape, each: &mut BTreeMap<Key, Process>, line: &Logged) {
    let mut nats: Steps = [0.0; STEPS];
    line.term.add_to(&mut nats, line.term.ladder());
    each.entry(line.key.clone())
        .or_insert_with(|| shape.process(&line.term, line.start))
        .add(line.slot, &nats);
}

#[cfg(test)]
impl Processes {
    pub(crate) fn log(&self) -> &VecDeque<Logged> {
        &self.log
    }

    pub(crate) fn begun(&self) -> impl Iterator<Item = (&Key, f64)> {
        self.each.iter().map(|(key, process)| (key, process.ln()))
    }
}
