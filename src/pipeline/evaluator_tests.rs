//! The thread itself, over an engine without telemetry: what becomes of it when its memory fails it.

use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::deployment::{Mode, Request};
use crate::model::{DeploymentId, ServiceKey};
use crate::pipeline::clock::SystemClock;
use crate::pipeline::{
    DeploymentLimits, EngineParts, HourRow, JournalError, Registry, RegistryLimits, Restored, WantedHours,
};
use crate::verdict::Policy;
use crate::window::LatenessConfig;

struct Broken;

impl Journal for Broken {
    fn commit(&mut self, _: &Commit) -> Result<(), JournalError> {
        panic!("as a fault of ours would");
    }

    fn hours(&mut self, _: &WantedHours) -> Result<Vec<HourRow>, JournalError> {
        Ok(Vec::new())
    }
}

struct Running {
    evaluator: Evaluator,
    commands: mpsc::Sender<Command>,
}

fn start(journal: impl Journal + 'static) -> Running {
    let clock = Arc::new(SystemClock);
    let shards = Arc::new(Shards::new(1, 1_000));
    let parts = EngineParts {
        registry: Arc::new(Registry::new(RegistryLimits::default())),
        ledger: Arc::clone(shards.ledger()),
        policies: Arc::new(|_: &ServiceKey, _: &str| (Policy::default(), Mode::Observe)),
        lateness: LatenessConfig::default(),
        series_ttl_s: 120,
        deployments: DeploymentLimits::default(),
        ids: Box::new(|| DeploymentId("d1".into())),
    };
    let (commands, waiting) = mpsc::channel(1);
    let evaluator = Evaluator::spawn(EvaluatorParts {
        engine: Engine::new(parts, Restored::default(), clock.now()),
        shards,
        commands: waiting,
        journal: Box::new(journal),
        board: Arc::default(),
        clock,
        drain_every: Duration::from_millis(1),
        tick_every: Duration::from_millis(10),
    })
    .unwrap();
    Running { evaluator, commands }
}

/// Scenario: the thread panics while commands can still come. Guarantees: whoever watches it is told, whoever
/// waits for an answer is not left waiting, and joining says that it was a fault.
#[tokio::test]
async fn the_end_by_a_fault_is_seen() {
    let running = start(Broken);
    let ended = running.evaluator.ended();
    let request = Request { service: "checkout".into(), version: "v2".into(), ..Request::default() };
    let (answer, answered) = oneshot::channel();
    running.commands.send(Command::Start(request, answer)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), ended.cancelled()).await.unwrap();
    assert!(answered.await.is_err());
    assert!(!running.evaluator.join());
}

/// Guarantees: while it runs nobody is told of an end; the end that was asked for is none by a fault.
#[tokio::test]
async fn the_end_that_was_asked_for_is_no_fault() {
    let running = start(crate::pipeline::NoJournal);
    let ended = running.evaluator.ended();
    assert!(!ended.is_cancelled());
    drop(running.commands);
    tokio::time::timeout(Duration::from_secs(30), ended.cancelled()).await.unwrap();
    assert!(running.evaluator.join());
}
