//! The account of a verdict: what decided it, the sum, what would have turned it, and what it could not have seen. Where
//! [`super::explain`] says in one paragraph what is the matter, this is for whoever wants to know how sure it is. Every
//! sentence is for somebody who was just woken up: odds instead of nats, requests and minutes instead of parameters.

use std::fmt::Write as _;

use super::cohort_words::zone_words;
use super::own_words::{gauge_counts, own_counts, share_words};
use super::power::Outlook;
use super::words::{count, duration, number, per_cent, round2, share, time_of_day};
use super::{Evidence, Flag, OwnKind, Policy, Sli, SliEvidence, Verdict};
use crate::model::{Slot, Source};

/// Grounds that are named.
const GROUNDS: usize = 5;
/// Less of the sum than this is not worth a line.
const LEAST_SHARE: f64 = 0.01;

/// What there is to account for.
#[derive(Debug, Clone, Copy)]
pub struct AccountInput<'a> {
    /// Candidate version.
    pub candidate: &'a str,
    /// Baseline version.
    pub baseline: Option<&'a str>,
    /// The verdict.
    pub verdict: Verdict,
    /// Its grounds.
    pub evidence: &'a Evidence,
    /// The policy it was reached by.
    pub policy: &'a Policy,
    /// What is the matter, in one paragraph.
    pub explanation: &'a str,
    /// The second of the candidate's first request.
    pub candidate_first: Option<Slot>,
    /// Whether a fail would fire the rollback.
    pub acts: bool,
}

/// One line of the sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Ground {
    /// What was compared, where, by which source: `errors at POST /pay`.
    pub what: String,
    /// Share of the sum, 0 to 1.
    pub share: f64,
    /// Share of alpha that it may spend.
    pub weight: f64,
    /// Its evidence, in nats.
    pub nats: f64,
    /// The counts in words.
    pub counts: String,
    /// Evidence that it is not unacceptably worse, in nats; of the SLIs that a pass rests on.
    pub towards_pass: Option<f64>,
}

/// The account.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Account {
    /// Of which verdict.
    pub verdict: Verdict,
    /// What is the matter.
    pub summary: String,
    /// The sum in words.
    pub sum: String,
    /// Odds that the candidate is worse, as a bet that began at 1 to 1, and those that a fail needs.
    pub odds: [f64; 2],
    /// What the sum is made of, the heaviest first.
    pub grounds: Vec<Ground>,
    /// What would have turned the verdict.
    pub turns: Vec<String>,
    /// What could not have been seen.
    pub unseen: Vec<String>,
}

/// Draws up the account.
pub fn account(d: &AccountInput<'_>) -> Account {
    Account {
        verdict: d.verdict,
        summary: d.explanation.into(),
        sum: sum(d),
        odds: [d.evidence.ln_e_bar.exp(), d.evidence.fail_threshold.exp()],
        grounds: grounds(d),
        turns: turns(d),
        unseen: unseen(d),
    }
}

fn is_begun(d: &AccountInput<'_>) -> bool {
    d.evidence.requests[0] > 0
}

fn sum(d: &AccountInput<'_>) -> String {
    if !is_begun(d) {
        return format!("Nothing has been compared yet, so nothing speaks for or against {}.", d.candidate);
    }
    let (now, needed) = (odds(d.evidence.ln_e_bar), odds(d.evidence.fail_threshold));
    if let Some(region) = d.evidence.deciding_region().filter(|_| d.verdict == Verdict::Fail) {
        return format!(
            "The evidence that {} is worse in {} {} reached {}; there a fail takes {}, because all {} of them are looked \
             at and half of alpha is kept for the whole.",
            d.candidate,
            region.attribute,
            region.value,
            odds(region.ln_e),
            odds(region.threshold),
            d.evidence.regions.as_ref().map_or(0, |regions| regions.judged),
        );
    }
    if d.verdict == Verdict::Fail {
        return format!(
            "The evidence that {} is worse reached {now}; a fail takes {needed}. If it were no worse, this much would \
             come up in at most one of {} deployments.",
            d.candidate,
            count(round2(d.evidence.ln_e_bar.exp()) as u64),
        );
    }
    let says = match d.evidence.ln_e_bar {
        ln if ln > 0.7 => "which leans towards it",
        ln if ln < -0.3 => "which leans against it",
        _ => "which says nothing either way",
    };
    format!("The evidence that {} is worse stands at {now}, {says}; a fail takes {needed}.", d.candidate)
}

