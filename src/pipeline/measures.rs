//! The measures of every service: what the SLIs of its policies count, each with a number that is never given to
//! another while the program runs, and the program that the walkers compare spans with. A measure whose SLI was
//! taken out of the policy goes on being counted, because a running deployment keeps the policy it began with.

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;

use super::registry::lock;
use crate::model::{Measure, MeasureKey, Program, TooMany};
use crate::window::Wanted;

/// The measures of one service.
#[derive(Debug, Default)]
pub(crate) struct ServiceMeasures {
    admitted: Mutex<Vec<Measure>>,
    program: ArcSwapOption<Program>,
}

impl ServiceMeasures {
    /// What spans are compared with; `None` where there are no measures.
    pub(crate) fn program(&self) -> Option<Arc<Program>> {
        self.program.load_full()
    }

    /// Which measures want more than counts.
    pub(super) fn wanted(&self) -> Wanted {
        let program = self.program.load();
        program.as_ref().map_or_else(Wanted::default, |program| Wanted {
            latencies: program.latencies(),
            operations: program.operations(),
        })
    }

    /// Makes measures known that are not yet. One that finds no room is left out; the others are not.
    ///
    /// # Errors
    /// Those that found no room, and why.
    pub(super) fn admit<'a>(
        &self,
        measures: impl IntoIterator<Item = &'a Measure>,
    ) -> Result<(), (Vec<MeasureKey>, TooMany)> {
        let mut admitted = lock(&self.admitted);
        let (mut refused, mut why, before) = (Vec::new(), None, admitted.len());
        for measure in measures {
            if admitted.iter().any(|known| known.key == measure.key) {
                continue;
            }
            admitted.push(measure.clone());
            if let Err(error) = Program::compile(&admitted) {
                admitted.pop();
                refused.push(measure.key);
                why = Some(error);
            }
        }
        if admitted.len() > before
            && let Ok(program) = Program::compile(&admitted)
        {
            self.program.store(Some(Arc::new(program)));
        }
        why.map_or(Ok(()), |why| Err((refused, why)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AttributeTest, Counted, MEASURES_MAX, Selection, ValueTest};

    fn measure(value: &str) -> Measure {
        let attributes =
            vec![AttributeTest { name: "a".into(), any: vec![ValueTest::new(value)], is_negated: false }];
        let counted = Counted::Latency { total: Selection { attributes, ..Selection::default() } };
        Measure { key: MeasureKey::of(value), counted }
    }

    #[test]
    fn numbers_stay_and_what_finds_no_room_is_named() {
        let measures = ServiceMeasures::default();
        assert!(measures.program().is_none());
        assert_eq!(measures.admit([&measure("x"), &measure("y")]), Ok(()));
        let before = measures.program().unwrap();
        assert_eq!(measures.admit([&measure("y"), &measure("x")]), Ok(()));
        assert!(Arc::ptr_eq(&before, &measures.program().unwrap()), "nothing new, nothing compiled");
        let many: Vec<Measure> = (0..MEASURES_MAX).map(|i| measure(&format!("v{i}"))).collect();
        let (refused, why) = measures.admit(&many).unwrap_err();
        assert_eq!((refused.len(), why), (2, TooMany::Measures));
        let program = measures.program().unwrap();
        assert_eq!(program.number(MeasureKey::of("y")), Some(1));
        assert_eq!(program.key(0), Some(MeasureKey::of("x")));
        assert_eq!(program.number(MeasureKey::of(&format!("v{}", MEASURES_MAX - 1))), None);
    }
}
