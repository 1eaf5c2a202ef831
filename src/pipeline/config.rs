//! Windows, caps and policies as a user writes them, and how they become the settings of the core. A user
//! writes margins as shares ("9 % slower is fine") and times as durations; the core counts buckets and
//! seconds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::human;
use crate::deployment::Mode;
use crate::model::ServiceKey;
use crate::verdict::Policy;

/// The `pipeline` section: how long to wait for spans, and how much is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineConfig {
    /// How long a slot waits for late spans.
    pub lateness: LatenessConfig,
    /// Caps on what is told apart; beyond them there is an overflow series.
    pub limits: LimitsConfig,
    /// A version's series end this long after its last span.
    #[serde(with = "human")]
    pub series_ttl: Duration,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            lateness: LatenessConfig::default(),
            limits: LimitsConfig::default(),
            series_ttl: Duration::from_secs(15 * 60),
        }
    }
}

/// How long a slot stays open after its end: learned per service between `min` and `max`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LatenessConfig {
    /// Never wait less than this.
    #[serde(with = "human")]
    pub min: Duration,
    /// Never wait longer than this.
    #[serde(with = "human")]
    pub max: Duration,
    /// Wait this long until enough spans were seen to know better.
    #[serde(with = "human")]
    pub initial: Duration,
}

impl Default for LatenessConfig {
    fn default() -> Self {
        Self { min: Duration::from_secs(1), max: Duration::from_secs(30), initial: Duration::from_secs(7) }
    }
}

impl From<&LatenessConfig> for crate::window::LatenessConfig {
    fn from(c: &LatenessConfig) -> Self {
        Self { min: c.min.as_secs_f64(), max: c.max.as_secs_f64(), initial: c.initial.as_secs_f64() }
    }
}

impl From<&LimitsConfig> for super::RegistryLimits {
    fn from(c: &LimitsConfig) -> Self {
        Self {
            services: c.services,
            versions_per_service: c.versions_per_service,
            operations_per_version: c.operations_per_version,
            instances_per_version: c.instances_per_version,
            streams_per_version: c.streams_per_version,
            label_bytes: c.label_bytes,
        }
    }
}

/// Caps on what is told apart. They bound memory and the number of metric series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Services.
    pub services: usize,
    /// Versions of one service.
    pub versions_per_service: usize,
    /// Operations of one version.
    pub operations_per_version: usize,
    /// Instances of one version.
    pub instances_per_version: usize,
    /// Streams of request metrics of one version: each has a last value to count from.
    pub streams_per_version: usize,
    /// Bytes of one label (service, version, operation); longer ones are cut.
    pub label_bytes: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            services: 2000,
            versions_per_service: 20,
            operations_per_version: 200,
            instances_per_version: 1000,
            streams_per_version: 20_000,
            label_bytes: 256,
        }
    }
}

/// The `policies` section: what versions are held to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoliciesConfig {
    /// For every service.
    pub defaults: PolicyConfig,
    /// Exceptions. Every entry that matches a service applies, in this order; the later one wins.
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
    /// Name of the webhook (a key of `webhooks`) that carries out the rollback.
    pub webhook: Option<String>,
    /// Shown with the verdict and sent with the rollback.
    pub runbook_url: Option<String>,
    /// Shown with the verdict and sent with the rollback.
    pub dashboard_url: Option<String>,
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
            webhook: None,
            runbook_url: None,
            dashboard_url: None,
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

/// Exceptions for the services that match.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServicePolicyConfig {
    /// Which services.
    #[serde(rename = "match")]
    pub matches: MatchConfig,
    /// What differs for them.
    pub policy: PolicyOverride,
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
}

impl MatchConfig {
    /// Whether the exception is for this service.
    pub fn matches(&self, service: &ServiceKey) -> bool {
        let one = |pattern: &Option<String>, value: &str| pattern.as_deref().is_none_or(|p| glob(p, value));
        one(&self.service, &service.name)
            && one(&self.namespace, &service.namespace)
            && one(&self.environment, &service.environment)
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
    pub webhook: Option<String>,
    pub runbook_url: Option<String>,
    pub dashboard_url: Option<String>,
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
        over!(pass_error_margin, pass_latency_margin, mode);
        over_optional!(webhook, runbook_url, dashboard_url);
    }
}

