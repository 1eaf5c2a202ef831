//! What to do about telemetry that lacks something. Each finding is a sentence and two lines that mend it: one
//! for the environment of the process, one for the Collector; or, where neither can, lines of code of the service.

use std::collections::BTreeMap;

use super::diagnosis::{ServiceTelemetry, SignalTelemetry};
use super::flags::FlagTelemetry;
use super::passage::Signal;
use crate::model::ResourceAttribute;
use crate::verdict::Timing;
use crate::verdict::words::duration;

/// Records below which nothing is said.
const MIN_RECORDS: u64 = 20;
/// Share of records below which nothing is said: a stray sender is no news.
const MIN_SHARE: f64 = 0.01;
/// Seconds between two exports of metrics beyond which it is said what they cost; SDKs export every 60 s by default.
const LONG_INTERVAL_S: i64 = 30;
/// What is advised instead.
const ADVISED_INTERVAL_S: i64 = 15;

/// Something that the telemetry of a service lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// A word for programs.
    pub what: &'static str,
    /// Whether verdicts suffer: then it is logged too.
    pub is_warning: bool,
    /// What is missing and what follows from it, a sentence.
    pub text: String,
    /// Mends it in the environment of the process; empty where nothing there does.
    pub environment: &'static str,
    /// Mends it in the Collector; empty where nothing there does.
    pub collector: &'static str,
    /// Lines of code that mend it, one for each of some SDKs; none where no code is needed.
    pub code: &'static [&'static str],
}

/// What a service lacks, the worst first. What requests are judged by tells it: spans, or metrics where there are none.
pub(super) fn missing(service: &ServiceTelemetry) -> Vec<Missing> {
    let mut found = Vec::new();
    let of = |signal: Signal| service.signals[signal as usize].as_ref();
    let on_kubernetes = service.signals.iter().flatten().any(is_on_kubernetes);
    if let Some(spans) = of(Signal::Traces) {
        found.extend(version_of_spans(spans, on_kubernetes));
        found.extend(instance_of_spans(spans, on_kubernetes));
    }
    for signal in [Signal::Metrics, Signal::Logs] {
        if let Some(records) = of(signal) {
            found.extend(version_of_others(signal, records));
        }
    }
    if let Some(points) = of(Signal::Metrics) {
        found.extend(instance_of_metrics(points, of(Signal::Traces).is_none(), on_kubernetes));
    }
    let judged = of(Signal::Traces).map(|spans| ("spans", spans));
    if let Some((name, records)) = judged.or_else(|| Some(("data points", of(Signal::Metrics)?))) {
        found.extend(environment(name, records));
        found.extend(placement(name, records, on_kubernetes));
    }
    found.extend(feature_flags(&service.flags));
    found.extend(export_interval(service.metrics_interval_s));
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
        code: &[],
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
        code: &[],
        environment: "OTEL_RESOURCE_ATTRIBUTES=service.instance.id=$(hostname)",
        collector: if on_kubernetes {
            "processors: {k8sattributes: {extract: {metadata: [k8s.pod.uid]}}}"
        } else {
            "processors: {resourcedetection: {detectors: [env, system]}}"
        },
    })
}

/// A warning where nothing else counts requests.
fn instance_of_metrics(points: &SignalTelemetry, alone: bool, on_kubernetes: bool) -> Option<Missing> {
    let percent = percent(points, points.records - points.with_instance)?;
    Some(Missing {
        what: "instance_of_metrics",
        is_warning: alone,
        text: format!(
            "{percent:.0} % of the data points do not say which instance they are from; how much instances differ is \
             unknown then, and cumulative ones of processes that start together are taken for one counter"
        ),
        code: &[],
        environment: "OTEL_RESOURCE_ATTRIBUTES=service.instance.id=$(hostname)",
        collector: if on_kubernetes {
            "processors: {k8sattributes: {extract: {metadata: [k8s.pod.uid]}}}"
        } else {
            "processors: {resourcedetection: {detectors: [env, system]}}"
        },
    })
}

