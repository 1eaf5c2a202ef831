//! SLIs of a policy's own as a user writes them: which records, which question, what it may decide. One that names
//! its `kind` is a definition and stands whole; one that does not changes a definition of the same name that another
//! block made.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::human;
use super::policies::buckets;
use super::values::Values;
use crate::model::{
    AttributeTest, Counted, Measure, MeasureKey, Outcome, Pattern, Selection, SpanKind, SpanStatus,
};
use crate::verdict::{OwnKind, OwnSli, OwnSource, OwnTest};

/// Quantiles that a latency may be about.
pub const QUANTILES: [f64; 4] = [0.5, 0.75, 0.95, 0.99];
/// Weight of an SLI that names none.
const WEIGHT: f64 = 0.05;
/// Increase of a share of client errors that is tolerated, and the one that a PASS must have ruled out.
const CLIENT_SLACK: [f64; 2] = [0.02, 0.04];

/// Relative change of a gauge that is tolerated: more than of what is compared at the same time, for traffic and data are
/// others than at earlier starts.
const GAUGE_MARGIN: f64 = 0.5;
/// How many more requests per unit of its share the old version may get.
const SHARE_MARGIN: f64 = 0.25;

/// What an SLI asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SliKind {
    /// Bad ones of all.
    Ratio,
    /// How long they take, at a quantile or beyond a threshold.
    Latency,
    /// Requests refused as the client's fault.
    ClientErrors,
    /// Error logs per request.
    LogErrors,
    /// Events, or a quantity, per request.
    Rate,
    /// Events per minute of an instance, as a metric counts them.
    Counter,
    /// What a gauge of each instance stands at while it is young.
    Gauge,
    /// Instances that die and are replaced, per minute of one.
    Churn,
    /// Requests, of the share that is meant to go to the candidate.
    TrafficShare,
}

impl SliKind {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ratio => "ratio",
            Self::Latency => "latency",
            Self::ClientErrors => "client_errors",
            Self::LogErrors => "log_errors",
            Self::Rate => "rate",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Churn => "churn",
            Self::TrafficShare => "traffic_share",
        }
    }
}

/// Which direction is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More.
    #[default]
    Increase,
    /// Fewer.
    Decrease,
}

/// An SLI of a policy's own. Everything may be left out: what is needed depends on the kind.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SliConfig {
    /// What it asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<SliKind>,
    /// All of them: by default every request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<SelectionConfig>,
    /// The bad ones among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad: Option<SelectionConfig>,
    /// The good ones among them; the others are bad.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub good: Option<SelectionConfig>,
    /// The events that are counted per request of `total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<SelectionConfig>,
    /// The gauge whose value is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<SelectionConfig>,
    /// The attribute that says how much, instead of 1 per event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<String>,
    /// Status codes of HTTP or RPC that count as refused; by default those that the method lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codes: Option<Values>,
    /// The quantile that is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
    /// The duration beyond which a request is slow.
    #[serde(skip_serializing_if = "Option::is_none", with = "human::optional")]
    pub threshold: Option<Duration>,
    /// The share of both versions' requests that is meant to go to the candidate, unless its deployment names another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Which direction is worse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Weight beside those of the SLIs that every service has, which are 1 together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Relative change that is "not worse".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Absolute increase that is "not worse" either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<f64>,
    /// Relative change that a PASS must have ruled out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass_margin: Option<f64>,
    /// Whether a PASS rests on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// Whether it is shown and decides nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_only: Option<bool>,
}

/// Which spans, or which points of a metric: all conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelectionConfig {
    /// The metric whose points are meant, instead of spans; then only `attributes` says more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// One of these kinds; by default requests, which are server and consumer spans.
    #[serde(skip_serializing_if = "Values::is_empty")]
    pub span_kind: Values,
    /// The span's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_name: Option<String>,
    /// The operation as verdicts name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// One of `unset`, `ok`, `error`: the span's own status.
    #[serde(skip_serializing_if = "Values::is_empty")]
    pub span_status: Values,
    /// One of `good`, `bad`, `client_error`: how Rollguard tells that the request ended.
    #[serde(skip_serializing_if = "Values::is_empty")]
    pub outcome: Values,
    /// The status code of HTTP or RPC, under whichever name the convention has it.
    #[serde(skip_serializing_if = "Values::is_empty")]
    pub status_code: Values,
    /// Attributes by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Values>,
}

