//! A message as OTLP/JSON, for people and files.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde::Serialize;

use crate::pipeline::DataType;

/// The message in one line.
///
/// # Errors
/// When it cannot be decoded, mostly for text that is not UTF-8, or is a profile.
pub(super) fn of(data: DataType, message: &[u8]) -> Result<String, String> {
    match data {
        DataType::Traces => line::<ExportTraceServiceRequest>(message),
        DataType::Metrics => line::<ExportMetricsServiceRequest>(message),
        DataType::Logs => line::<ExportLogsServiceRequest>(message),
        DataType::Profiles => Err("profiles are not read".to_owned()),
    }
}

fn line<T: Message + Default + Serialize>(message: &[u8]) -> Result<String, String> {
    let message = T::decode(message).map_err(|e| e.to_string())?;
    serde_json::to_string(&message).map_err(|e| e.to_string())
}
