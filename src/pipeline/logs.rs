//! What the evaluator keeps of the logs of one service: error logs and exceptions by second and version, what
//! each version has shown, and the sums of the deployments that are judged. A service that logs no error and
//! is not judged has none of it.
//!
//! A second is closed with those of the spans, when the service's lateness has passed: then it is complete for
//! requests and logs alike. A record that comes later is counted as late, by its version. Bounded: an open
//! second takes 24 bytes and there are as many as the lateness allows (40 at most), a version keeps 30 minutes
//! of 64 bytes each, and [`Shown`] says what it takes itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::board::VersionBoard;
use super::findings::Finding;
use super::ledger::{Disposition, Ledger};
use super::passage::Signal;
use super::registry::Registry;
use super::running::Running;
use super::version::{Version, Versions};
use crate::exception::{Occurrence, REMEMBERED_S, Shown};
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer, snapshot_fields};
use crate::model::{DeploymentId, NANOS_PER_SECOND, Slot, UnixNanos, VersionId};
use crate::verdict::{LogArm, LogEvidence, LogInput, LogSlot, SAMPLED};

/// Minutes of which the sums are kept, for a baseline that goes away.
const MINUTES: usize = 30;
/// A record further ahead of its arrival has a wrong clock, as a span has.
const FUTURE_NANOS: u64 = 5 * NANOS_PER_SECOND;
/// Seconds before a candidate's first request from which on what it throws is its own: it starts before it
/// serves.
const START_S: Slot = 300;

/// Counters of one version that never fall while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogTotals {
    /// Log records of severity ERROR and above, in closed seconds.
    pub error_logs: u64,
    /// Exceptions of log records and spans, each counted once, in closed seconds.
    pub exceptions: u64,
    /// Log records that came after their second had closed.
    pub late: u64,
    /// Log records more than 5 s in the future.
    pub future: u64,
}

/// A second that is still open.
#[derive(Debug, Clone, Copy, Default)]
struct OpenSecond {
    records: u64,
    error_logs: u64,
    exceptions: u64,
}

#[derive(Debug, Default)]
struct VersionLogs {
    /// Its id, where only logs of it come: then nobody else retires it.
    id: Option<VersionId>,
    /// Arrival of its last finding.
    touched: UnixNanos,
    open: BTreeMap<Slot, OpenSecond>,
    totals: LogTotals,
    /// The last 30 minutes, oldest first.
    minutes: VecDeque<(i64, LogArm)>,
    /// Whether any log record of it ever came, of whatever severity.
    sends_logs: bool,
}

/// The sums of a deployment.
#[derive(Debug, Default)]
struct Judged {
    /// Candidate and baseline since the first judged second.
    arms: [LogArm; 2],
    /// The baseline's 30 minutes before.
    before: LogArm,
    /// What the metrics of both had counted at the first judged second.
    points_before: [u64; 2],
    /// Seconds that were summed, and all since the first.
    seconds: [u64; 2],
}

impl Judged {
    /// Requests that the metrics counted in the seconds that were summed, as if they came evenly.
    fn points(&self, now: u64, before: u64) -> u64 {
        let [summed, all] = self.seconds;
        let counted = u128::from(now.saturating_sub(before));
        (counted * u128::from(summed)).checked_div(all.into()).map_or(0, |points| points as u64)
    }
}

/// The logs of one service.
#[derive(Debug, Default)]
pub(super) struct ServiceLogs {
    versions: BTreeMap<Arc<str>, VersionLogs>,
    shown: Shown,
    judged: BTreeMap<DeploymentId, Judged>,
}

impl ServiceLogs {
    /// Begins to watch a service: what served until now without an error is known to have done so.
    pub(super) fn new(versions: &Versions, next: Slot) -> Self {
        let mut logs = Self::default();
        for (label, version) in versions.iter().filter(|(_, v)| v.has_traffic()) {
            let served = version.last.since(version.first) / NANOS_PER_SECOND;
            logs.shown.watched_before(
                label,
                version.first.slot(),
                served.min(u64::from(REMEMBERED_S)) as u32,
            );
            let requests = version.history.sum_last(60 * MINUTES as i64, next).0;
            let mut before = LogArm::default();
            before.requests = requests;
            logs.version(label).minutes.push_back((next.div_euclid(60) - 1, before));
        }
        logs
    }

