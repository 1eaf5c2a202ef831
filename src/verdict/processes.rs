//! A set of processes of a deployment: one per SLI at service level and per operation, each with its share of
//! alpha. There is one set for the decision, one for the watch after it, and one that no FAIL reads. What goes
//! in is logged as [`Term`]s, so that whoever doubts a verdict can redo the sum.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::beside::{Beside, Name};
use super::evidence::Sli;
use super::process::{Process, Shape};
use super::slot_log::{LINES, SlotLog};
use crate::model::Slot;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer, snapshot_fields};
use crate::stats::{STEPS, Steps, Term, ln_sum_exp};

/// Names one process.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// By operation, the service first, then by SLI.
impl Ord for Key {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        let operation = match (&self.operation, &other.operation) {
            (Some(one), Some(two)) => one.order(two),
            (one, two) => one.is_some().cmp(&two.is_some()),
        };
        operation.then_with(|| self.sli.cmp(&other.sli))
    }
}

impl PartialOrd for Key {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Name for Key {
    #[inline]
    fn order(&self, other: &Self) -> Ordering {
        self.cmp(other)
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
    each: BTreeMap<Key, Kept>,
    /// At most [`LINES`] lines, about 100 bytes each; older ones are folded into the checkpoint.
    log: VecDeque<Logged>,
    checkpoint: BTreeMap<Key, Process>,
}

/// A process with what went in.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    process: Process,
    totals: [f64; 4],
    /// What [`Process::ln`] says, once somebody asked since it last changed: the verdict of a slot and the evidence
    /// shown of it ask the same.
    ln: Cell<Option<f64>>,
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.process == other.process && self.totals == other.totals
    }
}

impl Kept {
    fn new(process: Process, totals: [f64; 4]) -> Self {
        Self { process, totals, ln: Cell::new(None) }
    }

    fn advance(&mut self, t: Slot) {
        let before = self.process.elapsed_s();
        self.process.advance(t);
        if self.process.elapsed_s() != before {
            self.ln.set(None);
        }
    }

    fn add(&mut self, t: Slot, nats: &Steps) {
        self.process.add(t, nats);
        self.ln.set(None);
    }

    /// ln E or ln R.
    pub(crate) fn ln(&self) -> f64 {
        if let Some(known) = self.ln.get() {
            return known;
        }
        let ln = self.process.ln();
        self.ln.set(Some(ln));
        ln
    }

    /// Candidate requests, bad ones, baseline requests, bad ones that went in.
    pub(crate) const fn totals(&self) -> [f64; 4] {
        self.totals
    }
}

/// The log is not part of a snapshot: after a restart the redo begins at the processes as they stood.
impl Snapshot for Processes {
    fn save(&self, out: &mut Writer) {
        self.shape.save(out);
        // As two maps.
        (self.each.len() as u32).save(out);
        for (key, kept) in &self.each {
            key.save(out);
            kept.process.save(out);
        }
        (self.each.len() as u32).save(out);
        for (key, kept) in &self.each {
            key.save(out);
            kept.totals.save(out);
        }
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let (shape, checkpoint) = (Shape::load(from)?, BTreeMap::<Key, Process>::load(from)?);
        let totals = BTreeMap::<Key, [f64; 4]>::load(from)?;
        let kept = |(key, process): (&Key, &Process)| {
            (key.clone(), Kept::new(process.clone(), totals.get(key).copied().unwrap_or_default()))
        };
        Ok(Self { shape, each: checkpoint.iter().map(kept).collect(), log: VecDeque::new(), checkpoint })
    }
}

impl Processes {
    pub(crate) fn new(shape: Shape) -> Self {
        let (each, log, checkpoint) = Default::default();
        Self { shape, each, log, checkpoint }
    }

