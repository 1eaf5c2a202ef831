//! Reads `ExportLogsServiceRequest` bytes in place and hands on errors and exceptions. It reads as
//! [`super::walk_traces`] does and accepts the same: whatever prost accepts, with the same meaning.
//!
//! Most records are below ERROR and carry no exception: of these nothing but severity, ids and attribute
//! names is looked at (and feature flags, where the configuration names one). The body is never read: what is thrown stands in `exception.*` attributes, and what
//! stands in bodies is written by and for people.

use super::exception::{Exception, is_exception_name, may_tell};
use super::flags::FlagTally;
use crate::model::{Discard, LogSink, LogView, UnixNanos};
use crate::receiver::identity::Identity;
use crate::receiver::settings::WalkSettings;
use crate::wire::{BYTES, FIXED32, FIXED64, Fields, VARINT, WalkError, key, numbers};

/// `ExportLogsServiceRequest.resource_logs`.
const RESOURCE_LOGS: u32 = key(1, BYTES);

/// Fields of `ResourceLogs`.
const RESOURCE: u32 = key(1, BYTES);
const SCOPE_LOGS: u32 = key(2, BYTES);

/// Fields of `ScopeLogs`.
const LOG_RECORD: u32 = key(2, BYTES);

/// Fields of `LogRecord`.
const TIME: u32 = key(1, FIXED64);
const SEVERITY_NUMBER: u32 = key(2, VARINT);
const SEVERITY_TEXT: u32 = key(3, BYTES);
const BODY: u32 = key(5, BYTES);
const ATTRIBUTE: u32 = key(6, BYTES);
const DROPPED_ATTRIBUTES: u32 = key(7, VARINT);
const FLAGS: u32 = key(8, FIXED32);
const TRACE_ID: u32 = key(9, BYTES);
const SPAN_ID: u32 = key(10, BYTES);
const OBSERVED_TIME: u32 = key(11, FIXED64);
const EVENT_NAME: u32 = key(12, BYTES);
const OF_RECORD: u32 = numbers([1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12]);

/// The lowest severity number of ERROR.
const ERROR: i32 = 17;
/// The highest severity number there is: FATAL4.
const HIGHEST: i32 = 24;

/// What a logs message held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogCounts {
    /// All records.
    pub records: u64,
    /// Records handed on to [`LogSink::log`].
    pub taken: u64,
    /// Records with a trace or span id of the wrong length: rejected, the sender is told.
    pub bad_ids: u64,
}

/// Reads `message` and hands what it holds to `sink`, in the order of the message. On an error the sink has
/// seen the part before it; the caller forgets that part.
pub fn walk_logs<S: LogSink>(
    message: &[u8],
    settings: &WalkSettings,
    sink: &mut S,
) -> Result<LogCounts, WalkError> {
    let flags = FlagTally::new(settings);
    let mut walk = Walk { settings, flags, sink, counts: LogCounts::default() };
    let mut fields = Fields::new(message);
    while let Some(key) = fields.next_key()? {
        match key {
            RESOURCE_LOGS => walk.resource_logs(fields.bytes()?)?,
            _ => fields.skip_unknown(key, numbers([1]))?,
        }
    }
    Ok(walk.counts)
}

struct Walk<'s, S> {
    settings: &'s WalkSettings,
    /// Feature flags by which requests are told apart; what log records say of them is counted and tells none.
    flags: FlagTally<'s>,
    sink: &'s mut S,
    counts: LogCounts,
}

impl<S: LogSink> Walk<'_, S> {
    /// The Resource may come after the records, and in pieces: it is looked for first. It is announced at
    /// the first record that counts, so that a message full of INFO resolves no names.
    fn resource_logs(&mut self, message: &[u8]) -> Result<(), WalkError> {
        let mut identity = Identity::new(self.settings);
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                RESOURCE => identity.merge(fields.bytes()?)?,
                SCOPE_LOGS => fields.skip(key)?,
                _ => fields.skip_unknown(key, numbers([1, 2]))?,
            }
        }
        let mut announced = false;
        let before = self.counts.records;
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                SCOPE_LOGS => self.scope_logs(&mut identity, &mut announced, fields.bytes()?)?,
                _ => fields.skip(key)?,
            }
        }
        let records = self.counts.records - before;
        if records > 0 {
            self.sink.sender_of_logs(&identity.view(), records);
            self.flags.drain(|flag, _, records| self.sink.flag_logged(flag, records));
        }
        Ok(())
    }

    fn scope_logs(
        &mut self,
        identity: &mut Identity<'_, '_>,
        announced: &mut bool,
        message: &[u8],
    ) -> Result<(), WalkError> {
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                LOG_RECORD => self.record(identity, announced, fields.bytes()?)?,
                _ => fields.skip_unknown(key, numbers([2]))?,
            }
        }
        Ok(())
    }

    fn record(
        &mut self,
        identity: &mut Identity<'_, '_>,
        announced: &mut bool,
        message: &[u8],
    ) -> Result<(), WalkError> {
        self.counts.records += 1;
        let record = RawRecord::read(message)?;
        let mut exception = Exception::new(self.settings);
        let is_named = is_exception_name(record.event_name);
        if record.may_tell || is_named {
            read_exception(message, &mut exception)?;
        }
        let was_thrown = is_named || exception.is_present();
        let discard = record.discard(was_thrown);
        if !self.flags.is_empty() && discard != Some(Discard::BadId) {
            self.flags.of_record(message, (EVENT_NAME, ATTRIBUTE), self.counts.records)?;
        }
        if let Some(reason) = discard {
            self.counts.bad_ids += u64::from(reason == Discard::BadId);
            self.sink.discard_log(reason);
            return Ok(());
        }
        if !*announced {
            *announced = true;
            self.sink.log_resource(&identity.view());
        }
        self.counts.taken += 1;
        self.sink.log(&LogView {
            time: UnixNanos(record.time()),
            is_error: record.severity() == Some(true),
            trace_id: record.trace_id,
            span_id: record.span_id,
            exception: was_thrown.then(|| exception.view()),
        });
        Ok(())
    }
}

