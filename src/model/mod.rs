//! The words the rest of the program speaks: time, identity, spans as borrowed views, what a span amounts
//! to once it is classified, and the byte codec of state snapshots. Nothing here knows where data comes
//! from or goes to.

mod attribute;
mod bytes;
mod dimension;
mod discard;
mod identity;
mod labels;
mod log;
mod measure;
mod observation;
mod point;
mod program;
mod resource;
mod selection;
mod sink;
pub mod snapshot;
mod source;
mod span;
mod time;

pub use attribute::Attribute;
pub use dimension::{DIMENSION_BYTES, DIMENSION_VALUES_MAX, DIMENSIONS_MAX, DimensionTexts};
pub use discard::Discard;
pub use identity::{DeploymentId, ServiceKey, VersionKey};
pub use labels::Labels;
pub use log::{ExceptionView, LogSink, LogView, SpanException};
pub use measure::{Counted, Measure, MeasureKey};
pub use observation::{Exemplar, Extra, InstanceId, Observation, SeriesId, VersionId};
pub use point::{
    BoundsId, Class, DurationUnit, Durations, Family, Level, PointKey, PointNumbers, PointObservation,
    PointView, Recalled, RecalledStream, Shape, StreamId, StreamMeta, Temporality,
};
pub use program::{
    CONDITIONS_MAX, Completion, EncodedValue, Facts, MEASURES_MAX, Marks, MetricMeasure, Program,
    QUANTITIES_MAX, Reading, Recent, SpanFacts, TooMany, part_bit, total_bit,
};
pub use resource::{ResourceAttribute, ResourceTexts, ResourceView};
pub use selection::{AttributeTest, AttributeValue, Pattern, Selection, SpanStatus, ValueTest};
pub use sink::{PointSink, SpanSink, ToldBy};
pub use source::Source;
pub use span::{MarkedSpan, Outcome, SamplingWeight, SpanKind, SpanView, StatusSource};
pub use time::{NANOS_PER_SECOND, Slot, UnixNanos};
