//! Runs a cell many times and says what came out.

use rollguard::model::{Slot, Source};
use rollguard::pipeline::recording::step;
use rollguard::verdict::{Change, Judge, Memories, Memory, Panel, Policy, SlotInput, Timing, Verdict};

use crate::cells::{Cell, Expect};
use crate::exports::Exports;
use crate::scenario::{Scenario, Sending};
use crate::traffic::Service;

/// Confidence that the bound on false fails leaves open.
const DOUBT: f64 = 0.05;

/// How long one deployment is simulated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    /// Seconds of the baseline alone before the candidate begins.
    pub(crate) history_s: i64,
    /// Seconds from the candidate's first on.
    pub(crate) seconds: i64,
}

/// What became of one deployment; seconds from the candidate's first to the end of the deciding slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The fail, at whichever moment.
    pub(crate) failed_s: Option<i64>,
    /// The first pass, if no fail came before.
    pub(crate) passed_s: Option<i64>,
}

/// Judges one deployment. A pass does not end it: a fail after it is counted too.
pub(crate) fn deploy(scenario: Scenario, length: Length, seed: u64) -> Outcome {
    let mut service = Service::new(scenario, length.history_s, seed);
    let mut memory = Memory::default();
    let policy = Policy { warmup_s: scenario.warmup_s, ..Policy::default() };
    let mut outcome = Outcome { failed_s: None, passed_s: None };
    let mut last = 0;
    for _ in 0..length.history_s {
        let (t, _, input) = service.second();
        memory.begin(t, !input.baseline.is_silent());
        memory.end(t, &input.baseline.warm, &input.baseline);
        last = t;
    }
    let mut judge = match scenario.before_after {
        true => Judge::after(Change::new(last + 1, policy.warmup_s), policy, Timing::default()),
        false => Judge::new(policy, Timing::default()),
    };
    for _ in 0..length.seconds {
        let (t, age, input) = service.second();
        match scenario.before_after {
            // The memory is frozen at the change.
            true => judge.slot(t, &memory, &input),
            false => step(t, &mut memory, &mut judge, &input),
        }
        match judge.verdict(&memory) {
            Verdict::Fail => {
                outcome.failed_s = Some(age + 1);
                break;
            }
            Verdict::Pass => {
                outcome.passed_s.get_or_insert(age + 1);
            }
            Verdict::Pending | Verdict::Inconclusive => {}
        }
    }
    outcome
}

/// The service of [`deploy_exports`], as it is remembered and judged.
struct Panelled {
    spans: Option<Memory>,
    metrics: Memory,
    panel: Option<Panel>,
}

impl Panelled {
    fn slot(&mut self, source: Source, t: Slot, input: &SlotInput) {
        let memory = match source {
            Source::Spans => self.spans.as_mut(),
            Source::Metrics => Some(&mut self.metrics),
        };
        let Some(memory) = memory else { return };
        memory.begin(t, !input.baseline.is_silent());
        if let Some(panel) = &mut self.panel {
            panel.slot(source, t, memory, input);
        }
        memory.end(t, &input.baseline.warm, &input.baseline);
    }

    fn memories(&self) -> Memories<'_> {
        Memories { spans: self.spans.as_ref(), metrics: Some(&self.metrics) }
    }
}

/// Judges one deployment of a service that sends metrics, with or without spans.
pub(crate) fn deploy_exports(scenario: Scenario, sending: Sending, length: Length, seed: u64) -> Outcome {
    let mut exports = Exports::new(scenario, sending, length.history_s, seed);
    let mut service = Panelled {
        spans: sending.spans.then(Memory::default),
        metrics: Memory::new(Timing::of_slot(sending.interval_s)),
        panel: None,
    };
    let policy = Policy { warmup_s: scenario.warmup_s, ..Policy::default() };
    let mut outcome = Outcome { failed_s: None, passed_s: None };
    for i in 0..length.history_s + length.seconds {
        if i == length.history_s {
            service.panel = Some(Panel::new(policy.clone(), &service.memories()));
        }
        let heard = exports.second();
        service.slot(Source::Spans, heard.t, &heard.spans);
        if let Some((slot, input)) = &heard.metrics {
            service.slot(Source::Metrics, *slot, input);
        }
        let verdict = service.panel.as_ref().map(|panel| panel.verdict(&service.memories()));
        match verdict {
            Some(Verdict::Fail) => {
                outcome.failed_s = Some(heard.age + 1);
                break;
            }
            Some(Verdict::Pass) => {
                outcome.passed_s.get_or_insert(heard.age + 1);
            }
            _ => {}
        }
    }
    outcome
}

