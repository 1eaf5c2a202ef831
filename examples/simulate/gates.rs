//! The rows that the method is held to: at most twenty situations, 2,000 deployments each, with the share of false fails
//! that is allowed in them. Most are of requests; the last ones are of gauges of young instances and of instances that
//! die. `docs/simulation.md` holds a run of them; `tests/sim` repeats each with a hundred.

use crate::cells::{Cell, cells};
use crate::churn;
use crate::gauges;
use crate::run::{Length, Row, run};

/// Of fails for a single region, the least share whose scope is that region.
const THERE: f64 = 0.9;

/// What a row is held to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// Both versions serve at the same time: at most this share of healthy candidates fails.
    Concurrent,
    /// The baseline is what is remembered of it.
    Remembered,
    /// Known to be bad (`docs/statistics.md`, section 8 and 6): printed, held to nothing.
    KnownBad,
    /// A worse candidate: at least this share is found in the time of the row.
    Found(f64),
    /// One that is worse in a single region: at least this share is found, and nearly all of those there.
    FoundThere(f64),
    /// Something must be said: in at least this share it is, and no version passes.
    Told(f64),
}

impl Bound {
    /// The most false fails that are allowed, as a share of the runs.
    pub(crate) fn false_fails(self) -> f64 {
        match self {
            Self::Concurrent | Self::Found(_) | Self::FoundThere(_) | Self::Told(_) => 0.015,
            Self::Remembered => 0.04,
            Self::KnownBad => 1.0,
        }
    }

    /// The bound as a table says it.
    fn words(self) -> String {
        match self {
            Self::KnownBad => "none".to_owned(),
            Self::Found(share) => format!("found ≥ {} %", 100.0 * share),
            Self::FoundThere(share) => {
                format!("found ≥ {} %, of these there ≥ {} %", 100.0 * share, 100.0 * THERE)
            }
            Self::Told(share) => format!("told ≥ {} %, no PASS", 100.0 * share),
            _ => format!("≤ {} %", 100.0 * self.false_fails()),
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone)]
pub(crate) enum Held {
    /// Requests of two versions, or of one after the other.
    Requests(Box<Cell>, Bound),
    /// Young instances against those of earlier rollouts.
    Gauge(gauges::Situation),
    /// Fleets whose instances die.
    Deaths(churn::Situation),
}

impl Held {
    /// The name of the situation.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Requests(cell, _) => cell.name,
            Self::Gauge(situation) => situation.name,
            Self::Deaths(situation) => situation.name,
        }
    }

    /// Deploys it so many times: the row as Markdown. The length is that of requests; the others have their own.
    pub(crate) fn play(&self, runs: usize, length: impl FnOnce(&Cell) -> Length, seed: u64) -> String {
        match self {
            Self::Requests(cell, bound) => markdown(&run(cell, runs, length(cell), seed), *bound),
            Self::Gauge(situation) => situation.gate_markdown(&situation.play(runs as u64, seed)),
            Self::Deaths(situation) => churn::tally(situation, runs, seed).gate_markdown(situation),
        }
    }
}

/// Situation, traffic, what is sent, bound.
const HELD: [(&str, &str, &str, Bound); 17] = [
    ("error bursts of single instances", "50 % of 20", "", Bound::Concurrent),
    ("everything at once", "5 % of 200", "", Bound::Concurrent),
    ("200 comparisons, everything at once", "5 % of 200", "", Bound::Concurrent),
    ("everything at once", "25 % of 200", "metrics, 15 s", Bound::Concurrent),
    ("regions and clients, another mix, everything at once", "25 % of 200", "", Bound::Concurrent),
    ("long requests beside fast failures", "50 % of 20", "", Bound::Concurrent),
    ("renamed operations", "5 % of 200", "", Bound::Concurrent),
    ("sampled, baseline one in ten, clusters of 3", "50 % of 20", "", Bound::Concurrent),
    ("baseline gone, everything at once", "100 % of 10", "", Bound::Remembered),
    ("before/after, everything at once, cycle of 24 h, 2x", "100 % of 10", "", Bound::Remembered),
    ("baseline gone, hourly job 2 min after (no fault of the version)", "100 % of 10", "", Bound::KnownBad),
    ("slow start: x2, decaying over 2 min, three operations", "5 % of 200", "", Bound::KnownBad),
    ("third release that starts slowly, three operations", "5 % of 200", "", Bound::Concurrent),
    ("errors 0.1 -> 1 %", "5 % of 200", "", Bound::Found(0.95)),
    ("latency +20 %, three operations", "5 % of 200", "", Bound::Found(0.9)),
    ("one of four regions, errors 0.1 -> 5 %", "25 % of 200, 4 regions", "", Bound::FoundThere(0.95)),
    ("candidate falls silent before its PASS", "25 % of 200", "", Bound::Told(0.99)),
];

