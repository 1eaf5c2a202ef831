//! Numbers as people read them: two significant digits, thousands separated, units that fit.

/// `1240` as `1,240`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The time of day of a second: `12:00:00 UTC`.
pub fn time_of_day(second: i64) -> String {
    let of_day = second.rem_euclid(86_400);
    format!("{:02}:{:02}:{:02} UTC", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// Rounds to two significant digits.
pub fn round2(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let unit = 10f64.powi(x.abs().log10().floor() as i32 - 1);
    (x / unit).round() * unit
}

/// Two significant digits, no trailing zeros, thousands separated.
pub fn number(x: f64) -> String {
    let rounded = round2(x);
    if rounded.abs() >= 10.0 {
        return count(rounded.round() as u64);
    }
    let decimals = (1 - rounded.abs().max(1e-9).log10().floor() as i32).max(0) as usize;
    let text = format!("{rounded:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// A fraction as a percentage; 0.999 stays 99.9, because near 1 the distance from 1 is what counts.
pub fn per_cent(fraction: f64) -> String {
    if fraction > 0.9 && fraction < 1.0 {
        let missing = (1.0 - fraction) * 100.0;
        // A little more than it is, for 1 - 0.99999 is a little less.
        let decimals = (-(missing.log10() + 1e-6).floor()).max(0.0) as usize;
        return format!("{:.decimals$} %", fraction * 100.0);
    }
    format!("{} %", number(fraction * 100.0))
}

/// `bad` of `total` as a percentage. None and all are said as such, for they are exact.
pub fn share(bad: u64, total: u64) -> String {
    match (bad, total) {
        (0, _) | (_, 0) => "none".into(),
        (b, t) if b >= t => "all".into(),
        (b, t) => per_cent(b as f64 / t as f64),
    }
}

/// The interval of a ratio: `14 to 31`, or how it is said where one end is of no use.
pub fn interval(ratio: Option<[f64; 3]>) -> Option<String> {
    let [ratio, low, high] = ratio?;
    if !(ratio.is_finite() && low.is_finite() && low >= 0.0) {
        return None;
    }
    // Beyond that the upper end only says that the baseline had hardly any.
    if !high.is_finite() || high >= 1000.0 {
        return (low >= 1.0).then(|| format!("at least {}", number(low)));
    }
    let (low, high) = (number(low), number(high));
    Some(if low == high { format!("about {low}") } else { format!("{low} to {high}") })
}

/// Seconds in the unit that fits: `236 ms`, `1.4 s`, `42 s`, `30 minutes`, `4.3 hours`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{} us", number(s * 1e6)),
        s if s < 1.0 => format!("{} ms", (s * 1e3).round().max(1.0) as u64),
        s if s < 120.0 => format!("{} s", number(s)),
        s if s < 7_200.0 => format!("{} minutes", number(s / 60.0)),
        s => format!("{} hours", number(s / 3_600.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_numbers() {
        for (n, text) in [(0, "0"), (999, "999"), (1240, "1,240"), (1_234_567, "1,234,567")] {
            assert_eq!(count(n), text);
        }
        for (x, text) in [
            (0.0, "0"),
            (0.1, "0.1"),
            (0.10499, "0.1"),
            (0.00234, "0.0023"),
            (1.449, "1.4"),
            (2.0, "2"),
            (9.97, "10"),
            (14.4, "14"),
            (143.0, "140"),
            (12_345.0, "12,000"),
        ] {
            assert_eq!(number(x), text, "{x}");
        }
    }

    #[test]
    fn shares_intervals_and_times() {
        for (bad, total, text) in [
            (0, 100, "none"),
            (100, 100, "all"),
            (29, 1240, "2.3 %"),
            (1, 1000, "0.1 %"),
            (481, 1000, "48 %"),
            (99_970, 100_000, "99.97 %"),
        ] {
            assert_eq!(share(bad, total), text);
        }
        assert_eq!(per_cent(0.999), "99.9 %");
        assert_eq!(per_cent(0.99), "99 %");
        assert_eq!(per_cent(0.9995), "99.95 %");
        assert_eq!(per_cent(0.99999), "99.999 %");
        for (ratio, text) in [
            (Some([21.0, 14.2, 30.9]), Some("14 to 31")),
            (Some([1.0, 0.72, 1.44]), Some("0.72 to 1.4")),
            (Some([900.0, 40.0, 2e4]), Some("at least 40")),
            (Some([900.0, 0.4, f64::INFINITY]), None),
            (Some([2.0, 1.96, 2.04]), Some("about 2")),
            (Some([f64::NAN, 1.0, 2.0]), None),
            (None, None),
        ] {
            assert_eq!(interval(ratio).as_deref(), text, "{ratio:?}");
        }
        for (seconds, text) in
            [(0.000_4, "400 us"), (0.2361, "236 ms"), (1.41, "1.4 s"), (42.0, "42 s"), (1800.0, "30 minutes")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
