//! What a user sets of TLS and of who may send. The keys are the Collector's, so that a block can be copied
//! from a Collector's file: `tls` stands beside an `endpoint`, and `auth` names an entry of `extensions`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

use crate::pipeline::human;

/// How often files are looked at by default. They are small, and only what changed is parsed.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V1_3,
}

/// The certificate of a port, and whose clients may connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTlsConfig {
    /// PEM file: the certificate, then those that lead to its issuer.
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// The same as text, in place of a file.
    #[serde(default)]
    pub cert_pem: Option<Secret>,
    /// PEM file: the certificate's private key.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// The same as text, in place of a file.
    #[serde(default)]
    pub key_pem: Option<Secret>,
    /// PEM file: whose certificates clients must show (mTLS). `null` asks for none.
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,
    /// Whether `client_ca_file` is followed as the others are; else what was in it at the start stays.
    #[serde(default = "followed")]
    pub client_ca_file_reload: bool,
    /// Oldest version that is spoken.
    #[serde(default = "oldest")]
    pub min_version: TlsVersion,
    /// Newest version that is spoken.
    #[serde(default = "newest")]
    pub max_version: TlsVersion,
    /// How often the files are looked at; 0 is only at a reload.
    #[serde(default = "reload_interval", with = "human")]
    pub reload_interval: Duration,
}

const fn followed() -> bool {
    true
}

const fn oldest() -> TlsVersion {
    TlsVersion::V1_2
}

const fn newest() -> TlsVersion {
    TlsVersion::V1_3
}

const fn reload_interval() -> Duration {
    RELOAD_INTERVAL
}

/// Whom an exporter trusts, and the certificate that it shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientTlsConfig {
    /// No TLS, for addresses without a scheme.
    pub insecure: bool,
    /// TLS with whoever answers: for trying things out, for it protects from nobody on the way.
    pub insecure_skip_verify: bool,
    /// PEM file: whom to trust. `null` is whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The same as text, in place of a file.
    pub ca_pem: Option<Secret>,
    /// Trust whom the system trusts beside `ca_file` or `ca_pem`.
    pub include_system_ca_certs_pool: bool,
    /// PEM file: the certificate that is shown where one is asked for (mTLS).
    pub cert_file: Option<PathBuf>,
    /// The same as text, in place of a file.
    pub cert_pem: Option<Secret>,
    /// PEM file: its private key.
    pub key_file: Option<PathBuf>,
    /// The same as text, in place of a file.
    pub key_pem: Option<Secret>,
    /// The name that the other side's certificate must have; `null` is that of the address.
    pub server_name_override: Option<String>,
    /// Oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Newest version that is spoken.
    pub max_version: TlsVersion,
    /// How often the files are looked at; 0 is only at a reload.
    #[serde(with = "human")]
    pub reload_interval: Duration,
}

impl Default for ClientTlsConfig {
    fn default() -> Self {
        Self {
            insecure: false,
            insecure_skip_verify: false,
            ca_file: None,
            ca_pem: None,
            include_system_ca_certs_pool: false,
            cert_file: None,
            cert_pem: None,
            key_file: None,
            key_pem: None,
            server_name_override: None,
            min_version: oldest(),
            max_version: newest(),
            reload_interval: RELOAD_INTERVAL,
        }
    }
}

/// Which entry of `extensions` decides who may send, or gives what we send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// Its name, for example `bearertokenauth` or `basicauth/server`.
    pub authenticator: String,
}

/// The entries of `extensions`, by `type` or `type/name`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ExtensionsConfig(BTreeMap<String, ExtensionConfig>);

impl ExtensionsConfig {
    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ExtensionConfig)> {
        self.0.iter().map(|(name, extension)| (name.as_str(), extension))
    }

    /// An entry by its name.
    pub fn get(&self, name: &str) -> Option<&ExtensionConfig> {
        self.0.get(name)
    }
}

impl FromIterator<(String, ExtensionConfig)> for ExtensionsConfig {
    fn from_iter<I: IntoIterator<Item = (String, ExtensionConfig)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl<'de> Deserialize<'de> for ExtensionsConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Entries)
    }
}

/// Reads entries whose type is the beginning of their key.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = ExtensionsConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("entries of the form `type` or `type/name`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            let extension = match name.split('/').next().unwrap_or_default() {
                BEARER => ExtensionConfig::Bearer(map.next_value()?),
                BASIC => ExtensionConfig::Basic(map.next_value()?),
                other => return Err(A::Error::unknown_variant(other, &[BEARER, BASIC])),
            };
            if entries.insert(name.clone(), extension).is_some() {
                return Err(A::Error::custom(format!("duplicate extension `{name}`")));
            }
        }
        Ok(ExtensionsConfig(entries))
    }
}

const BEARER: &str = "bearertokenauth";
const BASIC: &str = "basicauth";

