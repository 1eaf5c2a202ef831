//! What ten SLIs of a policy's own add to the walk over spans: the same messages with and without them, in turns, so
//! that a busy machine slows both. Printed are the medians per span and their ratio. The aim is at most 1.25;
//! `cargo bench --bench matchers`.

#![allow(missing_docs)]
#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::print_stdout, reason = "what it measured is for its reader")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use rollguard::deployment::Deployment;
use rollguard::model::{Discard, MarkedSpan, Program, ResourceView, ServiceKey, SpanSink, SpanView};
use rollguard::receiver::{WalkSettings, walk_traces};

const SPANS: usize = 512;
const ROUNDS: usize = 4_000;

/// Adds up what it is given, so that nothing can be left out.
#[derive(Default)]
struct Sum {
    program: Option<Arc<Program>>,
    sum: u64,
    marked: u64,
}

impl SpanSink for Sum {
    fn resource(&mut self, resource: &ResourceView<'_>) {
        self.sum += resource.service.len() as u64;
    }

    fn program(&self) -> Option<Arc<Program>> {
        self.program.clone()
    }

    fn span(&mut self, span: &SpanView<'_>) {
        self.sum += span.end.since(span.start) + span.operation_tail.len() as u64 + span.marks;
        self.marked += u64::from(span.marks != 0);
    }

    fn marked(&mut self, span: &MarkedSpan<'_>) {
        self.sum += span.marks;
        self.marked += 1;
    }

    fn discard(&mut self, _: Discard) {
        self.sum += 1;
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, key_strindex: 0 }
}

fn number(key: &str, value: i64) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::IntValue(value)) });
    KeyValue { key: key.into(), value, key_strindex: 0 }
}

const ROUTES: [&str; 5] =
    ["/api/items/{id}", "/api/carts/{id}/lines", "/api/orders", "/api/orders/{id}", "/api/search"];
const STATUSES: [i64; 8] = [200, 200, 200, 201, 200, 404, 200, 401];

/// A request as the instrumentation of a web server writes it.
fn request(random: &mut fastrand::Rng) -> Span {
    let route = ROUTES[random.usize(..ROUTES.len())];
    let attributes = vec![
        text("http.request.method", if random.u8(..4) == 0 { "POST" } else { "GET" }),
        text("http.route", route),
        text("url.path", &route.replace("{id}", &random.u32(..).to_string())),
        text("url.scheme", "https"),
        text("server.address", "shop.example.com"),
        number("server.port", 443),
        text("client.address", "203.0.113.7"),
        text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        number("http.response.status_code", STATUSES[random.usize(..STATUSES.len())]),
        text("network.protocol.version", if random.bool() { "1.1" } else { "2" }),
        text("tenant.class", ["free", "gold", "internal"][random.usize(..3)]),
    ];
    Span { name: format!("GET {route}"), kind: 2, attributes, ..Span::default() }
}

/// A query, as the instrumentation of a database client writes it.
fn query(random: &mut fastrand::Rng) -> Span {
    let attributes = vec![
        text("db.system.name", "postgresql"),
        text("db.namespace", "shop"),
        text("db.operation.name", "SELECT"),
        text("db.query.text", "SELECT id, name, price FROM items WHERE id = $1 AND NOT deleted"),
        text("server.address", "db-1.internal"),
        number("server.port", 5432 + i64::from(random.u8(..2))),
    ];
    Span { name: "SELECT items".into(), kind: 3, attributes, ..Span::default() }
}

/// A call to another service.
fn call(random: &mut fastrand::Rng) -> Span {
    let attributes = vec![
        text("rpc.system", "grpc"),
        text("rpc.service", "shop.v1.Prices"),
        text("rpc.method", "Quote"),
        number("rpc.grpc.status_code", if random.u8(..20) == 0 { 14 } else { 0 }),
        text("peer.service", ["prices", "payments"][random.usize(..2)]),
        text("server.address", "prices.internal"),
        number("server.port", 8443),
    ];
    Span { name: "shop.v1.Prices/Quote".into(), kind: 3, attributes, ..Span::default() }
}

/// Work inside.
fn work(_: &mut fastrand::Rng) -> Span {
    let attributes = vec![
        text("code.function.name", "com.example.shop.Cart.total"),
        number("code.line.number", 117),
        text("thread.name", "http-nio-8080-exec-3"),
    ];
    Span { name: "Cart.total".into(), kind: 1, attributes, ..Span::default() }
}

fn message(of: &[fn(&mut fastrand::Rng) -> Span]) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    let spans = (0..SPANS).map(|i| {
        let start = 1_700_000_000_000_000_000 + i as u64 * 1000;
        Span {
            trace_id: (0..16).map(|_| random.u8(..)).collect(),
            span_id: (0..8).map(|_| random.u8(..)).collect(),
            parent_span_id: (0..8).map(|_| random.u8(..)).collect(),
            start_time_unix_nano: start,
            end_time_unix_nano: start + random.u64(1_000_000..400_000_000),
            status: Some(Status::default()),
            flags: 0x101,
            ..of[i % of.len()](&mut random)
        }
    });
    let scope_spans = vec![ScopeSpans { spans: spans.collect(), ..Default::default() }];
    let attributes = vec![
        text("service.name", "shop"),
        text("service.version", "1.2.3"),
        text("service.instance.id", "3f1c"),
        text("telemetry.sdk.language", "java"),
        text("host.name", "node-1"),
    ];
    let resource = Some(Resource { attributes, ..Default::default() });
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// Ten SLIs with conditions on the attributes of requests.
const OF_REQUESTS: &str = "
policies:
  defaults:
    slis:
      gold_failures: {kind: ratio, total: {attributes: {tenant.class: gold}}, bad: {outcome: bad}}
      unauthorised: {kind: ratio, bad: {attributes: {http.response.status_code: [401, 403]}}}
      orders: {kind: ratio, total: {attributes: {http.route: '/api/orders*'}}, good: {attributes: {http.response.status_code: 200..299}}}
      slow_search: {kind: latency, total: {attributes: {http.route: /api/search}}, threshold: 300ms}
      gold_p95: {kind: latency, total: {attributes: {tenant.class: gold}}, quantile: 0.95}
      over_http_2: {kind: ratio, bad: {attributes: {network.protocol.version: '1.1'}}}
      browsers: {kind: ratio, total: {attributes: {user_agent.original: 'Mozilla/*'}}, bad: {outcome: bad}}
      https: {kind: ratio, good: {attributes: {url.scheme: https}}}
      declined: {kind: ratio, total: {attributes: {http.route: /pay}}, bad: {attributes: {payment.result: [declined, fraud]}}}
      outside: {kind: ratio, total: {attributes: {tenant.class: '!internal'}}, bad: {attributes: {http.response.status_code: 500..599}}}
