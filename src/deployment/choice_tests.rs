//! Tables for the choices.

use super::super::lifecycle::Beginning;
use super::super::record::{Mode, Origin};
use super::*;
use crate::model::{DeploymentId, VersionKey};
use crate::verdict::{Policy, Scope};

const START: u64 = 1_800_000_000;

/// `version first last requests requests_30m [requests_5m]`, seconds after the start; a leading `*` means stored, a
/// leading `!` that it failed.
fn sighting(text: &str) -> Sighting {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |i: usize| words[i].parse::<u64>().unwrap();
    Sighting {
        version: words[0].trim_start_matches(['*', '!']).into(),
        first: UnixNanos::from_secs(START + number(1)),
        last: UnixNanos::from_secs(START + number(2)),
        requests: number(3),
        requests_5m: words.get(5).map_or(0, |n| n.parse().unwrap()),
        requests_30m: number(4),
        failed: words[0].starts_with('!'),
        stored: words[0].starts_with('*'),
    }
}

fn sightings(text: &str) -> Vec<Sighting> {
    text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(sighting).collect()
}

#[test]
fn known_after_a_minute_and_a_hundred_requests() {
    for (seen, known) in [
        ("v1 0 60 100 100", true),
        ("v1 0 59 1000 1000", false),
        ("v1 0 600 99 99", false),
        ("*v1 0 0 0 0", true),
    ] {
        assert_eq!(sighting(seen).is_known(), known, "{seen}");
    }
}

#[test]
fn what_starts_a_deployment() {
    for (candidate, others, fresh, starts) in [
        ("v2 500 500 1 1", "v1 0 500 900 900", false, true),
        ("v2 500 500 1 1", "v1 0 500 900 900", true, true),
        // Nothing beside it, or nothing that is known.
        ("v2 500 500 1 1", "", false, false),
        ("v2 500 500 1 1", "v1 490 500 5000 5000", false, false),
        // A version that came back, from memory.
        ("*v2 500 500 1 1", "v1 0 500 900 900", false, false),
        ("v2 500 500 1 1", "*v1 0 0 0 0", false, true),
        // One that failed is new when it comes back, and known beside nothing.
        ("!v2 0 500 9000 900", "v1 0 500 900 900", false, true),
        ("v3 500 500 1 1", "!v2 0 500 900 900", false, false),
        // The first two minutes of a start without memory, also when looked at later.
        ("v2 119 119 1 1", "v1 0 119 900 900", true, false),
        ("v2 119 900 50 50", "v1 0 900 900 900", true, false),
        ("v2 120 120 1 1", "v1 0 120 900 900", true, true),
        ("v2 119 119 1 1", "*v1 0 119 900 900", false, true),
        // What carries no usable version is neither new nor known.
        ("(unversioned) 500 500 1 1", "v1 0 500 900 900", false, false),
        ("(overflow) 500 500 1 1", "v1 0 500 900 900", false, false),
        ("v2 500 500 1 1", "(unversioned) 0 500 900 900", false, false),
    ] {
        let fresh_start = fresh.then(|| UnixNanos::from_secs(START));
        let candidate = sighting(candidate);
        let service = [sightings(others), vec![candidate.clone()]].concat();
        assert_eq!(
            starts_deployment(&candidate, &service, fresh_start),
            starts,
            "{candidate:?} beside {others}, fresh {fresh}"
        );
    }
}

