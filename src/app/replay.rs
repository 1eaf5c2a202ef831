//! `rollguard replay`: recorded OTLP through the same walker and the same judge, with event time as the clock.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{self, Config, Files, LoadError};
use crate::deployment::Deployment;
use crate::model::{ServiceKey, Source};
use crate::pipeline::Signal;
use crate::pipeline::recording::{Outcomes, Recording, RecordingError, Selection};
use crate::receiver::{
    JsonError, WalkError, WalkSettings, request_from_json, signal_of_json, signal_of_message, walk_metrics,
    walk_traces,
};
use crate::verdict::{
    CohortEvidence, Evidence, ExplainInput, Judge, Memory, OwnKind, OwnSli, Policy, RegionEvidence,
    SliEvidence, Verdict, Waiting, explain,
};

/// Longest line or message.
const MESSAGE_BYTES: usize = 256 << 20;

/// What to replay.
#[derive(Debug, Clone, Default)]
pub struct ReplayOptions {
    /// Files, in any order of time.
    pub files: Vec<PathBuf>,
    /// Which service and versions.
    pub selection: Selection,
    /// Configuration with the policy.
    pub config: Option<PathBuf>,
    /// Seconds an instance is not compared.
    pub warmup: Duration,
    /// Where the evidence of every slot is written.
    pub trace: Option<PathBuf>,
}

/// Why a replay came to no verdict.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// A file cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A line is not OTLP/JSON.
    #[error("{path}, line {line}: {cause}")]
    Json {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Why.
        cause: JsonError,
    },
    /// A message is not OTLP protobuf.
    #[error("{path}, message {message}: {cause}")]
    Message {
        /// Which file.
        path: PathBuf,
        /// Line or message, from 1.
        message: usize,
        /// Why.
        cause: WalkError,
    },
    /// Nothing to judge, or several choices.
    #[error(transparent)]
    Recording(#[from] RecordingError),
}

/// A judged recording, ready to be shown.
#[derive(Debug, Clone)]
pub struct Replayed {
    outcomes: Outcomes,
    policy: Policy,
}

/// Judges recorded files.
///
/// # Errors
/// When a file cannot be read or understood, or holds nothing to judge.
pub fn replay(options: &ReplayOptions) -> Result<Replayed, ReplayError> {
    let config = match &options.config {
        Some(path) => config::load(path, Files::Elsewhere)?,
        None => Config::default(),
    };
    let settings = config.receiver.walk_settings();
    let service =
        ServiceKey { name: options.selection.service.clone().unwrap_or_default(), ..ServiceKey::default() };
    let mut policy = config.policies.resolve(&service, Deployment::VERSION).policy;
    let mut recording = Recording::under(&policy);
    for path in &options.files {
        read(path, &settings, &mut recording)?;
    }
    policy.warmup_s = options.warmup.as_secs() as i64;
    let mut trace = options.trace.as_ref().map(|_| Vec::new());
    let outcomes = recording.judge(&options.selection, policy.clone(), |source, slot, judge, memory| {
        if let Some(lines) = &mut trace {
            lines.push(trace_line(source, slot, judge, memory));
        }
    })?;
    if let (Some(path), Some(lines)) = (&options.trace, trace) {
        write_trace(path, &lines).map_err(|cause| ReplayError::File { path: path.clone(), cause })?;
    }
    Ok(Replayed { outcomes, policy })
}

