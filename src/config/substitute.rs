//! Environment variables in the configuration: `${env:NAME}`, `${env:NAME:-default}`, and `$$` for a literal
//! dollar sign. A pass over the text before YAML is parsed; values with line breaks are refused, so the line
//! numbers of later errors are those of the file. Comments are left alone.

/// What is wrong with a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct SubstituteError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What, and what to do.
    pub message: String,
}

/// Replaces the references in `text` by what `lookup` knows.
pub(super) fn substitute(
    text: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<String, SubstituteError> {
    let mut out = String::with_capacity(text.len());
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let code = code_length(line);
        let mut rest = &line[..code];
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let used = one(rest, &lookup, &mut out).map_err(|message| {
                let before = code - rest.len();
                SubstituteError { line: index + 1, column: line[..before].chars().count() + 1, message }
            })?;
            rest = &rest[used..];
        }
        out.push_str(rest);
        out.push_str(&line[code..]);
    }
    Ok(out)
}

/// Replaces the reference at the start of `rest`, which begins with a dollar sign; returns its length.
fn one(rest: &str, lookup: impl Fn(&str) -> Option<String>, out: &mut String) -> Result<usize, String> {
    if rest.starts_with("$$") {
        out.push('$');
        return Ok(2);
    }
    let Some(inside) = rest.strip_prefix("${") else {
        out.push('$');
        return Ok(1);
    };
    let Some(end) = inside.find('}') else {
        return Err("`${` is never closed; write ${env:NAME}, or $$ for a dollar sign".into());
    };
    let reference = &inside[..end];
    let Some(body) = reference.strip_prefix("env:") else {
        return Err(format!(
            "`${{{reference}}}` is not known here; write ${{env:{reference}}}, or $$ for a dollar sign"
        ));
    };
    let (name, default) = match body.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (body, None),
    };
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(format!("`{name}` is not the name of an environment variable"));
    }
    let value = match (lookup(name).filter(|v| !v.is_empty()), default) {
        (Some(value), _) => value,
        (None, Some(default)) => default.to_owned(),
        (None, None) => {
            return Err(format!("{name} is not set; set it, or give a default: ${{env:{name}:-value}}"));
        }
    };
    if value.contains(['\n', '\r']) {
        return Err(format!("{name} holds a line break; put such a value into a file and name the file"));
    }
    out.push_str(&value);
    Ok("${".len() + end + 1)
}

/// The length of a line without its comment. A `#` begins one at the start or after a space, outside quotes.
fn code_length(line: &str) -> usize {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) if c == open && before != '\\' => quote = None,
            Some(_) => {}
            None if c == '#' && before.is_whitespace() => return at,
            None if matches!(c, '"' | '\'') && (before.is_whitespace() || "[{,:-".contains(before)) => {
                quote = Some(c);
            }
            None => {}
        }
        before = c;
    }
    line.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("0.0.0.0".into()),
            "EMPTY" => Some(String::new()),
            "LINES" => Some("a\nb".into()),
            _ => None,
        }
    }

    #[test]
    fn replaces() {
        let rows = [
            ("a: ${env:HOST}:80", "a: 0.0.0.0:80"),
            ("a: ${env:PORT:-9464}", "a: 9464"),
            ("a: ${env:EMPTY:-x}", "a: x"),
            ("a: ${env:PORT:-}", "a: "),
            ("a: $$ $${env:HOST} 5$", "a: $ ${env:HOST} 5$"),
            ("# ${env:NO}\na: b # ${env:NO}", "# ${env:NO}\na: b # ${env:NO}"),
            ("a: \"x # ${env:HOST}\"", "a: \"x # 0.0.0.0\""),
            ("a: it's # ${env:NO}", "a: it's # ${env:NO}"),
            ("a: b#${env:HOST}", "a: b#0.0.0.0"),
            ("ä: ${env:HOST}\r\nb: 1\r\n", "ä: 0.0.0.0\r\nb: 1\r\n"),
        ];
        for (text, expected) in rows {
            assert_eq!(substitute(text, lookup).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_with_a_place_and_a_way_out() {
        let rows = [
            (
                "a: 1\nä: ${env:NO}",
                "line 2, column 4: NO is not set; set it, or give a default: ${env:NO:-value}",
            ),
            (
                "a: ${HOST}",
                "line 1, column 4: `${HOST}` is not known here; write ${env:HOST}, or $$ for a dollar sign",
            ),
            (
                "a: ${env:HOST",
                "line 1, column 4: `${` is never closed; write ${env:NAME}, or $$ for a dollar sign",
            ),
            ("a: ${env:A B}", "line 1, column 4: `A B` is not the name of an environment variable"),
            (
                "a: x ${env:LINES}",
                "line 1, column 6: LINES holds a line break; put such a value into a file and name the file",
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(substitute(text, lookup).unwrap_err().to_string(), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn keeps_the_lines(text in "[a-z$#'\"{}: \n-]{0,80}") {
            if let Ok(out) = substitute(&text, |_| Some("v".into())) {
                proptest::prop_assert_eq!(out.matches('\n').count(), text.matches('\n').count());
            }
        }
    }
}
