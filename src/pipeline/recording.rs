//! Recorded spans and metrics and their judgement: `replay` and the golden tests. Event time is the clock, so there is no
//! lateness: the whole recording is put into slots first and judged slot by slot afterwards. The order of
//! spans in the files does not matter, and the same files give the same bytes.

mod cohorts;
mod court;
mod measures;
mod metric_measures;
mod points;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::cohorts::{Placing, RecordedValues};
use self::court::Court;
use self::measures::{MarkedArms, RecordedMark};
use self::metric_measures::Beside;
use self::points::{MetricSlots, PointValues, RecordedPoints};

use crate::histogram::layout;
use crate::model::{
    Counted, DimensionTexts, Discard, MarkedSpan, Measure, NANOS_PER_SECOND, Outcome, Program, ResourceView,
    Slot, Source, SpanSink, SpanView, StatusSource, UnixNanos, part_bit,
};
use crate::verdict::{
    Arm, Cells, Counts, Evidence, InstanceCounts, Judge, Memory, Policy, SlotInput, Verdict,
};

/// A span further than this from the recording's median end is a clock gone wrong, not traffic.
const FAR_NANOS: u64 = 86_400 * NANOS_PER_SECOND;

/// One recorded entry span.
#[derive(Debug, Clone, Copy)]
struct Recorded {
    version: u32,
    operation: u32,
    instance: u32,
    start: UnixNanos,
    end: UnixNanos,
    outcome: Outcome,
    status: StatusSource,
    /// Values of its dimensions; `None` where it is not told apart.
    values: Option<u32>,
}

/// Strings by number, in order of appearance.
#[derive(Debug, Default)]
struct Names {
    numbers: BTreeMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let (number, name) = (self.names.len() as u32, Arc::<str>::from(name));
        self.numbers.insert(Arc::clone(&name), number);
        self.names.push(name);
        number
    }
}

/// All spans of a recording, as a sink for the walker.
#[derive(Debug, Default)]
pub struct Recording {
    services: Names,
    versions: Names,
    operations: Names,
    instances: Names,
    spans: Vec<(u32, Recorded)>,
    /// What spans are compared with, and what they count for.
    program: Option<Arc<Program>>,
    /// The same of points.
    point_program: Option<Arc<Program>>,
    values: RecordedValues,
    marks: Vec<RecordedMark>,
    points: RecordedPoints,
    /// Service, version and instance of the resource in hand.
    current: (u32, u32, u32),
    scratch: String,
    discarded: BTreeMap<Discard, u64>,
}

const NO_INSTANCE: u32 = u32::MAX;

/// Numbers of instances in order of appearance, by version and instance.
type Ordinals = BTreeMap<(u32, u32), u32>;

impl SpanSink for Recording {
    fn resource(&mut self, resource: &ResourceView<'_>) {
        let service = self.services.number(&String::from_utf8_lossy(resource.service));
        let version = self.versions.number(&String::from_utf8_lossy(resource.version));
        let instance = if resource.instance.is_empty() {
            NO_INSTANCE
        } else {
            self.instances.number(&String::from_utf8_lossy(resource.instance))
        };
        self.current = (service, version, instance);
    }

    fn span(&mut self, span: &SpanView<'_>) {
        self.push(span, None);
    }

    fn span_of(&mut self, span: &SpanView<'_>, dimensions: &DimensionTexts) {
        let values = self.values.number(dimensions);
        self.push(span, Some(values));
    }

    fn program(&self) -> Option<Arc<Program>> {
        self.program.clone()
    }

    fn marked(&mut self, span: &MarkedSpan<'_>) {
        self.mark(None, span.start, span.end, span.marks, span.quantities);
    }

    fn discard(&mut self, reason: Discard) {
        *self.discarded.entry(reason).or_default() += 1;
    }
}

