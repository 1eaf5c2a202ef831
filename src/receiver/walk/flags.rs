//! Feature flags that decide a request, where its own span tells of them: as events (`feature_flag.evaluation`, before
//! `feature_flag`) or as attributes. A flag that `version_attributes` names, `feature_flag.KEY`, makes the variant a
//! part of the version of that request. Nothing here runs where the list names none.

use super::span::{ATTRIBUTE, EVENT};
use super::{EVENT_ATTRIBUTE, EVENT_NAME};
use crate::model::ToldBy;
use crate::receiver::identity::VersionParts;
use crate::receiver::settings::{FLAG_PREFIX, WalkSettings};
use crate::receiver::value::{Value, key_value};
use crate::wire::{Fields, WalkError};

/// Names an event where its field for that is empty.
const EVENT_NAME_ATTRIBUTE: &[u8] = b"event.name";

/// A flag's key and the variant that was taken.
type Variant<'a> = (&'a [u8], &'a [u8]);

/// What one evaluation says; of an attribute that occurs twice the last one counts.
#[derive(Debug, Default)]
struct Evaluation<'a> {
    flag: Value<'a>,
    variant: Value<'a>,
    /// The name before it became `result.variant`.
    legacy_variant: Value<'a>,
}

impl<'a> Evaluation<'a> {
    fn set(&mut self, name: &[u8], value: Value<'a>) {
        match name {
            b"feature_flag.key" => self.flag = value,
            b"feature_flag.result.variant" => self.variant = value,
            b"feature_flag.variant" => self.legacy_variant = value,
            _ => {}
        }
    }

    /// Flag and variant, where both are said.
    fn told(&self) -> Option<Variant<'a>> {
        let variant = [self.variant, self.legacy_variant].map(Value::text);
        let variant = variant.into_iter().find(|text| !text.is_empty())?;
        Some((self.flag.text(), variant))
    }
}

/// The flags that the list names, and how many records of the resource in hand tell of each. What spans that are no
/// requests and log records say makes no version; it is counted so that the diagnosis can say where the variant stands.
#[derive(Debug)]
pub(super) struct FlagTally<'s>(Vec<Told<'s>>);

#[derive(Debug)]
struct Told<'s> {
    flag: &'s str,
    /// By [`ToldBy`].
    records: [u64; 3],
    /// The number of the last record: each counts once.
    last: u64,
}

impl<'s> FlagTally<'s> {
    pub(super) fn new(settings: &'s WalkSettings) -> Self {
        let mut told: Vec<Told<'s>> = Vec::new();
        for flag in settings.flags() {
            if told.iter().all(|known| known.flag != flag) {
                told.push(Told { flag, records: [0; 3], last: 0 });
            }
        }
        Self(told)
    }

    /// Whether the list names none: then nothing is to be read.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parts of a request's version, if its span tells of a flag that belongs to them; else `None`. Of a flag that
    /// is evaluated several times the last event counts, and what the span's own attributes say goes before events.
    /// `number` is that of the span in its message, from 1.
    pub(super) fn version_parts<'a, 'p>(
        &mut self,
        span: &'a [u8],
        resource: &VersionParts<'a, 'p>,
        number: u64,
    ) -> Result<Option<VersionParts<'a, 'p>>, WalkError> {
        let (mut version, mut is_set) = (resource.clone(), false);
        evaluations(span, |flag, variant| {
            is_set |= version.set_flag(flag, variant);
            self.count(flag, ToldBy::Request, number);
        })?;
        Ok(is_set.then_some(version))
    }

    /// Counts what a span says that is no request.
    pub(super) fn of_span(&mut self, span: &[u8], number: u64) -> Result<(), WalkError> {
        evaluations(span, |flag, _| self.count(flag, ToldBy::OtherSpan, number))
    }

    /// Counts what a log record says, whose fields of event name and attribute have these keys.
    pub(super) fn of_record(
        &mut self,
        record: &[u8],
        keys: (u32, u32),
        number: u64,
    ) -> Result<(), WalkError> {
        if let Some((flag, _)) = event(record, keys)? {
            self.count(flag, ToldBy::LogRecord, number);
        }
        Ok(())
    }

    fn count(&mut self, flag: &[u8], by: ToldBy, number: u64) {
        let known = self.0.iter_mut().find(|told| told.flag.as_bytes() == flag);
        if let Some(told) = known.filter(|told| told.last != number) {
            told.last = number;
            told.records[by as usize] += 1;
        }
    }

    /// Hands on what was counted of a resource, and begins anew.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&str, ToldBy, u64)) {
        for told in &mut self.0 {
            for by in [ToldBy::Request, ToldBy::OtherSpan, ToldBy::LogRecord] {
                match std::mem::take(&mut told.records[by as usize]) {
                    0 => {}
                    records => each(told.flag, by, records),
                }
            }
        }
    }
}

/// Flag and variant of all that a span tells: first its events, in their order, then its own attributes.
fn evaluations<'a>(span: &'a [u8], mut each: impl FnMut(&'a [u8], &'a [u8])) -> Result<(), WalkError> {
    let (mut own, mut named) = (Evaluation::default(), Vec::new());
    let mut fields = Fields::new(span);
    while let Some(key) = fields.next_key()? {
        match key {
            ATTRIBUTE => {
                if let Some((name, value)) = key_value(fields.bytes()?, flag_name)? {
                    own.set(name, value);
                    named.push((&name[FLAG_PREFIX.len()..], value.text()));
                }
            }
            EVENT => {
                if let Some((flag, variant)) = event(fields.bytes()?, (EVENT_NAME, EVENT_ATTRIBUTE))? {
                    each(flag, variant);
                }
            }
            _ => fields.skip(key)?,
        }
    }
    let all = own.told().into_iter().chain(named.into_iter().filter(|(_, variant)| !variant.is_empty()));
    all.for_each(|(flag, variant)| each(flag, variant));
    Ok(())
}

/// Flag and variant of an event or a log record, whose fields of name and attribute have these keys. A name that is no
/// field of its own may be an attribute.
fn event(message: &[u8], (name_key, attribute_key): (u32, u32)) -> Result<Option<Variant<'_>>, WalkError> {
    let (mut name, mut attribute, mut evaluation) = (&b""[..], Value::default(), Evaluation::default());
    let mut fields = Fields::new(message);
    while let Some(key) = fields.next_key()? {
        match key {
            _ if key == name_key => name = fields.bytes()?,
            _ if key == attribute_key => match key_value(fields.bytes()?, event_name)? {
                Some((EVENT_NAME_ATTRIBUTE, value)) => attribute = value,
                Some((name, value)) => evaluation.set(name, value),
                None => {}
            },
            _ => fields.skip(key)?,
        }
    }
    let name = if name.is_empty() { attribute.text() } else { name };
    let is_evaluation = matches!(name, b"feature_flag.evaluation" | b"feature_flag");
    Ok(evaluation.told().filter(|_| is_evaluation))
}

fn event_name(name: &[u8]) -> Option<&[u8]> {
    if name == EVENT_NAME_ATTRIBUTE { Some(name) } else { flag_name(name) }
}

fn flag_name(name: &[u8]) -> Option<&[u8]> {
    name.starts_with(FLAG_PREFIX.as_bytes()).then_some(name)
}

#[cfg(test)]
#[path = "flags_tests.rs"]
mod tests;
