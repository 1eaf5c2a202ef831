//! The files that a configuration names: secrets, tokens, certificates. They are tried as they are at start,
//! so that `validate` refuses what `run` would refuse, at the key that names the file.

use std::error::Error;

use super::Config;
use super::validate::Problem;
use crate::api::access::read_token;
use crate::remedy::{Webhook, WebhookConfig, WebhookError};

/// Whether the files that a configuration names are looked at. A pipeline that checks configurations may run
/// where the secrets are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// They must be there and usable.
    Tried,
    /// They may be elsewhere.
    Elsewhere,
}

/// What is wrong with them.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(Err(error)) = config.api.token_file.as_deref().map(read_token) {
        problems.push(problem("api.token_file".into(), &error));
    }
    for (name, webhook) in &config.webhooks {
        if let Err(error) = Webhook::new(webhook) {
            problems.push(problem(format!("webhooks.{name}.{}", key(webhook, &error)), &error));
        }
    }
    problems
}

/// The key whose value is at fault.
fn key(webhook: &WebhookConfig, error: &WebhookError) -> &'static str {
    match error {
        WebhookError::File { path, .. } if webhook.ca_file.as_ref() == Some(path) => "ca_file",
        WebhookError::File { .. } | WebhookError::Secret { .. } => "secret_file",
        WebhookError::Url { .. } | WebhookError::Refused { .. } | WebhookError::Tls { .. } => "url",
    }
}

fn problem(path: String, error: &dyn Error) -> Problem {
    let mut message = format!("failed to {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(&format!(": {error}"));
        cause = error.source();
    }
    Problem { path, message, place: None }
}
