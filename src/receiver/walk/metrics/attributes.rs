//! What the attributes of a data point say: whom it is about, which operation, how its requests ended, and
//! whether they are a user's requests at all.

use std::borrow::Cow;

use super::super::super::identity::joined;
use super::super::super::semantics::{Operation, SpanAttributes};
use super::super::super::settings::WalkSettings;
use super::super::super::value::{Value, key_value};
use crate::model::{Attribute, Discard, Outcome, StatusSource};
use crate::wire::WalkError;

/// Configured names that are looked for, over all lists; further ones are ignored (the configuration refuses
/// them).
pub(in crate::receiver) const NAMES_MAX: usize = 32;

/// The configured names, ready to be looked for. Made once per message.
#[derive(Debug)]
pub(super) struct PointNames<'s> {
    settings: &'s WalkSettings,
    names: Vec<&'s [u8]>,
    /// Which lengths any of them has, modulo 64: most attributes are turned away by it.
    lengths: u64,
    /// Where each list ends in `names`: service, namespace, environment, version, operation, status.
    ends: [usize; 6],
}

impl<'s> PointNames<'s> {
    pub(super) fn new(settings: &'s WalkSettings) -> Self {
        let lists = &settings.point_attributes;
        let mut names: Vec<&[u8]> = Vec::with_capacity(NAMES_MAX);
        let mut ends = [0; 6];
        let versions: Vec<&String> = lists.version.iter().flat_map(|source| source.parts()).collect();
        let plain = |list: &'s [String]| list.iter().collect::<Vec<_>>();
        let all = [
            plain(&lists.service),
            plain(&lists.namespace),
            plain(&lists.environment),
            versions,
            plain(&lists.operation),
            plain(&lists.status),
        ];
        for (list, end) in all.into_iter().zip(&mut ends) {
            let room = NAMES_MAX - names.len();
            names.extend(list.into_iter().take(room).map(|name| name.as_bytes()));
            *end = names.len();
        }
        let lengths = names.iter().fold(0, |mask, name| mask | 1 << (name.len() % 64));
        Self { settings, names, lengths, ends }
    }

    /// All places of a name: it may stand in several lists.
    fn places(&self, name: &[u8]) -> impl Iterator<Item = usize> {
        let possible = self.lengths & 1 << (name.len() % 64) != 0;
        let all = if possible { self.names.as_slice() } else { &[] };
        all.iter().enumerate().filter(move |(_, wanted)| **wanted == name).map(|(at, _)| at)
    }
}

/// The attributes of one point that matter.
#[derive(Debug)]
pub(super) struct PointAttributes<'a> {
    span: SpanAttributes<'a>,
    named: [Value<'a>; NAMES_MAX],
    status_code: i32,
    /// Counts requests to others, seen from the caller.
    is_outgoing: bool,
    pub(super) overflow: bool,
}

impl<'a> PointAttributes<'a> {
    pub(super) const fn new() -> Self {
        Self {
            span: SpanAttributes::new(),
            named: [Value::Absent; NAMES_MAX],
            status_code: 0,
            is_outgoing: false,
            overflow: false,
        }
    }

    pub(super) fn read(&mut self, message: &'a [u8], names: &PointNames<'_>) -> Result<(), WalkError> {
        let Some((name, value)) = key_value(message, Some)? else { return Ok(()) };
        for place in names.places(name) {
            self.named[place] = value;
        }
        match name {
            b"status.code" | b"status_code" => self.status_code = status_code(value.text()),
            b"span.kind" | b"span_kind" => {
                self.is_outgoing = !matches!(value.text(), b"SPAN_KIND_SERVER" | b"SPAN_KIND_CONSUMER");
            }
            // A mesh counts each request on both sides.
            b"reporter" => self.is_outgoing = value.text() == b"source",
            b"otel.metric.overflow" => self.overflow = value.is_present(),
            _ => {
                if let Some(attribute) = Attribute::named(name) {
                    self.span.set(attribute, value);
                }
            }
        }
        Ok(())
    }

    fn list(&self, names: &PointNames<'_>, list: usize) -> &[Value<'a>] {
        let from = list.checked_sub(1).map_or(0, |before| names.ends[before]);
        &self.named[from..names.ends[list]]
    }

    fn first(&self, names: &PointNames<'_>, list: usize) -> &'a [u8] {
        self.list(names, list)
            .iter()
            .map(|value| known(value.text()))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }

    /// Service, namespace, environment; empty where the point names none.
    pub(super) fn subject(&self, names: &PointNames<'_>) -> [&'a [u8]; 3] {
        [0, 1, 2].map(|list| self.first(names, list))
    }

    /// The version that the point names.
    pub(super) fn version(&self, names: &PointNames<'_>) -> Cow<'a, [u8]> {
        let mut values = self.list(names, 3);
        for source in &names.settings.point_attributes.version {
            let Some((own, rest)) = values.split_at_checked(source.parts().len()) else { break };
            values = rest;
            let version = joined(source, own, b"");
            if !known(&version).is_empty() {
                return version;
            }
        }
        Cow::Borrowed(b"")
    }

    /// Status that only the configured attributes hold: of HTTP from 100 on, of gRPC below or by name.
    fn adopt_status(&mut self, names: &PointNames<'_>) {
        if self.span.has_code() {
            return;
        }
        let mut all = self.list(names, 5).iter();
        let found = all.find(|value| !known(value.text()).is_empty() || value.number().is_some());
        let Some(value) = found.map(|v| v.number().map_or(Value::Text(v.text()), Value::Int)) else { return };
        // The first element of a list is text too.
        match value.number() {
            Some(code) if code >= 100 => self.span.set(Attribute::HttpStatus, Value::Int(code)),
            _ => self.span.set(Attribute::RpcStatus, value),
        }
    }

    /// Why the point makes no SLI, as far as its attributes tell; adopts the status on the way.
    pub(super) fn discard(&mut self, names: &PointNames<'_>) -> Option<Discard> {
        if self.is_outgoing {
            Some(Discard::Kind)
        } else if self.span.is_synthetic() {
            Some(Discard::Synthetic)
        } else if self.is_health_check(names) {
            Some(Discard::Health)
        } else {
            self.adopt_status(names);
            // The configuration may leave out requests with this status.
            self.span.is_excluded(names.settings).then_some(Discard::Excluded)
        }
    }

    /// A metric made of spans often has nothing but the span's name, `GET /healthz`.
    fn is_health_check(&self, names: &PointNames<'_>) -> bool {
        let name = self.first(names, 4);
        if name.is_empty() || self.span.has_place() {
            return self.span.is_health_check(names.settings);
        }
        let mut place = SpanAttributes::new();
        let path = name.iter().position(|b| *b == b' ').map_or(name, |at| &name[at + 1..]);
        place.set(Attribute::UrlPath, Value::Text(path));
        place.is_health_check(names.settings)
    }

    pub(super) fn operation(&self, names: &PointNames<'_>) -> Operation<'a> {
        self.span.operation_of_point(self.first(names, 4))
    }

    pub(super) fn outcome(&self) -> (Outcome, StatusSource) {
        self.span.outcome_of_point(self.status_code)
    }
}

/// Meshes write `unknown` where a pod has no label.
fn known(text: &[u8]) -> &[u8] {
    if text == b"unknown" { b"" } else { text }
}

/// The numbers of `Status.code` behind the words of `span_metrics`.
fn status_code(word: &[u8]) -> i32 {
    match word {
        b"STATUS_CODE_OK" => 1,
        b"STATUS_CODE_ERROR" => 2,
        _ => 0,
    }
}
