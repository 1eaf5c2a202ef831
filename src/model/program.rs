//! The measures of one service, compiled for the walk over its spans. Each condition is tested once, when its
//! attribute is read, and leaves a bit; what a span counts for is then a comparison of bits per measure. Nothing is
//! interpreted, allocated or looked up by name but the attributes themselves.

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
    /// Quantities that were there.
    quantities: [Option<u64>; QUANTITIES_MAX],
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
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watched {
    name: Box<[u8]>,
    /// Tests of its value and the bits that they set.
    tests: Vec<(u64, Vec<ValueTest>)>,
    /// Bits of all tests.
    mask: u64,
    /// Which quantity it is.
    quantity: Option<u8>,
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
    Slower { total: Mask, nanos: u64 },
    Latency { total: Mask },
    PerRequest { requests: Mask, events: Mask, quantity: Option<u8> },
}

/// The compiled measures of one service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    watched: Vec<Watched>,
    /// Which lengths their names have, modulo 64: most attributes are turned away by it.
    lengths: u64,
    names: Vec<(u64, Pattern)>,
    operations: Vec<(u64, Pattern)>,
    codes: Vec<(u64, Vec<ValueTest>)>,
    rules: Vec<(u8, Rule)>,
    /// Keys by number, all that ever were.
    keys: Vec<MeasureKey>,
    /// Kinds that any rule is about.
    kinds: u8,
    conditions: u32,
    quantities: u8,
    /// The measure of error logs, which no span is compared with.
    error_logs: Option<MeasureKey>,
    /// Bits of the totals of the measures that want latencies, and of those told apart by operation.
    latencies: Marks,
    by_operation: Marks,
}

impl Program {
    /// Compiles measures; the place of each in the list is its number.
    ///
    /// # Errors
    /// [`TooMany`] beyond a cap.
    pub fn compile(measures: &[Measure]) -> Result<Self, TooMany> {
        let mut program = Self::default();
        if measures.len() > MEASURES_MAX {
            return Err(TooMany::Measures);
        }
        for (number, measure) in measures.iter().enumerate() {
            program.keys.push(measure.key);
            if measure.counted == Counted::ErrorLogs {
                program.error_logs = Some(measure.key);
            }
            if let Some(rule) = program.rule(&measure.counted)? {
                program.rules.push((number as u8, rule));
            }
        }
        let of_requests = |mask: &Mask| mask.kinds & !REQUESTS == 0;
        program.latencies = program.totals_of(|rule| matches!(rule, Rule::Latency { .. }));
        program.by_operation = program.totals_of(|rule| match rule {
            Rule::Share { total, .. } | Rule::Slower { total, .. } => of_requests(total),
            _ => false,
        });
        Ok(program)
    }

