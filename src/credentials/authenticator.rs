//! Who may send: what a request's headers must hold. Secrets are compared as hashes and in constant time, so
//! that neither their length nor how much of them is right shows in how long an answer takes.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tokio::sync::Semaphore;

use super::files::{Contents, FromFiles, Refresh};
use super::htpasswd::Htpasswd;
use super::{BasicConfig, BearerConfig, CredentialError};

/// Tokens that are valid at a time; more are a mistake in a file.
const TOKENS_MAX: usize = 100;
/// How long a request waits for its turn to have its password checked: below the time-outs of clients.
const TURN: Duration = Duration::from_secs(1);

/// Why a request may not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// No credentials.
    Missing,
    /// Not what was asked for: another scheme, or text that cannot be read.
    Malformed,
    /// Credentials that are not valid.
    Wrong,
    /// Too many wait for their password to be checked; the only one that is worth another try.
    Busy,
}

/// Decides who may send, by the credentials of the moment.
#[derive(Debug)]
pub enum Authenticator {
    /// By a token.
    Bearer(BearerAuth),
    /// By user and password.
    Basic(BasicAuth),
}

impl Authenticator {
    /// Whether a request with these headers may be sent.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        match self {
            Self::Bearer(bearer) => bearer.check(headers),
            Self::Basic(basic) => basic.check(headers).await,
        }
    }

    /// What a client is told to send: the value of `WWW-Authenticate` (RFC 9110, section 11.6.1).
    pub fn challenge(&self) -> HeaderValue {
        match self {
            Self::Bearer(bearer) => bearer.challenge.clone(),
            Self::Basic(_) => HeaderValue::from_static("Basic realm=\"rollguard\", charset=\"UTF-8\""),
        }
    }
}

impl Refresh for Authenticator {
    fn refresh(&self) -> Result<bool, CredentialError> {
        match self {
            Self::Bearer(bearer) => bearer.tokens.refresh(),
            Self::Basic(basic) => basic.users.refresh(),
        }
    }
}

/// Takes whoever brings one of some tokens.
#[derive(Debug)]
pub struct BearerAuth {
    header: HeaderName,
    scheme: String,
    challenge: HeaderValue,
    tokens: FromFiles<Vec<[u8; 32]>>,
}

impl BearerAuth {
    pub(super) fn load(config: &BearerConfig) -> Result<Self, CredentialError> {
        let (header, scheme) = (header(config)?, config.scheme.trim().to_owned());
        let wrong = |_| CredentialError::Text {
            what: "the word before the token",
            place: "scheme".into(),
            why: "it is no word of a header",
        };
        let word = if scheme.is_empty() { "Token" } else { scheme.as_str() };
        let challenge = HeaderValue::from_str(&format!("{word} realm=\"rollguard\"")).map_err(wrong)?;
        let hashes = |tokens: Vec<String>| tokens.iter().map(|t| digest(t.as_bytes())).collect();
        let tokens = tokens(config, move |all| Ok(hashes(all)))?;
        Ok(Self { header, scheme, challenge, tokens })
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let value = headers.get(&self.header).ok_or(Denied::Missing)?;
        let token = after_scheme(value, &self.scheme).ok_or(Denied::Malformed)?;
        let given = digest(token);
        // All are compared, whichever fits.
        let fits = self.tokens.get().iter().fold(Choice::from(0), |fits, token| fits | token.ct_eq(&given));
        if bool::from(fits) { Ok(()) } else { Err(Denied::Wrong) }
    }
}

/// Takes known users.
#[derive(Debug)]
pub struct BasicAuth {
    users: FromFiles<Htpasswd>,
    /// Checking a password keeps a core busy; one at a time leaves the others to those who may send.
    turn: Arc<Semaphore>,
}

