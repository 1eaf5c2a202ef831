//! What is remembered of points changes nothing: a sink that recalls is told the same as one that is shown
//! every attribute, over any messages in any order, and a batch commits the same.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use proptest::prelude::*;
use prost::Message;

use super::super::tests::{Pool, damage, rewritten, settings as base};
use super::oracle::{Held, Recorder, Told};
use super::tests::{calls, durations, message, request, settings, text};
use super::*;
use crate::model::{
    PointNumbers, PointObservation, PointView, RecalledStream, SeriesId, StreamId, StreamMeta, UnixNanos,
    VersionId,
};
use crate::pipeline::{Batch, Drained, Intake, Registry, RegistryLimits, Shards};

/// Remembers all, without bound.
#[derive(Default)]
struct Rememberer {
    recorder: Recorder,
    known: HashMap<PointKey, Recalled>,
    /// What the sink was told of the first point of each stream, by the number of the stream.
    first: Vec<(Vec<Told>, u128)>,
    recalled: usize,
}

impl PointSink for Rememberer {
    fn remembers(&self) -> bool {
        true
    }

    fn recall(&mut self, key: PointKey) -> Option<Recalled> {
        let recalled = self.known.get(&key).copied();
        self.recalled += usize::from(recalled.is_some());
        recalled
    }

    fn known_point(&mut self, stream: RecalledStream, numbers: &PointNumbers<'_>) {
        let (told, identity) = self.first[stream.stream.0 as usize].clone();
        let [
            resource,
            Told::Point { family, temporality, subject, operation, outcome, status, overflow, .. },
        ] = <[Told; 2]>::try_from(told).unwrap()
        else {
            panic!("two things are told of a point");
        };
        self.recorder.streams.push(identity);
        self.recorder.told.push(resource);
        self.recorder.told.push(Told::Point {
            family,
            temporality,
            subject,
            operation,
            outcome,
            status,
            overflow,
            times: (numbers.start.0, numbers.time.0),
            count: numbers.count,
            unit: numbers.unit,
            durations: Held::of(numbers.durations),
            trace_id: numbers.trace_id.to_vec(),
        });
    }

    fn remember_discard(&mut self, key: PointKey, reason: Discard) {
        self.known.insert(key, Recalled::Discarded(reason));
    }

    fn point(&mut self, resource: &ResourceView<'_>, point: &PointView<'_>) {
        self.recorder.point(resource, point);
        let Some(key) = point.key else { return };
        let stream = StreamId(self.first.len() as u32);
        let is_bad = point.outcome == Outcome::Bad;
        let told = self.recorder.told[self.recorder.told.len() - 2..].to_vec();
        self.first.push((told, point.stream));
        self.known.insert(key, Recalled::Stream(RecalledStream { stream, series: SeriesId(0), is_bad }));
    }

    fn discard_points(&mut self, reason: Discard, points: u64) {
        self.recorder.discard_points(reason, points);
    }
}

/// Other settings, by which some of the same points are read otherwise.
fn stricter() -> WalkSettings {
    WalkSettings {
        excluded_statuses: vec![404, 200],
        health_routes: vec!["GET*".into(), "/a".into()],
        ..settings()
    }
}

/// The same streams one export later: other numbers.
fn later(request: &ExportMetricsServiceRequest, add: u64) -> ExportMetricsServiceRequest {
    let mut request = request.clone();
    let metrics =
        request.resource_metrics.iter_mut().flat_map(|r| &mut r.scope_metrics).flat_map(|s| &mut s.metrics);
    for data in metrics.filter_map(|metric| metric.data.as_mut()) {
        match data {
            Data::Histogram(all) => {
                for point in &mut all.data_points {
                    point.time_unix_nano = point.time_unix_nano.wrapping_add(add);
                    if let Some(first) = point.bucket_counts.first_mut() {
                        *first += add;
                        point.count = point.count.wrapping_add(add);
                    }
                    if add.is_multiple_of(3) {
                        point.explicit_bounds.iter_mut().for_each(|bound| *bound *= 2.0);
                    }
                }
            }
            Data::Summary(all) => all.data_points.iter_mut().for_each(|point| point.count += add),
            Data::Sum(all) => all.data_points.iter_mut().for_each(|point| point.time_unix_nano = add),
            Data::ExponentialHistogram(all) => all.data_points.iter_mut().for_each(|point| point.flags ^= 1),
            Data::Gauge(_) => {}
        }
    }
    request
}

/// A message as it comes again and again: with other numbers, written otherwise, damaged.
fn series(request: &ExportMetricsServiceRequest, seed: u64) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut pool = Pool::new();
    let mut messages = Vec::new();
    for add in 0..6 {
        let message = later(request, add).encode_to_vec();
        messages.push(rewritten(&message, 8, &mut pool, &mut |n| random.u32(..n)));
        let mut damaged = message.clone();
        damage(&mut damaged, &mut random);
        messages.push(damaged);
        messages.push(message);
    }
    messages
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn who_recalls_is_told_the_same(request in request(), seed in any::<u64>()) {
        let mut rememberer = Rememberer::default();
        for message in series(&request, seed) {
            for settings in [&settings(), &stricter(), &base()] {
                rememberer.recorder = Recorder::default();
                let mut plain = Recorder::default();
                let expected = walk_metrics(&message, settings, &mut plain);
                let seen = walk_metrics(&message, settings, &mut rememberer);
                prop_assert_eq!(seen.is_err(), expected.is_err());
                if let Ok(expected) = expected {
                    prop_assert_eq!(seen.unwrap(), expected);
                }
                prop_assert_eq!(&rememberer.recorder.told, &plain.told);
                prop_assert_eq!(&rememberer.recorder.streams, &plain.streams);
            }
        }
    }

    /// Scenario: messages go into two intakes, of which one recalls; versions end and come back meanwhile, and
    /// some go over the cap. Guarantees: both commit the same points of the same streams.
    #[test]
    fn batches_that_recall_commit_the_same(request in request(), seed in any::<u64>()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let (recalling, forgetful) = (Door::new(), Door::new());
        for message in series(&request, seed) {
            let expected = forgetful.committed(&message, Forgetful);
            prop_assert_eq!(recalling.committed(&message, |batch| batch), expected);
            for version in (0..40).map(VersionId).filter(|_| random.u8(..8) == 0) {
                [&recalling, &forgetful].into_iter().for_each(|door| door.registry.retire_version(version));
            }
        }
    }
}

