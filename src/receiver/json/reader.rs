//! The tokens of JSON (RFC 8259) in valid UTF-8, read from front to back. Strings without escapes are slices of
//! the text; depth is limited here, for values that are read and for those that are passed over alike.

use super::{DEPTH_MAX, JsonError};

/// Errors are boxed here: results stay in registers then.
pub(super) type Read<T> = Result<T, Box<JsonError>>;

/// A value that is neither a list nor an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    /// As it stands, and well-formed.
    Number(&'a str),
    Text(&'a str),
}

/// A place in the text.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// The last string that had escapes.
    unescaped: String,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, unescaped: String::new() }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    #[cold]
    fn wrong<T>(&self, what: &'static str) -> Read<T> {
        Err(Box::new(JsonError::Syntax { what, at: self.at }))
    }

    /// The next byte that is not white space, 0 at the end.
    #[inline]
    pub(super) fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return byte;
            }
            self.at += 1;
        }
        0
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Read<()> {
        self.peek();
        if self.at < self.text.len() { self.wrong("more than one value") } else { Ok(()) }
    }

    /// Enters a list or an object.
    #[inline]
    pub(super) fn open(&mut self, bracket: u8, what: &'static str) -> Read<()> {
        if self.peek() != bracket {
            return self.wrong(what);
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Box::new(JsonError::Depth));
        }
        self.at += 1;
        Ok(())
    }

    /// Whether there is one more element before the bracket that closes; leaves the list or object if not.
    #[inline]
    pub(super) fn more(&mut self, close: u8, is_first: bool) -> Read<bool> {
        let mut next = self.peek();
        if next == close {
            self.at += 1;
            self.depth -= 1;
            return Ok(false);
        }
        if !is_first {
            if next != b',' {
                return self.wrong("expected a comma or a closing bracket");
            }
            self.at += 1;
            next = self.peek();
            if next == close {
                return self.wrong("a comma before a closing bracket");
            }
        }
        if next == 0 { self.wrong("the text ends inside a value") } else { Ok(true) }
    }

    /// The key of an entry and the colon after it.
    #[inline]
    pub(super) fn key(&mut self) -> Read<Key> {
        if self.peek() != b'"' {
            return self.wrong("expected a key in quotes");
        }
        let key = self.string()?;
        if self.peek() != b':' {
            return self.wrong("expected a colon");
        }
        self.at += 1;
        Ok(key)
    }

    /// The text of a key.
    pub(super) fn text_of(&self, key: Key) -> &str {
        match key {
            Key::Plain(from, to) => &self.text[from..to],
            Key::Unescaped => &self.unescaped,
        }
    }

    /// A value that is neither a list nor an object.
    #[inline]
    pub(super) fn scalar(&mut self) -> Read<Scalar<'_>> {
        match self.peek() {
            b'"' => {
                let string = self.string()?;
                Ok(Scalar::Text(self.text_of(string)))
            }
            b'-' | b'0'..=b'9' => self.number(),
            b'n' => self.literal("null", Scalar::Null),
            b't' => self.literal("true", Scalar::Bool(true)),
            b'f' => self.literal("false", Scalar::Bool(false)),
            0 => self.wrong("the text ends before a value"),
            _ => self.wrong("expected a string, a number, true, false or null"),
        }
    }

    /// Passes over a value of any kind.
    pub(super) fn skip(&mut self) -> Read<()> {
        match self.peek() {
            b'{' => {
                self.open(b'{', "")?;
                let mut is_first = true;
                while self.more(b'}', is_first)? {
                    is_first = false;
                    self.key()?;
                    self.skip()?;
                }
                Ok(())
            }
            b'[' => {
                self.open(b'[', "")?;
                let mut is_first = true;
                while self.more(b']', is_first)? {
                    is_first = false;
                    self.skip()?;
                }
                Ok(())
            }
            _ => self.scalar().map(drop),
        }
    }

    fn literal(&mut self, word: &str, value: Scalar<'static>) -> Read<Scalar<'static>> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return self.wrong("expected true, false or null");
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Read<Scalar<'a>> {
        let from = self.at;
        self.at += usize::from(self.byte() == b'-');
        match self.byte() {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            _ => return self.wrong("expected a digit"),
        }
        if self.byte() == b'.' {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.byte(), b'e' | b'E') {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), b'+' | b'-'));
            self.some_digits()?;
        }
        Ok(Scalar::Number(&self.text[from..self.at]))
    }

    #[inline]
    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn digits(&mut self) {
        while self.byte().is_ascii_digit() {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Read<()> {
        if !self.byte().is_ascii_digit() {
            return self.wrong("expected a digit");
        }
        self.digits();
        Ok(())
    }

    /// A string; the opening quote is next.
    #[inline]
    fn string(&mut self) -> Read<Key> {
        let from = self.at + 1;
        match self.plain_until(from)? {
            (to, b'"') => {
                self.at = to + 1;
                Ok(Key::Plain(from, to))
            }
            (to, _) => self.string_with_escapes(from, to),
        }
    }

    /// Where plain text ends, and the quote or backslash that ends it.
    #[inline]
    fn plain_until(&mut self, from: usize) -> Read<(usize, u8)> {
        let rest = self.text.as_bytes().get(from..).unwrap_or_default();
        match plain_bytes(rest) {
            Some(n) if rest[n] >= 0x20 => Ok((from + n, rest[n])),
            Some(n) => {
                self.at = from + n;
                self.wrong("a control character in a string")
            }
            None => {
                self.at = self.text.len();
                self.wrong("a string that does not end")
            }
        }
    }

    #[cold]
    fn string_with_escapes(&mut self, from: usize, backslash: usize) -> Read<Key> {
        self.unescaped.clear();
        self.unescaped.push_str(&self.text[from..backslash]);
        self.at = backslash;
        loop {
            self.escape()?;
            let from = self.at;
            let (to, end) = self.plain_until(from)?;
            self.unescaped.push_str(&self.text[from..to]);
            self.at = to;
            if end == b'"' {
                self.at += 1;
                return Ok(Key::Unescaped);
            }
        }
    }

    /// One escape; the backslash is next.
    fn escape(&mut self) -> Read<()> {
        self.at += 1;
        let plain = match self.byte() {
            byte @ (b'"' | b'\\' | b'/') => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let character = self.unicode_escape()?;
                self.unescaped.push(character);
                return Ok(());
            }
            _ => return self.wrong("an unknown escape"),
        };
        self.at += 1;
        self.unescaped.push(plain);
        Ok(())
    }

    /// `\u` and four digits, or two of them for a character beyond the first 65,536. Half of such a pair is no character.
    fn unicode_escape(&mut self) -> Read<char> {
        let first = self.four_digits()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let behind = self.at;
        if self.text.as_bytes()[behind..].starts_with(b"\\u") {
            self.at += 1;
            let second = self.four_digits()?;
            if (0xdc00..0xe000).contains(&second) {
                let number = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = behind;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    /// The digits after the `u` that is next.
    fn four_digits(&mut self) -> Read<u32> {
        let digits = self.text.as_bytes().get(self.at + 1..self.at + 5).unwrap_or_default();
        let number = digits.iter().try_fold(0, |n, digit| Some(n << 4 | char::from(*digit).to_digit(16)?));
        match number {
            Some(number) if digits.len() == 4 => {
                self.at += 5;
                Ok(number)
            }
            _ => self.wrong("expected four hex digits"),
        }
    }
}

/// How many bytes stand before the first quote, backslash or control character; `None` when there is none.
#[inline]
fn plain_bytes(text: &[u8]) -> Option<usize> {
    let (chunks, rest) = text.as_chunks::<8>();
    for (n, chunk) in chunks.iter().enumerate() {
        let marks = ends_plain(u64::from_le_bytes(*chunk));
        if marks != 0 {
            return Some(8 * n + marks.trailing_zeros() as usize / 8);
        }
    }
    let tail = rest.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
    tail.map(|n| 8 * chunks.len() + n)
}

/// Eight bytes at a time: the lowest bit that is set is the highest bit of the first byte that ends plain text.
/// Above it bits may be set that mean nothing, for the subtractions borrow.
#[inline]
const fn ends_plain(bytes: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let quote = bytes ^ (ONES * b'"' as u64);
    let backslash = bytes ^ (ONES * b'\\' as u64);
    let is_zero = quote.wrapping_sub(ONES) & !quote | backslash.wrapping_sub(ONES) & !backslash;
    let is_control = bytes.wrapping_sub(ONES * 0x20) & !bytes;
    (is_zero | is_control) & HIGH
}

/// A string that was read: where it stands, or that it is the last one with escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Plain(usize, usize),
    Unescaped,
}
