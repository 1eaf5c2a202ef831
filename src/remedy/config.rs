//! One webhook endpoint as a user writes it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where to send a rollback, and how to sign it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// `https://..` or `http://..`. Redirects are not followed.
    pub url: String,
    /// File with one `whsec_..` secret a line; each signs, so that a receiver can move from one to the next.
    pub secret_file: PathBuf,
    /// How long one attempt may take.
    #[serde(default = "default_timeout", with = "span")]
    pub timeout: Duration,
    /// Certificates (PEM) to trust beside the system's, for an endpoint with a private authority.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Connect also when a host name, not written as `localhost` or a loopback address, resolves to one.
    #[serde(default)]
    pub allow_loopback: bool,
    /// Connect also to link-local and cloud metadata addresses.
    #[serde(default)]
    pub allow_link_local: bool,
}

const fn default_timeout() -> Duration {
    Duration::from_secs(15)
}

/// A duration written like `15s`.
mod span {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text)
            .map_err(|cause| de::Error::custom(format!("{text:?} is no duration such as 15s: {cause}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_refusals() {
        let full: WebhookConfig = serde_json::from_str(r#"{"url":"https://a/","secret_file":"/s"}"#).unwrap();
        assert_eq!(
            full,
            WebhookConfig {
                url: "https://a/".into(),
                secret_file: "/s".into(),
                timeout: Duration::from_secs(15),
                ca_file: None,
                allow_loopback: false,
                allow_link_local: false,
            }
        );
        let again = serde_json::to_string(&full).unwrap();
        assert!(again.contains(r#""timeout":"15s""#), "{again}");
        assert_eq!(serde_json::from_str::<WebhookConfig>(&again).unwrap(), full);
        for (text, says) in [
            (r#"{"url":"https://a/"}"#, "missing field `secret_file`"),
            (r#"{"url":"https://a/","secret_file":"/s","timout":"1s"}"#, "unknown field `timout`"),
            (
                r#"{"url":"https://a/","secret_file":"/s","timeout":"soon"}"#,
                "\"soon\" is no duration such as 15s",
            ),
        ] {
            let error = serde_json::from_str::<WebhookConfig>(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
