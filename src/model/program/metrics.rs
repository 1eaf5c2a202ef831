//! What the measures of a service count by metrics. What a point counts for is decided once per stream, when it is
//! met, so its attributes are simply compared with what is wanted; nothing is compiled into bits as it is for spans.

use super::{Marks, part_bit, total_bit};
use crate::model::selection::{AttributeTest, AttributeValue, Selection};
use crate::model::{Counted, MeasureKey};

/// What is still to be done with the counts of a measure when its interval closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// Nothing: bad ones among all, or events per others that a metric counts.
    Counts,
    /// Those that were counted are the good ones.
    GoodOnes,
    /// Those that took longer than this, in nanoseconds, are bad.
    LongerThan(u64),
    /// Their latencies are compared.
    Latencies,
    /// The requests of the version are all.
    PerRequest,
    /// The seconds of its instances are all.
    PerSecond,
}

/// A measure that is counted by metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricMeasure {
    /// Its number in the program.
    pub number: u8,
    /// Its name.
    pub key: MeasureKey,
    /// What closes it.
    pub completion: Completion,
}

impl MetricMeasure {
    /// Its bits in the marks of a stream.
    pub fn bits(&self) -> Marks {
        let number = usize::from(self.number);
        total_bit(number) | part_bit(number)
    }
}

/// Points of a metric with these attributes count for a measure.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MetricRule {
    metric: String,
    attributes: Vec<AttributeTest>,
    bits: Marks,
    /// Whether their durations are wanted, so that the unit must be one of time.
    is_duration: bool,
}

/// The part of a program that is about metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct MetricRules {
    rules: Vec<MetricRule>,
    measures: Vec<MetricMeasure>,
}

impl MetricRules {
    /// Adds a measure; whether metrics count it.
    pub(super) fn add(&mut self, number: u8, key: MeasureKey, counted: &Counted) -> bool {
        if !counted.is_of_metrics() {
            return false;
        }
        let (total, part) = (total_bit(usize::from(number)), part_bit(usize::from(number)));
        let completion = match counted {
            Counted::Share { total: all, part: some, is_good } => {
                self.rule(all, None, total, false);
                self.rule(some, Some(all), part, false);
                if *is_good { Completion::GoodOnes } else { Completion::Counts }
            }
            Counted::Slower { total: all, nanos } => {
                self.rule(all, None, total, true);
                Completion::LongerThan(*nanos)
            }
            Counted::Latency { total: all } => {
                self.rule(all, None, total, true);
                Completion::Latencies
            }
            Counted::PerRequest { requests, events, .. } => {
                self.rule(events, None, part, false);
                if requests.metric.is_some() {
                    self.rule(requests, None, total, false);
                    Completion::Counts
                } else {
                    Completion::PerRequest
                }
            }
            Counted::Occurrences { events } => {
                self.rule(events, None, part, false);
                Completion::PerSecond
            }
            Counted::ErrorLogs => return false,
        };
        self.measures.push(MetricMeasure { number, key, completion });
        true
    }

    /// A part is of the metric of its whole, and within it, unless it names another.
    fn rule(&mut self, chosen: &Selection, whole: Option<&Selection>, bits: Marks, is_duration: bool) {
        let named = chosen.metric.as_ref().or(whole.and_then(|whole| whole.metric.as_ref()));
        let Some(metric) = named else { return };
        let within = whole.filter(|whole| whole.metric.as_ref() == Some(metric));
        let mut attributes = chosen.attributes.clone();
        attributes.extend(within.iter().flat_map(|whole| whole.attributes.iter().cloned()));
        self.rules.push(MetricRule { metric: metric.clone(), attributes, bits, is_duration });
    }

    /// Bits of the totals of the measures that want durations.
    pub(super) fn durations(&self) -> Marks {
        self.rules.iter().filter(|rule| rule.is_duration).fold(0, |bits, rule| bits | rule.bits)
    }

    pub(super) fn measures(&self) -> &[MetricMeasure] {
        &self.measures
    }

