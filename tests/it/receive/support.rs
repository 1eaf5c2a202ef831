//! Receivers on free ports with recorders behind them, and clients that send exactly what they are told.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rollguard::model::{
    Discard, LogSink, LogView, PointSink, PointView, ResourceView, SpanSink, SpanView, UnixNanos,
};
use rollguard::pipeline::clock::SystemClock;
use rollguard::pipeline::{
    Admission, AdmissionBatch, DataType, Downstream, Full, Metadata, Passage, Permit, Refused, Signal,
};
use rollguard::receiver::{Doors, GrpcConfig, HttpConfig, ReceiverConfig, ReceiverDeps, Receivers};
use rollguard::telemetry::{Memory, ProcessMemory};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};

/// Keeps the operations of committed spans; refuses when told to.
#[derive(Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    operations: Vec<Vec<u8>>,
    refuse: Option<Refused>,
    attempts: usize,
    duplicates: u64,
    blinded: Vec<(DataType, String)>,
}

impl Recorder {
    pub(super) fn operations(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().operations.clone()
    }

    pub(super) fn refuse(&self, why: Option<Refused>) {
        self.0.lock().unwrap().refuse = why;
    }

    pub(super) fn duplicates(&self) -> u64 {
        self.0.lock().unwrap().duplicates
    }

    /// Which exporters refused what.
    pub(super) fn blinded(&self) -> Vec<(DataType, String)> {
        self.0.lock().unwrap().blinded.clone()
    }

    pub(super) fn attempts(&self) -> usize {
        self.0.lock().unwrap().attempts
    }
}

pub(super) struct RecordedBatch(Recorder, Vec<Vec<u8>>);

impl Admission for Recorder {
    type Batch = RecordedBatch;

    fn begin(&self, _: UnixNanos) -> RecordedBatch {
        RecordedBatch(self.clone(), Vec::new())
    }

    fn duplicate(&self, _: Signal, records: u64) {
        self.0.lock().unwrap().duplicates += records;
    }

    fn blinded(&self, data: DataType, by: &Arc<str>, _: UnixNanos) {
        self.0.lock().unwrap().blinded.push((data, by.to_string()));
    }
}

impl SpanSink for RecordedBatch {
    fn resource(&mut self, _: &ResourceView<'_>) {}

    fn span(&mut self, span: &SpanView<'_>) {
        self.1.push([span.operation_head, span.operation_joint, span.operation_tail].concat());
    }

    fn discard(&mut self, _: Discard) {}
}

impl PointSink for RecordedBatch {
    fn point(&mut self, _: &ResourceView<'_>, _: &PointView<'_>) {}

    fn discard_points(&mut self, _: Discard, _: u64) {}
}

impl LogSink for RecordedBatch {
    fn log_resource(&mut self, _: &ResourceView<'_>) {}
    fn log(&mut self, _: &LogView<'_>) {}
    fn discard_log(&mut self, _: Discard) {}
}

impl AdmissionBatch for RecordedBatch {
    type Room = ();

    fn reserve(&self) -> Result<(), Refused> {
        let mut recorded = self.0.0.lock().unwrap();
        recorded.attempts += 1;
        recorded.refuse.map_or(Ok(()), Err)
    }

    fn commit(self, (): ()) {
        self.0.0.lock().unwrap().operations.extend(self.1);
    }
}

/// Keeps what is passed on; has no room when told so.
#[derive(Clone, Default)]
pub(super) struct Capture(Arc<Mutex<Captured>>);

#[derive(Default)]
struct Captured {
    messages: Vec<(DataType, Bytes)>,
    is_full: bool,
}

impl Capture {
    pub(super) fn messages(&self) -> Vec<(DataType, Bytes)> {
        self.0.lock().unwrap().messages.clone()
    }

    pub(super) fn fill(&self, is_full: bool) {
        self.0.lock().unwrap().is_full = is_full;
    }
}

impl Downstream for Capture {
    fn takes(&self, _: DataType) -> bool {
        true
    }

    fn metadata_keys(&self) -> &[Box<str>] {
        &[]
    }

    fn reserve(&self, data: DataType, _: &Bytes, _: &Metadata) -> Result<Option<Box<dyn Permit>>, Full> {
        if self.0.lock().unwrap().is_full {
            return Err(Full { exporter: "otlp_grpc/full".into() });
        }
        Ok(Some(Box::new(CapturePermit(self.clone(), data))))
    }
}

struct CapturePermit(Capture, DataType);

impl Permit for CapturePermit {
    fn send(self: Box<Self>, passage: Passage) {
        self.0.0.lock().unwrap().messages.push((self.1, passage.message));
    }
}

/// Running receivers.
pub(super) struct Gateway {
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) spans: Recorder,
    pub(super) passed: Capture,
    pub(super) shutdown: CancellationToken,
    pub(super) served: JoinHandle<()>,
}

pub(super) const LIMIT: usize = 64 * 1024;

/// Everything counts, also what is sent twice.
pub(super) fn config() -> ReceiverConfig {
    let any = || "127.0.0.1:0".to_owned();
    let (grpc, http) = (
        GrpcConfig { endpoint: any(), ..Default::default() },
        HttpConfig { endpoint: any(), ..Default::default() },
    );
    ReceiverConfig { grpc, http, max_request_bytes: LIMIT, deduplicate: Duration::ZERO, ..Default::default() }
}

impl Gateway {
    pub(super) async fn start() -> Self {
        let passed = Capture::default();
        Self::start_with(config(), passed.clone(), Arc::new(passed)).await
    }

