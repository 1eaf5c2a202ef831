//! The frames of a stack as text, in the forms in which runtimes print it: Java and its kin, .NET, V8 (Node and
//! browsers), Firefox and Safari, Python, Go, Rust, Ruby, PHP. The form is the one that most lines have.

use std::borrow::Cow;

use super::names::{class_name, go_name, js_function, php_name, rust_name};
use super::paths::file_name;

/// Of a longer stack only so many bytes from its top are read.
const STACK_BYTES: usize = 16 * 1024;
/// Lines by which the form is told.
const LINES: usize = 64;

/// How a runtime prints its stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `at com.shop.Cart.add(Cart.java:42)`, `at Shop.Cart.Add(Item i) in Cart.cs:line 42`,
    /// `at Cart.add (/app/cart.js:10:5)`.
    At,
    /// `File "/app/cart.py", line 42, in add`; the top comes last.
    Python,
    /// `main.(*Cart).Add(0xc000)`, and on the next line tab and place.
    Go,
    /// `3: shop::cart::add`.
    Rust,
    /// `/app/cart.rb:42:in 'Cart#add'`.
    Ruby,
    /// `#0 /app/Cart.php(42): Shop\Cart->add()`.
    Php,
    /// `add@https://shop/main.js:1:234`.
    Gecko,
}

const FORMS: [Form; 7] = [Form::At, Form::Python, Form::Go, Form::Rust, Form::Ruby, Form::Php, Form::Gecko];

/// The names of the top frames of a stack, at most `most`, where it was thrown first. `message` is left out of
/// the stack before it is read.
pub fn top_frames(stack: &[u8], message: &[u8], most: usize) -> Vec<String> {
    let stack = without(stack, message);
    let head = String::from_utf8_lossy(&stack[..stack.len().min(STACK_BYTES)]);
    let Some(form) = form_of(&head) else { return Vec::new() };
    let mut frames = Top { frames: Vec::with_capacity(most), most };
    match form {
        Form::Python => {
            let tail = String::from_utf8_lossy(&stack[stack.len().saturating_sub(STACK_BYTES)..]);
            frames.take(tail.lines().rev().filter_map(|line| python(trimmed(line))));
        }
        Form::Go => frames.take(go_functions(&head).filter_map(go_name)),
        Form::At => {
            // What comes after is the stack of another exception, or how this one was thrown again.
            let own = head.lines().map(trimmed).take_while(|line| !line.starts_with("Caused by:"));
            frames.take(own.filter_map(at));
        }
        Form::Rust => frames.take(head.lines().filter_map(|line| rust(trimmed(line)))),
        Form::Ruby => frames.take(head.lines().filter_map(|line| ruby(trimmed(line)))),
        Form::Php => frames.take(head.lines().filter_map(|line| php(trimmed(line)))),
        Form::Gecko => frames.take(head.lines().filter_map(|line| gecko(trimmed(line)))),
    }
    frames.frames
}

/// A message of several lines could hold lines that look like frames.
fn without<'a>(stack: &'a [u8], message: &[u8]) -> Cow<'a, [u8]> {
    if !message.contains(&b'\n') {
        return Cow::Borrowed(stack);
    }
    let message = message.trim_ascii();
    match stack.windows(message.len()).position(|window| window == message) {
        Some(at) => Cow::Owned([&stack[..at], &stack[at + message.len()..]].concat()),
        None => Cow::Borrowed(stack),
    }
}

struct Top {
    frames: Vec<String>,
    most: usize,
}

impl Top {
    /// How deep a function called itself is no part of the name.
    fn take(&mut self, frames: impl Iterator<Item = String>) {
        for frame in frames {
            if self.frames.last() == Some(&frame) {
                continue;
            }
            if self.frames.len() == self.most {
                return;
            }
            self.frames.push(frame);
        }
    }
}

fn form_of(stack: &str) -> Option<Form> {
    let mut votes = [0_u32; FORMS.len()];
    for line in stack.lines().take(LINES) {
        if let Some(form) = form_of_line(line) {
            votes[form as usize] += 1;
        }
    }
    let (at, most) = votes.iter().enumerate().max_by_key(|(at, n)| (**n, FORMS.len() - at))?;
    (*most > 0).then_some(FORMS[at])
}

fn form_of_line(raw: &str) -> Option<Form> {
    let line = trimmed(raw);
    let first = *line.as_bytes().first()?;
    match first {
        b'a' if line.starts_with("at ") => Some(Form::At),
        b'F' if python(line).is_some() => Some(Form::Python),
        b'#' if line.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => Some(Form::Php),
        b'0'..=b'9' if rust_symbol(line).is_some() => Some(Form::Rust),
        _ if raw.starts_with('\t') && line.contains(".go:") => Some(Form::Go),
        _ if ruby(line).is_some() => Some(Form::Ruby),
        _ if gecko(line).is_some() => Some(Form::Gecko),
        _ => None,
    }
}

