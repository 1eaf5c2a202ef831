//! Where each value of a service's policy comes from: what `rollguard policy show` prints. The blocks that apply
//! are laid over each other key by key, as text, in the order in which [`PoliciesConfig`] applies them; a test
//! holds both ways to the same result.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::policies::{PoliciesConfig, PolicyConfig};
use crate::model::ServiceKey;

/// The block of a configuration that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// None: it is the program's default.
    BuiltIn,
    /// `policies.defaults`.
    Defaults,
    /// An entry of `policies.environments`, by its pattern.
    Environment(String),
    /// An entry of `policies.services`.
    Service {
        /// Its place in the list, from 0.
        index: usize,
        /// What it matches, in words.
        matches: String,
        /// The entry of its own `environments`, by its pattern.
        environment: Option<String>,
    },
}

impl Origin {
    /// The word for its kind: `default`, `defaults`, `environment` or `policy`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::BuiltIn => "default",
            Self::Defaults => "defaults",
            Self::Environment(_) | Self::Service { environment: Some(_), .. } => "environment",
            Self::Service { .. } => "policy",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("default"),
            Self::Defaults => f.write_str("policies.defaults"),
            Self::Environment(pattern) => write!(f, "policies.environments.{pattern}"),
            Self::Service { index, matches, environment } => {
                write!(f, "policies.services[{index}]")?;
                if let Some(pattern) = environment {
                    write!(f, ".environments.{pattern}")?;
                }
                write!(f, " ({matches})")
            }
        }
    }
}

/// One value of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyLine {
    /// Its key below the policy, for example `slo`.
    pub key: String,
    /// The value as the configuration file would have it.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// The policy of a service with the origin of each value.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// The values, by key.
    pub lines: Vec<PolicyLine>,
    /// The blocks that apply, the one that wins last.
    pub applied: Vec<Origin>,
}

impl Explained {
    /// As the API and the command line print it.
    pub fn json(&self, service: &ServiceKey, release: &str) -> Value {
        let block = |origin: &Origin| json!({"block": origin.to_string(), "kind": origin.kind()});
        let line = |line: &PolicyLine| {
            let (origin, kind) = (line.origin.to_string(), line.origin.kind());
            json!({"key": line.key, "value": line.value, "origin": origin, "origin_kind": kind})
        };
        json!({
            "service": {
                "namespace": service.namespace,
                "name": service.name,
                "environment": service.environment,
            },
            "release": release,
            "applied": self.applied.iter().map(block).collect::<Vec<_>>(),
            "values": self.lines.iter().map(line).collect::<Vec<_>>(),
        })
    }
}

impl PoliciesConfig {
    /// The policy of a service for one kind of release, with the origin of each value.
    pub fn explain(&self, service: &ServiceKey, release: &str) -> Explained {
        let mut lines: BTreeMap<String, (Value, Origin)> = BTreeMap::new();
        for (key, value) in leaves(tree(&self.defaults)) {
            lines.insert(key, (value, Origin::Defaults));
        }
        for (key, value) in leaves(tree(&PolicyConfig::default())) {
            if let Some((_, origin)) = lines.get_mut(&key).filter(|(set, _)| *set == value) {
                *origin = Origin::BuiltIn;
            }
        }
        let mut applied = Vec::new();
        for (origin, policy) in self.layers(service, release) {
            for (name, _) in policy.slis.iter().filter(|(_, sli)| sli.is_definition()) {
                let below = format!("slis.{name}.");
                lines.retain(|key, _| !key.starts_with(&below));
            }
            for (key, value) in leaves(tree(policy)) {
                if !value.is_null() {
                    lines.insert(key, (value, origin.clone()));
                }
            }
            applied.push(origin);
        }
        let line = |(key, (value, origin))| PolicyLine { key, value, origin };
        Explained { lines: lines.into_iter().map(line).collect(), applied }
    }
}

/// Our own structs with string keys always serialise.
fn tree(policy: &impl serde::Serialize) -> Value {
    serde_json::to_value(policy).unwrap_or(Value::Null)
}

/// All values of a tree by their paths. Lists are one value: their entries have no names.
fn leaves(tree: Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    collect(String::new(), tree, &mut found);
    found
}

fn collect(path: String, value: Value, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let below = if path.is_empty() { key } else { format!("{path}.{key}") };
                collect(below, value, found);
            }
        }
        value => found.push((path, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MatchConfig, ModeConfig, PolicyOverride, ServicePolicyConfig};
    use super::*;

    fn config() -> PoliciesConfig {
        let over = |slo, mode| PolicyOverride { slo, mode, ..Default::default() };
        PoliciesConfig {
            defaults: PolicyConfig { alpha: 0.02, ..Default::default() },
            environments: [("prod*".to_owned(), over(None, Some(ModeConfig::Act)))].into(),
            services: vec![ServicePolicyConfig {
                matches: MatchConfig { service: Some("check*".into()), ..Default::default() },
                policy: over(Some(0.99), None),
                environments: [("staging".to_owned(), over(Some(0.9), None))].into(),
            }],
        }
    }

    fn service(environment: &str) -> ServiceKey {
        ServiceKey { name: "checkout".into(), environment: environment.into(), ..Default::default() }
    }

    #[test]
    fn each_value_names_the_block_that_set_it() {
        let origin = |environment: &str, key: &str| {
            let explained = config().explain(&service(environment), "version");
            let line = explained.lines.into_iter().find(|line| line.key == key).expect(key);
            (line.value.to_string(), line.origin.to_string(), line.origin.kind())
        };
        let rows = [
            ("production", "beta", "0.05", "default", "default"),
            ("production", "alpha", "0.02", "policies.defaults", "defaults"),
            ("production", "mode", "\"act\"", "policies.environments.prod*", "environment"),
            ("production", "slo", "0.99", "policies.services[0] (service check*)", "policy"),
            ("staging", "mode", "\"observe\"", "default", "default"),
            (
                "staging",
                "slo",
                "0.9",
                "policies.services[0].environments.staging (service check*)",
                "environment",
            ),
        ];
        for (environment, key, value, from, kind) in rows {
            let expected = (value.to_owned(), from.to_owned(), kind);
            assert_eq!(origin(environment, key), expected, "{key} in {environment}");
        }
        let applied = config().explain(&service("staging"), "version").applied;
        let applied: Vec<String> = applied.iter().map(ToString::to_string).collect();
        assert_eq!(
            applied,
            [
                "policies.services[0] (service check*)",
                "policies.services[0].environments.staging (service check*)"
            ]
        );
    }

    #[test]
    fn what_is_explained_is_what_holds() {
        for environment in ["production", "staging", ""] {
            let (config, service) = (config(), service(environment));
            let expected: BTreeMap<String, Value> =
                leaves(tree(&config.effective(&service, "version"))).into_iter().collect();
            let explained = config.explain(&service, "version").lines;
            let got: BTreeMap<String, Value> = explained.into_iter().map(|l| (l.key, l.value)).collect();
            assert_eq!(got, expected, "{environment}");
        }
    }
}
