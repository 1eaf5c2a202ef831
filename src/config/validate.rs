//! What types cannot say: ranges, and keys that must fit together. All problems of a file are collected, so
//! that it is mended in one go.

use std::fmt;
use std::time::Duration;

use super::Config;
use super::locate::Place;
use crate::api::ApiConfig;
use crate::credentials::ExtensionConfig;
use crate::pipeline::config::{ModeConfig, PipelineConfig, PoliciesConfig, PolicyConfig, PolicyOverride};

/// One value that cannot be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Key path, for example `policies.services[1].policy.slo`.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// Where in the file, when known.
    pub place: Option<Place>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = self.place {
            write!(f, "line {}, column {}: ", place.line, place.column)?;
        }
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Gathers problems under a key path.
#[derive(Debug, Default)]
pub struct Checks {
    problems: Vec<Problem>,
}

impl Checks {
    /// Reports `message` for `path` unless `ok`.
    pub fn require(&mut self, ok: bool, path: &str, message: impl Into<String>) {
        if !ok {
            self.problems.push(Problem { path: path.to_owned(), message: message.into(), place: None });
        }
    }

    /// A duration above zero.
    pub fn positive(&mut self, path: &str, value: Duration) {
        self.require(!value.is_zero(), path, "must be longer than 0s");
    }

    /// A count of at least one.
    pub fn at_least_one(&mut self, path: &str, value: usize) {
        self.require(value > 0, path, "must be at least 1");
    }

    /// An address as `host:port`.
    pub fn endpoint(&mut self, path: &str, value: &str) {
        let ok = value.rsplit_once(':').is_some_and(|(host, port)| {
            let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
            !host.is_empty() && !bare_v6 && !host.contains('/') && port.parse::<u16>().is_ok()
        });
        let message = format!("`{value}` is not host:port; for example 127.0.0.1:9464 or [::]:9464");
        self.require(ok, path, message);
    }

    /// An http or https link.
    pub fn link(&mut self, path: &str, value: Option<&str>) {
        let ok = value.is_none_or(|url| {
            url.strip_prefix("https://").or(url.strip_prefix("http://")).is_some_and(|rest| !rest.is_empty())
                && !url.contains(char::is_whitespace)
        });
        self.require(ok, path, "must be a link that begins with https:// or http://");
    }
}

/// Checks the whole configuration.
pub fn problems(config: &Config) -> Vec<Problem> {
    let mut checks = Checks::default();
    api(&config.api, &mut checks);
    pipeline(&config.pipeline, &mut checks);
    policies(&config.policies, &mut checks);
    for (path, message) in config.objectives.problems() {
        checks.require(false, &path, message);
    }
    slis(&config.policies, &mut checks);
    super::dimensions::check(&config.policies, &blocks(&config.policies), &mut checks);
    webhooks(config, &mut checks);
    authenticators(config, &mut checks);
    ports(config, &mut checks);
    let exporters = config.exporters.problems(config.receiver.include_metadata);
    let sections = [("receiver", config.receiver.problems()), ("exporters", exporters)];
    for (section, messages) in sections {
        messages.iter().for_each(|message| described(section, message, &mut checks));
    }
    checks.problems
}

/// A component's own words, which begin with the key path.
fn described(section: &str, message: &str, checks: &mut Checks) {
    let (path, rest) = message.split_once(' ').unwrap_or((section, message));
    checks.require(false, path.trim_end_matches(':'), rest.trim_start());
}

/// Two parts cannot listen on one port.
fn ports(config: &Config, checks: &mut Checks) {
    let own = config.telemetry.metrics.map(|address| address.to_string());
    let listening = [
        ("receiver.grpc.endpoint", Some(&config.receiver.grpc.endpoint)),
        ("receiver.http.endpoint", Some(&config.receiver.http.endpoint)),
        ("api.endpoint", Some(&config.api.endpoint)),
        ("telemetry.metrics", own.as_ref()),
    ];
    let addresses = listening.map(|(path, endpoint)| Some((path, Address::of(endpoint?)?)));
    for (i, (path, address)) in addresses.iter().enumerate().filter_map(|(i, a)| Some((i, (*a)?))) {
        let same = addresses[..i].iter().flatten().find(|(_, other)| other.meets(address));
        if let Some((other, _)) = same {
            checks.require(false, path, format!("is the port of {other}; give each a port of its own"));
        }
    }
}

