//! Certificates, tokens, users: how the ports that receive and the exporters that send prove who they are and
//! check who others are. They come from files and follow them without a restart; a file that cannot be used
//! changes nothing and says why.
//!
//! [`Credentials`] holds all of a process. A value is asked for by what a user wrote ([`ServerTlsConfig`],
//! [`AuthConfig`]) and is kept up to date from then on.

mod authenticator;
mod client;
mod config;
mod error;
mod files;
mod htpasswd;
mod reload;
mod sent;
mod server;

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use authenticator::{Authenticator, Denied};
pub use client::ClientTls;
pub use config::{
    AuthConfig, BasicConfig, BearerConfig, ClientAuthConfig, ClientTlsConfig, ExtensionConfig,
    ExtensionsConfig, HtpasswdConfig, Secret, ServerTlsConfig, TlsVersion,
};
pub use error::CredentialError;
pub use sent::SentCredentials;
pub use server::ServerTls;

use authenticator::{BasicAuth, BearerAuth};
use reload::Reloader;

/// All credentials of a process.
#[derive(Default)]
pub struct Credentials {
    extensions: ExtensionsConfig,
    authenticators: std::sync::Mutex<HashMap<String, Arc<Authenticator>>>,
    reloader: Reloader,
}

impl Credentials {
    /// Nothing is read until it is asked for.
    pub fn new(extensions: ExtensionsConfig) -> Self {
        Self { extensions, ..Self::default() }
    }

    /// The TLS of a port, from now on kept up to date. `key` names it in the log and in metrics.
    ///
    /// # Errors
    /// When its files cannot be used.
    pub fn server_tls(&self, key: &str, config: &ServerTlsConfig) -> Result<Arc<ServerTls>, CredentialError> {
        let tls = Arc::new(ServerTls::load(config)?);
        self.reloader.watch(key, config.reload_interval, tls.clone());
        Ok(tls)
    }

    /// Who may send, by an entry of `extensions`; ports that name the same entry share it.
    ///
    /// # Errors
    /// When there is no such entry, or its files cannot be used.
    pub fn authenticator(&self, config: &AuthConfig) -> Result<Arc<Authenticator>, CredentialError> {
        let name = &config.authenticator;
        let mut shared = self.authenticators.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(authenticator) = shared.get(name) {
            return Ok(Arc::clone(authenticator));
        }
        let (authenticator, every) = match self.extensions.get(name) {
            Some(ExtensionConfig::Bearer(bearer)) => {
                (Authenticator::Bearer(BearerAuth::load(bearer)?), bearer.reload_interval)
            }
            Some(ExtensionConfig::Basic(basic)) => {
                (Authenticator::Basic(BasicAuth::load(basic)?), basic.reload_interval)
            }
            None => return Err(no_entry()),
        };
        let authenticator = Arc::new(authenticator);
        self.reloader.watch(&format!("extensions.{name}"), every, authenticator.clone());
        shared.insert(name.clone(), Arc::clone(&authenticator));
        Ok(authenticator)
    }

    /// The TLS of an exporter, from now on kept up to date. `key` names it in the log and in metrics.
    ///
    /// # Errors
    /// When its files cannot be used.
    pub fn client_tls(
        &self,
        key: &str,
        config: &ClientTlsConfig,
        protocols: &[&[u8]],
    ) -> Result<Arc<ClientTls>, CredentialError> {
        let tls = Arc::new(ClientTls::load(config, protocols)?);
        if config.insecure_skip_verify {
            tracing::warn!(key, "insecure_skip_verify: what is sent can be read by whoever answers");
        }
        self.reloader.watch(key, config.reload_interval, tls.clone());
        Ok(tls)
    }

    /// What an exporter sends to say who it is, by an entry of `extensions`.
    ///
    /// # Errors
    /// When there is no such entry, or its files cannot be used.
    pub fn sent(&self, key: &str, config: &AuthConfig) -> Result<Arc<SentCredentials>, CredentialError> {
        let (sent, every) = match self.extensions.get(&config.authenticator) {
            Some(ExtensionConfig::Bearer(bearer)) => {
                (SentCredentials::bearer(bearer)?, bearer.reload_interval)
            }
            Some(ExtensionConfig::Basic(basic)) => (SentCredentials::basic(basic)?, basic.reload_interval),
            None => return Err(no_entry()),
        };
        let sent = Arc::new(sent);
        self.reloader.watch(key, every, sent.clone());
        Ok(sent)
    }

    /// Looks at all files now. Blocks on them.
    pub fn refresh(&self) {
        self.reloader.refresh();
    }

    /// Follows the files of all that was asked for so far, until the token is cancelled.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        self.reloader.run(stop).await;
    }
}

fn no_entry() -> CredentialError {
    CredentialError::Nothing { what: "the authenticator", way_out: "it names no entry of `extensions`" }
}