/// A row of the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What was run.
    pub(crate) cell: Cell,
    /// How often.
    pub(crate) runs: usize,
    /// Fails of a healthy candidate, or before a worse one turned bad.
    pub(crate) false_fails: usize,
    /// Delays of the right fails in seconds, sorted.
    pub(crate) delays_s: Vec<i64>,
    /// Runs that passed, fail or not later.
    pub(crate) passes: usize,
}

/// Runs a cell with consecutive seeds.
pub(crate) fn run(cell: &Cell, runs: usize, length: Length, seed: u64) -> Row {
    let mut row = Row { cell: cell.clone(), runs, false_fails: 0, delays_s: Vec::new(), passes: 0 };
    for i in 0..runs {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(i as u64);
        let outcome = match cell.sending.interval_s {
            0 => deploy(cell.scenario, length, seed),
            _ => deploy_exports(cell.scenario, cell.sending, length, seed),
        };
        row.passes += usize::from(outcome.passed_s.is_some());
        let onset_s = match cell.expect {
            Expect::Healthy => i64::MAX,
            Expect::Worse { onset_s } => onset_s,
            Expect::AtPassMargin => 0,
        };
        match outcome.failed_s {
            Some(after) if after > onset_s => row.delays_s.push(after - onset_s),
            Some(_) => row.false_fails += 1,
            None => {}
        }
    }
    row.delays_s.sort_unstable();
    row
}

impl Row {
    /// Heads of the columns.
    pub(crate) const HEAD: &'static str = "| situation | traffic | runs | false fails | found | median s | p90 s | PASS |\n\
                                    |---|---|---|---|---|---|---|---|";

    /// Share of runs in which a worse candidate was found.
    pub(crate) fn detected(&self) -> f64 {
        self.delays_s.len() as f64 / self.runs as f64
    }

    /// A quantile of the delays.
    pub(crate) fn delay_s(&self, q: f64) -> Option<i64> {
        let last = self.delays_s.len().checked_sub(1)?;
        self.delays_s.get((q * last as f64).round() as usize).copied()
    }

    /// The row as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let percent = |k: usize| format!("{:.1} %", 100.0 * k as f64 / self.runs as f64);
        let bound = 100.0 * upper_bound(self.false_fails, self.runs);
        let false_fails = match self.cell.expect {
            Expect::AtPassMargin => "-".to_owned(),
            _ => format!("{} (< {bound:.1} %)", percent(self.false_fails)),
        };
        let seconds = |q| self.delay_s(q).map_or("-".to_owned(), |s| s.to_string());
        let (found, median, p90) = match self.cell.expect {
            Expect::Healthy => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
            _ => (percent(self.delays_s.len()), seconds(0.5), seconds(0.9)),
        };
        let (name, runs) = (self.cell.name, self.runs);
        let load = match self.cell.sending.name {
            "" => self.cell.scenario.load.name.to_owned(),
            sending => format!("{}; {sending}", self.cell.scenario.load.name),
        };
        let passes = percent(self.passes);
        format!("| {name} | {load} | {runs} | {false_fails} | {found} | {median} | {p90} | {passes} |")
    }
}

/// The exact one-sided 95 % upper bound of a probability after `k` of `n` (Clopper and Pearson, 1934).
pub(crate) fn upper_bound(k: usize, n: usize) -> f64 {
    if k >= n {
        return 1.0;
    }
    let at_most_k = |p: f64| {
        let mut ln_term = n as f64 * (1.0 - p).ln();
        let mut sum = ln_term.exp();
        for i in 0..k {
            ln_term += ((n - i) as f64 / (i + 1) as f64).ln() + p.ln() - (1.0 - p).ln();
            sum += ln_term.exp();
        }
        sum
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most_k(middle) > DOUBT { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_the_tabulated_ones() {
        for (k, n, bound) in
            [(0, 60, 0.0487), (0, 2000, 0.0015), (1, 20, 0.2161), (5, 10, 0.7776), (3, 3, 1.0)]
        {
            assert!((upper_bound(k, n) - bound).abs() < 1e-4, "{k} of {n}: {}", upper_bound(k, n));
        }
    }
}
