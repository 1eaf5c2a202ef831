//! Feature flags that decide a request, where its own span tells of them: as events (`feature_flag.evaluation`, before
//! `feature_flag`) or as attributes. A flag that `version_attributes` names, `feature_flag.KEY`, makes the variant a
//! part of the version of that request. Nothing here runs where the list names none.

use super::span::{ATTRIBUTE, EVENT};
use super::{EVENT_ATTRIBUTE, EVENT_NAME};
use crate::receiver::identity::VersionParts;
use crate::receiver::settings::FLAG_PREFIX;
use crate::receiver::value::{Value, key_value};
use crate::wire::{Fields, WalkError};

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

    fn apply(&self, version: &mut VersionParts<'a, '_>) -> bool {
        let variant = [self.variant, self.legacy_variant].map(Value::text);
        let variant = variant.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
        !variant.is_empty() && version.set_flag(self.flag.text(), variant)
    }
}

/// The parts of a request's version, if its span evaluates a flag that belongs to them; else `None`. Of a flag that is
/// evaluated several times the last event counts, and what the span's own attributes say goes before events.
pub(super) fn version_parts<'a, 's>(
    span: &'a [u8],
    resource: &VersionParts<'a, 's>,
) -> Result<Option<VersionParts<'a, 's>>, WalkError> {
    let (mut version, mut is_set, mut own) = (resource.clone(), false, Evaluation::default());
    let mut named = Vec::new();
    let mut fields = Fields::new(span);
    while let Some(key) = fields.next_key()? {
        match key {
            ATTRIBUTE => {
                if let Some((name, value)) = key_value(fields.bytes()?, flag_name)? {
                    own.set(name, value);
                    named.push((name, value.text()));
                }
            }
            EVENT => is_set |= event(fields.bytes()?, &mut version)?,
            _ => fields.skip(key)?,
        }
    }
    is_set |= own.apply(&mut version);
    for (name, text) in named.iter().filter(|(_, text)| !text.is_empty()) {
        is_set |= version.set_flag(&name[FLAG_PREFIX.len()..], text);
    }
    Ok(is_set.then_some(version))
}

fn event<'a>(message: &'a [u8], version: &mut VersionParts<'a, '_>) -> Result<bool, WalkError> {
    let (mut name, mut evaluation) = (&b""[..], Evaluation::default());
    let mut fields = Fields::new(message);
    while let Some(key) = fields.next_key()? {
        match key {
            EVENT_NAME => name = fields.bytes()?,
            EVENT_ATTRIBUTE => {
                if let Some((name, value)) = key_value(fields.bytes()?, flag_name)? {
                    evaluation.set(name, value);
                }
            }
            _ => fields.skip(key)?,
        }
    }
    Ok(matches!(name, b"feature_flag.evaluation" | b"feature_flag") && evaluation.apply(version))
}

fn flag_name(name: &[u8]) -> Option<&[u8]> {
    name.starts_with(FLAG_PREFIX.as_bytes()).then_some(name)
}

#[cfg(test)]
#[path = "flags_tests.rs"]
mod tests;