#[test]
fn the_baseline_is_who_served_most() {
    for (service, baseline) in [
        ("v1 0 500 900 900, v2 400 500 5000 5000", Some("v1")),
        ("v0 0 500 900 100, v1 0 500 900 800, v2 400 500 1 1", Some("v1")),
        // All gone for more than 30 minutes: the one that left last.
        ("v0 0 100 900 0, v1 0 300 900 0, v2 4000 4000 1 1", Some("v1")),
        // It just went away: its traffic still counts.
        ("v0 0 500 90000 20, v1 0 399 900 900, v2 400 500 1 1", Some("v1")),
        // A known version before a busier one that nobody knows yet.
        ("v1 0 500 900 200, v3 490 500 5000 5000, v2 400 500 1 1", Some("v1")),
        ("v3 490 500 5 5, v2 400 500 1 1", Some("v3")),
        ("v2 400 500 5000 5000", None),
        ("(unversioned) 0 500 900 900, (overflow) 0 500 900 900, v2 0 1 1 1", None),
        ("b 0 500 900 900, a 0 500 900 900, v2 400 500 1 1", Some("a")),
    ] {
        assert_eq!(choose_baseline("v2", &sightings(service)), baseline, "{service}");
    }
}

fn running(baseline: Option<&str>, phase: Phase, verdict: Verdict) -> Deployment {
    let mut deployment = Beginning {
        id: DeploymentId("d1".into()),
        service: ServiceKey::default(),
        baseline: baseline.map(String::from),
        candidate: "v2".into(),
        time: None,
        scope: Default::default(),
        origin: Origin::Detected,
        release: Deployment::VERSION.into(),
        mode: Mode::Observe,
        policy: Policy::default(),
        url: None,
        commit: Some("abc".into()),
        share: None,
    }
    .begin(UnixNanos::from_secs(START));
    deployment.phase = phase;
    deployment.verdict = verdict;
    deployment
}

#[test]
fn a_request_fills_in_what_is_open() {
    use BaselineMerge::{Replaced, Same, TooLate};
    for (has, phase, verdict, asked, merge, after) in [
        (Some("v1"), Phase::Warming, Verdict::Pending, None, Same, Some("v1")),
        (Some("v1"), Phase::Warming, Verdict::Pending, Some("v1"), Same, Some("v1")),
        (None, Phase::Warming, Verdict::Pending, Some("v1"), Replaced, Some("v1")),
        (Some("v1"), Phase::Evaluating, Verdict::Pending, Some("v0"), Replaced, Some("v0")),
        (Some("v1"), Phase::Watching, Verdict::Pass, Some("v0"), TooLate, Some("v1")),
        (Some("v1"), Phase::Failed, Verdict::Fail, Some("v0"), TooLate, Some("v1")),
        (Some("v1"), Phase::Failed, Verdict::Fail, Some("v1"), Same, Some("v1")),
    ] {
        let before = running(has, phase, verdict);
        let request = Request {
            baseline: asked.map(String::from),
            url: Some("https://ci/7".into()),
            ..Request::default()
        };
        let merged = merge_request(&before, &request);
        assert_eq!(merged.baseline, merge, "{has:?} {phase:?} {asked:?}");
        assert_eq!(merged.deployment.baseline.as_deref(), after);
        assert_eq!(merged.deployment.url.as_deref(), Some("https://ci/7"));
        assert_eq!(merged.deployment.commit.as_deref(), Some("abc"));
        assert!(merged.changed);
        assert!(!merge_request(&merged.deployment, &request).changed, "merging twice is merging once");
    }
}