/// A verdict by metrics is as slow as they come.
fn export_interval(interval_s: Option<i64>) -> Option<Missing> {
    let interval_s = interval_s.filter(|seconds| *seconds > LONG_INTERVAL_S)?;
    let least = |seconds| duration(Timing::of_slot(seconds).earliest_fail_s() as f64);
    Some(Missing {
        what: "export_interval",
        is_warning: false,
        text: format!(
            "the metrics come every {interval_s} s; a fail by them takes {} at least, with {ADVISED_INTERVAL_S} s it \
             would be {}",
            least(interval_s),
            least(ADVISED_INTERVAL_S)
        ),
        code: &[],
        environment: "OTEL_METRIC_EXPORT_INTERVAL=15000",
        collector: "connectors: {span_metrics: {metrics_flush_interval: 15s}}",
    })
}

/// Flags that tell requests apart by the configuration, and that no request tells of. One finding for all of them.
fn feature_flags(flags: &BTreeMap<String, FlagTelemetry>) -> Option<Missing> {
    let is_elsewhere =
        |told: &FlagTelemetry| told.requests == 0 && told.other_spans + told.log_records >= MIN_RECORDS;
    let elsewhere: Vec<(&str, &FlagTelemetry)> = flags
        .iter()
        .filter(|(_, told)| is_elsewhere(told))
        .map(|(flag, told)| (flag.as_str(), told))
        .collect();
    if elsewhere.is_empty() {
        return None;
    }
    let any = |records: fn(&FlagTelemetry) -> u64| elsewhere.iter().any(|(_, told)| records(told) > 0);
    let places = match (any(|told| told.other_spans), any(|told| told.log_records)) {
        (true, true) => "on inner spans and in log records",
        (true, false) => "on inner spans",
        _ => "in log records",
    };
    let names = elsewhere.iter().map(|(flag, _)| *flag).collect::<Vec<_>>().join(", ");
    let (subject, them) =
        if elsewhere.len() == 1 { ("feature flag", "it") } else { ("each of the feature flags", "them") };
    Some(Missing {
        what: "feature_flag",
        is_warning: true,
        text: format!(
            "{subject} {names} is evaluated {places} only; requests cannot be told by {them}. Evaluate in the span of \
             the request, for OpenFeature's tracing hook writes to the current span, or set the variant on it by a hook"
        ),
        environment: "",
        collector: "",
        code: &[
            "Node.js: OpenFeature.addHooks({after: (hook, details) => getRPCMetadata(context.active())?.span\
             .setAttribute(`feature_flag.${hook.flagKey}`, details.variant)})",
            "Java: public void after(HookContext<Object> hook, FlagEvaluationDetails<Object> details, \
             Map<String, Object> hints) { LocalRootSpan.current().setAttribute(\"feature_flag.\" + hook.getFlagKey(), \
             details.getVariant()); }",
        ],
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
        code: &[],
        environment: "OTEL_RESOURCE_ATTRIBUTES=service.version=1.4.2",
        collector,
    })
}

fn environment(name: &str, judged: &SignalTelemetry) -> Option<Missing> {
    let percent = percent(judged, judged.records - judged.with_environment)?;
    Some(Missing {
        what: "environment",
        is_warning: false,
        text: format!(
            "{percent:.0} % of the {name} name no deployment environment; staging and production of one name \
             are one service then"
        ),
        code: &[],
        environment: "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=production",
        collector: "processors: {resource: {attributes: [{key: deployment.environment.name, value: production, \
                    action: upsert}]}}",
    })
}

fn placement(name: &str, judged: &SignalTelemetry, on_kubernetes: bool) -> Option<Missing> {
    let with_zone = judged.with.get(&ResourceAttribute::Zone).copied().unwrap_or(0);
    let percent = percent(judged, judged.records.saturating_sub(with_zone))?;
    Some(Missing {
        what: "placement",
        is_warning: false,
        text: format!("{percent:.0} % of the {name} do not say in which zone their instance runs"),
        code: &[],
        environment: "OTEL_RESOURCE_ATTRIBUTES=cloud.availability_zone=eu-central-1a",
        collector: if on_kubernetes {
            "processors: {resourcedetection: {detectors: [env, eks, gcp, aks]}}"
        } else {
            "processors: {resourcedetection: {detectors: [env, ec2, gcp, azure]}}"
        },
    })
}