/// A line without indentation, and without the marks of Python's exception groups.
fn trimmed(line: &str) -> &str {
    line.trim_matches(|c: char| c.is_whitespace() || c == '|')
}

/// Java, .NET and V8 all write `at `; where the place stands tells them apart.
fn at(line: &str) -> Option<String> {
    let line = line.strip_prefix("at ")?.trim();
    if let Some((function, place)) = line.split_once(" (") {
        let place = place.strip_suffix(')').unwrap_or(place);
        // Mono writes a blank before the arguments.
        return if is_js_place(place) { js(function, place) } else { symbol(function) };
    }
    match line.split_once('(') {
        Some((function, _)) => symbol(function),
        None => {
            let place = line.strip_prefix("async ").unwrap_or(line);
            is_js_place(place).then(|| js("", place))?
        }
    }
}

/// Java and .NET.
fn symbol(function: &str) -> Option<String> {
    /// How a call came about, not where: reflection goes over to generated code after some calls, and
    /// runtimes put frames of their own between those of a task.
    const GLUE: [&str; 6] = [
        "java.lang.reflect.",
        "java.lang.invoke.",
        "jdk.internal.reflect.",
        "sun.reflect.",
        "System.Runtime.ExceptionServices.",
        "System.Runtime.CompilerServices.",
    ];
    let name = class_name(function.trim());
    let is_name = !name.is_empty() && !name.contains([' ', '"', '=', '@']);
    (is_name && !GLUE.iter().any(|glue| name.starts_with(glue))).then_some(name)
}

/// `/app/cart.js:10:5`, `<anonymous>`, `native`, `index 0`.
fn is_js_place(place: &str) -> bool {
    let ends_in_numbers = place.rsplit_once(':').is_some_and(|(rest, column)| {
        is_number(column) && rest.rsplit_once(':').is_some_and(|(_, line)| is_number(line))
    });
    ends_in_numbers || matches!(place, "<anonymous>" | "native") || place.starts_with("index ")
}

fn js(function: &str, place: &str) -> Option<String> {
    // The runtime's own frames come and go with how a promise was awaited.
    if place.starts_with("node:") || place.starts_with("internal/") {
        return None;
    }
    let file = place.rsplitn(3, ':').nth(2).map(file_name).unwrap_or_default();
    let function = js_function(function);
    Some(if file.is_empty() { function } else { format!("{function} ({file})") })
}

fn gecko(line: &str) -> Option<String> {
    let (function, place) = line.split_once('@')?;
    let is_name = function.chars().all(|c| c.is_alphanumeric() || "_$./<>*[] ".contains(c));
    (is_name && is_js_place(place)).then(|| js(function, place))?
}

fn python(line: &str) -> Option<String> {
    let (path, rest) = line.strip_prefix("File \"")?.split_once("\", line ")?;
    let (_, function) = rest.split_once(", in ")?;
    Some(format!("{}:{}", file_name(path), word(function)))
}

/// The functions: lines that are followed by a tab and a place.
fn go_functions(stack: &str) -> impl Iterator<Item = &str> {
    let below = stack.lines().skip(1);
    let pairs = stack.lines().zip(below);
    pairs.filter(|(_, place)| place.starts_with('\t') && place.contains(".go:")).map(|(function, _)| function)
}

fn rust_symbol(line: &str) -> Option<&str> {
    let (number, rest) = line.split_once(": ")?;
    let rest = rest.trim();
    let rest = match rest.split_once(" - ") {
        Some((address, name)) if address.starts_with("0x") => name,
        _ => rest,
    };
    (is_number(number) && !rest.is_empty() && !rest.contains(": ") && !rest.starts_with('/')).then_some(rest)
}

fn rust(line: &str) -> Option<String> {
    rust_symbol(line).and_then(rust_name)
}

fn ruby(line: &str) -> Option<String> {
    let line = line.strip_prefix("from ").unwrap_or(line);
    let (place, function) = line.split_once(":in `").or_else(|| line.split_once(":in '"))?;
    let (path, number) = place.rsplit_once(':')?;
    let function = function.split('\'').next().unwrap_or_default();
    // A block has no name of its own.
    let function = function.rsplit_once(" in ").map_or(function, |(_, method)| method);
    is_number(number).then(|| format!("{}:{}", file_name(path), word(function)))
}

fn php(line: &str) -> Option<String> {
    let (number, rest) = line.strip_prefix('#')?.split_once(' ')?;
    if !is_number(number) {
        return None;
    }
    let rest = rest.trim();
    match rest.split_once("): ").or_else(|| rest.split_once("]: ")) {
        Some((_, call)) => php_name(call),
        // Dart: `#0  Cart.add (package:shop/cart.dart:4:2)`.
        None => {
            let (function, place) = rest.split_once(" (")?;
            js(function, place.strip_suffix(')')?)
        }
    }
}

/// A name ends where a blank begins.
fn word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
