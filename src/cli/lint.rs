//! `rollguard validate --against`: a sound file held against the series of a running Rollguard. What it finds is no error of
//! the file: it says what the file will not do for the traffic that there is, and what would.

use serde_json::Value;

use crate::config::Config;
use crate::deployment::Deployment;
use crate::model::ServiceKey;
use crate::verdict::words::{count, duration, number, per_cent};
use crate::verdict::{Outlook, Policy, Timing};

/// Incident size that is assumed where none is known: slightly clustered, as most services are.
const INCIDENT_SIZE: f64 = 1.2;
/// Weight of the service's error rate.
const WEIGHT: f64 = 0.2;

/// A live service.
struct Live<'a> {
    key: ServiceKey,
    /// As people write it.
    name: String,
    /// Requests a second over all versions.
    rate: f64,
    /// The objectives that the server keeps of it.
    objectives: Vec<&'a Value>,
    /// How its latencies are tested in explicit buckets, where nothing else than metrics counts its requests.
    bounds: &'a [Value],
    /// The metrics that SLIs read there, and whether a point has come.
    sli_metrics: &'a [Value],
}

/// Everything that stands against the file, as sentences. `share` is the part of the traffic that a new version gets.
pub(super) fn lint(config: &Config, services: &Value, objectives: &Value, share: f64) -> Vec<String> {
    let live = live(services, objectives);
    if live.is_empty() {
        return vec!["no service sends telemetry to that server yet, so nothing can be said".into()];
    }
    let mut found = absent(config, services, &live);
    for service in &live {
        let policy = config.policies.resolve(&service.key, Deployment::VERSION).policy;
        found.extend(failing(service, &policy));
        found.extend(undecidable(service, &policy, share));
        found.extend(untestable(service));
        found.extend(unseen(service, &policy));
    }
    found
}

fn live<'a>(services: &'a Value, objectives: &'a Value) -> Vec<Live<'a>> {
    let list = |value: &'a Value, key: &str| value[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let objectives = list(objectives, "objectives");
    let services = services["services"].as_array().map(Vec::as_slice).unwrap_or_default();
    let one = |view: &'a Value| {
        let service = &view["service"];
        let text = |key: &str| service[key].as_str().unwrap_or_default().to_owned();
        let rates = view["versions"].as_array().into_iter().flatten();
        let own = objectives.iter().filter(|o| {
            ["namespace", "name", "environment", "identity"].iter().all(|k| o["service"][*k] == service[*k])
        });
        Live {
            key: ServiceKey {
                namespace: text("namespace"),
                name: text("name"),
                environment: text("environment"),
                extra: Vec::new(),
            },
            name: super::client::service(service),
            rate: rates.filter_map(|v| v["requests_per_second"].as_f64()).sum(),
            objectives: own.collect(),
            bounds: if list(view, "versions").iter().any(|v| v["spans"].is_object()) {
                &[]
            } else {
                list(&view["metrics"], "latency_bounds")
            },
            sli_metrics: list(view, "sli_metrics"),
        }
    };
    services.iter().map(one).collect()
}