/// The words of span kinds.
pub const SPAN_KINDS: [(&str, SpanKind); 6] = [
    ("unspecified", SpanKind::Unspecified),
    ("internal", SpanKind::Internal),
    ("server", SpanKind::Server),
    ("client", SpanKind::Client),
    ("producer", SpanKind::Producer),
    ("consumer", SpanKind::Consumer),
];
/// The words of span statuses.
pub const SPAN_STATUSES: [(&str, SpanStatus); 3] =
    [("unset", SpanStatus::Unset), ("ok", SpanStatus::Ok), ("error", SpanStatus::Error)];
/// The words of outcomes.
pub const OUTCOMES: [(&str, Outcome); 3] =
    [("good", Outcome::Good), ("bad", Outcome::Bad), ("client_error", Outcome::ClientError)];

/// What words stand for; unknown ones were refused when the file was checked.
fn named<T: Copy>(words: &Values, all: &[(&str, T)]) -> Vec<T> {
    let one = |word: &String| all.iter().find(|(name, _)| name == word).map(|(_, value)| *value);
    words.0.iter().filter_map(one).collect()
}

impl SelectionConfig {
    /// In the words of the core.
    pub fn resolve(&self) -> Selection {
        let attribute = |(name, values): (&String, &Values)| {
            let (any, is_negated) = values.tests();
            AttributeTest { name: name.clone(), any, is_negated }
        };
        Selection {
            metric: self.metric.clone(),
            kinds: named(&self.span_kind, &SPAN_KINDS),
            name: self.span_name.as_deref().map(Pattern::new),
            operation: self.operation.as_deref().map(Pattern::new),
            outcomes: named(&self.outcome, &OUTCOMES),
            statuses: named(&self.span_status, &SPAN_STATUSES),
            codes: self.status_code.tests().0,
            attributes: self.attributes.iter().map(attribute).collect(),
        }
    }
}

impl SliConfig {
    /// Whether it defines an SLI, rather than changing one.
    pub fn is_definition(&self) -> bool {
        self.kind.is_some()
    }

    /// Lays another block's SLI of the same name over this one.
    pub fn overlay(&mut self, over: &Self) {
        if over.is_definition() {
            self.clone_from(over);
            return;
        }
        macro_rules! over {
            ($($field:ident),*) => {$(
                if over.$field.is_some() {
                    self.$field.clone_from(&over.$field);
                }
            )*};
        }
        over!(direction, margin, slack, pass_margin, required);
        // A weight takes "report only" back, and the other way round.
        if over.weight.is_some() || over.report_only.is_some() {
            (self.weight, self.report_only) = (over.weight, over.report_only);
        }
    }

    /// What it counts; `None` where it changes another one only.
    pub fn counted(&self) -> Option<Counted> {
        let of = |selection: &Option<SelectionConfig>| selection.clone().unwrap_or_default().resolve();
        let mut total = of(&self.total);
        Some(match self.kind? {
            SliKind::Ratio => {
                let is_good = self.good.is_some();
                let mut part = of(if is_good { &self.good } else { &self.bad });
                // All are those of the same metric, unless another one is named.
                if total.metric.is_none() {
                    total.metric.clone_from(&part.metric);
                } else if part.metric.is_none() {
                    part.metric.clone_from(&total.metric);
                }
                Counted::Share { total, part, is_good }
            }
            SliKind::Counter => Counted::Occurrences { events: of(&self.events) },
            SliKind::Gauge => Counted::Level { value: of(&self.value) },
            SliKind::ClientErrors => {
                let part = match &self.codes {
                    Some(codes) => Selection { codes: codes.tests().0, ..Selection::default() },
                    None => Selection { outcomes: vec![Outcome::ClientError], ..Selection::default() },
                };
                Counted::Share { total, part, is_good: false }
            }
            SliKind::Latency => match self.threshold {
                Some(threshold) => {
                    Counted::Slower { total, nanos: u64::try_from(threshold.as_nanos()).unwrap_or(u64::MAX) }
                }
                None => Counted::Latency { total },
            },
            SliKind::LogErrors => Counted::ErrorLogs,
            SliKind::Churn => Counted::Deaths,
            SliKind::TrafficShare => Counted::Requests,
            SliKind::Rate => Counted::PerRequest {
                events: self.events.as_ref().map_or_else(|| total.clone(), SelectionConfig::resolve),
                requests: total,
                quantity: self.quantity.clone(),
            },
        })
    }

