//! Cutting export requests into pieces, and what a piece holds. A request is a list of Resource envelopes with,
//! on the wire, whatever else a newer sender writes beside them. It may be cut between any two fields without a
//! change to what it says, and pieces put behind one another say the same again: repeated fields of protobuf
//! are joined by concatenation. Nothing is decoded and no byte is changed.
//!
//! Profiles are the exception. Their envelopes index into a table that stands beside them, so that neither cut
//! nor join keeps their meaning: they stay as they came.

use bytes::Bytes;

use super::route::Route;
use crate::pipeline::DataType;
use crate::wire::{BYTES, Fields, WalkError, key};

/// Field 1: the Resource envelopes of a request, the resource in an envelope, the attributes of a resource.
const FIRST: u32 = key(1, BYTES);
/// Field 2: scopes in an envelope, records in a scope, the value of an attribute.
const SECOND: u32 = key(2, BYTES);
/// The kinds of data of a metric: gauge, sum, histogram, exponential histogram, summary.
const POINTS: [u32; 5] = [key(5, BYTES), key(7, BYTES), key(9, BYTES), key(10, BYTES), key(11, BYTES)];

/// Whether requests of this kind may be cut and joined.
pub(super) const fn divisible(data: DataType) -> bool {
    !matches!(data, DataType::Profiles)
}

/// Cuts a message between its fields, so that no piece is larger than `limit` unless it is a single field. What
/// cannot be read stays whole.
pub(super) fn split(data: DataType, message: &Bytes, limit: usize) -> Vec<Bytes> {
    if message.len() <= limit || !divisible(data) {
        return vec![message.clone()];
    }
    let mut pieces = Vec::new();
    let mut fields = Fields::new(message);
    let (mut begin, mut end) = (0, 0);
    loop {
        match pass(&mut fields) {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) => return vec![message.clone()],
        }
        let next = message.len() - fields.rest().len();
        if next - begin > limit && end > begin {
            pieces.push(message.slice(begin..end));
            begin = end;
        }
        end = next;
    }
    pieces.push(message.slice(begin..end));
    pieces
}

/// Shares a message out between addresses by the services of its envelopes: the number of each address, and what
/// goes there, in the order of the message. What stands beside the envelopes goes where the one before it goes.
/// What cannot be read stays whole.
pub(super) fn share_out(data: DataType, message: &Bytes, route: &Route) -> Vec<(usize, Bytes)> {
    let whole = |to| vec![(to, message.clone())];
    let mut fields = Fields::new(message);
    // Runs of fields for one address: its number, and where the run ends.
    let mut runs: Vec<(usize, usize)> = Vec::new();
    while divisible(data) && !fields.is_empty() {
        let before = fields;
        if pass(&mut fields).is_err() {
            return whole(route.of(b"", b""));
        }
        let envelope = field(before, FIRST);
        let to = match (envelope, runs.last()) {
            (Some(envelope), _) => address(envelope, route),
            (None, Some((to, _))) => *to,
            (None, None) => first_address(message, route),
        };
        let end = message.len() - fields.rest().len();
        match runs.last_mut() {
            Some((last, last_end)) if *last == to => *last_end = end,
            _ => runs.push((to, end)),
        }
    }
    match runs.as_slice() {
        [] => return whole(route.of(b"", b"")),
        [(to, _)] => return whole(*to),
        _ => {}
    }
    let mut shares: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut begin = 0;
    for (to, end) in runs {
        let run = &message[begin..end];
        match shares.iter_mut().find(|(address, _)| *address == to) {
            Some((_, share)) => share.extend_from_slice(run),
            None => shares.push((to, run.to_vec())),
        }
        begin = end;
    }
    shares.into_iter().map(|(to, share)| (to, share.into())).collect()
}

/// The content of the next field if it has this key.
fn field(mut fields: Fields<'_>, wanted: u32) -> Option<&[u8]> {
    match fields.next_key() {
        Ok(Some(key)) if key == wanted => fields.bytes().ok(),
        _ => None,
    }
}

fn address(envelope: &[u8], route: &Route) -> usize {
    let text = |name| attribute(envelope, name).unwrap_or_default();
    route.of(text(b"service.namespace"), text(b"service.name"))
}

/// Where the first envelope goes.
fn first_address(message: &[u8], route: &Route) -> usize {
    let mut first = None;
    each(message, &[FIRST], &mut |envelope| {
        first.get_or_insert_with(|| address(envelope, route));
    });
    first.unwrap_or_else(|| route.of(b"", b""))
}

/// Passes over a field; `false` at the end.
fn pass(fields: &mut Fields<'_>) -> Result<bool, WalkError> {
    match fields.next_key()? {
        Some(key) => fields.skip(key).map(|()| true),
        None => Ok(false),
    }
}

/// How many spans, data points or log records a message holds; 1 for what is not read.
pub(super) fn records(data: DataType, message: &[u8]) -> u64 {
    let mut found = 0;
    let mut count = |record: &[u8]| match data {
        DataType::Metrics => each(record, &POINTS, &mut |points| {
            each(points, &[FIRST], &mut |_| found += 1);
        }),
        _ => found += 1,
    };
    if !divisible(data) {
        return 1;
    }
    each(message, &[FIRST], &mut |envelope| {
        each(envelope, &[SECOND], &mut |scope| each(scope, &[SECOND], &mut count));
    });
    found
}

/// The `service.name` values of a message, each once, at most `most` of them.
pub(super) fn services(data: DataType, message: &[u8], most: usize) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    if !divisible(data) {
        return found;
    }
    each(message, &[FIRST], &mut |envelope| {
        if found.len() < most
            && let Some(name) = attribute(envelope, b"service.name")
        {
            let name = String::from_utf8_lossy(&name[..name.len().min(256)]).into_owned();
            if !found.contains(&name) {
                found.push(name);
            }
        }
    });
    found
}

/// A text attribute of the resource of an envelope; of several the last one counts.
fn attribute<'a>(envelope: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut found = None;
    each(envelope, &[FIRST], &mut |resource| {
        each(resource, &[FIRST], &mut |attribute| {
            if last(attribute, FIRST) == Some(wanted) {
                found = last(attribute, SECOND).and_then(|value| last(value, FIRST));
            }
        });
    });
    found
}

/// The last field with this key.
fn last(message: &[u8], wanted: u32) -> Option<&[u8]> {
    let mut found = None;
    each(message, &[wanted], &mut |content| found = Some(content));
    found
}

/// Calls `what` with each field that has one of these keys, up to where the message cannot be read.
fn each<'a>(message: &'a [u8], keys: &[u32], what: &mut dyn FnMut(&'a [u8])) {
    let mut fields = Fields::new(message);
    while let Ok(Some(key)) = fields.next_key() {
        let read = if keys.contains(&key) { fields.bytes().map(&mut *what) } else { fields.skip(key) };
        if read.is_err() {
            return;
        }
    }
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;