/// One entry of `extensions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ExtensionConfig {
    /// `bearertokenauth`.
    Bearer(BearerConfig),
    /// `basicauth`.
    Basic(BasicConfig),
}

/// Tokens in a header. A receiver takes each of them, an exporter sends the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BearerConfig {
    /// The header.
    pub header: String,
    /// The word before the token; empty for the token alone.
    pub scheme: String,
    /// One token.
    pub token: Option<Secret>,
    /// Several, for example the old and the new one while tokens are exchanged.
    pub tokens: Vec<Secret>,
    /// A file with one token on each line; it goes before the others, and is read again when it changes.
    pub filename: Option<PathBuf>,
    /// How often the file is looked at; 0 is only at a reload.
    #[serde(with = "human")]
    pub reload_interval: Duration,
}

impl Default for BearerConfig {
    fn default() -> Self {
        Self {
            header: "Authorization".into(),
            scheme: "Bearer".into(),
            token: None,
            tokens: Vec::new(),
            filename: None,
            reload_interval: RELOAD_INTERVAL,
        }
    }
}

/// User names and passwords: `htpasswd` for a receiver, `client_auth` for an exporter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BasicConfig {
    /// Who may send.
    pub htpasswd: Option<HtpasswdConfig>,
    /// As whom we send.
    pub client_auth: Option<ClientAuthConfig>,
    /// How often files are looked at; 0 is only at a reload.
    #[serde(with = "human")]
    pub reload_interval: Duration,
}

impl Default for BasicConfig {
    fn default() -> Self {
        Self { htpasswd: None, client_auth: None, reload_interval: RELOAD_INTERVAL }
    }
}

/// Users and their passwords, as `htpasswd -B` writes them. A later line goes before an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HtpasswdConfig {
    /// A file with `user:hash` on each line; it is read again when it changes.
    pub file: Option<PathBuf>,
    /// Further lines, which go before those of the file.
    pub inline: Option<Secret>,
}

/// A user name and a password; a file goes before the value beside it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientAuthConfig {
    /// The user name.
    pub username: Option<String>,
    /// A file with the user name.
    pub username_file: Option<PathBuf>,
    /// The password.
    pub password: Option<Secret>,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
}

/// Text that is never shown: a debug print says nothing, and where a configuration is written out for a
/// comparison its hash stands instead.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("sha256 {:02x?}", Sha256::digest(self.0.as_bytes()).as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collectors_blocks_are_read() {
        let text = r#"{
            "bearertokenauth": {"filename": "/run/token"},
            "bearertokenauth/old": {"scheme": "", "header": "X-Token", "tokens": ["a", "b"]},
            "basicauth/server": {"htpasswd": {"file": ".htpasswd", "inline": "user:pass"}},
            "basicauth/client": {"client_auth": {"username": "u", "password_file": "p"}}
        }"#;
        let extensions: ExtensionsConfig = serde_json::from_str(text).unwrap();
        assert_eq!(extensions.iter().count(), 4);
        let Some(ExtensionConfig::Bearer(bearer)) = extensions.get("bearertokenauth") else { panic!() };
        assert_eq!((bearer.header.as_str(), bearer.scheme.as_str()), ("Authorization", "Bearer"));
        assert!(matches!(extensions.get("basicauth/server"), Some(ExtensionConfig::Basic(_))));
        let tls = r#"{"cert_file": "c", "key_file": "k", "client_ca_file": "ca", "min_version": "1.3"}"#;
        let tls: ServerTlsConfig = serde_json::from_str(tls).unwrap();
        assert_eq!((tls.min_version, tls.max_version), (TlsVersion::V1_3, TlsVersion::V1_3));
        assert_eq!(tls.reload_interval, RELOAD_INTERVAL);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for text in [
            r#"{"bearertoken": {}}"#,
            r#"{"basicauth": {"htpasswd": {"files": "x"}}}"#,
            r#"{"basicauth": {"filename": "x"}}"#,
            r#"{"basicauth": {}, "basicauth": {}}"#,
            r#"[]"#,
        ] {
            assert!(serde_json::from_str::<ExtensionsConfig>(text).is_err(), "{text}");
        }
        for text in [r#"{"cert_fil": "c"}"#, r#"{"cert_file": "c", "key_file": "k", "min_version": "1.1"}"#] {
            assert!(serde_json::from_str::<ServerTlsConfig>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_are_not_shown_but_compared() {
        let with = |token: &str| BearerConfig { token: Some(token.into()), ..Default::default() };
        let (a, b) = (with("first-token"), with("other-token"));
        let json = |config: &BearerConfig| serde_json::to_string(config).unwrap();
        assert!(!format!("{a:?}{}", json(&a)).contains("first-token"));
        assert_ne!(json(&a), json(&b));
        assert_eq!(json(&a), json(&with("first-token")));
    }
}
