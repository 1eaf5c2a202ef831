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
    /// Nothing: it is no count, and no slot has a part in it.
    Level,
}

/// How the points of a metric are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// They count something.
    Count,
    /// They count durations, and say how long.
    Durations,
    /// They say what something stands at.
    Level,
}

impl Reading {
    /// Whether who wants the one may read the other: a number of durations is a count.
    const fn serves(self, wanted: Self) -> bool {
        matches!(
            (self, wanted),
            (Self::Count | Self::Durations, Self::Count)
                | (Self::Durations, Self::Durations)
                | (Self::Level, Self::Level)
        )
    }
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
    /// What is wanted of them; of durations the unit must be one of time.
    reading: Reading,
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
                self.rule(all, None, total, Reading::Count);
                self.rule(some, Some(all), part, Reading::Count);
                if *is_good { Completion::GoodOnes } else { Completion::Counts }
            }
            Counted::Slower { total: all, nanos } => {
                self.rule(all, None, total, Reading::Durations);
                Completion::LongerThan(*nanos)
            }
            Counted::Latency { total: all } => {
                self.rule(all, None, total, Reading::Durations);
                Completion::Latencies
            }
            Counted::PerRequest { requests, events, .. } => {
                self.rule(events, None, part, Reading::Count);
                if requests.metric.is_some() {
                    self.rule(requests, None, total, Reading::Count);
                    Completion::Counts
                } else {
                    Completion::PerRequest
                }
            }
            Counted::Occurrences { events } => {
                self.rule(events, None, part, Reading::Count);
                Completion::PerSecond
            }
            Counted::Level { value } => {
                self.rule(value, None, total, Reading::Level);
                Completion::Level
            }
            Counted::ErrorLogs | Counted::Deaths | Counted::Requests => return false,
        };
        self.measures.push(MetricMeasure { number, key, completion });
        true
    }

    /// A part is of the metric of its whole, and within it, unless it names another.
    fn rule(&mut self, chosen: &Selection, whole: Option<&Selection>, bits: Marks, reading: Reading) {
        let named = chosen.metric.as_ref().or(whole.and_then(|whole| whole.metric.as_ref()));
        let Some(metric) = named else { return };
        let within = whole.filter(|whole| whole.metric.as_ref() == Some(metric));
        let mut attributes = chosen.attributes.clone();
        attributes.extend(within.iter().flat_map(|whole| whole.attributes.iter().cloned()));
        self.rules.push(MetricRule { metric: metric.clone(), attributes, bits, reading });
    }

    /// Bits of the totals of the measures that want durations.
    pub(super) fn durations(&self) -> Marks {
        let wanted = self.rules.iter().filter(|rule| rule.reading == Reading::Durations);
        wanted.fold(0, |bits, rule| bits | rule.bits)
    }

    pub(super) fn measures(&self) -> &[MetricMeasure] {
        &self.measures
    }

    /// The metrics that are read, and the bits of what they count for; one may occur several times.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, Marks)> {
        self.rules.iter().map(|rule| (rule.metric.as_str(), rule.bits))
    }

    /// Whether any measure is about a metric, as a gauge or as what counts.
    pub(super) fn reads(&self, name: &[u8], is_level: bool) -> bool {
        let is_meant = |rule: &MetricRule| rule.metric.as_bytes() == name;
        self.rules.iter().any(|rule| is_meant(rule) && (rule.reading == Reading::Level) == is_level)
    }

    /// What the points of a stream count for.
    pub(super) fn marks<'a>(
        &self,
        name: &[u8],
        reading: Reading,
        attribute: impl Fn(&[u8]) -> AttributeValue<'a>,
    ) -> Marks {
        let holds = |test: &AttributeTest| {
            let value = attribute(test.name.as_bytes());
            test.any.iter().any(|one| one.passes(value)) != test.is_negated
        };
        let fits = |rule: &&MetricRule| {
            rule.metric.as_bytes() == name
                && reading.serves(rule.reading)
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
            Counted::Level { value: chosen("pool", Some("x")) },
            Counted::Occurrences { events: chosen("pool", None) },
        ];
        let measures: Vec<Measure> = counted
            .into_iter()
            .map(|counted| Measure { key: MeasureKey::of(&format!("{counted:?}")), counted })
            .collect();
        let program = Program::compile(&measures).unwrap();
        let marks = |name: &str, reading: Reading, result: &'static str| {
            let value = |wanted: &[u8]| match wanted {
                b"result" if !result.is_empty() => AttributeValue::Text(result.as_bytes()),
                _ => AttributeValue::Absent,
            };
            program.metric_marks(name.as_bytes(), reading, value)
        };
        use Reading::{Count, Durations, Level};
        let rows = [
            ("payments", Durations, "ab", total_bit(0) | part_bit(0) | total_bit(1)),
            ("payments", Durations, "ac", total_bit(0) | total_bit(1)),
            // Bad, but none of all.
            ("payments", Durations, "xb", total_bit(1)),
            ("good", Count, "", part_bit(1)),
            ("took", Durations, "", total_bit(2)),
            ("took", Count, "", 0),
            ("calls", Count, "", part_bit(3)),
            ("calls", Count, "x", part_bit(3) | part_bit(4)),
            // Of one name a gauge and a counter are told apart by what they are.
            ("pool", Level, "x", total_bit(6)),
            ("pool", Level, "y", 0),
            ("pool", Count, "x", part_bit(7)),
            ("other", Durations, "x", 0),
        ];
        for (name, reading, result, expected) in rows {
            assert_eq!(marks(name, reading, result), expected, "{name} {result}");
        }
        let reads = |name: &[u8]| [false, true].map(|is_level| program.reads_metric(name, is_level));
        assert_eq!(
            [b"took", b"pool", b"else"].map(|name| reads(name)),
            [[true, false], [true; 2], [false; 2]]
        );
        assert!(program.needs_requests() && program.is_empty(), "no span counts for any of them");
        assert_eq!(program.latencies(), total_bit(2));
        let completions: Vec<Completion> = program.metric_measures().iter().map(|m| m.completion).collect();
        let expected = [
            Completion::Counts,
            Completion::GoodOnes,
            Completion::Latencies,
            Completion::PerRequest,
            Completion::PerSecond,
            Completion::Level,
            Completion::PerSecond,
        ];
        assert_eq!(completions, expected);
    }
}