/// `134 to 1`, `1 to 3`.
fn odds(ln: f64) -> String {
    match ln {
        ln if ln > 13.8 => "more than a million to 1".into(),
        ln if ln >= 0.05 => format!("{} to 1", number(ln.exp())),
        ln if ln > -0.05 => "1 to 1".into(),
        ln if ln < -13.8 => "1 to more than a million".into(),
        ln => format!("1 to {}", number((-ln).exp())),
    }
}

fn name(e: &SliEvidence) -> &str {
    match e.sli {
        Sli::Own(_) => e.own.as_ref().map_or("an SLI of the policy", |own| &own.name),
        Sli::ErrorRate => "errors",
        Sli::LatencyP50 => "usual latency (p50)",
        Sli::LatencyP75 => "latency at p75",
        Sli::LatencyP95 => "latency of the slowest 5 % (p95)",
        Sli::LatencyP99 => "latency of the slowest 1 % (p99)",
        Sli::Guard => "the guard against many errors at once",
        Sli::Absolute => "errors against the objective",
        Sli::ClientErrors => "refused requests (401, 403 and the like)",
    }
}

fn what(e: &SliEvidence, sources: bool) -> String {
    let mut text = name(e).to_owned();
    if let Some(operation) = &e.operation {
        let _ = write!(text, " at {operation}");
    }
    if sources {
        let _ = write!(text, ", by {}", e.source.as_str());
    }
    text
}

fn grounds(d: &AccountInput<'_>) -> Vec<Ground> {
    let sources = d.evidence.slis.iter().any(|e| e.source != d.evidence.required);
    let old = if d.evidence.change.is_some() { "before" } else { d.baseline.unwrap_or("the version before") };
    let line = |e: &SliEvidence| Ground {
        what: what(e, sources),
        share: (e.weight.ln() + e.ln_e - d.evidence.ln_e_bar).exp(),
        weight: e.weight,
        nats: e.ln_e,
        counts: counts(d, e, old),
        towards_pass: e.ln_e_pass.filter(|_| e.source == d.evidence.required),
    };
    let mut lines: Vec<Ground> =
        d.evidence.slis.iter().filter(|e| e.weight > 0.0 && e.requests[0] > 0).map(line).collect();
    if d.verdict == Verdict::Fail {
        lines.sort_by(|a, b| b.share.total_cmp(&a.share));
        lines.retain(|g| g.share >= LEAST_SHARE);
    } else {
        // What a pass rests on, in reading order: the sum says little where nothing is wrong.
        lines.retain(|g| g.towards_pass.is_some());
    }
    lines.truncate(GROUNDS);
    lines
}