    fn version(&mut self, label: &Arc<str>) -> &mut VersionLogs {
        self.versions.entry(Arc::clone(label)).or_default()
    }

    /// Takes in an error log or an exception; `false` where an exception found no room in the table of those
    /// that were shown. `next` is the oldest open second; `is_first` says that the exception did not come
    /// before in another form.
    pub(super) fn find(
        &mut self,
        label: &Arc<str>,
        finding: &Finding,
        next: Slot,
        is_first: bool,
        ledger: &Ledger,
    ) -> bool {
        let slot = finding.at.slot();
        let version = self.version(label);
        version.id = Some(finding.version);
        version.touched = version.touched.max(finding.arrival);
        version.sends_logs |= finding.is_record;
        let records = u64::from(finding.is_record);
        let is_future = finding.at.since(finding.arrival) > FUTURE_NANOS;
        let counts = !is_future && slot >= next;
        let thrown = finding.exception.as_ref().filter(|_| is_first);
        if is_future {
            version.totals.future += records;
            ledger.settle(Signal::Logs, Disposition::Future, records);
        } else if slot < next {
            version.totals.late += records;
            ledger.settle(Signal::Logs, Disposition::Late, records);
        } else {
            let open = version.open.entry(slot).or_default();
            open.records += records;
            open.error_logs += u64::from(finding.is_error);
            open.exceptions += u64::from(thrown.is_some());
        }
        let Some(exception) = thrown.filter(|_| !is_future) else { return true };
        let occurrence = Occurrence {
            slot,
            trace_id: finding.trace_id,
            values: &finding.values,
            counts,
            is_record: finding.is_record,
        };
        self.shown.show(label, exception, &occurrence)
    }

    /// Error logs of a version in a second that is about to close; `None` where it sends no logs.
    pub(super) fn error_logs(&self, label: &str, slot: Slot) -> Option<u64> {
        let version = self.versions.get(label).filter(|version| version.sends_logs)?;
        Some(version.open.get(&slot).map_or(0, |open| open.error_logs))
    }

    /// Learns which versions send logs, of whatever severity.
    pub(super) fn note_senders(&mut self, versions: &Versions, registry: &Registry) {
        for (label, version) in versions {
            let logs = self.version(label);
            if !logs.sends_logs {
                logs.sends_logs = version.id.is_some_and(|id| registry.sends_logs(id));
            }
        }
    }

    /// Closes a second, after that of the spans. One in which logs or requests were refused, `is_blind`, is only
    /// counted: it says neither how often a version logs errors nor that it did not throw something.
    pub(super) fn close(
        &mut self,
        slot: Slot,
        is_blind: bool,
        versions: &Versions,
        running: &[Running],
        ledger: &Ledger,
    ) {
        for label in versions.keys() {
            self.version(label);
        }
        let mut closed: BTreeMap<Arc<str>, LogSlot> = BTreeMap::new();
        for (label, logs) in &mut self.versions {
            let one = logs.close(slot, versions.get(label).map(Box::as_ref), ledger);
            let serves = one.requests > 0 || versions.get(label).is_some_and(|version| is_metered(version));
            if serves && !is_blind {
                self.shown.second(label, slot);
            }
            closed.insert(Arc::clone(label), one);
        }
        self.judged.retain(|id, _| running.iter().any(|r| r.deployment().id == *id));
        let compares = |r: &&Running| r.panel().is_some() && r.change_at().is_none();
        for running in running.iter().filter(compares).filter(|r| slot >= r.judge_from()) {
            let Some(baseline) = running.deployment().baseline.as_deref() else { continue };
            let judged = self.judged.entry(running.deployment().id.clone()).or_insert_with(|| {
                let before = self.versions.get(baseline).map(|v| v.before()).unwrap_or_default();
                let labels = [&*running.deployment().candidate, baseline];
                let points_before = labels.map(|label| points(versions, label));
                Judged { before, points_before, ..Judged::default() }
            });
            judged.seconds[1] += 1;
            if is_blind {
                continue;
            }
            judged.seconds[0] += 1;
            for (arm, label) in judged.arms.iter_mut().zip([&*running.deployment().candidate, baseline]) {
                arm.add(&closed.get(label).copied().unwrap_or_default());
            }
        }
        for (label, one) in closed.into_iter().filter(|_| !is_blind) {
            if let Some(logs) = self.versions.get_mut(&label) {
                logs.remember(slot, &one);
            }
        }
    }