/// Which part of a recording is judged, and how.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selection {
    /// `service.name`; may be left out where the recording has one service with two versions.
    pub service: Option<String>,
    /// Version held against; the one whose spans begin first when absent.
    pub baseline: Option<String>,
    /// Version being judged; the other one when absent.
    pub candidate: Option<String>,
}

/// Why a recording cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    /// Nothing to judge.
    #[error("the recording has no entry span (kind SERVER or CONSUMER) and no request metric")]
    Empty,
    /// A name does not occur.
    #[error("no span of {what} {name:?}; the recording has {known}")]
    Unknown {
        /// "service" or "version".
        what: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Several choices are possible.
    #[error("say which {what} with {flag}; the recording has {known}")]
    Ambiguous {
        /// What must be chosen.
        what: &'static str,
        /// The flag that chooses.
        flag: &'static str,
        /// What there is.
        known: String,
    },
}

/// A judged recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcomes {
    /// `service.name`.
    pub service: String,
    /// Version held against.
    pub baseline: String,
    /// Version judged.
    pub candidate: String,
    /// The first verdict, or `Inconclusive` at the end of the recording.
    pub verdict: Verdict,
    /// Whether the recording ended before the policy's horizon: more of it might have decided.
    pub ended_early: bool,
    /// End of the deciding slot minus the candidate's first start, seconds.
    pub decided_after_s: Option<f64>,
    /// The evidence at the decision.
    pub evidence: Evidence,
    /// Spans that were judged or remembered, and those left out because their clock is far off.
    pub spans: [u64; 2],
    /// Metric points of the two versions that count requests or for an SLI, likewise.
    pub points: [u64; 2],
}

impl Recording {
    /// A recording whose spans are compared with the SLIs of a policy and told apart by its dimensions. What does not
    /// fit is not tested, as in a gateway that runs; a checked file fits.
    pub fn under(policy: &Policy) -> Self {
        let measures: Vec<Measure> = policy.slis.iter().map(|sli| sli.measure.clone()).collect();
        let dimensions: Vec<String> = policy.dimensions.iter().map(|one| one.attribute.clone()).collect();
        let program = |measures| Program::with_dimensions(measures, &dimensions).ok().map(Arc::new);
        // Gauges are held against earlier starts, which a recording of one release does not have.
        let is_counted = |measure: &&Measure| {
            measure.counted.is_of_metrics() && !matches!(measure.counted, Counted::Level { .. })
        };
        let of_metrics: Vec<Measure> = measures.iter().filter(is_counted).cloned().collect();
        let reads =
            |program: &Arc<Program>| program.has_dimensions() || !program.metric_measures().is_empty();
        let point_program = program(&of_metrics).filter(reads);
        Self { program: program(&measures), point_program, ..Self::default() }
    }

    fn push(&mut self, span: &SpanView<'_>, values: Option<u32>) {
        self.scratch.clear();
        for part in [span.operation_head, span.operation_joint, span.operation_tail] {
            self.scratch.push_str(&String::from_utf8_lossy(part));
        }
        let (service, version, instance) = self.current;
        let operation = self.operations.number(&self.scratch);
        if span.marks != 0 || !span.quantities.is_empty() {
            self.mark(Some(operation), span.start, span.end, span.marks, span.quantities);
        }
        let recorded = Recorded {
            version,
            operation,
            instance,
            start: span.start,
            end: span.end,
            outcome: span.outcome,
            status: span.status,
            values,
        };
        self.spans.push((service, recorded));
    }

    fn mark(
        &mut self,
        operation: Option<u32>,
        start: UnixNanos,
        end: UnixNanos,
        marks: u64,
        quantities: &[(u8, u64)],
    ) {
        let (service, version, instance) = self.current;
        let bucket = layout::bucket_of_nanos(end.since(start));
        let mark =
            RecordedMark { service, version, instance, operation, start, end, bucket, marks, amount: 1 };
        if marks != 0 {
            self.marks.push(mark);
        }
        self.marks.extend(quantities.iter().map(|(measure, amount)| RecordedMark {
            marks: part_bit(usize::from(*measure)),
            amount: *amount,
            ..mark
        }));
    }

