//! Alerts as a state machine. Time is an argument; it may stand still, jump ahead or go back. At most one episode of
//! each severity is open, each is told when it begins and when it is over, and what was not seen changes nothing.

use super::record::{Record, Tally, Window};
use super::tier::{HOLD_S, LEAST_FAILED, Rule, Severity, TIERS, Tier};
use crate::model::Slot;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer, snapshot_fields, snapshot_index};

/// Seconds between two looks beyond which nothing is said to have held in between.
const LOOK_AWAY_S: i64 = 60;

/// Something that somebody was told of and that is not over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Episode {
    /// The rule that began it.
    pub rule: Rule,
    /// When it began.
    pub since: Slot,
    /// Since when it has been calm.
    calm_since: Option<Slot>,
    /// The highest burn rate over the short window so far.
    pub worst_burn: f64,
}

/// Why an episode is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The budget does not burn like this any more, and was seen not to.
    Recovered,
    /// There was not one request in the whole long window. That says nothing of whether the service is well.
    NoTraffic,
    /// The deployment under review is over or decided.
    DeploymentOver,
}

impl Ended {
    /// The word used in the webhook.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::NoTraffic => "no_traffic",
            Self::DeploymentOver => "deployment_over",
        }
    }
}

/// What somebody must be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// It began.
    Fired(Episode),
    /// It is over.
    Ended(Episode, Ended),
}

impl Change {
    /// What it is about.
    pub const fn episode(&self) -> &Episode {
        match self {
            Self::Fired(episode) | Self::Ended(episode, _) => episode,
        }
    }
}

/// What an objective looks like now.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// What is known of it.
    pub record: &'a Record,
    /// The share of requests that must be good.
    pub slo: f64,
    /// Whether the service's newest deployment is running or watched.
    pub deploying: bool,
    /// The present second.
    pub now: Slot,
}

impl Situation<'_> {
    fn tally(&self, window: Window) -> Tally {
        self.record.tally(window.seconds(), self.now)
    }

    /// Burn over a window; `None` where it says nothing.
    pub fn burn(&self, window: Window) -> Option<f64> {
        self.tally(window).burn(1.0 - self.slo)
    }

    /// Whether both windows burn faster than the tier allows. Time before the record began counts as free of
    /// failures: ten minutes are no three days.
    fn burns(&self, tier: &Tier) -> bool {
        let long = self.tally(tier.long);
        let known = (self.record.age_s(self.now) as f64 / tier.long.seconds() as f64).min(1.0);
        let matters = long.burn(1.0 - self.slo).is_some_and(|burn| burn * known > tier.factor);
        let goes_on = self.burn(tier.short).is_some_and(|burn| burn > tier.factor);
        long.failed >= LEAST_FAILED && matters && goes_on && (self.deploying || !tier.deploying)
    }
}

/// The alerts of one objective.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Alerts {
    /// Open episodes in the order of [`Severity::ALL`].
    open: [Option<Episode>; 3],
    /// Since when each tier has burnt, in the order of [`TIERS`].
    burning_since: [Option<Slot>; 6],
    /// The last look.
    last: Option<Slot>,
}

impl Alerts {
    /// Open episodes.
    pub fn open(&self) -> impl Iterator<Item = (Severity, &Episode)> {
        Severity::ALL.into_iter().zip(&self.open).filter_map(|(severity, e)| Some((severity, e.as_ref()?)))
    }

    /// Whether an episode of this severity is open.
    pub fn is_open(&self, severity: Severity) -> bool {
        self.open().any(|(open, _)| open == severity)
    }

    /// Looks again; what somebody must be told, at most one thing per severity.
    pub fn look(&mut self, situation: &Situation<'_>) -> Vec<Change> {
        let now = situation.now;
        let away = self.last.is_some_and(|last| !(0..=LOOK_AWAY_S).contains(&(now - last)));
        self.last = Some(now);
        if away {
            // Nobody saw what was in between.
            self.burning_since = [None; 6];
            self.open.iter_mut().flatten().for_each(|episode| episode.calm_since = None);
        }
        for (since, tier) in self.burning_since.iter_mut().zip(&TIERS) {
            *since = situation.burns(tier).then(|| since.unwrap_or(now));
        }
        Severity::ALL.into_iter().enumerate().filter_map(|(i, s)| self.look_at(i, s, situation)).collect()
    }

    fn look_at(&mut self, index: usize, severity: Severity, situation: &Situation<'_>) -> Option<Change> {
        let now = situation.now;
        let fires = |(since, tier): (&Option<Slot>, &Tier)| {
            let held = since.is_some_and(|since| now - since >= tier.hold_s);
            (held && tier.severity == severity).then_some(tier.rule)
        };
        let firing = self.burning_since.iter().zip(&TIERS).find_map(fires);
        let page_is_open = self.is_open(Severity::Page);
        let slot = self.open.get_mut(index)?;
        let Some(episode) = slot else {
            // A ticket beside a page tells nothing new.
            let rule = firing.filter(|_| severity != Severity::Ticket || !page_is_open)?;
            let worst_burn = situation.burn(rule.tier().short).unwrap_or(0.0);
            *slot = Some(Episode { rule, since: now, calm_since: None, worst_burn });
            return slot.map(Change::Fired);
        };
        let tier = episode.rule.tier();
        let burn = situation.burn(tier.short);
        episode.worst_burn = episode.worst_burn.max(burn.unwrap_or(0.0));
        let calm = firing.is_none() && burn.is_some_and(|burn| burn <= tier.factor);
        episode.calm_since = calm.then(|| episode.calm_since.unwrap_or(now));
        let ended = if severity == Severity::Review && !situation.deploying {
            Ended::DeploymentOver
        } else if episode.calm_since.is_some_and(|since| now - since >= HOLD_S) {
            Ended::Recovered
        } else if now - episode.since >= tier.long.seconds() && is_idle(situation, tier.long) {
            Ended::NoTraffic
        } else {
            return None;
        };
        slot.take().map(|episode| Change::Ended(episode, ended))
    }
}

/// Whether we were there for nearly all of a window, and nothing came.
fn is_idle(situation: &Situation<'_>, window: Window) -> bool {
    let tally = situation.tally(window);
    tally.requests == 0 && tally.watched_s as f64 >= 0.9 * window.seconds() as f64
}

snapshot_index!(Rule);

snapshot_fields!(Episode { rule, since, calm_since, worst_burn });

impl Snapshot for Alerts {
    /// Only what somebody was told of. What merely held must hold again, for nobody saw what is in between.
    fn save(&self, out: &mut Writer) {
        self.open.iter().for_each(|episode| episode.save(out));
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let mut alerts = Self::default();
        for open in &mut alerts.open {
            *open = Option::load(from)?;
            open.iter_mut().for_each(|episode: &mut Episode| episode.calm_since = None);
        }
        Ok(alerts)
    }
}
