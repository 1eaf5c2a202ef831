//! Runs a cell many times and says what came out.

use std::borrow::Cow;
use std::sync::Arc;

use rollguard::model::{Slot, Source};
use rollguard::verdict::{
    Cells, Change, EarlierReleases, Flag, Memories, Memory, Panel, Policy, SlotInput, Timing, Verdict,
};

use crate::cells::{Cell, Expect};
use crate::exports::Exports;
use crate::scenario::{SAME, Scenario, Sending};
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// The fail, at whichever moment.
    pub(crate) failed_s: Option<i64>,
    /// What a fail is for, where regions may decide.
    pub(crate) scope: Vec<String>,
    /// The first pass, if no fail came before.
    pub(crate) passed_s: Option<i64>,
    /// The first time that the flag was set which is asked for.
    pub(crate) flagged_s: Option<i64>,
    /// In which it got fast, once ten minutes of it were seen.
    pub(crate) settled_s: Option<i64>,
}

/// The service of a deployment, as it is remembered and judged.
struct Judged {
    spans: Option<Memory>,
    metrics: Option<Memory>,
    panel: Option<Panel>,
    /// Whether nothing more is remembered: since a change.
    is_frozen: bool,
}

impl Judged {
    fn slot(&mut self, source: Source, t: Slot, input: &SlotInput) {
        let memory = match source {
            Source::Spans => self.spans.as_mut(),
            Source::Metrics => self.metrics.as_mut(),
        };
        let Some(memory) = memory else { return };
        if !self.is_frozen {
            let present = !input.baseline.is_silent() || !input.started_before.is_empty();
            memory.begin_of(t, present, &input.baseline);
        }
        if let Some(panel) = &mut self.panel {
            panel.slot(source, t, memory, input);
        }
        if !self.is_frozen {
            memory.end(t, &remembered(input), &input.baseline);
        }
    }

    fn memories(&self) -> Memories<'_> {
        Memories { spans: self.spans.as_ref(), metrics: self.metrics.as_ref() }
    }
}

/// Warm requests of the baseline, those that are only remembered included.
fn remembered(input: &SlotInput) -> Cow<'_, Cells> {
    let mut seen = Cow::Borrowed(&input.baseline.warm);
    for (operation, cell) in &input.started_before {
        seen.to_mut().entry(Arc::clone(operation)).or_default().merge(cell);
    }
    seen
}

/// A slot of one source.
type Ended = (Source, Slot, SlotInput);

/// What is heard of a service, second by second.
enum Heard {
    Spans(Service),
    Exports(Exports),
}

impl Heard {
    /// Seconds since the candidate began, and the slots that ended.
    fn second(&mut self) -> (i64, [Option<Ended>; 2]) {
        match self {
            Self::Spans(service) => {
                let (t, age, input) = service.second();
                (age, [Some((Source::Spans, t, input)), None])
            }
            Self::Exports(exports) => {
                let heard = exports.second();
                let metrics = heard.metrics.map(|(slot, input)| (Source::Metrics, slot, input));
                (heard.age, [Some((Source::Spans, heard.t, heard.spans)), metrics])
            }
        }
    }
}

