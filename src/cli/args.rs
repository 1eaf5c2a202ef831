//! The flags of the commands that run the gateway itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::pipeline::human;

/// Flags of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Configuration file; without one, the defaults hold and everything listens on loopback only
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Flags of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// What becomes of the new version
    #[arg(long, value_enum, default_value_t = Scenario::Errors)]
    pub scenario: Scenario,
}

/// What the new version in the demo does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// It fails more requests: fail
    Errors,
    /// It is slower: fail
    Latency,
    /// It is as good as the old one: pass
    Healthy,
    /// It turns bad while it is being judged: fail after the onset
    Late,
    /// It answers nothing but errors: fail
    Outage,
    /// The old version goes away the moment the bad one comes: fail against what is remembered
    Replace,
}

impl From<Scenario> for crate::app::demo::Scenario {
    fn from(scenario: Scenario) -> Self {
        match scenario {
            Scenario::Errors => Self::Errors,
            Scenario::Latency => Self::Latency,
            Scenario::Healthy => Self::Healthy,
            Scenario::Late => Self::Late,
            Scenario::Outage => Self::Outage,
            Scenario::Replace => Self::Replace,
        }
    }
}

/// Flags of `replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// Recorded OTLP, traces and metrics in any mix: JSON lines or length-delimited protobuf, plain, .gz or .zst
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Service to judge; needed when the recording holds several
    #[arg(long)]
    pub service: Option<String>,
    /// Version to compare with; by default the one that was there first
    #[arg(long)]
    pub baseline: Option<String>,
    /// Version to judge; by default the one that came later
    #[arg(long)]
    pub candidate: Option<String>,
    /// Configuration file, for its policies
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Leave out this long after an instance's first span, for example 60s
    #[arg(long, value_parser = human::parse, value_name = "DURATION", default_value = "0s")]
    pub warmup: Duration,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Write the evidence of every slot and process to this file
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

/// Flags of `validate`.
#[derive(Debug, Clone, Args)]
pub struct ValidateArgs {
    /// Configuration file to check
    #[arg(value_name = "FILE", required_unless_present = "print_defaults")]
    pub file: Option<PathBuf>,
    /// Do not look at the secret, token and certificate files that it names: they are on another machine
    #[arg(long)]
    pub without_files: bool,
    /// Hold the file against the series of a running rollguard: what never appears, what fails already, what cannot be
    /// decided. Exit 2 when something is found
    #[arg(long, value_name = "URL", requires = "file")]
    pub against: Option<String>,
    /// Part of the traffic that a new version gets, for --against
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    pub share: f64,
    /// Print every key at its default, with comments
    #[arg(long, conflicts_with = "file")]
    pub print_defaults: bool,
}

/// A share between 0 and 1.
fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| "must lie between 0 and 1, for example 0.1".into())
}
