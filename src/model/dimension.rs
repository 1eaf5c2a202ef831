//! Dimensions: attributes by which the requests of a service are told apart beside their operation, such as the region
//! that served them or the kind of client that asked. Here are the texts of one request, as they stand in the message;
//! what they are counted under is decided where they are interned.

use super::selection::AttributeValue;

/// Dimensions of one service.
pub const DIMENSIONS_MAX: usize = 3;
/// Values of one dimension that may be told apart.
pub const DIMENSION_VALUES_MAX: usize = 16;
/// Bytes of a value that are told apart.
pub const DIMENSION_BYTES: usize = 64;

/// The values of a request's dimensions as text, by number of the dimension; empty where absent. One is filled anew
/// for each request, so that texts take no new memory once the first few have been read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DimensionTexts([Vec<u8>; DIMENSIONS_MAX]);

impl DimensionTexts {
    /// The texts, one for each dimension there may be.
    pub const fn all(&self) -> &[Vec<u8>; DIMENSIONS_MAX] {
        &self.0
    }

    /// Makes all of them as in `other`.
    pub fn copy_from(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(text, other)| text.clone_from(other));
    }

    /// Sets a value; what is no text, number or truth value is absent.
    pub fn set(&mut self, dimension: usize, value: AttributeValue<'_>) {
        let Some(text) = self.0.get_mut(dimension) else { return };
        text.clear();
        match value {
            AttributeValue::Text(bytes) => text.extend_from_slice(&bytes[..bytes.len().min(DIMENSION_BYTES)]),
            AttributeValue::Whole(number) => text.extend_from_slice(number.to_string().as_bytes()),
            AttributeValue::Double(number) => text.extend_from_slice(number.to_string().as_bytes()),
            AttributeValue::Bool(yes) => text.extend_from_slice(if yes { b"true" } else { b"false" }),
            AttributeValue::Absent | AttributeValue::Other => {}
        }
        text.truncate(DIMENSION_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_text() {
        use AttributeValue::{Absent, Bool, Double, Other, Text, Whole};
        let long = [b'x'; 80];
        let rows: [(AttributeValue<'_>, &[u8]); 7] = [
            (Text(b"eu-1"), b"eu-1"),
            (Whole(-3), b"-3"),
            (Double(1.5), b"1.5"),
            (Bool(true), b"true"),
            (Absent, b""),
            (Other, b""),
            (Text(&long), &long[..DIMENSION_BYTES]),
        ];
        let mut texts = DimensionTexts::default();
        for (value, expected) in rows {
            texts.set(1, value);
            assert_eq!(texts.all()[1], expected, "{value:?}");
        }
        texts.set(DIMENSIONS_MAX, Whole(1));
        let mut other = DimensionTexts::default();
        other.set(0, Whole(1));
        texts.copy_from(&other);
        assert_eq!(texts, other);
    }
}
