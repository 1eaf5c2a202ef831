//! What the attributes of an entry span mean: its operation, whether it failed, whether it is a health check
//! or synthetic traffic. Old and new semantic conventions are read side by side; where both are present the
//! new one counts.

use super::settings::WalkSettings;
use super::value::Value;
use crate::model::{Attribute, AttributeValue, Outcome, StatusSource};
use crate::wire::WalkError;

/// `Status.code` of a span.
const STATUS_OK: i32 = 1;
const STATUS_ERROR: i32 = 2;

/// The operation of a span in up to three pieces, as in [`crate::model::SpanView`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operation<'a> {
    pub(super) head: &'a [u8],
    pub(super) joint: &'static [u8],
    pub(super) tail: &'a [u8],
}

impl<'a> Operation<'a> {
    fn new(head: &'a [u8], joint: &'static [u8], tail: &'a [u8]) -> Self {
        let both = !head.is_empty() && !tail.is_empty();
        Self { head, joint: if both { joint } else { b"" }, tail }
    }
}

/// The attributes of one span that matter. Of an attribute that occurs twice the last one counts.
#[derive(Debug)]
pub(super) struct SpanAttributes<'a> {
    values: [Value<'a>; Attribute::COUNT],
}

impl<'a> SpanAttributes<'a> {
    pub(super) const fn new() -> Self {
        Self { values: [Value::Absent; Attribute::COUNT] }
    }

    #[inline]
    pub(super) fn set(&mut self, attribute: Attribute, value: Value<'a>) {
        self.values[attribute as usize] = value;
    }

    /// Reads the value of an attribute.
    #[inline(always)]
    pub(super) fn read(&mut self, attribute: Attribute, value: &'a [u8]) -> Result<(), WalkError> {
        self.values[attribute as usize].replace(value)
    }

    /// The same for an attribute by its number; other numbers are no attribute's.
    #[inline(always)]
    pub(super) fn read_numbered(&mut self, number: usize, value: &'a [u8]) -> Result<(), WalkError> {
        self.values.get_mut(number).map_or(Ok(()), |known| known.replace(value))
    }

    /// Sets an attribute by its number; other numbers are no attribute's.
    pub(super) fn set_numbered(&mut self, number: usize, value: Value<'a>) {
        if let Some(known) = self.values.get_mut(number) {
            *known = value;
        }
    }

