//! `debug` and `file`: exporters for people who look.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{QueueConfig, usual_signals};
use crate::pipeline::DataType;

/// Lines in our own log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DebugConfig {
    /// What is shown.
    pub signals: Vec<DataType>,
    /// How much of it.
    pub verbosity: Verbosity,
    /// Messages of each kind shown in each second.
    pub sampling_initial: u64,
    /// Of those beyond, every so-manieth is shown; 0 shows none of them.
    pub sampling_thereafter: u64,
    /// What waits; dropped when it is full, unless told otherwise.
    #[serde(deserialize_with = "QueueConfig::deserialize_aside")]
    pub sending_queue: QueueConfig,
}

/// How much of a message is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verbosity {
    /// A line with its numbers.
    #[default]
    Basic,
    /// The whole message as OTLP/JSON too. It may hold personal data.
    Detailed,
}

impl Default for DebugConfig {
    fn default() -> Self {
        Self {
            signals: usual_signals(),
            verbosity: Verbosity::Basic,
            sampling_initial: 2,
            sampling_thereafter: 1,
            sending_queue: QueueConfig::aside(),
        }
    }
}

impl DebugConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        if self.verbosity == Verbosity::Detailed && self.signals.contains(&DataType::Profiles) {
            return vec!["signals: profiles are not read, so `detailed` cannot show them; use basic".into()];
        }
        Vec::new()
    }
}

/// Messages in a file, which `rollguard replay` reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// Where.
    pub path: PathBuf,
    /// What is written.
    #[serde(default = "usual_signals")]
    pub signals: Vec<DataType>,
    /// As what.
    #[serde(default)]
    pub format: FileFormat,
    /// When a new file is begun.
    #[serde(default)]
    pub rotation: RotationConfig,
    /// What waits; dropped when it is full, unless told otherwise.
    #[serde(default = "QueueConfig::aside", deserialize_with = "QueueConfig::deserialize_aside")]
    pub sending_queue: QueueConfig,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// A line of OTLP/JSON each.
    #[default]
    Json,
    /// The bytes as they came, each message after its length in four bytes, big-endian.
    Proto,
}

/// When a new file is begun, and how many are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RotationConfig {
    /// Size in MiB at which the file is put aside.
    pub max_megabytes: u64,
    /// How many files put aside are kept, named `PATH.1` (the newest) and so on.
    pub max_backups: u32,
}

impl Default for RotationConfig {
    fn default() -> Self {
        Self { max_megabytes: 100, max_backups: 9 }
    }
}

impl FileConfig {
    /// A file with everything else at its default.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            signals: usual_signals(),
            format: FileFormat::default(),
            rotation: RotationConfig::default(),
            sending_queue: QueueConfig::aside(),
        }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.path.as_os_str().is_empty() {
            problems.push("path: is empty".into());
        }
        if self.format == FileFormat::Json && self.signals.contains(&DataType::Profiles) {
            problems.push(
                "signals: profiles are not read, so they cannot be written as JSON; use format: proto".into(),
            );
        }
        if !(1..=1_048_576).contains(&self.rotation.max_megabytes) {
            problems.push("rotation.max_megabytes: must be between 1 and 1048576".into());
        }
        if self.rotation.max_backups > 1_000 {
            problems.push("rotation.max_backups: must be at most 1000".into());
        }
        problems
    }
}