    fn rule(&mut self, counted: &Counted) -> Result<Option<Rule>, TooMany> {
        Ok(Some(match counted {
            Counted::Share { total, part, is_good } => Rule::Share {
                total: self.mask(total)?,
                part: self.part_mask(total, part)?,
                is_good: *is_good,
            },
            Counted::Slower { total, nanos } => Rule::Slower { total: self.mask(total)?, nanos: *nanos },
            Counted::Latency { total } => Rule::Latency { total: self.mask(total)? },
            Counted::PerRequest { requests, events, quantity } => Rule::PerRequest {
                requests: self.mask(requests)?,
                events: self.mask(events)?,
                quantity: quantity.as_deref().map(|name| self.quantity(name)).transpose()?,
            },
            Counted::ErrorLogs => return Ok(None),
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
            let known = self.names.iter().find(|(_, known)| known == pattern).map(|(bit, _)| *bit);
            let bit = known.map_or_else(|| self.condition(), Ok)?;
            if known.is_none() {
                self.names.push((bit, pattern.clone()));
            }
            mask.need |= bit;
        }
        if let Some(pattern) = &selection.operation {
            let known = self.operations.iter().find(|(_, known)| known == pattern).map(|(bit, _)| *bit);
            let bit = known.map_or_else(|| self.condition(), Ok)?;
            if known.is_none() {
                self.operations.push((bit, pattern.clone()));
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
        if let Some((bit, _)) = self.watched[at].tests.iter().find(|(_, any)| *any == test.any) {
            return Ok(*bit);
        }
        let bit = self.condition()?;
        let watched = &mut self.watched[at];
        watched.tests.push((bit, test.any.clone()));
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
        let known = self.watched.iter().position(|watched| *watched.name == *name.as_bytes());
        known.unwrap_or_else(|| {
            self.lengths |= 1 << (name.len() % 64);
            let name = name.as_bytes().into();
            self.watched.push(Watched { name, tests: Vec::new(), mask: 0, quantity: None });
            self.watched.len() - 1
        })
    }

    /// The measure of error logs, if there is one.
    pub const fn error_logs(&self) -> Option<MeasureKey> {
        self.error_logs
    }

    /// Whether it has nothing to tell of spans.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
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

    /// Bits of the totals of the measures that are told apart by operation: shares of requests.
    pub const fn operations(&self) -> Marks {
        self.by_operation
    }

    /// Whether the events of a measure are a quantity.
    pub fn is_quantity(&self, number: usize) -> bool {
        let rule = self.rules.iter().find(|(of, _)| usize::from(*of) == number);
        rule.is_some_and(|(_, rule)| matches!(rule, Rule::PerRequest { quantity: Some(_), .. }))
    }

    fn totals_of(&self, is_wanted: impl Fn(&Rule) -> bool) -> Marks {
        let wanted = self.rules.iter().filter(|(_, rule)| is_wanted(rule));
        wanted.fold(0, |marks, (number, _)| marks | total_bit(usize::from(*number)))
    }

    /// Which attribute this is, if any condition is about it.
    #[inline]
    pub fn watched(&self, name: &[u8]) -> Option<usize> {
        if self.lengths & 1 << (name.len() % 64) == 0 {
            return None;
        }
        self.watched.iter().position(|watched| *watched.name == *name)
    }

    /// Takes note of an attribute. Of one that occurs twice the last one counts.
    #[inline]
    pub fn note(&self, facts: &mut Facts, watched: usize, value: AttributeValue<'_>) {
        let watched = &self.watched[watched];
        facts.bits &= !watched.mask;
        for (bit, any) in &watched.tests {
            if any.iter().any(|test| test.passes(value)) {
                facts.bits |= bit;
            }
        }
        if let Some(number) = watched.quantity {
            facts.quantities[usize::from(number)] = value.quantity();
        }
    }

    /// What a span counts for; `quantity` is told each quantity with the number of its measure.
    pub fn marks(&self, facts: &Facts, span: &SpanFacts<'_>, mut quantity: impl FnMut(u8, u64)) -> Marks {
        let mut bits = facts.bits;
        for (bit, pattern) in &self.names {
            if pattern.fits_text(span.name) {
                bits |= bit;
            }
        }
        for (bit, pattern) in &self.operations {
            if pattern.fits(span.operation) {
                bits |= bit;
            }
        }
        for (bit, any) in &self.codes {
            if any.iter().any(|test| test.passes(span.code)) {
                bits |= bit;
            }
        }
        let (kind, status, outcome) = (kind_bit(span.kind), 1 << span.status as u8, 1 << span.outcome as u8);
        let holds = |mask: &Mask| mask.holds(kind, status, outcome, bits);
        let mut marks = 0;
        for (number, rule) in &self.rules {
            let measure = usize::from(*number);
            let (total, part) = match rule {
                Rule::Share { total, part, is_good } => {
                    let total = holds(total);
                    (total, total && holds(part) != *is_good)
                }
                Rule::Slower { total, nanos } => {
                    let total = holds(total);
                    (total, total && span.nanos > *nanos)
                }
                Rule::Latency { total } => (holds(total), false),
                Rule::PerRequest { requests, events, quantity: None } => (holds(requests), holds(events)),
                Rule::PerRequest { requests, events, quantity: Some(number) } => {
                    let amount = facts.quantities[usize::from(*number)].filter(|_| holds(events));
                    if let Some(amount) = amount.filter(|amount| *amount > 0) {
                        quantity(measure as u8, amount);
                    }
                    (holds(requests), false)
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str, values: &[&str]) -> AttributeTest {
        let is_negated = values.iter().any(|v| v.starts_with('!'));
        let any = values.iter().map(|v| ValueTest::new(v.trim_start_matches('!'))).collect();
        AttributeTest { name: name.into(), any, is_negated }
    }

    fn of(attributes: Vec<AttributeTest>) -> Selection {
        Selection { attributes, ..Selection::default() }
    }

    fn measure(counted: Counted) -> Measure {
        Measure { key: MeasureKey::of(&format!("{counted:?}")), counted }
    }

    fn span() -> SpanFacts<'static> {
        SpanFacts {
            kind: SpanKind::Server,
            status: SpanStatus::Unset,
            outcome: Outcome::Good,
            name: b"pay",
            operation: [b"POST", b" ", b"/pay"],
            code: AttributeValue::Whole(402),
            nanos: 5_000_000,
        }
    }

    fn read(program: &Program, attributes: &[(&str, AttributeValue<'_>)]) -> Facts {
        let mut facts = Facts::default();
        for (name, value) in attributes {
            if let Some(watched) = program.watched(name.as_bytes()) {
                program.note(&mut facts, watched, *value);
            }
        }
        facts
    }

    #[test]
    fn each_form_marks_what_it_counts() {
        let pay = Selection { operation: Some(Pattern::new("POST /*")), ..Selection::default() };
        let measures = [
            measure(Counted::Share {
                total: pay.clone(),
                part: of(vec![attribute("pay.result", &["declined", "fraud*"])]),
                is_good: false,
            }),
            measure(Counted::Share {
                total: of(vec![attribute("tier", &["!free"])]),
                part: of(vec![attribute("http.response.status_code", &["200..399"])]),
                is_good: true,
            }),
            measure(Counted::Slower { total: pay.clone(), nanos: 4_999_999 }),
            measure(Counted::Latency { total: of(vec![attribute("tier", &["gold"])]) }),
            measure(Counted::PerRequest {
                requests: Selection::default(),
                events: Selection {
                    kinds: vec![SpanKind::Client],
                    ..of(vec![attribute("db.system", &["*"])])
                },
                quantity: None,
            }),
            measure(Counted::PerRequest {
                requests: Selection::default(),
                events: Selection::default(),
                quantity: Some("http.response.body.size".into()),
            }),
        ];
        let program = Program::compile(&measures).unwrap();
        assert!(program.reads(SpanKind::Client) && !program.reads(SpanKind::Internal));
        let facts = read(
            &program,
            &[
                ("pay.result", AttributeValue::Text(b"fraud_suspected")),
                ("tier", AttributeValue::Text(b"free")),
                ("tier", AttributeValue::Text(b"gold")),
                ("http.response.status_code", AttributeValue::Whole(402)),
                ("http.response.body.size", AttributeValue::Whole(1024)),
                ("unrelated", AttributeValue::Whole(1)),
            ],
        );
        let mut amounts = Vec::new();
        let marks = program.marks(&facts, &span(), |measure, amount| amounts.push((measure, amount)));
        let both = |k| total_bit(k) | part_bit(k);
        assert_eq!(marks, both(0) | both(1) | both(2) | total_bit(3) | total_bit(4) | total_bit(5));
        assert_eq!(amounts, [(5, 1024)]);
        // A database call of the same service.
        let facts = read(&program, &[("db.system", AttributeValue::Text(b"postgresql"))]);
        let call = SpanFacts { kind: SpanKind::Client, operation: [b"", b"", b"query"], ..span() };
        assert_eq!(program.marks(&facts, &call, |_, _| {}), part_bit(4));
        // Nothing said: of all of those that have no condition, and not of the tier "free".
        let plain = SpanFacts { operation: [b"", b"", b"x"], ..span() };
        let marks = program.marks(&Facts::default(), &plain, |_, _| {});
        assert_eq!(marks, both(1) | total_bit(4) | total_bit(5), "{marks:b}");
    }

    #[test]
    fn codes_are_those_of_either_protocol() {
        let codes = ["401..403", "UNAUTH*"].map(ValueTest::new).to_vec();
        let part = Selection { codes, ..Selection::default() };
        let counted = Counted::Share { total: Selection::default(), part, is_good: false };
        let program = Program::compile(&[measure(counted)]).unwrap();
        for (code, is_part) in [
            (AttributeValue::Whole(402), true),
            (AttributeValue::Text(b"UNAUTHENTICATED"), true),
            (AttributeValue::Whole(404), false),
            (AttributeValue::Absent, false),
        ] {
            let marks = program.marks(&Facts::default(), &SpanFacts { code, ..span() }, |_, _| {});
            assert_eq!(marks & part_bit(0) != 0, is_part, "{code:?}");
        }
    }

    #[test]
    fn status_and_outcome_are_conditions() {
        let measures = [measure(Counted::Share {
            total: Selection { kinds: vec![SpanKind::Client], ..Selection::default() },
            part: Selection { statuses: vec![SpanStatus::Error], ..Selection::default() },
            is_good: false,
        })];
        let program = Program::compile(&measures).unwrap();
        let call = SpanFacts { kind: SpanKind::Client, ..span() };
        assert_eq!(program.marks(&Facts::default(), &call, |_, _| {}), total_bit(0));
        let failed = SpanFacts { status: SpanStatus::Error, ..call };
        assert_eq!(program.marks(&Facts::default(), &failed, |_, _| {}), total_bit(0) | part_bit(0));
    }

    #[test]
    fn conditions_are_shared_and_capped() {
        let share = |value: &str| {
            measure(Counted::Share {
                total: of(vec![attribute("a", &["x"])]),
                part: of(vec![attribute("a", &[value])]),
                is_good: false,
            })
        };
        let program = Program::compile(&[share("x"), share("y"), share("z")]).unwrap();
        assert_eq!((program.watched.len(), program.conditions), (1, 3));
        let many: Vec<Measure> = (0..33).map(|i| share(&i.to_string())).collect();
        assert_eq!(Program::compile(&many), Err(TooMany::Measures));
        let names: Vec<String> = (0..66).map(|i| format!("v{i}")).collect();
        let tests: Vec<AttributeTest> = names.iter().map(|v| attribute("a", &[v.as_str()])).collect();
        let one = measure(Counted::Latency { total: of(tests) });
        assert_eq!(Program::compile(&[one]), Err(TooMany::Conditions));
    }
}
