//! The `exception.*` attributes, as log records and span events both carry them, and the attributes whose
//! values the configuration allows to be shown. Read only where an exception is known to be.

use crate::model::ExceptionView;
use crate::receiver::settings::WalkSettings;
use crate::receiver::value::{Value, key_value};
use crate::wire::WalkError;

/// Listed attributes of one exception whose values are taken; more are left out.
const VALUES: usize = 8;

/// What an attribute says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Kind,
    Message,
    Stack,
    EventName,
    Listed,
}

/// The attributes of one exception, as far as they were read. Of one that occurs twice the last one counts.
#[derive(Debug)]
pub(super) struct Exception<'a, 's> {
    settings: &'s WalkSettings,
    kind: Value<'a>,
    message: Value<'a>,
    stack: Value<'a>,
    event_name: Value<'a>,
    values: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a, 's> Exception<'a, 's> {
    pub(super) const fn new(settings: &'s WalkSettings) -> Self {
        Self {
            settings,
            kind: Value::Absent,
            message: Value::Absent,
            stack: Value::Absent,
            event_name: Value::Absent,
            values: Vec::new(),
        }
    }

    /// Reads a `KeyValue`.
    pub(super) fn attribute(&mut self, message: &'a [u8]) -> Result<(), WalkError> {
        let settings = self.settings;
        let select = |name| Some((meaning(name, settings)?, name));
        let Some(((meaning, name), value)) = key_value(message, select)? else {
            return Ok(());
        };
        match meaning {
            Meaning::Kind => self.kind = value,
            Meaning::Message => self.message = value,
            Meaning::Stack => self.stack = value,
            Meaning::EventName => self.event_name = value,
            Meaning::Listed => self.list(name, value.text()),
        }
        Ok(())
    }

    fn list(&mut self, name: &'a [u8], text: &'a [u8]) {
        self.values.retain(|(other, _)| *other != name);
        if !text.is_empty() && self.values.len() < VALUES {
            self.values.push((name, text));
        }
    }

    /// Whether the attributes say that something was thrown.
    pub(super) fn is_present(&self) -> bool {
        self.kind.is_present()
            || self.message.is_present()
            || self.stack.is_present()
            || is_exception_name(self.event_name.text())
    }

    pub(super) fn view(&self) -> ExceptionView<'_> {
        ExceptionView {
            kind: self.kind.text(),
            stack: self.stack.text(),
            message: self.message.text(),
            values: &self.values,
        }
    }
}

fn meaning(name: &[u8], settings: &WalkSettings) -> Option<Meaning> {
    match name {
        b"exception.type" => Some(Meaning::Kind),
        b"exception.message" => Some(Meaning::Message),
        b"exception.stacktrace" => Some(Meaning::Stack),
        b"event.name" => Some(Meaning::EventName),
        _ => {
            let is_listed = settings.evidence_attributes.iter().any(|a| a.as_bytes() == name);
            is_listed.then_some(Meaning::Listed)
        }
    }
}

/// `exception` of the semantic conventions, alone or at the end of a longer event name.
pub(super) fn is_exception_name(event_name: &[u8]) -> bool {
    event_name == b"exception" || event_name.ends_with(b".exception")
}

/// Whether an attribute may say that something was thrown, by the name it begins with. Nearly every sender
/// writes the name, then the value and nothing more; one that is written otherwise is looked at closely.
#[inline]
pub(super) fn may_tell(attribute: &[u8]) -> bool {
    match attribute {
        [0x0a, length, rest @ ..] if *length < 0x80 => {
            let (name, value) = rest.split_at_checked(usize::from(*length)).unwrap_or_default();
            // The commonest names differ in their first letter already.
            !is_value_alone(value)
                || name.first() == Some(&b'e') && (name.starts_with(b"exception.") || name == b"event.name")
        }
        _ => true,
    }
}

/// Whether these bytes are the value of an attribute to their end: a second name would replace the first.
#[inline]
fn is_value_alone(bytes: &[u8]) -> bool {
    match bytes {
        [0x12, length, rest @ ..] if *length < 0x80 => rest.len() == usize::from(*length),
        [0x12, low, high, rest @ ..] if *high < 0x80 => {
            rest.len() == usize::from(*low & 0x7f) | usize::from(*high) << 7
        }
        _ => false,
    }
}
