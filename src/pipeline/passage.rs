//! What a receiver needs of the rest of the program, as traits: someone who takes spans, and someone who
//! passes received bytes on. The receiver knows neither the shards nor the exporters behind them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use super::shards::Room;
use super::{Batch, Disposition, Intake, Refused};
use crate::model::{LogSink, PointSink, SpanSink, UnixNanos};

/// A kind of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
}

impl Signal {
    /// All signals.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// The word used in paths and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

/// Takes the spans of requests.
pub trait Admission: Clone + Send + Sync + 'static {
    /// What the spans of one request are put into.
    type Batch: AdmissionBatch;
    /// Begins the batch of a request that arrived at `arrival`.
    fn begin(&self, arrival: UnixNanos) -> Self::Batch;
    /// Records of a message that came before, byte by byte, and is not read again.
    fn duplicate(&self, signal: Signal, records: u64);
    /// A request that arrived at `arrival` was refused because this exporter had no room.
    fn blinded(&self, data: DataType, by: &Arc<str>, arrival: UnixNanos);
}

/// The records of one request. Nothing is counted until it is committed; dropped, it is forgotten.
pub trait AdmissionBatch: SpanSink + PointSink + LogSink + Send + 'static {
    /// Room for the records, given back when it is dropped unused.
    type Room: Send;
    /// Makes sure that there is room for everything.
    ///
    /// # Errors
    /// [`Refused`] when there is none; nothing was counted then but the refusal.
    fn reserve(&self) -> Result<Self::Room, Refused>;
    /// Hands everything over. It cannot fail: the room is there.
    fn commit(self, room: Self::Room);
}

impl Admission for Intake {
    type Batch = Batch;

    fn begin(&self, arrival: UnixNanos) -> Batch {
        Self::begin(self, arrival)
    }

    fn duplicate(&self, signal: Signal, records: u64) {
        let ledger = self.shards.ledger();
        ledger.receive(signal, records);
        ledger.settle(signal, Disposition::Duplicate, records);
    }

    fn blinded(&self, data: DataType, by: &Arc<str>, arrival: UnixNanos) {
        self.shards.note_refusal(data, by, arrival);
    }
}

impl AdmissionBatch for Batch {
    type Room = Room;

    fn reserve(&self) -> Result<Room, Refused> {
        Self::reserve(self)
    }

    fn commit(self, room: Room) {
        Self::commit_into(self, room);
    }
}

/// What may be passed on: the signals, and profiles, which are not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataType {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
    /// Profiles: in development, passed through unread.
    Profiles,
}

impl DataType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Traces, Self::Metrics, Self::Logs, Self::Profiles];

    /// The word used in paths and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Profiles => "profiles",
        }
    }

    /// The signal that it is read as; `None` for what is not read.
    pub const fn signal(self) -> Option<Signal> {
        match self {
            Self::Traces => Some(Signal::Traces),
            Self::Metrics => Some(Signal::Metrics),
            Self::Logs => Some(Signal::Logs),
            Self::Profiles => None,
        }
    }
}

impl From<Signal> for DataType {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Traces => Self::Traces,
            Signal::Metrics => Self::Metrics,
            Signal::Logs => Self::Logs,
        }
    }
}

/// Headers, or gRPC metadata, that go along with a message because the configuration says so: what tells
/// tenants apart, mostly. Names are in lower case. Values may be secrets, so `Debug` shows none.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Metadata(Option<Arc<[Header]>>);

/// Name and value.
type Header = (Box<str>, Box<[u8]>);

impl Metadata {
    /// From names and values; several values of a name keep their order.
    pub fn new(headers: impl IntoIterator<Item = (Box<str>, Box<[u8]>)>) -> Self {
        let headers: Arc<[_]> = headers.into_iter().collect();
        Self((!headers.is_empty()).then_some(headers))
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().flat_map(|headers| headers.iter()).map(|(name, value)| (&**name, &**value))
    }

    /// Whether nothing goes along.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What of it has one of these names.
    #[must_use]
    pub fn only(&self, names: &[Box<str>]) -> Self {
        let wanted = |name: &str| names.iter().any(|n| **n == *name);
        if self.iter().all(|(name, _)| wanted(name)) {
            return self.clone();
        }
        Self::new(self.iter().filter(|(name, _)| wanted(name)).map(|(n, v)| (n.into(), v.into())))
    }

    /// What [`Metadata::to_bytes`] made bytes of; `None` for other bytes.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut part = || {
            let (length, rest) = bytes.split_first_chunk()?;
            let (part, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
            bytes = rest;
            Some(part)
        };
        let mut headers: Vec<Header> = Vec::new();
        while let Some(name) = part() {
            headers.push((std::str::from_utf8(name).ok()?.into(), part()?.into()));
        }
        bytes.is_empty().then(|| Self::new(headers))
    }

    /// Bytes that [`Metadata::to_bytes`] makes of what has one of these names.
    pub fn bytes_of(&self, names: &[Box<str>]) -> usize {
        let wanted = self.iter().filter(|(name, _)| names.iter().any(|n| **n == **name));
        wanted.map(|(name, value)| 2 * size_of::<u64>() + name.len() + value.len()).sum()
    }

    /// As bytes that differ wherever the metadata does.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in self.iter() {
            for part in [name.as_bytes(), value] {
                out.extend_from_slice(&(part.len() as u64).to_le_bytes());
                out.extend_from_slice(part);
            }
        }
        out
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// A message that is passed on.
#[derive(Debug, Clone)]
pub struct Passage {
    /// The bytes of the export request.
    pub message: Bytes,
    /// How many spans, data points or log records it holds; 1 for profiles, which are not read.
    pub records: u64,
    /// What goes along.
    pub metadata: Metadata,
}