    /// What the logs say of a deployment.
    pub(super) fn evidence(
        &mut self,
        running: &Running,
        versions: &Versions,
        registry: &Registry,
        now: Slot,
    ) -> Option<LogEvidence> {
        let deployment = running.deployment();
        // Before and after, both arms are one version: what it logged before is not kept by time.
        let baseline = deployment.baseline.as_deref().filter(|_| deployment.time.is_none())?;
        let arm = |label: &str| versions.get(label).map(Box::as_ref);
        let is_sampled = [arm(&deployment.candidate), arm(baseline)].into_iter().flatten().any(is_sampled);
        if let Some(logs) = self.versions.get_mut(baseline)
            && !logs.sends_logs
        {
            let id = arm(baseline).and_then(|version| version.id);
            logs.sends_logs = id.is_some_and(|id| registry.sends_logs(id));
        }
        let baseline_logs = self.versions.get(baseline).is_some_and(|logs| logs.sends_logs);
        let since = deployment.candidate_first.unwrap_or(deployment.started_at).min(deployment.started_at);
        let news = self.shown.news(
            &deployment.candidate,
            Some(baseline),
            since.slot() - START_S,
            now,
            baseline_logs,
        );
        let nothing = Judged::default();
        let judged = self.judged.get(&deployment.id).unwrap_or(&nothing);
        LogEvidence::new(&LogInput {
            arms: [&judged.arms[0], &judged.arms[1]],
            before: &judged.before,
            points: self.judged.get(&deployment.id).map(|judged| {
                let labels = [&*deployment.candidate, baseline];
                std::array::from_fn(|i| judged.points(points(versions, labels[i]), judged.points_before[i]))
            }),
            is_sampled,
            news: &news,
            candidate_requests: arm(&deployment.candidate).map_or(0, Version::requests),
        })
    }

    /// Puts the totals on the board. A version of which only logs come gets a line of its own.
    pub(super) fn show(&self, board: &mut Vec<VersionBoard>) {
        let heard = self.versions.iter().filter(|(_, v)| v.touched != UnixNanos::default());
        for (label, version) in heard {
            match board.binary_search_by(|line| line.version.as_str().cmp(label)) {
                Ok(at) => board[at].logs = version.totals,
                Err(at) => {
                    let line = VersionBoard {
                        version: label.to_string(),
                        logs: version.totals,
                        ..VersionBoard::default()
                    };
                    board.insert(at, line);
                }
            }
        }
    }

    /// Forgets versions that are gone and have logged nothing for `ttl_s`; what they showed is remembered.
    /// Ids that nobody else holds go to `retired`.
    pub(super) fn end(
        &mut self,
        now: UnixNanos,
        ttl_s: u64,
        versions: &Versions,
        retired: &mut Vec<VersionId>,
    ) {
        self.versions.retain(|label, logs| {
            let is_kept = versions.contains_key(label)
                || !logs.open.is_empty()
                || now.since(logs.touched) <= ttl_s * NANOS_PER_SECOND;
            if !is_kept {
                retired.extend(logs.id);
            }
            is_kept
        });
    }

    /// Whether nothing of it lives; what was shown alone keeps no service.
    pub(super) fn is_over(&self) -> bool {
        self.versions.is_empty()
    }

