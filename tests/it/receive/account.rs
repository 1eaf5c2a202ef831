//! What the door counts, with the real intake behind it: every record of every request is in the account, and
//! those that are not settled are the ones that wait for the evaluator.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use rollguard::model::Discard;
use rollguard::pipeline::clock::SystemClock;
use rollguard::pipeline::{
    DEFAULT_SHARD_CAPACITY, Disposition, Intake, NoDownstream, Registry, RegistryLimits, Shards, Signal,
};
use rollguard::receiver::{Doors, ReceiverConfig, ReceiverDeps, Receivers};
use rollguard::telemetry::ProcessMemory;
use tokio_util::sync::CancellationToken;

use super::support::*;

fn spans() -> Vec<Span> {
    let good = Span { kind: 2, end_time_unix_nano: 2, name: "a".into(), ..Default::default() };
    let marked = |key: &str, value: &str| {
        let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
        let attributes = vec![KeyValue { key: key.into(), value, key_strindex: 0 }];
        Span { attributes, ..good.clone() }
    };
    vec![
        good.clone(),
        good.clone(),
        Span { kind: 3, ..good.clone() },
        Span { end_time_unix_nano: 0, ..good.clone() },
        Span { span_id: vec![1; 7], ..good.clone() },
        Span { parent_span_id: vec![1; 9], kind: 1, ..good.clone() },
        marked("user_agent.synthetic.type", "test"),
        marked("http.route", "/healthz"),
    ]
}

/// Scenario: spans of every fate, twice, once refused as undecodable. Guarantees: each has its disposition, the
/// second time all are duplicates, and what is refused is not received.
#[tokio::test]
async fn g18_every_record_is_in_the_account_rejected_ones_too() {
    let shards = Arc::new(Shards::new(1, DEFAULT_SHARD_CAPACITY));
    let admission = Intake::new(Arc::new(Registry::new(RegistryLimits::default())), Arc::clone(&shards));
    let deps = ReceiverDeps {
        admission,
        downstream: Arc::new(NoDownstream),
        clock: Arc::new(SystemClock),
        doors: Doors::default(),
        memory: Arc::new(ProcessMemory),
    };
    let config = ReceiverConfig { deduplicate: ReceiverConfig::default().deduplicate, ..config() };
    let receivers = Receivers::bind(config, deps).await.unwrap();
    let grpc = receivers.grpc_addr().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(receivers.serve(stop.clone()));

    let message = message(spans());
    for _ in 0..2 {
        export(grpc, "trace.v1.TraceService", message.clone().into(), None).await.unwrap();
    }
    let damaged = [&message[..], &[0x0a, 0x7f]].concat();
    export(grpc, "trace.v1.TraceService", damaged.into(), None).await.unwrap_err();

    let ledger = shards.ledger();
    let settled = |disposition| ledger.settled(Signal::Traces, disposition);
    let discarded = |reason| settled(Disposition::Discarded(reason));
    assert_eq!((ledger.received(Signal::Traces), settled(Disposition::Duplicate)), (16, 8));
    assert_eq!((discarded(Discard::BadId), discarded(Discard::NoTime)), (2, 1));
    assert_eq!(
        (discarded(Discard::Kind), discarded(Discard::Synthetic), discarded(Discard::Health)),
        (1, 1, 1)
    );
    assert_eq!((ledger.open(Signal::Traces), shards.waiting()), (2, 2));
    stop.cancel();
    served.await.unwrap();
}