    /// Entry spans recorded.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is neither an entry span nor a point that counts requests.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.points.is_empty()
    }

    /// Spans that make no SLI, by reason.
    pub fn discarded(&self) -> &BTreeMap<Discard, u64> {
        &self.discarded
    }

    /// Judges the selected service to the first fail or pass or the end. `each` is shown every judged slot of
    /// every source.
    pub fn judge(
        &self,
        selection: &Selection,
        policy: Policy,
        mut each: impl FnMut(Source, Slot, &Judge, &Memory),
    ) -> Result<Outcomes, RecordingError> {
        let arms = self.select(selection)?;
        let (spans, far) = self.arms(arms);
        let (mut slots, first, ordinals) = self.slots(&spans, arms);
        if let Some(program) = &self.program {
            let (service, baseline, candidate) = arms;
            let operations = &self.operations.names;
            let marked = MarkedArms { service, baseline, candidate, first, ordinals: &ordinals, operations };
            measures::put(&self.marks, program, &marked, &mut slots);
            measures::put_deaths(program, &mut slots);
            let placing = Placing { candidate, first, ordinals: &ordinals, operations };
            cohorts::put(&spans, &self.values, &policy.dimensions, &placing, &mut slots);
        }
        let values = PointValues { texts: &self.values, dimensions: &policy.dimensions };
        let measuring = self.point_program.as_deref().filter(|program| !program.metric_measures().is_empty());
        let beside = measuring.map(|program| Beside::new(program, &slots, &ordinals, (arms.1, arms.2)));
        let how = (policy.latency_margin, beside.as_ref());
        let metrics = self.points.slots(arms, &self.operations.names, &values, how);
        let first = first.into_iter().chain(metrics.first).min();
        let mut court = Court::new(policy, !slots.is_empty(), &metrics);
        let (mut verdict, mut decided) = (Verdict::Pending, None);
        let silence = SlotInput::default();
        for (end, source, t) in order(&slots, &metrics) {
            let of_source = if source == Source::Spans { &slots } else { &metrics.slots };
            court.slot(source, t, of_source.get(&t).unwrap_or(&silence));
            if let Some((judge, memory)) = court.judge(source) {
                each(source, t, judge, memory);
            }
            verdict = court.verdict();
            if matches!(verdict, Verdict::Fail | Verdict::Pass) {
                decided = Some(end);
                break;
            }
        }
        let ended_early = verdict == Verdict::Pending;
        if decided.is_none() {
            verdict = Verdict::Inconclusive;
        }
        Ok(Outcomes {
            service: self.services.names[arms.0 as usize].to_string(),
            baseline: self.versions.names[arms.1 as usize].to_string(),
            candidate: self.versions.names[arms.2 as usize].to_string(),
            verdict,
            ended_early,
            decided_after_s: decided.zip(first).map(|(end, first)| end as f64 - first.as_secs_f64()),
            evidence: court.evidence(),
            spans: [spans.len() as u64, far],
            points: metrics.points,
        })
    }

    /// Numbers of service, baseline and candidate.
    fn select(&self, selection: &Selection) -> Result<(u32, u32, u32), RecordingError> {
        let present: BTreeSet<u32> = self.spans.iter().map(|s| s.0).chain(self.points.services()).collect();
        let service =
            choose("service", "--service", &self.services, &present, selection.service.as_deref(), 1)?[0];
        let mut first: BTreeMap<u32, UnixNanos> = BTreeMap::new();
        for (_, span) in self.spans.iter().filter(|s| s.0 == service) {
            let start = first.entry(span.version).or_insert(span.start);
            *start = span.start.min(*start);
        }
        for (version, time) in self.points.versions(service) {
            let seen = first.entry(version).or_insert(time);
            *seen = time.min(*seen);
        }
        let versions: BTreeSet<u32> = first.keys().copied().collect();
        let one = |name: &Option<String>, flag| match name {
            Some(name) => {
                choose("version", flag, &self.versions, &versions, Some(name), 1).map(|v| Some(v[0]))
            }
            None => Ok(None),
        };
        let (baseline, candidate) =
            (one(&selection.baseline, "--baseline")?, one(&selection.candidate, "--candidate")?);
        let rest: BTreeSet<u32> =
            versions.iter().copied().filter(|v| Some(*v) != baseline && Some(*v) != candidate).collect();
        let missing = usize::from(baseline.is_none()) + usize::from(candidate.is_none());
        let mut open = choose("version", "--baseline and --candidate", &self.versions, &rest, None, missing)?;
        open.sort_by_key(|v| first[v]);
        let mut open = open.into_iter();
        let baseline = baseline.or_else(|| open.next());
        match (baseline, candidate.or_else(|| open.next())) {
            (Some(baseline), Some(candidate)) => Ok((service, baseline, candidate)),
            _ => Err(RecordingError::Empty),
        }
    }

    /// The two versions' spans whose end is near the median end, and the number of the others.
    fn arms(&self, (service, baseline, candidate): (u32, u32, u32)) -> (Vec<Recorded>, u64) {
        let of_arms = |(s, span): &(u32, Recorded)| {
            (*s == service && (span.version == baseline || span.version == candidate)).then_some(*span)
        };
        let mut spans: Vec<Recorded> = self.spans.iter().filter_map(of_arms).collect();
        let mut ends: Vec<UnixNanos> = spans.iter().map(|s| s.end).collect();
        ends.sort_unstable();
        let middle = ends.get(ends.len() / 2).copied().unwrap_or_default();
        let all = spans.len();
        spans.retain(|s| s.end.0.abs_diff(middle.0) <= FAR_NANOS);
        let far = (all - spans.len()) as u64;
        (spans, far)
    }

    /// Slots in order, and the candidate's first start: the earliest among those that end in its first slot.
    fn slots(
        &self,
        spans: &[Recorded],
        (_, _, candidate): (u32, u32, u32),
    ) -> (BTreeMap<Slot, SlotInput>, Option<UnixNanos>, Ordinals) {
        let own = || spans.iter().filter(|s| s.version == candidate);
        let first_slot = own().map(|s| s.end.slot()).min();
        let first = own().filter(|s| Some(s.end.slot()) == first_slot).map(|s| s.start).min();
        let mut ordinals = Ordinals::new();
        let mut counts = [0u32; 2];
        let mut slots: BTreeMap<Slot, SlotInput> = BTreeMap::new();
        for span in spans {
            let is_candidate = span.version == candidate;
            let ordinal = (span.instance != NO_INSTANCE).then(|| {
                *ordinals.entry((span.version, span.instance)).or_insert_with(|| {
                    let next = &mut counts[usize::from(is_candidate)];
                    *next += 1;
                    *next - 1
                })
            });
            let input = slots.entry(span.end.slot()).or_default();
            let is_old = !is_candidate && first.is_some_and(|f| span.start < f);
            let arm = if is_candidate { &mut input.candidate } else { &mut input.baseline };
            let operation = &self.operations.names[span.operation as usize];
            place(span, operation, ordinal, arm, is_old.then_some(&mut input.started_before));
        }
        (slots, first, ordinals)
    }
}

