//! The protobuf wire format, as little of it as reading OTLP needs: keys, varints, fixed-width numbers, byte
//! slices, and skipping what is not known. Nothing is copied, every read is checked against the end of the
//! message, and the rules for what is malformed are those of prost, so that a message which an ordinary
//! decoder accepts is accepted here too.

/// Why a message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// A length or a fixed-width number reaches beyond the end of the message.
    #[error("the message ends inside a field")]
    Truncated,
    /// A varint of more than 64 bits, or one that does not end.
    #[error("invalid varint")]
    Varint,
    /// Field number 0, a key beyond 32 bits, or a wire type that does not exist.
    #[error("invalid field key")]
    Key,
    /// A known field with a wire type it cannot have.
    #[error("field {0} has the wrong wire type")]
    WireType(u32),
    /// A group that ends without having begun, or never ends.
    #[error("unbalanced group")]
    Group,
    /// Groups nested deeper than any decoder follows.
    #[error("nested too deeply")]
    Depth,
}

/// Nesting at which groups are refused: prost's limit.
const GROUP_DEPTH: u32 = 100;

/// Wire type of varints.
pub(super) const VARINT: u32 = 0;
/// Wire type of 8-byte numbers.
pub(super) const FIXED64: u32 = 1;
/// Wire type of strings, bytes and messages.
pub(super) const BYTES: u32 = 2;
const GROUP_START: u32 = 3;
const GROUP_END: u32 = 4;
/// Wire type of 4-byte numbers.
pub(super) const FIXED32: u32 = 5;

/// The key of a field: its number and wire type as they stand on the wire.
pub(super) const fn key(number: u32, wire_type: u32) -> u32 {
    number << 3 | wire_type
}

/// A set of field numbers below 32.
pub(super) const fn numbers<const N: usize>(list: [u32; N]) -> u32 {
    let mut mask = 0;
    let mut i = 0;
    while i < N {
        mask |= 1 << list[i];
        i += 1;
    }
    mask
}

/// The fields of one message, read from front to back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not read yet.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The key of the next field, or `None` at the end. Never 0.
    #[inline]
    pub(super) fn next_key(&mut self) -> Result<Option<u32>, WalkError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| WalkError::Key)?;
        if key >> 3 == 0 || key & 7 > FIXED32 {
            return Err(WalkError::Key);
        }
        Ok(Some(key))
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, WalkError> {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, WalkError> {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                // The tenth byte holds the 64th bit and nothing else.
                if i == 9 && byte > 1 {
                    break;
                }
                self.rest = self.rest.get(i + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(WalkError::Varint)
    }

    #[inline]
    pub(super) fn fixed64(&mut self) -> Result<u64, WalkError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(WalkError::Truncated)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*head))
    }

    /// The content of a length-delimited field.
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], WalkError> {
        let length = usize::try_from(self.varint()?).map_err(|_| WalkError::Truncated)?;
        self.take(length)
    }

    /// The content of a length-delimited field of less than 128 bytes, and what follows it.
    #[inline(always)]
    pub(super) fn peek_short(&self) -> Option<(&'a [u8], Self)> {
        let [length @ ..0x80, rest @ ..] = self.rest else { return None };
        let (content, rest) = rest.split_at_checked(usize::from(*length))?;
        Some((content, Self { rest }))
    }

    /// Takes the next key if it is this one, which must be below 128.
    #[inline(always)]
    pub(super) fn take_key(&mut self, key: u32) -> bool {
        match self.rest {
            [next, rest @ ..] if u32::from(*next) == key => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], WalkError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(WalkError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// Passes over the field whose key was just read.
    #[inline]
    pub(super) fn skip(&mut self, key: u32) -> Result<(), WalkError> {
        match key & 7 {
            BYTES => self.bytes().map(drop),
            VARINT => self.varint().map(drop),
            FIXED64 => self.take(8).map(drop),
            FIXED32 => self.take(4).map(drop),
            GROUP_START => self.skip_group(key >> 3, GROUP_DEPTH),
            _ => Err(WalkError::Group),
        }
    }

    /// Passes over a field that has none of the expected keys. One of the `known` numbers can only be here
    /// with a wrong wire type, which no decoder accepts.
    pub(super) fn skip_unknown(&mut self, key: u32, known: u32) -> Result<(), WalkError> {
        let number = key >> 3;
        if number < 32 && known & (1 << number) != 0 {
            return Err(WalkError::WireType(number));
        }
        self.skip(key)
    }

    fn skip_group(&mut self, number: u32, depth: u32) -> Result<(), WalkError> {
        if depth == 0 {
            return Err(WalkError::Depth);
        }
        loop {
            let key = self.next_key()?.ok_or(WalkError::Group)?;
            match key & 7 {
                GROUP_END if key >> 3 == number => return Ok(()),
                GROUP_END => return Err(WalkError::Group),
                GROUP_START => self.skip_group(key >> 3, depth - 1)?,
                _ => self.skip(key)?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_hold_64_bits_and_no_more() {
        let max = [255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert_eq!(Fields::new(&max).varint(), Ok(u64::MAX));
        let over = [255, 255, 255, 255, 255, 255, 255, 255, 255, 2];
        assert_eq!(Fields::new(&over).varint(), Err(WalkError::Varint));
        assert_eq!(Fields::new(&[0x80]).varint(), Err(WalkError::Varint));
        assert_eq!(Fields::new(&[0x8a, 0x00]).next_key(), Ok(Some(key(1, BYTES))));
    }

    #[test]
    fn malformed_keys_lengths_and_groups_are_refused() {
        let refused = |bytes: &[u8]| {
            let mut fields = Fields::new(bytes);
            fields.next_key().and_then(|key| fields.skip(key.unwrap())).unwrap_err()
        };
        assert_eq!(refused(&[0x02]), WalkError::Key);
        assert_eq!(refused(&[0x0f]), WalkError::Key);
        assert_eq!(refused(&[0x0a, 5, 1]), WalkError::Truncated);
        assert_eq!(refused(&[0x09, 1, 2, 3]), WalkError::Truncated);
        assert_eq!(refused(&[0x0c]), WalkError::Group);
        assert_eq!(refused(&[0x0b, 0x14]), WalkError::Group);
        assert_eq!(refused(&[0x0b, 0x08, 1]), WalkError::Group);
        assert_eq!(refused(&[0x0b; 300]), WalkError::Depth);
        let mut fields = Fields::new(&[0x0b, 0x10, 7, 0x13, 0x14, 0x0c, 0x08]);
        let key = fields.next_key().unwrap().unwrap();
        fields.skip(key).unwrap();
        assert_eq!(fields.next_key(), Ok(Some(0x08)));
    }
}
