//! The files that a configuration names: secrets, tokens, certificates. They are tried as they are at start,
//! so that `validate` refuses what `run` would refuse, at the key that names the file.

use std::error::Error;
use std::path::Path;

use super::Config;
use super::validate::Problem;
use crate::api::access::read_token;
use crate::credentials::{AuthConfig, CredentialError, Credentials, ServerTls, ServerTlsConfig};
use crate::forward::{ForwardError, Forwarder};
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
    credentials(config, &mut problems);
    exporters(config, &mut problems);
    problems
}

/// What guards the ports. An entry of `extensions` that nobody names is not looked at.
fn credentials(config: &Config, problems: &mut Vec<Problem>) {
    let credentials = Credentials::new(config.extensions.clone());
    let ports = [
        ("grpc", config.receiver.grpc.tls.as_ref(), config.receiver.grpc.auth.as_ref()),
        ("http", config.receiver.http.tls.as_ref(), config.receiver.http.auth.as_ref()),
    ];
    for (port, tls, auth) in ports {
        if let Some((tls, error)) = tls.and_then(|tls| Some((tls, ServerTls::load(tls).err()?))) {
            problems.push(problem(format!("receiver.{port}.tls.{}", tls_key(tls, &error)), &error));
        }
        let known = |auth: &&AuthConfig| config.extensions.get(&auth.authenticator).is_some();
        if let Some(Err(error)) = auth.filter(known).map(|auth| credentials.authenticator(auth)) {
            problems.push(problem(format!("receiver.{port}.auth.authenticator"), &error));
        }
    }
}

/// Whom exporters trust and who they say they are.
fn exporters(config: &Config, problems: &mut Vec<Problem>) {
    let credentials = Credentials::new(config.extensions.clone());
    for error in Forwarder::credential_problems(&config.exporters, &credentials) {
        match error {
            ForwardError::Credentials { key, cause } => problems.push(problem(key, &*cause)),
            other => problems.push(problem("exporters".into(), &other)),
        }
    }
}

/// The key whose file is at fault.
fn tls_key(tls: &ServerTlsConfig, error: &CredentialError) -> &'static str {
    match error.path() {
        Some(path) if tls.client_ca_file.as_deref() == Some(path) => "client_ca_file",
        Some(path) if tls.key_file.as_deref() == Some(path) => "key_file",
        Some(path) if path == Path::new("key_pem") => "key_pem",
        _ if tls.cert_file.is_none() && tls.cert_pem.is_some() => "cert_pem",
        _ => "cert_file",
    }
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
