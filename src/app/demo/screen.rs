//! Where the picture goes: on a terminal it is redrawn in place; into a pipe or a file go plain lines, one a
//! second and one for each thing that happens.

use std::io::{self, IsTerminal, Write};

use super::picture::{Line, Picture, Style, told};

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
const RESET: &str = "\x1b[0m";
/// Columns and rows where the terminal does not say.
const SIZE: (usize, usize) = (80, 24);
/// Columns of plain output; lines are as long as they are, only closing words are wrapped.
const PLAIN_WIDTH: usize = 100;
/// Wider lines are hard to read.
const WIDEST: usize = 110;

/// The place where the demo is shown.
#[derive(Debug)]
pub(super) enum Screen {
    /// Redrawn in place.
    Terminal {
        /// Lines of the last frame, which the cursor is below of.
        drawn: usize,
        /// Whether colours are wanted.
        color: bool,
    },
    /// Lines one after the other.
    Plain {
        /// Whether the head was written.
        begun: bool,
        /// Events written.
        told: usize,
        /// The second of the last status line.
        second: Option<u64>,
    },
}

impl Screen {
    /// A screen for what standard output is.
    pub(super) fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if io::stdout().is_terminal() && !dumb {
            write(HIDE_CURSOR);
            let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            Self::Terminal { drawn: 0, color }
        } else {
            Self::Plain { begun: false, told: 0, second: None }
        }
    }

    /// Shows this moment.
    pub(super) fn show(&mut self, picture: &Picture<'_>) {
        match self {
            Self::Terminal { drawn, color } => {
                let (width, height) = size();
                let frame = picture.frame(width.min(WIDEST), height.saturating_sub(1));
                let mut out = if *drawn > 0 { format!("\x1b[{drawn}A\r") } else { String::new() };
                for line in &frame {
                    out += &rendered(line, width, *color);
                    out += CLEAR_LINE;
                    out += "\r\n";
                }
                out += CLEAR_BELOW;
                *drawn = frame.len();
                write(&out);
            }
            Self::Plain { begun, told: events, second } => {
                let mut out = String::new();
                if !*begun {
                    *begun = true;
                    picture.head().iter().for_each(|line| out += &plain(line));
                    out += "\n";
                }
                for event in picture.director.story.iter().skip(*events) {
                    told(event, usize::MAX).iter().for_each(|line| out += &plain(line));
                }
                *events = picture.director.story.len();
                let now = picture.at_s.max(0.0) as u64;
                if *second != Some(now) {
                    *second = Some(now);
                    out += &picture.status();
                    out += "\n";
                }
                write(&out);
            }
        }
    }

    /// Shows the last moment, and the closing words below it.
    pub(super) fn close(&mut self, picture: &Picture<'_>, sent: [u64; 2]) {
        self.show(picture);
        let mut out = String::new();
        match self {
            Self::Terminal { color, .. } => {
                let width = size().0;
                for line in picture.closing(width.min(WIDEST), sent) {
                    out += &rendered(&line, width, *color);
                    out += "\r\n";
                }
            }
            Self::Plain { .. } => {
                picture.closing(PLAIN_WIDTH, sent).iter().for_each(|line| out += &plain(line));
            }
        }
        write(&out);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if matches!(self, Self::Terminal { .. }) {
            write(SHOW_CURSOR);
        }
    }
}

/// A closed pipe (`rollguard demo | head`) ends what is shown, not the demo.
fn write(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn size() -> (usize, usize) {
    terminal_size::terminal_size().map_or(SIZE, |(width, height)| (width.0.into(), height.0.into()))
}

fn plain(line: &Line) -> String {
    let text: String = line.iter().map(|(_, text)| text.as_str()).collect();
    format!("{}\n", text.trim_end())
}

/// A line with its colours, cut to `width` columns: a line that breaks would spoil the redrawing.
fn rendered(line: &Line, width: usize, color: bool) -> String {
    let mut out = String::new();
    let mut left = width;
    for (style, text) in line {
        let cut: String = text.chars().take(left).collect();
        left -= cut.chars().count();
        match code(*style).filter(|_| color) {
            Some(code) => {
                out += code;
                out += &cut;
                out += RESET;
            }
            None => out += &cut,
        }
    }
    out
}

const fn code(style: Style) -> Option<&'static str> {
    match style {
        Style::Plain => None,
        Style::Bold => Some("\x1b[1m"),
        Style::Dim => Some("\x1b[2m"),
        Style::Good => Some("\x1b[1;32m"),
        Style::Bad => Some("\x1b[1;31m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_coloured() {
        let line: Line = vec![(Style::Plain, "version ".into()), (Style::Bad, "fails".into())];
        assert_eq!(rendered(&line, 80, false), "version fails");
        assert_eq!(rendered(&line, 80, true), "version \x1b[1;31mfails\x1b[0m");
        assert_eq!(rendered(&line, 10, false), "version fa");
        assert_eq!(rendered(&line, 3, false), "ver");
        assert_eq!(plain(&vec![(Style::Dim, "a  ".into())]), "a\n");
    }
}