    fn get(&self, attribute: Attribute) -> Value<'a> {
        self.values[attribute as usize]
    }

    fn first_text<const N: usize>(&self, attributes: [Attribute; N]) -> &'a [u8] {
        attributes.map(|a| self.get(a).text()).into_iter().find(|t| !t.is_empty()).unwrap_or_default()
    }

    /// HTTP route, else RPC method, else messaging destination, else the span's name. Never a path: paths
    /// have no bound.
    pub(super) fn operation(&self, name: &'a [u8]) -> Operation<'a> {
        let route = self.get(Attribute::Route).text();
        if !route.is_empty() {
            return Operation::new(self.first_text([Attribute::Method, Attribute::OldMethod]), b" ", route);
        }
        if !self.get(Attribute::RpcMethod).text().is_empty() {
            return self.rpc_operation();
        }
        let destination = self.first_text([Attribute::DestinationTemplate, Attribute::Destination]);
        if !destination.is_empty() {
            let action = self.first_text([
                Attribute::MessagingOperation,
                Attribute::MessagingType,
                Attribute::OldMessagingOperation,
            ]);
            return Operation::new(action, b" ", destination);
        }
        Operation::new(b"", b"", name)
    }

    /// The same for a metric point, whose `name` is that of the spans it was made of, if it was. Without
    /// route and name the method is what is left: HTTP servers write it on every point.
    pub(super) fn operation_of_point(&self, name: &'a [u8]) -> Operation<'a> {
        let operation = self.operation(name);
        if operation.tail.is_empty() && operation.head.is_empty() {
            return Operation::new(b"", b"", self.first_text([Attribute::Method, Attribute::OldMethod]));
        }
        operation
    }

    /// The present convention has the whole name in `rpc.method`, the older one two attributes.
    fn rpc_operation(&self) -> Operation<'a> {
        let method = self.get(Attribute::RpcMethod).text();
        let service = if method.contains(&b'/') { b"" } else { self.get(Attribute::RpcService).text() };
        Operation::new(service, b"/", method)
    }

    /// How the request ended. The status that the application's owner set decides; then the protocol's code;
    /// then `error.type`.
    pub(super) fn outcome(&self, status_code: i32) -> (Outcome, StatusSource) {
        let http = self.http_code();
        let rpc_code = if http.is_none() { self.rpc_code() } else { Value::Absent };
        let source =
            if http.is_some() || rpc_code.is_present() { StatusSource::Code } else { StatusSource::None };
        let by_code = || http.map(http_outcome).or_else(|| rpc_outcome(rpc_code));
        let outcome = match status_code {
            STATUS_ERROR => Outcome::Bad,
            STATUS_OK => Outcome::Good,
            _ => by_code().unwrap_or_else(|| self.outcome_by_error_type()),
        };
        (outcome, source)
    }

    /// The same for a metric point. Senders write `error.type` on points of failed requests only (semantic
    /// conventions of HTTP and RPC metrics), so there it also stands against an HTTP code below 400: a
    /// response that broke off after its headers.
    pub(super) fn outcome_of_point(&self, status_code: i32) -> (Outcome, StatusSource) {
        let (outcome, source) = self.outcome(status_code);
        let broke_off =
            self.http_code().is_some_and(|code| code < 400) && self.outcome_by_error_type() == Outcome::Bad;
        if status_code != STATUS_OK && broke_off { (Outcome::Bad, source) } else { (outcome, source) }
    }

    /// Whether a route, a path or an RPC method says what was asked for.
    pub(super) fn has_place(&self) -> bool {
        let names = [Attribute::Route, Attribute::UrlPath, Attribute::OldTarget, Attribute::RpcMethod];
        !self.first_text(names).is_empty()
    }

    /// Whether a status code of HTTP or RPC is there.
    pub(super) fn has_code(&self) -> bool {
        self.http_code().is_some() || self.rpc_code().is_present()
    }

    fn outcome_by_error_type(&self) -> Outcome {
        if self.get(Attribute::ErrorType).is_present() { Outcome::Bad } else { Outcome::Good }
    }

    fn http_code(&self) -> Option<i64> {
        let code = |attribute| self.get(attribute).number().filter(|code| *code >= 100);
        code(Attribute::HttpStatus).or_else(|| code(Attribute::OldHttpStatus))
    }

    /// The status code of HTTP, else of RPC, as conditions of SLIs look at it.
    pub(super) fn code(&self) -> AttributeValue<'a> {
        self.http_code().map_or_else(|| self.rpc_code().attribute(), AttributeValue::Whole)
    }

    fn rpc_code(&self) -> Value<'a> {
        [Attribute::RpcStatus, Attribute::RpcResponseStatus, Attribute::GrpcStatus, Attribute::ConnectCode]
            .map(|attribute| self.get(attribute))
            .into_iter()
            .find(|value| matches!(value, Value::Int(_)) || !value.text().is_empty())
            .unwrap_or_default()
    }

    /// Whether the sender marked the request as made by a machine for its own sake.
    pub(super) fn is_synthetic(&self) -> bool {
        matches!(self.get(Attribute::Synthetic).text(), b"bot" | b"test")
    }

    /// Whether the configuration leaves requests out that end so, such as floods of 404.
    pub(super) fn is_excluded(&self, settings: &WalkSettings) -> bool {
        let excluded = &settings.excluded_statuses;
        !excluded.is_empty()
            && self.http_code().is_some_and(|code| excluded.iter().any(|e| i64::from(*e) == code))
    }

    /// Whether this is a health check: by route, where there is none by path, or by RPC method.
    pub(super) fn is_health_check(&self, settings: &WalkSettings) -> bool {
        let mut place = self.first_text([Attribute::Route, Attribute::UrlPath, Attribute::OldTarget]);
        if let Some(query) = place.iter().position(|&b| b == b'?') {
            place = &place[..query];
        }
        let rpc = if place.is_empty() { self.rpc_operation() } else { Operation::new(b"", b"", place) };
        // Nothing to compare on most spans of other protocols.
        !rpc.tail.is_empty() && settings.health_routes.iter().any(|p| matches(p.as_bytes(), rpc))
    }

    /// Whether anything that S3 or S4 could use was there: when not, and the sender dropped attributes, the
    /// span may be misjudged.
    pub(super) fn has_operation_and_code(&self) -> bool {
        let operation = [Attribute::Route, Attribute::RpcMethod, Attribute::DestinationTemplate];
        let has_operation = operation.iter().any(|a| self.get(*a).is_present())
            || self.get(Attribute::Destination).is_present();
        has_operation && self.has_code()
    }
}

