//! The measures of one service, compiled for the walk over its spans. Each condition is tested once, when its
//! attribute is read, and leaves a bit; what a span counts for is then a comparison of bits per measure. Nothing is
//! interpreted, allocated or looked up by name but the attributes themselves, and what came before is known again.

mod metrics;
mod names;
mod recent;

use self::metrics::MetricRules;
pub use self::metrics::{Completion, MetricMeasure, Reading};
use self::names::Names;
use self::recent::Ends;
pub use self::recent::{EncodedValue, Recent};
use super::selection::{AttributeTest, AttributeValue, Pattern, Selection, SpanStatus, ValueTest};
use super::{Counted, Measure, MeasureKey, Outcome, SpanKind};

/// Measures of one service; each has two bits in the marks of a span.
pub const MEASURES_MAX: usize = 32;
/// Conditions on attributes, names and operations of one service, over all its measures; each has a bit.
pub const CONDITIONS_MAX: usize = 64;
/// Quantities of one service.
pub const QUANTITIES_MAX: usize = 4;

/// What a span counts for: bit 2k, it is one of all of measure k; bit 2k+1, it is bad or an event.
pub type Marks = u64;

/// The bit of "one of all" of a measure.
pub const fn total_bit(measure: usize) -> Marks {
    1 << (2 * measure)
}

/// The bit of "bad" or "event" of a measure.
pub const fn part_bit(measure: usize) -> Marks {
    2 << (2 * measure)
}

/// Why measures cannot be compiled for one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooMany {
    /// More than [`MEASURES_MAX`].
    Measures,
    /// More than [`CONDITIONS_MAX`].
    Conditions,
    /// More than [`QUANTITIES_MAX`].
    Quantities,
}

/// What was found in a span so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// Conditions that hold.
    bits: u64,
    /// Quantities that were there; one of 0 adds nothing, like none.
    quantities: [u64; QUANTITIES_MAX],
}

/// A span that may count for something, apart from its attributes.
#[derive(Debug, Clone, Copy)]
pub struct SpanFacts<'a> {
    /// Its kind.
    pub kind: SpanKind,
    /// Its own status.
    pub status: SpanStatus,
    /// How it ended.
    pub outcome: Outcome,
    /// Its name.
    pub name: &'a [u8],
    /// Its operation, in pieces.
    pub operation: [&'a [u8]; 3],
    /// Its status code of HTTP or RPC.
    pub code: AttributeValue<'a>,
    /// How long it took.
    pub nanos: u64,
}

/// One attribute that conditions are about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Watched {
    /// Conditions on its value and their bits.
    conditions: Vec<(u64, Vec<ValueTest>)>,
    /// The tests of all conditions, one by one, with the bits that they set.
    tests: Vec<(u64, ValueTest)>,
    /// Bits of all tests.
    mask: u64,
    /// Which quantity it is.
    quantity: Option<u8>,
    /// Which dimension it is.
    dimension: Option<u8>,
}

/// What must hold for a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Mask {
    kinds: u8,
    statuses: u8,
    outcomes: u8,
    need: u64,
    forbid: u64,
}

impl Mask {
    fn holds(&self, kind: u8, status: u8, outcome: u8, bits: u64) -> bool {
        self.kinds & kind != 0
            && self.statuses & status != 0
            && self.outcomes & outcome != 0
            && bits & self.need == self.need
            && bits & self.forbid == 0
    }
}

/// How a measure is told from facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Share { total: Mask, part: Mask, is_good: bool },
    Slower { total: Mask },
    Latency { total: Mask },
    PerRequest { requests: Mask, events: Mask },
}

