//! The body of `POST /api/v1/deployments`, checked field by field so that the answer names the field.

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::ApiError;
use crate::deployment::Request;
use crate::model::{UnixNanos, VersionKey};
use crate::verdict::Scope;

/// Longest name of a service, version or environment.
const MAX_NAME_BYTES: usize = 256;
/// Longest link.
const MAX_URL_BYTES: usize = 2048;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    service: Option<Value>,
    version: Option<Value>,
    time: Option<Value>,
    scope: Option<Value>,
    baseline: Option<Value>,
    environment: Option<Value>,
    url: Option<Value>,
    commit: Option<Value>,
    release: Option<Value>,
    share: Option<Value>,
}

/// Reads and checks a body.
pub(super) fn parse(body: &[u8]) -> Result<Request, ApiError> {
    let body: Body = serde_json::from_slice(body).map_err(|e| refuse(&e))?;
    let request = Request {
        service: required("service", body.service)?,
        version: name("version", body.version)?.unwrap_or_default(),
        time: time(body.time)?,
        scope: scope(body.scope)?,
        baseline: name("baseline", body.baseline)?,
        environment: name("environment", body.environment)?,
        url: link(body.url)?,
        commit: name("commit", body.commit)?,
        release: name("release", body.release)?,
        share: share(body.share)?,
    };
    match (request.version.is_empty(), request.time.is_some()) {
        (true, false) => {
            let message = "is missing; for a change without a new version send its `time` instead";
            return Err(ApiError::field("version", message));
        }
        (false, true) => {
            let message = "goes with no version: a time is for a change that carries none";
            return Err(ApiError::field("time", message));
        }
        _ => {}
    }
    if request.time.is_some() && request.baseline.is_some() {
        let message = "goes with a version: what is after a time is held against what was before it";
        return Err(ApiError::field("baseline", message));
    }
    if request.time.is_some() && request.share.is_some() {
        let message = "goes with a version: what is after a time serves all requests";
        return Err(ApiError::field("share", message));
    }
    if request.time.is_none() && !request.scope.is_whole() {
        let message = "goes with a `time`: a version is judged in all its requests";
        return Err(ApiError::field("scope", message));
    }
    if [VersionKey::UNVERSIONED, VersionKey::OVERFLOW].contains(&request.version.as_str()) {
        return Err(ApiError::field("version", "this stands for spans that cannot be versioned"));
    }
    if request.baseline.as_ref() == Some(&request.version) {
        return Err(ApiError::field("baseline", "must differ from version"));
    }
    Ok(request)
}

fn refuse(error: &serde_json::Error) -> ApiError {
    if !error.is_data() {
        return ApiError::new(
            StatusCode::BAD_REQUEST,
            "invalid_json",
            format!("the body is not JSON: {error}"),
        );
    }
    let message = error.to_string();
    // serde names the field between the first backticks of these messages.
    let named = ["unknown field", "duplicate field"].iter().any(|start| message.starts_with(start));
    match message.split('`').nth(1).filter(|_| named) {
        Some(field) => ApiError::field(field, message.clone()),
        None => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message),
    }
}

fn required(field: &str, value: Option<Value>) -> Result<String, ApiError> {
    name(field, value)?.ok_or_else(|| ApiError::field(field, "is missing"))
}

fn name(field: &str, value: Option<Value>) -> Result<Option<String>, ApiError> {
    text(field, value, MAX_NAME_BYTES)
}

/// `null` counts as absent, which is what pipelines send for an empty variable.
fn text(field: &str, value: Option<Value>, longest: usize) -> Result<Option<String>, ApiError> {
    let text = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(_) => return Err(ApiError::field(field, "must be a string")),
    };
    if text.trim().is_empty() {
        return Err(ApiError::field(field, "must not be empty; leave it out instead"));
    }
    if text.len() > longest {
        return Err(ApiError::field(field, format!("must be at most {longest} bytes long")));
    }
    if text.chars().any(char::is_control) {
        return Err(ApiError::field(field, "must not contain control characters"));
    }
    Ok(Some(text))
}

/// A time in RFC 3339; whether it lies near enough is for who knows what time it is.
fn time(value: Option<Value>) -> Result<Option<UnixNanos>, ApiError> {
    let Some(text) = text("time", value, MAX_NAME_BYTES)? else { return Ok(None) };
    let nanos = text.parse::<jiff::Timestamp>().ok().and_then(|t| u64::try_from(t.as_nanosecond()).ok());
    match nanos {
        Some(nanos) => Ok(Some(UnixNanos(nanos))),
        None => {
            let message = format!("{text:?} is not a time like 2026-01-31T12:00:00Z (RFC 3339)");
            Err(ApiError::field("time", message))
        }
    }
}

/// Which requests, by attribute: `{"cloud.region": "eu-1", "operation": "GET /pay"}`. Which attributes there are is for
/// who knows the policy.
fn scope(value: Option<Value>) -> Result<Scope, ApiError> {
    let values: Map<String, Value> = match value {
        None | Some(Value::Null) => return Ok(Scope::default()),
        Some(Value::Object(values)) if !values.is_empty() => values,
        Some(_) => {
            let message = "must be an object of attributes and their values, such as {\"cloud.region\": \"eu-1\"}; \
                           leave it out for the whole service";
            return Err(ApiError::field("scope", message));
        }
    };
    let one = |(attribute, value): (String, Value)| {
        let field = format!("scope.{attribute}");
        let value = name(&field, Some(value))?.ok_or_else(|| ApiError::field(&field, "is missing"))?;
        Ok((attribute, value))
    };
    Ok(Scope::new(values.into_iter().map(one).collect::<Result<_, ApiError>>()?))
}