/// An exporter that refuses has no room now; later there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// Its name in the configuration.
    pub exporter: Arc<str>,
}

/// What [`Permit::append`] answers, once it is done.
pub type Appended<'a> = Pin<Box<dyn Future<Output = Result<(), Full>> + Send + 'a>>;

/// Passes received messages on unchanged, to as many exporters as there are for them.
pub trait Downstream: Send + Sync {
    /// Whether anybody takes this kind of data.
    fn takes(&self, data: DataType) -> bool;

    /// Names of the headers, in lower case, that some exporter passes on.
    fn metadata_keys(&self) -> &[Box<str>];

    /// Reserves room for a message and what goes along with every exporter that takes its kind, so that a request is either both
    /// counted and passed on or neither. `None` where it goes nowhere.
    ///
    /// # Errors
    /// [`Full`] when an exporter that refuses has no room; nothing is reserved then anywhere.
    fn reserve(
        &self,
        data: DataType,
        message: &Bytes,
        metadata: &Metadata,
    ) -> Result<Option<Box<dyn Permit>>, Full>;
}

/// Reserved room. Dropped unused, it is given back.
pub trait Permit: Send {
    /// Whether [`Permit::append`] has something to do.
    fn appends(&self) -> bool {
        false
    }

    /// Writes the message to the queues on disk, before anything counts.
    ///
    /// # Errors
    /// [`Full`] when a queue that refuses could not be written and no other was yet: nothing is passed on
    /// then. Once one was written, a queue that cannot be is a counted drop of its exporter.
    fn append<'a>(&'a mut self, _: &'a Passage) -> Appended<'a> {
        Box::pin(async { Ok(()) })
    }

    /// Passes the message on. It cannot fail.
    fn send(self: Box<Self>, passage: Passage);
}

/// Nothing is passed on.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDownstream;

impl Downstream for NoDownstream {
    fn takes(&self, _: DataType) -> bool {
        false
    }

    fn metadata_keys(&self) -> &[Box<str>] {
        &[]
    }

    fn reserve(&self, _: DataType, _: &Bytes, _: &Metadata) -> Result<Option<Box<dyn Permit>>, Full> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(headers: &[(&str, &str)]) -> Metadata {
        Metadata::new(headers.iter().map(|(n, v)| (Box::from(*n), Box::from(v.as_bytes()))))
    }

    /// What a process of an earlier version left in a queue on disk is read by this one: `docs/queue-format.md`.
    #[test]
    fn metadata_is_kept_as_these_bytes() {
        let headers = metadata(&[("x-tenant", "a"), ("x-tenant", ""), ("n", "\u{fc}")]);
        let bytes = b"\x08\0\0\0\0\0\0\0x-tenant\x01\0\0\0\0\0\0\0a\
            \x08\0\0\0\0\0\0\0x-tenant\0\0\0\0\0\0\0\0\
            \x01\0\0\0\0\0\0\0n\x02\0\0\0\0\0\0\0\xc3\xbc";
        assert_eq!(headers.to_bytes(), bytes);
        assert_eq!(Metadata::from_bytes(bytes), Some(headers));
        assert_eq!(Metadata::default().to_bytes(), b"");
        assert_eq!(Metadata::from_bytes(b""), Some(Metadata::default()));
    }

    #[test]
    fn metadata_is_told_apart_and_narrowed() {
        let both = metadata(&[("x-tenant", "a"), ("x-region", "eu")]);
        assert_eq!(both.only(&["x-tenant".into()]), metadata(&[("x-tenant", "a")]));
        assert!(both.only(&[]).is_empty());
        assert_eq!(both.only(&["x-region".into(), "x-tenant".into()]), both);
        let all = [metadata(&[]), both, metadata(&[("x-tenant", "ab")]), metadata(&[("x-tenanta", "b")])];
        for (i, one) in all.iter().enumerate() {
            let bytes = one.to_bytes();
            let names: Vec<Box<str>> = one.iter().map(|(name, _)| name.into()).collect();
            assert_eq!(one.bytes_of(&names), bytes.len());
            assert_eq!(one.bytes_of(&["x-tenant".into()]), one.only(&["x-tenant".into()]).to_bytes().len());
            assert_eq!(Metadata::from_bytes(&bytes).as_ref(), Some(one));
            // A cut between two headers leaves fewer of them; whoever keeps the bytes keeps their length.
            let ends = one.iter().scan(0, |end, (name, value)| {
                *end += 2 * size_of::<u64>() + name.len() + value.len();
                Some(*end)
            });
            let ends: Vec<usize> = ends.collect();
            for end in (1..bytes.len()).filter(|end| !ends.contains(end)) {
                assert_eq!(Metadata::from_bytes(&bytes[..end]), None, "{end} bytes of {one:?}");
            }
            for (j, other) in all.iter().enumerate() {
                assert_eq!(one.to_bytes() == other.to_bytes(), i == j, "{one:?} {other:?}");
            }
        }
        assert!(!format!("{:?}", metadata(&[("authorization", "secret")])).contains("secret"));
    }
}