    pub(super) async fn start_with(
        config: ReceiverConfig,
        passed: Capture,
        downstream: Arc<dyn Downstream>,
    ) -> Self {
        Self::start_as(config, passed, downstream, Doors::default(), Arc::new(ProcessMemory)).await
    }

    /// With ports that not everybody may send to.
    pub(super) async fn start_behind(config: ReceiverConfig, doors: Doors) -> Self {
        let passed = Capture::default();
        Self::start_as(config, passed.clone(), Arc::new(passed), doors, Arc::new(ProcessMemory)).await
    }

    /// With a memory that is what a test says.
    pub(super) async fn start_in(config: ReceiverConfig, memory: Arc<dyn Memory>) -> Self {
        let passed = Capture::default();
        Self::start_as(config, passed.clone(), Arc::new(passed), Doors::default(), memory).await
    }

    async fn start_as(
        config: ReceiverConfig,
        passed: Capture,
        downstream: Arc<dyn Downstream>,
        doors: Doors,
        memory: Arc<dyn Memory>,
    ) -> Self {
        let spans = Recorder::default();
        let deps = ReceiverDeps {
            admission: spans.clone(),
            downstream,
            clock: Arc::new(SystemClock),
            doors,
            memory,
        };
        let receivers = Receivers::bind(config, deps).await.unwrap();
        let (grpc, http) = (receivers.grpc_addr().unwrap(), receivers.http_addr().unwrap());
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(receivers.serve(shutdown.clone()));
        Self { grpc, http, spans, passed, shutdown, served }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    pub(super) async fn export(&self, message: impl Into<Bytes>) -> Result<Bytes, Status> {
        export(self.grpc, "trace.v1.TraceService", message.into(), None).await
    }
}

/// Calls `Export` of a service with these bytes.
pub(super) async fn export(
    to: SocketAddr,
    service: &str,
    message: Bytes,
    compression: Option<CompressionEncoding>,
) -> Result<Bytes, Status> {
    export_on(channel(to).await, service, message, compression).await
}

/// [`export`] over a connection that is there.
pub(super) async fn export_on(
    channel: Channel,
    service: &str,
    message: Bytes,
    compression: Option<CompressionEncoding>,
) -> Result<Bytes, Status> {
    let mut grpc = Grpc::new(channel);
    if let Some(compression) = compression {
        grpc = grpc.send_compressed(compression);
    }
    call_service(grpc, service, tonic::Request::new(message)).await
}

/// Exports traces in a request with metadata.
pub(super) async fn export_request(
    channel: Channel,
    request: tonic::Request<Bytes>,
) -> Result<Bytes, Status> {
    call_service(Grpc::new(channel), "trace.v1.TraceService", request).await
}

/// Calls any method, `package.Service/Method`, with an empty message.
pub(super) async fn call(to: SocketAddr, method: &str) -> Result<Bytes, Status> {
    let request = tonic::Request::new(Bytes::new());
    call_path(Grpc::new(channel(to).await), &format!("/{method}"), request).await
}

async fn call_service(
    grpc: Grpc<Channel>,
    service: &str,
    request: tonic::Request<Bytes>,
) -> Result<Bytes, Status> {
    call_path(grpc, &format!("/opentelemetry.proto.collector.{service}/Export"), request).await
}

async fn call_path(
    mut grpc: Grpc<Channel>,
    path: &str,
    request: tonic::Request<Bytes>,
) -> Result<Bytes, Status> {
    grpc.ready().await.map_err(|e| Status::unknown(e.to_string()))?;
    Ok(grpc.unary(request, path.parse().unwrap(), Raw).await?.into_inner())
}

pub(super) async fn channel(to: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{to}")).unwrap().connect().await.unwrap()
}

#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Entry spans of these names in one message.
pub(super) fn traces(names: &[&str]) -> Vec<u8> {
    let span = |name: &&str| Span {
        name: (*name).into(),
        kind: 2,
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        ..Default::default()
    };
    message(names.iter().map(span).collect())
}

/// The spans of a service.
pub(super) fn traces_of(service: &str, names: &[&str]) -> Vec<u8> {
    let mut message = ExportTraceServiceRequest::decode(&*traces(names)).unwrap();
    let value = Some(AnyValue { value: Some(Value::StringValue(service.into())) });
    let attributes = vec![KeyValue { key: "service.name".into(), value, ..Default::default() }];
    message.resource_spans[0].resource = Some(Resource { attributes, ..Default::default() });
    message.encode_to_vec()
}

pub(super) fn message(spans: Vec<Span>) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans { spans, ..Default::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// [`with_bad_id`] without the bad span.
pub(super) fn without_bad_id() -> Vec<u8> {
    message(vec![Span { name: "good".into(), kind: 2, end_time_unix_nano: 2, ..Default::default() }])
}

/// One good span and one whose trace id is too short.
pub(super) fn with_bad_id() -> Vec<u8> {
    let good = Span { name: "good".into(), kind: 2, end_time_unix_nano: 2, ..Default::default() };
    message(vec![good.clone(), Span { trace_id: vec![1; 15], name: "bad".into(), ..good }])
}

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}