/// Whether the pieces of an operation, put together, match a pattern that may end in `*`.
fn matches(pattern: &[u8], operation: Operation<'_>) -> bool {
    let (mut rest, open) = match pattern {
        [prefix @ .., b'*'] => (prefix, true),
        whole => (whole, false),
    };
    // Nearly always the length decides.
    let length = operation.head.len() + operation.joint.len() + operation.tail.len();
    if length < rest.len() || !open && length != rest.len() {
        return false;
    }
    // This is asked of every span, for every pattern: what is empty is not worth a call.
    for piece in [operation.head, operation.joint, operation.tail].into_iter().filter(|p| !p.is_empty()) {
        if let Some(left) = rest.strip_prefix(piece) {
            rest = left;
        } else {
            return open && piece.starts_with(rest);
        }
    }
    rest.is_empty()
}

/// A server's 5xx is its fault. 404 and 429 are everyday answers and 499 is the client's own doing; the other
/// 4xx say that a client was refused.
const fn http_outcome(code: i64) -> Outcome {
    match code {
        500.. => Outcome::Bad,
        404 | 429 | 499 => Outcome::Good,
        400.. => Outcome::ClientError,
        _ => Outcome::Good,
    }
}

const RPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// `None` for codes of other RPC systems, of which nothing is known.
fn rpc_outcome(code: Value<'_>) -> Option<Outcome> {
    let number = code.number().or_else(|| {
        let name = code.text();
        RPC_CODES.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(name)).map(|i| i as i64)
    })?;
    Some(match number {
        2 | 4 | 12 | 13 | 14 | 15 => Outcome::Bad,
        3 | 5 | 6 | 7 | 9 | 10 | 11 | 16 => Outcome::ClientError,
        0 | 1 | 8 => Outcome::Good,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(attributes: &[(&'static str, Value<'static>)]) -> SpanAttributes<'static> {
        let mut span = SpanAttributes::new();
        for (name, value) in attributes {
            span.set(Attribute::named(name.as_bytes()).expect(name), *value);
        }
        span
    }

    const fn text(text: &'static str) -> Value<'static> {
        Value::Text(text.as_bytes())
    }

    #[test]
    fn s3_first_match_decides() {
        use Outcome::{Bad, ClientError, Good};
        const HTTP: &str = "http.response.status_code";
        const OLD: &str = "http.status_code";
        type Case<'a> = (i32, &'a [(&'static str, Value<'static>)], Outcome, bool);
        let cases: &[Case<'_>] = &[
            (2, &[], Bad, false),
            (1, &[(HTTP, Value::Int(500))], Good, true),
            (1, &[(HTTP, Value::Int(401))], Good, true),
            (2, &[(HTTP, Value::Int(200))], Bad, true),
            (0, &[(HTTP, Value::Int(500))], Bad, true),
            (0, &[(HTTP, Value::Int(503)), (OLD, Value::Int(200))], Bad, true),
            (0, &[(HTTP, Value::Int(404))], Good, true),
            (0, &[(HTTP, Value::Int(429))], Good, true),
            (0, &[(HTTP, Value::Int(499))], Good, true),
            (0, &[(HTTP, Value::Int(401)), ("error.type", text("401"))], ClientError, true),
            (0, &[(OLD, text("502"))], Bad, true),
            (0, &[(HTTP, Value::Other), (OLD, Value::Int(400))], ClientError, true),
            (0, &[(HTTP, Value::Int(0)), ("error.type", text("timeout"))], Bad, false),
            (0, &[("rpc.status_code", text("INTERNAL"))], Bad, true),
            (0, &[("rpc.response.status_code", text("DEADLINE_EXCEEDED"))], Bad, true),
            (0, &[("rpc.grpc.status_code", Value::Int(14))], Bad, true),
            (0, &[("rpc.grpc.status_code", Value::Int(16))], ClientError, true),
            (0, &[("rpc.grpc.status_code", Value::Int(1))], Good, true),
            (0, &[("rpc.grpc.status_code", Value::Int(0)), ("error.type", text("x"))], Good, true),
            (0, &[("rpc.connect_rpc.error_code", text("invalid_argument"))], ClientError, true),
            (0, &[("rpc.status_code", text("E42")), ("error.type", text("E42"))], Bad, true),
            (0, &[("error.type", text("java.io.IOException"))], Bad, false),
            (0, &[("error.type", text(""))], Good, false),
            (-7, &[], Good, false),
        ];
        for (code, attributes, outcome, has_code) in cases {
            let source = if *has_code { StatusSource::Code } else { StatusSource::None };
            assert_eq!(span(attributes).outcome(*code), (*outcome, source), "{code} {attributes:?}");
        }
    }

    #[test]
    fn s4_s5_operations() {
        let cases: &[(&[(&str, Value<'static>)], &str)] = &[
            (&[], "name"),
            (&[("http.request.method", text("GET"))], "name"),
            (&[("http.route", text("/a/{b}")), ("http.method", text("POST"))], "POST /a/{b}"),
            (
                &[
                    ("http.route", text("/a")),
                    ("http.method", text("X")),
                    ("http.request.method", text("GET")),
                ],
                "GET /a",
            ),
            (&[("http.route", text("/a"))], "/a"),
            (&[("rpc.method", text("shop.Cart/Add")), ("rpc.service", text("shop.Cart"))], "shop.Cart/Add"),
            (&[("rpc.method", text("Add")), ("rpc.service", text("shop.Cart"))], "shop.Cart/Add"),
            (&[("rpc.method", text("Add"))], "Add"),
            (
                &[
                    ("messaging.destination.name", text("orders")),
                    ("messaging.operation.type", text("process")),
                ],
                "process orders",
            ),
            (
                &[
                    ("messaging.destination.name", text("orders-17")),
                    ("messaging.destination.template", text("orders-{n}")),
                ],
                "orders-{n}",
            ),
        ];
        for (attributes, expected) in cases {
            let operation = span(attributes).operation(b"name");
            let whole = [operation.head, operation.joint, operation.tail].concat();
            assert_eq!(String::from_utf8_lossy(&whole), *expected);
        }
    }

    #[test]
    fn s7_health_checks_and_synthetic_traffic() {
        let settings = WalkSettings::default();
        let cases: &[(&str, &str, bool)] = &[
            ("http.route", "/healthz", true),
            ("http.route", "/healthz/deep", false),
            ("url.path", "/ready", true),
            ("http.target", "/ping?x=1", true),
            ("http.route", "/orders", false),
            ("rpc.method", "grpc.health.v1.Health/Check", true),
            ("rpc.method", "shop.Cart/Health", false),
        ];
        for (name, value, expected) in cases {
            assert_eq!(span(&[(name, text(value))]).is_health_check(&settings), *expected, "{value}");
        }
        let old = span(&[("rpc.service", text("grpc.health.v1.Health")), ("rpc.method", text("Watch"))]);
        assert!(old.is_health_check(&settings));
        assert!(!span(&[]).is_health_check(&settings));
        assert!(span(&[("user_agent.synthetic.type", text("bot"))]).is_synthetic());
        assert!(!span(&[("user_agent.synthetic.type", text("no"))]).is_synthetic());
    }
}
