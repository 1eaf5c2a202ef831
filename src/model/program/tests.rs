//! Programs mark what their measures are about, and the same as reading the conditions one by one would.

use proptest::prelude::*;

use super::*;
use crate::model::Attribute;

fn attribute(name: &str, values: &[&str]) -> AttributeTest {
    let is_negated = values.iter().any(|v| v.starts_with('!'));
    let any = values.iter().map(|v| ValueTest::new(v.trim_start_matches('!'))).collect();
    AttributeTest { name: name.into(), any, is_negated }
}

fn of(attributes: Vec<AttributeTest>) -> Selection {
    Selection { attributes, ..Selection::default() }
}

fn marked(program: &Program, facts: &Facts, span: &SpanFacts<'_>) -> Marks {
    program.marks(facts, span, &mut Recent::default(), |_, _| {})
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
        if let Some((number, _)) = program.attribute_number(name.as_bytes()) {
            program.note(&mut facts, number, *value);
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
            events: Selection { kinds: vec![SpanKind::Client], ..of(vec![attribute("db.system", &["*"])]) },
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
    let marks = program
        .marks(&facts, &span(), &mut Recent::default(), |measure, amount| amounts.push((measure, amount)));
    let both = |k| total_bit(k) | part_bit(k);
    assert_eq!(marks, both(0) | both(1) | both(2) | total_bit(3) | total_bit(4) | total_bit(5));
    assert_eq!(amounts, [(5, 1024)]);
    // A database call of the same service.
    let facts = read(&program, &[("db.system", AttributeValue::Text(b"postgresql"))]);
    let call = SpanFacts { kind: SpanKind::Client, operation: [b"", b"", b"query"], ..span() };
    assert_eq!(marked(&program, &facts, &call), part_bit(4));
    // Nothing said: of all of those that have no condition, and not of the tier "free".
    let plain = SpanFacts { operation: [b"", b"", b"x"], ..span() };
    let marks = marked(&program, &Facts::default(), &plain);
    assert_eq!(marks, both(1) | total_bit(4) | total_bit(5), "{marks:b}");
}

/// Guarantees: programs have one revision only if numbers stand for the same measures and dimensions, also where they are as
/// many: what is remembered under one does not hold under another.
#[test]
fn a_revision_names_measures_and_dimensions_in_their_order() {
    let [x, y, z] =
        ["x", "y", "z"].map(|word| Measure { key: MeasureKey::of(word), counted: Counted::ErrorLogs });
    let revision = |measures: &[&Measure], dimensions: &[&str]| {
        let measures: Vec<Measure> = measures.iter().map(|one| (*one).clone()).collect();
        let dimensions: Vec<String> = dimensions.iter().map(|name| (*name).into()).collect();
        Program::with_dimensions(&measures, &dimensions).unwrap().revision()
    };
    let rows: [(&[&Measure], &[&str]); 9] = [
        (&[], &[]),
        (&[&x], &[]),
        (&[&y], &[]),
        (&[&x, &y], &[]),
        (&[&y, &x], &[]),
        (&[&x, &z], &[]),
        (&[&x], &["a"]),
        (&[&x], &["a", "b"]),
        (&[&x], &["ab"]),
    ];
    for (i, (measures, dimensions)) in rows.iter().enumerate() {
        for (j, (others, other_dimensions)) in rows.iter().enumerate() {
            let is_same = revision(measures, dimensions) == revision(others, other_dimensions);
            assert_eq!(is_same, i == j, "{i} {j}");
        }
    }
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
        let marks = marked(&program, &Facts::default(), &SpanFacts { code, ..span() });
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
    assert_eq!(marked(&program, &Facts::default(), &call), total_bit(0));
    let failed = SpanFacts { status: SpanStatus::Error, ..call };
    assert_eq!(marked(&program, &Facts::default(), &failed), total_bit(0) | part_bit(0));
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
    assert_eq!((program.attributes.numbers() - Attribute::COUNT, program.conditions), (1, 3));
    let many: Vec<Measure> = (0..33).map(|i| share(&i.to_string())).collect();
    assert_eq!(Program::compile(&many), Err(TooMany::Measures));
    let names: Vec<String> = (0..66).map(|i| format!("v{i}")).collect();
    let tests: Vec<AttributeTest> = names.iter().map(|v| attribute("a", &[v.as_str()])).collect();
    let one = measure(Counted::Latency { total: of(tests) });
    assert_eq!(Program::compile(&[one]), Err(TooMany::Conditions));
}

const NAMES: [&str; 6] = ["a", "b", "http.route", "rpc.method", "tenant.class", "http.request.body.size"];
const TEXTS: [&str; 9] = ["", "gold", "golden", "old", "/pay", "200", "-3", "true", "GET /pay"];
const WANTED: [&str; 12] =
    ["*", "gold", "gold*", "*old", "g*d*n", "*l*", "200", "100..299", "-5..-1", "true", "GET *", "* /pay"];

fn pick<T: Clone + std::fmt::Debug + 'static>(of: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(of.to_vec())
}

