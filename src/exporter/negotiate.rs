//! Which format and encoding a scraper wants, from its `Accept` and `Accept-Encoding` headers. Text 0.0.4 is
//! the last resort: a scraper is never refused.

use super::text::Format;

/// The format that `accept` prefers.
pub(super) fn format(accept: Option<&str>) -> Format {
    let Some(accept) = accept else { return Format::Text };
    let (mut open_metrics, mut text) = (0.0_f64, 0.0_f64);
    for (range, parameters) in entries(accept) {
        let quality = quality(&parameters);
        let version =
            parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("version")).map(|(_, v)| *v);
        if range.eq_ignore_ascii_case("application/openmetrics-text") {
            if matches!(version, None | Some("1.0.0")) {
                open_metrics = open_metrics.max(quality);
            }
        } else if range.eq_ignore_ascii_case("text/plain") {
            if matches!(version, None | Some("0.0.4")) {
                text = text.max(quality);
            }
        } else if range.eq_ignore_ascii_case("text/*") || range == "*/*" {
            text = text.max(quality);
        }
    }
    // Only a scraper that names OpenMetrics gets it; on a tie it does.
    if open_metrics > 0.0 && open_metrics >= text { Format::OpenMetrics } else { Format::Text }
}

/// Whether the answer may be compressed with gzip.
pub(super) fn gzip(accept_encoding: Option<&str>) -> bool {
    let mut any = false;
    for (coding, parameters) in entries(accept_encoding.unwrap_or_default()) {
        let wanted = quality(&parameters) > 0.0;
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            return wanted;
        }
        any |= coding == "*" && wanted;
    }
    any
}

type Parameters<'a> = Vec<(&'a str, &'a str)>;

/// The entries of a list header with their parameters.
fn entries(header: &str) -> impl Iterator<Item = (&str, Parameters<'_>)> {
    header.split(',').map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default();
        let parameters = parts
            .filter_map(|p| p.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
            .collect();
        (range, parameters)
    })
}

/// The weight of an entry: 1 when absent, 0 when it cannot be read.
fn quality(parameters: &[(&str, &str)]) -> f64 {
    let given = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("q"));
    given.map_or(1.0, |(_, q)| q.parse::<f64>().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,\
                          text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let rows = [
            (None, Format::Text),
            (Some(""), Format::Text),
            (Some("*/*"), Format::Text),
            (Some(prometheus), Format::OpenMetrics),
            (Some("application/openmetrics-text; version=1.0.0; charset=utf-8"), Format::OpenMetrics),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some("application/openmetrics-text;version=0.0.1"), Format::Text),
            (Some("application/openmetrics-text;q=0, text/plain"), Format::Text),
            (Some("application/openmetrics-text;q=0.2, text/plain;version=0.0.4;q=0.9"), Format::Text),
            (Some("application/openmetrics-text;q=0.2, */*;q=0.1"), Format::OpenMetrics),
            (Some("APPLICATION/OPENMETRICS-TEXT; Version=\"1.0.0\""), Format::OpenMetrics),
            (Some("application/openmetrics-text;q=nan, text/html"), Format::Text),
            (Some("image/png"), Format::Text),
        ];
        for (accept, expected) in rows {
            assert_eq!(format(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn encodings() {
        let rows = [
            (None, false),
            (Some("gzip"), true),
            (Some("br, gzip;q=0.5"), true),
            (Some("gzip;q=0"), false),
            (Some("gzip;q=0, *"), false),
            (Some("*"), true),
            (Some("identity"), false),
        ];
        for (accept, expected) in rows {
            assert_eq!(gzip(accept), expected, "{accept:?}");
        }
    }
}