impl Replayed {
    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        self.outcomes.verdict
    }

    /// For programs.
    pub fn json(&self) -> String {
        let o = &self.outcomes;
        json!({
            "service": o.service,
            "baseline": o.baseline,
            "candidate": o.candidate,
            "verdict": o.verdict.as_str(),
            "decided_after_s": o.decided_after_s,
            "score": o.evidence.score,
            "ln_e_bar": o.evidence.ln_e_bar,
            "fail_threshold": o.evidence.fail_threshold,
            "explanation": self.explanation(),
            "flags": o.evidence.flags.iter().map(|f| f.as_str()).collect::<Vec<_>>(),
            "spans": { "judged": o.spans[0], "clock_far_off": o.spans[1] },
            "points": { "judged": o.points[0], "clock_far_off": o.points[1] },
            "slot_seconds": o.evidence.slot_seconds,
            "not_read": self.not_read(),
            "evidence": o.evidence.slis.iter().map(sli_json).collect::<Vec<_>>(),
            "cohorts": o.evidence.cohorts.iter().map(cohort_json).collect::<Vec<_>>(),
            "scope": o.evidence.regions.as_ref().map(RegionEvidence::scope),
        })
        .to_string()
    }

    /// For people.
    pub fn report(&self) -> String {
        let o = &self.outcomes;
        let when = o.decided_after_s.map_or_else(
            || "at the end of the recording".to_owned(),
            |s| format!("{s:.1} s after the first request of {}", o.candidate),
        );
        let mut text = format!(
            "{}: {} against {}\n\n{} ({when}, score {:.0})\n{}\n\n",
            o.service,
            o.candidate,
            o.baseline,
            o.verdict.as_str().to_uppercase(),
            o.evidence.score,
            self.explanation()
        );
        text.push_str(&format!(
            "evidence {:.2} of {:.2} nats\n\n{:<34} {:>9} {:>18} {:>18} {:>7}\n",
            o.evidence.ln_e_bar, o.evidence.fail_threshold, "sli", "nats", "candidate", "baseline", "ratio"
        ));
        for e in shown(&o.evidence) {
            text.push_str(&row(e));
        }
        for one in o.evidence.cohorts.iter().filter(|one| one.ln_e > 0.0 || one.is_worse) {
            text.push_str(&cohort_row(one));
        }
        if let Some(regions) = o.evidence.regions.as_ref().filter(|_| o.verdict == Verdict::Fail) {
            text.push_str(&format!("\nscope: {}\n", regions.scope().join(", ")));
        }
        let not_read = self.not_read();
        if !not_read.is_empty() {
            text.push_str(&format!("\nnot read from a recording: {}\n", not_read.join(", ")));
        }
        if !o.evidence.flags.is_empty() {
            let flags: Vec<&str> = o.evidence.flags.iter().map(|f| f.as_str()).collect();
            text.push_str(&format!("\nbear in mind: {}\n", flags.join(", ")));
        }
        text
    }

    /// SLIs of the policy that a recording says nothing of: it has no earlier starts to hold gauges against, and no logs
    /// are read.
    fn not_read(&self) -> Vec<&str> {
        let is_left_out = |sli: &&OwnSli| matches!(sli.kind, OwnKind::Gauge | OwnKind::LogErrors);
        self.policy.slis.iter().filter(is_left_out).map(|sli| sli.name.as_str()).collect()
    }

    fn explanation(&self) -> String {
        // A recording that ends before the horizon leaves the same question open as a live comparison.
        let verdict = if self.outcomes.ended_early { Verdict::Pending } else { self.outcomes.verdict };
        explain(&ExplainInput {
            candidate: &self.outcomes.candidate,
            baseline: Some(&self.outcomes.baseline),
            verdict,
            evidence: &self.outcomes.evidence,
            policy: &self.policy,
            waiting: Waiting::Evidence,
        })
    }
}

/// Service level, and the ten operations with most evidence.
fn shown(evidence: &Evidence) -> impl Iterator<Item = &SliEvidence> {
    let service = evidence.slis.iter().filter(|e| e.operation.is_none());
    service.chain(evidence.slis.iter().filter(|e| e.operation.is_some() && e.ln_e > 0.0).take(10))
}

fn row(e: &SliEvidence) -> String {
    let name = match &e.operation {
        None => e.name().to_owned(),
        Some(operation) => format!("{operation} {}", e.name()),
    };
    let part = |i: usize| format!("{} / {}", e.bad[i], e.requests[i]);
    let ratio = e.ratio.map_or_else(|| "-".to_owned(), |[r, _, _]| format!("{r:.2}"));
    let mark = if e.degraded { " *" } else { "" };
    format!("{name:<34} {:>9.2} {:>18} {:>18} {ratio:>7}{mark}\n", e.ln_e, part(0), part(1))
}

/// Of a value of a dimension what is shown are its failed requests.
fn cohort_row(one: &CohortEvidence) -> String {
    let name = format!("{}={}", one.attribute, one.value);
    let part = |i: usize| format!("{} / {}", one.errors[i], one.requests[i]);
    let mark = if one.is_worse { " *" } else { "" };
    format!("{name:<34} {:>9.2} {:>18} {:>18} {:>7}{mark}\n", one.ln_e, part(0), part(1), "-")
}

fn cohort_json(one: &CohortEvidence) -> Value {
    json!({
        "attribute": one.attribute,
        "value": one.value,
        "ln_e": one.ln_e,
        "threshold": one.threshold,
        "worse": one.is_worse,
        "requests": { "candidate": one.requests[0], "baseline": one.requests[1] },
        "errors": { "candidate": one.errors[0], "baseline": one.errors[1] },
        "sli": one.sli.as_ref().map(|sli| sli.name()),
    })
}

fn sli_json(e: &SliEvidence) -> Value {
    json!({
        "sli": e.name(),
        "operation": e.operation.as_deref(),
        "weight": e.weight,
        "ln_e": e.ln_e,
        "ln_e_pass": e.ln_e_pass,
        "requests": { "candidate": e.requests[0], "baseline": e.requests[1] },
        "bad": { "candidate": e.bad[0], "baseline": e.bad[1] },
        "ratio": e.ratio.map(|[ratio, low, high]| json!({ "value": ratio, "low": low, "high": high })),
        "threshold_seconds": e.threshold_seconds,
        "source": e.source.as_str(),
        "grain": e.grain.as_str(),
        "exceedance": e.exceedance,
        "degraded": e.degraded,
    })
}