fn selections() -> impl Strategy<Value = Selection> {
    let attribute = (pick(&NAMES), prop::collection::vec(pick(&WANTED), 1..4), any::<bool>());
    let tests = attribute.prop_map(|(name, any, is_negated)| AttributeTest {
        name: name.into(),
        any: any.into_iter().map(ValueTest::new).collect(),
        is_negated,
    });
    (
        prop::collection::vec(pick(&KINDS), 0..3),
        prop::option::weighted(0.2, pick(&WANTED)),
        prop::option::weighted(0.2, pick(&WANTED)),
        prop::collection::vec(pick(&[Outcome::Good, Outcome::Bad, Outcome::ClientError]), 0..2),
        prop::collection::vec(pick(&SpanStatus::ALL), 0..2),
        prop::collection::vec(pick(&WANTED), 0..2),
        prop::collection::vec(tests, 0..3),
    )
        .prop_map(|(kinds, name, operation, outcomes, statuses, codes, attributes)| Selection {
            metric: None,
            kinds,
            name: name.map(Pattern::new),
            operation: operation.map(Pattern::new),
            outcomes,
            statuses,
            codes: codes.into_iter().map(ValueTest::new).collect(),
            attributes,
        })
}

const KINDS: [SpanKind; 4] = [SpanKind::Server, SpanKind::Consumer, SpanKind::Client, SpanKind::Internal];

fn counted() -> impl Strategy<Value = Counted> {
    let of = selections;
    prop_oneof![
        (of(), of(), any::<bool>()).prop_map(|(total, part, is_good)| Counted::Share {
            total,
            part,
            is_good
        }),
        (of(), 0..5_u64).prop_map(|(total, nanos)| Counted::Slower { total, nanos }),
        of().prop_map(|total| Counted::Latency { total }),
        (of(), of(), prop::option::of(pick(&NAMES[..4]))).prop_map(|(requests, events, quantity)| {
            Counted::PerRequest { requests, events, quantity: quantity.map(str::to_owned) }
        }),
        Just(Counted::ErrorLogs),
        Just(Counted::Deaths),
        Just(Counted::Requests),
    ]
}

fn values() -> impl Strategy<Value = AttributeValue<'static>> {
    prop_oneof![
        4 => pick(&TEXTS).prop_map(|text| AttributeValue::Text(text.as_bytes())),
        2 => pick(&[-3, 0, 1, 200, 404]).prop_map(AttributeValue::Whole),
        1 => pick(&[0.4, 200.0, -1.0]).prop_map(AttributeValue::Double),
        1 => any::<bool>().prop_map(AttributeValue::Bool),
        1 => pick(&[AttributeValue::Other, AttributeValue::Absent]),
    ]
}

type Attributes = Vec<(&'static str, AttributeValue<'static>)>;

fn spans() -> impl Strategy<Value = (SpanFacts<'static>, Attributes)> {
    (
        (pick(&KINDS), pick(&SpanStatus::ALL), pick(&[Outcome::Good, Outcome::Bad, Outcome::ClientError])),
        (pick(&TEXTS), pick(&["", "GET", "gold"]), pick(&["", " "]), pick(&TEXTS)),
        (values(), 0..6_u64),
        prop::collection::vec((pick(&NAMES), values()), 0..8),
    )
        .prop_map(|((kind, status, outcome), (name, head, joint, tail), (code, nanos), attributes)| {
            let operation = [head.as_bytes(), joint.as_bytes(), tail.as_bytes()];
            let name = name.as_bytes();
            (SpanFacts { kind, status, outcome, name, operation, code, nanos }, attributes)
        })
}

/// The conditions read one by one, as they are written.
struct Naive<'a> {
    span: &'a SpanFacts<'static>,
    attributes: &'a Attributes,
}