/// `29 of 1,240 requests of v2 (2.3 %), 12 of 11,900 of v1 (0.1 %)`.
fn counts(d: &AccountInput<'_>, e: &SliEvidence, old: &str) -> String {
    if let Some(own) = e.own.as_ref().filter(|own| own.kind == OwnKind::Gauge) {
        return gauge_counts(own);
    }
    let bad = if matches!(e.sli, Sli::LatencyP50 | Sli::LatencyP75 | Sli::LatencyP95 | Sli::LatencyP99) {
        "slower than the limit: "
    } else {
        ""
    };
    let own = |i: usize, version: &str| own_counts(version, e.own.as_deref()?, e.bad[i], e.requests[i]);
    let one = |i: usize, version: &str| match (e.bad[i], e.requests[i]) {
        _ if own(i, version).is_some() => own(i, version).unwrap_or_default(),
        (_, 0) => format!("no request of {version} to compare"),
        (bad, n) => {
            format!("{} of {} requests of {version} ({})", count(bad), count(n), share(bad, n))
        }
    };
    if let Some(change) = &d.evidence.change {
        let before = match (e.sli, change.error_rate()) {
            (Sli::ErrorRate | Sli::Absolute, Some(rate)) => format!("{} before", per_cent(rate)),
            _ => "against what it showed before".into(),
        };
        return format!("{bad}{}, {before}", one(0, d.candidate));
    }
    format!("{bad}{}, {}", one(0, d.candidate), one(1, old))
}

/// Lines of the same kind: taking one away and leaving its operations in would say nothing.
fn kind(sli: Sli) -> &'static str {
    match sli {
        Sli::ErrorRate | Sli::Guard | Sli::Absolute => "errors",
        Sli::ClientErrors => "refused requests",
        Sli::Own(_) => "SLIs of the policy's own",
        Sli::LatencyP50 | Sli::LatencyP75 | Sli::LatencyP95 | Sli::LatencyP99 => "slow requests",
    }
}

fn turns(d: &AccountInput<'_>) -> Vec<String> {
    if !is_begun(d) {
        return Vec::new();
    }
    match d.verdict {
        Verdict::Fail => turns_of_fail(d),
        Verdict::Pass => turns_of_pass(d),
        Verdict::Pending | Verdict::Inconclusive => towards_a_pass(d),
    }
}

fn turns_of_fail(d: &AccountInput<'_>) -> Vec<String> {
    let mut turns = Vec::new();
    let total: f64 = d.evidence.ln_e_bar;
    let heaviest =
        d.evidence.slis.iter().filter(|e| e.weight > 0.0).max_by(|a, b| weighted(a).total_cmp(&weighted(b)));
    if let Some(heaviest) = heaviest {
        let kind = self::kind(heaviest.sli);
        let without = d.evidence.slis.iter().filter(|e| e.weight > 0.0 && self::kind(e.sli) == kind);
        let taken: f64 = without.map(|e| (weighted(e) - total).exp()).sum();
        let rest = total + (1.0 - taken).max(1e-12).ln();
        turns.push(if rest >= d.evidence.fail_threshold {
            format!("It would have failed without the {kind} too: the rest alone stands at {}.", odds(rest))
        } else {
            format!("The {kind} decided: without them the rest stands at {}, which is no fail.", odds(rest))
        });
    }
    turns.push(format!(
        "A policy with alpha below {} (it is {}) would have waited for more evidence.",
        per_cent((-total).exp()),
        per_cent(d.policy.alpha)
    ));
    if !d.acts {
        turns.push("Nothing was rolled back: the policy's mode is `observe`.".into());
    }
    turns
}

fn weighted(e: &SliEvidence) -> f64 {
    e.weight.ln() + e.ln_e
}

fn turns_of_pass(d: &AccountInput<'_>) -> Vec<String> {
    let mut required: Vec<(&SliEvidence, f64)> = passing(d.evidence).collect();
    required.sort_by(|a, b| a.1.total_cmp(&b.1));
    let needed = odds(d.evidence.pass_threshold);
    let tightest = required.first().map(|(e, nats)| {
        format!(
            "The closest call was {}: {} that it is not unacceptably worse, and a pass takes {needed}.",
            name(e),
            odds(*nats)
        )
    });
    tightest.into_iter().collect()
}

fn passing(evidence: &Evidence) -> impl Iterator<Item = (&SliEvidence, f64)> {
    let own = evidence.slis.iter().filter(|e| e.operation.is_none() && e.source == evidence.required);
    own.filter_map(|e| Some((e, e.ln_e_pass?)))
}

