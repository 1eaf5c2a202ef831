//! Durations as people write them in the configuration: `250ms`, `60s`, `1m 30s`, `15m`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

/// Writes a duration so that [`deserialize`] reads the same one.
pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_duration(*value))
}

/// Reads a duration. A number without a unit is refused: nobody should have to guess whether `60` is
/// seconds or milliseconds.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map_err(de::Error::custom)
}

/// Reads a duration from text; the message of the error says how to write one.
pub fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| {
        format!("`{text}` is not a duration; write it with its unit, for example 30s, 5m or 250ms")
    })
}

/// The same for a value that may be absent.
pub mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes a duration or nothing.
    pub fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    /// Reads a duration or nothing.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| super::parse(&text).map_err(de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_units_and_refuses_bare_numbers() {
        let rows = [
            ("60s", Some(60_000)),
            ("250ms", Some(250)),
            ("1m 30s", Some(90_000)),
            ("1m30s", Some(90_000)),
            ("0s", Some(0)),
            ("60", None),
            ("-1s", None),
            ("soon", None),
        ];
        for (text, millis) in rows {
            assert_eq!(parse(text).ok().map(|d| d.as_millis()), millis, "{text}");
        }
        assert!(parse("60").unwrap_err().contains("30s, 5m or 250ms"));
    }
}