/// The bound of a cell, where it has one.
pub(crate) fn of(cell: &Cell) -> Option<Bound> {
    let is = |(name, load, sent, _): &&(&str, &str, &str, Bound)| {
        *name == cell.name && *load == cell.scenario.load.name && *sent == cell.sending.name
    };
    HELD.iter().find(is).map(|held| held.3)
}

/// Gauges and deaths that have a row here too; each has a table of its own beside.
const GAUGES: [&str; 2] = ["healthy: the heap rises", "healthy: the cache is cold at first"];
const DEATHS: &str = "0.5 % of requests kill; 1 beside 9";

/// All rows, in the order of the table.
pub(crate) fn held() -> Vec<Held> {
    let all = cells();
    let find = |(name, load, sent, bound): &(&str, &str, &str, Bound)| {
        let is = |c: &&Cell| c.name == *name && c.scenario.load.name == *load && c.sending.name == *sent;
        all.iter().find(is).map(|cell| Held::Requests(Box::new(cell.clone()), *bound))
    };
    let gauges = gauges::SITUATIONS.iter().filter(|one| GAUGES.contains(&one.name));
    let deaths = churn::SITUATIONS.iter().filter(|one| one.name == DEATHS);
    let requests = HELD.iter().filter_map(find);
    requests.chain(gauges.map(|one| Held::Gauge(*one))).chain(deaths.map(|one| Held::Deaths(*one))).collect()
}

/// Whether a row keeps its bound, as far as so many runs can tell: it does not where the chance of so many false fails at
/// the bound is below 1 %.
fn is_kept(row: &Row, bound: Bound) -> bool {
    let share = match bound {
        Bound::Found(share) => row.detected() >= share,
        Bound::FoundThere(share) => {
            row.detected() >= share && row.there as f64 >= THERE * row.delays_s.len() as f64
        }
        Bound::Told(share) => row.detected() >= share && row.passes == 0,
        _ => true,
    };
    share && row.false_fails <= most(row.runs, bound.false_fails())
}

/// The count that a binomial of `n` and `p` exceeds with a probability below 1 %.
fn most(n: usize, p: f64) -> usize {
    if p >= 1.0 {
        return n;
    }
    let mut term = (n as f64 * (1.0 - p).ln()).exp();
    let (mut sum, mut k) = (term, 0);
    while sum < 0.99 {
        term *= (n - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
        k += 1;
        sum += term;
    }
    k
}

/// Heads of the columns.
pub(crate) fn head() -> String {
    Row::HEAD.replace("|\n", "| held to |\n") + "---|"
}

/// The row of requests as Markdown.
fn markdown(row: &Row, bound: Bound) -> String {
    let verdict = match (bound, is_kept(row, bound)) {
        (Bound::KnownBad, _) => "",
        (_, true) => ": kept",
        (_, false) => ": BROKEN",
    };
    let there = match bound {
        Bound::FoundThere(_) if !row.delays_s.is_empty() => {
            format!(" ({:.1} % there)", 100.0 * row.there as f64 / row.delays_s.len() as f64)
        }
        _ => String::new(),
    };
    format!("{} {}{verdict}{there} |", row.markdown(), bound.words())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_held_row_is_a_situation() {
        assert_eq!(held().len(), HELD.len() + GAUGES.len() + 1);
        assert!(held().len() <= 20);
    }

    #[test]
    fn counts_at_the_bound_are_tabulated_quantiles() {
        for (n, p, expected) in [(100, 0.015, 5), (100, 0.04, 9), (2_000, 0.015, 43), (50, 1.0, 50)] {
            assert_eq!(most(n, p), expected, "{n} {p}");
        }
    }
}
