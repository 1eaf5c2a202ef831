//! Which records an SLI is about: conditions on their kind, name, status and attributes, as a policy states them.
//! They are compiled into a [`super::Program`] once; here they are only words, kept with the policy of a
//! deployment, so that one that is running goes on counting the same after a restart.

use super::bytes::{begins, ends, same};
use super::snapshot::{Corrupt, Reader, Snapshot, Writer, snapshot_fields, snapshot_index};
use super::{Outcome, SpanKind};

/// A pattern for text: `*` stands for any characters, also none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    /// What stands between the `*`, one piece at least.
    pieces: Vec<String>,
}

snapshot_fields!(Pattern { pieces });

impl Pattern {
    /// The pattern as a person writes it.
    pub fn new(text: &str) -> Self {
        Self { pieces: text.split('*').map(str::to_owned).collect() }
    }

    /// As it was written.
    pub fn text(&self) -> String {
        self.pieces.join("*")
    }

    /// Whether the pieces, put together, fit. Pieces, because an operation comes in three.
    pub fn fits(&self, parts: [&[u8]; 3]) -> bool {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let text = Parts(parts);
        let [first, rest @ ..] = self.pieces.as_slice() else { return false };
        let Some((last, between)) = rest.split_last() else {
            return length == first.len() && text.has(0, first.as_bytes());
        };
        if length < first.len() + last.len() || !text.has(0, first.as_bytes()) {
            return false;
        }
        let end = length - last.len();
        let mut at = first.len();
        for piece in between {
            let Some(found) = (at..=end).find(|i| i + piece.len() <= end && text.has(*i, piece.as_bytes()))
            else {
                return false;
            };
            at = found + piece.len();
        }
        last.is_empty() || text.has(end, last.as_bytes())
    }

    /// Whether a text in one piece fits.
    #[inline]
    pub fn fits_text(&self, text: &[u8]) -> bool {
        // Nearly all patterns have no `*`, or one at the end.
        match self.pieces.as_slice() {
            [whole] => same(text, whole.as_bytes()),
            [first, last] => {
                text.len() >= first.len() + last.len()
                    && begins(text, first.as_bytes())
                    && ends(text, last.as_bytes())
            }
            _ => self.fits([text, b"", b""]),
        }
    }
}

/// Text in three parts.
struct Parts<'a>([&'a [u8]; 3]);

impl Parts<'_> {
    /// Whether `wanted` stands at `at`.
    fn has(&self, at: usize, wanted: &[u8]) -> bool {
        let (mut at, mut wanted) = (at, wanted);
        for part in self.0 {
            let rest = part.get(at..).unwrap_or_default();
            at = at.saturating_sub(part.len());
            let (here, later) = wanted.split_at(rest.len().min(wanted.len()));
            if !begins(rest, here) {
                return false;
            }
            wanted = later;
        }
        wanted.is_empty()
    }
}

/// What the value of an attribute may be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValueTest {
    /// Any value.
    Present,
    /// Text, or `true` and `false`.
    Text(Pattern),
    /// A whole number within these two, also where it was sent as text.
    Whole(i64, i64),
}

impl ValueTest {
    /// The test as a person writes it: `*` for any value, a whole number, a range `400..499`, else a pattern.
    pub fn new(text: &str) -> Self {
        if text == "*" {
            return Self::Present;
        }
        if let Ok(number) = text.parse() {
            return Self::Whole(number, number);
        }
        let range =
            text.split_once("..").and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
        match range {
            Some((low, high)) => Self::Whole(low, high),
            None => Self::Text(Pattern::new(text)),
        }
    }

    /// Whether a value passes.
    pub fn passes(&self, value: AttributeValue<'_>) -> bool {
        match (self, value) {
            (_, AttributeValue::Absent) => false,
            (Self::Present, _) => true,
            (Self::Text(pattern), AttributeValue::Text(text)) => pattern.fits_text(text),
            (Self::Text(pattern), AttributeValue::Bool(truth)) => {
                pattern.fits_text(if truth { b"true" } else { b"false" })
            }
            (Self::Whole(low, high), value) => value.whole().is_some_and(|n| (*low..=*high).contains(&n)),
            (Self::Text(_), _) => false,
        }
    }
}

/// The value of an attribute, as far as conditions look at it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AttributeValue<'a> {
    /// None.
    Absent,
    /// Text, or the first element of a list of texts.
    Text(&'a [u8]),
    /// A whole number.
    Whole(i64),
    /// A number with a fraction.
    Double(f64),
    /// Yes or no.
    Bool(bool),
    /// Anything else.
    Other,
}

impl AttributeValue<'_> {
    /// The whole number, also where it was sent as text.
    pub fn whole(self) -> Option<i64> {
        match self {
            Self::Whole(number) => Some(number),
            Self::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// A quantity: not negative, rounded, at most 2^53, beyond which nothing is exact.
    pub fn quantity(self) -> Option<u64> {
        const MOST: f64 = 9_007_199_254_740_992.0;
        match self {
            Self::Double(number) => (0.0..=MOST).contains(&number).then(|| number.round() as u64),
            other => other.whole().and_then(|n| u64::try_from(n).ok()).filter(|n| *n as f64 <= MOST),
        }
    }
}

/// A condition on one attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeTest {
    /// Its name.
    pub name: String,
    /// One of these must pass.
    pub any: Vec<ValueTest>,
    /// Whether none of them may pass instead; then the attribute may also be absent.
    pub is_negated: bool,
}