struct Door {
    intake: Intake,
    registry: Arc<Registry>,
    shards: Arc<Shards>,
}

impl Door {
    fn new() -> Self {
        let limits = RegistryLimits { services: 3, versions_per_service: 1, ..RegistryLimits::default() };
        let (registry, shards) = (Arc::new(Registry::new(limits)), Arc::new(Shards::new(1, 10_000)));
        Self { intake: Intake::new(Arc::clone(&registry), Arc::clone(&shards)), registry, shards }
    }

    /// The points that a message leaves for the evaluator, each with what is known of its stream; nothing where
    /// it cannot be read.
    fn committed<S: PointSink + Into<Batch>>(
        &self,
        message: &[u8],
        sink: impl FnOnce(Batch) -> S,
    ) -> Option<Vec<(PointObservation, StreamMeta, Vec<u64>)>> {
        let mut sink = sink(self.intake.begin(UnixNanos(7)));
        walk_metrics(message, &settings(), &mut sink).ok()?;
        sink.into().commit().unwrap();
        let mut drained = Drained::default();
        self.shards.drain(&mut drained);
        let known = |(point, counts): (&PointObservation, &[u64])| {
            (*point, self.registry.stream(point.stream).unwrap(), counts.to_vec())
        };
        Some(drained.points().map(known).collect())
    }
}

/// A batch that is shown every attribute.
struct Forgetful(Batch);

impl From<Forgetful> for Batch {
    fn from(forgetful: Forgetful) -> Self {
        forgetful.0
    }
}

impl PointSink for Forgetful {
    fn point(&mut self, resource: &ResourceView<'_>, point: &PointView<'_>) {
        self.0.point(resource, point);
    }

    fn discard_points(&mut self, reason: Discard, points: u64) {
        self.0.discard_points(reason, points);
    }

    fn sender_of_points(&mut self, resource: &ResourceView<'_>, points: u64) {
        self.0.sender_of_points(resource, points);
    }
}

#[test]
fn points_that_come_again_are_recalled() {
    let http = |status| {
        let attributes = vec![text("http.route", "/cart"), text("http.response.status_code", status)];
        message(durations("http.server.request.duration", "s", attributes))
    };
    let mut sink = Rememberer::default();
    let mut walk = |message: &[u8], settings: &WalkSettings| {
        let before = sink.recalled;
        walk_metrics(message, settings, &mut sink).unwrap();
        sink.recalled - before
    };
    assert_eq!(walk(&http("200"), &settings()), 0);
    assert_eq!(walk(&http("200"), &settings()), 1);
    assert_eq!(walk(&http("500"), &settings()), 0, "another stream");
    assert_eq!(walk(&http("200"), &stricter()), 0, "other settings");
    assert_eq!(walk(&http("200"), &stricter()), 1, "its discard is recalled too");
    let client = message(calls(vec![text("span.kind", "SPAN_KIND_CLIENT")]));
    assert_eq!((walk(&client, &settings()), walk(&client, &settings())), (0, 1));
    assert!(matches!(sink.recorder.told.last(), Some(Told::Discard(Discard::Kind, 1))));
}

/// Attributes that do not stand together, or whose lengths are written longer than need be, have no key: equal
/// bytes would not be equal attributes.
#[test]
fn only_a_run_of_attributes_has_a_key() {
    let attribute = |name: &str| text(name, "v").encode_to_vec();
    let field = |content: &[u8]| [&[0x3a, content.len() as u8], content].concat();
    let time = [&[0x19][..], &5u64.to_le_bytes()].concat();
    let (a, b) = (field(&attribute("a")), field(&attribute("b")));
    let long = [&[0x3a, a[1] | 0x80, 0], &a[2..]].concat();
    let run = |parts: &[&[u8]]| {
        let point = parts.concat();
        let (_, attributes) = RawPoint::read((Kind::Sum, false), &point, &mut Buckets::default()).unwrap();
        let mut count = 0;
        attributes
            .each(|_| {
                count += 1;
                Ok(())
            })
            .unwrap();
        (attributes.run().map(<[u8]>::to_vec), count)
    };
    let both = [a.as_slice(), &b].concat();
    assert_eq!(run(&[&time]), (Some(vec![]), 0));
    assert_eq!(run(&[&time, &a, &b]), (Some(both.clone()), 2));
    assert_eq!(run(&[&a, &b, &time]), (Some(both), 2));
    assert_eq!(run(&[&a, &time, &b]), (None, 2));
    assert_eq!(run(&[&long, &b]), (None, 2));
    assert_eq!(run(&[&a, &long]), (None, 2));
    assert_eq!(run(&[&a, &long, &b]), (None, 3));
}