/// What a part listens on.
#[derive(Debug, Clone, Copy)]
struct Address<'a> {
    host: &'a str,
    port: u16,
}

impl<'a> Address<'a> {
    /// `None` for what is no address (reported elsewhere), and for port 0, which takes a free one.
    fn of(endpoint: &'a str) -> Option<Self> {
        let (host, port) = endpoint.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        Some(Self { host: if host == "localhost" { "127.0.0.1" } else { host }, port })
    }

    /// Whether both cannot be listened on at once: the same address, or one is all addresses.
    fn meets(self, other: Self) -> bool {
        let all = |host: &str| host == "0.0.0.0" || host == "[::]";
        self.port == other.port && (self.host == other.host || all(self.host) || all(other.host))
    }
}

/// Who may send to a port, and whom an exporter says it is, must be somebody.
fn authenticators(config: &Config, checks: &mut Checks) {
    for (name, otlp, _) in config.exporters.otlp() {
        let Some(auth) = &otlp.auth else { continue };
        let path = format!("exporters.{name}.auth.authenticator");
        match config.extensions.get(&auth.authenticator) {
            None => checks.require(false, &path, "names no entry of `extensions`"),
            Some(ExtensionConfig::Basic(basic)) => {
                let message = "names an entry without `client_auth`, which says whom we are";
                checks.require(basic.client_auth.is_some(), &path, message);
            }
            Some(ExtensionConfig::Bearer(_)) => {}
        }
    }
    let receiver = &config.receiver;
    for (port, auth) in [("grpc", &receiver.grpc.auth), ("http", &receiver.http.auth)] {
        let Some(auth) = auth else { continue };
        let path = format!("receiver.{port}.auth.authenticator");
        match config.extensions.get(&auth.authenticator) {
            None => checks.require(false, &path, "names no entry of `extensions`"),
            Some(ExtensionConfig::Basic(basic)) => {
                let message = "names an entry without `htpasswd`, which says who may send";
                checks.require(basic.htpasswd.is_some(), &path, message);
            }
            Some(ExtensionConfig::Bearer(_)) => {}
        }
    }
}

fn webhooks(config: &Config, checks: &mut Checks) {
    for (name, webhook) in &config.webhooks {
        checks.link(&format!("webhooks.{name}.url"), Some(&webhook.url));
        checks.positive(&format!("webhooks.{name}.timeout"), webhook.timeout);
    }
    let fixed = [
        ("policies.defaults.webhook".to_owned(), &config.policies.defaults.webhook),
        ("objectives.webhook".to_owned(), &config.objectives.webhook),
    ];
    let exceptions = blocks(&config.policies);
    let named = fixed
        .into_iter()
        .chain(exceptions.into_iter().map(|(path, block)| (format!("{path}.webhook"), &block.webhook)));
    for (path, webhook) in named {
        let known = webhook.as_ref().is_none_or(|name| config.webhooks.contains_key(name));
        checks.require(known, &path, "names no entry of `webhooks`");
    }
}

fn api(api: &ApiConfig, checks: &mut Checks) {
    checks.endpoint("api.endpoint", &api.endpoint);
    checks.at_least_one("api.max_connections", api.max_connections);
    checks.positive("api.request_timeout", api.request_timeout);
}

fn pipeline(pipeline: &PipelineConfig, checks: &mut Checks) {
    let lateness = &pipeline.lateness;
    checks.positive("pipeline.lateness.min", lateness.min);
    checks.require(
        lateness.max >= lateness.min && lateness.max <= Duration::from_secs(300),
        "pipeline.lateness.max",
        "must be at least lateness.min and at most 5m",
    );
    checks.require(
        (lateness.min..=lateness.max).contains(&lateness.initial),
        "pipeline.lateness.initial",
        "must lie between lateness.min and lateness.max",
    );
    let limits = &pipeline.limits;
    for (key, value) in [
        ("services", limits.services),
        ("versions_per_service", limits.versions_per_service),
        ("operations_per_version", limits.operations_per_version),
        ("instances_per_version", limits.instances_per_version),
        ("streams_per_version", limits.streams_per_version),
    ] {
        checks.at_least_one(&format!("pipeline.limits.{key}"), value);
    }
    checks.require(
        (16..=4096).contains(&limits.label_bytes),
        "pipeline.limits.label_bytes",
        "must be between 16 and 4096",
    );
    checks.require(
        pipeline.series_ttl >= Duration::from_secs(60),
        "pipeline.series_ttl",
        "must be at least 1m, or a version with little traffic would come and go",
    );
}

