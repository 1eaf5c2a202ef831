//! The objectives of a service as the evaluator keeps them: what is counted for each, when it is looked at, and what
//! must be told and kept. A service whose versions have all gone keeps its budget; it is waiting for its return.
//!
//! Each request counts once, by the source that the version's other numbers come from. A span or a metric point that
//! came too late for the judge still counts in the budget: its second is past, its failure is not undone.

mod config;
mod service;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::arms::Closed;
use super::journal::{Commit, ObjectiveState};
use crate::deployment::Deployment;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer};
use crate::model::{ServiceKey, Slot, UnixNanos};
use crate::objective::{Alerts, Budget, Change, Episode, Record, Severity, Situation, Tally, Window, budget};

pub use config::{Journey, JourneyConfig, MAX_JOURNEYS, ObjectiveSettings, ObjectivesConfig};

/// Operations whose journeys are remembered; the caps of the pipeline keep a service far below.
const KNOWN_OPERATIONS: usize = 10_000;
/// The name under which the objective of the whole service is kept.
const WHOLE: &str = "";

/// Something that somebody must be told.
#[derive(Debug, Clone)]
pub struct Alert {
    /// When it was noticed.
    pub at: UnixNanos,
    /// Whose objective.
    pub objective: ObjectiveBoard,
    /// What happened.
    pub change: Change,
    /// What its long window holds.
    pub long: Tally,
    /// The service's newest deployment, where it is running or watched.
    pub deployment: Option<Arc<Deployment>>,
}

impl Alert {
    /// What it is about, in words that are the same for its beginning and its end and for nothing else.
    pub fn cause(&self) -> String {
        let episode = self.change.episode();
        let ServiceKey { namespace, name, environment, extra } = &self.objective.service;
        let journey = self.objective.journey.as_deref().unwrap_or(WHOLE);
        let severity = episode.rule.tier().severity.as_str();
        format!("{:?}", (namespace, name, environment, extra, journey, severity, episode.since))
    }
}

/// One objective as readers see it, a few seconds old.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectiveBoard {
    /// Of which service.
    pub service: ServiceKey,
    /// Of which journey; `None` for the whole service.
    pub journey: Option<Arc<str>>,
    /// Share of requests that must be good.
    pub slo: f64,
    /// Days of the budget.
    pub days: u32,
    /// Requests and failed ones counted since the program started.
    pub totals: [u64; 2],
    /// Burn rates in the order of [`Window::ALL`]; `None` without requests.
    pub burn: [Option<f64>; 7],
    /// Share of each window that was watched.
    pub watched: [f64; 7],
    /// The budget; `None` before the first request.
    pub budget: Option<Budget>,
    /// What somebody was told of and that is not over.
    pub open: Vec<(Severity, Episode)>,
}

#[derive(Debug, Default)]
struct Objective {
    record: Record,
    alerts: Alerts,
}

impl Objective {
    fn board(&self, service: &ServiceKey, journey: &str, slo: f64, days: u32, now: Slot) -> ObjectiveBoard {
        let tallies = Window::ALL.map(|window| self.record.tally(window.seconds(), now));
        let mut watched = tallies.map(|tally| tally.watched_s as f64);
        watched.iter_mut().zip(Window::ALL).for_each(|(s, window)| *s /= window.seconds() as f64);
        ObjectiveBoard {
            service: service.clone(),
            journey: (journey != WHOLE).then(|| journey.into()),
            slo,
            days,
            totals: self.record.totals(),
            burn: tallies.map(|tally| tally.burn(1.0 - slo)),
            watched,
            budget: budget(&self.record, slo, days, now),
            open: self.alerts.open().map(|(severity, episode)| (severity, *episode)).collect(),
        }
    }
}

/// All objectives of one service.
#[derive(Debug, Default)]
pub(super) struct ServiceObjectives {
    /// By journey; what is not in the settings is only kept.
    all: BTreeMap<Arc<str>, Objective>,
    slo: f64,
    settings: ObjectiveSettings,
    /// The journeys of each operation as bits.
    journeys_of: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    /// The budget of the whole service at the last look.
    budget: Option<Budget>,
}

impl ServiceObjectives {
    /// Takes over what is configured now.
    pub(super) fn configure(&mut self, slo: f64, settings: ObjectiveSettings) {
        self.slo = slo;
        if self.settings != settings {
            self.settings = settings;
            self.journeys_of.clear();
        }
    }

    /// Puts back what was kept of a journey, or of the whole service.
    pub(super) fn restore(&mut self, state: &ObjectiveState) -> Result<(), Corrupt> {
        let mut from = Reader::new(&state.bytes);
        let objective = Objective { record: Record::load(&mut from)?, alerts: Alerts::load(&mut from)? };
        self.all.insert(state.journey.as_str().into(), objective);
        Ok(())
    }

    /// Counts a closed slot of one version.
    pub(super) fn close(&mut self, slot: Slot, closed: &Closed) {
        self.count(slot, None, closed.total.n, closed.total.bad);
        if !self.settings.journeys.is_empty() {
            for (operation, requests, failed) in &closed.by_operation {
                self.count(slot, Some(operation), *requests, *failed);
            }
        }
    }

