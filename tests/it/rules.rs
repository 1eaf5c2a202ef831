//! The table of OTLP rules in the documentation is true: every test that it names exists, it names every test of
//! its rules, and a test stands in the row of a rule that its own name begins with.

use std::collections::BTreeSet;

use crate::source::rust_files;

/// Test functions whose names begin with rules of these letters.
const LETTERS: [char; 11] = ['e', 'g', 'h', 'j', 'l', 'm', 'r', 's', 't', 'w', 'x'];

/// The rules that a name begins with: `g11_g17_bad_ids` has `g11` and `g17`.
fn rules_of(name: &str) -> Vec<&str> {
    let is_rule = |part: &&str| {
        let mut letters = part.chars();
        letters.next().is_some_and(|c| c.is_ascii_lowercase())
            && part.len() > 1
            && letters.all(|c| c.is_ascii_digit())
    };
    name.split('_').take_while(is_rule).collect()
}

fn tests_of_rules() -> BTreeSet<String> {
    let files = ["src", "tests"].into_iter().flat_map(rust_files);
    let functions = files.flat_map(|file| {
        let lines = file.text.lines().filter_map(|line| {
            let (_, rest) =
                line.trim_start().strip_prefix("async ").unwrap_or(line.trim_start()).split_once("fn ")?;
            rest.split_once('(').map(|(name, _)| name.to_owned())
        });
        lines.collect::<Vec<_>>()
    });
    functions.filter(|name| !rules_of(name).is_empty()).collect()
}

/// Rows of the document: the rule, and the tests in the last column.
fn rows() -> Vec<(String, Vec<String>)> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/otlp.md");
    let text = std::fs::read_to_string(path).expect("a document of the package");
    let cells = text.lines().filter(|line| line.starts_with("| ")).filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let is_rule = rules_of(&cells[0].to_ascii_lowercase()) == [cells[0].to_ascii_lowercase()];
        is_rule.then(|| {
            let names = cells.last().into_iter().flat_map(|tests| tests.split('`').skip(1).step_by(2));
            (cells[0].to_ascii_lowercase(), names.map(str::to_owned).collect())
        })
    });
    cells.collect()
}

#[test]
fn the_table_names_the_tests_that_there_are() {
    let (tests, rows) = (tests_of_rules(), rows());
    assert!(rows.len() >= 82, "rows are missing or not read: {}", rows.len());
    let mut found = Vec::new();
    for (rule, names) in &rows {
        if names.is_empty() {
            found.push(format!("{rule} names no test"));
        }
        let missing = names.iter().filter(|name| !tests.contains(*name));
        found.extend(missing.map(|name| format!("{rule} names `{name}`, which does not exist")));
    }
    let named: BTreeSet<&String> = rows.iter().flat_map(|(_, names)| names).collect();
    for name in tests.iter().filter(|name| name.starts_with(LETTERS)) {
        if !named.contains(name) {
            found.push(format!("`{name}` is in no row"));
        }
        for rule in rules_of(name) {
            let row = rows.iter().find(|(known, _)| known == rule);
            if !row.is_some_and(|(_, names)| names.contains(name)) {
                found.push(format!("`{name}` is not in the row of {rule}"));
            }
        }
    }
    assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
}
