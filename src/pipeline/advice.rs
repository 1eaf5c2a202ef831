//! What to do about telemetry that lacks something. Each finding is a sentence and two lines that mend it: one
//! for the environment of the process, one for the Collector.

use super::diagnosis::{ServiceTelemetry, SignalTelemetry};
use super::passage::Signal;
use crate::model::ResourceAttribute;

/// Records below which nothing is said.
const MIN_RECORDS: u64 = 20;
/// Share of records below which nothing is said: a stray sender is no news.
const MIN_SHARE: f64 = 0.01;

/// Something that the telemetry of a service lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// A word for programs.
    pub what: &'static str,
    /// Whether verdicts suffer: then it is logged too.
    pub is_warning: bool,
    /// What is missing and what follows from it, a sentence.
    pub text: String,
    /// Mends it in the environment of the process.
    pub environment: &'static str,
    /// Mends it in the Collector.
    pub collector: &'static str,
}

/// What a service lacks, the worst first.
pub(super) fn missing(service: &ServiceTelemetry) -> Vec<Missing> {
    let mut found = Vec::new();
    let on_kubernetes = service.signals.iter().flatten().any(is_on_kubernetes);
    if let Some(spans) = &service.signals[Signal::Traces as usize] {
        found.extend(version_of_spans(spans, on_kubernetes));
        found.extend(instance_of_spans(spans, on_kubernetes));
    }
    for signal in [Signal::Metrics, Signal::Logs] {
        if let Some(records) = &service.signals[signal as usize] {
            found.extend(version_of_others(signal, records));
        }
    }
    if let Some(spans) = &service.signals[Signal::Traces as usize] {
        found.extend(environment_of_spans(spans));
        found.extend(placement_of_spans(spans, on_kubernetes));
    }
    found
}

/// The share in percent, where it is worth a word.
fn percent(signal: &SignalTelemetry, records: u64) -> Option<f64> {
    let share = signal.share(records);
    (signal.records >= MIN_RECORDS && share >= MIN_SHARE).then_some(100.0 * share)
}

fn is_on_kubernetes(signal: &SignalTelemetry) -> bool {
    use ResourceAttribute::{K8sDeployment, K8sNamespace, Node, PodName, PodUid};
    [PodUid, PodName, K8sNamespace, K8sDeployment, Node].iter().any(|a| signal.with.contains_key(a))
}

fn version_of_spans(spans: &SignalTelemetry, on_kubernetes: bool) -> Option<Missing> {
    let percent = percent(spans, spans.unversioned)?;
    Some(Missing {
        what: "version",
        is_warning: true,
        text: format!("{percent:.0} % of the spans carry no version; they are counted and never judged"),
        environment: "OTEL_RESOURCE_ATTRIBUTES=service.version=1.4.2",
        collector: if on_kubernetes {
            "processors: {k8sattributes: {wait_for_metadata: true, extract: {metadata: [k8s.pod.uid, \
             k8s.deployment.name, k8s.replicaset.name]}}}"
        } else {
            "processors: {resource: {attributes: [{key: service.version, value: 1.4.2, action: upsert}]}}"
        },
    })
}

fn instance_of_spans(spans: &SignalTelemetry, on_kubernetes: bool) -> Option<Missing> {
    let percent = percent(spans, spans.records - spans.with_instance)?;
    Some(Missing {
        what: "instance",
        is_warning: true,
        text: format!(
            "{percent:.0} % of the spans do not say which instance they are from; how much instances differ \
             is unknown then"
        ),
        environment: "OTEL_RESOURCE_ATTRIBUTES=service.instance.id=$(hostname)",
        collector: if on_kubernetes {
            "processors: {k8sattributes: {extract: {metadata: [k8s.pod.uid]}}}"
        } else {
            "processors: {resourcedetection: {detectors: [env, system]}}"
        },
    })
}

fn version_of_others(signal: Signal, records: &SignalTelemetry) -> Option<Missing> {
    let percent = percent(records, records.unversioned)?;
    let (what, name, collector) = match signal {
        Signal::Metrics => (
            "version_of_metrics",
            "data points",
            "service: {pipelines: {metrics: {processors: [k8sattributes]}}}",
        ),
        _ => {
            ("version_of_logs", "log records", "service: {pipelines: {logs: {processors: [k8sattributes]}}}")
        }
    };
    Some(Missing {
        what,
        is_warning: true,
        text: format!(
            "{percent:.0} % of the {name} carry neither a version nor the id of a pod, container or instance \
             that spans name; they are of no version then"
        ),
        environment: "OTEL_RESOURCE_ATTRIBUTES=service.version=1.4.2",
        collector,
    })
}

fn environment_of_spans(spans: &SignalTelemetry) -> Option<Missing> {
    let percent = percent(spans, spans.records - spans.with_environment)?;
    Some(Missing {
        what: "environment",
        is_warning: false,
        text: format!(
            "{percent:.0} % of the spans name no deployment environment; staging and production of one name \
             are one service then"
        ),
        environment: "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=production",
        collector: "processors: {resource: {attributes: [{key: deployment.environment.name, value: production, \
                    action: upsert}]}}",
    })
}

fn placement_of_spans(spans: &SignalTelemetry, on_kubernetes: bool) -> Option<Missing> {
    let with_zone = spans.with.get(&ResourceAttribute::Zone).copied().unwrap_or(0);
    let percent = percent(spans, spans.records.saturating_sub(with_zone))?;
    Some(Missing {
        what: "placement",
        is_warning: false,
        text: format!("{percent:.0} % of the spans do not say in which zone their instance runs"),
        environment: "OTEL_RESOURCE_ATTRIBUTES=cloud.availability_zone=eu-central-1a",
        collector: if on_kubernetes {
            "processors: {resourcedetection: {detectors: [env, eks, gcp, aks]}}"
        } else {
            "processors: {resourcedetection: {detectors: [env, ec2, gcp, azure]}}"
        },
    })
}