";

/// Ten SLIs over requests and the calls that they make.
const OF_ALL: &str = "
policies:
  defaults:
    slis:
      gold_failures: {kind: ratio, total: {attributes: {tenant.class: gold}}, bad: {outcome: bad}}
      unauthorised: {kind: ratio, bad: {attributes: {http.response.status_code: [401, 403]}}}
      orders: {kind: ratio, total: {attributes: {http.route: '/api/orders*'}}, good: {attributes: {http.response.status_code: 200..299}}}
      slow_search: {kind: latency, total: {operation: 'GET /api/search'}, threshold: 300ms}
      reads_p95: {kind: latency, total: {operation: 'GET *'}, quantile: 0.95}
      db_calls: {kind: rate, events: {span_kind: client, attributes: {db.system.name: '*'}}}
      db_p95: {kind: latency, total: {span_kind: client, attributes: {db.system.name: postgresql}}, quantile: 0.95}
      payments: {kind: ratio, total: {span_kind: client, attributes: {peer.service: payments}}, bad: {span_status: error}}
      unavailable: {kind: ratio, total: {span_kind: client, attributes: {rpc.system: grpc}}, bad: {attributes: {rpc.grpc.status_code: 14}}}
      retries: {kind: rate, events: {span_kind: client, attributes: {http.request.resend_count: 1..100}}}
";

/// Ten SLIs of all kinds, over the attributes and operations of requests and over some that only other spans carry.
const OF_ALL_KINDS: &str = "
policies:
  defaults:
    slis:
      refused: {kind: client_errors, codes: [401, 403]}
      slow_reads: {kind: latency, total: {operation: 'GET *'}, threshold: 300ms}
      items_p95: {kind: latency, total: {operation: 'GET /api/items/{id}'}, quantile: 0.95}
      over_http_2: {kind: ratio, bad: {attributes: {network.protocol.version: '1.1'}}}
      browsers: {kind: ratio, total: {attributes: {user_agent.original: 'Mozilla/*'}}, bad: {outcome: bad}}
      https: {kind: ratio, good: {attributes: {url.scheme: https}}}
      declined: {kind: ratio, total: {operation: 'POST /pay'}, bad: {attributes: {payment.result: [declined, fraud]}}}
      db_calls: {kind: rate, events: {span_kind: client, attributes: {db.system.name: '*'}}}
      retries: {kind: rate, events: {span_kind: client, attributes: {http.request.resend_count: '1..100'}}}
      bytes: {kind: rate, quantity: http.response.body.size}
";

fn program(yaml: &str) -> Arc<Program> {
    let config = rollguard::config::parse(yaml, |_| None).unwrap_or_else(|error| panic!("{error:?}"));
    let policy = config.policies.resolve(&ServiceKey::default(), Deployment::VERSION).policy;
    let measures: Vec<_> = policy.slis.iter().map(|sli| sli.measure.clone()).collect();
    assert_eq!(measures.len(), 10, "all of them are measured");
    Arc::new(Program::compile(&measures).unwrap_or_else(|error| panic!("{error:?}")))
}

fn walked(message: &[u8], program: Option<&Arc<Program>>) -> (Duration, Sum) {
    let mut sink = Sum { program: program.cloned(), ..Sum::default() };
    let began = Instant::now();
    let counts = walk_traces(black_box(message), &WalkSettings::default(), &mut sink);
    let took = began.elapsed();
    black_box(counts).unwrap_or_else(|error| panic!("{error}"));
    (took, sink)
}

fn median(mut all: Vec<Duration>) -> f64 {
    all.sort_unstable();
    all[all.len() / 2].as_secs_f64() * 1e9 / SPANS as f64
}

fn main() {
    type Row = (&'static str, &'static [fn(&mut fastrand::Rng) -> Span], &'static str);
    let rows: [Row; 3] = [
        ("requests, SLIs on their attributes", &[request], OF_REQUESTS),
        ("requests and calls, SLIs of all kinds", &[request, request, request, request, query], OF_ALL_KINDS),
        ("requests and calls, SLIs on both", &[request, query, work, call, work], OF_ALL),
    ];
    println!("{:<36} {:>11} {:>11} {:>7} {:>7}", "ns per span", "without", "ten SLIs", "ratio", "marked");
    for (name, spans, yaml) in rows {
        let (message, program) = (message(spans), program(yaml));
        let (mut without, mut with, mut marked) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            without.push(walked(&message, None).0);
            let (took, sink) = walked(&message, Some(&program));
            with.push(took);
            marked = sink.marked;
        }
        let (without, with) = (median(without), median(with));
        println!("{name:<36} {without:>11.1} {with:>11.1} {:>7.2} {marked:>7}", with / without);
    }
}