/// The compiled measures of one service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// Names of the attributes that matter.
    attributes: Names,
    /// What is looked for in each of them, by number.
    watched: Vec<Watched>,
    /// Conditions on names and operations: of which kinds, and their bits.
    names: Vec<(u8, u64, Pattern)>,
    operations: Vec<(u8, u64, Pattern)>,
    codes: Vec<(u64, Vec<ValueTest>)>,
    rules: Vec<(u8, Rule)>,
    /// Measures of what takes longer than so many nanoseconds.
    slower: Vec<(u8, u64)>,
    /// Measures of quantities, and of which.
    amounts: Vec<(u8, u8)>,
    /// Keys by number, all that ever were.
    keys: Vec<MeasureKey>,
    /// Names what it counts and by what it tells requests apart.
    revision: u64,
    /// Kinds that any rule is about.
    kinds: u8,
    conditions: u32,
    quantities: u8,
    dimensions: u8,
    /// The measure of error logs, which no span is compared with.
    error_logs: Option<MeasureKey>,
    /// The measure of instances that die, the same.
    deaths: Option<MeasureKey>,
    /// Bits of the totals of the measures that want latencies, and of those told apart by operation.
    latencies: Marks,
    by_operation: Marks,
    /// Measures that metrics count.
    metrics: MetricRules,
}

impl Program {
    /// Compiles measures; the place of each in the list is its number.
    ///
    /// # Errors
    /// [`TooMany`] beyond a cap.
    pub fn compile(measures: &[Measure]) -> Result<Self, TooMany> {
        Self::with_dimensions(measures, &[])
    }

    /// The same for a service whose requests are told apart by dimensions too, which are attributes by name; beyond
    /// [`super::DIMENSIONS_MAX`] they are left out. The place of each in the list is its number.
    ///
    /// # Errors
    /// As [`Program::compile`].
    pub fn with_dimensions(measures: &[Measure], dimensions: &[String]) -> Result<Self, TooMany> {
        let mut program = Self::default();
        for (number, name) in dimensions.iter().take(super::DIMENSIONS_MAX).enumerate() {
            let at = program.watch(name);
            program.watched[at].dimension = Some(number as u8);
            program.dimensions += 1;
        }
        if measures.len() > MEASURES_MAX {
            return Err(TooMany::Measures);
        }
        for (number, measure) in measures.iter().enumerate() {
            program.keys.push(measure.key);
            match measure.counted {
                Counted::ErrorLogs => program.error_logs = Some(measure.key),
                Counted::Deaths => program.deaths = Some(measure.key),
                _ => {}
            }
            if program.metrics.add(number as u8, measure.key, &measure.counted) {
                continue;
            }
            if let Some(rule) = program.rule(number as u8, &measure.counted)? {
                program.rules.push((number as u8, rule));
            }
        }
        let of_requests = |mask: &Mask| mask.kinds & !REQUESTS == 0;
        program.latencies =
            program.totals_of(|rule| matches!(rule, Rule::Latency { .. })) | program.metrics.durations();
        program.by_operation = program.totals_of(|rule| match rule {
            Rule::Share { total, .. } | Rule::Slower { total, .. } => of_requests(total),
            _ => false,
        });
        program.revision = revision(&program.keys, dimensions);
        Ok(program)
    }

    fn rule(&mut self, number: u8, counted: &Counted) -> Result<Option<Rule>, TooMany> {
        Ok(Some(match counted {
            Counted::Share { total, part, is_good } => Rule::Share {
                total: self.mask(total)?,
                part: self.part_mask(total, part)?,
                is_good: *is_good,
            },
            Counted::Slower { total, nanos } => {
                self.slower.push((number, *nanos));
                Rule::Slower { total: self.mask(total)? }
            }
            Counted::Latency { total } => Rule::Latency { total: self.mask(total)? },
            Counted::PerRequest { requests, events, quantity } => {
                if let Some(name) = quantity {
                    let which = self.quantity(name)?;
                    self.amounts.push((number, which));
                }
                Rule::PerRequest { requests: self.mask(requests)?, events: self.mask(events)? }
            }
            Counted::ErrorLogs
            | Counted::Deaths
            | Counted::Requests
            | Counted::Occurrences { .. }
            | Counted::Level { .. } => {
                return Ok(None);
            }
        }))
    }

    /// A part is of the kinds of its whole, unless it names some itself.
    fn part_mask(&mut self, total: &Selection, part: &Selection) -> Result<Mask, TooMany> {
        let kinds = if part.kinds.is_empty() { total.kinds.clone() } else { part.kinds.clone() };
        self.mask(&Selection { kinds, ..part.clone() })
    }