    /// The metrics that are read, and the bits of what they count for; one may occur several times.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, Marks)> {
        self.rules.iter().map(|rule| (rule.metric.as_str(), rule.bits))
    }

    /// Whether any measure is about a metric.
    pub(super) fn reads(&self, name: &[u8]) -> bool {
        self.rules.iter().any(|rule| rule.metric.as_bytes() == name)
    }

    /// What the points of a stream count for.
    pub(super) fn marks<'a>(
        &self,
        name: &[u8],
        is_duration: bool,
        attribute: impl Fn(&[u8]) -> AttributeValue<'a>,
    ) -> Marks {
        let holds = |test: &AttributeTest| {
            let value = attribute(test.name.as_bytes());
            test.any.iter().any(|one| one.passes(value)) != test.is_negated
        };
        let fits = |rule: &&MetricRule| {
            rule.metric.as_bytes() == name
                && (is_duration || !rule.is_duration)
                && rule.attributes.iter().all(holds)
        };
        self.rules.iter().filter(fits).fold(0, |marks, rule| marks | rule.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Program;
    use super::*;
    use crate::model::{Measure, ValueTest};

    fn chosen(metric: &str, wanted: Option<&str>) -> Selection {
        let test = |value: &str| AttributeTest {
            name: "result".into(),
            any: vec![ValueTest::new(value)],
            is_negated: false,
        };
        Selection {
            metric: Some(metric.into()),
            attributes: wanted.map(test).into_iter().collect(),
            ..Selection::default()
        }
    }

    #[test]
    fn a_stream_counts_for_what_its_attributes_say() {
        let counted = [
            Counted::Share {
                total: chosen("payments", Some("a*")),
                part: chosen("payments", Some("*b")),
                is_good: false,
            },
            Counted::Share { total: chosen("payments", None), part: chosen("good", None), is_good: true },
            Counted::Latency { total: chosen("took", None) },
            Counted::PerRequest {
                requests: Selection::default(),
                events: chosen("calls", None),
                quantity: None,
            },
            Counted::Occurrences { events: chosen("calls", Some("x")) },
            Counted::ErrorLogs,
        ];
        let measures: Vec<Measure> = counted
            .into_iter()
            .map(|counted| Measure { key: MeasureKey::of(&format!("{counted:?}")), counted })
            .collect();
        let program = Program::compile(&measures).unwrap();
        let marks = |name: &str, is_duration: bool, result: &'static str| {
            let value = |wanted: &[u8]| match wanted {
                b"result" if !result.is_empty() => AttributeValue::Text(result.as_bytes()),
                _ => AttributeValue::Absent,
            };
            program.metric_marks(name.as_bytes(), is_duration, value)
        };
        let rows = [
            ("payments", true, "ab", total_bit(0) | part_bit(0) | total_bit(1)),
            ("payments", true, "ac", total_bit(0) | total_bit(1)),
            // Bad, but none of all.
            ("payments", true, "xb", total_bit(1)),
            ("good", false, "", part_bit(1)),
            ("took", true, "", total_bit(2)),
            ("took", false, "", 0),
            ("calls", false, "", part_bit(3)),
            ("calls", false, "x", part_bit(3) | part_bit(4)),
            ("other", true, "x", 0),
        ];
        for (name, is_duration, result, expected) in rows {
            assert_eq!(marks(name, is_duration, result), expected, "{name} {result}");
        }
        assert!(program.reads_metric(b"took") && !program.reads_metric(b"other"));
        assert!(program.needs_requests() && program.is_empty(), "no span counts for any of them");
        assert_eq!(program.latencies(), total_bit(2));
        let completions: Vec<Completion> = program.metric_measures().iter().map(|m| m.completion).collect();
        let expected = [
            Completion::Counts,
            Completion::GoodOnes,
            Completion::Latencies,
            Completion::PerRequest,
            Completion::PerSecond,
        ];
        assert_eq!(completions, expected);
    }
}