fn towards_a_pass(d: &AccountInput<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let threshold = d.evidence.pass_threshold;
    let missing: Vec<String> = passing(d.evidence)
        .filter(|(_, nats)| *nats < threshold)
        .map(|(e, nats)| format!("{} ({})", name(e), odds(nats)))
        .collect();
    if !missing.is_empty() {
        lines.push(format!(
            "A pass takes {} for each of its SLIs that the version is not unacceptably worse. Still missing: {}.",
            odds(threshold),
            missing.join(", ")
        ));
    }
    if let (Some(requests), Some(outlook)) = (d.evidence.requests_needed, outlook(d)) {
        let wait = requests as f64 / outlook.rates[0].max(1e-9);
        lines.push(format!(
            "About {} more requests of {} would do, {} at this traffic.",
            count(round2(requests as f64) as u64),
            d.candidate,
            duration(wait)
        ));
    }
    let blocking = d.evidence.flags.iter().filter(|flag| flag.blocks_pass());
    lines.extend(blocking.filter_map(|flag| lifted_by(*flag, d.evidence)));
    let fail = d.evidence.fail_threshold - d.evidence.ln_e_bar;
    if fail > 0.0 && d.evidence.ln_e_bar > 0.0 {
        lines.push(format!("A fail takes {} times the evidence that there is now.", number(fail.exp())));
    }
    lines
}

/// What holds a PASS back, and what would lift it.
fn lifted_by(flag: Flag, evidence: &Evidence) -> Option<String> {
    let is_change = evidence.change.is_some();
    let words = match flag {
        Flag::SinglePod if is_change => {
            "It runs on one instance, which started after the change and cannot be told from it: a second one lifts that."
        }
        Flag::SinglePod => {
            "It runs on one instance, which cannot be told from its version: a second one lifts that."
        }
        Flag::TooHeterogeneous if is_change => "Its instances differ too much among themselves for a pass.",
        Flag::TooHeterogeneous => "Instances of the old version differ too much among themselves for a pass.",
        Flag::BiasedInput if is_change => {
            "Sampling depends on the outcome: sample all requests alike, or send request metrics."
        }
        Flag::BiasedInput => {
            "Sampling differs between the versions or depends on the outcome: sample both alike, or send request metrics."
        }
        Flag::InstancesRestart => {
            "Its instances die and are replaced more often than the old version's: no pass until they live."
        }
        Flag::CohortWorse => "A region or another cohort is worse by its own evidence: no pass while it is.",
        Flag::ZoneSkew => return zone_words(evidence).map(|words| format!("No pass while {words}.")),
        Flag::ShareMismatch => return share_words(evidence).map(|words| format!("No pass while {words}.")),
        _ if is_change => "It has stopped sending: without traffic there is no pass.",
        _ => "The new version has stopped sending: without traffic there is no pass.",
    };
    Some(words.into())
}

fn outlook(d: &AccountInput<'_>) -> Option<Outlook> {
    let begin = match &d.evidence.change {
        Some(change) => change.judged_from,
        None => d.candidate_first? + d.policy.warmup_s,
    };
    Outlook::of(d.evidence, begin)
}

/// A difference in points of a percentage: `0.4 points`.
fn points(increase: f64) -> String {
    let text = number(100.0 * increase);
    if text == "1" { "1 point".into() } else { format!("{text} points") }
}

