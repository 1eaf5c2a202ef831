//! Names of functions and classes without what a compiler or a runtime numbers or generates anew.

/// Pieces of a class name that are followed by a random one.
const RANDOM_FOLLOWS: [&str; 4] = ["ByteBuddy", "HibernateProxy", "MockitoMock", "auxiliary"];
/// Pieces of a name that end in a running number.
const NUMBERED: [&str; 9] = [
    "Proxy",
    "GeneratedMethodAccessor",
    "GeneratedConstructorAccessor",
    "GeneratedSerializationConstructorAccessor",
    "lambda_method",
    "_closure",
    "func",
    "gowrap",
    "deferwrap",
];

/// A Java or .NET name: `Cart$$Lambda$14/0x1f.run` is `Cart$Lambda.run`, `java.base/java.util.List.get` is
/// `java.util.List.get`, `Shop.<Add>b__4_0` is `Shop.<Add>b`.
pub(super) fn class_name(name: &str) -> String {
    let name = without_hidden_class(name);
    // The module of a class; a loader may stand before it.
    let name = name.rsplit_once('/').map_or(&*name, |(_, class)| class);
    let mut out = String::with_capacity(name.len());
    for segment in name.split('.') {
        if !out.is_empty() {
            out.push('.');
        }
        if segment.contains('<') || segment.starts_with("lambda_method") {
            out.push_str(dotnet_segment(segment));
        } else {
            java_segment(segment, &mut out);
        }
    }
    out
}

/// Hidden classes have an address after a stroke: `Cart$$Lambda/0x00007f2c.run`.
fn without_hidden_class(name: &str) -> std::borrow::Cow<'_, str> {
    let Some(at) = name.find("/0x") else { return name.into() };
    let rest = name[at + 3..].trim_start_matches(|c: char| c.is_ascii_hexdigit());
    format!("{}{rest}", &name[..at]).into()
}

/// Pieces between dollar signs, without numbers and hashes.
fn java_segment(segment: &str, out: &mut String) {
    if !segment.contains('$') {
        out.push_str(without_number(segment));
        return;
    }
    let (mut is_first, mut random_follows) = (true, false);
    for piece in segment.split('$').filter(|piece| !piece.is_empty()) {
        let is_random = std::mem::replace(&mut random_follows, RANDOM_FOLLOWS.contains(&piece));
        if is_random || is_generated(piece) {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            out.push('$');
        }
        let is_javassist = piece.starts_with("_jvst") || piece.starts_with("_javassist");
        out.push_str(if is_javassist { "_javassist" } else { without_number(piece) });
    }
}

/// What the C# compiler makes of closures, iterators and local functions.
fn dotnet_segment(segment: &str) -> &str {
    if segment.starts_with("lambda_method") {
        return "lambda_method";
    }
    let segment = segment.split('|').next().unwrap_or_default();
    match segment.find("__") {
        // `<Add>g__Local` has the name of a local function behind.
        Some(at) if !segment[..at].ends_with('g') => &segment[..at],
        _ => segment,
    }
}

/// `Proxy123` is `Proxy`.
fn without_number(piece: &str) -> &str {
    let stem = piece.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() < piece.len() && NUMBERED.iter().any(|word| stem.ends_with(word)) { stem } else { piece }
}

/// A number, or a hash in hex.
pub(super) fn is_generated(piece: &str) -> bool {
    let is_hex = piece.bytes().all(|b| b.is_ascii_hexdigit());
    let has_digit = piece.bytes().any(|b| b.is_ascii_digit());
    is_hex && has_digit && (piece.len() >= 6 || piece.bytes().all(|b| b.is_ascii_digit()))
}

/// `async Object.<anonymous>` is `(anonymous)`. Names that a minifier made are shorter than any that people
/// give, and other ones in every build.
pub(super) fn js_function(function: &str) -> String {
    const MINIFIED: usize = 2;
    let name = function.trim();
    let name = name.strip_prefix("async ").or_else(|| name.strip_prefix("async*")).unwrap_or(name);
    let name = name.strip_prefix("new ").unwrap_or(name);
    let name = name.split(" [as ").next().unwrap_or_default();
    // Firefox names a closure by where it stands: `add/total<`.
    let name = name.split('/').next().unwrap_or_default().trim_end_matches('<');
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.is_empty() || last == "<anonymous>" || last == "eval" || last.len() <= MINIFIED {
        return "(anonymous)".to_owned();
    }
    if name == last { name.to_owned() } else { unminified(name, last) }
}

/// `Cart.add` keeps its class, `t.add` does not.
fn unminified(name: &str, last: &str) -> String {
    let class = name.strip_suffix(last).and_then(|class| class.strip_suffix('.')).unwrap_or_default();
    if class.len() <= 2 || class.ends_with("<anonymous>") { last.to_owned() } else { name.to_owned() }
}

