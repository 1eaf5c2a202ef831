//! The thread that owns the [`Engine`]: it empties the shards often, evaluates once a second, commits before
//! it publishes, and answers commands after their effect is durable.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc::{Receiver, error::TryRecvError};
use tokio_util::sync::CancellationToken;
use tracing::Level;

use super::board::Board;
use super::clock::Clock;
use super::command::{Command, CommandError};
use super::engine::Engine;
use super::journal::{Commit, Journal};
use super::shards::{Drained, Shards};
use crate::deployment::Phase;
use crate::objective::Change;
use crate::verdict::Flag;

/// What the thread works with.
pub struct EvaluatorParts {
    /// The engine.
    pub engine: Engine,
    /// Where spans come from.
    pub shards: Arc<Shards>,
    /// Commands of people.
    pub commands: Receiver<Command>,
    /// Durable memory.
    pub journal: Box<dyn Journal>,
    /// Where readers look.
    pub board: Arc<ArcSwap<Board>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Time between two drains of the shards.
    pub drain_every: Duration,
    /// Time between two evaluations.
    pub tick_every: Duration,
}

/// The running thread.
pub struct Evaluator {
    thread: JoinHandle<()>,
    ended: CancellationToken,
}

type Answer = Box<dyn FnOnce(Result<(), CommandError>) + Send>;

impl Evaluator {
    /// Starts the thread. It ends when the sender of the commands is dropped: it then takes in what is left,
    /// evaluates once more and keeps a full snapshot.
    pub fn spawn(parts: EvaluatorParts) -> std::io::Result<Self> {
        let ended = CancellationToken::new();
        // Dropped at the end of the thread, by a panic too.
        let guard = ended.clone().drop_guard();
        let run = move || {
            let _guard = guard;
            Loop { parts, drained: Drained::default(), waiting: Commit::default(), failures: 0 }.run()
        };
        Ok(Self { thread: std::thread::Builder::new().name("evaluator".to_owned()).spawn(run)?, ended })
    }

    /// Cancelled once the thread has ended. As long as commands can be sent only a fault ends it, and nothing
    /// takes telemetry in any more.
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Waits for the thread to end; `false` when it ended by a fault.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

struct Loop {
    parts: EvaluatorParts,
    drained: Drained,
    /// What could not be made durable yet. Nothing of it was published.
    waiting: Commit,
    failures: u32,
}

impl Loop {
    fn run(mut self) {
        let tick_nanos = self.parts.tick_every.as_nanos().max(1) as u64;
        let mut next_tick = self.parts.clock.now();
        loop {
            let now = self.parts.clock.now();
            self.drain();
            let mut answers: Vec<Answer> = Vec::new();
            let open = self.take_commands(&mut answers);
            // A clock that was set back must not stop the evaluation.
            let due = now >= next_tick || next_tick.since(now) > 2 * tick_nanos;
            if due || !answers.is_empty() || !open {
                self.evaluate(answers);
                next_tick = if due { now.plus_nanos(tick_nanos) } else { next_tick };
            }
            if !open {
                return self.finish();
            }
            std::thread::sleep(self.parts.drain_every);
        }
    }

    fn drain(&mut self) {
        self.parts.shards.drain(&mut self.drained);
        self.parts.engine.absorb(&self.drained, self.parts.clock.now());
    }

