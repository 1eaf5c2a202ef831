//! Error logs and exceptions on their way to the evaluator. They travel with the spans of the same batch, one
//! entry each: the evaluator counts them by second and version, and takes an exception that came twice for one.
//!
//! An exception is named on the worker's side, once per stack: the buffers remember the stacks they named last.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::batch::Batch;
use super::engine::Engine;
use super::ledger::Disposition;
use super::passage::Signal;
use super::registry::clip;
use super::shards::Drained;
use crate::exception::Exception;
use crate::model::{
    Discard, ExceptionView, LogSink, LogView, ResourceView, ServiceKey, SpanException, ToldBy, UnixNanos,
    VersionId,
};

/// Stacks that one buffer remembers the names of; then it forgets all and begins anew.
const NAMED_STACKS: usize = 1_024;
/// Longest attribute value that is kept, in bytes.
const VALUE_BYTES: usize = 128;

/// An error log, an exception, or both.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    /// Whose.
    pub(super) version: VersionId,
    /// Its time: decides the slot.
    pub(super) at: UnixNanos,
    /// When the request that carried it arrived.
    pub(super) arrival: UnixNanos,
    /// Whether it is a log record; else it is an event of a span.
    pub(super) is_record: bool,
    /// Whether it is a log record of severity ERROR and above.
    pub(super) is_error: bool,
    /// What was thrown.
    pub(super) exception: Option<Arc<Exception>>,
    /// Where.
    pub(super) trace_id: Option<[u8; 16]>,
    /// See `trace_id`.
    pub(super) span_id: Option<[u8; 8]>,
    /// Attributes that the configuration allows to be shown; nearly always none.
    pub(super) values: Box<[(String, String)]>,
}

/// Names of stacks, by a hash of what was sent.
#[derive(Debug, Default)]
pub(super) struct NamedStacks {
    names: HashMap<u64, Arc<Exception>, RandomState>,
}

impl NamedStacks {
    fn name(&mut self, view: &ExceptionView<'_>) -> Arc<Exception> {
        let mut hasher = self.names.hasher().build_hasher();
        for part in [view.kind, view.stack] {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        // A message of several lines changes what is taken from the stack.
        hasher.write_u8(u8::from(view.message.contains(&b'\n')));
        let hash = hasher.finish();
        if let Some(name) = self.names.get(&hash) {
            return Arc::clone(name);
        }
        if self.names.len() >= NAMED_STACKS {
            self.names.clear();
        }
        let name = Arc::new(Exception::new(view.kind, view.stack, view.message));
        self.names.insert(hash, Arc::clone(&name));
        name
    }
}

impl Batch {
    /// An exception among the events of a span of the current resource.
    pub(super) fn thrown(&mut self, thrown: &SpanException<'_>) {
        self.find(&LogView {
            time: thrown.time,
            is_error: false,
            trace_id: thrown.trace_id,
            span_id: thrown.span_id,
            exception: Some(thrown.exception),
        });
        if let Some(finding) = self.buffers.as_mut().and_then(|buffers| buffers.findings.last_mut()) {
            finding.is_record = false;
        }
    }

    fn find(&mut self, log: &LogView<'_>) {
        let (Some(buffers), Some(sender)) = (&mut self.buffers, &self.current) else { return };
        let exception = log.exception.as_ref();
        buffers.findings.push(Finding {
            version: sender.version.meta.id,
            at: log.time,
            arrival: self.arrival,
            is_record: true,
            is_error: log.is_error,
            exception: exception.map(|view| buffers.stacks.name(view)),
            trace_id: log.trace_id.try_into().ok(),
            span_id: log.span_id.try_into().ok(),
            values: exception.map_or_else(Box::default, |view| values(view)),
        });
    }
}

/// Where the findings of a version belong; `None` where its series have ended.
pub(super) type LogPlaces = HashMap<VersionId, Option<(Arc<ServiceKey>, Arc<str>)>, RandomState>;

impl Engine {
    /// Takes in error logs and exceptions.
    pub(super) fn absorb_findings(&mut self, drained: &Drained, now: UnixNanos) {
        let (mut recent, mut unnamed) = (std::mem::take(&mut self.recent), 0);
        // Those of one request are of one version. Many requests of one version come together, and it is looked up
        // once for all of them; among themselves they stay in their order.
        let mut runs: Vec<&[Finding]> = drained.findings.chunk_by(|a, b| a.version == b.version).collect();
        runs.sort_by_key(|run| run.first().map(|first| first.version));
        for runs in runs.chunk_by(|a, b| a[0].version == b[0].version) {
            let findings = runs.iter().copied().flatten();
            let Some((key, label)) = self.log_place(runs[0][0].version) else {
                let records = findings.filter(|finding| finding.is_record).count() as u64;
                self.parts.ledger.settle(Signal::Logs, Disposition::Orphaned, records);
                continue;
            };
            let service = self.service(&key, now);
            for finding in findings {
                let is_first = finding.exception.as_ref().is_none_or(|exception| {
                    recent.is_first(finding.trace_id, finding.span_id, exception.fingerprint, finding.arrival)
                });
                unnamed += u64::from(!service.find(&label, finding, is_first));
            }
        }
        self.recent = recent;
        self.counters.exceptions_unnamed += unnamed;
    }

    /// Looked up once per version.
    pub(super) fn log_place(&mut self, id: VersionId) -> Option<(Arc<ServiceKey>, Arc<str>)> {
        if let Some(known) = self.log_places.get(&id) {
            return known.clone();
        }
        let place = self.parts.registry.version(id).map(|version| {
            let key = match self.services.get_key_value(&version.key.service) {
                Some((key, _)) => Arc::clone(key),
                None => Arc::new(version.key.service.clone()),
            };
            (key, Arc::from(version.key.version.as_str()))
        });
        self.log_places.insert(id, place.clone());
        place
    }
}

fn values(view: &ExceptionView<'_>) -> Box<[(String, String)]> {
    let text = |bytes| String::from_utf8_lossy(clip(bytes, VALUE_BYTES)).into_owned();
    view.values.iter().map(|(name, value)| (text(name), text(value))).collect()
}

impl LogSink for Batch {
    fn log_resource(&mut self, resource: &ResourceView<'_>) {
        self.resolve(Signal::Logs, resource);
    }

    fn log(&mut self, log: &LogView<'_>) {
        if self.current.is_none() {
            self.resolve(Signal::Logs, &ResourceView::default());
        }
        self.find(log);
    }

    fn discard_log(&mut self, reason: Discard) {
        self.discard_all(Signal::Logs, reason, 1);
    }

    fn sender_of_logs(&mut self, resource: &ResourceView<'_>, records: u64) {
        self.sender(Signal::Logs, resource, records);
    }

    fn flag_logged(&mut self, flag: &str, records: u64) {
        self.note_flag(flag, ToldBy::LogRecord, records);
    }
}
