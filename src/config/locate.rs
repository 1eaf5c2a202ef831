//! Where in the file a value stands, so that a wrong value is reported with its line and column, like a
//! wrong key. The file is read a second time as a plain tree with positions; this happens only for files
//! that have problems.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Options, Spanned};

/// A YAML node; what scalars hold does not matter here.
enum Node {
    Map(Vec<(String, Spanned<Node>)>),
    List(Vec<Spanned<Node>>),
    Scalar,
}

/// A position, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: u64,
    /// Column in characters.
    pub column: u64,
}

/// Finds the value at `path`, for example `policies.services[1].policy.slo`. When the value itself is not
/// written in the file, the nearest section around it that is.
pub(super) fn locate(text: &str, path: &str, options: Options) -> Option<Place> {
    let root: Spanned<Node> = serde_saphyr::from_str_with_options(text, options).ok()?;
    let mut here = &root;
    for step in path.split(['.', '[']) {
        let next = match (&here.value, step.strip_suffix(']')) {
            (Node::List(items), Some(index)) => index.parse::<usize>().ok().and_then(|i| items.get(i)),
            (Node::Map(entries), None) => entries.iter().find(|(key, _)| key == step).map(|(_, value)| value),
            _ => None,
        };
        match next {
            Some(next) => here = next,
            None => break,
        }
    }
    let place = Place { line: here.referenced.line(), column: here.referenced.column() };
    (place.line > 0).then_some(place)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

macro_rules! scalars {
    ($($name:ident: $t:ty),*) => {$(
        fn $name<E>(self, _: $t) -> Result<Node, E> {
            Ok(Node::Scalar)
        }
    )*};
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    scalars!(visit_bool: bool, visit_i64: i64, visit_i128: i128, visit_u64: u64, visit_u128: u128);
    scalars!(visit_f64: f64, visit_str: &str, visit_bytes: &[u8]);

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Node, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = from.next_key::<Option<String>>()? {
            match key {
                Some(key) => entries.push((key, from.next_value()?)),
                None => drop(from.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_values_in_either_style() {
        let text = "api:\n  endpoint: here\npolicies:\n  services:\n    - match: {service: a}\n      policy: {slo: 2, \
                    mode: act}\n    - policy:\n        slo: 3\n";
        let rows = [
            ("api.endpoint", Some((2, 13))),
            ("policies.services[0].policy.slo", Some((6, 21))),
            ("policies.services[1].policy.slo", Some((8, 14))),
            ("policies.services[0].policy.alpha", Some((6, 15))),
            ("pipeline.series_ttl", Some((1, 1))),
        ];
        for (path, expected) in rows {
            let found = locate(text, path, Options::default()).map(|p| (p.line, p.column));
            assert_eq!(found, expected, "{path}");
        }
        assert_eq!(locate("[", "a", Options::default()), None);
    }
}
