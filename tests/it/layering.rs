//! Who may import whom. The compiler does not see the layers of one crate, so this test does: every top-level
//! module has a layer, imports go strictly downward, the core is pure, and only one file asks for the time.

use crate::source::{SourceFile, first_segments, is_word, rust_files, segments_below, shipped_code};

/// Lowest layer first; names that share a layer are siblings and do not import each other.
const LAYERS: [&[&str]; 12] = [
    &["model", "wire"],
    &["stats", "histogram", "exception"],
    &["window"],
    &["verdict", "objective"],
    &["deployment"],
    &["telemetry"],
    &["pipeline"],
    &["store", "spool", "credentials"],
    &["receiver", "forward", "exporter", "remedy", "api"],
    &["config"],
    &["app"],
    &["cli"],
];

/// Same inputs, same outputs: no clock, no I/O, no runtime, no wire format, no chance.
const PURE: [&str; 9] =
    ["model", "wire", "stats", "histogram", "exception", "window", "verdict", "objective", "deployment"];

/// Modules of the standard library that the core must not name.
const IMPURE_STD: [&str; 7] = ["time", "fs", "net", "io", "process", "env", "thread"];

/// Crates that the core must not name.
const IMPURE_CRATES: [&str; 16] = [
    "tokio",
    "serde",
    "serde_json",
    "rand",
    "fastrand",
    "tracing",
    "metrics",
    "axum",
    "tonic",
    "prost",
    "reqwest",
    "rusqlite",
    "hyper",
    "opentelemetry_proto",
    "jiff",
    "uuid",
];

/// The one file that may ask what time it is.
const CLOCK: &str = "src/pipeline/clock.rs";

/// Calls that ask what time it is.
const CLOCK_READS: [&str; 7] = [
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Zoned::now",
    "Utc::now",
    "Uuid::now_v7",
    "elapsed()",
];

/// The top-level module that a file belongs to; `None` for `lib.rs` and `main.rs`, which only wire.
fn module_of(path: &str) -> Option<&str> {
    let below = path.strip_prefix("src/")?;
    let name = below.split('/').next()?.trim_end_matches(".rs");
    (name != "lib" && name != "main").then_some(name)
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&module))
}

/// How many `super::` lead from a file to the crate root.
fn depth_of(path: &str) -> usize {
    let parts = path.trim_start_matches("src/").split('/').count();
    if path.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// Test code in files of its own is not shipped.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("_tests.rs") || path.contains("/tests/")
}

/// Top-level modules that `code` of the file `path` names.
fn imports(path: &str, code: &str) -> Vec<String> {
    let mut found = segments_below(code, "crate");
    let mut rest = code;
    while let Some(at) = rest.find("super::") {
        let starts_here = !rest[..at].ends_with(|c| is_word(c) || c == ':');
        let (mut steps, mut tail) = (0, &rest[at..]);
        while let Some(next) = tail.strip_prefix("super::") {
            (steps, tail) = (steps + 1, next);
        }
        if starts_here && steps >= depth_of(path) {
            found.extend(first_segments(tail));
        }
        rest = tail;
    }
    found
}

/// What breaks the rules in one file.
fn broken_rules(file: &SourceFile) -> Vec<String> {
    let Some(module) = module_of(&file.path) else { return Vec::new() };
    if is_test_file(&file.path) {
        return Vec::new();
    }
    let code = shipped_code(&file.text);
    let mut broken = broken_layers(&file.path, module, &code);
    if PURE.contains(&module) {
        broken.extend(impurities(&code));
    }
    if file.path != CLOCK {
        let reads = CLOCK_READS.iter().filter(|read| code.contains(*read));
        broken.extend(reads.map(|read| format!("reads the clock: {read}")));
    }
    broken.into_iter().map(|what| format!("{}: {what}", file.path)).collect()
}

fn broken_layers(path: &str, module: &str, code: &str) -> Vec<String> {
    let Some(own) = layer_of(module) else {
        return vec![format!("module `{module}` has no layer; give it one in tests/it/layering.rs")];
    };
    let mut broken = Vec::new();
    for target in imports(path, code).iter().filter(|target| *target != module) {
        match layer_of(target) {
            Some(layer) if layer < own => {}
            Some(layer) if layer == own => broken.push(format!("imports its sibling `{target}`")),
            Some(_) => broken.push(format!("imports upward: `{target}`")),
            None => broken.push(format!("imports `{target}`, which is no module with a layer")),
        }
    }
    broken
}

