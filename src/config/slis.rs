//! What is wrong with the SLIs of a policy's own, and the way out: keys that do not belong to a kind, words that
//! mean nothing, weights of what decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::validate::Checks;
use crate::model::{Measure, MeasureKey, Program, TooMany};
use crate::pipeline::config::Values;
use crate::pipeline::config::slis::{
    Direction, OUTCOMES, QUANTILES, SPAN_KINDS, SPAN_STATUSES, SelectionConfig, SliConfig, SliKind,
};
use crate::verdict::Sli;

/// SLIs of one block, and attributes and values of one condition.
const SLIS_MAX: usize = 16;
const ATTRIBUTES_MAX: usize = 8;
const VALUES_MAX: usize = 16;
/// Longest name of an SLI.
const NAME_BYTES: usize = 40;

/// Checks the SLIs of all blocks; `blocks` are their paths with what they say.
pub(super) fn check<'a>(
    blocks: impl Iterator<Item = (String, &'a BTreeMap<String, SliConfig>)>,
    checks: &mut Checks,
) {
    let blocks: Vec<_> = blocks.collect();
    let is_defined = |(name, sli): (&String, &SliConfig)| sli.is_definition().then(|| name.clone());
    let defined: BTreeSet<String> =
        blocks.iter().flat_map(|(_, slis)| slis.iter().filter_map(is_defined)).collect();
    for (path, slis) in &blocks {
        let few = format!("names {} SLIs; at most {SLIS_MAX} are told apart in one block", slis.len());
        checks.require(slis.len() <= SLIS_MAX, path, few);
        for (name, sli) in *slis {
            let path = format!("{path}.{name}");
            check_name(&path, name, checks);
            if sli.is_definition() {
                definition(&path, sli, checks);
            } else {
                change(&path, name, sli, defined.contains(name), checks);
            }
            decides(&path, sli, checks);
        }
        has_room(path, slis.values(), checks);
    }
}

fn check_name(path: &str, name: &str, checks: &mut Checks) {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_word = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(letters);
    let message =
        format!("the name must be of a-z, 0-9 and _, begin with a letter, and have at most {NAME_BYTES}");
    checks.require(is_word && name.len() <= NAME_BYTES, path, message);
    let is_common = Sli::ALL.iter().any(|sli| sli.as_str() == name) || name == "own";
    checks.require(!is_common, path, "is the name of an SLI that every service has; give yours another");
}

/// Which keys of an SLI are set beside those that any may have.
fn set_keys(sli: &SliConfig) -> [(&'static str, bool); 10] {
    [
        ("total", sli.total.is_some()),
        ("bad", sli.bad.is_some()),
        ("good", sli.good.is_some()),
        ("events", sli.events.is_some()),
        ("value", sli.value.is_some()),
        ("quantity", sli.quantity.is_some()),
        ("codes", sli.codes.is_some()),
        ("quantile", sli.quantile.is_some()),
        ("threshold", sli.threshold.is_some()),
        ("share", sli.share.is_some()),
    ]
}

/// The keys that a kind may have.
const fn keys_of(kind: SliKind) -> &'static [&'static str] {
    match kind {
        SliKind::Ratio => &["total", "bad", "good"],
        SliKind::Latency => &["total", "quantile", "threshold"],
        SliKind::ClientErrors => &["total", "codes"],
        SliKind::LogErrors | SliKind::Churn => &[],
        SliKind::Rate => &["total", "events", "quantity"],
        SliKind::Counter => &["events"],
        SliKind::Gauge => &["value"],
        SliKind::TrafficShare => &["share"],
    }
}

