//! The `policies` section: what versions are held to, for every service and with exceptions by service,
//! namespace, environment and kind of release. Of the exceptions that fit a deployment all apply, key by key;
//! where two set the same key the more specific one wins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::human;
use super::dimensions::{self, DimensionConfig, RegionActionConfig, RegionsConfig};
use super::origin::Origin;
use super::pattern::{Rank, rank};
use super::slis::SliConfig;
use crate::deployment::{Mode, Proposal};
use crate::model::ServiceKey;
use crate::verdict::Policy;

/// The `policies` section: what versions are held to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoliciesConfig {
    /// For every service.
    pub defaults: PolicyConfig,
    /// Exceptions for every service of an environment, by a pattern of its name.
    pub environments: BTreeMap<String, PolicyOverride>,
    /// Exceptions for services. Every entry that matches applies, the most specific one last: it wins. Equally
    /// specific ones apply in this order.
    pub services: Vec<ServicePolicyConfig>,
}

/// The policy of a service, complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Objective for the share of good requests.
    pub slo: f64,
    /// Probability of a false rollback that is accepted, per deployment.
    pub alpha: f64,
    /// Probability of a wrong PASS that is accepted, per deployment.
    pub beta: f64,
    /// How long after the warm-up a verdict is sought before it is `inconclusive`.
    #[serde(with = "human")]
    pub horizon: Duration,
    /// How long after its first span an instance is not compared.
    #[serde(with = "human")]
    pub warmup: Duration,
    /// How long after the warm-up there is no PASS.
    #[serde(with = "human")]
    pub min_pass: Duration,
    /// Relative increase of the error rate that is "not worse": 0.1 is +10 %.
    pub error_margin: f64,
    /// Relative increase of latency that is "not worse": 0.09 is +9 %.
    pub latency_margin: f64,
    /// Increase of the error rate that a PASS must have ruled out: 1.0 is twice the errors.
    pub pass_error_margin: f64,
    /// Increase of latency that a PASS must have ruled out.
    pub pass_latency_margin: f64,
    /// Whether a fail fires the rollback.
    pub mode: ModeConfig,
    /// What the webhook proposes on a fail.
    pub on_fail: OnFailConfig,
    /// Name of the webhook (a key of `webhooks`) that carries out the rollback.
    pub webhook: Option<String>,
    /// Shown with the verdict and sent with the rollback.
    pub runbook_url: Option<String>,
    /// Shown with the verdict and sent with the rollback.
    pub dashboard_url: Option<String>,
    /// SLIs of its own, by name.
    pub slis: BTreeMap<String, SliConfig>,
    /// Attributes by which requests are told apart beside their operation.
    pub dimensions: BTreeMap<String, DimensionConfig>,
    /// Which of them are regions.
    pub regions: RegionsConfig,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            slo: 0.999,
            alpha: 0.01,
            beta: 0.05,
            horizon: Duration::from_secs(30 * 60),
            warmup: Duration::from_secs(60),
            min_pass: Duration::from_secs(5 * 60),
            error_margin: 0.1,
            latency_margin: 0.09,
            pass_error_margin: 1.0,
            pass_latency_margin: 0.24,
            mode: ModeConfig::Observe,
            on_fail: OnFailConfig::Rollback,
            webhook: None,
            runbook_url: None,
            dashboard_url: None,
            slis: BTreeMap::new(),
            dimensions: BTreeMap::new(),
            regions: RegionsConfig { attribute: None, action: Some(RegionActionConfig::Report) },
        }
    }
}

/// `observe` or `act`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModeConfig {
    /// Keep and show the verdict, fire nothing.
    #[default]
    Observe,
    /// Fire the rollback on a fail.
    Act,
}

impl From<ModeConfig> for Mode {
    fn from(mode: ModeConfig) -> Self {
        match mode {
            ModeConfig::Observe => Self::Observe,
            ModeConfig::Act => Self::Act,
        }
    }
}

/// What the webhook proposes on a fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailConfig {
    /// Go back.
    #[default]
    Rollback,
    /// A person is told and decides.
    Tell,
    /// Go neither on nor back.
    Freeze,
    /// Switch the feature flag off.
    FlagOff,
}

impl From<OnFailConfig> for Proposal {
    fn from(on_fail: OnFailConfig) -> Self {
        match on_fail {
            OnFailConfig::Rollback => Self::Rollback,
            OnFailConfig::Tell => Self::Tell,
            OnFailConfig::Freeze => Self::Freeze,
            OnFailConfig::FlagOff => Self::FlagOff,
        }
    }
}