/// One slot of the trace: evidence of every process and what it was judged by.
fn trace_line(source: Source, slot: i64, judge: &Judge, memory: &Memory) -> Value {
    let [errors, requests] = memory.remembered();
    let sizes = memory.incident_sizes_in_time();
    let processes = judge.trace();
    json!({
        "source": source.as_str(),
        "slot": slot,
        "ln_e_bar": judge.ln_e_bar(),
        "gone": judge.baseline_gone(),
        "renamed": judge.renamed(),
        "latency_from": judge.latency_from(),
        "X": errors,
        "N": requests,
        "cbar": named(["err", "p50", "p75", "p95", "p99"].into_iter().zip(sizes)),
        "weights": named(processes.iter().map(|(name, weight, ..)| (name.as_str(), *weight))),
        "ln_e": named(processes.iter().map(|(name, _, e, _)| (name.as_str(), *e))),
        "starts": named(processes.iter().filter_map(|(name, .., start)| Some((name.as_str(), (*start)?)))),
        "ln_e_pass": named(["err", "p50", "p95", "p99"].into_iter().zip(judge.ln_e_pass())),
    })
}

fn named<'a, V: Into<Value>>(values: impl Iterator<Item = (&'a str, V)>) -> Value {
    Value::Object(values.map(|(name, v)| (name.to_owned(), v.into())).collect())
}

fn write_trace(path: &Path, lines: &[Value]) -> io::Result<()> {
    let mut out = io::BufWriter::new(File::create(path)?);
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// Reads one file: JSON lines where the first byte is a brace, else messages with a four-byte length in
/// front, as the Collector's file exporter writes them.
fn read(path: &Path, settings: &WalkSettings, recording: &mut Recording) -> Result<(), ReplayError> {
    let failed = |cause| ReplayError::File { path: path.to_owned(), cause };
    let mut input = open(path).map_err(failed)?;
    let is_json = loop {
        match input.fill_buf().map_err(failed)?.first() {
            Some(b) if b.is_ascii_whitespace() => input.consume(1),
            Some(b'{') => break true,
            Some(_) => break false,
            None => return Ok(()),
        }
    };
    if is_json {
        read_lines(path, input, settings, recording)
    } else {
        read_messages(path, input, settings, recording)
    }
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = File::open(path)?;
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    Ok(match extension {
        "gz" => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(file)))),
        "zst" => Box::new(BufReader::new(zstd::Decoder::new(file)?)),
        _ => Box::new(BufReader::new(file)),
    })
}

fn read_lines(
    path: &Path,
    mut input: Box<dyn BufRead>,
    settings: &WalkSettings,
    recording: &mut Recording,
) -> Result<(), ReplayError> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let n = input
            .by_ref()
            .take(MESSAGE_BYTES as u64)
            .read_until(b'\n', &mut line)
            .map_err(|cause| ReplayError::File { path: path.to_owned(), cause })?;
        if n == 0 {
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let signal = signal_of_json(&line);
        let message = request_from_json(signal, &line, MESSAGE_BYTES).map_err(|cause| ReplayError::Json {
            path: path.to_owned(),
            line: number,
            cause,
        })?;
        walk(path, number, signal, &message, settings, recording)?;
    }
    Ok(())
}

fn read_messages(
    path: &Path,
    mut input: Box<dyn BufRead>,
    settings: &WalkSettings,
    recording: &mut Recording,
) -> Result<(), ReplayError> {
    let failed = |cause| ReplayError::File { path: path.to_owned(), cause };
    let mut message = Vec::new();
    for number in 1.. {
        if input.fill_buf().map_err(failed)?.is_empty() {
            break;
        }
        let mut length = [0; 4];
        input.read_exact(&mut length).map_err(failed)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_BYTES {
            let text = format!(
                "message {number} claims {length} bytes; this is neither JSON lines nor length-delimited OTLP"
            );
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        message.clear();
        let n = input.by_ref().take(length as u64).read_to_end(&mut message).map_err(failed)?;
        if n < length {
            return Err(failed(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("message {number} is cut off"),
            )));
        }
        walk(path, number, signal_of_message(&message), &message, settings, recording)?;
    }
    Ok(())
}

/// Log records take no part in a replay.
fn walk(
    path: &Path,
    number: usize,
    signal: Signal,
    message: &[u8],
    settings: &WalkSettings,
    recording: &mut Recording,
) -> Result<(), ReplayError> {
    let walked = match signal {
        Signal::Traces => walk_traces(message, settings, recording).map(drop),
        Signal::Metrics => walk_metrics(message, settings, recording).map(drop),
        Signal::Logs => Ok(()),
    };
    walked.map_err(|cause| ReplayError::Message { path: path.to_owned(), message: number, cause })
}
