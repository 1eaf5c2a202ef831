//! Taking over a changed configuration file while everything runs. All of it is checked before any of it is
//! used; a bad file keeps the old one and says why, in the log and in a metric.

use std::path::Path;

use super::gateway::Gateway;
use super::journal::chain;
use crate::config::{self, Files, diff};

const RELOADS: &str = "rollguard_config_reloads_total";

/// Reads the file again and applies what a reload may change; credentials follow their files whatever is
/// wrong with it.
pub(super) fn reload(gateway: &Gateway, file: &Path) {
    gateway.refresh_credentials();
    let outcome = match apply(gateway, file) {
        Ok(()) => "applied",
        Err(why) => {
            tracing::error!(file = %file.display(), "the new configuration is not used, the old one stays: {why}");
            "refused"
        }
    };
    metrics::describe_counter!(RELOADS, "Reloads of the configuration; a refused one kept the old");
    metrics::counter!(RELOADS, "outcome" => outcome).increment(1);
}

fn apply(gateway: &Gateway, file: &Path) -> Result<(), String> {
    let new = config::load(file, Files::Tried).map_err(|e| chain(&e))?;
    let found = diff::diff(&gateway.config(), &new);
    gateway.reconfigure(found.effective).map_err(|e| chain(&e))?;
    if !found.needs_restart.is_empty() {
        tracing::warn!(keys = found.needs_restart.join(", "), "these changes take effect after a restart");
    }
    tracing::info!(file = %file.display(), applied = found.applied.join(", "),
        "the configuration was reloaded; running deployments keep the policy that they began with");
    Ok(())
}