fn definition(path: &str, sli: &SliConfig, checks: &mut Checks) {
    let Some(kind) = sli.kind else { return };
    let known = keys_of(kind);
    for (key, _) in set_keys(sli).into_iter().filter(|(key, is_set)| *is_set && !known.contains(key)) {
        let may = if known.is_empty() { "none of its own".to_owned() } else { known.join(", ") };
        let message = format!("is no key of kind `{}`, which has {may}", kind.as_str());
        checks.require(false, &format!("{path}.{key}"), message);
    }
    match kind {
        SliKind::Ratio => {
            let one = sli.bad.is_some() != sli.good.is_some();
            checks.require(one, path, "a ratio needs either `bad` or `good`: which of `total` they are");
        }
        SliKind::Latency => {
            let one = sli.quantile.is_some() != sli.threshold.is_some();
            checks.require(one, path, "a latency needs either `quantile` or `threshold`");
            let is_known = sli.quantile.is_none_or(|q| QUANTILES.contains(&q));
            checks.require(is_known, &format!("{path}.quantile"), "must be 0.5, 0.75, 0.95 or 0.99");
            let is_some = sli.threshold.is_none_or(|threshold| !threshold.is_zero());
            checks.require(is_some, &format!("{path}.threshold"), "must be longer than 0s");
        }
        SliKind::Rate => {
            let one = sli.events.is_some() || sli.quantity.is_some();
            checks.require(one, path, "a rate needs `events` that are counted, a `quantity`, or both");
        }
        SliKind::Counter => {
            let is_named = sli.events.as_ref().is_some_and(|events| events.metric.is_some());
            let message = "a counter needs `events` with the `metric` that counts them";
            checks.require(is_named, path, message);
        }
        SliKind::Gauge => gauge(path, sli, checks),
        SliKind::Churn => {
            let proves = sli.required != Some(true) || sli.slack.is_some_and(|slack| slack > 0.0);
            let message = "where no instance dies nothing shows that a version is not worse; add `slack`, the deaths \
                           in a minute of an instance that would be, or leave the PASS to the flag `instances_restart`";
            checks.require(proves, &format!("{path}.required"), message);
        }
        SliKind::TrafficShare => traffic_share(path, sli, checks),
        SliKind::ClientErrors | SliKind::LogErrors => {}
    }
    of_one_signal(path, kind, sli, checks);
    let is_rate = matches!(kind, SliKind::Rate | SliKind::LogErrors | SliKind::Counter | SliKind::Gauge);
    let message =
        "fewer is worse only of a rate, a gauge or of log errors; of a ratio, swap `good` and `bad`";
    let direction = sli.direction != Some(Direction::Decrease) || is_rate;
    checks.require(direction, &format!("{path}.direction"), message);
    let is_quantile = kind == SliKind::Latency && sli.quantile.is_some();
    let message = "a quantile has no share to give slack to; use `margin`";
    checks.require(!is_quantile || sli.slack.is_none(), &format!("{path}.slack"), message);
    let selections = [
        ("total", &sli.total),
        ("bad", &sli.bad),
        ("good", &sli.good),
        ("events", &sli.events),
        ("value", &sli.value),
    ];
    for (key, chosen) in selections {
        if let Some(chosen) = chosen {
            selection(&format!("{path}.{key}"), chosen, checks);
        }
    }
    if let Some(codes) = &sli.codes {
        values(&format!("{path}.codes"), codes, false, checks);
        checks.require(!codes.is_empty(), &format!("{path}.codes"), "names no code");
    }
    let is_named = sli.quantity.as_ref().is_none_or(|name| !name.is_empty());
    checks.require(is_named, &format!("{path}.quantity"), "must name the attribute that holds the quantity");
}

/// A gauge is held against earlier starts of the service only.
fn gauge(path: &str, sli: &SliConfig, checks: &mut Checks) {
    let is_named = sli.value.as_ref().is_some_and(|value| value.metric.is_some());
    checks.require(is_named, path, "a gauge needs `value` with the `metric` that shows it");
    let message = "a PASS cannot rest on a gauge, which is held against earlier starts only; remove it";
    checks.require(sli.required != Some(true), &format!("{path}.required"), message);
    let message = "says what a PASS must have ruled out, and no PASS rests on a gauge; remove it";
    checks.require(sli.pass_margin.is_none(), &format!("{path}.pass_margin"), message);
}