/// Judges one deployment, as the pipeline does. A pass does not end it: a fail after it is counted too. `awaited` is
/// the flag that is looked for, `earlier` how long releases before it took to get fast.
pub(crate) fn deploy(
    scenario: Scenario,
    sending: Sending,
    length: Length,
    (awaited, earlier): (Option<Flag>, &EarlierReleases),
    seed: u64,
) -> Outcome {
    let mut heard = match sending.interval_s {
        0 => Heard::Spans(Service::new(scenario, length.history_s, seed)),
        _ => Heard::Exports(Exports::new(scenario, sending, length.history_s, seed)),
    };
    let mut service = Judged {
        spans: sending.spans.then(Memory::default),
        metrics: (sending.interval_s > 0).then(|| Memory::new(Timing::of_slot(sending.interval_s))),
        panel: None,
        is_frozen: false,
    };
    let mut policy = Policy { warmup_s: scenario.warmup_s, ..Policy::default() };
    if let Some(dimensions) = scenario.dimensions {
        policy = dimensions.policy(policy);
    }
    let mut outcome = Outcome::default();
    for i in 0..length.history_s + length.seconds {
        let (age, slots) = heard.second();
        if i == length.history_s {
            let t = slots.iter().flatten().map(|(_, t, _)| *t).next().unwrap_or_default();
            service.is_frozen = scenario.before_after;
            service.panel = Some(match scenario.before_after {
                true => {
                    let change = Change::new(t, policy.warmup_s);
                    Panel::after(change, policy.clone(), &service.memories())
                }
                false => Panel::release(policy.clone(), &service.memories(), earlier),
            });
        }
        for (source, t, input) in slots.iter().flatten() {
            service.slot(*source, *t, input);
        }
        let Some(panel) = &service.panel else { continue };
        outcome.settled_s = panel.settled_s();
        let memories = service.memories();
        if let Some(flag) = awaited
            && outcome.flagged_s.is_none()
            && panel.flags(&memories).contains(&flag)
        {
            outcome.flagged_s = Some(age + 1);
        }
        match panel.verdict(&memories) {
            Verdict::Fail => {
                outcome.failed_s = Some(age + 1);
                let regions = panel.evidence(&memories).regions;
                outcome.scope = regions.map(|regions| regions.scope()).unwrap_or_default();
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

/// How long the releases before this one took, of those that did not fail.
fn earlier(scenario: Scenario, sending: Sending, seed: u64) -> EarlierReleases {
    let (mut earlier, length) = (EarlierReleases::default(), Length { history_s: 300, seconds: 640 });
    for i in 0..scenario.releases_before {
        let scenario = Scenario { change: SAME, ..scenario };
        let outcome = deploy(scenario, sending, length, (None, &earlier), seed ^ ((i + 1) << 40));
        if let (None, Some(seconds)) = (outcome.failed_s, outcome.settled_s) {
            earlier.note(&i.to_string(), seconds);
        }
    }
    earlier
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
    /// Delays of the right fails, or of the flag that is looked for, in seconds, sorted.
    pub(crate) delays_s: Vec<i64>,
    /// Right fails whose scope is the one region that is worse.
    pub(crate) there: usize,
    /// Runs that passed, fail or not later.
    pub(crate) passes: usize,
}

/// Runs a cell with consecutive seeds.
pub(crate) fn run(cell: &Cell, runs: usize, length: Length, seed: u64) -> Row {
    let mut row = Row { cell: cell.clone(), runs, false_fails: 0, delays_s: Vec::new(), there: 0, passes: 0 };
    for i in 0..runs {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(i as u64);
        let awaited = match cell.expect {
            Expect::Told { flag, .. } => Some(flag),
            _ => None,
        };
        let earlier = earlier(cell.scenario, cell.sending, seed);
        row.add(&deploy(cell.scenario, cell.sending, length, (awaited, &earlier), seed));
    }
    row.delays_s.sort_unstable();
    row
}

impl Row {
    /// Heads of the columns.
    pub(crate) const HEAD: &'static str = "| situation | traffic | runs | false fails | found | median s | p90 s | PASS |\n\
                                    |---|---|---|---|---|---|---|---|";

    /// Counts one deployment.
    fn add(&mut self, outcome: &Outcome) {
        self.passes += usize::from(outcome.passed_s.is_some());
        let onset_s = match self.cell.expect {
            Expect::Healthy | Expect::Told { .. } => i64::MAX,
            Expect::Worse { onset_s } => onset_s,
            Expect::AtPassMargin => 0,
        };
        match outcome.failed_s {
            Some(after) if after > onset_s => {
                self.delays_s.push(after - onset_s);
                let only_in = self.cell.scenario.dimensions.and_then(|d| d.only_in);
                let is_there = only_in.is_some_and(|name| outcome.scope == [format!("region={name}")]);
                self.there += usize::from(is_there);
            }
            Some(_) => self.false_fails += 1,
            None => {}
        }
        if let (Expect::Told { onset_s, .. }, Some(after)) = (self.cell.expect, outcome.flagged_s)
            && after > onset_s
        {
            self.delays_s.push(after - onset_s);
        }
    }

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