    /// Log records in open seconds.
    fn waiting(&self) -> u64 {
        self.versions.values().flat_map(|v| v.open.values()).map(|open| open.records).sum()
    }
}

impl VersionLogs {
    fn close(&mut self, slot: Slot, version: Option<&Version>, ledger: &Ledger) -> LogSlot {
        let mut one = LogSlot::default();
        // Also seconds that were passed over after a longer stop.
        while let Some(open) = self.open.first_entry().filter(|open| *open.key() <= slot) {
            let open = open.remove();
            ledger.settle(Signal::Logs, Disposition::Aggregated, open.records);
            one.error_logs += open.error_logs;
            one.exceptions += open.exceptions;
        }
        self.totals.error_logs += one.error_logs;
        self.totals.exceptions += one.exceptions;
        if let Some(version) = version {
            one.requests = version.last_slots(1)[0];
            let instances = version.memory.instances_present(slot);
            one.instances = instances.max(u64::from(one.requests > 0));
        }
        one
    }

    /// Of a version without traffic the last minutes stay: it is remembered as it was.
    fn remember(&mut self, slot: Slot, one: &LogSlot) {
        if *one == LogSlot::default() {
            return;
        }
        let minute = slot.div_euclid(60);
        if self.minutes.back().is_none_or(|(newest, _)| *newest < minute) {
            self.minutes.push_back((minute, LogArm::default()));
        }
        if let Some((_, arm)) = self.minutes.back_mut() {
            arm.add(one);
        }
        while self.minutes.len() > MINUTES {
            self.minutes.pop_front();
        }
    }

    fn before(&self) -> LogArm {
        let mut sum = LogArm::default();
        self.minutes.iter().for_each(|(_, arm)| sum.merge(arm));
        sum
    }
}

/// Requests that a version's metrics have counted.
fn points(versions: &Versions, label: &str) -> u64 {
    versions.get(label).and_then(|version| version.metered.as_ref()).map_or(0, |side| side.totals.requests)
}

/// Whether the metrics of a version counted requests lately.
fn is_metered(version: &Version) -> bool {
    version.metered.as_ref().is_some_and(|side| side.last_seconds(2 * side.slot_s())[0] > 0)
}

/// Whether spans stand for more requests than there are.
fn is_sampled(version: &Version) -> bool {
    let counts = &version.sampling;
    counts.n > 0 && counts.weight / counts.n as f64 > SAMPLED
}

snapshot_fields!(LogTotals { error_logs, exceptions, late, future });
snapshot_fields!(Judged { arms, before, points_before, seconds });

impl Snapshot for VersionLogs {
    fn save(&self, out: &mut Writer) {
        self.touched.save(out);
        self.totals.save(out);
        self.minutes.save(out);
        self.sends_logs.save(out);
    }

    /// Open seconds are lost, as those of the spans are.
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self {
            touched: UnixNanos::load(from)?,
            totals: LogTotals::load(from)?,
            minutes: VecDeque::load(from)?,
            sends_logs: bool::load(from)?,
            ..Self::default()
        })
    }
}

impl ServiceLogs {
    /// Writes it, and how many log records are lost if it is read back.
    pub(super) fn save(&self, out: &mut Writer) {
        self.waiting().save(out);
        (self.versions.len() as u32).save(out);
        for (label, logs) in &self.versions {
            label.save(out);
            logs.save(out);
        }
        self.shown.save(out);
        self.judged.save(out);
    }

    /// Reads it, and how many log records were lost.
    pub(super) fn load(from: &mut Reader<'_>) -> Result<(Self, u64), Corrupt> {
        let lost = u64::load(from)?;
        let versions = (0..u32::load(from)?)
            .map(|_| Ok((Arc::<str>::load(from)?, VersionLogs::load(from)?)))
            .collect::<Result<_, Corrupt>>()?;
        Ok((Self { versions, shown: Shown::load(from)?, judged: BTreeMap::load(from)? }, lost))
    }
}
