//! Totals that the pipeline keeps for itself, shown among our own metrics: the account of records, what the
//! intake refused, what the registry had no room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use tokio_util::sync::CancellationToken;

use crate::pipeline::{Board, Disposition, Ledger, Registry, Shards, Signal};

/// How old the totals may be that a scrape sees.
const SHOW_EVERY: Duration = Duration::from_secs(1);

const RECORDS: &str = "rollguard_records_total";
const RECEIVED: &str = "rollguard_records_received_total";
const REFUSED: &str = "rollguard_intake_refused_batches_total";
const INCONSISTENT: &str = "rollguard_sampling_inconsistent_total";
const UNJUDGED: &str = "rollguard_deployments_refused_total";
const WAITING: &str = "rollguard_intake_waiting_spans";
const OVERFLOW: &str = "rollguard_overflow_total";
const JOINS: &str = "rollguard_joins_total";
const JOIN_IDS: &str = "rollguard_join_ids";
const JOINS_EVICTED: &str = "rollguard_join_ids_evicted_total";
const ATTRIBUTES: &str = "rollguard_resource_attributes_total";

/// Keeps the metrics up to date until it is told to stop.
pub(super) async fn show(
    registry: Arc<Registry>,
    shards: Arc<Shards>,
    board: Arc<ArcSwap<Board>>,
    stop: CancellationToken,
) {
    describe();
    let records = RecordCounters::new();
    let refused = |reason: &'static str| counter!(REFUSED, "reason" => reason);
    let (full, stopping) = (refused("queue_full"), refused("shutting_down"));
    let (inconsistent, unjudged) = (counter!(INCONSISTENT), counter!(UNJUDGED));
    let unnamed = counter!(OVERFLOW, "what" => "exceptions");
    let waiting = gauge!(WAITING);
    let overflow: Vec<_> =
        registry.counters().all().into_iter().map(|(what, _)| counter!(OVERFLOW, "what" => what)).collect();
    let joins = JoinCounters::new();
    let attributes = ["repeated", "indexed"].map(|what| counter!(ATTRIBUTES, "what" => what));
    let mut tick = tokio::time::interval(SHOW_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        records.show(shards.ledger());
        let counters = shards.counters();
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        full.absolute(read(&counters.refused_full));
        stopping.absolute(read(&counters.refused_shutdown));
        inconsistent.absolute(read(&counters.sampling_inconsistent));
        waiting.set(shards.waiting() as f64);
        let engine = board.load().counters;
        unjudged.absolute(engine.deployments_refused);
        unnamed.absolute(engine.exceptions_unnamed);
        joins.show(&registry);
        attributes[0].absolute(read(&counters.attributes_repeated));
        attributes[1].absolute(read(&counters.attributes_indexed));
        overflow.iter().zip(registry.counters().all()).for_each(|(counter, (_, n))| counter.absolute(n));
    }
}

/// What came of asking which version a pod, container or process is of.
struct JoinCounters {
    outcomes: [Counter; 3],
    ids: Gauge,
    evicted: Counter,
}

impl JoinCounters {
    fn new() -> Self {
        let outcomes =
            ["joined", "ambiguous", "unknown"].map(|outcome| counter!(JOINS, "outcome" => outcome));
        Self { outcomes, ids: gauge!(JOIN_IDS), evicted: counter!(JOINS_EVICTED) }
    }

    fn show(&self, registry: &Registry) {
        let (counters, ids) = registry.join_counters();
        self.outcomes.iter().zip(counters.outcomes()).for_each(|(counter, n)| counter.absolute(n));
        self.ids.set(ids as f64);
        self.evicted.absolute(counters.evicted.load(Ordering::Relaxed));
    }
}

/// One counter per signal and disposition, and what was received per signal.
struct RecordCounters {
    received: Vec<(Signal, Counter)>,
    settled: Vec<(Signal, Disposition, Counter)>,
}

impl RecordCounters {
    fn new() -> Self {
        let received = Signal::ALL.map(|signal| (signal, counter!(RECEIVED, "signal" => signal.as_str())));
        let settled = Signal::ALL.into_iter().flat_map(|signal| {
            Disposition::all().map(move |disposition| (signal, disposition, settled(signal, disposition)))
        });
        Self { received: received.to_vec(), settled: settled.collect() }
    }

    /// Received last: a scrape never sees more records settled than received.
    fn show(&self, ledger: &Ledger) {
        for (signal, disposition, counter) in &self.settled {
            counter.absolute(ledger.settled(*signal, *disposition));
        }
        for (signal, counter) in &self.received {
            counter.absolute(ledger.received(*signal));
        }
    }
}

fn settled(signal: Signal, disposition: Disposition) -> Counter {
    let signal = signal.as_str();
    match disposition.labels() {
        (word, "") => counter!(RECORDS, "signal" => signal, "disposition" => word),
        (word, reason) => {
            counter!(RECORDS, "signal" => signal, "disposition" => word, "reason" => reason)
        }
    }
}

fn describe() {
    describe_counter!(RECORDS, "Records by what became of them; each is counted once");
    describe_counter!(RECEIVED, "Records taken; the difference to the sum of the others is in open slots");
    describe_counter!(REFUSED, "Batches pushed back because the evaluator did not keep up");
    describe_counter!(INCONSISTENT, "Spans whose sampling threshold contradicts their trace id");
    describe_counter!(UNJUDGED, "Detected versions that are not judged because too many deployments are");
    describe_gauge!(WAITING, "Spans waiting for the evaluator");
    describe_counter!(JOINS, "Resources without service or version, by whether an id of theirs led to one");
    describe_gauge!(JOIN_IDS, "Ids of pods, containers and processes whose version is known");
    describe_counter!(JOINS_EVICTED, "Ids forgotten for lack of room");
    describe_counter!(ATTRIBUTES, "Resource attributes that occurred twice, or were given by index");
    describe_counter!(OVERFLOW, "Names beyond a cap of pipeline.limits, counted in an overflow series");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Discard;
    use metrics_exporter_prometheus::PrometheusBuilder;

    #[test]
    fn the_account_is_shown_by_signal_disposition_and_reason() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let ledger = Ledger::default();
        ledger.receive(Signal::Logs, 9);
        ledger.settle(Signal::Logs, Disposition::Aggregated, 4);
        ledger.settle(Signal::Logs, Disposition::Discarded(Discard::Severity), 3);
        metrics::with_local_recorder(&recorder, || RecordCounters::new().show(&ledger));
        let page = recorder.handle().render();
        for line in [
            r#"rollguard_records_received_total{signal="logs"} 9"#,
            r#"rollguard_records_total{signal="logs",disposition="aggregated"} 4"#,
            r#"rollguard_records_total{signal="logs",disposition="unused",reason="severity"} 3"#,
            r#"rollguard_records_total{signal="traces",disposition="late",reason="slot_closed"} 0"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
    }
}
