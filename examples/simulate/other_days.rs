//! The second opinion of other days, held to changes without a version: each deployment is judged as the pipeline does,
//! and beside it with what the same time yesterday showed. Told is how often it fails with and without.

use rollguard::model::{Slot, Source};
use rollguard::verdict::{
    Cells, Change as At, HOUR_S, Hour, Hours, Marks, Memories, Memory, Panel, Policy, Since,
};
use rollguard::verdict::{SlotInput, Verdict};

use crate::run::upper_bound;
use crate::scenario::{
    ALL_NOISES, CHANCE, Change, Load, Noise, SAME, Scenario, TAKEN_OVER, TAKEN_OVER_LARGE,
};
use crate::traffic::Service;

const HISTORY_S: i64 = 1_800;
/// Seconds after the change that are simulated: in five minutes it may fail.
const JUDGED_S: i64 = 310;
/// Seconds of yesterday before the same time and after it.
const BEFORE_S: i64 = 720;
const AFTER_S: i64 = 1_200;
const DAY_S: i64 = 86_400;
/// Seconds by which what recurs began earlier or later yesterday.
const JITTER_S: i64 = 300;

/// A change without a version, and what happened at the same time yesterday.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    pub(crate) name: &'static str,
    load: Load,
    noise: Noise,
    today: Change,
    yesterday: Change,
    cycle: f64,
}

/// How often it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fails {
    pub(crate) runs: u64,
    pub(crate) without: u64,
    pub(crate) with: u64,
}

pub(crate) fn situations() -> Vec<Situation> {
    let well =
        Situation { name: "", load: TAKEN_OVER, noise: CHANCE, today: SAME, yesterday: SAME, cycle: 1.0 };
    let job = Change { from_s: 60, until_s: 360, errors_plus: 0.05, ..SAME };
    let slow_job = Change { from_s: 60, until_s: 660, latency_times: 2.0, ..SAME };
    let errors = |times| Change { errors_times: times, ..SAME };
    let recurring = |name, change| Situation { name, today: change, yesterday: change, ..well };
    let fault = |name, today| Situation { name, today, ..well };
    let large = |one| Situation { load: TAKEN_OVER_LARGE, ..one };
    let noisy = |one| Situation { noise: ALL_NOISES, ..one };
    vec![
        recurring("a job fails 5 % for five minutes, each day", job),
        large(recurring("a job fails 5 % for five minutes, each day", job)),
        noisy(recurring("the same, everything at once", job)),
        large(recurring("a job makes requests twice as slow for ten minutes, each day", slow_job)),
        large(Situation { name: "cycle of 24 h, 4x", cycle: 4.0, ..well }),
        fault("errors 0.1 -> 5 %, yesterday was well", errors(50.0)),
        large(fault("errors 0.1 -> 1 %, yesterday was well", errors(10.0))),
        noisy(fault("errors 0.1 -> 5 %, everything at once", errors(50.0))),
        large(fault("latency x2, yesterday was well", Change { latency_times: 2.0, ..SAME })),
        large(Situation {
            yesterday: job,
            ..fault("errors 0.1 -> 20 %, yesterday's job failed 5 %", errors(200.0))
        }),
        large(Situation {
            yesterday: job,
            ..fault("errors 0.1 -> 5 %, yesterday's job failed as many", errors(50.0))
        }),
    ]
}

impl Situation {
    /// Judges a number of deployments.
    pub(crate) fn run(&self, runs: u64, seed: u64) -> Fails {
        let mut fails = Fails { runs, ..Fails::default() };
        for seed in seed..seed + runs {
            let [without, with] = self.deploy(seed);
            fails.without += u64::from(without);
            fails.with += u64::from(with);
        }
        fails
    }

    fn scenario(&self, change: Change) -> Scenario {
        let Self { load, noise, cycle, .. } = *self;
        Scenario { noise, cycle, change, before_after: true, ..Scenario::healthy(load) }
    }

