//! Gauges that SLIs read: what a point stands at, and what is no gauge.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data,
    number_data_point::Value as Number,
};
use prost::Message;

use super::tests::settings;
use super::*;
use crate::model::{Counted, Measure, MeasureKey, Selection, ValueTest, total_bit};

/// Keeps levels with what they count for, and what is discarded.
#[derive(Default)]
struct Levels {
    shown: Vec<(u64, Option<f64>)>,
    discarded: Vec<Discard>,
}

impl PointSink for Levels {
    /// 0: the gauge `pool` where `state` is `used`; 1: the counter `events`.
    fn metric_program(&mut self, _: &ResourceView<'_>) -> Option<Arc<Program>> {
        let used = crate::model::AttributeTest {
            name: "state".into(),
            any: vec![ValueTest::new("used")],
            is_negated: false,
        };
        let named = |metric: &str, attributes| Selection {
            metric: Some(metric.into()),
            attributes,
            ..Selection::default()
        };
        let counted = [
            Counted::Level { value: named("pool", vec![used]) },
            Counted::Occurrences { events: named("events", Vec::new()) },
        ];
        let measures =
            counted.map(|counted| Measure { key: MeasureKey::of(&format!("{counted:?}")), counted });
        Some(Arc::new(Program::compile(&measures).unwrap()))
    }

    fn point(&mut self, _: &ResourceView<'_>, point: &PointView<'_>) {
        assert_eq!(point.family, Family::Measure);
        self.shown.push((point.marks, point.numbers.level));
    }

    fn discard_points(&mut self, reason: Discard, points: u64) {
        assert_eq!(points, 1);
        self.discarded.push(reason);
    }
}

fn point(state: &str, value: Option<Number>) -> NumberDataPoint {
    let text = Some(AnyValue { value: Some(Value::StringValue(state.into())) });
    NumberDataPoint {
        attributes: vec![KeyValue { key: "state".into(), value: text, key_strindex: 0 }],
        time_unix_nano: 5,
        value,
        ..Default::default()
    }
}

fn gauge(name: &str, point: NumberDataPoint) -> Metric {
    let data = Some(Data::Gauge(Gauge { data_points: vec![point] }));
    Metric { name: name.into(), data, ..Default::default() }
}

fn sum(name: &str, point: NumberDataPoint, (aggregation_temporality, is_monotonic): (i32, bool)) -> Metric {
    let data = Some(Data::Sum(Sum { data_points: vec![point], aggregation_temporality, is_monotonic }));
    Metric { name: name.into(), data, ..Default::default() }
}

#[test]
fn a_gauge_is_what_it_stands_at_and_a_counter_is_none() {
    let used = |value| point("used", Some(value));
    let rows = [
        ("a double", gauge("pool", used(Number::AsDouble(-0.5))), Ok(-0.5)),
        ("a whole number", gauge("pool", used(Number::AsInt(-3))), Ok(-3.0)),
        ("an up/down counter", sum("pool", used(Number::AsInt(7)), (2, false)), Ok(7.0)),
        ("its changes", sum("pool", used(Number::AsInt(7)), (1, false)), Err(Discard::Temporality)),
        ("of no temporality", sum("pool", used(Number::AsInt(7)), (0, false)), Err(Discard::Temporality)),
        ("a counter", sum("pool", used(Number::AsInt(7)), (2, true)), Err(Discard::Kind)),
        ("a gauge for a counter", gauge("events", used(Number::AsInt(7))), Err(Discard::Kind)),
        ("not finite", gauge("pool", used(Number::AsDouble(f64::NAN))), Err(Discard::Numbers)),
        ("nothing", gauge("pool", point("used", None)), Err(Discard::Numbers)),
        ("other attributes", gauge("pool", point("idle", Some(Number::AsInt(7)))), Err(Discard::MetricName)),
        ("of no interest", gauge("threads", used(Number::AsInt(7))), Err(Discard::MetricName)),
    ];
    for (what, metric, expected) in rows {
        let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..Default::default() }];
        let envelope = ResourceMetrics { scope_metrics, ..Default::default() };
        let message = ExportMetricsServiceRequest { resource_metrics: vec![envelope] }.encode_to_vec();
        let mut levels = Levels::default();
        walk_metrics(&message, &settings(), &mut levels).unwrap();
        match expected {
            Ok(value) => assert_eq!(levels.shown, [(total_bit(0), Some(value))], "{what}"),
            Err(reason) => assert_eq!((levels.shown, levels.discarded), (Vec::new(), vec![reason]), "{what}"),
        }
    }
}