/// Counts a request in its slot: in `old` where it is only remembered.
fn place(
    span: &Recorded,
    operation: &Arc<str>,
    ordinal: Option<u32>,
    arm: &mut Arm,
    old: Option<&mut Cells>,
) {
    let bucket = layout::bucket_of_nanos(span.end.since(span.start));
    arm.status_seen |= span.status == StatusSource::Code;
    if let Some(ordinal) = ordinal {
        count_instance(arm, ordinal, span.outcome, bucket);
    }
    let cell = old.unwrap_or(&mut arm.warm).entry(Arc::clone(operation)).or_default();
    count(&mut cell.groups[ordinal.unwrap_or(0) as usize % 2], span.outcome, bucket);
}

/// One slot through memory and judge, in the order that keeps evidence predictable.
pub fn step(t: Slot, memory: &mut Memory, judge: &mut Judge, input: &SlotInput) {
    let present = !input.baseline.is_silent() || !input.started_before.is_empty();
    memory.begin(t, present);
    judge.slot(t, memory, input);
    memory.end(t, &remembered(input), &input.baseline);
}

/// Warm requests of the baseline, those that are only remembered included.
fn remembered(input: &SlotInput) -> Cells {
    let mut seen = input.baseline.warm.clone();
    for (operation, cell) in &input.started_before {
        seen.entry(Arc::clone(operation)).or_default().merge(cell);
    }
    seen
}

