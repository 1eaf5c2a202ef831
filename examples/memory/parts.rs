//! What each part takes: the bytes that are allocated after the same load with and without it, of a service whose old and
//! new version serve side by side, once while nothing is judged and once while a deployment runs.

use crate::shop::{KINDS_OF, Load, bytes};

/// A usual service, and one at the cap of operations.
const USUAL: Load = Load { rps: 30, operations: 3, instances: 4, values: [1; 3], has_others: true };
const WIDE: Load = Load { rps: 400, operations: 200, has_others: false, ..USUAL };

/// One SLI of each kind, by its number.
type Sli = (&'static str, usize, fn(usize) -> String);

const SLIS: [Sli; 14] = [
    ("ratio", KINDS_OF, |n| format!("ratio, total: {{attributes: {{tenant: t{n}}}}}, bad: {{outcome: bad}}")),
    ("latency, threshold", KINDS_OF, |n| {
        format!("latency, total: {{attributes: {{tenant: t{n}}}}}, threshold: 80ms")
    }),
    ("latency, quantile", KINDS_OF, |n| {
        format!("latency, total: {{attributes: {{tenant: t{n}}}}}, quantile: 0.95")
    }),
    ("client_errors", KINDS_OF, |n| format!("client_errors, codes: [40{n}]")),
    ("rate", KINDS_OF, |n| {
        format!("rate, events: {{span_kind: client, attributes: {{db.namespace: db{n}}}}}")
    }),
    ("rate of a quantity", KINDS_OF, |n| format!("rate, quantity: size.{n}")),
    ("log_errors", 1, |_| "log_errors".into()),
    ("churn", 1, |_| "churn".into()),
    ("ratio of a metric", KINDS_OF, |n| {
        format!("ratio, total: {{metric: events.{n}}}, bad: {{attributes: {{result: bad}}}}")
    }),
    ("rate of a metric", KINDS_OF, |n| format!("rate, events: {{metric: events.{n}}}")),
    ("counter", KINDS_OF, |n| format!("counter, events: {{metric: events.{n}}}")),
    ("latency of a metric, threshold", KINDS_OF, |n| {
        format!("latency, total: {{metric: took.{n}}}, threshold: 8ms")
    }),
    ("latency of a metric, quantile", KINDS_OF, |n| {
        format!("latency, total: {{metric: took.{n}}}, quantile: 0.95")
    }),
    ("gauge", KINDS_OF, |n| format!("gauge, value: {{metric: level.{n}}}")),
];

fn slis(count: usize, of: fn(usize) -> String) -> String {
    let lines = (0..count).map(|n| format!("      sli_{n}: {{kind: {}}}\n", of(n)));
    format!("    slis:\n{}", lines.collect::<String>())
}

fn dimensions(names: &[&str], values: usize) -> String {
    let lines = names.iter().map(|name| format!("      {name}: {{values: {values}}}\n"));
    format!("    dimensions:\n{}", lines.collect::<String>())
}

/// Bytes while nothing is judged, and those that a running deployment adds.
fn both(load: Load, policy: &str) -> [i64; 2] {
    let idle = bytes(load, policy, 0);
    [idle, bytes(load, policy, 200) - idle]
}

fn row(name: &str, [idle, running]: [i64; 2], parts: usize) {
    let each = |bytes: i64| bytes as f64 / parts as f64 / 1000.0;
    println!("{name:<52} {:>9.2} {:>9.2}", each(idle), each(running));
}

fn beyond(with: [i64; 2], without: [i64; 2]) -> [i64; 2] {
    [with[0] - without[0], with[1] - without[1]]
}

/// Prints the table.
pub(crate) fn print() {
    // What is allocated once in a process is none of the parts'.
    bytes(USUAL, "", 200);
    println!(
        "{:<52} {:>9} {:>9}",
        "kB of a service with two versions, of four instances", "kept", "+ judged"
    );
    for (words, load) in [("3 operations", USUAL), ("200 operations", WIDE)] {
        let none = both(load, "");
        row(&format!("the service, {words}"), none, 1);
        for (name, count, of) in SLIS {
            let is_of_spans = !name.contains("metric") && !["counter", "gauge", "log_errors"].contains(&name);
            if load.has_others || is_of_spans {
                row(&format!("  an SLI: {name}"), beyond(both(load, &slis(count, of)), none), count);
            }
        }
    }
    for (words, load) in [
        ("3 operations", Load { rps: 60, ..USUAL }),
        ("50 operations", Load { rps: 400, operations: 50, ..WIDE }),
    ] {
        let none = both(load, "");
        for values in [4, 8, 16] {
            let load = Load { values: [values, 1, 1], ..load };
            let with = both(load, &dimensions(&["cloud.region"], values));
            row(&format!("a value of one dimension of {values}, {words}"), beyond(with, none), values);
        }
        for values in [2, 4, 16] {
            let load = Load { values: [values, values, 1], ..load };
            let with = both(load, &dimensions(&["cloud.region", "client.class"], values));
            let combinations = (values * values).min(32);
            let name = format!("a combination of {combinations} of two dimensions, {words}");
            row(&name, beyond(with, none), combinations);
        }
    }
    println!();
    println!("{:<52} {:>9} {:>9}", "kB of a service at and beyond its caps", "kept", "+ judged");
    let sixteen: Vec<String> = SLIS.iter().take(6).flat_map(|(_, _, of)| (0..4).map(of)).take(16).collect();
    let lines: String =
        sixteen.iter().enumerate().map(|(n, sli)| format!("      sli_{n}: {{kind: {sli}}}\n")).collect();
    let policy = format!("    slis:\n{lines}{}", dimensions(&["cloud.region", "client.class", "cell"], 16));
    for (times, words) in [(1, "at"), (3, "three times")] {
        let load = Load { operations: 200 * times, values: [16 * times; 3], rps: 1_000, ..WIDE };
        let name = format!("{words} the caps: 200 operations, 16 SLIs, 3 x 16 values");
        row(&name, both(load, &policy), 1);
    }
}
