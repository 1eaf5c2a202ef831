//! Who may start and cancel deployments. Reads are open to whoever reaches the port; writes need a token as
//! soon as the port is not loopback. On loopback without a token, what protects is that web pages of other
//! origins cannot make a browser send such a request, also not by rebinding a name to 127.0.0.1.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;

use super::error::ApiError;
use super::state::ApiState;

/// Shorter tokens can be guessed.
const MIN_TOKEN_BYTES: usize = 16;

/// Who may write.
#[derive(Clone)]
pub enum WriteAccess {
    /// Anyone on this machine.
    Open,
    /// Whoever sends this bearer token.
    Token(Arc<[u8]>),
    /// Nobody: reachable from elsewhere, and no token is configured.
    Locked,
}

impl std::fmt::Debug for WriteAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Token(_) => "Token(..)",
            Self::Locked => "Locked",
        })
    }
}

/// The token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("read the API token from {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The file holds no usable token.
    #[error("read the API token from {path}: it must hold one line of at least {MIN_TOKEN_BYTES} characters")]
    Short {
        /// Which file.
        path: PathBuf,
    },
}

impl WriteAccess {
    /// Decides from where the port really listens and whether a token is configured. Says in the log what
    /// to set when nobody will be able to write.
    pub fn decide(listening: SocketAddr, token_file: Option<&Path>) -> Result<Self, TokenError> {
        match token_file {
            Some(path) => Ok(Self::Token(read_token(path)?.into_bytes().into())),
            None if listening.ip().is_loopback() => Ok(Self::Open),
            None => {
                tracing::warn!(
                    %listening,
                    "the API is reachable from other machines and has no token: writes are answered with 403; \
                     set api.token_file to a file with a bearer token, or listen on 127.0.0.1"
                );
                Ok(Self::Locked)
            }
        }
    }
}

/// Reads a bearer token from a file.
pub fn read_token(path: &Path) -> Result<String, TokenError> {
    let path = path.to_owned();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(cause) => return Err(TokenError::Read { path, cause }),
    };
    let token = text.trim();
    if token.len() < MIN_TOKEN_BYTES || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(TokenError::Short { path });
    }
    Ok(token.to_owned())
}

/// Middleware in front of every route that writes.
pub(super) async fn guard_writes(
    State(state): State<Arc<ApiState>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // HTTP/2 carries the host in the URI.
    let host =
        request.uri().authority().cloned().or_else(|| {
            request.headers().get(HOST).and_then(|h| h.to_str().ok()).and_then(|h| h.parse().ok())
        });
    check(&state.access, request.headers(), host.as_ref())?;
    Ok(next.run(request).await)
}

fn check(access: &WriteAccess, headers: &HeaderMap, host: Option<&Authority>) -> Result<(), ApiError> {
    match access {
        WriteAccess::Locked => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "writes_disabled",
            "writes are disabled: this port is reachable from other machines and no api.token_file is configured",
        )),
        WriteAccess::Token(token) => match bearer(headers) {
            Some(given) if bool::from(given.as_bytes().ct_eq(token)) => Ok(()),
            Some(_) => Err(unauthorized("the bearer token is not the configured one")),
            None => Err(unauthorized("send the token of api.token_file as `Authorization: Bearer <token>`")),
        },
        WriteAccess::Open => from_this_machine(headers, host),
    }
}

fn unauthorized(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Refuses what a web page could make a browser send: a simple form content type, another origin, or a host
/// name that was rebound to this machine.
fn from_this_machine(headers: &HeaderMap, host: Option<&Authority>) -> Result<(), ApiError> {
    if !is_json(headers) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send `Content-Type: application/json`",
        ));
    }
    let forbidden = |message: &str| Err(ApiError::new(StatusCode::FORBIDDEN, "foreign_origin", message));
    let Some(host) = host.filter(|h| is_loopback_name(h.host())) else {
        return forbidden("without a token, writes must address 127.0.0.1, [::1] or localhost");
    };
    match headers.get(ORIGIN).map(|o| o.to_str().unwrap_or_default()) {
        Some(origin) if origin.split_once("://").map(|(_, rest)| rest) != Some(host.as_str()) => {
            forbidden("the Origin header names another site")
        }
        _ => Ok(()),
    }
}

fn is_loopback_name(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether the body is declared as JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Headers<'a> = &'a [(&'a str, &'a str)];

    fn status(access: &WriteAccess, host: &str, headers: Headers<'_>) -> u16 {
        let map: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        check(access, &map, host.parse().ok().as_ref()).map_or_else(|e| e.status.as_u16(), |()| 200)
    }

    #[test]
    fn open_only_to_this_machine() {
        let json = ("content-type", "application/json; charset=utf-8");
        let rows: [(u16, &str, Headers<'_>); 9] = [
            (200, "127.0.0.1:9464", &[json]),
            (200, "[::1]:9464", &[json]),
            (200, "LOCALHOST:9464", &[json, ("origin", "http://LOCALHOST:9464")]),
            (415, "127.0.0.1:9464", &[]),
            (415, "127.0.0.1:9464", &[("content-type", "text/plain")]),
            (403, "127.0.0.1:9464", &[json, ("origin", "https://evil.example")]),
            (403, "127.0.0.1:9464", &[json, ("origin", "null")]),
            (403, "evil.example:9464", &[json, ("origin", "http://evil.example:9464")]),
            (403, "", &[json]),
        ];
        for (expected, host, headers) in rows {
            assert_eq!(status(&WriteAccess::Open, host, headers), expected, "{host} {headers:?}");
        }
    }

    #[test]
    fn tokens() {
        let access = WriteAccess::Token(b"0123456789abcdef".as_slice().into());
        let rows = [
            (200, "Bearer 0123456789abcdef"),
            (200, "bearer 0123456789abcdef"),
            (401, "Bearer 0123456789abcdeX"),
            (401, "Bearer 0123456789abcde"),
            (401, "Basic 0123456789abcdef"),
            (401, ""),
        ];
        for (expected, header) in rows {
            assert_eq!(status(&access, "far.example", &[("authorization", header)]), expected, "{header}");
        }
        assert_eq!(status(&WriteAccess::Locked, "127.0.0.1", &[("content-type", "application/json")]), 403);
        assert!(!format!("{access:?}").contains("0123"));
    }

    #[test]
    fn decided_by_address_and_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let near: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let far: SocketAddr = "0.0.0.0:1".parse().unwrap();
        assert!(matches!(WriteAccess::decide(near, None), Ok(WriteAccess::Open)));
        assert!(matches!(WriteAccess::decide(far, None), Ok(WriteAccess::Locked)));
        let good = file("good", "0123456789abcdef\n");
        assert!(matches!(WriteAccess::decide(far, Some(&good)), Ok(WriteAccess::Token(t)) if t.len() == 16));
        for bad in ["", "short", "two words are no token"] {
            let path = file("bad", bad);
            assert!(matches!(WriteAccess::decide(near, Some(&path)), Err(TokenError::Short { .. })), "{bad}");
        }
        assert!(matches!(read_token(Path::new("/does/not/exist")), Err(TokenError::Read { .. })));
    }
}