/// A share of traffic is held against one number.
fn traffic_share(path: &str, sli: &SliConfig, checks: &mut Checks) {
    let is_part = sli.share.is_none_or(|share| share > 0.0 && share < 1.0);
    let message = "must be above 0 and below 1: the part of both versions' requests that is meant to go to the new one, 0.1 \
                   for 10 %";
    checks.require(is_part, &format!("{path}.share"), message);
    let message = "a flag holds the PASS back where the share is clearly missed; remove it";
    checks.require(sli.required != Some(true), &format!("{path}.required"), message);
    let message = "says what a PASS must have ruled out, and here a flag does that; remove it";
    checks.require(sli.pass_margin.is_none(), &format!("{path}.pass_margin"), message);
    let message = "a share has no slack beside its `margin`; remove it";
    checks.require(sli.slack.is_none(), &format!("{path}.slack"), message);
}

/// An SLI is of spans or of metrics, not of both.
fn of_one_signal(path: &str, kind: SliKind, sli: &SliConfig, checks: &mut Checks) {
    let names = |chosen: &Option<SelectionConfig>| chosen.as_ref().is_some_and(|one| one.metric.is_some());
    let [total, bad, good, events] = [&sli.total, &sli.bad, &sli.good, &sli.events].map(names);
    match kind {
        SliKind::Rate => {
            let message = "of a rate, name the `metric` in `events`; its requests are all of the version's, or those \
                           that a `metric` in `total` counts";
            checks.require(events || !total, &format!("{path}.total"), message);
            let has_spans = sli.total.as_ref().is_some_and(|total| total.metric.is_none());
            let message = "chooses spans for events of a metric; name a `metric` here too, or leave it out";
            checks.require(!(events && has_spans), &format!("{path}.total"), message);
            let message = "is an attribute of spans; the points of a metric say how much themselves";
            checks.require(!(events && sli.quantity.is_some()), &format!("{path}.quantity"), message);
        }
        SliKind::Ratio => {
            let has_spans = sli.total.as_ref().is_some_and(|total| total.metric.is_none());
            let message =
                "chooses spans for a part that is of a metric; name a `metric` here too, or leave it out";
            checks.require(!(has_spans && (bad || good)), &format!("{path}.total"), message);
        }
        SliKind::ClientErrors => {
            let message = "client errors are told from requests; of a metric, write a `ratio`";
            checks.require(!total, &format!("{path}.total.metric"), message);
        }
        SliKind::Latency
        | SliKind::LogErrors
        | SliKind::Counter
        | SliKind::Gauge
        | SliKind::Churn
        | SliKind::TrafficShare => {}
    }
}

/// A block that changes an SLI of another one.
fn change(path: &str, name: &str, sli: &SliConfig, is_defined: bool, checks: &mut Checks) {
    let message =
        format!("has no `kind`, and no block defines an SLI named {name}; say what it is with `kind`");
    checks.require(is_defined, path, message);
    for (key, _) in set_keys(sli).into_iter().filter(|(_, is_set)| *is_set) {
        let message = "belongs to a definition; give the SLI its `kind` here too, and it stands whole";
        checks.require(false, &format!("{path}.{key}"), message);
    }
}