fn impurities(code: &str) -> Vec<String> {
    let std = segments_below(code, "std");
    let std =
        std.iter().filter(|s| IMPURE_STD.contains(&s.as_str())).map(|s| format!("is not pure: std::{s}"));
    let crates = IMPURE_CRATES.iter().filter(|name| names_crate(code, name));
    std.chain(crates.map(|name| format!("is not pure: {name}"))).collect()
}

/// `name::` as the first segment of a path, or `use name`.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = &code[..at];
        let after = &code[at + name.len()..];
        let begins = !before.ends_with(|c| is_word(c) || c == ':' || c == '.');
        begins && (after.starts_with("::") || (before.ends_with("use ") && after.starts_with(';')))
    })
}

#[test]
fn imports_go_downward_and_the_core_is_pure() {
    let files = rust_files("src");
    assert!(files.len() > 10, "found only {} files below src", files.len());
    let broken: Vec<String> = files.iter().flat_map(broken_rules).collect();
    assert!(broken.is_empty(), "{} broken rules:\n{}", broken.len(), broken.join("\n"));
}

/// The checker above is only worth something if it can say no.
#[test]
fn the_checker_finds_what_it_is_for() {
    let table = [
        ("src/model/a.rs", "use crate::verdict::Policy;", "imports upward: `verdict`"),
        ("src/verdict/a.rs", "use crate::{model::Slot, pipeline::{Board}};", "imports upward: `pipeline`"),
        ("src/api/a.rs", "fn f() { crate::remedy::send(); }", "imports its sibling `remedy`"),
        ("src/stats/mod.rs", "use super::histogram::layout;", "imports its sibling `histogram`"),
        ("src/model/a.rs", "use super::super::cli;", "imports upward: `cli`"),
        ("src/model/a.rs", "use crate::*;", "imports `*`"),
        ("src/helpers/a.rs", "", "has no layer"),
        ("src/helpers.rs", "", "has no layer"),
        ("src/window/a.rs", "use std::time::Duration;", "is not pure: std::time"),
        ("src/window/a.rs", "use std::{collections::BTreeMap, fs};", "is not pure: std::fs"),
        ("src/verdict/a.rs", "#[derive(serde::Serialize)]", "is not pure: serde"),
        ("src/verdict/a.rs", "use tokio::sync::mpsc;", "is not pure: tokio"),
        ("src/deployment/a.rs", "let x = fastrand::u64(..);", "is not pure: fastrand"),
        ("src/api/a.rs", "let t = std::time::Instant::now();", "reads the clock: Instant::now"),
        ("src/store/a.rs", "let id = Uuid::now_v7();", "reads the clock: Uuid::now_v7"),
        ("src/pipeline/mod.rs", "let d = since.elapsed();", "reads the clock: elapsed()"),
    ];
    for (path, text, expected) in table {
        let broken = broken_rules(&SourceFile { path: path.into(), text: text.into() });
        assert!(
            broken.iter().any(|b| b.contains(expected)),
            "{path}: {text}: wanted {expected}, got {broken:?}"
        );
    }
}

#[test]
fn the_checker_lets_good_code_be() {
    let table = [
        ("src/verdict/a.rs", "use crate::model::Slot;\nuse crate::verdict::Policy;\nuse super::Evidence;"),
        (
            "src/model/a.rs",
            "//! See [`crate::pipeline`].\nconst X: &str = \"crate::cli std::time tokio::spawn\";",
        ),
        (
            "src/stats/a.rs",
            "use crate::model::Slot;\n#[cfg(test)]\nmod tests { use crate::histogram::layout; }",
        ),
        ("src/verdict/tests.rs", "use std::fs;"),
        ("src/pipeline/clock.rs", "std::time::SystemTime::now()"),
        ("src/lib.rs", "pub mod model;"),
        ("src/model/a.rs", "let x = self.metrics::<u8>(); let server_tokio = 1;"),
    ];
    for (path, text) in table {
        let broken = broken_rules(&SourceFile { path: path.into(), text: text.into() });
        assert!(broken.is_empty(), "{path}: {text}: {broken:?}");
    }
}