    /// In the words of the core, under an objective for good requests.
    pub fn resolve(&self, name: &str, slo: f64) -> Option<OwnSli> {
        let (kind, counted) = (self.kind?, self.counted()?);
        // Nothing is concurrent in the comparison of a gauge, and how a router splits requests is no fault of the version:
        // they decide only where they are given weight.
        let default = if matches!(kind, SliKind::Gauge | SliKind::TrafficShare) { 0.0 } else { WEIGHT };
        let report_only = self.report_only == Some(true);
        Some(OwnSli {
            name: name.to_owned(),
            kind: match kind {
                SliKind::Ratio => OwnKind::Ratio,
                SliKind::Latency => OwnKind::Latency,
                SliKind::ClientErrors => OwnKind::ClientErrors,
                SliKind::LogErrors => OwnKind::LogErrors,
                SliKind::Rate => OwnKind::Rate,
                SliKind::Counter => OwnKind::Counter,
                SliKind::Gauge => OwnKind::Gauge,
                SliKind::Churn => OwnKind::Churn,
                SliKind::TrafficShare => OwnKind::TrafficShare,
            },
            source: match kind {
                SliKind::LogErrors => OwnSource::Logs,
                _ if counted.is_of_metrics() => OwnSource::Metrics,
                _ => OwnSource::Spans,
            },
            measure: Measure { key: MeasureKey::of(&format!("{counted:?}")), counted },
            test: self.test(kind, 1.0 - slo),
            weight: if report_only { 0.0 } else { self.weight.unwrap_or(default) },
            // No PASS rests on these, also where another block says so of any SLI of that name.
            required: self.required == Some(true) && !matches!(kind, SliKind::Gauge | SliKind::TrafficShare),
        })
    }