/// Exceptions for the services that match.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServicePolicyConfig {
    /// Which services.
    #[serde(rename = "match")]
    pub matches: MatchConfig,
    /// What differs for them.
    pub policy: PolicyOverride,
    /// What differs further in an environment, by a pattern of its name.
    pub environments: BTreeMap<String, PolicyOverride>,
}

/// Which services an exception is for. What is left out matches all; `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MatchConfig {
    /// `service.name`.
    pub service: Option<String>,
    /// `service.namespace`.
    pub namespace: Option<String>,
    /// `deployment.environment.name`.
    pub environment: Option<String>,
    /// Kind of release, as its start was announced: `version` unless it says another.
    pub release: Option<String>,
}

/// How specific a block is, the field that decides first in front.
type Specificity = [Rank; 4];

impl MatchConfig {
    /// Whether it is for this service, whatever the kind of release.
    pub fn matches(&self, service: &ServiceKey) -> bool {
        let any = Self { release: None, ..self.clone() };
        any.specificity(service, "").is_some()
    }

    /// How specific it is, where it is for this service and kind of release: the service decides before the
    /// namespace, the environment and the kind of release; in each an exact name before a pattern, and a longer
    /// pattern before a shorter one.
    fn specificity(&self, service: &ServiceKey, release: &str) -> Option<Specificity> {
        Some([
            rank(self.service.as_deref(), &service.name)?,
            rank(self.namespace.as_deref(), &service.namespace)?,
            rank(self.environment.as_deref(), &service.environment)?,
            rank(self.release.as_deref(), release)?,
        ])
    }

    /// The match in words, for example `service checkout, environment prod*`.
    pub fn words(&self) -> String {
        let fields = [
            ("service", &self.service),
            ("namespace", &self.namespace),
            ("environment", &self.environment),
            ("release", &self.release),
        ];
        let words: Vec<String> = fields
            .into_iter()
            .filter_map(|(name, pattern)| Some(format!("{name} {}", pattern.as_deref()?)))
            .collect();
        if words.is_empty() { "every service".into() } else { words.join(", ") }
    }
}

/// The keys of [`PolicyConfig`], each of which may be left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the fields are those of PolicyConfig")]
pub struct PolicyOverride {
    pub slo: Option<f64>,
    pub alpha: Option<f64>,
    pub beta: Option<f64>,
    #[serde(with = "human::optional")]
    pub horizon: Option<Duration>,
    #[serde(with = "human::optional")]
    pub warmup: Option<Duration>,
    #[serde(with = "human::optional")]
    pub min_pass: Option<Duration>,
    pub error_margin: Option<f64>,
    pub latency_margin: Option<f64>,
    pub pass_error_margin: Option<f64>,
    pub pass_latency_margin: Option<f64>,
    pub mode: Option<ModeConfig>,
    pub on_fail: Option<OnFailConfig>,
    pub webhook: Option<String>,
    pub runbook_url: Option<String>,
    pub dashboard_url: Option<String>,
    pub slis: BTreeMap<String, SliConfig>,
    pub dimensions: BTreeMap<String, DimensionConfig>,
    pub regions: RegionsConfig,
}

impl PolicyOverride {
    /// Writes what is set over `policy`.
    fn apply(&self, policy: &mut PolicyConfig) {
        macro_rules! over {
            ($($field:ident),*) => {$(
                if let Some(value) = &self.$field {
                    policy.$field = value.clone();
                }
            )*};
        }
        macro_rules! over_optional {
            ($($field:ident),*) => {$(
                if self.$field.is_some() {
                    policy.$field.clone_from(&self.$field);
                }
            )*};
        }
        over!(slo, alpha, beta, horizon, warmup, min_pass, error_margin, latency_margin);
        over!(pass_error_margin, pass_latency_margin, mode, on_fail);
        over_optional!(webhook, runbook_url, dashboard_url);
        for (name, sli) in &self.slis {
            policy.slis.entry(name.clone()).or_default().overlay(sli);
        }
        for (name, dimension) in &self.dimensions {
            policy.dimensions.entry(name.clone()).or_default().overlay(dimension);
        }
        policy.regions.overlay(&self.regions);
    }
}

/// What holds for one service: everything that a new deployment of it takes over.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResolvedPolicy {
    /// For the judge.
    pub policy: Policy,
    /// Whether a fail fires the rollback.
    pub mode: Mode,
    /// What the webhook proposes then.
    pub proposal: Proposal,
    /// Which webhook carries it out.
    pub webhook: Option<String>,
    /// Links to show.
    pub links: Links,
}