#[test]
fn requests_that_cannot_be_right() {
    let request = |service: &str, version: &str, baseline: Option<&str>| Request {
        service: service.into(),
        version: version.into(),
        baseline: baseline.map(String::from),
        ..Request::default()
    };
    let at = |version: &str, baseline: Option<&str>| Request {
        time: Some(UnixNanos::from_secs(START)),
        ..request("a", version, baseline)
    };
    let scoped = |request: Request, names: &[&str], value: &str| {
        let values = names.iter().map(|name| ((*name).to_owned(), value.to_owned())).collect();
        Request { scope: Scope::new(values), ..request }
    };
    for (request, wrong) in [
        (request("a", "v2", Some("v1")), None),
        (request("a", "v2", None), None),
        (request("", "v2", None), Some("service is empty")),
        (
            request("a", "", None),
            Some("name the version that is deployed, or the time of a change that carries none"),
        ),
        (at("", None), None),
        (
            at("v2", None),
            Some(
                "a deployment names a version or a time, not both: a time is for a change without a version",
            ),
        ),
        (
            at("", Some("v1")),
            Some("baseline goes with a version: what is after a time is held against what was before it"),
        ),
        (scoped(at("", None), &["region", "operation"], "eu"), None),
        (
            scoped(request("a", "v2", None), &["region"], "eu"),
            Some(
                "scope goes with a time: a version is judged in all its requests, and by regions and dimensions of its \
                 policy",
            ),
        ),
        (
            scoped(at("", None), &["a", "b", "c", "d", "e"], "x"),
            Some("scope names 5 attributes, and 3 dimensions and `operation` are the most"),
        ),
        (Request { share: Some(0.1), ..request("a", "v2", None) }, None),
        (
            Request { share: Some(10.0), ..request("a", "v2", None) },
            Some("share is 10, and must be above 0 and at most 1: 0.1 for 10 %"),
        ),
        (
            Request { share: Some(0.1), ..at("", None) },
            Some("share goes with a version: what is after a time serves all requests"),
        ),
        (scoped(at("", None), &["region"], ""), Some("scope is empty")),
        (scoped(at("", None), &["region"], &"v".repeat(257)), Some("scope is longer than 256 bytes")),
        (request("a", "v2", Some("v2")), Some("baseline and version are both \"v2\"")),
        (
            request("a", VersionKey::OVERFLOW, None),
            Some(
                "version cannot be \"(overflow)\": that is where spans without a usable version are counted",
            ),
        ),
        (request("a", &"v".repeat(257), None), Some("version is longer than 256 bytes")),
    ] {
        assert_eq!(check_request(&request).err().map(|e| e.to_string()).as_deref(), wrong, "{request:?}");
    }
}

#[test]
fn a_time_lies_near() {
    let now = UnixNanos::from_secs(START);
    for (seconds, wrong) in [
        (0, None),
        (-60, None),
        (-61, Some("time lies 61 s back, and 60 s is the most")),
        (86_400, None),
        (86_401, Some("time lies 86401 s ahead, and 86400 s (24 h) is the most")),
    ] {
        let time = UnixNanos::from_secs(START.saturating_add_signed(seconds));
        let error = check_time(time, now).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(
            error.starts_with(wrong.unwrap_or_default()) && error.is_empty() == wrong.is_none(),
            "{error}"
        );
    }
}

#[test]
fn a_name_finds_its_service() {
    let key = |namespace: &str, name: &str, environment: &str| ServiceKey {
        namespace: namespace.into(),
        name: name.into(),
        environment: environment.into(),
        extra: Vec::new(),
    };
    let known = [
        key("shop", "checkout", "prod"),
        key("shop", "checkout", "staging"),
        key("shop", "cart", "prod"),
        key("bank", "cart", "prod"),
        key("", "mail", "prod"),
        key("", "team/search", "prod"),
    ];
    use Resolution::{Ambiguous, Found, Unknown};
    for (service, environment, expected) in [
        ("mail", None, Found(known[4].clone())),
        ("mail", Some("prod"), Found(known[4].clone())),
        ("mail", Some("staging"), Unknown(key("", "mail", "staging"))),
        ("checkout", Some("prod"), Found(known[0].clone())),
        ("checkout", None, Ambiguous(vec![known[0].clone(), known[1].clone()])),
        ("cart", Some("prod"), Ambiguous(vec![known[3].clone(), known[2].clone()])),
        ("shop/cart", None, Found(known[2].clone())),
        ("team/search", None, Found(known[5].clone())),
        ("shop/new", None, Unknown(key("shop", "new", ""))),
        ("new", Some("prod"), Unknown(key("", "new", "prod"))),
    ] {
        assert_eq!(resolve_service(service, environment, &known), expected, "{service} {environment:?}");
    }
}