/// What it may decide.
fn decides(path: &str, sli: &SliConfig, checks: &mut Checks) {
    let key = |name: &str| format!("{path}.{name}");
    let weight = sli.weight.is_none_or(|w| w > 0.0 && w <= 1.0);
    let message = "must be above 0 and at most 1; for an SLI without a say write `report_only: true`";
    checks.require(weight, &key("weight"), message);
    let reports = sli.report_only == Some(true);
    let message = "has no effect on an SLI that is `report_only`; remove one of the two";
    checks.require(!(reports && sli.weight.is_some()), &key("weight"), message);
    let message = "a PASS cannot rest on an SLI that is `report_only`; remove one of the two";
    checks.require(!(reports && sli.required == Some(true)), &key("required"), message);
    // What a gauge stands at may be bytes.
    let most_slack = if sli.kind.is_none_or(|kind| kind == SliKind::Gauge) { 1e18 } else { 1.0 };
    for (name, value, most) in [
        ("margin", sli.margin, 100.0),
        ("slack", sli.slack, most_slack),
        ("pass_margin", sli.pass_margin, 100.0),
    ] {
        let ok = value.is_none_or(|v| (0.0..=most).contains(&v));
        checks.require(ok, &key(name), format!("must be between 0 and {most}"));
    }
    if let (Some(margin), Some(pass)) = (sli.margin, sli.pass_margin) {
        let message = "must be above `margin`, or a version could pass and fail at once";
        checks.require(pass > margin, &key("pass_margin"), message);
    }
}

fn selection(path: &str, chosen: &SelectionConfig, checks: &mut Checks) {
    if let Some(metric) = &chosen.metric {
        checks.require(!metric.is_empty(), &format!("{path}.metric"), "must be the name of a metric");
        let of_spans = [
            ("span_kind", !chosen.span_kind.is_empty()),
            ("span_name", chosen.span_name.is_some()),
            ("operation", chosen.operation.is_some()),
            ("span_status", !chosen.span_status.is_empty()),
            ("outcome", !chosen.outcome.is_empty()),
            ("status_code", !chosen.status_code.is_empty()),
        ];
        for (key, _) in of_spans.into_iter().filter(|(_, is_set)| *is_set) {
            let message = "is of spans; the points of a metric are chosen by `attributes`";
            checks.require(false, &format!("{path}.{key}"), message);
        }
    }
    words(&format!("{path}.span_kind"), &chosen.span_kind, &SPAN_KINDS.map(|(word, _)| word), checks);
    words(&format!("{path}.span_status"), &chosen.span_status, &SPAN_STATUSES.map(|(word, _)| word), checks);
    words(&format!("{path}.outcome"), &chosen.outcome, &OUTCOMES.map(|(word, _)| word), checks);
    values(&format!("{path}.status_code"), &chosen.status_code, false, checks);
    let few = chosen.attributes.len() <= ATTRIBUTES_MAX;
    checks.require(few, &format!("{path}.attributes"), format!("at most {ATTRIBUTES_MAX} attributes"));
    for (name, wanted) in &chosen.attributes {
        let path = format!("{path}.attributes.{name}");
        checks.require(!name.is_empty(), &path, "an attribute needs a name");
        checks.require(!wanted.is_empty(), &path, "names no value; write \"*\" for any");
        values(&path, wanted, true, checks);
    }
}

fn words(path: &str, wanted: &Values, known: &[&str], checks: &mut Checks) {
    for word in &wanted.0 {
        let message = format!("`{word}` is none of {}", known.join(", "));
        checks.require(known.contains(&word.as_str()), path, message);
    }
}

fn values(path: &str, wanted: &Values, may_negate: bool, checks: &mut Checks) {
    checks.require(wanted.0.len() <= VALUES_MAX, path, format!("at most {VALUES_MAX} values"));
    checks.require(!wanted.is_mixed(), path, "write `!` in front of all of them or of none");
    checks.require(may_negate || !wanted.is_negated(), path, "cannot be negated; name what is meant");
}

