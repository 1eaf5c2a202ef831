//! The time of a change as people write it on a command line.

use jiff::{SignedDuration, Timestamp};

use crate::model::UnixNanos;
use crate::pipeline::human;

/// A time, absolute or from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// From now; negative is past.
    FromNow(SignedDuration),
    /// A point in time.
    At(Timestamp),
}

/// Reads `now`, `+10m`, `-30s` or RFC 3339.
pub(super) fn parse(text: &str) -> Result<Time, String> {
    let from_now = |sign: i32, rest: &str| {
        let duration = human::parse(rest)?;
        let duration = SignedDuration::try_from(duration).map_err(|e| e.to_string())?;
        Ok(Time::FromNow(if sign < 0 { -duration } else { duration }))
    };
    match (text, text.split_at_checked(1)) {
        ("now", _) => Ok(Time::FromNow(SignedDuration::ZERO)),
        (_, Some(("+", rest))) => from_now(1, rest),
        (_, Some(("-", rest))) => from_now(-1, rest),
        _ => text.parse().map(Time::At).map_err(|_| {
            "write `now`, a time from now such as +10m or -30s, or RFC 3339 such as 2026-01-31T12:00:00Z"
                .into()
        }),
    }
}

impl Time {
    /// As the API takes it. `now` is the clock of this machine.
    pub(super) fn rfc3339(self, now: UnixNanos) -> String {
        let at = match self {
            Self::At(at) => at,
            Self::FromNow(duration) => {
                let now = i64::try_from(now.0 / 1_000_000).unwrap_or(i64::MAX);
                let now = Timestamp::from_millisecond(now).unwrap_or(Timestamp::MAX);
                now.saturating_add(duration).unwrap_or(now)
            }
        };
        at.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        let now = UnixNanos(1_769_860_800_250_000_000);
        for (text, at) in [
            ("now", Some("2026-01-31T12:00:00.25Z")),
            ("+10m", Some("2026-01-31T12:10:00.25Z")),
            ("-30s", Some("2026-01-31T11:59:30.25Z")),
            ("+1h30m", Some("2026-01-31T13:30:00.25Z")),
            ("2026-01-31T13:00:00+01:00", Some("2026-01-31T12:00:00Z")),
            ("2026-01-31T12:00:00", None),
            ("10m", None),
            ("+ever", None),
            ("", None),
        ] {
            assert_eq!(parse(text).ok().map(|time| time.rfc3339(now)).as_deref(), at, "{text}");
        }
    }
}
