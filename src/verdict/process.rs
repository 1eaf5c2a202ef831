//! The two kinds of processes that the judge keeps, behind one face: e-processes, on which a decision is
//! taken, and watches, which look on after it. Sets of them, their logs and the redo need no more than this.

use crate::model::Slot;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer, snapshot_fields, snapshot_index};
use crate::stats::{EProcess, Rhythm, Steps, Term, WatchProcess, watch_unit};

/// One process.
#[derive(Debug, Clone, PartialEq)]
pub enum Process {
    /// An e-process (`docs/statistics.md`, section 3). What it holds is E.
    Bet(EProcess),
    /// A watch (section 10). What it holds is R.
    Watch(WatchProcess),
}

impl Process {
    /// Slot of the first second.
    pub fn start(&self) -> Slot {
        match self {
            Self::Bet(p) => p.start(),
            Self::Watch(p) => p.start(),
        }
    }

    /// Executes every block end and restart up to slot `t`, also where nothing happened.
    pub fn advance(&mut self, t: Slot) {
        match self {
            Self::Bet(p) => p.advance(t),
            Self::Watch(p) => p.advance(t),
        }
    }

    /// Adds the nats of slot `t`.
    pub fn add(&mut self, t: Slot, nats: &Steps) {
        match self {
            Self::Bet(p) => p.add(t, nats),
            Self::Watch(p) => p.add(t, nats),
        }
    }

    /// ln E or ln R now.
    pub fn ln(&self) -> f64 {
        match self {
            Self::Bet(p) => p.ln_e(),
            Self::Watch(p) => p.ln_r(),
        }
    }

    /// ln of the mass on each effect size before the running block, and what the block has gained so far.
    pub fn masses(&self) -> [&[f64]; 2] {
        match self {
            Self::Bet(p) => p.masses(),
            Self::Watch(p) => p.masses(),
        }
    }

    /// Seconds since the start up to which blocks and restarts were executed.
    pub fn elapsed_s(&self) -> i64 {
        match self {
            Self::Bet(p) => p.elapsed_s(),
            Self::Watch(p) => p.elapsed_s(),
        }
    }

    /// Of a watch, whether its next restart places mass.
    pub fn is_fed(&self) -> Option<bool> {
        match self {
            Self::Bet(_) => None,
            Self::Watch(p) => Some(p.is_fed()),
        }
    }

    /// Mass that has not begun to bet; a watch holds none back.
    pub fn unspent(&self) -> Option<f64> {
        match self {
            Self::Bet(p) => Some(p.unspent()),
            Self::Watch(_) => None,
        }
    }
}

impl Snapshot for Process {
    fn save(&self, out: &mut Writer) {
        match self {
            Self::Bet(p) => {
                0u8.save(out);
                p.save(out);
            }
            Self::Watch(p) => {
                1u8.save(out);
                p.save(out);
            }
        }
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        match u8::load(from)? {
            0 => Ok(Self::Bet(EProcess::load(from)?)),
            1 => Ok(Self::Watch(WatchProcess::load(from)?)),
            _ => Err(Corrupt::Body),
        }
    }
}

/// What a set of processes is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// PASS or FAIL are decided on it.
    Decision,
    /// It watches the version after the decision.
    Watch,
    /// No FAIL reads it: evidence against a baseline that is only remembered, after its time. E-processes
    /// until the decision, a watch from then on.
    Degraded,
}

impl Purpose {
    /// All purposes.
    pub const ALL: [Self; 3] = [Self::Decision, Self::Watch, Self::Degraded];

    /// The word used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Watch => "watch",
            Self::Degraded => "degraded",
        }
    }
}

snapshot_index!(Purpose);

/// How the processes of one set are made: ladder length aside, all alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// What the set is for.
    pub purpose: Purpose,
    /// Most nats that one block can add.
    pub cap: f64,
    /// Seconds over which e-processes spread their restarts; a watch restarts for ever.
    pub horizon_s: i64,
    /// First slot of all watches of the set; `None`: e-processes, which begin each in a slot of its own.
    pub watch_from: Option<Slot>,
    /// Blocks and restarts.
    pub rhythm: Rhythm,
}

snapshot_fields!(Shape { purpose, cap, horizon_s, watch_from, rhythm });

impl Shape {
    /// The letter of what the processes hold, as in `docs/statistics.md`: `E`, or `R` of a watch.
    pub const fn statistic(self) -> &'static str {
        if self.watch_from.is_some() { "R" } else { "E" }
    }

    /// A process that begins in slot `start`, and to which `term` is added first.
    pub(super) fn process(self, term: &Term, start: Slot) -> Process {
        let steps = term.ladder().len();
        if self.watch_from.is_some() {
            Process::Watch(WatchProcess::new(steps, start, self.cap, self.rhythm))
        } else {
            Process::Bet(EProcess::new(steps, start, self.cap, self.horizon_s, self.rhythm))
        }
    }

    /// ln of the mass that began to bet up to slot `t`: all of an e-process's 1 counts from the start, a
    /// watch gets some with each restart.
    pub(super) fn ln_mass(self, t: Slot) -> f64 {
        let Some(from) = self.watch_from else { return 0.0 };
        let restarts = (t - from).max(0) / self.rhythm.restart_s;
        (watch_unit(self.rhythm) * (1.0 + restarts as f64)).ln()
    }
}