    /// Whether one deployment fails without other days, and with.
    fn deploy(&self, seed: u64) -> [bool; 2] {
        let mut today = Service::new(self.scenario(self.today), HISTORY_S, seed);
        let mut memory = Memory::default();
        let mut before: Vec<(Slot, Cells)> = Vec::new();
        for _ in 0..HISTORY_S {
            let (t, _, input) = today.second();
            memory.begin(t, !input.baseline.is_silent());
            memory.end(t, &input.baseline.warm, &input.baseline);
            before.push((t, input.baseline.warm));
        }
        let Some(marks) = memory.marks() else { return [false; 2] };
        let at = before.last().map_or(0, |(t, _)| t + 1);
        let hours = self.yesterday(&today, at, marks, seed);
        let mut own = Recorder::new(marks);
        before.iter().for_each(|(t, cells)| own.add(*t, cells));
        let policy = Policy::default();
        let memories = Memories { spans: Some(&memory), metrics: None };
        let mut panel = Panel::after(At::new(at, policy.warmup_s), policy, &memories);
        let mut since = Since::new(at, at, Some(&own.hours));
        let mut without = false;
        for _ in 0..JUDGED_S {
            let (t, _, input) = today.second();
            let input = SlotInput { candidate: input.candidate, ..SlotInput::default() };
            panel.slot(Source::Spans, t, &memory, &input);
            if !panel.is_in_time(t) {
                break;
            }
            since.add(t, 1, &input.candidate.warm);
            if panel.verdict(&memories) == Verdict::Fail {
                without = true;
                let other = since.look(&memory, &hours);
                if !other.is_some_and(|other| other.withholds(&panel.evidence(&memories))) {
                    return [true; 2];
                }
            }
        }
        [without, false]
    }

    /// Hours of yesterday around the time of the change.
    fn yesterday(&self, today: &Service, at: Slot, marks: Marks, seed: u64) -> Vec<Hour> {
        let mut service = Service::new(self.scenario(self.yesterday), BEFORE_S, seed ^ 0x5bd1_e995);
        service.set_time_of_day(today, HISTORY_S - BEFORE_S);
        let jitter = fastrand::Rng::with_seed(seed).i64(-JITTER_S..=JITTER_S);
        let mut kept = Recorder::new(marks);
        for _ in 0..BEFORE_S + AFTER_S {
            let (_, age, input) = service.second();
            let cells = if age < 0 { input.baseline.warm } else { input.candidate.warm };
            kept.add(at + age + jitter - DAY_S, &cells);
        }
        kept.end()
    }
}

/// Hours as they are kept of a service.
struct Recorder {
    hours: Hours,
    marks: Marks,
    written: Vec<Hour>,
}

impl Recorder {
    fn new(marks: Marks) -> Self {
        let mut hours = Hours::default();
        hours.adopt(Vec::new(), 0);
        Self { hours, marks, written: Vec::new() }
    }

    fn add(&mut self, t: Slot, cells: &Cells) {
        if self.hours.is_new(t) {
            self.hours.begin(t, Some(self.marks));
        }
        self.hours.add(t, cells);
        self.written.extend(self.hours.due(t));
    }

    fn end(mut self) -> Vec<Hour> {
        self.written.extend(self.hours.due(Slot::MAX - HOUR_S));
        self.written
    }
}

/// Heads of the columns.
pub(crate) const HEAD: &str =
    "| situation | traffic | runs | fails without other days | fails with them |\n|---|---|---|---|---|";

impl Situation {
    /// A row of the table.
    pub(crate) fn markdown(&self, fails: Fails) -> String {
        let Fails { runs, without, with } = fails;
        let percent = |k: u64| 100.0 * k as f64 / runs as f64;
        let bound = match with {
            all if all == runs => String::new(),
            some => format!(" (< {:.1} %)", 100.0 * upper_bound(some as usize, runs as usize)),
        };
        let (name, load) = (self.name, self.load.name);
        format!("| {name} | {load} | {runs} | {:.1} % | {:.1} %{bound} |", percent(without), percent(with))
    }
}