fn policies(policies: &PoliciesConfig, checks: &mut Checks) {
    let before = checks.problems.len();
    policy("policies.defaults", &whole(&policies.defaults), checks);
    act_needs_webhook("policies.defaults.mode", &policies.defaults, checks);
    let defaults_are_sound = checks.problems.len() == before;
    for (index, entry) in policies.services.iter().enumerate() {
        let twice = entry.matches.environment.is_some() && !entry.environments.is_empty();
        let message = "the environment is in `match` already; name environments in one place";
        checks.require(!twice, &format!("policies.services[{index}].environments"), message);
    }
    let blocks = blocks(policies);
    let elsewhere = policies.defaults.webhook.is_some() || blocks.iter().any(|(_, b)| b.webhook.is_some());
    for (path, block) in &blocks {
        policy(path, block, checks);
        // A webhook may come from any block that applies too, so only one that is nowhere is wrong.
        let acts = block.mode == Some(ModeConfig::Act) && block.webhook.is_none();
        if defaults_are_sound {
            let message = "`act` needs a webhook; name one in `webhook`";
            checks.require(!acts || elsewhere, &format!("{path}.mode"), message);
        }
    }
}

/// The SLIs of all blocks with their paths.
fn slis(policies: &PoliciesConfig, checks: &mut Checks) {
    let defaults = std::iter::once(("policies.defaults.slis".to_owned(), &policies.defaults.slis));
    let exceptions = blocks(policies).into_iter();
    let exceptions = exceptions.map(|(path, block)| (format!("{path}.slis"), &block.slis));
    super::slis::check(defaults.chain(exceptions), checks);
}

/// All exceptions with their paths.
fn blocks(policies: &PoliciesConfig) -> Vec<(String, &PolicyOverride)> {
    let environments = policies.environments.iter();
    let mut blocks: Vec<_> =
        environments.map(|(pattern, block)| (format!("policies.environments.{pattern}"), block)).collect();
    for (index, entry) in policies.services.iter().enumerate() {
        let path = format!("policies.services[{index}]");
        blocks.push((format!("{path}.policy"), &entry.policy));
        let own = entry.environments.iter();
        blocks.extend(own.map(|(pattern, block)| (format!("{path}.environments.{pattern}"), block)));
    }
    blocks
}

fn act_needs_webhook(path: &str, policy: &PolicyConfig, checks: &mut Checks) {
    let ok = policy.mode == ModeConfig::Observe || policy.webhook.is_some();
    checks.require(ok, path, "`act` needs a webhook; name one in `webhook`, or use `observe`");
}

/// Defaults seen as an exception that sets everything, so that both are checked by the same rules.
fn whole(policy: &PolicyConfig) -> PolicyOverride {
    PolicyOverride {
        slo: Some(policy.slo),
        alpha: Some(policy.alpha),
        beta: Some(policy.beta),
        horizon: Some(policy.horizon),
        warmup: Some(policy.warmup),
        min_pass: Some(policy.min_pass),
        error_margin: Some(policy.error_margin),
        latency_margin: Some(policy.latency_margin),
        pass_error_margin: Some(policy.pass_error_margin),
        pass_latency_margin: Some(policy.pass_latency_margin),
        mode: Some(policy.mode),
        on_fail: Some(policy.on_fail),
        webhook: policy.webhook.clone(),
        runbook_url: policy.runbook_url.clone(),
        dashboard_url: policy.dashboard_url.clone(),
        slis: policy.slis.clone(),
        dimensions: policy.dimensions.clone(),
        regions: policy.regions.clone(),
    }
}

