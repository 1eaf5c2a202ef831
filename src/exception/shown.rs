//! Which exceptions each version of a service has shown, as long as it is remembered: so that one which only
//! the new version shows can be told from one which it shares with those before it.
//!
//! What a version showed is remembered for 30 minutes of its own traffic: a version that went away keeps what
//! it showed last, as its other memory does. Where the table is full nothing is called new for 30 minutes, for
//! what the versions before showed could be among what found no room.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Exception, Fingerprint};
use crate::model::Slot;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer, snapshot_fields};

/// Seconds of a version's traffic for which what it showed is remembered.
pub const REMEMBERED_S: u32 = 1800;
/// Seconds of traffic of the versions before below which nothing is called new: who was watched for a moment
/// only has not shown what it usually shows.
pub const WATCHED_S: u32 = 300;
/// Fingerprints of one service.
const FINGERPRINTS: usize = 256;
/// Bytes of the names of one service's exceptions; with what is kept beside them a full table takes about 400 kB at most.
const NAME_BYTES: usize = 128 * 1024;
/// Versions of one service whose exceptions are told apart; the one silent for longest goes first.
const VERSIONS: usize = 8;
/// Trace ids kept of an exception of one version.
const TRACES: usize = 3;
/// Attribute values kept of an exception of one version, where the configuration allows any.
const VALUES: usize = 8;

/// A version, and how long it was watched.
#[derive(Debug, Clone, Default, PartialEq)]
struct Watched {
    /// First second in which anything of it was seen.
    first: Slot,
    /// Last second in which it had traffic.
    last: Slot,
    /// Seconds in which it had traffic.
    seconds: u32,
    /// What it showed, by fingerprint.
    shown: BTreeMap<Fingerprint, Showing>,
}

/// An exception of one version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Showing {
    /// First second.
    pub first: Slot,
    /// Seconds of traffic the version had had when it was last shown.
    pub seconds: u32,
    /// How often.
    pub count: u64,
    /// A version that was there before showed it too, at a time when that was remembered.
    pub is_shared: bool,
    /// An event of a span told of it, not log records only.
    pub is_of_span: bool,
    /// Trace ids of the first ones.
    pub traces: Vec<[u8; 16]>,
    /// Name and value of attributes that the configuration allows to be shown, the first ones of each.
    pub values: Vec<(String, String)>,
}

/// What one occurrence of an exception adds.
#[derive(Debug, Clone, Default)]
pub struct Occurrence<'a> {
    /// The second of event time.
    pub slot: Slot,
    /// Trace id.
    pub trace_id: Option<[u8; 16]>,
    /// Attributes that may be shown.
    pub values: &'a [(String, String)],
    /// Whether it came in time and counts; one that came late only says that the version shows it.
    pub counts: bool,
    /// Whether a log record told of it; else an event of a span.
    pub is_record: bool,
}

/// An exception that only the version in question shows.
#[derive(Debug, Clone, PartialEq)]
pub struct New {
    /// By name.
    pub exception: Arc<Exception>,
    /// How it was shown.
    pub showing: Showing,
}

/// What is new of a version, and what to make of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct News {
    /// The most frequent ones first.
    pub new: Vec<New>,
    /// How many types would be new by chance alone if the version showed the same exceptions as those before.
    pub expected: f64,
    /// Seconds of traffic for which the versions before were watched, of the one watched longest.
    pub watched_s: u32,
    /// Whether the table had room for everything; where not, nothing is new.
    pub is_complete: bool,
}

/// The exceptions of one service.
#[derive(Debug, Default, PartialEq)]
pub struct Shown {
    versions: BTreeMap<Arc<str>, Watched>,
    names: BTreeMap<Fingerprint, Arc<Exception>>,
    name_bytes: usize,
    /// Until then something may be missing.
    incomplete_until: Slot,
}