/// Links that go with a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Links {
    /// What to do about a fail.
    pub runbook_url: Option<String>,
    /// Where to look.
    pub dashboard_url: Option<String>,
}

impl PoliciesConfig {
    /// The exceptions that are for a service and kind of release, the one that wins last.
    pub(super) fn layers(&self, service: &ServiceKey, release: &str) -> Vec<(Origin, &PolicyOverride)> {
        let mut layers: Vec<(Specificity, Origin, &PolicyOverride)> = Vec::new();
        for (pattern, policy) in &self.environments {
            let matches = MatchConfig { environment: Some(pattern.clone()), ..MatchConfig::default() };
            if let Some(specificity) = matches.specificity(service, release) {
                layers.push((specificity, Origin::Environment(pattern.clone()), policy));
            }
        }
        for (index, entry) in self.services.iter().enumerate() {
            let Some(specificity) = entry.matches.specificity(service, release) else { continue };
            let words = entry.matches.words();
            let origin = |environment| Origin::Service { index, matches: words.clone(), environment };
            layers.push((specificity, origin(None), &entry.policy));
            for (pattern, policy) in &entry.environments {
                if let Some(rank) = rank(Some(pattern), &service.environment) {
                    let [name, namespace, _, release] = specificity;
                    let specificity = [name, namespace, rank, release];
                    layers.push((specificity, origin(Some(pattern.clone())), policy));
                }
            }
        }
        // Stable: of equally specific ones the later one wins.
        layers.sort_by_key(|(specificity, ..)| *specificity);
        layers.into_iter().map(|(_, origin, policy)| (origin, policy)).collect()
    }

    /// Whether an exception names this service, if only by a pattern.
    pub fn is_named(&self, service: &ServiceKey) -> bool {
        self.services.iter().any(|entry| entry.matches.service.is_some() && entry.matches.matches(service))
    }

    /// The kinds of release for which a service has exceptions, as the file names them. A pattern stands for itself,
    /// for it fits its own text.
    pub fn releases(&self, service: &ServiceKey) -> Vec<String> {
        let entries = self.services.iter().filter(|entry| entry.matches.matches(service));
        let mut releases: Vec<String> = entries.filter_map(|entry| entry.matches.release.clone()).collect();
        releases.sort();
        releases.dedup();
        releases
    }

    /// The policy of a service for a kind of release, as written: the defaults with every exception on top.
    pub fn effective(&self, service: &ServiceKey, release: &str) -> PolicyConfig {
        let mut policy = self.defaults.clone();
        self.layers(service, release).into_iter().for_each(|(_, layer)| layer.apply(&mut policy));
        policy
    }

    /// The policy of a service for a kind of release in the words of the core.
    pub fn resolve(&self, service: &ServiceKey, release: &str) -> ResolvedPolicy {
        self.effective(service, release).resolve()
    }
}

impl PolicyConfig {
    /// This policy in the words of the core.
    pub fn resolve(&self) -> ResolvedPolicy {
        let (dimensions, regions) = dimensions::resolve(&self.dimensions, &self.regions);
        ResolvedPolicy {
            policy: Policy {
                slo: self.slo,
                alpha: self.alpha,
                beta: self.beta,
                horizon_s: whole_seconds(self.horizon),
                warmup_s: whole_seconds(self.warmup),
                min_pass_s: whole_seconds(self.min_pass),
                error_ratio: 1.0 + self.error_margin,
                latency_margin: buckets(self.latency_margin),
                pass_error_ratio: 1.0 + self.pass_error_margin,
                pass_latency_margin: buckets(self.pass_latency_margin),
                slis: Arc::new(
                    self.slis.iter().filter_map(|(name, sli)| sli.resolve(name, self.slo)).collect(),
                ),
                dimensions: Arc::new(dimensions),
                regions,
            },
            mode: self.mode.into(),
            proposal: self.on_fail.into(),
            webhook: self.webhook.clone(),
            links: Links { runbook_url: self.runbook_url.clone(), dashboard_url: self.dashboard_url.clone() },
        }
    }
}

/// A margin as histogram buckets, of which 32 make an octave.
pub(super) fn buckets(margin: f64) -> i32 {
    (32.0 * (1.0 + margin).log2()).round() as i32
}

