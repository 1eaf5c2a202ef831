//! What happens in each scenario, and whether it ended as it should. The director is told the time and the
//! deployment as the gateway shows it, and says what shall be done next; it does nothing itself.

use super::hook::Received;
use super::shop::{Behaviour, Load, VERSIONS};
use crate::deployment::{Deployment, Phase};
use crate::verdict::Verdict;

/// What becomes of the new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// It fails more requests: fail.
    Errors,
    /// It is slower: fail.
    Latency,
    /// It is as good as the old one: pass.
    Healthy,
    /// It turns bad while it is being judged: fail after the onset.
    Late,
    /// It answers nothing but errors: fail.
    Outage,
    /// The old version goes away the moment the bad one comes: fail against what is remembered.
    Replace,
}

/// Without an ending after so many seconds it went wrong.
pub(super) const LONGEST_S: f64 = 90.0;
/// A late version turns bad this long after it came up: in the middle of being judged, and soon enough for
/// the whole story to fit into a minute.
const ONSET_S: f64 = 12.0;

/// The plan of a scenario.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script {
    pub(super) scenario: Scenario,
    /// What is shown, in one line.
    pub(super) headline: &'static str,
    /// What must come out.
    pub(super) expected: &'static str,
    /// The new version comes up so many seconds after the shop opened.
    candidate_at_s: f64,
    /// Who serves how much from then on.
    shares: [f64; 2],
    /// What the new version is like, and what it turns into.
    candidate: Behaviour,
    turns_into: Option<(Behaviour, &'static str)>,
}

impl Script {
    /// The plan of a scenario.
    pub(super) const fn of(scenario: Scenario) -> Self {
        const GOOD: Behaviour = Behaviour::GOOD;
        const BAD: Behaviour = Behaviour { checkout_errors: 0.25, ..GOOD };
        let failing = Self {
            scenario,
            headline: "v2 fails every fourth checkout",
            expected: "fail, a signed webhook, recovered",
            candidate_at_s: 6.0,
            shares: [0.5, 0.5],
            candidate: BAD,
            turns_into: None,
        };
        match scenario {
            Scenario::Errors => failing,
            Scenario::Latency => {
                let candidate = Behaviour { slower: 1.6, ..GOOD };
                Self { headline: "v2 takes 60 % longer for everything", candidate, ..failing }
            }
            Scenario::Healthy => Self {
                headline: "v2 is as good as v1",
                expected: "pass, and no webhook",
                candidate: GOOD,
                ..failing
            },
            Scenario::Late => Self {
                headline: "v2 is good at first and turns bad after 12 s",
                expected: "fail after v2 turned bad, a signed webhook, recovered",
                candidate: GOOD,
                turns_into: Some((
                    Behaviour { checkout_errors: 0.6, errors: 0.05, ..GOOD },
                    "6 of 10 checkouts and 5 % of everything else fail",
                )),
                ..failing
            },
            Scenario::Outage => {
                let candidate = Behaviour { errors: 1.0, ..GOOD };
                Self { headline: "v2 answers nothing but errors", candidate, ..failing }
            }
            Scenario::Replace => Self {
                headline: "v1 goes away the moment a bad v2 comes",
                expected: "fail against what v1 showed before, a signed webhook, recovered",
                candidate_at_s: 16.0,
                shares: [0.0, 1.0],
                ..failing
            },
        }
    }

    const fn is_good(&self) -> bool {
        matches!(self.scenario, Scenario::Healthy)
    }
}

/// What shall be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Order {
    /// Start the deployment through the API.
    Announce,
    /// Change who serves how much, and how.
    Traffic(Load),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) as_expected: bool,
    pub(super) what: String,
}

/// What kind of line of the story it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Bad,
}

/// One line of the story.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub(super) at_s: f64,
    pub(super) tone: Tone,
    pub(super) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    /// The old version alone.
    Before,
    /// The new version is being judged.
    Judging,
    /// It failed; the webhook is on its way.
    Failed,
    /// The traffic is back at the old version.
    MovedBack,
}

/// Directs one scenario.
#[derive(Debug)]
pub(super) struct Director {
    pub(super) script: Script,
    pub(super) story: Vec<Event>,
    pub(super) ending: Option<Ending>,
    act: Act,
    /// When a late version turned bad.
    onset_s: Option<f64>,
    /// Verified webhooks.
    webhooks: usize,
    /// Lines of the deployment's history that were told.
    told: usize,
}

impl Director {
    pub(super) fn new(script: Script) -> Self {
        let mut director = Self {
            script,
            story: Vec::new(),
            ending: None,
            act: Act::Before,
            onset_s: None,
            webhooks: 0,
            told: 0,
        };
        let [old, _] = VERSIONS;
        director.tell(0.0, Tone::Plain, format!("the shop opens; {old} serves all of it"));
        director
    }

    /// The shop as it opens.
    pub(super) const fn opening() -> Load {
        Load { shares: [1.0, 0.0], candidate: Behaviour::GOOD }
    }

    /// What to do now, `at_s` seconds after the shop opened.
    pub(super) fn step(&mut self, at_s: f64, deployment: Option<&Deployment>) -> Vec<Order> {
        if let Some(deployment) = deployment {
            self.tell_history(at_s, deployment);
        }
        let orders = match self.act {
            Act::Before if at_s >= self.script.candidate_at_s => self.bring_up(at_s),
            Act::Judging => deployment.map_or_else(Vec::new, |d| self.judge(at_s, d)),
            Act::Failed if self.webhooks > 0 => self.move_back(at_s),
            Act::MovedBack => deployment.map_or_else(Vec::new, |d| self.look_for_recovery(d)),
            Act::Before | Act::Failed => Vec::new(),
        };
        if at_s >= LONGEST_S && self.ending.is_none() {
            self.end(false, format!("nothing more came within {LONGEST_S} s"));
        }
        orders
    }

