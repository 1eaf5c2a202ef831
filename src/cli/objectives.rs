//! `rollguard objectives` and `rollguard rules`: error budgets of a running Rollguard, and the rules file for Prometheus
//! that goes with them.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::{self, Client, ClientError};
use super::{ERROR, output};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Flags of `objectives`.
#[derive(Debug, Clone, Args)]
pub struct ObjectivesArgs {
    /// Service, as `name` or `namespace/name`; all services without it
    pub service: Option<String>,
    /// Environment of the service
    #[arg(long)]
    pub environment: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where rollguard is
    #[arg(long, default_value = "http://127.0.0.1:9464")]
    pub url: String,
}

/// Flags of `rules`.
#[derive(Debug, Clone, Args)]
pub struct RulesArgs {
    /// Service, as `name` or `namespace/name`
    #[arg(required_unless_present = "all")]
    pub service: Option<String>,
    /// One file for all services, also those yet to come
    #[arg(long, conflicts_with = "service")]
    pub all: bool,
    /// Environment of the service
    #[arg(long, requires = "service")]
    pub environment: Option<String>,
    /// Link that the alerts carry
    #[arg(long, value_name = "URL")]
    pub runbook_url: Option<String>,
    /// Where rollguard is
    #[arg(long, default_value = "http://127.0.0.1:9464")]
    pub url: String,
}

/// Prints error budgets.
pub(super) fn objectives(args: &ObjectivesArgs) -> ExitCode {
    let query = query(&[("service", &args.service), ("environment", &args.environment)]);
    let ask = async {
        let client = Client::new(&args.url, None, REQUEST_TIMEOUT)?;
        client.get("/api/v1/objectives", &query).await
    };
    answer(client::block_on(ask).map(|list| if args.json { format!("{list:#}\n") } else { report(&list) }))
}

/// Prints a rules file.
pub(super) fn rules(args: &RulesArgs) -> ExitCode {
    let query = query(&[
        ("service", &args.service),
        ("environment", &args.environment),
        ("runbook_url", &args.runbook_url),
    ]);
    let ask = async {
        let client = Client::new(&args.url, None, REQUEST_TIMEOUT)?;
        client.get_text("/api/v1/rules", &query).await
    };
    answer(client::block_on(ask))
}

fn query<'a>(fields: &[(&'static str, &'a Option<String>)]) -> Vec<(&'static str, &'a str)> {
    fields.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect()
}

fn answer(text: Result<String, ClientError>) -> ExitCode {
    match text {
        Ok(text) => {
            output::text(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::error(&output::chain(&error));
            ExitCode::from(ERROR)
        }
    }
}

/// Budgets for people.
fn report(list: &Value) -> String {
    let objectives = list["objectives"].as_array().map(Vec::as_slice).unwrap_or_default();
    if objectives.is_empty() {
        return "no objectives: no requests were counted yet\n".into();
    }
    objectives.iter().map(one).collect()
}

fn one(o: &Value) -> String {
    let percent = |value: &Value| value.as_f64().map_or("-".into(), |v| format!("{:.1} %", 100.0 * v));
    let mut out = client::service(&o["service"]);
    if let Some(journey) = o["journey"].as_str() {
        let _ = write!(out, ", journey {journey}");
    }
    let slo = 100.0 * o["slo"].as_f64().unwrap_or(0.0);
    let _ = writeln!(out, "  objective {slo} %");
    let budget = &o["budget"];
    if budget.is_null() {
        let _ = writeln!(out, "  no requests yet");
        return out;
    }
    let requests = |key: &str| budget[key].as_f64().unwrap_or(0.0);
    let _ = writeln!(
        out,
        "  budget of {} days: {} left, {:.0} of {:.0} failed requests spent ({} of the time watched)",
        o["window_days"],
        percent(&budget["left_ratio"]),
        requests("spent_requests"),
        requests("allowed_requests"),
        percent(&budget["completeness"]),
    );
    let burns = o["burn"].as_array().map(Vec::as_slice).unwrap_or_default();
    let burn = |b: &Value| {
        let rate = b["burn"].as_f64().map_or("-".into(), |rate| format!("{rate:.2}"));
        format!("{} {rate}", b["window"].as_str().unwrap_or("?"))
    };
    let burns: Vec<String> = burns.iter().map(burn).collect();
    let target = o["burn_target"].as_f64().unwrap_or(0.0);
    let _ = writeln!(out, "  burn: {}  (target below {target})", burns.join(", "));
    for alert in o["alerts"].as_array().into_iter().flatten() {
        let text = |key: &str| alert[key].as_str().unwrap_or("-").to_owned();
        let _ =
            writeln!(out, "  {} {} since {}", text("severity").to_uppercase(), text("rule"), text("since"));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_well() {
        let list = json!({"objectives": [
            {"service": {"namespace": "shop", "name": "checkout", "environment": "prod"}, "journey": null, "slo": 0.999,
             "window_days": 30, "burn_target": 3.0, "within_target": false,
             "burn": [{"window": "5m", "burn": 22.4, "completeness": 1.0}, {"window": "3d", "burn": null, "completeness": 0.0}],
             "budget": {"allowed_requests": 259_200.0, "spent_requests": 48_414, "left_requests": 210_786.0, "left_ratio": 0.8132,
                        "completeness": 0.33},
             "alerts": [{"severity": "page", "rule": "burn_1h", "since": "2026-01-02T03:04:05Z"}]},
            {"service": {"name": "mail"}, "journey": "send", "slo": 0.99, "window_days": 30, "budget": null}]});
        let expected = "\
shop/checkout (prod)  objective 99.9 %
  budget of 30 days: 81.3 % left, 48414 of 259200 failed requests spent (33.0 % of the time watched)
  burn: 5m 22.40, 3d -  (target below 3)
  PAGE burn_1h since 2026-01-02T03:04:05Z
mail, journey send  objective 99 %
  no requests yet
";
        assert_eq!(report(&list), expected);
        assert_eq!(report(&json!({"objectives": []})), "no objectives: no requests were counted yet\n");
    }
}
