//! The two text formats of Prometheus: OpenMetrics 1.0.0 and text 0.0.4. They differ in how counters are
//! declared and in the end mark; samples are written alike.

use std::fmt::Write as _;

use super::definitions::{Definition, Kind};

/// Which format a scraper gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
    /// `text/plain; version=0.0.4`, which everything understands.
    Text,
}

impl Format {
    /// The value of the Content-Type header.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Writes one page, family by family. A family without samples leaves no trace.
#[derive(Debug)]
pub(super) struct Writer {
    format: Format,
    out: String,
    /// The family whose header is still to be written.
    pending: Option<&'static Definition>,
    name: &'static str,
}

/// A value of a sample. Counts stay exact; measures are written shortest.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Count(u64),
    Measure(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Count(value)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Count(u64::from(value))
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Measure(value)
    }
}

impl Writer {
    pub(super) fn new(format: Format) -> Self {
        Self { format, out: String::new(), pending: None, name: "" }
    }

    /// Begins a family. All its samples follow before the next one begins.
    pub(super) fn family(&mut self, definition: &'static Definition) {
        self.pending = Some(definition);
        self.name = definition.name;
    }

    /// Writes a sample. `subject` holds labels that are escaped already; `labels` are escaped here.
    pub(super) fn sample(&mut self, subject: &str, labels: &[(&str, &str)], value: impl Into<Number>) {
        if let Some(definition) = self.pending.take() {
            self.header(definition);
        }
        self.out.push_str(self.name);
        if !subject.is_empty() || !labels.is_empty() {
            self.out.push('{');
            self.out.push_str(subject);
            for (index, (name, value)) in labels.iter().enumerate() {
                if index > 0 || !subject.is_empty() {
                    self.out.push(',');
                }
                label(&mut self.out, name, value);
            }
            self.out.push('}');
        }
        self.out.push(' ');
        number(&mut self.out, value.into());
        self.out.push('\n');
    }

    /// The page.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    fn header(&mut self, definition: &Definition) {
        // OpenMetrics names a counter's family without the suffix that its sample carries.
        let family = match (self.format, definition.kind) {
            (Format::OpenMetrics, Kind::Counter) => {
                definition.name.strip_suffix("_total").unwrap_or(definition.name)
            }
            _ => definition.name,
        };
        let _ = writeln!(self.out, "# HELP {family} {}", definition.help);
        let _ = writeln!(self.out, "# TYPE {family} {}", definition.kind.as_str());
    }
}

/// Appends `name="value"`, escaped.
pub(super) fn label(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push_str("=\"");
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn number(out: &mut String, value: Number) {
    let _ = match value {
        Number::Count(n) => write!(out, "{n}"),
        Number::Measure(v) if v.is_nan() => write!(out, "NaN"),
        Number::Measure(v) if v.is_infinite() => write!(out, "{}Inf", if v > 0.0 { '+' } else { '-' }),
        // Never an exponent unless the number is far from 1: Prometheus reads both, people one.
        Number::Measure(v) if v != 0.0 && !(1e-6..1e15).contains(&v.abs()) => write!(out, "{v:e}"),
        Number::Measure(v) => write!(out, "{v}"),
    };
}

#[cfg(test)]
mod tests {
    use super::super::definitions::{ERRORS, REQUESTS, SCORE};
    use super::*;

    fn page(format: Format) -> String {
        let mut writer = Writer::new(format);
        writer.family(&REQUESTS);
        writer.sample("service_name=\"a\"", &[], 3_u64);
        writer.family(&ERRORS);
        writer.family(&SCORE);
        writer.sample("", &[("x", "1"), ("y", "2")], 0.5);
        writer.sample("", &[], f64::INFINITY);
        writer.finish()
    }

    #[test]
    fn text_names_the_counter_in_full() {
        assert_eq!(
            page(Format::Text),
            format!(
                "# HELP rollguard_requests_total {}\n# TYPE rollguard_requests_total counter\n\
                 rollguard_requests_total{{service_name=\"a\"}} 3\n\
                 # HELP rollguard_score {}\n# TYPE rollguard_score gauge\n\
                 rollguard_score{{x=\"1\",y=\"2\"}} 0.5\nrollguard_score +Inf\n",
                REQUESTS.help, SCORE.help
            )
        );
    }

    #[test]
    fn openmetrics_names_the_family_and_ends() {
        let page = page(Format::OpenMetrics);
        assert!(page.contains("# TYPE rollguard_requests counter\nrollguard_requests_total{"), "{page}");
        assert!(page.ends_with("+Inf\n# EOF\n"), "{page}");
        assert!(!page.contains("errors"), "a family without samples is not named: {page}");
    }

    #[test]
    fn labels_are_escaped() {
        let rows = [
            ("plain", r#"l="plain""#),
            ("a\"b", r#"l="a\"b""#),
            ("a\\b", r#"l="a\\b""#),
            ("a\nb", r#"l="a\nb""#),
            ("\\n", r#"l="\\n""#),
            ("ü\u{fffd}", "l=\"ü\u{fffd}\""),
        ];
        for (value, expected) in rows {
            let mut out = String::new();
            label(&mut out, "l", value);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn numbers() {
        let rows = [
            (Number::from(u64::MAX), "18446744073709551615"),
            (Number::from(true), "1"),
            (Number::from(0.0), "0"),
            (Number::from(-0.25), "-0.25"),
            (Number::from(f64::NAN), "NaN"),
            (Number::from(f64::NEG_INFINITY), "-Inf"),
            (Number::from(1e-9), "1e-9"),
            (Number::from(1764031401.5), "1764031401.5"),
        ];
        for (value, expected) in rows {
            let mut out = String::new();
            number(&mut out, value);
            assert_eq!(out, expected);
        }
    }
}