    /// A webhook came in.
    pub(super) fn webhook(&mut self, at_s: f64, message: &Received) {
        let [_, new] = VERSIONS;
        match message.verified {
            Ok(()) => {
                self.webhooks += 1;
                let text = format!(
                    "the deployer got {} for {} ({} bytes); its signature holds; {}",
                    message.kind, message.candidate, message.bytes, message.id
                );
                self.tell(at_s, Tone::Good, text);
            }
            Err(why) => self.end(false, format!("a webhook came whose signature does not hold: {why}")),
        }
        if self.webhooks > 1 || self.script.is_good() || message.candidate != new {
            let text = format!("webhook {} for {} was not called for", message.id, message.candidate);
            self.end(false, text);
        }
    }

    fn bring_up(&mut self, at_s: f64) -> Vec<Order> {
        let [old, new] = VERSIONS;
        self.act = Act::Judging;
        let text = if self.script.shares[0] > 0.0 {
            format!("{new} comes up and takes half of the requests: {}", self.script.headline)
        } else {
            format!("{new} comes up, {old} goes away: {new} fails every fourth checkout")
        };
        self.tell(at_s, Tone::Plain, text);
        vec![
            Order::Announce,
            Order::Traffic(Load { shares: self.script.shares, candidate: self.script.candidate }),
        ]
    }

    fn judge(&mut self, at_s: f64, deployment: &Deployment) -> Vec<Order> {
        match deployment.verdict {
            Verdict::Fail => self.failed(at_s),
            Verdict::Pass if self.script.is_good() => {
                self.end(true, "v2 passed, no webhook was sent; from here on it would be watched".into());
                Vec::new()
            }
            Verdict::Pass if self.script.turns_into.is_none() => {
                self.end(false, "a bad v2 passed".into());
                Vec::new()
            }
            Verdict::Inconclusive => {
                self.end(false, "the verdict is inconclusive".into());
                Vec::new()
            }
            verdict => self.turn(at_s, verdict == Verdict::Pass),
        }
    }

    fn failed(&mut self, at_s: f64) -> Vec<Order> {
        self.act = Act::Failed;
        match (self.script.is_good(), self.script.turns_into, self.onset_s) {
            (true, ..) => self.end(false, "a good v2 failed".into()),
            (_, Some(_), None) => self.end(false, "v2 failed before it turned bad".into()),
            (_, _, Some(onset_s)) => {
                let text = format!("caught {:.0} s after v2 turned bad", at_s - onset_s);
                self.tell(at_s, Tone::Plain, text);
            }
            (_, None, None) => {}
        }
        Vec::new()
    }

    /// A late version turns bad when it has been good long enough; passed already or not.
    fn turn(&mut self, at_s: f64, passed: bool) -> Vec<Order> {
        let Some((candidate, how)) = self.script.turns_into.filter(|_| self.onset_s.is_none()) else {
            return Vec::new();
        };
        if at_s < self.script.candidate_at_s + ONSET_S {
            return Vec::new();
        }
        self.onset_s = Some(at_s);
        let when = if passed { "although it has passed" } else { "before it has passed" };
        self.tell(at_s, Tone::Bad, format!("v2 turns bad now, {when}: {how}"));
        vec![Order::Traffic(Load { shares: self.script.shares, candidate })]
    }

    fn move_back(&mut self, at_s: f64) -> Vec<Order> {
        self.act = Act::MovedBack;
        let [old, new] = VERSIONS;
        let text = format!("the deployer moves all traffic back to {old}; {new} gets no more requests");
        self.tell(at_s, Tone::Plain, text);
        vec![Order::Traffic(Self::opening())]
    }

    fn look_for_recovery(&mut self, deployment: &Deployment) -> Vec<Order> {
        match deployment.phase {
            Phase::Recovered => {
                let onset = if self.onset_s.is_some() { " after it turned bad" } else { "" };
                let what =
                    format!("v2 failed{onset}, was rolled back by a signed webhook, and the shop is well");
                self.end(true, what);
            }
            Phase::NotRecovered => self.end(false, "the shop did not recover".into()),
            _ => {}
        }
        Vec::new()
    }

    /// Takes over what is new in the deployment's history.
    pub(super) fn tell_history(&mut self, at_s: f64, deployment: &Deployment) {
        for line in deployment.history.iter().skip(self.told) {
            let tone = match line.phase {
                Phase::Failed | Phase::NotRecovered => Tone::Bad,
                Phase::Watching | Phase::Recovered => Tone::Good,
                _ => Tone::Plain,
            };
            let text = format!("{}: {}", line.phase.as_str(), line.reason);
            self.story.push(Event { at_s, tone, text });
        }
        self.told = self.told.max(deployment.history.len());
    }

    fn tell(&mut self, at_s: f64, tone: Tone, text: String) {
        self.story.push(Event { at_s, tone, text });
    }

    fn end(&mut self, as_expected: bool, what: String) {
        // The first fault is the one that counts.
        if self.ending.as_ref().is_none_or(|ending| ending.as_expected) {
            self.ending = Some(Ending { as_expected, what });
        }
    }
}

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;