/// The fields of a record as they stand, the last of each.
#[derive(Debug, Default)]
struct RawRecord<'a> {
    time: u64,
    observed_time: u64,
    severity_number: i32,
    severity_text: &'a [u8],
    trace_id: &'a [u8],
    span_id: &'a [u8],
    event_name: &'a [u8],
    /// An attribute may say that something was thrown.
    may_tell: bool,
}

impl<'a> RawRecord<'a> {
    #[inline]
    fn read(message: &'a [u8]) -> Result<Self, WalkError> {
        let mut record = Self::default();
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                TIME => record.time = fields.fixed64()?,
                OBSERVED_TIME => record.observed_time = fields.fixed64()?,
                SEVERITY_NUMBER => record.severity_number = fields.varint()? as i32,
                SEVERITY_TEXT => record.severity_text = fields.bytes()?,
                ATTRIBUTE => record.may_tell |= may_tell(fields.bytes()?),
                TRACE_ID => record.trace_id = fields.bytes()?,
                SPAN_ID => record.span_id = fields.bytes()?,
                EVENT_NAME => record.event_name = fields.bytes()?,
                BODY | DROPPED_ATTRIBUTES | FLAGS => fields.skip(key)?,
                _ => fields.skip_unknown(key, OF_RECORD)?,
            }
        }
        Ok(record)
    }

    /// Why the record is not counted, as far as its fields tell.
    fn discard(&self, was_thrown: bool) -> Option<Discard> {
        let id_fits = |id: &[u8], length| id.is_empty() || id.len() == length;
        if !(id_fits(self.trace_id, 16) && id_fits(self.span_id, 8)) {
            return Some(Discard::BadId);
        }
        if !was_thrown {
            match self.severity() {
                Some(true) => {}
                Some(false) => return Some(Discard::Severity),
                None => return Some(Discard::NoSeverity),
            }
        }
        (self.time() == 0).then_some(Discard::NoTime)
    }

    fn time(&self) -> u64 {
        if self.time == 0 { self.observed_time } else { self.time }
    }

    /// Whether it is an error; `None` where nobody says.
    fn severity(&self) -> Option<bool> {
        match self.severity_number {
            1..=HIGHEST => Some(self.severity_number >= ERROR),
            _ => error_by_text(self.severity_text),
        }
    }
}

#[cold]
fn read_exception<'a>(message: &'a [u8], exception: &mut Exception<'a, '_>) -> Result<(), WalkError> {
    let mut fields = Fields::new(message);
    while let Some(key) = fields.next_key()? {
        match key {
            ATTRIBUTE => exception.attribute(fields.bytes()?)?,
            _ => fields.skip(key)?,
        }
    }
    Ok(())
}

/// Whether a severity text means ERROR or above. Texts may end in a number (`ERROR3`), as the names of
/// OpenTelemetry's own levels do.
fn error_by_text(text: &[u8]) -> Option<bool> {
    const ERRORS: [&[u8]; 11] = [
        b"error",
        b"err",
        b"severe",
        b"fatal",
        b"crit",
        b"critical",
        b"alert",
        b"emerg",
        b"emergency",
        b"panic",
        b"dpanic",
    ];
    const OTHERS: [&[u8]; 14] = [
        b"trace",
        b"debug",
        b"info",
        b"information",
        b"informational",
        b"notice",
        b"warn",
        b"warning",
        b"verbose",
        b"fine",
        b"finer",
        b"finest",
        b"config",
        b"log",
    ];
    let text = text.trim_ascii();
    let word = &text[..text.iter().rposition(|b| !b.is_ascii_digit()).map_or(0, |at| at + 1)];
    let is = |level: &&[u8]| level.eq_ignore_ascii_case(word);
    if ERRORS.iter().any(is) {
        Some(true)
    } else if OTHERS.iter().any(is) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
