//! Cutting and joining as properties: over messages of any shape, pieces behind one another are the message.

use proptest::prelude::*;
use prost::encoding::encode_varint;

use super::*;

fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_varint(u64::from(key(number, BYTES)), &mut out);
    encode_varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

/// An envelope of a service with so many spans or log records.
fn envelope(service: &str, records: usize, size: usize) -> Vec<u8> {
    let value = field(2, &field(1, service.as_bytes()));
    let attribute = [field(1, b"service.name"), value].concat();
    let scope = field(2, &vec![0xff; size]).repeat(records);
    let resource = field(1, &field(1, &attribute));
    field(1, &[resource, field(2, &scope)].concat())
}

/// Fields of any kind, in any order: envelopes, unknown fields of every wire type, groups.
fn any_field() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    let varint = |number: u32, value: u64| {
        let mut out = Vec::new();
        encode_varint(u64::from(key(number, 0)), &mut out);
        encode_varint(value, &mut out);
        out
    };
    prop_oneof![
        4 => ("[a-z]{0,9}", 0..5_usize, 0..60_usize).prop_map(|(service, n, size)| envelope(&service, n, size)),
        2 => (1..5_000_u32, bytes.clone()).prop_map(|(number, content)| field(number, &content)),
        1 => (1..5_000_u32, any::<u64>()).prop_map(move |(number, value)| varint(number, value)),
        1 => any::<[u8; 8]>().prop_map(|value| [&[0x11_u8][..], &value].concat()),
        1 => any::<[u8; 4]>().prop_map(|value| [&[0x15_u8][..], &value].concat()),
        1 => bytes.prop_map(|content| [vec![0x23], field(7, &content), vec![0x24]].concat()),
    ]
}

proptest! {
    /// Guarantees: not a byte is lost, added or moved; no piece is cut inside a field; a piece is larger than
    /// the limit only if it is one field; pieces are as few as taking fields in order allows.
    #[test]
    fn pieces_behind_one_another_are_the_message(
        fields in prop::collection::vec(any_field(), 0..40),
        limit in 1..2_000_usize,
    ) {
        let message: Bytes = fields.concat().into();
        let pieces = split(DataType::Traces, &message, limit);
        prop_assert_eq!(pieces.concat(), &message[..]);
        let ends: Vec<usize> = fields.iter().scan(0, |at, field| { *at += field.len(); Some(*at) }).collect();
        let mut at = 0;
        for (n, piece) in pieces.iter().enumerate() {
            at += piece.len();
            prop_assert!(message.is_empty() || ends.contains(&at));
            let whole_fields = ends.iter().filter(|end| **end > at - piece.len() && **end <= at).count();
            prop_assert!(piece.len() <= limit || whole_fields == 1);
            if let Some(next) = pieces.get(n + 1) {
                let first_of_next = ends.iter().find(|end| **end > at).unwrap() - at;
                prop_assert!(piece.len() + first_of_next > limit, "the next field had room: {}", next.len());
            }
        }
    }

    /// Guarantees: what pieces hold adds up to what the message holds, and joining them changes nothing.
    #[test]
    fn records_add_up(fields in prop::collection::vec(any_field(), 0..30), limit in 1..2_000_usize) {
        let message: Bytes = fields.concat().into();
        for data in [DataType::Traces, DataType::Logs] {
            let pieces = split(data, &message, limit);
            let sum: u64 = pieces.iter().map(|piece| records(data, piece)).sum();
            prop_assert_eq!(sum, records(data, &message));
        }
    }

    /// Guarantees: every field goes to one address, an envelope to that of its service, in the order of the
    /// message; one service is never copied.
    #[test]
    fn shares_are_by_service(fields in prop::collection::vec(any_field(), 0..40)) {
        let message: Bytes = fields.concat().into();
        let route = Route::new(["http://a:1", "http://b:1", "http://c:1"]);
        let shares = share_out(DataType::Logs, &message, &route);
        let mut rest: Vec<(usize, &[u8])> = shares.iter().map(|(to, share)| (*to, &share[..])).collect();
        let mut last = None;
        for field in &fields {
            let wanted = super::field(Fields::new(field), FIRST).map(|envelope| address(envelope, &route)).or(last);
            let share = rest.iter_mut().find(|(to, _)| wanted.is_none_or(|wanted| *to == wanted)).unwrap();
            prop_assert!(share.1.starts_with(field));
            share.1 = &share.1[field.len()..];
            last = last.or(Some(share.0)).and(Some(share.0));
        }
        prop_assert!(rest.iter().all(|(_, left)| left.is_empty()));
        if let [(_, one)] = &shares[..] {
            prop_assert_eq!(one.as_ptr(), message.as_ptr());
        }
        let records_of = |m: &[u8]| records(DataType::Logs, m);
        prop_assert_eq!(shares.iter().map(|(_, share)| records_of(share)).sum::<u64>(), records_of(&message));
    }

    /// Guarantees: bytes that are no message stay whole, and nothing falls over.
    #[test]
    fn junk_stays_whole(junk in prop::collection::vec(any::<u8>(), 0..400), limit in 1..100_usize) {
        let message: Bytes = junk.into();
        for data in DataType::ALL {
            prop_assert_eq!(split(data, &message, limit).concat(), &message[..]);
            records(data, &message);
            services(data, &message, 3);
            let shares = share_out(data, &message, &Route::new(["http://a:1", "http://b:1"]));
            prop_assert_eq!(shares.iter().map(|(_, share)| share.len()).sum::<usize>(), message.len());
        }
    }
}

#[test]
fn what_is_in_a_message_is_counted_and_named() {
    let message = [envelope("shop", 3, 4), envelope("cart", 2, 4), envelope("shop", 1, 4)].concat();
    assert_eq!(records(DataType::Traces, &message), 6);
    assert_eq!(services(DataType::Logs, &message, 8), ["shop", "cart"]);
    assert_eq!(services(DataType::Logs, &message, 1), ["shop"]);
    // A metric with a sum of two points and one with a summary of one.
    let point = field(1, b"x");
    let metrics = [field(2, &field(7, &point.repeat(2))), field(2, &field(11, &point))].concat();
    let message = field(1, &field(2, &metrics));
    assert_eq!(records(DataType::Metrics, &message), 3);
}

#[test]
fn profiles_are_neither_cut_nor_read() {
    let message: Bytes = [envelope("shop", 9, 90), envelope("cart", 9, 90)].concat().into();
    assert_eq!(split(DataType::Profiles, &message, 10), std::slice::from_ref(&message));
    assert_eq!(split(DataType::Traces, &message, 10).len(), 2);
    assert_eq!(records(DataType::Profiles, &message), 1);
    assert!(services(DataType::Profiles, &message, 8).is_empty());
}