/// How a span says that it ended: `Status.code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpanStatus {
    /// It does not say.
    Unset,
    /// Said to be good.
    Ok,
    /// Said to be an error.
    Error,
}

impl SpanStatus {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unset, Self::Ok, Self::Error];

    /// Of the number on the wire; numbers beyond the known ones say nothing.
    pub const fn of(code: i32) -> Self {
        match code {
            1 => Self::Ok,
            2 => Self::Error,
            _ => Self::Unset,
        }
    }
}

/// Conditions that must all hold. Of spans an empty list of kinds means requests: server and consumer spans.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// The metric whose points are meant; `None`: spans.
    pub metric: Option<String>,
    /// One of these kinds.
    pub kinds: Vec<SpanKind>,
    /// The name of the span.
    pub name: Option<Pattern>,
    /// The operation, as verdicts name it.
    pub operation: Option<Pattern>,
    /// One of these, as Rollguard tells how a request ended.
    pub outcomes: Vec<Outcome>,
    /// One of these, as the span says itself.
    pub statuses: Vec<SpanStatus>,
    /// One of these must pass the status code of HTTP or RPC, under whichever name the convention has it.
    pub codes: Vec<ValueTest>,
    /// Attributes.
    pub attributes: Vec<AttributeTest>,
}

impl Selection {
    /// The kinds that are meant.
    pub fn kinds(&self) -> &[SpanKind] {
        const REQUESTS: [SpanKind; 2] = [SpanKind::Server, SpanKind::Consumer];
        if self.kinds.is_empty() { &REQUESTS } else { &self.kinds }
    }
}

snapshot_fields!(AttributeTest { name, any, is_negated });
snapshot_fields!(Selection { metric, kinds, name, operation, outcomes, statuses, codes, attributes });

impl Snapshot for ValueTest {
    fn save(&self, out: &mut Writer) {
        match self {
            Self::Present => 0u8.save(out),
            Self::Text(pattern) => {
                1u8.save(out);
                pattern.save(out);
            }
            Self::Whole(low, high) => {
                2u8.save(out);
                (*low, *high).save(out);
            }
        }
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(match u8::load(from)? {
            0 => Self::Present,
            1 => Self::Text(Pattern::load(from)?),
            2 => {
                let (low, high) = Snapshot::load(from)?;
                Self::Whole(low, high)
            }
            _ => return Err(Corrupt::Body),
        })
    }
}

snapshot_index!(SpanStatus, SpanKind, Outcome);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_text_in_pieces() {
        let rows: [(&str, [&[u8]; 3], bool); 14] = [
            ("GET /a", [b"GET", b" ", b"/a"], true),
            ("GET /a", [b"GET", b" ", b"/ab"], false),
            ("GET *", [b"GET", b" ", b"/a"], true),
            ("*/a", [b"GET", b" ", b"/a"], true),
            ("*/b", [b"GET", b" ", b"/a"], false),
            ("G*T*a", [b"GET", b" ", b"/a"], true),
            ("G*x*a", [b"GET", b" ", b"/a"], false),
            ("*", [b"", b"", b""], true),
            ("", [b"", b"", b""], true),
            ("", [b"x", b"", b""], false),
            ("aa*aa", [b"aaa", b"", b""], false),
            ("a**b", [b"ab", b"", b""], true),
            ("*T /*", [b"GET", b" ", b"/a"], true),
            ("*ab*ab", [b"abab", b"", b""], true),
        ];
        for (pattern, parts, expected) in rows {
            assert_eq!(Pattern::new(pattern).fits(parts), expected, "{pattern} on {parts:?}");
            assert_eq!(Pattern::new(pattern).text(), pattern);
        }
    }

    #[test]
    fn values_pass_by_what_they_are() {
        use AttributeValue::{Absent, Bool, Double, Other, Text, Whole};
        let rows = [
            ("*", Other, true),
            ("*", Absent, false),
            ("401", Whole(401), true),
            ("401", Text(b"401"), true),
            ("401", Whole(403), false),
            ("400..499", Whole(499), true),
            ("400..499", Text(b"404"), true),
            ("400..499", Whole(500), false),
            ("a..b", Text(b"a..b"), true),
            ("post*", Text(b"postgresql"), true),
            ("post*", Whole(1), false),
            ("true", Bool(true), true),
            ("true", Bool(false), false),
            ("1", Double(1.0), false),
            ("-5..-1", Whole(-2), true),
        ];
        for (test, value, expected) in rows {
            assert_eq!(ValueTest::new(test).passes(value), expected, "{test} on {value:?}");
        }
    }

    #[test]
    fn quantities_are_counts_of_something() {
        use AttributeValue::{Double, Text, Whole};
        let rows = [
            (Whole(5), Some(5)),
            (Whole(-1), None),
            (Double(2.5), Some(3)),
            (Double(-0.5), None),
            (Double(f64::NAN), None),
            (Text(b"1024"), Some(1024)),
            (Text(b"much"), None),
            (Whole(i64::MAX), None),
        ];
        for (value, expected) in rows {
            assert_eq!(value.quantity(), expected, "{value:?}");
        }
    }
}
