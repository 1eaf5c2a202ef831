//! What the demo shows, as lines of styled text. Nothing here knows a terminal: the same lines are drawn in
//! place on one, cut to its size, or written one after the other into a file.

use std::collections::VecDeque;

use super::shop::{INSTANCES, RATE, SERVICE, VERSIONS};
use super::stage::{Director, Event, Tone};
use crate::deployment::Deployment;
use crate::model::{NANOS_PER_SECOND, UnixNanos};
use crate::pipeline::{Board, VersionBoard};
use crate::verdict::{Evidence, Sli, Verdict};

/// Pictures of the last so many seconds are compared for rates.
const RATE_SECONDS: usize = 3;
/// SLIs shown one by one.
const SLIS: [(Sli, &str); 4] = [
    (Sli::ErrorRate, "errors"),
    (Sli::LatencyP50, "over v1's p50"),
    (Sli::LatencyP95, "over v1's p95"),
    (Sli::LatencyP99, "over v1's p99"),
];
const BAR_CELLS: usize = 24;

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
}

/// A line: pieces of text side by side.
pub(super) type Line = Vec<(Style, String)>;

/// A line of one piece.
pub(super) fn line(style: Style, text: impl Into<String>) -> Line {
    vec![(style, text.into())]
}

/// Where one can look in.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    pub(super) api: String,
    pub(super) grpc: String,
}

/// Requests and errors of one version lately.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Lately {
    pub(super) per_second: f64,
    pub(super) error_ratio: Option<f64>,
}

/// Rates, from the totals of the last published pictures.
#[derive(Debug, Default)]
pub(super) struct Meter {
    seen: VecDeque<(UnixNanos, [[u64; 2]; 2])>,
}

impl Meter {
    /// Takes in the published picture; the same one twice counts once.
    pub(super) fn see(&mut self, board: &Board) {
        if self.seen.back().is_some_and(|(at, _)| *at >= board.at) {
            return;
        }
        let totals =
            VERSIONS.map(|v| version(board, v).map_or([0, 0], |v| [v.requests_total, v.errors_total]));
        self.seen.push_back((board.at, totals));
        if self.seen.len() > RATE_SECONDS + 1 {
            self.seen.pop_front();
        }
    }

    fn lately(&self, index: usize) -> Lately {
        let (Some((from, old)), Some((to, new))) = (self.seen.front(), self.seen.back()) else {
            return Lately::default();
        };
        let seconds = to.since(*from) as f64 / NANOS_PER_SECOND as f64;
        let [requests, errors] = [0, 1].map(|i| new[index][i].saturating_sub(old[index][i]) as f64);
        // A straggler or two are no rate.
        if requests <= seconds {
            return Lately::default();
        }
        Lately { per_second: requests / seconds, error_ratio: Some(errors / requests) }
    }
}

fn version<'a>(board: &'a Board, label: &str) -> Option<&'a VersionBoard> {
    let service = board.services.iter().find(|s| s.key.name == SERVICE)?;
    service.versions.iter().find(|v| v.version == label)
}

/// Everything that is shown at one moment.
pub(super) struct Picture<'a> {
    pub(super) at_s: f64,
    pub(super) director: &'a Director,
    pub(super) addresses: &'a Addresses,
    pub(super) board: &'a Board,
    pub(super) meter: &'a Meter,
    pub(super) deployment: Option<&'a Deployment>,
}

