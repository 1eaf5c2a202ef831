//! Values of conditions as a user writes them: one or a list, text, whole numbers, yes or no.

use std::fmt;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::model::ValueTest;

/// One value or a list of which one must fit: text with `*` for any characters, whole numbers, ranges such as
/// `400..499`, `true` and `false`. With a `!` in front of all of them, none may fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Values(pub Vec<String>);

impl Values {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether some are negated and some are not, which cannot be meant.
    pub fn is_mixed(&self) -> bool {
        let negated = self.0.iter().filter(|value| value.starts_with('!')).count();
        negated > 0 && negated < self.0.len()
    }

    /// Whether they are negated.
    pub fn is_negated(&self) -> bool {
        self.0.first().is_some_and(|value| value.starts_with('!'))
    }

    /// The tests, and whether none of them may pass.
    pub(super) fn tests(&self) -> (Vec<ValueTest>, bool) {
        let tests = self.0.iter().map(|value| ValueTest::new(value.strip_prefix('!').unwrap_or(value)));
        (tests.collect(), self.is_negated())
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => to.serialize_str(one),
            many => many.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OneOrMany)
    }
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Values;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a whole number, true, false, or a list of these")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Values, E> {
        Ok(Values(vec![text.to_owned()]))
    }
    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Values, E> {
        Ok(Values(vec![truth.to_string()]))
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Values, E> {
        Ok(Values(vec![number.to_string()]))
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Values, E> {
        Ok(Values(vec![number.to_string()]))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
        let mut values = Vec::new();
        while let Some(Values(one)) = list.next_element()? {
            values.extend(one);
        }
        Ok(Values(values))
    }
}
