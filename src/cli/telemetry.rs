//! `rollguard telemetry`: what the telemetry of a service lacks for good verdicts, asked of a running Rollguard.
//! The exit code lets a pipeline insist on complete telemetry.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::{self, Client, ClientError};
use super::{ERROR, FAILED, output};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Flags of `telemetry`.
#[derive(Debug, Clone, Args)]
pub struct TelemetryArgs {
    /// Service, as `name` or `namespace/name`
    pub service: String,
    /// Where rollguard is
    #[arg(long, default_value = "http://127.0.0.1:9464")]
    pub url: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Carries the command out.
pub(super) fn run(args: &TelemetryArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = match runtime {
        Ok(runtime) => runtime.block_on(ask(args)),
        Err(error) => {
            output::error(&format!("start the runtime: {error}"));
            return ExitCode::from(ERROR);
        }
    };
    match answer {
        Ok(answer) => {
            if args.json {
                output::line(&format!("{answer:#}"));
            } else {
                output::text(&report(&answer));
            }
            ExitCode::from(code(&answer))
        }
        Err(error) => {
            output::error(&output::chain(&error));
            ExitCode::from(ERROR)
        }
    }
}

async fn ask(args: &TelemetryArgs) -> Result<Value, ClientError> {
    let client = Client::new(&args.url, None, REQUEST_TIMEOUT)?;
    client.get(&format!("/api/v1/services/{}/telemetry", client::encode(&args.service)), &[]).await
}

/// Whether anything is missing that verdicts suffer from.
fn code(answer: &Value) -> u8 {
    let missing = list(&answer["services"]).iter().flat_map(|service| list(&service["missing"]));
    let suffers = missing.into_iter().any(|lack| lack["severity"] == "warning");
    if suffers { FAILED } else { 0 }
}

/// The answer for people.
fn report(answer: &Value) -> String {
    let mut out = String::new();
    for service in list(&answer["services"]) {
        let _ = writeln!(out, "{}", client::service(&service["service"]));
        for signal in ["traces", "metrics", "logs"] {
            let _ = writeln!(out, "  {signal:<8} {}", signal_line(&service["signals"][signal]));
        }
        for version in list(&service["versions"]) {
            let records = |signal: &str| version["records"][signal].as_u64().unwrap_or(0);
            let [traces, metrics, logs] = ["traces", "metrics", "logs"].map(records);
            let name = version["version"].as_str().unwrap_or_default();
            let _ = writeln!(out, "  {name}: {traces} spans, {metrics} data points, {logs} log records");
        }
        for (flag, told) in service["feature_flags"].as_object().into_iter().flatten() {
            let records = |place: &str| told[place].as_u64().unwrap_or(0);
            let [requests, spans, logs] = ["requests", "other_spans", "log_records"].map(records);
            let _ = writeln!(
                out,
                "  feature flag {flag}: told by {requests} requests, {spans} other spans, {logs} log records"
            );
        }
        let missing = list(&service["missing"]);
        for lack in missing {
            let text = |key: &str| lack[key].as_str().unwrap_or_default();
            let _ = writeln!(out, "  {}: {}", text("severity"), text("text"));
            let code = list(&lack["code"]).iter().filter_map(|line| Some(("code:", line.as_str()?)));
            let lines = [("process:", text("environment")), ("collector:", text("collector"))];
            for (place, line) in lines.into_iter().filter(|(_, line)| !line.is_empty()).chain(code) {
                let _ = writeln!(out, "    {place:<10} {line}");
            }
        }
        if missing.is_empty() {
            let _ = writeln!(out, "  nothing is missing");
        }
    }
    out
}

fn signal_line(signal: &Value) -> String {
    let Some(records) = signal["records"].as_u64() else { return "nothing".to_owned() };
    let from = |key: &str| {
        let names = signal[key].as_object().into_iter().flatten();
        let mut names: Vec<String> =
            names.map(|(name, share)| format!("{name} {}", percent(share))).collect();
        names.sort();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    let mut line = format!("{records} records, version from {}", from("version_from"));
    if signal["joined_share"].as_f64().is_some_and(|share| share > 0.0) {
        let _ = write!(line, ", by an id of their pod {}", percent(&signal["joined_share"]));
    }
    let _ = write!(line, "; instance from {}", from("instance_from"));
    line
}

fn percent(share: &Value) -> String {
    format!("{:.0} %", 100.0 * share.as_f64().unwrap_or(0.0))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(severity: &str) -> Value {
        json!({"services": [{
            "service": {"namespace": "shop", "name": "cart", "environment": "prod"},
            "signals": {
                "traces": {"records": 40, "joined_share": 0.0, "version_from": {"service.version": 0.25},
                           "instance_from": {"k8s.pod.uid": 1.0}},
                "metrics": {"records": 9, "joined_share": 1.0, "version_from": {}, "instance_from": {}},
                "logs": null,
            },
            "versions": [{"version": "v1", "records": {"traces": 10, "metrics": 9, "logs": 0}}],
            "feature_flags": {"pay": {"requests": 0, "other_spans": 30, "log_records": 7}},
            "missing": [{"severity": severity, "what": "version", "text": "75 % carry no version",
                         "environment": "A=b", "collector": "processors: {}"},
                        {"severity": "note", "what": "feature_flag", "text": "pay", "code": ["Java: x"]}],
        }]})
    }

    #[test]
    fn the_report_says_what_comes_and_what_is_missing() {
        let expected = "\
shop/cart (prod)
  traces   40 records, version from service.version 25 %; instance from k8s.pod.uid 100 %
  metrics  9 records, version from nothing, by an id of their pod 100 %; instance from nothing
  logs     nothing
  v1: 10 spans, 9 data points, 0 log records
  feature flag pay: told by 0 requests, 30 other spans, 7 log records
  warning: 75 % carry no version
    process:   A=b
    collector: processors: {}
  note: pay
    code:      Java: x
";
        assert_eq!(report(&answer("warning")), expected);
    }

    #[test]
    fn only_what_verdicts_suffer_from_fails() {
        assert_eq!((code(&answer("warning")), code(&answer("note"))), (FAILED, 0));
        assert_eq!(code(&json!({"services": []})), 0);
    }
}