    fn mask(&mut self, selection: &Selection) -> Result<Mask, TooMany> {
        let kinds = selection.kinds().iter().fold(0, |mask, kind| mask | kind_bit(*kind));
        let any = |bits: u8| if bits == 0 { u8::MAX } else { bits };
        let mut mask = Mask {
            kinds,
            statuses: any(selection.statuses.iter().fold(0, |mask, status| mask | 1 << *status as u8)),
            outcomes: any(selection.outcomes.iter().fold(0, |mask, outcome| mask | 1 << *outcome as u8)),
            ..Mask::default()
        };
        self.kinds |= kinds;
        if let Some(pattern) = &selection.name {
            let known = self.names.iter_mut().find(|(_, _, known)| known == pattern).map(|(of, bit, _)| {
                *of |= kinds;
                *bit
            });
            let bit = known.map_or_else(|| self.condition(), Ok)?;
            if known.is_none() {
                self.names.push((kinds, bit, pattern.clone()));
            }
            mask.need |= bit;
        }
        if let Some(pattern) = &selection.operation {
            let known =
                self.operations.iter_mut().find(|(_, _, known)| known == pattern).map(|(of, bit, _)| {
                    *of |= kinds;
                    *bit
                });
            let bit = known.map_or_else(|| self.condition(), Ok)?;
            if known.is_none() {
                self.operations.push((kinds, bit, pattern.clone()));
            }
            mask.need |= bit;
        }
        if !selection.codes.is_empty() {
            let known = self.codes.iter().find(|(_, any)| *any == selection.codes).map(|(bit, _)| *bit);
            let bit = known.map_or_else(|| self.condition(), Ok)?;
            if known.is_none() {
                self.codes.push((bit, selection.codes.clone()));
            }
            mask.need |= bit;
        }
        for test in &selection.attributes {
            let bit = self.attribute(test)?;
            *if test.is_negated { &mut mask.forbid } else { &mut mask.need } |= bit;
        }
        Ok(mask)
    }

    fn condition(&mut self) -> Result<u64, TooMany> {
        if self.conditions as usize >= CONDITIONS_MAX {
            return Err(TooMany::Conditions);
        }
        self.conditions += 1;
        Ok(1 << (self.conditions - 1))
    }

    fn attribute(&mut self, test: &AttributeTest) -> Result<u64, TooMany> {
        let at = self.watch(&test.name);
        if let Some((bit, _)) = self.watched[at].conditions.iter().find(|(_, any)| *any == test.any) {
            return Ok(*bit);
        }
        let bit = self.condition()?;
        let watched = &mut self.watched[at];
        watched.conditions.push((bit, test.any.clone()));
        watched.tests.extend(test.any.iter().map(|one| (bit, one.clone())));
        watched.mask |= bit;
        Ok(bit)
    }

    fn quantity(&mut self, name: &str) -> Result<u8, TooMany> {
        let at = self.watch(name);
        if let Some(number) = self.watched[at].quantity {
            return Ok(number);
        }
        let number = self.quantities;
        if usize::from(number) >= QUANTITIES_MAX {
            return Err(TooMany::Quantities);
        }
        self.quantities += 1;
        self.watched[at].quantity = Some(number);
        Ok(number)
    }

    fn watch(&mut self, name: &str) -> usize {
        let at = self.attributes.add(name.as_bytes());
        self.watched.resize_with(self.attributes.numbers(), Watched::default);
        at
    }

    /// The measures that metrics count.
    pub fn metric_measures(&self) -> &[MetricMeasure] {
        self.metrics.measures()
    }

    /// The metrics that are read, and the bits of what they count for; one may occur several times.
    pub fn metric_names(&self) -> impl Iterator<Item = (&str, Marks)> {
        self.metrics.names()
    }

    /// Whether any of them is per request of the version.
    pub fn needs_requests(&self) -> bool {
        self.metric_measures().iter().any(|measure| measure.completion == Completion::PerRequest)
    }

    /// Whether any measure is about a metric of this name, as a gauge or as what counts.
    pub fn reads_metric(&self, name: &[u8], is_level: bool) -> bool {
        self.metrics.reads(name, is_level)
    }