fn unseen(d: &AccountInput<'_>) -> Vec<String> {
    if d.verdict == Verdict::Fail {
        return Vec::new();
    }
    if let Some(change) = d.evidence.change.as_ref().filter(|_| is_begun(d)) {
        let mut lines = vec![format!(
            "{} is held against what it showed before {}: an increase of less than twice as many errors, or anything that \
             came with the time of day, cannot be seen.",
            d.candidate,
            time_of_day(change.at)
        )];
        lines.push(
            "A fault that shows later than five minutes after that time is told, and is no fail.".into(),
        );
        return lines;
    }
    if d.evidence.has(Flag::RememberedBaseline) && is_begun(d) {
        return vec![format!(
            "{} serves no more, so {} is held against what it showed: an increase of less than twice as many errors, or of \
             anything that came with the time of day, cannot be seen.",
            d.baseline.unwrap_or("The version before"),
            d.candidate
        )];
    }
    let Some(outlook) = outlook(d) else {
        return vec!["Nothing could have been seen yet: the comparison has not begun.".into()];
    };
    let mut lines = vec![errors_unseen(d, &outlook)];
    if d.evidence.has(Flag::CandidateSilent) {
        lines.push(format!(
            "{} is silent: what it does with requests that never end is not seen.",
            d.candidate
        ));
    }
    if d.evidence.has(Flag::Sampled) && d.evidence.required == Source::Spans {
        lines.push("Spans are sampled: what happened to the others was not seen.".into());
    }
    lines
}

/// "An error increase under +0.4 points would not show yet; 6 more minutes at this traffic show +0.2."
fn errors_unseen(d: &AccountInput<'_>, outlook: &Outlook) -> String {
    let Some(shown) = outlook.shown_after(outlook.compared_s, d.policy) else {
        let first = outlook.seconds_to_show(0.5, d.policy);
        return match first {
            Some(s) => format!(
                "Not even an outage would show yet: after {} of comparison one that fails half of the requests does.",
                duration(s)
            ),
            None => "At this traffic not even an outage would be told from chance within a day.".into(),
        };
    };
    let decided = d.verdict != Verdict::Pending;
    let verb = if decided { "would not have shown" } else { "would not show yet" };
    let from = format!(
        "An error increase under +{} (from {} to {}) {verb}",
        points(shown),
        per_cent(outlook.error_rate),
        per_cent(outlook.error_rate + shown)
    );
    let next = shown / 2.0;
    let after = outlook.seconds_to_show(next, d.policy).map(|s| s - outlook.compared_s);
    match after {
        Some(more) if more > 0.0 => {
            format!("{from}; {} more at this traffic would show +{}.", duration(more.max(1.0)), points(next))
        }
        _ => format!("{from}; half of that would not show within a day at this traffic."),
    }
}

impl Account {
    /// For a terminal or a mail.
    pub fn text(&self) -> String {
        self.render("", "  ", "")
    }

    /// For a ticket or a chat.
    pub fn markdown(&self) -> String {
        self.render("**", "- ", "**")
    }

    fn render(&self, open: &str, bullet: &str, close: &str) -> String {
        let mut out = format!("{}\n\n{open}How sure{close}\n{bullet}{}\n", self.summary, self.sum);
        let mut part = |title: &str, lines: &[String]| {
            if !lines.is_empty() {
                let _ = write!(out, "\n{open}{title}{close}\n");
                lines.iter().for_each(|line| {
                    let _ = writeln!(out, "{bullet}{line}");
                });
            }
        };
        let [rests, turned] = match self.verdict {
            Verdict::Fail => ["What it rests on", "What would have turned it"],
            Verdict::Pass => ["What was compared", "How close it was"],
            Verdict::Pending | Verdict::Inconclusive => ["What was compared", "What is missing"],
        };
        let grounds: Vec<String> = self.grounds.iter().map(|g| self.ground(g)).collect();
        part(rests, &grounds);
        part(turned, &self.turns);
        part("What could not have been seen", &self.unseen);
        out
    }

    /// One line of the sum in words.
    pub fn ground(&self, g: &Ground) -> String {
        match g.towards_pass.filter(|_| self.verdict != Verdict::Fail) {
            Some(nats) => {
                format!("{}: {}; {} that it is not unacceptably worse.", g.what, g.counts, odds(nats))
            }
            None => {
                format!("{} of the evidence: {}; {}.", per_cent(round2(g.share.min(1.0))), g.what, g.counts)
            }
        }
    }
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
