//! Windows, caps and policies as a user writes them, and how they become the settings of the core. A user
//! writes margins as shares ("9 % slower is fine") and times as durations; the core counts buckets and
//! seconds.

mod dimensions;
mod origin;
pub(super) mod pattern;
mod policies;
pub mod slis;
mod values;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::dimensions::{DimensionConfig, RegionActionConfig, RegionsConfig};
pub use self::origin::{Explained, Origin, PolicyLine};
pub use self::policies::{
    Links, MatchConfig, ModeConfig, PoliciesConfig, PolicyConfig, PolicyOverride, ResolvedPolicy,
    ServicePolicyConfig,
};
pub use self::values::Values;
use super::human;

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