/// What holds for one service: everything that a new deployment of it takes over.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResolvedPolicy {
    /// For the judge.
    pub policy: Policy,
    /// Whether a fail fires the rollback.
    pub mode: Mode,
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
    /// The policy of a service as written: the defaults with every matching exception on top.
    pub fn effective(&self, service: &ServiceKey) -> PolicyConfig {
        let mut policy = self.defaults.clone();
        for entry in self.services.iter().filter(|e| e.matches.matches(service)) {
            entry.policy.apply(&mut policy);
        }
        policy
    }

    /// The policy of a service in the words of the core.
    pub fn resolve(&self, service: &ServiceKey) -> ResolvedPolicy {
        self.effective(service).resolve()
    }
}

impl PolicyConfig {
    /// This policy in the words of the core.
    pub fn resolve(&self) -> ResolvedPolicy {
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
            },
            mode: self.mode.into(),
            webhook: self.webhook.clone(),
            links: Links { runbook_url: self.runbook_url.clone(), dashboard_url: self.dashboard_url.clone() },
        }
    }
}

/// A margin as histogram buckets, of which 32 make an octave.
fn buckets(margin: f64) -> i32 {
    (32.0 * (1.0 + margin).log2()).round() as i32
}

/// Slots are seconds, so a started second counts as one.
fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}

/// Whether `text` fits `pattern`, in which `*` stands for any characters, also none. Linear in practice:
/// only the last `*` is ever retried.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), retry) {
            (Some(b'*'), _) => {
                retry = Some((p + 1, t));
                p += 1;
            }
            (Some(c), _) if *c == text[t] => {
                p += 1;
                t += 1;
            }
            (_, Some((after_star, from))) => {
                retry = Some((after_star, from + 1));
                p = after_star;
                t = from + 1;
            }
            _ => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
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

    #[test]
    fn globs() {
        let rows = [
            ("checkout", "checkout", true),
            ("checkout", "checkout2", false),
            ("*", "", true),
            ("pay*", "payments", true),
            ("pay*", "repay", false),
            ("*-api", "orders-api", true),
            ("*-api", "orders-api-v2", false),
            ("a*b*c", "axxbyybc", true),
            ("a*b*c", "axxbyyb", false),
            ("", "x", false),
        ];
        for (pattern, text, expected) in rows {
            assert_eq!(glob(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn later_matching_entries_win_key_by_key() {
        let config = PoliciesConfig {
            services: vec![
                ServicePolicyConfig {
                    matches: MatchConfig { environment: Some("prod*".into()), ..Default::default() },
                    policy: PolicyOverride {
                        mode: Some(ModeConfig::Act),
                        webhook: Some("argo".into()),
                        ..Default::default()
                    },
                },
                ServicePolicyConfig {
                    matches: MatchConfig { service: Some("checkout".into()), ..Default::default() },
                    policy: PolicyOverride {
                        slo: Some(0.99),
                        webhook: Some("shop".into()),
                        ..Default::default()
                    },
                },
            ],
            ..Default::default()
        };
        let both = config.resolve(&service("", "checkout", "production"));
        assert_eq!((both.policy.slo, both.mode, both.webhook.as_deref()), (0.99, Mode::Act, Some("shop")));
        let first = config.resolve(&service("", "cart", "production"));
        assert_eq!(
            (first.policy.slo, first.mode, first.webhook.as_deref()),
            (0.999, Mode::Act, Some("argo"))
        );
        assert_eq!(config.resolve(&service("", "cart", "staging")), PolicyConfig::default().resolve());
    }

    #[test]
    fn margins_become_buckets() {
        for (margin, expected) in [(0.0, 0), (0.09, 4), (0.24, 10), (1.0, 32)] {
            assert_eq!(buckets(margin), expected, "{margin}");
        }
    }
}
