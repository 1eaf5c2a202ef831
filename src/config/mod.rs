//! The configuration file. This module only composes: each component owns its struct, its defaults and what
//! its keys mean; here a file is read ([`load`]), its values are checked together ([`validate`]), and two
//! files are compared for a reload ([`diff`]). All of a file is used or none of it.
//!
//! To add a section: one field in [`Config`], one line in [`validate`] if its values have ranges, its keys in
//! `config/rollguard.yaml`, and its name in [`diff`] if a reload may change it.

pub mod diff;
mod dimensions;
mod files;
mod load;
mod locate;
mod slis;
mod substitute;
pub mod validate;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::ApiConfig;
use crate::credentials::ExtensionsConfig;
use crate::forward::ExportersConfig;
use crate::pipeline::config::{PipelineConfig, PoliciesConfig};
use crate::pipeline::objectives::ObjectivesConfig;
use crate::receiver::ReceiverConfig;
use crate::remedy::WebhookConfig;
use crate::spool::FileStorageConfig;
use crate::store::StoreConfig;
use crate::telemetry::TelemetryConfig;

pub use files::Files;
pub use load::{LoadError, load, parse};
pub use locate::Place;
pub use substitute::SubstituteError;
pub use validate::Problem;

/// The file that documents every key at its default.
pub const DEFAULT_FILE: &str = include_str!("../../config/rollguard.yaml");

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where telemetry is received.
    pub receiver: ReceiverConfig,
    /// Who may send and what we send with it, by name.
    pub extensions: ExtensionsConfig,
    /// Where telemetry goes on to, by name.
    pub exporters: ExportersConfig,
    /// Where exporters keep queues on disk.
    pub file_storage: FileStorageConfig,
    /// The HTTP port for people, pipelines and Prometheus.
    pub api: ApiConfig,
    /// Windows and caps.
    pub pipeline: PipelineConfig,
    /// What versions are held to.
    pub policies: PoliciesConfig,
    /// Error budgets, journeys and who is told of them.
    pub objectives: ObjectivesConfig,
    /// Endpoints that carry out rollbacks and take alerts, by name.
    pub webhooks: BTreeMap<String, WebhookConfig>,
    /// Durable state.
    pub store: StoreConfig,
    /// Rollguard's own metrics.
    pub telemetry: TelemetryConfig,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key of the default configuration, as a path.
    fn keys(value: &serde_json::Value, path: &str, all: &mut Vec<String>) {
        if let Some(map) = value.as_object() {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                all.push(path.clone());
                keys(value, &path, all);
            }
        }
    }

    #[test]
    fn the_documented_file_is_the_default() {
        let parsed = parse(DEFAULT_FILE, |_| None).expect("the documented file loads");
        assert_eq!(parsed, Config::default());
    }

    #[test]
    fn the_documented_file_names_every_key() {
        let mut expected = Vec::new();
        keys(&serde_json::to_value(Config::default()).unwrap(), "", &mut expected);
        let written: serde_json::Value = serde_saphyr::from_str(DEFAULT_FILE).unwrap();
        let mut found = Vec::new();
        keys(&written, "", &mut found);
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }

    /// The commented exporters are whole and say what the defaults are.
    #[test]
    fn the_documented_exporters_are_true() {
        let start = DEFAULT_FILE.find("#   otlp_grpc/backend:").expect("the example is there");
        let example: String = DEFAULT_FILE[start..]
            .lines()
            .map_while(|line| line.strip_prefix("# "))
            .fold(String::new(), |text, line| text + line + "\n");
        let written =
            parse(&format!("exporters:\n{example}"), |_| None).unwrap_or_else(|e| panic!("loads: {e}"));
        let least = "exporters:\n  otlp_grpc/backend: {endpoint: http://collector:4317}\n  debug:\n  file/recording: \
                     {path: /var/lib/rollguard/otlp.json}\n";
        let least = parse(least, |_| None).expect("the least of it loads");
        assert_eq!(written.exporters, least.exporters);
        let example: serde_json::Value = serde_saphyr::from_str(&example).expect("the example is YAML");
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        keys(&serde_json::to_value(least.exporters).unwrap(), "", &mut expected);
        keys(&example, "", &mut found);
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_documented_exception_is_true() {
        let start = DEFAULT_FILE.find("  #   - match:").expect("the example is there");
        let example: String = DEFAULT_FILE[start..]
            .lines()
            .map_while(|line| line.strip_prefix("  # "))
            .fold(String::new(), |text, line| text + "  " + line + "\n");
        let webhook = "webhooks:\n  deployer: {url: https://deployer.example, secret_file: s}\n";
        let config = parse(&format!("{webhook}policies:\n  services:\n{example}"), |_| None)
            .unwrap_or_else(|e| panic!("the example loads: {e}"));
        assert_eq!(config.policies.services.len(), 2);
    }
}
