//! The queue on disk: any sequence of appends, deliveries, kills and damage beside a model that remembers
//! everything.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::fuzz::bodies::spool::{Damage, Step, run};

fn damages() -> impl Strategy<Value = Damage> {
    let (segment, at) = (any::<u8>(), any::<u16>());
    prop_oneof![
        (segment, at, 1..=u8::MAX).prop_map(|(segment, at, mask)| Damage::Flip { segment, at, mask }),
        (segment, at, any::<u8>(), any::<u8>()).prop_map(|(segment, at, len, with)| Damage::Fill {
            segment,
            at,
            len,
            with
        }),
        (segment, at).prop_map(|(segment, at)| Damage::Cut { segment, at }),
        (segment, any::<u8>()).prop_map(|(segment, len)| Damage::Grow { segment, len }),
        (segment, at, at, any::<u8>()).prop_map(|(segment, from, to, len)| Damage::Copy {
            segment,
            from,
            to,
            len
        }),
    ]
}

/// `harm` is how often something happens to the files, beside 20 other things.
fn steps(harm: u32) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..40_u8, 0..300_u16).prop_map(|(metadata, body)| Step::Append { metadata, body }),
        5 => any::<u8>().prop_map(Step::Commit),
        1 => any::<u8>().prop_map(Step::Discard),
        4 => Just(Step::Take),
        3 => any::<u8>().prop_map(Step::Acknowledge),
        1 => any::<u8>().prop_map(Step::GiveBack),
        1 => Just(Step::Kill(Vec::new())),
        harm => vec(damages(), 0..3).prop_map(Step::Kill),
        harm => damages().prop_map(Step::Damage),
    ];
    vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_is_lost_or_out_of_order_whenever_it_is_killed(steps in steps(0)) {
        run(tempfile::tempdir().unwrap().path(), &steps);
    }

    #[test]
    fn damage_costs_what_it_touches_and_is_never_handed_out(steps in steps(1)) {
        run(tempfile::tempdir().unwrap().path(), &steps);
    }
}
