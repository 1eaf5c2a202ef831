//! The command line: what can be asked, and which part of the program answers. Exit codes are part of the
//! interface, because pipelines act on them:
//!
//! | command | 0 | 1 | 2 | 3 |
//! |---|---|---|---|---|
//! | `run` | stopped as asked | failed | | |
//! | `demo` | ended as it should | did not, or failed | | |
//! | `validate` | sound | not sound | sound, but not for the live series | the server cannot be asked |
//! | `deploy wait` | pass | fail | inconclusive, or timeout | usage or connection |
//! | `deploy` otherwise | done | | | usage or connection |
//! | `policy` | shown | | | usage, file or connection |
//! | `telemetry` | nothing missing but notes | something is missing | | usage or connection |
//! | `explain`, `objectives`, `rules` | answered | | | usage or connection |
//! | `replay` | pass | fail | inconclusive | error |

pub mod args;
mod client;
mod deploy;
mod explain;
mod lint;
mod objectives;
mod output;
mod policy;
mod telemetry;
mod validate;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::app::{self, replay::ReplayOptions};
use crate::pipeline::recording::Selection;
use crate::verdict::Verdict;

pub use args::{DemoArgs, ReplayArgs, RunArgs, Scenario, ValidateArgs};
pub use deploy::DeployArgs;
pub use explain::ExplainArgs;
pub use objectives::{ObjectivesArgs, RulesArgs};
pub use policy::PolicyArgs;
pub use telemetry::TelemetryArgs;

/// Something went wrong, for commands without a finer meaning of their codes.
pub const FAILED: u8 = 1;
/// Usage, connection or input is wrong, for commands whose 1 and 2 are verdicts.
pub const ERROR: u8 = 3;

/// Judges new versions of services from their OTLP traffic, and fires the rollback.
#[derive(Debug, Parser)]
#[command(name = "rollguard", version, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive OTLP, judge deployments, serve metrics and the API
    Run(RunArgs),
    /// Play two versions of a small shop against a gateway of its own and watch the verdict
    Demo(DemoArgs),
    /// Judge recorded OTLP (JSON lines or length-delimited protobuf; .gz, .zst)
    Replay(ReplayArgs),
    /// Check a configuration file, or print all keys with their defaults
    Validate(ValidateArgs),
    /// Start, watch and cancel deployments of a running rollguard
    Deploy(DeployArgs),
    /// Print what a service is held to, and where each value comes from
    Policy(PolicyArgs),
    /// Say what the telemetry of a service lacks, and what mends it: exit 0 nothing that verdicts suffer from, 1 else
    Telemetry(TelemetryArgs),
    /// Say why a deployment was judged as it was, how sure that is, and what could not have been seen
    Explain(ExplainArgs),
    /// Show error budgets: how fast they burn and what is left
    Objectives(ObjectivesArgs),
    /// Print a rules file for Prometheus with the alerts on error budgets
    Rules(RulesArgs),
    /// Print the version
    Version,
}

/// Parses the arguments and carries them out.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    match Cli::try_parse_from(&args) {
        Ok(cli) => dispatch(cli.command),
        Err(error) => {
            // Nothing can be said when the terminal is gone.
            let _ = error.print();
            ExitCode::from(usage_code(&args, error.kind()))
        }
    }
}

fn dispatch(command: Command) -> ExitCode {
    match command {
        Command::Run(args) => run(args),
        Command::Demo(args) => demo(&args),
        Command::Replay(args) => replay(args),
        Command::Validate(args) => validate::run(&args),
        Command::Deploy(args) => deploy::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Telemetry(args) => telemetry::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Objectives(args) => objectives::objectives(&args),
        Command::Rules(args) => objectives::rules(&args),
        Command::Version => {
            output::line(&format!("rollguard {}", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
    }
}

fn run(args: RunArgs) -> ExitCode {
    match app::run(args.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&output::chain(&error));
            ExitCode::from(FAILED)
        }
    }
}

fn demo(args: &DemoArgs) -> ExitCode {
    match app::demo::demo(args.scenario.into()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            output::error(&output::chain(&error));
            ExitCode::from(FAILED)
        }
    }
}