/// `github.com/shop/cart/v2.(*Cart).Add.func1(0xc000)` is `github.com/shop/cart.(*Cart).Add.func`. Frames of the
/// runtime and of the SDK that recorded the stack are none.
pub(super) fn go_name(line: &str) -> Option<String> {
    const GLUE: [&str; 4] = ["runtime.", "runtime/", "panic", "go.opentelemetry.io/otel/"];
    let line = line.trim();
    if line.starts_with("created by ") || GLUE.iter().any(|glue| line.starts_with(glue)) {
        return None;
    }
    let name = if line.ends_with(')') { line.rsplit_once('(')?.0 } else { line };
    if name.is_empty() || name.contains([' ', '=', '"', '@']) {
        return None;
    }
    let (package, function) = name.rsplit_once('/').unwrap_or(("", name));
    let mut out = String::with_capacity(name.len());
    // A major version ends the package's path: `cart/v2.Add`.
    let (function, version) = match function.split_once('.') {
        Some((head, tail)) if is_version(head) => (tail, true),
        _ => (function, false),
    };
    for part in package.split('/').filter(|part| !part.is_empty() && !is_version(part)) {
        out.push_str(&part.replace("%2e", "."));
        out.push('/');
    }
    if version {
        out.pop();
        out.push('.');
    }
    go_function(function, &mut out);
    Some(out)
}

fn go_function(function: &str, out: &mut String) {
    let function = function.replace("[...]", "");
    let function = function.strip_suffix("-fm").unwrap_or(&function);
    let mut is_first = true;
    for segment in function.split('.') {
        let is_number = !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit());
        if is_number || segment.is_empty() {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            out.push('.');
        }
        out.push_str(without_number(segment));
    }
}

/// `v2`.
pub(super) fn is_version(text: &str) -> bool {
    text.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// `shop[1f2e]::cart::add::{closure#1}::h0123456789abcdef` is `shop::cart::add::{closure}`. Frames of the panic
/// itself are none.
pub(super) fn rust_name(symbol: &str) -> Option<String> {
    const GLUE: [&str; 12] = [
        "std::panic",
        "std::backtrace",
        "std::sys",
        "core::panic",
        "core::option::",
        "core::result::",
        "core::ops::function::",
        "<alloc::boxed::Box<",
        "backtrace::",
        "anyhow::",
        "rust_begin_unwind",
        "__rust",
    ];
    if GLUE.iter().any(|glue| symbol.starts_with(glue))
        || symbol.contains([' ', '"']) && !symbol.contains(" as ")
    {
        return None;
    }
    let mut out = String::with_capacity(symbol.len());
    for part in symbol.split("::") {
        if is_symbol_hash(part) {
            continue;
        }
        if !out.is_empty() {
            out.push_str("::");
        }
        out.push_str(&without_disambiguator(part));
    }
    Some(out.replace("{{closure}}", "{closure}"))
}

fn is_symbol_hash(part: &str) -> bool {
    part.strip_prefix('h').is_some_and(|hex| hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// `shop[1f2e3d]` is `shop`, `{closure#1}` is `{closure}`.
fn without_disambiguator(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    let mut rest = part;
    while let Some(at) = rest.find(['[', '#']) {
        out.push_str(&rest[..at]);
        let inner = &rest[at + 1..];
        let stop = inner.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(inner.len());
        let closed =
            if rest[at..].starts_with('[') { inner[stop..].strip_prefix(']') } else { Some(&inner[stop..]) };
        match closed {
            Some(after) if stop > 0 => rest = after,
            _ => {
                out.push_str(&rest[at..=at]);
                rest = inner;
            }
        }
    }
    out.push_str(rest);
    out
}

/// `Shop\Cart->add(Object(Item))` is `Shop\Cart->add`.
pub(super) fn php_name(call: &str) -> Option<String> {
    if let Some(at) = call.find("{closure") {
        return Some(format!("{}{{closure}}", &call[..at]));
    }
    let name = call.split('(').next()?.trim();
    if name.is_empty() || name.contains([' ', '"', '=']) && !name.contains("@anonymous") {
        return None;
    }
    let Some(at) = name.find("@anonymous") else { return Some(name.to_owned()) };
    // Where an anonymous class was written follows its name.
    let method = name.rfind("->").or_else(|| name.rfind("::")).map_or("", |method| &name[method..]);
    Some(format!("{}@anonymous{method}", &name[..at]))
}

/// The last `parts` parts of a name: of `com.shop.Cart.add` two are `Cart.add`. A file in brackets behind it
/// stays.
pub(super) fn shorten(name: &str, parts: usize) -> &str {
    let head = &name[..name.find(" (").unwrap_or(name.len())];
    // Go's packages, and the files of Python and Ruby, are cut between directories only.
    if let Some(slash) = head.rfind('/') {
        return &name[slash + 1..];
    }
    let mut at = head.len();
    for _ in 0..parts {
        match head[..at].rfind(['.', '\\', ':']) {
            // `::` is one separator.
            Some(dot) => at = if head[..dot].ends_with(':') { dot - 1 } else { dot },
            None => return name,
        }
    }
    let short = name[at..].trim_start_matches(['.', '\\', ':']);
    if short.is_empty() { name } else { short }
}
