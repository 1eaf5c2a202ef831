//! Standard Webhooks 1.0 signatures: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, with the
//! exact bytes that are sent. Several secrets make several signatures, separated by spaces, so that a
//! receiver can change its secret without losing a message.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How far a timestamp may be from the receiver's clock.
pub const TOLERANCE_SECONDS: u64 = 300;
const PREFIX: &str = "whsec_";
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A signing secret. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a text is no secret. Does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The prefix is missing.
    #[error("a webhook secret begins with whsec_")]
    Prefix,
    /// Not base64.
    #[error("what follows whsec_ is not base64")]
    Base64,
    /// Too short to be safe, or longer than the standard allows.
    #[error("a webhook secret is 24 to 64 bytes of base64, this one is {0} bytes")]
    Length(usize),
    /// The file holds none.
    #[error("no secret; make one with: echo whsec_$(openssl rand -base64 32)")]
    None,
}

impl Secret {
    /// Reads `whsec_..`.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(SecretError::Prefix)?;
        let key = STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?;
        if KEY_BYTES.contains(&key.len()) { Ok(Self(key)) } else { Err(SecretError::Length(key.len())) }
    }

    /// Reads one secret a line; empty lines and lines that begin with `#` are skipped.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, SecretError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let secrets = lines.map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        if secrets.is_empty() { Err(SecretError::None) } else { Ok(secrets) }
    }

    fn mac(&self, id: &str, timestamp: u64, body: &[u8]) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any key length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        mac
    }
}

/// The value of `webhook-signature`: one signature per secret.
pub fn sign(secrets: &[Secret], id: &str, timestamp: u64, body: &[u8]) -> String {
    let one = |secret: &Secret| {
        format!("v1,{}", STANDARD.encode(secret.mac(id, timestamp, body).finalize().into_bytes()))
    };
    secrets.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Why a signature was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The timestamp is no number.
    #[error("webhook-timestamp is no number of seconds")]
    Timestamp,
    /// The timestamp is too far from the receiver's clock.
    #[error("webhook-timestamp is more than 5 minutes away")]
    Stale,
    /// No signature in the list is ours.
    #[error("no signature matches")]
    Mismatch,
}

/// Checks the three headers of a received webhook against the secrets, in constant time per signature.
pub fn verify(
    secrets: &[Secret],
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now_seconds: u64,
) -> Result<(), VerifyError> {
    let sent: u64 = timestamp.parse().map_err(|_| VerifyError::Timestamp)?;
    if sent.abs_diff(now_seconds) > TOLERANCE_SECONDS {
        return Err(VerifyError::Stale);
    }
    let matches = |signature: &str| {
        let Some(raw) = signature.strip_prefix("v1,").and_then(|s| STANDARD.decode(s).ok()) else {
            return false;
        };
        secrets.iter().any(|secret| secret.mac(id, sent, body).verify_slice(&raw).is_ok())
    };
    if signatures.split(' ').any(matches) { Ok(()) } else { Err(VerifyError::Mismatch) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const BODY: &[u8] =
        br#"{"type":"rollguard.rollback","timestamp":"2026-01-02T03:04:05Z","data":{"id":"d1"}}"#;
    const SIGNATURE: &str = "v1,e9sM5lZuawyzzKIRrqvQKQ64vn8ADN6on6VhnVHP9C8=";

    fn other() -> Secret {
        Secret::parse(&format!("whsec_{}", STANDARD.encode([7u8; 32]))).unwrap()
    }

    /// The vector was made with Python's hmac.
    #[test]
    fn the_known_vector() {
        let secret = Secret::parse(SECRET).unwrap();
        assert_eq!(sign(&[secret], "msg_rg1", 1_767_323_045, BODY), SIGNATURE);
    }

    #[test]
    fn two_secrets_make_two_signatures_and_either_verifies() {
        let secrets = Secret::parse_all(&format!("# new one first\n\n{SECRET}\n")).unwrap();
        let both = [other(), secrets[0].clone()];
        let signatures = sign(&both, "msg_rg1", 1_767_323_045, BODY);
        assert_eq!(signatures.split(' ').nth(1), Some(SIGNATURE));
        for one in &both {
            let one = std::slice::from_ref(one);
            assert_eq!(verify(one, "msg_rg1", "1767323045", &signatures, BODY, 1_767_323_045), Ok(()));
        }
    }

    #[test]
    fn what_is_not_accepted() {
        let secrets = [Secret::parse(SECRET).unwrap()];
        let now = 1_767_323_045;
        let check = |id: &str, at: &str, signature: &str, body: &[u8], now| {
            verify(&secrets, id, at, signature, body, now)
        };
        assert_eq!(check("msg_rg1", "1767323045", SIGNATURE, BODY, now + 300), Ok(()));
        assert_eq!(check("msg_rg1", "1767323045", SIGNATURE, BODY, now + 301), Err(VerifyError::Stale));
        assert_eq!(check("msg_rg1", "1767323045", SIGNATURE, BODY, now - 301), Err(VerifyError::Stale));
        assert_eq!(check("msg_rg1", "soon", SIGNATURE, BODY, now), Err(VerifyError::Timestamp));
        assert_eq!(check("msg_rg2", "1767323045", SIGNATURE, BODY, now), Err(VerifyError::Mismatch));
        assert_eq!(check("msg_rg1", "1767323046", SIGNATURE, BODY, now), Err(VerifyError::Mismatch));
        assert_eq!(check("msg_rg1", "1767323045", SIGNATURE, b"{}", now), Err(VerifyError::Mismatch));
        assert_eq!(check("msg_rg1", "1767323045", "v1,e9sM", BODY, now), Err(VerifyError::Mismatch));
        assert_eq!(check("msg_rg1", "1767323045", "", BODY, now), Err(VerifyError::Mismatch));
    }

    #[test]
    fn secrets_that_are_none() {
        let short = format!("whsec_{}", STANDARD.encode([1u8; 23]));
        for (text, error) in [
            ("hunter2", SecretError::Prefix),
            ("whsec_?", SecretError::Base64),
            (short.as_str(), SecretError::Length(23)),
            ("# only a comment\n", SecretError::None),
        ] {
            assert_eq!(Secret::parse_all(text), Err(error), "{text}");
        }
        assert_eq!(format!("{:?}", other()), "Secret(..)");
    }
}
