//! Objectives as a user writes them. The objective of a service is the `slo` of its policy; here stand the length of
//! its budget, the journeys with objectives of their own, and who is told.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::ServiceKey;
use crate::pipeline::config::MatchConfig;
use crate::pipeline::config::pattern::rank;
use crate::pipeline::human;

/// Journeys of one service; further ones are refused by the check of the configuration.
pub const MAX_JOURNEYS: usize = 16;
const DAY: Duration = Duration::from_secs(86_400);

/// The `objectives` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectivesConfig {
    /// Length of the error budget: 28 or 30 days.
    #[serde(with = "human")]
    pub window: Duration,
    /// Name of the webhook (a key of `webhooks`) that gets pages, tickets, reviews and their ends.
    pub webhook: Option<String>,
    /// Sets of operations with objectives of their own.
    pub journeys: Vec<JourneyConfig>,
}

impl Default for ObjectivesConfig {
    fn default() -> Self {
        Self { window: 30 * DAY, webhook: None, journeys: Vec::new() }
    }
}

/// A named set of operations with an objective of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JourneyConfig {
    /// Its name in metrics, rules and alerts.
    pub name: String,
    /// Services that have it; each counts it for itself.
    #[serde(rename = "match", default)]
    pub matches: MatchConfig,
    /// Operations that belong to it, as they are shown in evidence; `*` stands for any characters.
    pub operations: Vec<String>,
    /// Objective for the share of good requests.
    pub slo: f64,
}

/// A journey as the engine counts it.
#[derive(Debug, Clone, PartialEq)]
pub struct Journey {
    /// Its name.
    pub name: Arc<str>,
    /// Objective for the share of good requests.
    pub slo: f64,
    patterns: Vec<String>,
}

impl Journey {
    /// Whether an operation belongs to it.
    pub fn contains(&self, operation: &str) -> bool {
        self.patterns.iter().any(|pattern| rank(Some(pattern), operation).is_some())
    }
}

/// What holds for one service.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectiveSettings {
    /// Days of the budget.
    pub days: u32,
    /// Its journeys.
    pub journeys: Vec<Journey>,
}

impl Default for ObjectiveSettings {
    fn default() -> Self {
        ObjectivesConfig::default().resolve(&ServiceKey::default())
    }
}

impl ObjectivesConfig {
    /// Days of the budget.
    pub fn days(&self) -> u32 {
        u32::try_from(self.window.as_secs() / DAY.as_secs()).unwrap_or(u32::MAX)
    }

    /// What holds for a service.
    pub fn resolve(&self, service: &ServiceKey) -> ObjectiveSettings {
        let own = self.journeys.iter().filter(|journey| journey.matches.matches(service));
        let journeys = own.take(MAX_JOURNEYS).map(|journey| Journey {
            name: journey.name.as_str().into(),
            slo: journey.slo,
            patterns: journey.operations.clone(),
        });
        ObjectiveSettings { days: self.days(), journeys: journeys.collect() }
    }

    /// What is wrong with it, each by its key.
    pub fn problems(&self) -> Vec<(String, &'static str)> {
        let mut found = Vec::new();
        let mut require = |ok: bool, path: String, what| {
            if !ok {
                found.push((path, what));
            }
        };
        let whole = self.window == 28 * DAY || self.window == 30 * DAY;
        require(whole, "objectives.window".into(), "must be 28d or 30d");
        for (i, journey) in self.journeys.iter().enumerate() {
            let key = |name: &str| format!("objectives.journeys[{i}].{name}");
            let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let named = (1..=64).contains(&journey.name.len()) && journey.name.chars().all(is_word);
            require(named, key("name"), "must be 1 to 64 letters, digits, `-`, `_` or `.`");
            let twice = self.journeys.iter().take(i).any(|other| other.name == journey.name);
            require(!twice, key("name"), "is the name of an earlier journey; put their operations together");
            require(!journey.operations.is_empty(), key("operations"), "must name at least one operation");
            let release = journey.matches.release.is_none();
            require(release, key("match.release"), "has no meaning here: a journey is counted at all times");
            let slo = journey.slo > 0.0 && journey.slo < 1.0;
            require(slo, key("slo"), "must lie between 0 and 1, for example 0.999 for 99.9 %");
        }
        let few = self.journeys.len() <= MAX_JOURNEYS;
        require(few, "objectives.journeys".into(), "must not be more than 16");
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journey(name: &str, operations: &[&str], slo: f64) -> JourneyConfig {
        let operations = operations.iter().map(|o| (*o).to_owned()).collect();
        JourneyConfig { name: name.into(), matches: MatchConfig::default(), operations, slo }
    }

    #[test]
    fn journeys_belong_to_services_and_operations_to_journeys() {
        let mut config = ObjectivesConfig::default();
        config.journeys.push(JourneyConfig {
            matches: MatchConfig { service: Some("shop*".into()), ..MatchConfig::default() },
            ..journey("checkout", &["POST /cart/*", "POST /pay"], 0.9995)
        });
        let of = |name: &str| config.resolve(&ServiceKey { name: name.into(), ..ServiceKey::default() });
        assert_eq!(of("mail").journeys, []);
        let own = of("shop-front");
        assert_eq!((own.days, own.journeys.len(), own.journeys[0].slo), (30, 1, 0.9995));
        let rows = [("POST /cart/7", true), ("POST /pay", true), ("POST /pay/7", false), ("GET /", false)];
        for (operation, belongs) in rows {
            assert_eq!(own.journeys[0].contains(operation), belongs, "{operation}");
        }
    }

    #[test]
    fn mistakes_are_named_by_their_keys() {
        let config = ObjectivesConfig {
            window: 7 * DAY,
            journeys: vec![journey("a b", &[], 1.0), journey("x", &["*"], 0.9), journey("x", &["*"], 0.9)],
            ..ObjectivesConfig::default()
        };
        let paths: Vec<String> = config.problems().into_iter().map(|(path, _)| path).collect();
        assert_eq!(
            paths,
            [
                "objectives.window",
                "objectives.journeys[0].name",
                "objectives.journeys[0].operations",
                "objectives.journeys[0].slo",
                "objectives.journeys[2].name",
            ]
        );
        let many = (0..17).map(|i| journey(&format!("j{i}"), &["*"], 0.9)).collect();
        let config = ObjectivesConfig { journeys: many, ..ObjectivesConfig::default() };
        assert_eq!(config.problems()[0].0, "objectives.journeys");
        assert_eq!(ObjectivesConfig::default().problems(), []);
    }
}