/// Whether the SLIs of a block fit into the caps of a service.
fn has_room<'a>(path: &str, slis: impl Iterator<Item = &'a SliConfig>, checks: &mut Checks) {
    let measure = |sli: &SliConfig| {
        let counted = sli.counted()?;
        Some(Measure { key: MeasureKey::of(&format!("{counted:?}")), counted })
    };
    let measures: Vec<Measure> = slis.filter_map(measure).collect();
    let message = match Program::compile(&measures) {
        Ok(_) => return,
        Err(TooMany::Measures) => "more SLIs than a service may have",
        Err(TooMany::Conditions) => "more than 64 different conditions; use fewer, or lists in one",
        Err(TooMany::Quantities) => "more than 4 different quantities",
    };
    checks.require(false, path, message);
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    fn problem(slis: &str) -> String {
        let yaml = format!("policies:\n  defaults:\n    slis:\n      {slis}\n");
        match parse(&yaml, |_| None) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn sound_ones_are_sound() {
        for slis in [
            "a: {kind: ratio, bad: {attributes: {x: [1, 'y*', true]}}}",
            "a: {kind: latency, quantile: 0.95, total: {span_kind: client}, margin: 0.2, required: true}",
            "a: {kind: client_errors, codes: ['400..403', UNAUTHENTICATED]}",
            "a: {kind: log_errors, report_only: true}",
            "a: {kind: rate, events: {span_kind: [client]}, direction: decrease, weight: 0.3}",
            "a: {kind: rate, events: {metric: m, attributes: {x: y}}, total: {metric: n}}",
            "a: {kind: ratio, bad: {metric: m, attributes: {x: y}}}",
            "a: {kind: latency, total: {metric: m}, threshold: 250ms}",
            "a: {kind: counter, events: {metric: m}, required: true}",
            "a: {kind: gauge, value: {metric: m, attributes: {x: y}}}",
            "a: {kind: gauge, value: {metric: m}, direction: decrease, margin: 0.2, slack: 5e8, weight: 0.05}",
            "instance_churn: {kind: churn, weight: 0.05}",
            "instance_churn: {kind: churn, slack: 0.01, required: true}",
        ] {
            assert_eq!(problem(slis), "", "{slis}");
        }
    }

    #[test]
    fn what_cannot_be_says_where_and_the_way_out() {
        let rows: [(&str, &[&str]); 47] = [
            ("err: {kind: log_errors}", &["slis.err", "every service has; give yours another"]),
            ("Mine: {kind: log_errors}", &["slis.Mine", "a-z, 0-9 and _"]),
            ("a: {kind: ratio}", &["slis.a", "either `bad` or `good`"]),
            ("a: {kind: ratio, bad: {}, good: {}}", &["either `bad` or `good`"]),
            (
                "a: {kind: ratio, bad: {}, quantile: 0.5}",
                &["slis.a.quantile", "no key of kind `ratio`", "total, bad, good"],
            ),
            ("a: {kind: latency}", &["either `quantile` or `threshold`"]),
            ("a: {kind: latency, quantile: 0.9}", &["0.5, 0.75, 0.95 or 0.99"]),
            ("a: {kind: latency, quantile: 0.5, slack: 0.1}", &["slis.a.slack", "use `margin`"]),
            ("a: {kind: rate}", &["needs `events` that are counted"]),
            (
                "a: {kind: ratio, bad: {}, direction: decrease}",
                &["slis.a.direction", "swap `good` and `bad`"],
            ),
            ("a: {kind: log_errors, weight: 0}", &["slis.a.weight", "report_only: true"]),
            ("a: {kind: log_errors, weight: 2}", &["at most 1"]),
            (
                "a: {kind: log_errors, weight: 0.1, report_only: true}",
                &["slis.a.weight", "remove one of the two"],
            ),
            (
                "a: {kind: log_errors, required: true, report_only: true}",
                &["slis.a.required", "cannot rest on"],
            ),
            ("a: {kind: log_errors, margin: 1, pass_margin: 0.5}", &["slis.a.pass_margin", "above `margin`"]),
            ("a: {weight: 0.1}", &["slis.a", "no block defines an SLI named a"]),
            (
                "a: {kind: ratio, bad: {span_kind: klient}}",
                &["slis.a.bad.span_kind", "`klient` is none of", "client"],
            ),
            ("a: {kind: ratio, bad: {outcome: fine}}", &["good, bad, client_error"]),
            ("a: {kind: ratio, bad: {attributes: {x: ['!a', b]}}}", &["all of them or of none"]),
            ("a: {kind: ratio, bad: {attributes: {x: []}}}", &["write \"*\" for any"]),
            ("a: {kind: ratio, bad: {status_code: '!401'}}", &["cannot be negated"]),
            ("a: {kind: ratio, bad: {attributes: {x: 1.5}}}", &["text, a whole number, true, false"]),
            ("a: {kind: rations, bad: {}}", &["line 4", "did you mean `ratio`?"]),
            ("a: {kind: ratio, bad: {}, wieght: 1}", &["line 4", "did you mean `weight`?"]),
            ("a: {kind: churn, events: {metric: m}}", &["slis.a.events", "none of its own"]),
            ("a: {kind: churn, direction: decrease}", &["slis.a.direction"]),
            ("a: {kind: churn, required: true}", &["slis.a.required", "add `slack`"]),
            ("a: {kind: churn, share: 0.1}", &["slis.a.share", "none of its own"]),
            ("a: {kind: traffic_share, share: 10}", &["slis.a.share", "above 0 and below 1", "0.1 for 10 %"]),
            ("a: {kind: traffic_share, share: 0}", &["slis.a.share", "above 0 and below 1"]),
            ("a: {kind: traffic_share, direction: decrease}", &["slis.a.direction"]),
            ("a: {kind: traffic_share, required: true}", &["slis.a.required", "a flag holds the PASS back"]),
            ("a: {kind: traffic_share, slack: 0.1}", &["slis.a.slack", "beside its `margin`"]),
            ("a: {kind: traffic_share, pass_margin: 2}", &["slis.a.pass_margin"]),
            (
                "a: {kind: traffic_share, total: {}}",
                &["slis.a.total", "no key of kind `traffic_share`", "share"],
            ),
            ("a: {kind: counter}", &["slis.a", "needs `events` with the `metric`"]),
            ("a: {kind: counter, events: {metric: ''}}", &["slis.a.events.metric", "name of a metric"]),
            (
                "a: {kind: counter, events: {metric: m, span_kind: client}}",
                &["slis.a.events.span_kind", "by `attributes`"],
            ),
            (
                "a: {kind: rate, events: {metric: m}, total: {span_kind: server}}",
                &["slis.a.total", "chooses spans for events of a metric"],
            ),
            ("a: {kind: rate, events: {}, total: {metric: m}}", &["slis.a.total", "`metric` in `events`"]),
            ("a: {kind: rate, events: {metric: m}, quantity: x}", &["slis.a.quantity", "of spans"]),
            ("a: {kind: gauge}", &["slis.a", "needs `value` with the `metric`"]),
            ("a: {kind: gauge, value: {}}", &["slis.a", "needs `value` with the `metric`"]),
            ("a: {kind: gauge, events: {metric: m}}", &["slis.a.events", "no key of kind `gauge`", "value"]),
            (
                "a: {kind: gauge, value: {metric: m}, required: true}",
                &["slis.a.required", "held against earlier starts only"],
            ),
            (
                "a: {kind: gauge, value: {metric: m}, pass_margin: 2}",
                &["slis.a.pass_margin", "no PASS rests on a gauge"],
            ),
            ("a: {kind: client_errors, total: {metric: m}}", &["slis.a.total.metric", "write a `ratio`"]),
        ];
        for (slis, expected) in rows {
            let found = problem(slis);
            for part in expected {
                assert!(found.contains(part), "{slis}\nshould say {part:?}, says:\n{found}");
            }
        }
    }

    #[test]
    fn caps_are_told() {
        let many: Vec<String> = (0..17).map(|i| format!("s{i}: {{kind: log_errors}}")).collect();
        assert!(problem(&many.join("\n      ")).contains("at most 16"));
        let tests = |sli: usize| {
            let each: Vec<String> = (0..8).map(|i| format!("x{i}: v{sli}")).collect();
            format!("s{sli}: {{kind: ratio, bad: {{attributes: {{{}}}}}}}", each.join(", "))
        };
        let many: Vec<String> = (0..9).map(tests).collect();
        assert!(problem(&many.join("\n      ")).contains("more than 64 different conditions"));
    }
}