    /// Carries out waiting commands; `false` once nobody can send any more.
    fn take_commands(&mut self, answers: &mut Vec<Answer>) -> bool {
        loop {
            let now = self.parts.clock.now();
            match self.parts.commands.try_recv() {
                Ok(Command::Start(request, to)) => {
                    let done = self.parts.engine.start(&request, now, &mut self.waiting);
                    answers.push(Box::new(move |durable| drop(to.send(durable.and(done)))));
                }
                Ok(Command::Cancel(id, to)) => {
                    let done = self.parts.engine.cancel(&id, now, &mut self.waiting);
                    answers.push(Box::new(move |durable| drop(to.send(durable.and(done)))));
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// One evaluation: judge, commit, publish, answer.
    fn evaluate(&mut self, answers: Vec<Answer>) {
        let now = self.parts.clock.now();
        let commit = self.parts.engine.tick(now);
        merge(&mut self.waiting, commit);
        let durable = self.commit();
        if durable.is_ok() {
            self.read_hours();
            self.parts.board.store(Arc::new(self.parts.engine.board(now)));
        }
        answers.into_iter().for_each(|answer| answer(durable.clone()));
    }

    /// Reads the hours of other days that the engine asks for. One that cannot be read is one that is not known.
    fn read_hours(&mut self) {
        let now = self.parts.clock.now();
        for wanted in self.parts.engine.wanted_hours(now) {
            match self.parts.journal.hours(&wanted) {
                Ok(rows) => self.parts.engine.take_hours(&wanted, &rows, now),
                Err(error) => {
                    tracing::warn!(%error, service = %wanted.service,
                        "the hours of other days cannot be read; there is no second opinion");
                    self.parts.engine.hours_unread(&wanted);
                }
            }
        }
    }

    fn commit(&mut self) -> Result<(), CommandError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        match self.parts.journal.commit(&self.waiting) {
            Ok(()) => {
                self.announce();
                self.announce_alerts();
                self.waiting = Commit::default();
                self.failures = 0;
                Ok(())
            }
            Err(error) => {
                self.failures += 1;
                if self.failures.is_power_of_two() {
                    tracing::error!(%error, attempts = self.failures,
                        "decisions cannot be made durable; nothing is published or fired until they are");
                }
                Err(CommandError::Unavailable(error.to_string()))
            }
        }
    }

    /// One log line per change that became durable.
    fn announce(&self) {
        for d in &self.waiting.deployments {
            let reason = d.history.last().map(|h| h.reason.as_str()).unwrap_or_default();
            macro_rules! log {
                ($level:expr) => {
                    tracing::event!($level, deployment = %d.id, kind = d.kind().as_str(), service = %d.service,
                        candidate = d.candidate,
                        baseline = d.baseline.as_deref().unwrap_or("-"), phase = d.phase.as_str(),
                        verdict = d.verdict.as_str(), mode = d.mode.as_str(), "{reason}")
                };
            }
            // The two that somebody should look at stand out.
            match d.phase {
                Phase::Failed | Phase::NotRecovered => log!(Level::WARN),
                _ if d.evidence.has(Flag::AsOtherDays) && !d.phase.is_over() => log!(Level::WARN),
                _ => log!(Level::INFO),
            }
        }
    }

    /// One log line per alert that began or is over.
    fn announce_alerts(&self) {
        for alert in &self.waiting.alerts {
            let episode = alert.change.episode();
            let (rule, severity) = (episode.rule.as_str(), episode.rule.tier().severity.as_str());
            let service = &alert.objective.service;
            let journey = alert.objective.journey.as_deref().unwrap_or("-");
            match alert.change {
                Change::Fired(_) => tracing::warn!(%service, journey, severity, rule,
                    burn = episode.worst_burn, slo = alert.objective.slo, failed = alert.long.failed,
                    requests = alert.long.requests, "the error budget burns too fast"),
                Change::Ended(_, why) => {
                    tracing::info!(%service, journey, severity, rule, why = why.as_str(),
                    worst_burn = episode.worst_burn, "an alert about the error budget is over")
                }
            }
        }
    }

    fn finish(mut self) {
        self.drain();
        self.evaluate(Vec::new());
        let now = self.parts.clock.now();
        let all = self.parts.engine.snapshot_all(now);
        merge(&mut self.waiting, all);
        if self.commit().is_err() {
            tracing::error!(
                "the state at shutdown could not be kept; the next start goes on from an earlier one"
            );
        }
    }
}

/// Adds a newer commit to one that waits: the newer record of a deployment or a service replaces the older.
fn merge(waiting: &mut Commit, newer: Commit) {
    waiting.at = newer.at;
    for deployment in newer.deployments {
        waiting.deployments.retain(|d| d.id != deployment.id);
        waiting.deployments.push(deployment);
    }
    for snapshot in newer.snapshots {
        waiting.snapshots.retain(|s| s.service != snapshot.service);
        waiting.snapshots.push(snapshot);
    }
    for state in newer.objectives {
        waiting.objectives.retain(|s| (&s.service, &s.journey) != (&state.service, &state.journey));
        waiting.objectives.push(state);
    }
    for hour in newer.hours {
        waiting.hours.retain(|h| (&h.service, h.number) != (&hour.service, hour.number));
        waiting.hours.push(hour);
    }
    waiting.alerts.extend(newer.alerts);
    waiting.actions.extend(newer.actions);
    waiting.known_versions.extend(newer.known_versions);
}

#[cfg(test)]
#[path = "evaluator_tests.rs"]
mod tests;