    /// Adds the terms of slot `t` to a process, which begins in slot `start` if it has not yet; a watch
    /// begins with its set.
    pub(crate) fn add(&mut self, key: Key, terms: &[Term], t: Slot, start: Slot) {
        let Some(first) = terms.first() else { return };
        let start = self.shape.watch_from.unwrap_or(start);
        let mut nats: Steps = [0.0; STEPS];
        let shape = self.shape;
        let fresh = || Kept::new(shape.process(first, start), [0.0; 4]);
        let kept = self.each.entry(key.clone()).or_insert_with(fresh);
        for term in terms {
            term.add_to(&mut nats, term.ladder());
            kept.totals.iter_mut().zip(term.counts()).for_each(|(sum, v)| *sum += v);
            self.log.push_back(Logged { slot: t, start, key: key.clone(), term: *term });
        }
        kept.add(t, &nats);
        self.fold_oldest();
    }

    /// Moves the lines that are too many from the log into the checkpoint, oldest first.
    fn fold_oldest(&mut self) {
        while self.log.len() > LINES {
            let Some(first) = self.log.pop_front() else { return };
            let process = process_of(self.shape, &mut self.checkpoint, &first);
            add_line(process, &first);
            // What one slot added to a process stands in a row.
            while self.log.len() > LINES && self.log.front().is_some_and(|line| line.key == first.key) {
                self.log.pop_front().iter().for_each(|line| add_line(process, line));
            }
        }
    }

    /// Gives the log up: nothing more goes in, and the evidence of the decision has taken its copy.
    pub(crate) fn close_log(&mut self) {
        self.log = VecDeque::new();
        self.checkpoint = self.each.iter().map(|(key, kept)| (key.clone(), kept.process.clone())).collect();
    }

    /// Forgets the log so far and what stood before it: for sets whose log no decision is shown with, because the log
    /// is most of what they take.
    pub(crate) fn forget_log(&mut self) {
        (self.log, self.checkpoint) = Default::default();
    }

    /// Executes block ends and restarts of all processes up to slot `t`.
    pub(crate) fn advance(&mut self, t: Slot) {
        self.each.values_mut().for_each(|kept| kept.advance(t));
    }

    /// ln E or ln R of a process; 0 where it has not begun.
    pub(crate) fn ln(&self, key: &Key) -> f64 {
        self.each.get(key).map_or(0.0, Kept::ln)
    }

    /// ln of the weighted sum of all processes. Of those that decide, one that has not begun counts as 1; a
    /// watch that has not begun counts nothing.
    pub(crate) fn ln_combined(&self, weights: &BTreeMap<Key, f64>) -> f64 {
        if weights.is_empty() && !self.is_watch() {
            return 0.0;
        }
        let not_begun = if self.is_watch() { None } else { Some(0.0) };
        let mut begun = self.in_order();
        let mut terms = Vec::with_capacity(weights.len());
        terms.extend(
            weights.iter().filter_map(|(key, w)| Some(begun.find(key).map(Kept::ln).or(not_begun)? + w.ln())),
        );
        ln_sum_exp(terms.iter().copied())
    }

    /// All that began, for who asks for them in the order of their keys.
    pub(crate) fn in_order(&self) -> Beside<'_, Key, Kept> {
        Beside::of(&self.each)
    }

    /// Whether its processes hold R rather than E.
    pub(crate) fn is_watch(&self) -> bool {
        self.shape.watch_from.is_some()
    }

    /// ln of the mass that began to bet up to slot `t`: what a process holds divided by it is an e-value.
    pub(crate) fn ln_mass(&self, t: Slot) -> f64 {
        self.shape.ln_mass(t)
    }

    pub(crate) fn start(&self, key: &Key) -> Option<Slot> {
        self.each.get(key).map(|kept| kept.process.start())
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
    add_line(process_of(shape, each, line), line);
}

fn process_of<'a>(shape: Shape, each: &'a mut BTreeMap<Key, Process>, line: &Logged) -> &'a mut Process {
    each.entry(line.key.clone()).or_insert_with(|| shape.process(&line.term, line.start))
}

fn add_line(process: &mut Process, line: &Logged) {
    let mut nats: Steps = [0.0; STEPS];
    line.term.add_to(&mut nats, line.term.ladder());
    process.add(line.slot, &nats);
}

#[cfg(test)]
impl Processes {
    pub(crate) fn log(&self) -> &VecDeque<Logged> {
        &self.log
    }

    pub(crate) fn begun(&self) -> impl Iterator<Item = (&Key, f64)> {
        self.each.iter().map(|(key, kept)| (key, kept.ln()))
    }
}
