//! A rough reader of Rust source for the tests that hold the house rules: it blanks comments, strings and test
//! code, and lists the paths that are left. Rough is enough, for it only has to see `use` lines and paths;
//! line breaks are kept so that a finding can name its line.

use std::fs;
use std::path::{Path, PathBuf};

/// One source file: its path below the package root, and its text.
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All `.rs` files below `folder` of the package, in path order.
pub(crate) fn rust_files(folder: &str) -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root.join(folder)];
    while let Some(path) = open.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for entry in entries.map(|e| e.expect("read a folder of the package").path()) {
            if entry.is_dir() {
                open.push(entry);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&entry).expect("read a source file");
                let path = entry.strip_prefix(root).expect("below the root").display().to_string();
                found.push(SourceFile { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The code that ships: without comments, strings and `#[cfg(test)]` items.
pub(crate) fn shipped_code(text: &str) -> String {
    without_test_items(&without_comments_and_strings(text))
}

/// Blanks comments, string and character literals; keeps everything else where it was.
fn without_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out: Vec<char> = Vec::with_capacity(chars.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip_literal(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    out.into_iter().collect()
}

/// Where the comment or literal that begins at `at` ends; `at` itself when none begins there.
fn skip_literal(chars: &[char], at: usize) -> usize {
    let next = |n: usize| chars.get(at + n).copied().unwrap_or('\0');
    let in_word = at > 0 && is_word(chars[at - 1]);
    match chars[at] {
        '/' if next(1) == '/' => find(chars, at, |c, i| c[i] == '\n'),
        '/' if next(1) == '*' => skip_block_comment(chars, at),
        '"' => skip_quoted(chars, at + 1),
        'b' | 'c' if !in_word && next(1) == '"' => skip_quoted(chars, at + 2),
        'r' if !in_word => skip_raw_string(chars, at, at + 1),
        'b' | 'c' if !in_word && next(1) == 'r' => skip_raw_string(chars, at, at + 2),
        '\'' if next(1) == '\\' => find(chars, at + 3, |c, i| c[i] == '\'') + 1,
        '\'' if next(2) == '\'' => at + 3,
        _ => at,
    }
}

fn find(chars: &[char], from: usize, hit: impl Fn(&[char], usize) -> bool) -> usize {
    (from..chars.len()).find(|&i| hit(chars, i)).unwrap_or(chars.len())
}

fn skip_block_comment(chars: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn skip_quoted(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `begin` is where the prefix starts, `from` the first character after the `r`.
fn skip_raw_string(chars: &[char], begin: usize, from: usize) -> usize {
    let hashes = chars[from..].iter().take_while(|&&c| c == '#').count();
    if chars.get(from + hashes) != Some(&'"') {
        return begin;
    }
    let closes = |c: &[char], i: usize| {
        c[i] == '"' && c[i + 1..].iter().take(hashes).filter(|&&h| h == '#').count() == hashes
    };
    (find(chars, from + hashes + 1, closes) + 1 + hashes).min(chars.len())
}

/// Blanks what follows each `#[cfg(test)]` up to the end of the item. Works on text without literals.
fn without_test_items(text: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(MARK) {
        let (before, item) = rest.split_at(begin);
        let end = item_end(item);
        out.push_str(before);
        out.extend(item[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &item[end..];
    }
    out.push_str(rest);
    out
}

/// An item ends at its `;` or at the brace that closes its first one.
fn item_end(item: &str) -> usize {
    let mut depth = 0;
    for (at, c) in item.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    item.len()
}

/// The segments that follow `root::` anywhere in `code`: `a` for `root::a::b`, `a` and `c` for
/// `root::{a::b, c}`. `root` is one path segment, for example `crate` or `std`.
pub(crate) fn segments_below(code: &str, root: &str) -> Vec<String> {
    let pattern = format!("{root}::");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&pattern) {
        if !code[..at].ends_with(|c| is_word(c) || c == ':') {
            found.extend(first_segments(&code[at + pattern.len()..]));
        }
    }
    found
}

/// The first segment of each path in `rest`, which is what follows a `::`.
pub(crate) fn first_segments(rest: &str) -> Vec<String> {
    let rest = rest.trim_start();
    let Some(group) = rest.strip_prefix('{') else {
        let word: String = rest.chars().take_while(|&c| is_word(c)).collect();
        let word = if word.is_empty() { rest.chars().take(1).collect() } else { word };
        return vec![word];
    };
    let (mut depth, mut item, mut found) = (1, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            found.extend(Some(item.trim()).filter(|i| !i.is_empty()).map(|i| first_segments(i).concat()));
            item.clear();
        } else {
            item.push(c);
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// Whether `c` may stand in a name.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn literals_and_tests_are_not_code() {
    let table = [
        ("a // crate::x\nb", "a \nb"),
        ("a /* /* crate::x */ */ b", "a b"),
        ("f(\"crate::x \\\" y\")", "f( )"),
        ("f(r#\"crate::x \" y\"#)", "f( )"),
        ("f('\"', '\\'', b'x')", "f( , , b )"),
        ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
        ("a\n#[cfg(test)]\nmod tests { fn f() { crate::x(); } }\nb", "a b"),
        ("#[cfg(test)]\nmod tests;\nb", " b"),
        ("#[cfg(test)] use crate::x; b", " b"),
    ];
    let words = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ");
    for (text, expected) in table {
        let code = shipped_code(text);
        assert_eq!(words(&code), words(expected), "{text}");
        assert_eq!(code.lines().count(), text.lines().count(), "lines move: {text}");
    }
}

#[test]
fn paths_are_found() {
    let table = [
        ("use crate::a::b;", vec!["a"]),
        ("use crate::{a::{x, y}, b, c::d};", vec!["a", "b", "c"]),
        ("let x = crate :: a; f(crate::b::c())", vec!["b"]),
        ("$crate::a::b!()", vec!["a"]),
        ("use crate::*;", vec!["*"]),
        ("mycrate::a::b; x::crate::y", vec![]),
    ];
    for (code, expected) in table {
        assert_eq!(segments_below(code, "crate"), expected, "{code}");
    }
}