impl Shown {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// A version shows an exception; `false` where it found no room.
    pub fn show(
        &mut self,
        version: &Arc<str>,
        exception: &Arc<Exception>,
        occurrence: &Occurrence<'_>,
    ) -> bool {
        let fingerprint = exception.fingerprint;
        if !self.names.contains_key(&fingerprint) && !self.name(exception, occurrence.slot) {
            return false;
        }
        let own_first = self.watched(version, occurrence.slot).first;
        let mut is_shared = false;
        for (_, other) in self.versions.iter_mut().filter(|(label, _)| *label != version) {
            if let Some(showing) = other.shown.get_mut(&fingerprint) {
                is_shared |= other.first < own_first;
                showing.is_shared |= own_first < other.first;
            }
        }
        let watched = self.watched(version, occurrence.slot);
        let seconds = watched.seconds;
        let showing = watched.shown.entry(fingerprint).or_default();
        showing.is_shared |= is_shared;
        showing.is_of_span |= !occurrence.is_record;
        if showing.count == 0 && showing.traces.is_empty() {
            showing.first = occurrence.slot;
        }
        showing.seconds = seconds;
        if !occurrence.counts {
            return true;
        }
        showing.first = showing.first.min(occurrence.slot);
        showing.count += 1;
        if showing.traces.len() < TRACES {
            showing.traces.extend(occurrence.trace_id);
        }
        for value in occurrence.values {
            if showing.values.len() < VALUES && !showing.values.contains(value) {
                showing.values.push(value.clone());
            }
        }
        true
    }

    /// The version was watched for `seconds` of traffic since `first` and showed nothing.
    pub fn watched_before(&mut self, version: &Arc<str>, first: Slot, seconds: u32) {
        let watched = self.watched(version, first);
        watched.first = watched.first.min(first);
        watched.seconds = watched.seconds.max(seconds);
    }

    /// A second in which the version had traffic is over.
    pub fn second(&mut self, version: &Arc<str>, slot: Slot) {
        let watched = self.watched(version, slot);
        watched.seconds = watched.seconds.saturating_add(1);
        watched.last = watched.last.max(slot);
        let seconds = watched.seconds;
        if seconds.is_multiple_of(60) {
            watched.shown.retain(|_, showing| seconds - showing.seconds <= REMEMBERED_S);
            self.forget_names();
        }
    }

    /// What only `candidate` has shown since `since`: no version that was there before it has. A baseline is
    /// one that was there before, whenever it came. Where the baseline sends no logs (`baseline_logs`), log
    /// records of the candidate say nothing new: the baseline may throw the same and not tell.
    pub fn news(
        &self,
        candidate: &str,
        baseline: Option<&str>,
        since: Slot,
        now: Slot,
        baseline_logs: bool,
    ) -> News {
        let is_complete = now >= self.incomplete_until;
        let Some(own) = self.versions.get(candidate) else {
            let watched_s = self.watched_s(|label, _| label != candidate);
            return News { watched_s, is_complete, ..News::default() };
        };
        let is_before = |label: &str, other: &Watched| {
            label != candidate && (other.first < own.first || Some(label) == baseline)
        };
        let watched_s = self.watched_s(is_before);
        let before: Vec<&Watched> =
            self.versions.iter().filter(|(l, w)| is_before(l, w)).map(|(_, w)| w).collect();
        let mut news = News { watched_s, is_complete, ..News::default() };
        if watched_s < WATCHED_S || !is_complete {
            return news;
        }
        news.expected = expected(own, &before);
        let is_new = |fingerprint: &Fingerprint, showing: &Showing| {
            showing.count > 0
                && !showing.is_shared
                && (baseline_logs || showing.is_of_span)
                && showing.first >= since
                && !before.iter().any(|other| other.shown.contains_key(fingerprint))
        };
        let new = own.shown.iter().filter(|(f, s)| is_new(f, s)).filter_map(|(fingerprint, showing)| {
            let exception = Arc::clone(self.names.get(fingerprint)?);
            Some(New { exception, showing: showing.clone() })
        });
        news.new = new.collect();
        news.new.sort_by(|a, b| {
            b.showing.count.cmp(&a.showing.count).then_with(|| a.exception.kind.cmp(&b.exception.kind))
        });
        news
    }

    fn watched_s(&self, is_before: impl Fn(&str, &Watched) -> bool) -> u32 {
        self.versions.iter().filter(|(l, w)| is_before(l, w)).map(|(_, w)| w.seconds).max().unwrap_or(0)
    }

