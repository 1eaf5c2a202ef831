//! What an exporter sends to say who it is: a token, or a user and a password, in a header of every request.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::authenticator::{header, tokens};
use super::files::{Contents, FromFiles, Refresh};
use super::{BasicConfig, BearerConfig, ClientAuthConfig, CredentialError};

/// A header that says who sends, kept up to date with its files.
#[derive(Debug)]
pub struct SentCredentials {
    header: HeaderName,
    value: FromFiles<HeaderValue>,
}

impl SentCredentials {
    /// The first token of an extension.
    pub(super) fn bearer(config: &BearerConfig) -> Result<Self, CredentialError> {
        let (header, scheme) = (header(config)?, config.scheme.trim().to_owned());
        let value = tokens(config, move |all| {
            let token = all.first().map(String::as_str).unwrap_or_default();
            secret(format!("{scheme} {token}").trim_start())
        })?;
        Ok(Self { header, value })
    }

    /// The user and the password of an extension.
    pub(super) fn basic(config: &BasicConfig) -> Result<Self, CredentialError> {
        let Some(client) = config.client_auth.clone() else {
            return Err(CredentialError::Nothing {
                what: "a user to send as",
                way_out: "set `client_auth: {username: .., password_file: ..}`; `htpasswd` is for receivers",
            });
        };
        let files: Vec<PathBuf> = client.username_file.iter().chain(&client.password_file).cloned().collect();
        let value = FromFiles::load(files, move |contents| basic(contents, &client))?;
        Ok(Self { header: AUTHORIZATION, value })
    }

    /// For the next request.
    pub fn header(&self) -> (&HeaderName, Arc<HeaderValue>) {
        (&self.header, self.value.get())
    }
}

impl Refresh for SentCredentials {
    fn refresh(&self) -> Result<bool, CredentialError> {
        self.value.refresh()
    }
}

fn basic(contents: &[Contents<'_>], client: &ClientAuthConfig) -> Result<HeaderValue, CredentialError> {
    let mut files = contents.iter();
    // The files are there in this order, each only if it is named.
    let mut of = |file: &Option<PathBuf>| file.as_ref().and_then(|_| files.next().map(Contents::text));
    let username = of(&client.username_file).or_else(|| client.username.clone());
    let password = of(&client.password_file);
    let password = password.or_else(|| client.password.as_ref().map(|secret| secret.as_str().to_owned()));
    let (username, password) = (username.unwrap_or_default(), password.unwrap_or_default());
    // Editors end a file with a line break, which is part of no name and no password.
    let (username, password) = (username.trim(), password.trim_end_matches(['\r', '\n']));
    if username.is_empty() || username.contains(':') || password.is_empty() {
        return Err(CredentialError::Text {
            what: "the user and the password",
            place: "client_auth".into(),
            why: "neither may be empty, and a user's name has no colon",
        });
    }
    secret(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

/// A value that is not shown in debug prints.
fn secret(text: &str) -> Result<HeaderValue, CredentialError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| CredentialError::Text {
        what: "the credentials",
        place: "this extension".into(),
        why: "they have characters that a header cannot hold",
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;

    fn sent(credentials: Result<SentCredentials, CredentialError>) -> Result<(String, String), String> {
        let credentials = credentials.map_err(|error| error.to_string())?;
        let (name, value) = credentials.header();
        Ok((name.to_string(), value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn headers_are_what_servers_ask_for() {
        let tokens = vec![Secret::from("first"), Secret::from("second")];
        let bearer = BearerConfig { tokens: tokens.clone(), ..Default::default() };
        assert_eq!(
            sent(SentCredentials::bearer(&bearer)),
            Ok(("authorization".into(), "Bearer first".into()))
        );
        let bare =
            BearerConfig { tokens, scheme: String::new(), header: "X-Key".into(), ..Default::default() };
        assert_eq!(sent(SentCredentials::bearer(&bare)), Ok(("x-key".into(), "first".into())));
        let client = |user: &str, password: &str| BasicConfig {
            client_auth: Some(ClientAuthConfig {
                username: Some(user.into()),
                password: Some(password.into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let (_, value) = sent(SentCredentials::basic(&client("robot", "pass:word"))).unwrap();
        assert_eq!(value, "Basic cm9ib3Q6cGFzczp3b3Jk");
        for (user, password) in [("", "p"), ("u", ""), ("a:b", "p")] {
            assert!(sent(SentCredentials::basic(&client(user, password))).is_err(), "{user} {password}");
        }
        let error = sent(SentCredentials::basic(&BasicConfig::default())).unwrap_err();
        assert!(error.contains("`htpasswd` is for receivers"), "{error}");
        let shown = format!("{:?}", SentCredentials::bearer(&bearer).unwrap().header());
        assert!(!shown.contains("first"), "{shown}");
    }

    #[test]
    fn files_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (user, password) = (folder.path().join("user"), folder.path().join("password"));
        std::fs::write(&user, "robot\n").unwrap();
        std::fs::write(&password, "old\n").unwrap();
        let client = ClientAuthConfig {
            username_file: Some(user),
            password_file: Some(password.clone()),
            username: Some("not this one".into()),
            ..Default::default()
        };
        let config = BasicConfig { client_auth: Some(client), ..Default::default() };
        let credentials = SentCredentials::basic(&config).unwrap();
        let value = || credentials.header().1.to_str().unwrap().to_owned();
        assert_eq!(value(), format!("Basic {}", STANDARD.encode("robot:old")));
        std::fs::write(&password, "").unwrap();
        assert!(credentials.refresh().is_err());
        assert_eq!(value(), format!("Basic {}", STANDARD.encode("robot:old")));
        std::fs::write(&password, "new\n").unwrap();
        assert!(credentials.refresh().unwrap());
        assert_eq!(value(), format!("Basic {}", STANDARD.encode("robot:new")));
    }
}
