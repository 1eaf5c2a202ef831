//! What other days say, in words.

use super::words::per_cent;
use super::{Evidence, Flag, OtherDay, Verdict};

fn name(day: &OtherDay) -> String {
    match day.days_ago {
        1 => "yesterday".into(),
        7 => "a week ago".into(),
        days => format!("{days} days ago"),
    }
}

/// Why a fail is withheld, as a sentence with a space in front.
pub(super) fn withheld(evidence: &Evidence, verdict: Verdict) -> String {
    let days = evidence.other_days.iter().flat_map(|other| &other.days);
    let alike = days.filter(|day| day.errors_alike || day.latency_alike);
    let one = |day: &OtherDay| {
        let failed = day.tally.error_rate().filter(|rate| day.errors_alike && *rate > 0.0);
        let failed =
            failed.map_or_else(String::new, |rate| format!(" ({} of requests failed)", per_cent(rate)));
        format!("{}{failed}", name(day))
    };
    let when: Vec<String> = alike.map(one).collect();
    let then = match verdict {
        Verdict::Pending => "it is looked at again while it could still be laid at its door",
        _ => "nothing is rolled back; somebody should look at it",
    };
    format!(
        " That would be a fail, but around this time of day it looked like this {}, so {then}.",
        when.join(" and ")
    )
}

/// What other days say of a fail, as a sentence with a space in front.
pub(super) fn unlike(evidence: &Evidence) -> String {
    let Some(other) = evidence.other_days.as_ref().filter(|_| !evidence.has(Flag::AsOtherDays)) else {
        return String::new();
    };
    if other.days.iter().any(|day| day.errors_alike || day.latency_alike) {
        return String::new();
    }
    let when: Vec<String> = other.days.iter().map(name).collect();
    format!(" Around this time of day it did not look like this {}.", when.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{OtherDays, Tally};

    fn day(days_ago: u8, bad: u64, errors_alike: bool, latency_alike: bool) -> OtherDay {
        let tally = Tally { requests: 1_000, bad, ..Tally::default() };
        OtherDay { days_ago, tally, errors_alike, latency_alike, ..OtherDay::default() }
    }

    #[test]
    fn days_are_named_as_people_do() {
        let other = |days: &[OtherDay]| Evidence {
            other_days: Some(OtherDays { days: days.to_vec(), ..OtherDays::default() }),
            flags: if days.iter().any(|d| d.errors_alike || d.latency_alike) {
                vec![Flag::AsOtherDays]
            } else {
                Vec::new()
            },
            ..Evidence::default()
        };
        let alike = other(&[day(1, 79, true, false), day(7, 1, false, true)]);
        assert_eq!(
            withheld(&alike, Verdict::Pending),
            " That would be a fail, but around this time of day it looked like this yesterday (7.9 % of requests failed) \
             and a week ago, so it is looked at again while it could still be laid at its door."
        );
        assert_eq!(
            withheld(&other(&[day(7, 79, true, false)]), Verdict::Inconclusive),
            " That would be a fail, but around this time of day it looked like this a week ago (7.9 % of requests \
             failed), so nothing is rolled back; somebody should look at it."
        );
        assert_eq!(unlike(&alike), "");
        assert_eq!(unlike(&Evidence::default()), "");
        assert_eq!(
            unlike(&other(&[day(1, 1, false, false), day(7, 1, false, false)])),
            " Around this time of day it did not look like this yesterday or a week ago."
        );
    }
}