    fn watched(&mut self, version: &Arc<str>, slot: Slot) -> &mut Watched {
        if !self.versions.contains_key(version) && self.versions.len() >= VERSIONS {
            let silent = self.versions.iter().min_by_key(|(_, w)| w.last).map(|(label, _)| Arc::clone(label));
            silent.map(|label| self.versions.remove(&label));
            self.forget_names();
        }
        let new = || Watched { first: slot, last: slot, ..Watched::default() };
        self.versions.entry(Arc::clone(version)).or_insert_with(new)
    }

    /// Makes room for a name; `false` where there is none.
    fn name(&mut self, exception: &Arc<Exception>, slot: Slot) -> bool {
        let bytes = bytes_of(exception);
        if self.names.len() >= FINGERPRINTS || self.name_bytes + bytes > NAME_BYTES {
            self.incomplete_until = self.incomplete_until.max(slot + Slot::from(REMEMBERED_S));
            return false;
        }
        self.name_bytes += bytes;
        self.names.insert(exception.fingerprint, Arc::clone(exception));
        true
    }

    fn forget_names(&mut self) {
        let Self { versions, names, .. } = self;
        names.retain(|fingerprint, _| versions.values().any(|w| w.shown.contains_key(fingerprint)));
        self.name_bytes = self.names.values().map(|exception| bytes_of(exception)).sum();
    }
}

fn bytes_of(exception: &Exception) -> usize {
    exception.kind.len() + exception.frames.iter().map(|frame| frame.len()).sum::<usize>()
}

/// Good and Toulmin: of types that were seen once in N exceptions, n more show about n/N times as many that
/// were not seen at all, less n/N squared times those that were seen twice. Beyond n = N the sum says nothing
/// more, and the number is that of n = N.
fn expected(own: &Watched, before: &[&Watched]) -> f64 {
    let mut counts: BTreeMap<Fingerprint, u64> = BTreeMap::new();
    for (fingerprint, showing) in before.iter().flat_map(|w| &w.shown) {
        *counts.entry(*fingerprint).or_default() += showing.count;
    }
    let all: u64 = counts.values().sum();
    if all == 0 {
        return 0.0;
    }
    let of = |times: u64| counts.values().filter(|count| **count == times).count() as f64;
    let own: u64 = own.shown.values().map(|showing| showing.count).sum();
    let t = (own as f64 / all as f64).min(1.0);
    (t * of(1) - t * t * of(2)).max(0.0)
}

impl Snapshot for Fingerprint {
    fn save(&self, out: &mut Writer) {
        self.0.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self(u64::load(from)?))
    }
}

snapshot_fields!(Showing { first, seconds, count, is_shared, is_of_span, traces, values });
snapshot_fields!(Watched { first, last, seconds, shown });

impl Snapshot for Shown {
    fn save(&self, out: &mut Writer) {
        let versions: Vec<(String, Watched)> =
            self.versions.iter().map(|(label, watched)| (label.to_string(), watched.clone())).collect();
        versions.save(out);
        let text = |text: &str| text.to_owned();
        let names: Vec<(String, Vec<String>)> = self
            .names
            .values()
            .map(|e| (text(&e.kind), e.frames.iter().map(|f| text(f)).collect()))
            .collect();
        names.save(out);
        self.incomplete_until.save(out);
    }

    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let versions = Vec::<(String, Watched)>::load(from)?;
        let names = Vec::<(String, Vec<String>)>::load(from)?;
        let mut shown = Self { incomplete_until: Slot::load(from)?, ..Self::default() };
        shown.versions = versions.into_iter().map(|(label, watched)| (label.into(), watched)).collect();
        for (kind, frames) in names {
            let exception = Exception::named(&kind, frames.into_iter().map(Into::into).collect());
            shown.names.insert(exception.fingerprint, Arc::new(exception));
        }
        shown.forget_names();
        Ok(shown)
    }
}

#[cfg(test)]
#[path = "shown_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "chance_tests.rs"]
mod chance_tests;