impl Picture<'_> {
    /// What does not change: what is played, under which policy, where to look in.
    pub(super) fn head(&self) -> Vec<Line> {
        let Addresses { api, grpc } = self.addresses;
        let instances = INSTANCES * VERSIONS.len();
        vec![
            line(Style::Bold, format!("Rollguard demo: {}", self.director.script.headline)),
            line(
                Style::Dim,
                format!("a shop of {instances} instances sends {RATE:.0} spans/s by OTLP/gRPC to {grpc}"),
            ),
            line(Style::Dim, "short demo policy: SLO 99 %, no warm-up, pass from 20 s, lateness from 1 s;"),
            line(Style::Dim, "the deployment is started explicitly, by POST /api/v1/deployments"),
            vec![
                (Style::Dim, "meanwhile: ".into()),
                (Style::Plain, format!("curl {api}/metrics")),
                (Style::Dim, "   (or /api/v1/deployments)".into()),
            ],
        ]
    }

    /// The whole picture, at most `height` lines of `width` columns; what has to go is the oldest of the story.
    pub(super) fn frame(&self, width: usize, height: usize) -> Vec<Line> {
        let mut lines = self.head();
        lines[0].push((Style::Dim, format!("   {}", clock(self.at_s))));
        lines.push(Vec::new());
        lines.extend(self.traffic());
        lines.push(Vec::new());
        lines.extend(self.judgement());
        lines.push(Vec::new());
        let story: Vec<Line> = self.director.story.iter().flat_map(|e| told(e, width)).collect();
        let room = height.saturating_sub(lines.len());
        lines.extend(story.into_iter().rev().take(room).rev());
        lines.truncate(height);
        lines
    }

    fn traffic(&self) -> Vec<Line> {
        let head = "version   requests/s   errors       p50       p99   requests   failed";
        let mut lines = vec![line(Style::Dim, head)];
        for (index, label) in VERSIONS.into_iter().enumerate() {
            let Some(v) = version(self.board, label) else {
                lines.push(line(Style::Dim, format!("{label:<9} not there")));
                continue;
            };
            let lately = self.meter.lately(index);
            let errors = lately.error_ratio.map_or_else(|| "-".into(), per_cent);
            let bad = lately.error_ratio.is_some_and(|ratio| ratio > 0.01);
            let [p50, _, p99] = v.latency_seconds.map_or([None; 3], |l| l.map(Some));
            lines.push(vec![
                (Style::Bold, format!("{label:<9}")),
                (Style::Plain, format!("{:>11.0}", lately.per_second)),
                (if bad { Style::Bad } else { Style::Plain }, format!("{errors:>9}")),
                (Style::Plain, format!("{:>10}{:>10}", millis(p50), millis(p99))),
                (Style::Plain, format!("{:>11}{:>9}", v.requests_total, v.errors_total)),
            ]);
        }
        lines
    }

    fn judgement(&self) -> Vec<Line> {
        let Some(d) = self.deployment else {
            return vec![line(Style::Dim, "no deployment yet: first v1 shows what is normal")];
        };
        let baseline = d.baseline.as_deref().unwrap_or("?");
        let e = &*d.evidence;
        let mut lines = vec![vec![
            (Style::Plain, format!("{} against {baseline}: ", d.candidate)),
            (verdict_style(d.verdict), d.verdict.as_str().to_uppercase()),
            (Style::Dim, format!("   phase {}, score {:.0} of 100", d.phase.as_str(), e.score)),
        ]];
        lines.push(climb("worse", e.ln_e_bar, d.policy.fail_threshold(), Style::Bad, "for a fail"));
        if d.verdict != Verdict::Fail {
            let least = least_passed(e).unwrap_or(0.0);
            lines.push(climb("not worse", least, d.policy.pass_threshold(), Style::Good, "for a pass"));
        }
        lines.extend(SLIS.iter().filter_map(|(sli, name)| sli_line(e, *sli, name)));
        lines
    }

    /// One line about this moment, for where nothing can be redrawn.
    pub(super) fn status(&self) -> String {
        let mut text = clock(self.at_s);
        for (index, label) in VERSIONS.into_iter().enumerate() {
            let lately = self.meter.lately(index);
            if let Some(errors) = lately.error_ratio {
                text += &format!(" | {label} {:.0}/s, {} errors", lately.per_second, per_cent(errors));
            }
        }
        if let Some(d) = self.deployment {
            let e = &*d.evidence;
            let (now, full) = (e.ln_e_bar.max(0.0), d.policy.fail_threshold());
            let bar = bar(now / full, 12);
            text += &format!(" | {}, worse [{bar}] {now:.1} of {full:.1}", d.phase.as_str());
            if let Some(least) = least_passed(e).filter(|_| d.verdict == Verdict::Pending) {
                text += &format!(", not worse {:.1} of {:.1}", least.max(0.0), d.policy.pass_threshold());
            }
        }
        text
    }

    /// What came out and where to go from here.
    pub(super) fn closing(&self, width: usize, sent: [u64; 2]) -> Vec<Line> {
        let mut lines = vec![Vec::new()];
        if let Some(d) = self.deployment.filter(|d| !d.explanation.is_empty()) {
            let verdict = d.verdict.as_str().to_uppercase();
            let text = format!("{verdict}: {}", d.explanation);
            lines.extend(wrap(&text, width).into_iter().map(|l| line(verdict_style(d.verdict), l)));
            if let Some(seconds) = d.decided_after_seconds {
                lines.push(line(
                    Style::Plain,
                    format!("Decided {seconds:.0} s after v2's first request, from traffic alone."),
                ));
            }
        }
        lines.push(line(
            Style::Plain,
            format!("{} spans were sent and {} refused.", sent[0] + sent[1], sent[1]),
        ));
        if let Some(ending) = &self.director.ending {
            let (style, text) = if ending.as_expected {
                (Style::Good, format!("As expected: {}.", ending.what))
            } else {
                let expected = self.director.script.expected;
                (Style::Bad, format!("Not as expected: {}. Expected: {expected}.", ending.what))
            };
            lines.extend(wrap(&text, width).into_iter().map(|l| line(style, l)));
        }
        lines.push(Vec::new());
        let next = "Next: `rollguard run` before a service of your own; README.md, \"Before a real service in \
                    five minutes\". Other stories: rollguard demo --scenario \
                    latency|healthy|late|outage|replace";
        lines.extend(wrap(next, width).into_iter().map(|l| line(Style::Plain, l)));
        lines
    }
}