    /// What the points of a stream of a metric count for, by its attributes and how they are read.
    pub fn metric_marks<'a>(
        &self,
        name: &[u8],
        reading: Reading,
        attribute: impl Fn(&[u8]) -> AttributeValue<'a>,
    ) -> Marks {
        self.metrics.marks(name, reading, attribute)
    }

    /// Tells this program from all others that count something else, give it other numbers or tell requests apart by
    /// something else, of whichever service and time: what its points came to under one holds under each of the same.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The measure of error logs, if there is one.
    pub const fn error_logs(&self) -> Option<MeasureKey> {
        self.error_logs
    }

    /// The measure of instances that die, if there is one.
    pub const fn deaths(&self) -> Option<MeasureKey> {
        self.deaths
    }

    /// Whether it has nothing to tell of spans.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && !self.has_dimensions()
    }

    /// Whether requests are told apart by dimensions.
    #[inline]
    pub const fn has_dimensions(&self) -> bool {
        self.dimensions > 0
    }

    /// The number of the dimension that an attribute is, by its number from [`Program::attribute_number`].
    #[inline]
    pub fn dimension(&self, watched: usize) -> Option<usize> {
        self.watched.get(watched)?.dimension.map(usize::from)
    }

    /// Whether spans of this kind may count for something.
    #[inline]
    pub fn reads(&self, kind: SpanKind) -> bool {
        self.kinds & kind_bit(kind) != 0
    }

    /// The key of a measure by its number.
    pub fn key(&self, number: usize) -> Option<MeasureKey> {
        self.keys.get(number).copied()
    }

    /// The number of a measure.
    pub fn number(&self, key: MeasureKey) -> Option<usize> {
        self.keys.iter().position(|known| *known == key)
    }

    /// Bits of the totals of the measures that want latencies.
    pub const fn latencies(&self) -> Marks {
        self.latencies
    }

    /// Bits of the measures of metrics that are counted by instance: those that are per second of one.
    pub fn by_instance(&self) -> Marks {
        let per_second = |measure: &&MetricMeasure| measure.completion == Completion::PerSecond;
        self.metric_measures().iter().filter(per_second).fold(0, |bits, measure| bits | measure.bits())
    }

    /// Bits of the totals of the measures that are told apart by operation: shares of requests.
    pub const fn operations(&self) -> Marks {
        self.by_operation
    }

    /// Whether the events of a measure are a quantity.
    pub fn is_quantity(&self, number: usize) -> bool {
        self.amounts.iter().any(|(of, _)| usize::from(*of) == number)
    }

    fn totals_of(&self, is_wanted: impl Fn(&Rule) -> bool) -> Marks {
        let wanted = self.rules.iter().filter(|(_, rule)| is_wanted(rule));
        wanted.fold(0, |marks, (number, _)| marks | total_bit(usize::from(*number)))
    }

    /// The number of an attribute that may be looked at, which is that of an [`super::Attribute`] for each of these, and
    /// whether any condition is about it or it is a quantity or dimension.
    #[inline(always)]
    pub fn attribute_number(&self, name: &[u8]) -> Option<(usize, bool)> {
        self.attributes.find(name)
    }

    /// Whether the status codes of HTTP and RPC matter to any condition.
    pub const fn reads_codes(&self) -> bool {
        !self.codes.is_empty()
    }

    /// Takes note of an attribute. Of one that occurs twice the last one counts.
    #[inline(never)]
    pub fn note(&self, facts: &mut Facts, watched: usize, value: AttributeValue<'_>) {
        let Some(watched) = self.watched.get(watched) else { return };
        let mut bits = facts.bits & !watched.mask;
        for (bit, test) in &watched.tests {
            if test.passes(value) {
                bits |= bit;
            }
        }
        facts.bits = bits;
        if let Some(number) = watched.quantity {
            facts.quantities[usize::from(number)] = value.quantity().unwrap_or(0);
        }
    }

    /// Takes note of an attribute as it stands on the wire, if what its value comes to is known: values repeat, and
    /// what those came to that are short is kept in `recent`, which must have been used with no other program and no
    /// other encoding. Quantities and dimensions are never known.
    #[inline(always)]
    pub fn recall(
        &self,
        facts: &mut Facts,
        watched: usize,
        encoded: Option<EncodedValue>,
        recent: &Recent,
    ) -> bool {
        let (Some(encoded), Some(Watched { mask, .. })) = (encoded, self.watched.get(watched)) else {
            return false;
        };
        let Some(bits) = recent.value(watched as u8, encoded) else { return false };
        facts.bits = facts.bits & !mask | bits;
        true
    }

    /// Takes note of an attribute and keeps what it came to for [`Program::recall`].
    pub fn note_encoded(
        &self,
        facts: &mut Facts,
        watched: usize,
        encoded: Option<EncodedValue>,
        value: AttributeValue<'_>,
        recent: &mut Recent,
    ) {
        self.note(facts, watched, value);
        if let Some(encoded) = encoded
            && let Some(Watched { mask, quantity: None, dimension: None, .. }) = self.watched.get(watched)
        {
            recent.keep(watched as u8, encoded, facts.bits & mask);
        }
    }

    /// What a span counts for; `quantity` is told each quantity with the number of its measure. Spans of one
    /// service meet few different sets of conditions, so what the last ones came to is kept in `recent`, which must
    /// have been used with no other program.
    pub fn marks(
        &self,
        facts: &Facts,
        span: &SpanFacts<'_>,
        recent: &mut Recent,
        mut quantity: impl FnMut(u8, u64),
    ) -> Marks {
        let mut bits = facts.bits;
        let kind = kind_bit(span.kind);
        for (kinds, bit, pattern) in &self.names {
            if kinds & kind != 0 && pattern.fits_text(span.name) {
                bits |= bit;
            }
        }
        for (kinds, bit, pattern) in &self.operations {
            if kinds & kind != 0 && pattern.fits(span.operation) {
                bits |= bit;
            }
        }
        for (bit, any) in &self.codes {
            if any.iter().any(|test| test.passes(span.code)) {
                bits |= bit;
            }
        }
        let ends = (span.kind, span.status, span.outcome);
        let mut marks = recent.span(bits, ends, || self.possible(bits, ends));
        for (number, nanos) in &self.slower {
            // Without a branch, which half of the spans would take.
            marks &= !(u64::from(span.nanos <= *nanos) * part_bit(usize::from(*number)));
        }
        for (number, which) in &self.amounts {
            let part = part_bit(usize::from(*number));
            let amount = facts.quantities[usize::from(*which)];
            if marks & part != 0 && amount > 0 {
                quantity(*number, amount);
            }
            marks &= !part;
        }
        marks
    }

    /// What spans that meet these conditions count for if they take as long as possible and have all quantities.
    fn possible(&self, bits: u64, (kind, status, outcome): Ends) -> Marks {
        let (kind, status, outcome) = (kind_bit(kind), 1 << status as u8, 1 << outcome as u8);
        let holds = |mask: &Mask| mask.holds(kind, status, outcome, bits);
        let mut marks = 0;
        for (number, rule) in &self.rules {
            let measure = usize::from(*number);
            let (total, part) = match rule {
                Rule::Share { total, part, is_good } => {
                    let total = holds(total);
                    (total, total && holds(part) != *is_good)
                }
                Rule::Slower { total } => {
                    let total = holds(total);
                    (total, total)
                }
                Rule::Latency { total } => (holds(total), false),
                Rule::PerRequest { requests, events } => (holds(requests), holds(events)),
            };
            marks |= if total { total_bit(measure) } else { 0 } | if part { part_bit(measure) } else { 0 };
        }
        marks
    }
}

/// Kinds that are requests.
const REQUESTS: u8 = kind_bit(SpanKind::Server) | kind_bit(SpanKind::Consumer);

const fn kind_bit(kind: SpanKind) -> u8 {
    1 << kind as u8
}

/// Names measures and dimensions by their numbers.
fn revision(keys: &[MeasureKey], dimensions: &[String]) -> u64 {
    let dimensions =
        dimensions.iter().take(super::DIMENSIONS_MAX).map(|name| format!("{}:{name}", name.len()));
    let all: String = keys.iter().map(|key| format!("{:016x}", key.0)).chain(dimensions).collect();
    MeasureKey::of(&all).0
}

#[cfg(test)]
mod tests;