fn policy(path: &str, policy: &PolicyOverride, checks: &mut Checks) {
    let key = |name: &str| format!("{path}.{name}");
    // `is_none_or` with a range is false for NaN, as it should be.
    let slo = policy.slo.is_none_or(|v| v > 0.0 && v < 1.0);
    checks.require(slo, &key("slo"), "must lie between 0 and 1, for example 0.999 for 99.9 %");
    for (name, value) in [("alpha", policy.alpha), ("beta", policy.beta)] {
        let ok = value.is_none_or(|v| v > 0.0 && v <= 0.5);
        checks.require(ok, &key(name), "must be above 0 and at most 0.5, for example 0.01");
    }
    let day = Duration::from_secs(86_400);
    let horizon = policy.horizon.is_none_or(|v| v >= Duration::from_secs(30) && v <= day);
    checks.require(horizon, &key("horizon"), "must be between 30s and 1day");
    for (name, value) in [("warmup", policy.warmup), ("min_pass", policy.min_pass)] {
        checks.require(value.is_none_or(|v| v <= day), &key(name), "must be at most 1day");
    }
    if let (Some(min_pass), Some(horizon)) = (policy.min_pass, policy.horizon) {
        let message = "must be shorter than `horizon`, or no version could ever pass";
        checks.require(min_pass < horizon, &key("min_pass"), message);
    }
    let margins = [
        ("error_margin", policy.error_margin, 0.0),
        ("latency_margin", policy.latency_margin, 0.0),
        ("pass_error_margin", policy.pass_error_margin, 0.01),
        ("pass_latency_margin", policy.pass_latency_margin, 0.03),
    ];
    for (name, value, least) in margins {
        let ok = value.is_none_or(|v| v >= least && v <= 10.0);
        checks.require(ok, &key(name), format!("must be between {least} and 10; 0.1 is +10 %"));
    }
    wider_pass(path, "pass_error_margin", policy.error_margin, policy.pass_error_margin, checks);
    wider_pass(path, "pass_latency_margin", policy.latency_margin, policy.pass_latency_margin, checks);
    checks.link(&key("runbook_url"), policy.runbook_url.as_deref());
    checks.link(&key("dashboard_url"), policy.dashboard_url.as_deref());
}

