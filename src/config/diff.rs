//! What a reload may change. Policies, objectives and webhooks are taken over at once (running deployments keep theirs); addresses,
//! files and caps were used to build the running parts and need a restart. Such a change is not an error:
//! it is reported and everything else of the file is used.

use serde_json::Value;

use super::Config;

/// Sections that a reload takes over.
const RELOADABLE: [&str; 3] = ["policies", "objectives", "webhooks"];

/// The outcome of comparing the running configuration with a new one.
#[derive(Debug, Clone, PartialEq)]
pub struct Diff {
    /// What runs from now on: the old configuration with the reloadable sections of the new one.
    pub effective: Config,
    /// Key paths that changed and take effect.
    pub applied: Vec<String>,
    /// Key paths that changed but need a restart.
    pub needs_restart: Vec<String>,
}

/// Compares two sound configurations.
pub fn diff(old: &Config, new: &Config) -> Diff {
    let mut changed = Vec::new();
    compare(&tree(old), &tree(new), "", &mut changed);
    let (applied, needs_restart) = changed
        .into_iter()
        .partition(|path: &String| RELOADABLE.iter().any(|section| path.split('.').next() == Some(section)));
    let effective = Config {
        policies: new.policies.clone(),
        objectives: new.objectives.clone(),
        webhooks: new.webhooks.clone(),
        ..old.clone()
    };
    Diff { effective, applied, needs_restart }
}

/// Our own structs with string keys always serialise; an empty tree would only make a change go unreported.
fn tree(config: &Config) -> Value {
    serde_json::to_value(config).unwrap_or(Value::Null)
}

/// Collects the paths of all leaves that differ. Lists count as one leaf: their entries have no names.
fn compare(old: &Value, new: &Value, path: &str, changed: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let none = &Value::Null;
                compare(old.get(key).unwrap_or(none), new.get(key).unwrap_or(none), &path, changed);
            }
        }
        _ if old != new => changed.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::config::ServicePolicyConfig;

    #[test]
    fn equal_files_differ_in_nothing() {
        let same = diff(&Config::default(), &Config::default());
        assert!(same.applied.is_empty() && same.needs_restart.is_empty());
        assert_eq!(same.effective, Config::default());
    }

    #[test]
    fn policies_apply_and_addresses_wait() {
        let old = Config::default();
        let mut new = Config::default();
        new.api.endpoint = "0.0.0.0:9464".into();
        new.pipeline.limits.services = 5;
        new.policies.defaults.slo = 0.99;
        new.policies.services.push(ServicePolicyConfig::default());
        let found = diff(&old, &new);
        assert_eq!(found.applied, ["policies.defaults.slo", "policies.services"]);
        assert_eq!(found.needs_restart, ["api.endpoint", "pipeline.limits.services"]);
        assert_eq!(found.effective.policies, new.policies);
        assert_eq!((found.effective.api, found.effective.pipeline), (old.api, old.pipeline));
    }

    #[test]
    fn what_is_reloadable_is_a_section() {
        let tree = tree(&Config::default());
        assert!(RELOADABLE.iter().all(|section| tree.get(section).is_some()));
    }
}
