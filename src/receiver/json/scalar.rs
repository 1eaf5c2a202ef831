//! From a scalar of JSON to a value of protobuf, in every spelling that some sender uses.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::reader::Scalar;

/// Both alphabets, with padding or without.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// What an id becomes that is no hex: one byte, so of the wrong length. Its record is rejected then, and not
/// the whole batch.
const NO_ID: u8 = 0;

impl Scalar<'_> {
    /// A whole number, also in quotes or written like a double; empty text is 0.
    pub(super) fn whole(self) -> Option<i128> {
        match self {
            Self::Number(digits) => whole(digits),
            Self::Text(text) => match text.trim_ascii() {
                "" => Some(0),
                digits => whole(digits),
            },
            Self::Null => Some(0),
            Self::Bool(_) => None,
        }
    }

    /// A double, also in quotes; `NaN` and the infinities always are.
    pub(super) fn double(self) -> Option<f64> {
        match self {
            Self::Number(digits) => digits.parse().ok(),
            Self::Text(text) => text.trim_ascii().parse().ok(),
            Self::Null => Some(0.0),
            Self::Bool(_) => None,
        }
    }

    pub(super) fn bool(self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(value),
            Self::Text("true") => Some(true),
            Self::Text("false") | Self::Null => Some(false),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null => Some(""),
            _ => None,
        }
    }

    /// A number, a number in quotes, or a name.
    pub(super) fn number_of(self, names: &[(&str, i32)]) -> Option<i32> {
        if let Self::Text(name) = self
            && let Some((_, number)) = names.iter().find(|(known, _)| *known == name)
        {
            return Some(*number);
        }
        match self {
            Self::Text("") => None,
            scalar => scalar.whole()?.try_into().ok(),
        }
    }
}

/// Digits, as nearly always, or anything else that is a whole number.
#[inline]
fn whole(digits: &str) -> Option<i128> {
    let mut sum = 0_u64;
    if digits.len() > 19 {
        return unusual_whole(digits);
    }
    for byte in digits.bytes() {
        if !byte.is_ascii_digit() {
            return unusual_whole(digits);
        }
        sum = sum * 10 + u64::from(byte - b'0');
    }
    Some(sum.into())
}

#[cold]
fn unusual_whole(digits: &str) -> Option<i128> {
    if let Ok(number) = digits.parse() {
        return Some(number);
    }
    let number: f64 = digits.parse().ok()?;
    (number.fract() == 0.0).then_some(number as i128)
}

/// Appends an id in hex of any case.
pub(super) fn put_id(text: &str, out: &mut Vec<u8>) {
    let from = out.len();
    for pair in text.as_bytes().chunks(2) {
        let id = match pair {
            [high, low] => nibble(*high).zip(nibble(*low)),
            _ => None,
        };
        let Some((high, low)) = id else {
            out.truncate(from);
            return out.push(NO_ID);
        };
        out.push(high << 4 | low);
    }
}

#[inline]
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Appends bytes in base64, `None` when they are not.
pub(super) fn put_base64(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let engine = if text.bytes().any(|b| matches!(b, b'-' | b'_')) { BASE64_URL } else { BASE64 };
    engine.decode_vec(text, out).ok()
}