/// The part of both versions' requests that is meant to go to the candidate.
fn share(value: Option<Value>) -> Result<Option<f64>, ApiError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64().filter(|share| *share > 0.0 && *share <= 1.0) {
            Some(share) => Ok(Some(share)),
            None => Err(ApiError::field("share", "must be a number above 0 and at most 1: 0.1 for 10 %")),
        },
    }
}

fn link(value: Option<Value>) -> Result<Option<String>, ApiError> {
    let url = text("url", value, MAX_URL_BYTES)?;
    let is_web = |url: &String| url.starts_with("https://") || url.starts_with("http://");
    if url.as_ref().is_some_and(|url| !is_web(url)) {
        return Err(ApiError::field("url", "must begin with https:// or http://"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_fields() {
        let body = br#"{"service":"shop/checkout","version":"v2","baseline":"v1","environment":"prod",
                       "url":"https://ci/1","commit":null,"release":"canary","share":0.1}"#;
        let expected = Request {
            service: "shop/checkout".into(),
            version: "v2".into(),
            time: None,
            scope: Scope::default(),
            baseline: Some("v1".into()),
            environment: Some("prod".into()),
            url: Some("https://ci/1".into()),
            commit: None,
            release: Some("canary".into()),
            share: Some(0.1),
        };
        assert_eq!(parse(body), Ok(expected));
        let body = br#"{"service":"a","time":"2026-01-31T13:00:00.5+01:00","version":null}"#;
        let time = Some(UnixNanos(1_769_860_800_500_000_000));
        assert_eq!(parse(body), Ok(Request { service: "a".into(), time, ..Request::default() }));
        let body = br#"{"service":"a","time":"2026-01-31T12:00:00.5Z",
                       "scope":{"cloud.region":"eu-1","operation":"GET /a=b"}}"#;
        let values = [("cloud.region", "eu-1"), ("operation", "GET /a=b")];
        let scope = Scope::new(values.map(|(name, value)| (name.into(), value.into())).into());
        assert_eq!(parse(body), Ok(Request { service: "a".into(), time, scope, ..Request::default() }));
    }

    #[test]
    fn refuses_by_field() {
        let long = format!(r#"{{"service":"{}","version":"v"}}"#, "s".repeat(257));
        let rows = [
            ("{", 400, None),
            ("", 400, None),
            ("[]", 422, None),
            ("{}", 422, Some("service")),
            (r#"{"service":"a"}"#, 422, Some("version")),
            (r#"{"service":"a","version":"v","colour":1}"#, 422, Some("colour")),
            (r#"{"service":"a","service":"b","version":"v"}"#, 422, Some("service")),
            (r#"{"service":1,"version":"v"}"#, 422, Some("service")),
            (r#"{"service":" ","version":"v"}"#, 422, Some("service")),
            (r#"{"service":"a","version":"v\n"}"#, 422, Some("version")),
            (r#"{"service":"a","version":"(unversioned)"}"#, 422, Some("version")),
            (r#"{"service":"a","version":"v","baseline":"v"}"#, 422, Some("baseline")),
            (r#"{"service":"a","version":"v","time":"2026-01-31T12:00:00Z"}"#, 422, Some("time")),
            (r#"{"service":"a","time":"tomorrow"}"#, 422, Some("time")),
            (r#"{"service":"a","time":"2026-01-31T12:00:00"}"#, 422, Some("time")),
            (r#"{"service":"a","time":"1960-01-31T12:00:00Z"}"#, 422, Some("time")),
            (r#"{"service":"a","time":1769860800}"#, 422, Some("time")),
            (r#"{"service":"a","time":"2026-01-31T12:00:00Z","baseline":"v1"}"#, 422, Some("baseline")),
            (r#"{"service":"a","version":"v","scope":{"cloud.region":"eu"}}"#, 422, Some("scope")),
            (r#"{"service":"a","time":"2026-01-31T12:00:00Z","scope":{}}"#, 422, Some("scope")),
            (r#"{"service":"a","time":"2026-01-31T12:00:00Z","scope":["a=b"]}"#, 422, Some("scope")),
            (r#"{"service":"a","time":"2026-01-31T12:00:00Z","scope":{"tier":1}}"#, 422, Some("scope.tier")),
            (
                r#"{"service":"a","time":"2026-01-31T12:00:00Z","scope":{"tier":null}}"#,
                422,
                Some("scope.tier"),
            ),
            (r#"{"service":"a","version":"v","share":0}"#, 422, Some("share")),
            (r#"{"service":"a","version":"v","share":10}"#, 422, Some("share")),
            (r#"{"service":"a","version":"v","share":"10%"}"#, 422, Some("share")),
            (r#"{"service":"a","time":"2026-01-31T12:00:00Z","share":0.1}"#, 422, Some("share")),
            (r#"{"service":"a","version":"v","url":"javascript:x"}"#, 422, Some("url")),
            (long.as_str(), 422, Some("service")),
        ];
        for (body, status, field) in rows {
            let error = parse(body.as_bytes()).expect_err(body);
            let expected = field.map(|f| ApiError::field(f, ""));
            assert_eq!(error.status.as_u16(), status, "{body}");
            assert_eq!(format!("{error:?}").contains("field: Some"), expected.is_some(), "{body}");
            if let Some(field) = field {
                assert!(format!("{error:?}").contains(&format!("field: Some(\"{field}\")")), "{error:?}");
            }
        }
    }
}