/// A line of the story, wrapped behind its time.
pub(super) fn told(event: &Event, width: usize) -> Vec<Line> {
    const INDENT: usize = 7;
    let style = match event.tone {
        Tone::Plain => Style::Plain,
        Tone::Good => Style::Good,
        Tone::Bad => Style::Bad,
    };
    let wrapped = wrap(&event.text, width.saturating_sub(INDENT).max(20));
    let line = |(n, text): (usize, String)| {
        let time = if n == 0 { clock(event.at_s) } else { String::new() };
        vec![(Style::Dim, format!("{time:<INDENT$}")), (style, text)]
    };
    wrapped.into_iter().enumerate().map(line).collect()
}

fn climb(name: &str, now: f64, full: f64, style: Style, what_for: &str) -> Line {
    let reached = now.max(0.0);
    vec![
        (Style::Plain, format!("{name:<10}[")),
        (style, bar(now / full, BAR_CELLS)),
        (Style::Plain, "] ".into()),
        (Style::Plain, format!("{reached:.1} of the {full:.1} nats {what_for}")),
    ]
}

/// `###...` for a share of 1.
fn bar(share: f64, cells: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * cells as f64).round() as usize;
    "#".repeat(full) + &".".repeat(cells - full)
}

/// The required SLI that is furthest from a pass.
fn least_passed(e: &Evidence) -> Option<f64> {
    e.slis.iter().filter(|s| s.operation.is_none()).filter_map(|s| s.ln_e_pass).reduce(f64::min)
}

fn sli_line(e: &Evidence, sli: Sli, name: &str) -> Option<Line> {
    let s = e.service(sli).filter(|s| s.requests[0] > 0)?;
    let share = |i: usize| {
        if s.requests[i] == 0 { "-".into() } else { per_cent(s.bad[i] as f64 / s.requests[i] as f64) }
    };
    let worse = s.ln_e > 1.0;
    let times = s.ratio.filter(|r| r[1].is_finite() && r[2].is_finite() && r[2] < 1000.0);
    let times = times.map_or_else(String::new, |r| format!("{} to {} times", short(r[1]), short(r[2])));
    Some(vec![
        (Style::Dim, format!("  {name:<15}")),
        (if worse { Style::Bad } else { Style::Plain }, format!("v2{:>8}", share(0))),
        (Style::Plain, format!("   v1{:>8}   {times:<22}", share(1))),
        (Style::Dim, format!("{:>6.1} nats", s.ln_e.max(0.0))),
    ])
}

const fn verdict_style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Pass => Style::Good,
        Verdict::Fail => Style::Bad,
        Verdict::Pending | Verdict::Inconclusive => Style::Bold,
    }
}

/// Minutes and seconds.
pub(super) fn clock(at_s: f64) -> String {
    let seconds = at_s.max(0.0) as u64;
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

fn per_cent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A factor with no more digits than it deserves.
fn short(factor: f64) -> String {
    if factor < 10.0 { format!("{factor:.1}") } else { format!("{factor:.0}") }
}

fn millis(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".into(), |s| format!("{:.0} ms", s * 1e3))
}

/// Breaks text at spaces into lines of at most `width` characters; a longer word stays whole.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
