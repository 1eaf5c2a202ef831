//! How many records a metrics or logs message holds, by its framing alone. Their content is not read yet;
//! the count makes traffic visible, and a message that is not protobuf is refused.

use super::WalkSettings;
use super::identity::Identity;
use super::wire::{BYTES, Fields, WalkError, key};
use crate::model::ResourceView;
use crate::pipeline::Signal;

/// Of a request, what belongs to one resource; and the resource in it.
const ENVELOPE: u32 = key(1, BYTES);
const RESOURCE: u32 = key(1, BYTES);

/// Data points or log records in `message`; `each` is shown every resource with the number of its own.
pub(super) fn records(
    signal: Signal,
    message: &[u8],
    settings: &WalkSettings,
    mut each: impl FnMut(&ResourceView<'_>, u64),
) -> Result<u64, WalkError> {
    let path: &[&[u32]] = match signal {
        // ResourceLogs, ScopeLogs: the field that leads to the next, and at last the records.
        Signal::Traces | Signal::Logs => &[&[2], &[2]],
        // Below a Metric: gauge, sum, histogram, exponential histogram or summary, and its points.
        Signal::Metrics => &[&[2], &[2], &[5, 7, 9, 10, 11], &[1]],
    };
    let mut total = 0;
    let mut fields = Fields::new(message);
    while let Some(found) = fields.next_key()? {
        if found == ENVELOPE {
            let envelope = fields.bytes()?;
            let records = count(envelope, path)?;
            let mut identity = Identity::new(settings);
            read_resource(envelope, &mut identity)?;
            if records > 0 {
                each(&identity.view(), records);
            }
            total += records;
        } else {
            fields.skip(found)?;
        }
    }
    Ok(total)
}

fn read_resource<'a>(envelope: &'a [u8], identity: &mut Identity<'a, '_>) -> Result<(), WalkError> {
    let mut fields = Fields::new(envelope);
    while let Some(found) = fields.next_key()? {
        if found == RESOURCE {
            identity.merge(fields.bytes()?)?;
        } else {
            fields.skip(found)?;
        }
    }
    Ok(())
}

fn count(message: &[u8], path: &[&[u32]]) -> Result<u64, WalkError> {
    let Some((step, below)) = path.split_first() else { return Ok(1) };
    let mut total = 0;
    let mut fields = Fields::new(message);
    while let Some(found) = fields.next_key()? {
        if step.iter().any(|number| key(*number, BYTES) == found) {
            total += count(fields.bytes()?, below)?;
        } else {
            fields.skip(found)?;
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::metrics::v1::{
        Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data,
    };
    use prost::Message;

    use super::*;

    /// The count, and those of the single resources.
    fn counted(signal: Signal, message: &[u8]) -> Result<(u64, Vec<u64>), WalkError> {
        let mut each = Vec::new();
        let settings = WalkSettings::default();
        Ok((records(signal, message, &settings, |_, records| each.push(records))?, each))
    }

    #[test]
    fn points_and_records_are_counted() {
        let points = vec![NumberDataPoint::default(); 3];
        let gauge = Data::Gauge(Gauge { data_points: points.clone() });
        let sum = Data::Sum(Sum { data_points: points, ..Default::default() });
        let metrics = [gauge, sum].map(|data| Metric { data: Some(data), ..Default::default() }).to_vec();
        let scope = ScopeMetrics { metrics, ..Default::default() };
        let resource = ResourceMetrics { scope_metrics: vec![scope.clone(), scope], ..Default::default() };
        let empty = ResourceMetrics::default();
        let request =
            ExportMetricsServiceRequest { resource_metrics: vec![resource.clone(), empty, resource] };
        assert_eq!(counted(Signal::Metrics, &request.encode_to_vec()), Ok((24, vec![12, 12])));

        let scope = ScopeLogs { log_records: vec![LogRecord::default(); 5], ..Default::default() };
        let resource = ResourceLogs { scope_logs: vec![scope], ..Default::default() };
        let request = ExportLogsServiceRequest { resource_logs: vec![resource] };
        assert_eq!(counted(Signal::Logs, &request.encode_to_vec()), Ok((5, vec![5])));
        assert!(counted(Signal::Logs, b"not protobuf").is_err());
    }
}