impl BasicAuth {
    pub(super) fn load(config: &BasicConfig) -> Result<Self, CredentialError> {
        let Some(htpasswd) = &config.htpasswd else {
            return Err(CredentialError::Nothing {
                what: "users who may send",
                way_out: "set `htpasswd: {file: ..}`; `client_auth` is for exporters",
            });
        };
        let inline = htpasswd.inline.clone();
        let users = FromFiles::load(htpasswd.file.iter().cloned().collect(), move |contents| {
            let files: Vec<(String, String)> = contents.iter().map(|c| (c.place(), c.text())).collect();
            let inline = inline.iter().map(|text| ("htpasswd.inline".to_owned(), text.as_str()));
            Htpasswd::parse(files.iter().map(|(place, text)| (place.clone(), text.as_str())).chain(inline))
        })?;
        Ok(Self { users, turn: Arc::new(Semaphore::new(1)) })
    }

    async fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let value = headers.get(AUTHORIZATION).ok_or(Denied::Missing)?;
        let encoded = after_scheme(value, "Basic").ok_or(Denied::Malformed)?;
        let credentials = STANDARD.decode(encoded).map_err(|_| Denied::Malformed)?;
        let verdict = |is_right| if is_right { Ok(()) } else { Err(Denied::Wrong) };
        let users = self.users.get();
        if let Some(is_right) = users.remembered(&credentials) {
            return verdict(is_right);
        }
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turn).acquire_owned());
        let Ok(Ok(turn)) = turn.await else { return Err(Denied::Busy) };
        // Somebody with the same password may have been before.
        if let Some(is_right) = users.remembered(&credentials) {
            return verdict(is_right);
        }
        let verify = tokio::task::spawn_blocking(move || {
            let colon = credentials.iter().position(|b| *b == b':')?;
            let user = std::str::from_utf8(&credentials[..colon]).ok()?;
            let is_right = users.verify(user, &credentials[colon + 1..]);
            drop(turn);
            Some(is_right)
        });
        match verify.await {
            Ok(Some(is_right)) => verdict(is_right),
            Ok(None) => Err(Denied::Malformed),
            Err(_) => Err(Denied::Busy),
        }
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// What stands behind the scheme, whose case does not matter (RFC 9110, section 11.1).
fn after_scheme<'a>(value: &'a HeaderValue, scheme: &str) -> Option<&'a [u8]> {
    let value = value.as_bytes().trim_ascii();
    if scheme.is_empty() {
        return Some(value);
    }
    let (word, rest) = value.split_at_checked(scheme.len())?;
    let fits = word.eq_ignore_ascii_case(scheme.as_bytes()) && rest.first() == Some(&b' ');
    fits.then(|| rest.trim_ascii())
}

/// The header that tokens travel in.
pub(super) fn header(config: &BearerConfig) -> Result<HeaderName, CredentialError> {
    config.header.parse().map_err(|_| CredentialError::Text {
        what: "the header",
        place: "header".into(),
        why: "it is no name of a header",
    })
}

/// A value made of all configured tokens: those of the file first.
pub(super) fn tokens<T>(
    config: &BearerConfig,
    make: impl Fn(Vec<String>) -> Result<T, CredentialError> + Send + Sync + 'static,
) -> Result<FromFiles<T>, CredentialError> {
    let written: Vec<String> =
        config.tokens.iter().chain(&config.token).map(|token| token.as_str().trim().to_owned()).collect();
    FromFiles::load(config.filename.iter().cloned().collect(), move |contents| {
        let mut all = Vec::new();
        for file in contents {
            let text = file.text();
            for token in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
                all.push(token_of(token, file.place())?);
            }
        }
        for token in &written {
            all.push(token_of(token, "token".to_owned())?);
        }
        match all.len() {
            0 => Err(CredentialError::Nothing {
                what: "a token",
                way_out: "write one on a line of `filename`, or set `token`",
            }),
            1..=TOKENS_MAX => make(all),
            _ => Err(CredentialError::Text {
                what: "the tokens",
                place: contents.first().map_or("tokens".to_owned(), Contents::place),
                why: "there are more than 100",
            }),
        }
    })
}

fn token_of(token: &str, place: String) -> Result<String, CredentialError> {
    if !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(token.to_owned());
    }
    Err(CredentialError::Text {
        what: "a token",
        place,
        why: "it must be visible ASCII characters without spaces, one token a line",
    })
}

#[cfg(test)]
#[path = "authenticator_tests.rs"]
mod tests;