/// All slots of both sources from the first to the last, silent ones included, in the order of their ends:
/// end, source, slot.
fn order(spans: &BTreeMap<Slot, SlotInput>, metrics: &MetricSlots) -> Vec<(Slot, Source, Slot)> {
    let range = |slots: &BTreeMap<Slot, SlotInput>, width: i64| {
        let ends = slots.keys().next().zip(slots.keys().next_back()).map(|(a, b)| (*a, *b));
        ends.into_iter().flat_map(move |(a, b)| (0..=(b - a) / width).map(move |i| a + i * width))
    };
    let width = metrics.timing.slot_s();
    let of_spans = range(spans, 1).map(|t| (t + 1, Source::Spans, t));
    let of_metrics = range(&metrics.slots, width).map(|t| (t + width, Source::Metrics, t));
    let mut all: Vec<_> = of_spans.chain(of_metrics).collect();
    all.sort_unstable();
    all
}

fn count(counts: &mut Counts, outcome: Outcome, bucket: i16) {
    counts.requests += 1;
    counts.bad += u64::from(outcome == Outcome::Bad);
    counts.client_errors += u64::from(outcome == Outcome::ClientError);
    counts.latency.record(bucket);
}

fn count_instance(arm: &mut Arm, ordinal: u32, outcome: Outcome, bucket: i16) {
    let at = arm.instances.partition_point(|i| i.ordinal < ordinal);
    if arm.instances.get(at).is_none_or(|i| i.ordinal != ordinal) {
        arm.instances.insert(at, InstanceCounts { ordinal, ..Default::default() });
    }
    let instance = &mut arm.instances[at];
    instance.requests += 1;
    instance.bad += u64::from(outcome == Outcome::Bad);
    instance.bucket_sum += i64::from(bucket);
    instance.bucket_squares += i64::from(bucket).pow(2);
}

/// The number of the name asked for, or all that there are if they are as many as are wanted.
fn choose(
    what: &'static str,
    flag: &'static str,
    names: &Names,
    present: &BTreeSet<u32>,
    asked: Option<&str>,
    wanted: usize,
) -> Result<Vec<u32>, RecordingError> {
    let known = || {
        let mut list: Vec<String> =
            present.iter().take(20).map(|n| format!("{:?}", names.names[*n as usize])).collect();
        if present.len() > 20 {
            list.push(format!("and {} more", present.len() - 20));
        }
        if list.is_empty() { "none".to_owned() } else { list.join(", ") }
    };
    if let Some(name) = asked {
        let number = names.numbers.get(name).filter(|n| present.contains(n));
        let unknown = || RecordingError::Unknown { what, name: name.to_owned(), known: known() };
        return number.map(|n| vec![*n]).ok_or_else(unknown);
    }
    if wanted == 0 {
        return Ok(Vec::new());
    }
    if present.len() == wanted {
        return Ok(present.iter().copied().collect());
    }
    if present.is_empty() && wanted == 1 && what == "service" {
        return Err(RecordingError::Empty);
    }
    Err(RecordingError::Ambiguous { what, flag, known: known() })
}
