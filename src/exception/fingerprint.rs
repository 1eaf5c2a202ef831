//! The name of an exception and the number that stands for it.

use super::frames::top_frames;
use super::names::{class_name, shorten};

/// Frames that belong to the name. Fewer would put faults of a shared helper together, more would tell apart
/// the ways that led to the same fault.
pub const TOP_FRAMES: usize = 5;
/// Longest type and longest frame in characters.
const NAME_CHARS: usize = 160;
/// What stands for a type that was not sent.
const UNTYPED: &str = "(untyped)";

/// A number that stands for an exception's type and top frames. The same in every run of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

/// An exception by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Stands for all of it.
    pub fingerprint: Fingerprint,
    /// Type, as the sender writes it but for generated parts; `(untyped)` where none was sent.
    pub kind: Box<str>,
    /// Top frames, where it was thrown first; at most [`TOP_FRAMES`], none where the stack is absent or of a
    /// form that is not known.
    pub frames: Box<[Box<str>]>,
}

impl Exception {
    /// From `exception.type`, `exception.stacktrace` and `exception.message`. The message is taken for one
    /// thing only: to be left out of the stack, whose lines it could pass itself off as.
    pub fn new(kind: &[u8], stack: &[u8], message: &[u8]) -> Self {
        let frames = top_frames(stack, message, TOP_FRAMES);
        let frames = frames.into_iter().map(|frame| clip(&frame).into()).collect();
        Self::named(&kind_name(kind), frames)
    }

    /// From names that were made before.
    pub fn named(kind: &str, frames: Box<[Box<str>]>) -> Self {
        let mut hash = Fnv::default();
        hash.text(kind);
        frames.iter().for_each(|frame| hash.text(frame));
        Self { fingerprint: Fingerprint(hash.finish()), kind: kind.into(), frames }
    }

    /// `NullPointerException in Cart.add`: type and frame without their packages.
    pub fn short(&self) -> String {
        let kind = shorten(&self.kind, 1);
        match self.frames.first() {
            Some(frame) => format!("{kind} in {}", shorten(frame, 2)),
            None => kind.to_owned(),
        }
    }
}

/// The type without generated parts. Whoever writes a message where the type belongs is not shown: a type
/// has no blanks.
fn kind_name(kind: &[u8]) -> String {
    let text = String::from_utf8_lossy(kind);
    let word =
        text.trim().split([' ', '\n', '\t', '\r', '(', '=', '"', '\'', ',', ';']).next().unwrap_or_default();
    let name = class_name(word.trim_end_matches(':'));
    if name.is_empty() { UNTYPED.to_owned() } else { clip(&name).to_owned() }
}

fn clip(text: &str) -> &str {
    text.char_indices().nth(NAME_CHARS).map_or(text, |(at, _)| &text[..at])
}

/// FNV-1a in 64 bits: simple, and the same everywhere and for ever. Names of one service are a few hundred at
/// most, so that two with one number are a matter of 1 in 10^14.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }

    /// With an end mark, so that texts cannot run together.
    fn text(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.byte(byte));
        self.byte(0xff);
    }

    const fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
#[path = "fingerprint_tests.rs"]
mod tests;