    /// The question, with the margins of its kind where none are written. `budget` is what the objective leaves.
    fn test(&self, kind: SliKind, budget: f64) -> OwnTest {
        if let Some(at) = self.quantile.and_then(|q| QUANTILES.iter().position(|known| *known == q)) {
            return OwnTest::Latency {
                quantile: at as u8,
                margin: buckets(self.margin.unwrap_or(0.09)),
                pass_margin: buckets(self.pass_margin.unwrap_or(0.24)),
            };
        }
        if kind == SliKind::Gauge {
            return OwnTest::Gauge {
                ratio: 1.0 + self.margin.unwrap_or(GAUGE_MARGIN),
                slack: self.slack.unwrap_or(0.0),
                is_decrease: self.direction == Some(Direction::Decrease),
            };
        }
        if kind == SliKind::TrafficShare {
            return OwnTest::Share { ratio: 1.0 + self.margin.unwrap_or(SHARE_MARGIN), share: self.share };
        }
        let (margin, slack, pass_slack, is_share) = match kind {
            SliKind::Ratio | SliKind::Latency => (0.1, 0.1 * budget, budget, true),
            SliKind::ClientErrors => (0.5, CLIENT_SLACK[0], CLIENT_SLACK[1], true),
            SliKind::LogErrors
            | SliKind::Rate
            | SliKind::Counter
            | SliKind::Gauge
            | SliKind::Churn
            | SliKind::TrafficShare => (0.25, 0.0, 0.0, false),
        };
        // Exposure is counted in seconds, and people count in minutes.
        let unit = if matches!(kind, SliKind::Counter | SliKind::Churn) { 60.0 } else { 1.0 };
        OwnTest::Rate {
            ratio: 1.0 + self.margin.unwrap_or(margin),
            delta: self.slack.unwrap_or(slack) / unit,
            is_decrease: self.direction == Some(Direction::Decrease),
            is_share,
            pass_ratio: 1.0 + self.pass_margin.unwrap_or(1.0),
            pass_delta: self.slack.map_or(pass_slack, |slack| pass_slack.max(2.0 * slack)) / unit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sli(yaml: &str) -> SliConfig {
        serde_saphyr::from_str(yaml).unwrap_or_else(|e| panic!("{yaml}: {e}"))
    }

    #[test]
    fn each_kind_has_its_margins() {
        let rate = |yaml: &str| match sli(yaml).resolve("a", 0.99).unwrap().test {
            OwnTest::Rate { ratio, delta, is_decrease, is_share, .. } => {
                (ratio, delta, is_decrease, is_share)
            }
            other => panic!("{other:?}"),
        };
        let near = |a: (f64, f64, bool, bool), b: (f64, f64, bool, bool)| {
            assert!((a.0 - b.0).abs() < 1e-12 && (a.1 - b.1).abs() < 1e-12, "{a:?} {b:?}");
            assert_eq!((a.2, a.3), (b.2, b.3));
        };
        near(rate("{kind: ratio, bad: {outcome: bad}}"), (1.1, 0.001, false, true));
        near(rate("{kind: client_errors, codes: [401, 403]}"), (1.5, 0.02, false, true));
        near(rate("{kind: rate, events: {span_kind: client}}"), (1.25, 0.0, false, false));
        near(rate("{kind: rate, events: {}, direction: decrease, margin: 0.5}"), (1.5, 0.0, true, false));
        near(rate("{kind: log_errors, slack: 0.01}"), (1.25, 0.01, false, false));
        near(rate("{kind: latency, threshold: 300ms}"), (1.1, 0.001, false, true));
        near(rate("{kind: counter, events: {metric: m}}"), (1.25, 0.0, false, false));
        near(rate("{kind: churn, slack: 0.06}"), (1.25, 0.001, false, false));
        near(rate("{kind: counter, events: {metric: m}, slack: 0.6}"), (1.25, 0.01, false, false));
        let latency = sli("{kind: latency, quantile: 0.95}").resolve("a", 0.99).unwrap();
        assert_eq!(latency.test, OwnTest::Latency { quantile: 2, margin: 4, pass_margin: 10 });
        let gauge =
            |words: &str| sli(&format!("{{kind: gauge, value: {{metric: m}}{words}}}")).resolve("a", 0.99);
        let shown = gauge("").unwrap();
        assert_eq!(shown.test, OwnTest::Gauge { ratio: 1.5, slack: 0.0, is_decrease: false });
        assert_eq!((shown.weight, gauge(", weight: 0.05").unwrap().weight), (0.0, 0.05));
        let share = |words: &str| sli(&format!("{{kind: traffic_share{words}}}")).resolve("a", 0.99).unwrap();
        assert_eq!(share(", share: 0.1").test, OwnTest::Share { ratio: 1.25, share: Some(0.1) });
        assert_eq!(share(", margin: 1").test, OwnTest::Share { ratio: 2.0, share: None });
        assert_eq!((share("").weight, share(", weight: 0.05").weight), (0.0, 0.05));
        let fewer = gauge(", direction: decrease, margin: 0.2, slack: 20").unwrap().test;
        assert_eq!(fewer, OwnTest::Gauge { ratio: 1.2, slack: 20.0, is_decrease: true });
    }

    #[test]
    fn what_names_a_metric_is_of_metrics() {
        let rows = [
            ("{kind: ratio, bad: {metric: m, attributes: {x: a}}}", OwnSource::Metrics),
            ("{kind: ratio, total: {metric: m}, good: {attributes: {x: a}}}", OwnSource::Metrics),
            ("{kind: rate, events: {metric: m}}", OwnSource::Metrics),
            ("{kind: latency, total: {metric: m}, quantile: 0.95}", OwnSource::Metrics),
            ("{kind: counter, events: {metric: m}}", OwnSource::Metrics),
            ("{kind: gauge, value: {metric: m}}", OwnSource::Metrics),
            ("{kind: rate, events: {span_kind: client}}", OwnSource::Spans),
            ("{kind: log_errors}", OwnSource::Logs),
            ("{kind: churn}", OwnSource::Spans),
            ("{kind: traffic_share, share: 0.1}", OwnSource::Spans),
        ];
        for (yaml, source) in rows {
            assert_eq!(sli(yaml).resolve("a", 0.999).unwrap().source, source, "{yaml}");
        }
    }

    #[test]
    fn the_key_is_of_what_is_counted_and_nothing_else() {
        let key = |yaml: &str| sli(yaml).resolve("a", 0.999).unwrap().measure.key;
        let one = key("{kind: ratio, bad: {status_code: [401, \"402..403\"]}}");
        assert_eq!(
            one,
            key("{kind: ratio, bad: {status_code: [\"401\", \"402..403\"]}, weight: 0.2, margin: 1}")
        );
        assert_ne!(one, key("{kind: ratio, good: {status_code: [401, \"402..403\"]}}"));
        assert_ne!(one, key("{kind: ratio, bad: {status_code: 401}}"));
    }

    #[test]
    fn a_block_changes_what_another_defined() {
        let mut base = sli("{kind: ratio, bad: {outcome: bad}, weight: 0.2}");
        base.overlay(&sli("{report_only: true, required: false}"));
        assert_eq!(base.resolve("a", 0.999).unwrap().weight, 0.0);
        base.overlay(&sli("{weight: 0.3}"));
        let own = base.resolve("a", 0.999).unwrap();
        assert_eq!((own.weight, own.kind), (0.3, OwnKind::Ratio));
        base.overlay(&sli("{kind: log_errors}"));
        assert_eq!(base, sli("{kind: log_errors}"));
        assert_eq!(SliConfig::default().resolve("a", 0.999), None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let written = sli(
            "{kind: rate, total: {operation: 'GET *'}, events: {span_kind: [client, producer], attributes: {a.b: [true, 5, 'x*']}}}",
        );
        let text = serde_json::to_string(&written).unwrap();
        assert_eq!(serde_json::from_str::<SliConfig>(&text).unwrap(), written);
        assert!(!text.contains("null"), "{text}");
    }
}
