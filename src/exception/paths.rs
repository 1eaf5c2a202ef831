//! Paths of source files without what differs between two builds of the same source: directories above the
//! package, hashes of bundles, versions of packages.

use super::names::{is_generated, is_version};

/// Directories below which packages of others lie.
const PACKAGES: [&str; 4] = ["site-packages/", "dist-packages/", "node_modules/", "/gems/"];
/// Path segments that are kept of a file of one's own and of a package.
const OWN: usize = 2;
const OF_PACKAGE: usize = 4;

/// `/srv/r42/shop/cart.py` is `shop/cart.py`, `https://shop.example/js/main.3f2a9c.js?v=2` is `js/main.js`,
/// `/app/node_modules/.pnpm/express@4.18.2/node_modules/express/lib/router.js` is `express/lib/router.js`.
pub(super) fn file_name(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default().replace('\\', "/");
    let path = path.split_once("://").map_or(&*path, |(_, rest)| rest);
    let package = PACKAGES.iter().filter_map(|mark| path.rfind(mark).map(|at| at + mark.len())).max();
    let (path, kept) = match package.or_else(|| standard_library(path)) {
        Some(at) => (&path[at..], OF_PACKAGE),
        None => (path, OWN),
    };
    let segments: Vec<String> = path
        .split('/')
        .filter(|s| !matches!(*s, "" | "." | ".."))
        .map(segment)
        .filter(|s| !s.is_empty())
        .collect();
    segments[segments.len().saturating_sub(kept)..].join("/")
}

/// Behind `lib/python3.11/`.
fn standard_library(path: &str) -> Option<usize> {
    let at = path.find("lib/python3")?;
    path[at + 4..].find('/').map(|slash| at + 4 + slash + 1)
}

/// One segment: pieces between dots, dashes and underscores, without generated ones.
fn segment(text: &str) -> String {
    // `express@4.18.2`; a leading @ is a scope.
    let text = match text.rfind('@') {
        Some(at) if at > 0 => &text[..at],
        _ => text,
    };
    let (stem, extension) = match text.rsplit_once('.') {
        Some((stem, extension)) if !extension.bytes().any(|b| b.is_ascii_digit()) => (stem, extension),
        _ => (text, ""),
    };
    let is_script = matches!(extension, "js" | "mjs" | "cjs" | "jsx" | "ts" | "tsx");
    let stem = if is_script { without_bundle_hash(stem) } else { stem };
    let mut out = String::with_capacity(text.len());
    let (mut from, mut is_first) = (0, true);
    while from <= stem.len() {
        let to = stem[from..].find(['.', '-', '_', '~']).map_or(stem.len(), |at| from + at);
        let piece = &stem[from..to];
        if !is_generated(piece) && !is_version(piece) {
            if !std::mem::take(&mut is_first) {
                out.push_str(&stem[from - 1..from]);
            }
            out.push_str(piece);
        }
        from = to + 1;
    }
    match (out.is_empty(), extension) {
        (true, "") => out,
        (true, extension) => format!("*.{extension}"),
        (false, "") => out,
        (false, extension) => format!("{out}.{extension}"),
    }
}

/// Bundlers write eight characters of base64 behind a dash or a dot: `index-BkWt3_X9`. Names that people give
/// do not look like it: a capital inside, or a digit, or a dash.
fn without_bundle_hash(stem: &str) -> &str {
    const HASH: usize = 8;
    let Some(at) = stem.len().checked_sub(HASH + 1) else { return stem };
    let Some((name, hash)) = stem.split_at_checked(at) else { return stem };
    let Some(hash) = hash.strip_prefix(['-', '.']) else { return stem };
    let is_base64 = hash.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let has_lower = hash.bytes().any(|b| b.is_ascii_lowercase());
    let has_digit = hash.bytes().any(|b| b.is_ascii_digit());
    let capitals = hash.bytes().skip(1).filter(u8::is_ascii_uppercase).count();
    if is_base64 && !name.is_empty() && (has_digit || has_lower && capitals > 1) { name } else { stem }
}
