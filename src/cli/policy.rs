//! `rollguard policy show`: what a service is held to and where each value comes from, by a configuration file or
//! asked of a running Rollguard.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{self, Client, ClientError};
use super::{ERROR, output};
use crate::config::{self, Files, LoadError};
use crate::deployment::Deployment;
use crate::model::ServiceKey;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Flags of `policy`.
#[derive(Debug, Clone, Args)]
pub struct PolicyArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: PolicyAction,
}

/// What `policy` can do.
#[derive(Debug, Clone, Subcommand)]
pub enum PolicyAction {
    /// Print what a service is held to, each value with the block of the configuration that it comes from
    Show(ShowArgs),
}

/// Flags of `policy show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// Service, as `name` or `namespace/name`; it need not have been seen yet
    pub service: String,
    /// Environment; without one, asked of a running rollguard, all in which the service was seen
    #[arg(long)]
    pub environment: Option<String>,
    /// Kind of release, as `deploy start --release` names it
    #[arg(long, default_value = Deployment::VERSION)]
    pub release: String,
    /// Read this configuration file instead of asking a running rollguard
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where rollguard is
    #[arg(long, default_value = "http://127.0.0.1:9464", conflicts_with = "config")]
    pub url: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Why there is no policy to show.
#[derive(Debug, thiserror::Error)]
enum ShowError {
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("start the runtime")]
    Runtime(#[from] std::io::Error),
}

/// Carries the command out.
pub(super) fn run(args: &PolicyArgs) -> ExitCode {
    let PolicyAction::Show(show) = &args.action;
    let answer = match &show.config {
        Some(file) => read(show, file),
        None => ask(show),
    };
    match answer {
        Ok(answer) => {
            if show.json {
                output::line(&format!("{answer:#}"));
            } else {
                output::text(&report(&answer));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::error(&output::chain(&error));
            ExitCode::from(ERROR)
        }
    }
}

/// The answer that a running Rollguard with this file would give.
fn read(args: &ShowArgs, file: &Path) -> Result<Value, ShowError> {
    let config = config::load(file, Files::Elsewhere)?;
    let (namespace, name) = args.service.split_once('/').unwrap_or(("", &args.service));
    let service = ServiceKey {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        environment: args.environment.clone().unwrap_or_default(),
        ..ServiceKey::default()
    };
    let explained = config.policies.explain(&service, &args.release);
    Ok(json!({"policies": [explained.json(&service, &args.release)]}))
}

fn ask(args: &ShowArgs) -> Result<Value, ShowError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Client::new(&args.url, None, REQUEST_TIMEOUT)?;
    let mut query = vec![("release", args.release.as_str())];
    query.extend(args.environment.as_deref().map(|environment| ("environment", environment)));
    let path = format!("/api/v1/services/{}/policy", client::encode(&args.service));
    Ok(runtime.block_on(client.get(&path, &query))?)
}

/// The answer for people: one table per service and environment.
fn report(answer: &Value) -> String {
    let mut out = String::new();
    for policy in list(&answer["policies"]) {
        if !out.is_empty() {
            out.push('\n');
        }
        let unseen = if policy["seen"] == false { ", not seen yet" } else { "" };
        let service = client::service(&policy["service"]);
        let _ = writeln!(out, "{service}, release {}{unseen}", text(&policy["release"]));
        for block in list(&policy["applied"]) {
            let _ = writeln!(out, "  applies: {}", text(&block["block"]));
        }
        let rows: Vec<[String; 3]> = list(&policy["values"])
            .iter()
            .map(|line| [text(&line["key"]), text(&line["value"]), text(&line["origin"])])
            .collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1)];
        for [key, value, origin] in &rows {
            let _ = writeln!(out, "  {key:<0$}  {value:<1$}  {origin}", widths[0], widths[1]);
        }
    }
    out
}

/// Text without quotes, `-` for nothing, anything else as JSON has it.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is printed of the policy of shop/checkout in production by a file.
    fn shown(yaml: &str) -> String {
        let here = tempfile::tempdir().unwrap();
        let file = here.path().join("rollguard.yaml");
        std::fs::write(&file, yaml).unwrap();
        let args = ShowArgs {
            service: "shop/checkout".into(),
            environment: Some("production".into()),
            release: "version".into(),
            config: Some(file.clone()),
            url: String::new(),
            json: false,
        };
        report(&read(&args, &file).unwrap())
    }

    #[test]
    fn a_file_is_explained_value_by_value() {
        let report = shown(
            "policies:\n  defaults: {alpha: 0.02}\n  environments:\n    prod*: {horizon: 45m}\n  services:\n    \
            - match: {service: checkout}\n      policy: {slo: 0.995}\n",
        );
        for line in [
            "shop/checkout (production), release version",
            "  applies: policies.environments.prod*",
            "  applies: policies.services[0] (service checkout)",
            "  alpha                0.02      policies.defaults",
            "  beta                 0.05      default",
            "  horizon              45m       policies.environments.prod*",
            "  slo                  0.995     policies.services[0] (service checkout)",
            "  webhook              -         default",
        ] {
            assert!(report.lines().any(|found| found == line), "{line:?} is missing in\n{report}");
        }
    }

    /// Gauges and deaths of instances, each key with the block that it is from; one that a block defines anew is that one
    /// alone.
    #[test]
    fn slis_are_explained_key_by_key() {
        let report = shown(
            "policies:\n  defaults:\n    slis:\n      deaths: {kind: churn, weight: 0.1}\n      \
            heap: {kind: gauge, value: {metric: jvm.memory.used, attributes: {jvm.memory.type: heap}}}\n      \
            hits: {kind: gauge, value: {metric: cache.hits}, slack: 0.1}\n  services:\n    \
            - match: {service: checkout}\n      policy:\n        slis:\n          heap: {weight: 0.05, margin: 0.3}\n          \
            deaths: {report_only: true}\n          \
            hits: {kind: gauge, value: {metric: cache.hit_ratio}, direction: decrease}\n",
        );
        let (here, defaults) = ("policies.services[0] (service checkout)", "policies.defaults");
        let expected = [
            ["slis.deaths.kind", "churn", defaults],
            ["slis.deaths.report_only", "true", here],
            ["slis.deaths.weight", "0.1", defaults],
            ["slis.heap.kind", "gauge", defaults],
            ["slis.heap.margin", "0.3", here],
            ["slis.heap.value.attributes.jvm.memory.type", "heap", defaults],
            ["slis.heap.value.metric", "jvm.memory.used", defaults],
            ["slis.heap.weight", "0.05", here],
            ["slis.hits.direction", "decrease", here],
            ["slis.hits.kind", "gauge", here],
            ["slis.hits.value.metric", "cache.hit_ratio", here],
        ]
        .map(|row| row.join(" "));
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let found: Vec<String> = report.lines().map(words).filter(|line| line.starts_with("slis.")).collect();
        assert_eq!(found, expected, "{report}");
    }

    #[test]
    fn a_service_nobody_has_seen_is_said_so() {
        let answer = json!({"policies": [{"service": {"name": "cart"}, "release": "version", "seen": false,
            "applied": [], "values": [{"key": "slo", "value": 0.9, "origin": "default"}]}]});
        assert_eq!(report(&answer), "cart, release version, not seen yet\n  slo  0.9  default\n");
    }
}
