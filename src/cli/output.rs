//! Writing to the terminal. A closed pipe (`rollguard deploy status | head`) is not an error.

use std::error::Error;
use std::io::Write;

/// Writes a line to standard output.
pub(super) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes text as it is to standard output.
pub(super) fn text(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes an error to standard error.
pub(super) fn error(message: &str) {
    let _ = writeln!(std::io::stderr().lock(), "rollguard: {message}");
}

/// An error and its causes as one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !message.ends_with(&next) {
            message.push_str(": ");
            message.push_str(&next);
        }
        cause = error.source();
    }
    message
}