impl Naive<'_> {
    /// Of an attribute that occurs twice the last one counts.
    fn value(&self, name: &str) -> AttributeValue<'static> {
        let last = self.attributes.iter().rev().find(|(known, _)| *known == name);
        last.map_or(AttributeValue::Absent, |(_, value)| *value)
    }

    fn fits(pattern: &str, text: &[u8]) -> bool {
        match pattern.split_at_checked(1) {
            Some(("*", rest)) => (0..=text.len()).any(|at| Self::fits(rest, &text[at..])),
            Some((first, rest)) => text.first() == first.as_bytes().first() && Self::fits(rest, &text[1..]),
            None => text.is_empty(),
        }
    }

    fn passes(test: &ValueTest, value: AttributeValue<'_>) -> bool {
        match (test, value) {
            (_, AttributeValue::Absent) => false,
            (ValueTest::Present, _) => true,
            (ValueTest::Text(pattern), AttributeValue::Text(text)) => Self::fits(&pattern.text(), text),
            (ValueTest::Text(pattern), AttributeValue::Bool(truth)) => {
                Self::fits(&pattern.text(), truth.to_string().as_bytes())
            }
            (ValueTest::Whole(low, high), AttributeValue::Whole(number)) => low <= &number && &number <= high,
            (ValueTest::Whole(low, high), AttributeValue::Text(text)) => {
                let number = std::str::from_utf8(text).unwrap().parse::<i64>();
                number.is_ok_and(|number| low <= &number && &number <= high)
            }
            _ => false,
        }
    }

    fn holds(&self, selection: &Selection, kinds: &[SpanKind]) -> bool {
        let span = self.span;
        let is_any = |any: &[ValueTest], value| any.iter().any(|test| Self::passes(test, value));
        let fits = |pattern: &Option<Pattern>, text: &[u8]| {
            pattern.as_ref().is_none_or(|pattern| Self::fits(&pattern.text(), text))
        };
        kinds.contains(&span.kind)
            && (selection.outcomes.is_empty() || selection.outcomes.contains(&span.outcome))
            && (selection.statuses.is_empty() || selection.statuses.contains(&span.status))
            && fits(&selection.name, span.name)
            && fits(&selection.operation, &span.operation.concat())
            && (selection.codes.is_empty() || is_any(&selection.codes, span.code))
            && selection
                .attributes
                .iter()
                .all(|test| is_any(&test.any, self.value(&test.name)) != test.is_negated)
    }

    fn whole(&self, selection: &Selection) -> bool {
        self.holds(selection, selection.kinds())
    }

    /// Whether it is one of all, whether it is bad or an event, and how much of a quantity it has.
    fn counts(&self, counted: &Counted) -> (bool, bool, Option<u64>) {
        match counted {
            Counted::Share { total, part, is_good } => {
                let kinds = if part.kinds.is_empty() { total.kinds() } else { part.kinds() };
                let is_total = self.whole(total);
                (is_total, is_total && self.holds(part, kinds) != *is_good, None)
            }
            Counted::Slower { total, nanos } => {
                let is_total = self.whole(total);
                (is_total, is_total && self.span.nanos > *nanos, None)
            }
            Counted::Latency { total } => (self.whole(total), false, None),
            Counted::PerRequest { requests, events, quantity: None } => {
                (self.whole(requests), self.whole(events), None)
            }
            Counted::PerRequest { requests, events, quantity: Some(name) } => {
                let amount = self.value(name).quantity().filter(|amount| *amount > 0);
                (self.whole(requests), false, amount.filter(|_| self.whole(events)))
            }
            Counted::ErrorLogs
            | Counted::Deaths
            | Counted::Requests
            | Counted::Occurrences { .. }
            | Counted::Level { .. } => (false, false, None),
        }
    }
}

proptest! {
    /// What was kept of the spans before never shows in those that follow.
    #[test]
    fn a_program_says_what_its_conditions_say(
        counted in prop::collection::vec(counted(), 1..8),
        spans in prop::collection::vec(spans(), 1..20),
    ) {
        let measures: Vec<Measure> = counted.iter().cloned().map(measure).collect();
        let program = Program::compile(&measures);
        prop_assume!(program.is_ok());
        let (program, mut recent) = (program.unwrap(), Recent::default());
        for (span, attributes) in spans {
            let naive = Naive { span: &span, attributes: &attributes };
            let (mut expected, mut amounts) = (0, Vec::new());
            for (number, counted) in counted.iter().enumerate() {
                let (is_total, is_part, amount) = naive.counts(counted);
                expected |= if is_total { total_bit(number) } else { 0 };
                expected |= if is_part { part_bit(number) } else { 0 };
                amounts.extend(amount.map(|amount| (number as u8, amount)));
            }
            let mut told = Vec::new();
            let facts = read(&program, &attributes);
            let marks = program.marks(&facts, &span, &mut recent, |number, amount| told.push((number, amount)));
            prop_assert_eq!((marks, told), (expected, amounts), "{:?} with {:?}", span, attributes);
            prop_assert!(marks == 0 || program.reads(span.kind));
        }
    }
}
