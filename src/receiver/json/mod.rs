//! OTLP/JSON to protobuf, once, so that everything after it sees one format. One pass over the text writes the
//! bytes of the message: a table per message ([`schema`]) says what each key becomes, and nothing is built in
//! between.
//!
//! Senders differ a lot in what they write, so reading is tolerant: 64-bit numbers as strings or numbers, ids
//! in hex of either case, enums by number or name, keys in lowerCamelCase or snake_case, `null` for anything,
//! unknown keys passed over. All fields are kept, for the result is also what is forwarded.

mod reader;
mod scalar;
mod schema;
mod transcode;

use crate::pipeline::Signal;

/// Deepest nesting of brackets; attributes may nest, and reading recurses.
const DEPTH_MAX: usize = 64;

/// Why JSON cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON.
    #[error("cannot decode the JSON: {what} at byte {at}")]
    Syntax {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// JSON, but a value that its field cannot have.
    #[error("cannot decode the JSON: `{field}` before byte {at} is {what}")]
    Value {
        /// The field, in lowerCamelCase.
        field: &'static str,
        /// What is wrong.
        what: &'static str,
        /// Where the value ends.
        at: usize,
    },
    /// Brackets nested too deeply.
    #[error("JSON nested deeper than {DEPTH_MAX} levels")]
    Depth,
    /// More bytes in protobuf than allowed: short numbers of JSON take 8 bytes there.
    #[error("the message is larger than {0} bytes")]
    TooLarge(usize),
}

/// An `ExportTraceServiceRequest` in protobuf from one in JSON, for example a line of the Collector's file
/// exporter.
///
/// # Errors
/// When the text is not JSON, is nested too deeply, or a field has a value it cannot have.
pub fn traces_from_json(json: &[u8]) -> Result<Vec<u8>, JsonError> {
    request_from_json(Signal::Traces, json, usize::MAX)
}

/// A request of any signal in protobuf from one in JSON, of at most `limit` bytes.
///
/// # Errors
/// As [`traces_from_json`], and when the message would be larger than `limit`.
pub fn request_from_json(signal: Signal, json: &[u8], limit: usize) -> Result<Vec<u8>, JsonError> {
    let schema = schema::of(signal);
    match std::str::from_utf8(json) {
        Ok(text) => transcode::transcode(schema, text, limit).map_err(|error| *error),
        // Senders do write invalid UTF-8; it costs the characters, not the batch.
        Err(_) => transcode::transcode(schema, &String::from_utf8_lossy(json), limit).map_err(|error| *error),
    }
}

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tests;