/// What the file names and the telemetry does not show.
fn absent(config: &Config, services: &Value, live: &[Live<'_>]) -> Vec<String> {
    let mut found = Vec::new();
    for (i, entry) in config.policies.services.iter().enumerate() {
        if !live.iter().any(|service| entry.matches.matches(&service.key)) {
            let words = entry.matches.words();
            found.push(format!("policies.services[{i}] ({words}) fits no service that sends telemetry now"));
        }
    }
    for (i, journey) in config.objectives.journeys.iter().enumerate() {
        let own: Vec<&Live<'_>> = live.iter().filter(|s| journey.matches.matches(&s.key)).collect();
        let counted =
            |s: &&&Live<'_>| s.objectives.iter().any(|o| o["journey"].as_str() == Some(&*journey.name));
        let name = &journey.name;
        if own.is_empty() {
            found.push(format!("objectives.journeys[{i}] ({name}) fits no service that sends telemetry now"));
        } else if !own.iter().any(|s| counted(&s)) {
            found.push(format!(
                "objectives.journeys[{i}] ({name}): no request of it was counted; its operations fit none, or the server \
                 does not have it yet"
            ));
        }
    }
    let views = services["services"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = &config.receiver.request_metrics;
    if !names.is_empty()
        && !views
            .iter()
            .any(|s| ["other_duration", "other_calls"].iter().any(|m| s["metrics"]["metric"] == *m))
    {
        let names = names.join(", ");
        found.push(format!(
            "receiver.request_metrics: {names}: this metric never appears, or another one of its service counts instead"
        ));
    }
    found
}

/// An objective that is missed already says nothing about the next release.
fn failing(service: &Live<'_>, policy: &Policy) -> Option<String> {
    let whole = service.objectives.iter().find(|o| o["journey"].is_null())?;
    let longest = whole["burn"].as_array()?.iter().rev().find(|b| b["burn"].is_number())?;
    let share = longest["burn"].as_f64()? * (1.0 - whole["slo"].as_f64()?);
    (share > policy.error_budget()).then(|| {
        format!(
            "{}: this objective is already failing: {} of requests failed in the last {}, and {} allows {}",
            service.name,
            per_cent(share),
            longest["window"].as_str().unwrap_or("days"),
            per_cent(policy.slo),
            per_cent(policy.error_budget()),
        )
    })
}

/// Traffic that cannot bring a healthy version to a pass within the horizon.
fn undecidable(service: &Live<'_>, policy: &Policy, share: f64) -> Option<String> {
    let whole = service.objectives.iter().find(|o| o["journey"].is_null());
    let failed = whole.and_then(|o| {
        let longest = o["burn"].as_array()?.iter().rev().find(|b| b["burn"].is_number())?;
        Some(longest["burn"].as_f64()? * (1.0 - o["slo"].as_f64()?))
    });
    let outlook = Outlook {
        rates: [service.rate * share, service.rate * (1.0 - share)],
        error_rate: failed.unwrap_or(0.0).max(1e-6),
        incident_size: INCIDENT_SIZE,
        weight: WEIGHT,
        timing: Timing::default(),
        compared_s: 0.0,
    };
    let horizon = policy.horizon_s as f64;
    let needed = outlook.seconds_to_pass(policy);
    if needed.is_some_and(|needed| needed <= horizon) || service.rate <= 0.0 {
        return None;
    }
    let mut ways = Vec::new();
    if let Some(needed) = needed {
        ways.push(duration(60.0 * (needed / 60.0).ceil()));
    }
    if let Some(share) = outlook.share_to_pass(horizon, policy) {
        ways.push(format!("a share of {}", per_cent(share)));
    }
    let would = match ways.as_slice() {
        [] => "more traffic would: a day is not enough, nor is half of it".into(),
        ways => format!("{} would", ways.join(" or ")),
    };
    Some(format!(
        "{}: errors cannot be decided within {} at {} requests a second of which a new version gets {}: {would}",
        service.name,
        duration(horizon),
        if service.rate < 1_000.0 { number(service.rate) } else { count(service.rate as u64) },
        per_cent(share),
    ))
}

/// Metrics that SLIs name and no version has sent.
fn unseen(service: &Live<'_>, policy: &Policy) -> Vec<String> {
    let mut found = Vec::new();
    for sli in policy.slis.iter() {
        let mut metrics: Vec<&str> = sli.measure.counted.metrics().collect();
        metrics.dedup();
        for metric in metrics {
            let known = service.sli_metrics.iter().find(|one| one["metric"] == metric);
            let what = match known.map(|one| one["seen"] == true) {
                Some(true) => continue,
                Some(false) => {
                    "this metric never appears: no version has sent a point of it with these attributes"
                }
                None => {
                    "the server does not read this metric yet, so whether it appears shows after a reload with this file"
                }
            };
            found.push(format!("{}: SLI {}: {metric}: {what}", service.name, sli.name));
        }
    }
    found
}

/// Latency quantiles for which no explicit bound stands, beside those for which one does.
fn untestable(service: &Live<'_>) -> Option<String> {
    let name = |test: &Value| format!("p{:.0}", 100.0 * test["quantile"].as_f64().unwrap_or_default());
    let (tested, not): (Vec<&Value>, Vec<&Value>) =
        service.bounds.iter().partition(|test| test["testable"].as_bool().unwrap_or_default());
    let not: Vec<String> = not
        .iter()
        .map(|test| {
            let why = match (test["bound_seconds"].as_f64(), test["exceeded_share"].as_f64()) {
                (Some(bound), Some(share)) => {
                    let share = if share > 0.0 { per_cent(share) } else { "none".into() };
                    format!("the nearest bound, {}, is exceeded by {share} of requests", duration(bound))
                }
                _ => "its operations have no bound in common".into(),
            };
            let between = &test["between_seconds"];
            let place = match (between[0].as_f64(), between[1].as_f64()) {
                (Some(low), Some(high)) => format!("between {} and {}", duration(low), duration(high)),
                (Some(low), None) => format!("above {}", duration(low)),
                (None, Some(high)) => format!("below {}", duration(high)),
                (None, None) => "near it in all of them".into(),
            };
            format!("{} is not testable: {why}; put a bound {place}", name(test))
        })
        .collect();
    if not.is_empty() {
        return None;
    }
    let at = |test: &&Value| {
        let bound = test["bound_seconds"].as_f64().unwrap_or_default();
        format!("{} at {}", name(test), duration(bound))
    };
    let tested: Vec<String> = tested.iter().map(at).collect();
    let tested = if tested.is_empty() { "none".into() } else { tested.join(", ") };
    let not = not.join(". ");
    Some(format!("{}: {not}. Latency thresholds that are tested: {tested}", service.name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(text: &str) -> Config {
        crate::config::parse(text, |_| None).unwrap()
    }

    fn services(rate: f64) -> Value {
        json!({"services": [{"service": {"namespace": "shop", "name": "checkout", "environment": "prod"}, "metrics": null,
            "versions": [{"version": "v1", "requests_per_second": rate}]}]})
    }

    fn objectives(burn: f64) -> Value {
        json!({"objectives": [{"service": {"namespace": "shop", "name": "checkout", "environment": "prod"}, "journey": null,
            "slo": 0.99, "burn": [{"window": "5m", "burn": 9.0}, {"window": "1d", "burn": burn}, {"window": "3d", "burn": null}]}]})
    }

    #[test]
    fn a_file_that_fits_its_traffic_is_left_alone() {
        let found = lint(
            &config("policies: {services: [{match: {service: check*}}]}"),
            &services(500.0),
            &objectives(0.02),
            0.1,
        );
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn what_stands_against_a_file_is_said_with_a_way_out() {
        let text = "
receiver: {request_metrics: [my.latency]}
policies: {services: [{match: {service: chekout}}]}
objectives:
  journeys:
    - {name: pay, operations: [POST /pay], slo: 0.99, match: {service: checkout}}
    - {name: mail, operations: [POST /mail], slo: 0.99, match: {service: mail}}
";
        let found = lint(&config(text), &services(20.0), &objectives(0.5), 0.1);
        let expected = [
            "policies.services[0] (service chekout) fits no service that sends telemetry now",
            "objectives.journeys[0] (pay): no request of it was counted; its operations fit none, or the server does not \
             have it yet",
            "objectives.journeys[1] (mail) fits no service that sends telemetry now",
            "receiver.request_metrics: my.latency: this metric never appears, or another one of its service counts instead",
            "shop/checkout (prod): this objective is already failing: 0.5 % of requests failed in the last 1d, and 99.9 % \
             allows 0.1 %",
        ];
        assert_eq!(found[..5], expected);
        let undecided = found.get(5).expect("little traffic");
        let head = "shop/checkout (prod): errors cannot be decided within 30 minutes at 20 requests a second of which a new \
                    version gets 10 %: ";
        assert!(undecided.starts_with(head) && undecided.ends_with(" would"), "{undecided}");
        let nothing = lint(&config(""), &json!({"services": []}), &objectives(0.0), 0.1);
        assert_eq!(nothing, ["no service sends telemetry to that server yet, so nothing can be said"]);
    }

    #[test]
    fn metrics_that_no_version_sends_are_named() {
        let text = "policies: {defaults: {slis: {a: {kind: counter, events: {metric: a}}, b: {kind: counter, events: {metric: b}}, c: {kind: ratio, bad: {metric: c, attributes: {x: y}}}}}}";
        let mut services = services(500.0);
        services["services"][0]["sli_metrics"] =
            json!([{"metric": "a", "seen": true}, {"metric": "b", "seen": false}]);
        let found = lint(&config(text), &services, &objectives(0.02), 0.1);
        assert_eq!(
            found,
            [
                "shop/checkout (prod): SLI b: b: this metric never appears: no version has sent a point of it with these \
                 attributes",
                "shop/checkout (prod): SLI c: c: the server does not read this metric yet, so whether it appears shows \
                 after a reload with this file",
            ]
        );
    }

    #[test]
    fn x2_thresholds_that_no_bound_stands_for_are_named() {
        let test = |quantile: f64, testable: bool, bound: f64, share: f64, between: [Option<f64>; 2]| {
            json!({"quantile": quantile, "testable": testable, "bound_seconds": bound, "exceeded_share": share,
                "between_seconds": between})
        };
        let p50 = test(0.5, true, 0.25, 0.43, [Some(0.1), Some(0.25)]);
        let p95 = test(0.95, true, 0.5, 0.06, [Some(0.5), Some(1.0)]);
        let p99 = |testable| test(0.99, testable, 1.0, 0.07, [Some(1.0), None]);
        let found = |bounds: &[Value], spans: Value| {
            let mut services = services(500.0);
            services["services"][0]["metrics"] = json!({"metric": "sdk", "latency_bounds": bounds});
            services["services"][0]["versions"][0]["spans"] = spans;
            lint(&config(""), &services, &objectives(0.02), 0.1)
        };
        assert_eq!(found(&[p50.clone(), p95.clone(), p99(true)], Value::Null), [""; 0]);
        assert_eq!(found(&[p50.clone(), p95.clone(), p99(false)], json!({})), [""; 0], "spans are judged");
        assert_eq!(
            found(&[p50, p95, p99(false)], Value::Null),
            [
                "shop/checkout (prod): p99 is not testable: the nearest bound, 1 s, is exceeded by 7 % of requests; put a \
              bound above 1 s. Latency thresholds that are tested: p50 at 250 ms, p95 at 500 ms"
            ]
        );
        let fast = [0.5, 0.95, 0.99].map(|quantile| test(quantile, false, 0.005, 0.0, [None, Some(0.005)]));
        let found = found(&fast, Value::Null);
        assert_eq!(found.len(), 1);
        let head = "shop/checkout (prod): p50 is not testable: the nearest bound, 5 ms, is exceeded by none of requests; \
                    put a bound below 5 ms. p95 is";
        assert!(found[0].starts_with(head) && found[0].ends_with("that are tested: none"), "{}", found[0]);
    }
}
