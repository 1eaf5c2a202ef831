//! The words the rest of the program speaks: time, identity, spans as borrowed views, what a span amounts
//! to once it is classified, and the byte codec of state snapshots. Nothing here knows where data comes
//! from or goes to.

mod discard;
mod identity;
mod labels;
mod log;
mod observation;
mod point;
mod resource;
mod sink;
pub mod snapshot;
mod source;
mod span;
mod time;

pub use discard::Discard;
pub use identity::{DeploymentId, ServiceKey, VersionKey};
pub use labels::Labels;
pub use log::{ExceptionView, LogSink, LogView, SpanException};
pub use observation::{Exemplar, InstanceId, Observation, SeriesId, VersionId};
pub use point::{
    BoundsId, Class, DurationUnit, Durations, Family, PointObservation, PointView, Shape, StreamId,
    StreamMeta, Temporality,
};
pub use resource::{ResourceAttribute, ResourceTexts, ResourceView};
pub use sink::{PointSink, SpanSink};
pub use source::Source;
pub use span::{Outcome, SamplingWeight, SpanKind, SpanView, StatusSource};
pub use time::{NANOS_PER_SECOND, Slot, UnixNanos};