/// Slots are seconds, so a started second counts as one.
fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, name: &str, environment: &str) -> ServiceKey {
        ServiceKey {
            namespace: namespace.into(),
            name: name.into(),
            environment: environment.into(),
            extra: Vec::new(),
        }
    }

    #[test]
    fn defaults_are_those_of_the_core() {
        let resolved = PolicyConfig::default().resolve();
        assert_eq!(resolved.policy, Policy::default());
        assert_eq!(resolved.mode, Mode::default());
    }

    fn entry(matches: MatchConfig, slo: f64) -> ServicePolicyConfig {
        let policy = PolicyOverride { slo: Some(slo), ..Default::default() };
        ServicePolicyConfig { matches, policy, ..Default::default() }
    }

    fn matching(name: &str, environment: &str, release: &str) -> MatchConfig {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        MatchConfig {
            service: some(name),
            environment: some(environment),
            release: some(release),
            namespace: None,
        }
    }

    #[test]
    fn the_kinds_of_release_of_a_service_are_those_that_fit_it() {
        let config = PoliciesConfig {
            services: vec![
                entry(matching("checkout", "", "migration"), 0.6),
                entry(matching("check*", "production", "mig*"), 0.5),
                entry(matching("cart", "", "canary"), 0.4),
                entry(matching("", "", "migration"), 0.3),
                entry(matching("checkout", "", ""), 0.2),
            ],
            ..Default::default()
        };
        assert_eq!(config.releases(&service("", "checkout", "production")), ["mig*", "migration"]);
        assert_eq!(config.releases(&service("", "checkout", "")), ["migration"]);
        // A pattern is resolved as itself.
        assert_eq!(config.resolve(&service("", "checker", "production"), "mig*").policy.slo, 0.5);
    }

    #[test]
    fn the_most_specific_exception_wins_wherever_it_stands() {
        let mut config = PoliciesConfig {
            environments: [(
                "prod*".to_owned(),
                PolicyOverride { slo: Some(0.1), alpha: Some(0.03), ..Default::default() },
            )]
            .into(),
            services: vec![
                entry(matching("checkout", "production", "migration"), 0.6),
                entry(matching("checkout", "production", ""), 0.5),
                entry(matching("checkout", "", ""), 0.4),
                entry(matching("check*", "production", ""), 0.3),
                entry(matching("c*", "", ""), 0.2),
            ],
            ..Default::default()
        };
        let slo = |config: &PoliciesConfig, name: &str, environment: &str, release: &str| {
            config.resolve(&service("", name, environment), release).policy.slo
        };
        let rows = [
            ("checkout", "production", "migration", 0.6),
            ("checkout", "production", "version", 0.5),
            ("checkout", "staging", "migration", 0.4),
            ("checkin", "production", "version", 0.2),
            ("checker", "production", "version", 0.2),
            ("cart", "production", "version", 0.2),
            ("mail", "production", "version", 0.1),
            ("mail", "staging", "version", 0.999),
        ];
        config.services[3].matches.service = Some("checkx*".into());
        for _ in 0..2 {
            for (name, environment, release, expected) in rows {
                assert_eq!(
                    slo(&config, name, environment, release),
                    expected,
                    "{name} {environment} {release}"
                );
            }
            config.services.reverse();
        }
        let alpha =
            |environment: &str| config.resolve(&service("", "cart", environment), "version").policy.alpha;
        assert_eq!((alpha("production"), alpha("staging")), (0.03, 0.01), "keys nobody else sets stay");
    }

    #[test]
    fn of_equally_specific_exceptions_the_later_one_wins() {
        let both = vec![entry(matching("cart", "", ""), 0.5), entry(matching("cart", "", ""), 0.6)];
        let config = PoliciesConfig { services: both, ..Default::default() };
        assert_eq!(config.resolve(&service("", "cart", ""), "version").policy.slo, 0.6);
    }

    #[test]
    fn an_environment_below_a_service_goes_before_the_service() {
        let mut checkout = entry(matching("checkout", "", ""), 0.5);
        let over = PolicyOverride { slo: Some(0.6), ..Default::default() };
        checkout.environments.insert("staging".into(), over);
        let config = PoliciesConfig { services: vec![checkout], ..Default::default() };
        let slo =
            |environment: &str| config.resolve(&service("", "checkout", environment), "version").policy.slo;
        assert_eq!((slo("staging"), slo("production")), (0.6, 0.5));
    }

    #[test]
    fn margins_become_buckets() {
        for (margin, expected) in [(0.0, 0), (0.09, 4), (0.24, 10), (1.0, 32)] {
            assert_eq!(buckets(margin), expected, "{margin}");
        }
    }
}