    /// Counts requests that came after their slot was closed.
    pub(super) fn late(&mut self, slot: Slot, operation: Option<&Arc<str>>, requests: u64, failed: u64) {
        self.count(slot, None, requests, failed);
        if let Some(operation) = operation.filter(|_| !self.settings.journeys.is_empty()) {
            self.count(slot, Some(operation), requests, failed);
        }
    }

    fn count(&mut self, slot: Slot, operation: Option<&Arc<str>>, requests: u64, failed: u64) {
        if requests == 0 {
            return;
        }
        let Some(operation) = operation else {
            return self.of(WHOLE).record.count(slot, requests, failed);
        };
        let mask = self.journeys(operation);
        for bit in 0..self.settings.journeys.len() {
            if mask & (1 << bit) != 0 {
                let name = Arc::clone(&self.settings.journeys[bit].name);
                self.of(&name).record.count(slot, requests, failed);
            }
        }
    }

    fn of(&mut self, journey: &str) -> &mut Objective {
        if !self.all.contains_key(journey) {
            self.all.insert(journey.into(), Objective::default());
        }
        self.all.entry(journey.into()).or_default()
    }

    /// The journeys of an operation, looked up once.
    fn journeys(&mut self, operation: &Arc<str>) -> u32 {
        if let Some(mask) = self.journeys_of.get(operation) {
            return *mask;
        }
        let bits = self.settings.journeys.iter().enumerate();
        let mask = bits.filter(|(_, j)| j.contains(operation)).fold(0, |mask, (bit, _)| mask | 1 << bit);
        if self.journeys_of.len() < KNOWN_OPERATIONS {
            self.journeys_of.insert(Arc::clone(operation), mask);
        }
        mask
    }

    /// What is configured, by name, with its objective.
    fn configured(&self) -> Vec<(Arc<str>, f64)> {
        let journeys = self.settings.journeys.iter().map(|j| (Arc::clone(&j.name), j.slo));
        std::iter::once((WHOLE.into(), self.slo)).chain(journeys).collect()
    }

    /// Looks at all of them: the seconds since the last look were watched, where `since` is given.
    pub(super) fn look(
        &mut self,
        service: &ServiceKey,
        deployment: Option<&Arc<Deployment>>,
        since: Option<Slot>,
        now: UnixNanos,
        alerts: &mut Vec<Alert>,
    ) {
        let slot = now.slot();
        for (journey, slo) in self.configured() {
            let Some(objective) = self.all.get_mut(&journey) else { continue };
            objective.record.settle(slot);
            if let Some(since) = since {
                objective.record.watch(since, slot);
            }
            let Objective { record, alerts: state } = objective;
            let situation = Situation { record, slo, deploying: deployment.is_some(), now: slot };
            let changes = state.look(&situation);
            for change in changes {
                let tier = change.episode().rule.tier();
                alerts.push(Alert {
                    at: now,
                    objective: objective.board(service, &journey, slo, self.settings.days, slot),
                    change,
                    long: objective.record.tally(tier.long.seconds(), slot),
                    deployment: deployment.cloned(),
                });
            }
        }
        let whole = self.all.get(WHOLE);
        self.budget = whole.and_then(|o| budget(&o.record, self.slo, self.settings.days, slot));
    }

    /// The budget of the whole service at the last look.
    pub(super) fn budget(&self) -> Option<Budget> {
        self.budget
    }

    /// The highest burn rate for which a review is open.
    pub(super) fn review_burn(&self) -> Option<f64> {
        let open = self.all.values().flat_map(|o| o.alerts.open());
        let reviews = open.filter(|(severity, _)| *severity == Severity::Review).map(|(_, e)| e.worst_burn);
        reviews.reduce(f64::max)
    }

    /// What readers see.
    pub(super) fn boards(&self, service: &ServiceKey, now: Slot) -> Vec<ObjectiveBoard> {
        let one = |(journey, slo): (Arc<str>, f64)| {
            let objective = self.all.get(&journey)?;
            Some(objective.board(service, &journey, slo, self.settings.days, now))
        };
        self.configured().into_iter().filter_map(one).collect()
    }

    /// What must be kept.
    pub(super) fn save(&self, service: &ServiceKey, now: UnixNanos, commit: &mut Commit) {
        for (journey, _) in self.configured() {
            let Some(objective) = self.all.get(&journey) else { continue };
            let mut out = Writer::default();
            objective.record.save(&mut out);
            objective.alerts.save(&mut out);
            commit.objectives.push(ObjectiveState {
                service: service.clone(),
                journey: journey.to_string(),
                at: now,
                bytes: out.into_bytes(),
            });
        }
    }

    /// Whether there is anything to remember: requests of the last thirty days, or something that is not over.
    pub(super) fn is_worth_keeping(&self, now: Slot) -> bool {
        let known =
            |o: &Objective| o.record.tally(30 * 86_400, now).requests > 0 || o.alerts.open().next().is_some();
        self.all.values().any(known)
    }
}
