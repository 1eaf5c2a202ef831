//! What lints cannot say: every file says what it is for, none is too long to read at a sitting, and nothing is
//! left for later.

use crate::source::{SourceFile, rust_files};

/// Longer files are split by what they are about.
const MAX_LINES: usize = 600;

/// Words that promise work instead of doing it; in two halves, so that this file does not hold them.
const PROMISES: [(&str, &str); 5] =
    [("TO", "DO"), ("FIX", "ME"), ("X", "XX"), ("to", "do!("), ("unimple", "mented!(")];

fn untidiness(file: &SourceFile) -> Vec<String> {
    let mut found = Vec::new();
    if !file.text.starts_with("//! ") {
        found.push("does not begin with a `//!` paragraph".to_owned());
    }
    let lines = file.text.lines().count();
    if lines > MAX_LINES {
        found.push(format!("has {lines} lines, more than {MAX_LINES}"));
    }
    for (number, line) in file.text.lines().enumerate() {
        for (a, b) in PROMISES {
            if line.contains(&format!("{a}{b}")) {
                found.push(format!("line {}: promises work: {a}{b}", number + 1));
            }
        }
    }
    found.into_iter().map(|what| format!("{}: {what}", file.path)).collect()
}

#[test]
fn files_are_tidy() {
    let files: Vec<SourceFile> = ["src", "tests", "benches", "examples", "fuzz/fuzz_targets"]
        .into_iter()
        .flat_map(rust_files)
        .collect();
    let found: Vec<String> = files.iter().flat_map(untidiness).collect();
    assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_checker_finds_what_it_is_for() {
    let long = format!("//! A file.\n{}", "//\n".repeat(MAX_LINES));
    let table = [
        ("fn main() {}\n".to_owned(), "does not begin"),
        ("/// Not about the file.\nfn f() {}\n".to_owned(), "does not begin"),
        (long, "has 601 lines"),
        (format!("//! A file.\n// {}{}: later\n", "TO", "DO"), "line 2: promises work"),
        (format!("//! A file.\nfn f() {{ {}{}) }}\n", "unimple", "mented!("), "line 2: promises work"),
    ];
    for (text, expected) in table {
        let found = untidiness(&SourceFile { path: "src/a.rs".into(), text });
        assert!(found.iter().any(|f| f.contains(expected)), "wanted {expected}, got {found:?}");
    }
    let good = SourceFile { path: "src/a.rs".into(), text: "//! A file.\nfn f() {}\n".into() };
    assert!(untidiness(&good).is_empty());
}

/// The README shows the table of `docs/metrics.md`, which is held to the code by a test beside the exporter.
#[test]
fn the_readme_lists_every_metric() {
    let table = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let text = std::fs::read_to_string(&path).expect("a document of the package");
        let rows: Vec<String> =
            text.lines().filter(|l| l.starts_with("| `rollguard_")).map(str::to_owned).collect();
        assert!(!rows.is_empty(), "{name} has no rows of metrics");
        rows
    };
    assert_eq!(
        table("README.md"),
        table("docs/metrics.md"),
        "copy the table of docs/metrics.md to the README"
    );
}