fn replay(args: ReplayArgs) -> ExitCode {
    let json = args.json;
    let options = ReplayOptions {
        files: args.files,
        selection: Selection { service: args.service, baseline: args.baseline, candidate: args.candidate },
        config: args.config,
        warmup: args.warmup,
        trace: args.trace,
    };
    match app::replay::replay(&options) {
        Ok(replayed) => {
            if json {
                output::line(&replayed.json());
            } else {
                output::text(&replayed.report());
            }
            ExitCode::from(match replayed.verdict() {
                Verdict::Pass => 0,
                Verdict::Fail => 1,
                Verdict::Inconclusive | Verdict::Pending => 2,
            })
        }
        Err(error) => {
            output::error(&error.to_string());
            ExitCode::from(ERROR)
        }
    }
}

/// A wrong flag must not look like a verdict, so `deploy`, `replay`, `policy` and `telemetry` share a code for it.
fn usage_code(args: &[OsString], kind: ErrorKind) -> u8 {
    if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return 0;
    }
    match args.get(1).and_then(|a| a.to_str()) {
        Some("deploy" | "explain" | "objectives" | "policy" | "replay" | "rules" | "telemetry") => ERROR,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_errors_have_their_own_code() {
        let rows = [
            ("deploy", 3),
            ("deploy wait --nonsense", 3),
            ("deploy wait --timeout soon", 3),
            ("deploy start --service a", 3),
            ("telemetry", 3),
            ("explain", 3),
            ("rules", 3),
            ("objectives --nonsense", 3),
            ("policy show", 3),
            ("replay", 3),
            ("replay --nonsense", 3),
            ("replay a.json --warmup 60", 3),
            ("run --nonsense", 1),
            ("validate", 1),
            ("nonsense", 1),
            ("", 1),
            ("--help", 0),
            ("deploy wait --help", 0),
            ("--version", 0),
        ];
        for (line, expected) in rows {
            let args: Vec<OsString> =
                std::iter::once("rollguard").chain(line.split_whitespace()).map(Into::into).collect();
            let error = Cli::try_parse_from(&args).expect_err(line);
            assert_eq!(usage_code(&args, error.kind()), expected, "{line}");
        }
    }

    #[test]
    fn documented_lines_parse() {
        for line in [
            "run",
            "run --config rollguard.yaml",
            "demo",
            "demo --scenario replace",
            "replay a.json b.json.gz --service checkout --baseline v1 --candidate v2 --warmup 60s --json --trace t.csv",
            "validate --print-defaults",
            "validate config/rollguard.yaml --against http://127.0.0.1:9464 --share 0.05",
            "validate config/rollguard.yaml",
            "deploy start --service checkout --version v2 --baseline v1 --environment prod --commit abc",
            "deploy status",
            "deploy status 0198",
            "deploy wait --service checkout --version v2 --timeout 10m --url http://127.0.0.1:9464",
            "deploy cancel 0198 --token-file token --json",
            "policy show shop/checkout --environment prod --release canary --config rollguard.yaml",
            "policy show checkout --url http://127.0.0.1:9464 --json",
            "telemetry shop/checkout --url http://127.0.0.1:9464 --json",
            "explain 0198 --format markdown",
            "explain --service shop/checkout --environment prod",
            "objectives",
            "objectives checkout --json",
            "rules --all --runbook-url https://wiki.example/budget",
            "rules shop/checkout --url http://127.0.0.1:9464",
            "version",
        ] {
            let args = std::iter::once("rollguard").chain(line.split_whitespace());
            assert!(Cli::try_parse_from(args).is_ok(), "{line}");
        }
    }
}
