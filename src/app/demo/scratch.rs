//! What the demo's gateway needs for itself: a folder for its database and the webhook's secret, gone when
//! the demo ends, and a configuration with a short policy.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::Config;
use crate::pipeline::config::ModeConfig;
use crate::remedy::{Secret, SecretError, WebhookConfig};

/// Objective of the demo's policy.
pub(super) const SLO: f64 = 0.99;
/// Before this much comparing there is no pass.
pub(super) const MIN_PASS: Duration = Duration::from_secs(20);
/// A second of traffic stays open at least this long.
pub(super) const LATENESS: Duration = Duration::from_secs(1);
const WEBHOOK: &str = "deployer";

/// A folder of our own, removed with everything in it when this is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes the folder, open to nobody else. A folder of that name that is there already is not touched.
    pub(super) fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("rollguard-demo-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    /// A fresh secret, in a file for the gateway; the receiver of the webhook gets the same.
    pub(super) fn secret(&self) -> io::Result<(PathBuf, Result<Secret, SecretError>)> {
        let mut key = [0u8; 32];
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        let text = format!("whsec_{}", STANDARD.encode(key));
        let path = self.path.join("webhook-secret");
        fs::write(&path, &text)?;
        Ok((path, Secret::parse(&text)))
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join("rollguard.db")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left in the folder for such things.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Free ports on loopback, the scratch database, a short policy that acts.
pub(super) fn config(database: PathBuf, webhook_url: String, secret_file: &Path) -> Config {
    let mut config = Config::default();
    let any_port = || "127.0.0.1:0".to_owned();
    config.receiver.grpc.endpoint = any_port();
    config.receiver.http.endpoint = any_port();
    config.api.endpoint = any_port();
    config.telemetry.metrics = None;
    config.store.path = database;
    config.pipeline.lateness.min = LATENESS;
    config.pipeline.lateness.initial = LATENESS;
    let policy = &mut config.policies.defaults;
    policy.slo = SLO;
    policy.warmup = Duration::ZERO;
    policy.min_pass = MIN_PASS;
    policy.mode = ModeConfig::Act;
    policy.webhook = Some(WEBHOOK.into());
    policy.runbook_url = Some("https://wiki.example.com/checkout/rollback".into());
    let webhook = WebhookConfig {
        url: webhook_url,
        secret_file: secret_file.to_owned(),
        timeout: Duration::from_secs(5),
        ca_file: None,
        allow_loopback: true,
        allow_link_local: false,
    };
    config.webhooks.insert(WEBHOOK.into(), webhook);
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::validate;

    #[test]
    fn the_folder_is_gone_afterwards_and_the_configuration_is_sound() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path.clone();
        let (file, secret) = scratch.secret().unwrap();
        assert!(secret.is_ok());
        let config = config(scratch.database(), "http://127.0.0.1:1/rollback".into(), &file);
        assert_eq!(validate::problems(&config), []);
        drop(scratch);
        assert!(!path.exists());
    }
}