fn wider_pass(path: &str, name: &str, tolerated: Option<f64>, ruled_out: Option<f64>, checks: &mut Checks) {
    if let (Some(tolerated), Some(ruled_out)) = (tolerated, ruled_out) {
        let message = "must be above the tolerated margin, or a version could pass and fail at once";
        checks.require(ruled_out > tolerated, &format!("{path}.{name}"), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::AuthConfig;
    use crate::pipeline::config::ServicePolicyConfig;

    fn paths(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        problems(&config).into_iter().map(|p| p.path).collect()
    }

    #[test]
    fn the_default_is_sound() {
        assert_eq!(paths(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn each_rule_fires() {
        type Change = fn(&mut Config);
        let rows: [(&str, Change); 17] = [
            ("api.endpoint", |c| c.api.endpoint = "9464".into()),
            ("api.endpoint", |c| c.api.endpoint = "::1:9464".into()),
            ("api.endpoint", |c| c.api.endpoint = "http://localhost:9464".into()),
            ("api.max_connections", |c| c.api.max_connections = 0),
            ("api.request_timeout", |c| c.api.request_timeout = Duration::ZERO),
            ("pipeline.lateness.initial", |c| c.pipeline.lateness.initial = Duration::from_secs(31)),
            ("pipeline.limits.services", |c| c.pipeline.limits.services = 0),
            ("pipeline.limits.label_bytes", |c| c.pipeline.limits.label_bytes = 3),
            ("pipeline.series_ttl", |c| c.pipeline.series_ttl = Duration::from_secs(1)),
            ("policies.defaults.slo", |c| c.policies.defaults.slo = 1.0),
            ("policies.defaults.slo", |c| c.policies.defaults.slo = f64::NAN),
            ("policies.defaults.alpha", |c| c.policies.defaults.alpha = 0.0),
            ("policies.defaults.beta", |c| c.policies.defaults.beta = 0.51),
            ("policies.defaults.horizon", |c| c.policies.defaults.horizon = Duration::from_secs(100_000)),
            ("policies.defaults.pass_error_margin", |c| c.policies.defaults.pass_error_margin = 0.05),
            ("policies.defaults.mode", |c| c.policies.defaults.mode = ModeConfig::Act),
            ("policies.defaults.runbook_url", |c| c.policies.defaults.runbook_url = Some("wiki".into())),
        ];
        for (expected, change) in rows {
            assert_eq!(paths(change), [expected]);
        }
    }

    #[test]
    fn authenticators_are_entries_that_can_tell_who_may_send() {
        let (receiver, exporter) =
            ("receiver.http.auth.authenticator", "exporters.otlp_grpc/a.auth.authenticator");
        let rows: [(&str, &[&str]); 4] = [
            ("bearertokenauth", &[]),
            ("basicauth/server", &[exporter]),
            ("basicauth/client", &[receiver]),
            ("oidc", &[exporter, receiver]),
        ];
        let extensions = r#"{"bearertokenauth": {"token": "t"}, "basicauth/server": {"htpasswd": {"inline": "a:b"}},
            "basicauth/client": {"client_auth": {"username": "u", "password": "p"}}}"#;
        for (name, expected) in rows {
            let found = paths(|c| {
                c.extensions = serde_json::from_str(extensions).unwrap();
                c.receiver.http.auth = Some(AuthConfig { authenticator: name.into() });
                let auth = serde_json::json!({ "authenticator": name });
                let exporter = serde_json::json!({ "endpoint": "http://a:1", "auth": auth });
                c.exporters = serde_json::from_value(serde_json::json!({ "otlp_grpc/a": exporter })).unwrap();
            });
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn equal_ports_are_noticed() {
        // Of gRPC, HTTP, the API and our own metrics; what is said of which.
        let rows: [([&str; 4], &[&str]); 6] = [
            (["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"], &[]),
            (["127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:3", "127.0.0.1:4"], &["receiver.http.endpoint"]),
            (
                ["127.0.0.1:1", "127.0.0.1:2", "localhost:1", "0.0.0.0:2"],
                &["api.endpoint", "telemetry.metrics"],
            ),
            (["10.0.0.1:1", "127.0.0.1:1", "[::1]:1", "127.0.0.2:1"], &[]),
            (["[::]:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:1"], &["telemetry.metrics"]),
            (["127.0.0.1:0", "127.0.0.1:0", "0.0.0.0:0", "127.0.0.1:0"], &[]),
        ];
        for (endpoints, expected) in rows {
            let [grpc, http, api, own] = endpoints;
            let found = paths(|c| {
                c.receiver.grpc.endpoint = grpc.into();
                c.receiver.http.endpoint = http.into();
                c.api.endpoint = api.into();
                c.telemetry.metrics = Some(own.parse().unwrap());
            });
            assert_eq!(found, expected, "{endpoints:?}");
        }
        let found = paths(|c| {
            c.telemetry.metrics = None;
            c.api.endpoint = "127.0.0.1:8888".into();
        });
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn everything_is_reported_at_once() {
        let found = paths(|c| {
            c.api.endpoint = "x".into();
            c.policies.defaults.slo = 2.0;
            c.policies.services.push(ServicePolicyConfig {
                policy: PolicyOverride { alpha: Some(0.9), ..Default::default() },
                ..Default::default()
            });
        });
        assert_eq!(found, ["api.endpoint", "policies.defaults.slo", "policies.services[0].policy.alpha"]);
    }

    #[test]
    fn exceptions_are_checked_wherever_they_stand() {
        let found = paths(|c| {
            let wrong = PolicyOverride { slo: Some(2.0), webhook: Some("none".into()), ..Default::default() };
            c.policies.environments.insert("prod".into(), wrong.clone());
            let mut entry = ServicePolicyConfig::default();
            entry.matches.environment = Some("prod".into());
            entry.environments.insert("staging".into(), wrong);
            c.policies.services.push(entry);
        });
        let expected = [
            "policies.services[0].environments",
            "policies.environments.prod.slo",
            "policies.services[0].environments.staging.slo",
            "policies.environments.prod.webhook",
            "policies.services[0].environments.staging.webhook",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn zero_warmup_and_short_passes_are_fine() {
        let found = paths(|c| {
            c.policies.defaults.warmup = Duration::ZERO;
            c.policies.defaults.min_pass = Duration::from_secs(20);
            c.pipeline.lateness.initial = Duration::from_secs(1);
        });
        assert_eq!(found, Vec::<String>::new());
    }
}
