//! The families about error budgets. The objective of a whole service has no label `journey`.

use std::collections::HashSet;

use super::definitions as names;
use super::definitions::Definition;
use super::families::service_labels;
use super::text::{Writer, label};
use crate::objective::{Severity, Window};
use crate::pipeline::{Board, ObjectiveBoard};

/// Writes all families about objectives.
pub(super) fn objectives(board: &Board, identity: &[String], out: &mut Writer) {
    let mut seen = HashSet::new();
    // A service that has no objective yet shows what its policy says.
    let bare = board.services.iter().map(|s| (service_labels(&s.key, identity), s.slo));
    let all: Vec<(String, &ObjectiveBoard)> = board
        .objectives
        .iter()
        .map(|o| (subject(o, identity), o))
        .filter(|(labels, _)| seen.insert(labels.clone()))
        .collect();
    out.family(&names::SLO);
    all.iter().for_each(|(labels, o)| out.sample(labels, &[], o.slo));
    bare.filter(|(labels, _)| seen.insert(labels.clone())).for_each(|(l, slo)| out.sample(&l, &[], slo));
    let mut each = |definition: &'static Definition, write: &dyn Fn(&mut Writer, &str, &ObjectiveBoard)| {
        out.family(definition);
        all.iter().for_each(|(labels, o)| write(out, labels, o));
    };
    each(&names::OBJECTIVE_REQUESTS, &|out, labels, o| out.sample(labels, &[], o.totals[0]));
    each(&names::OBJECTIVE_ERRORS, &|out, labels, o| out.sample(labels, &[], o.totals[1]));
    each(&names::OBJECTIVE_BURN, &|out, labels, o| {
        for (window, burn) in Window::ALL.into_iter().zip(o.burn) {
            burn.iter().for_each(|burn| out.sample(labels, &[("window", window.as_str())], *burn));
        }
    });
    each(&names::OBJECTIVE_COMPLETENESS, &|out, labels, o| {
        for (window, watched) in Window::ALL.into_iter().zip(o.watched) {
            out.sample(labels, &[("window", window.as_str())], watched);
        }
    });
    each(&names::BUDGET_ALLOWED, &|out, labels, o| {
        let Some(budget) = &o.budget else { return };
        out.sample(labels, &[("part", "allowed")], budget.allowed);
        out.sample(labels, &[("part", "spent")], budget.spent);
        out.sample(labels, &[("part", "left")], budget.left());
    });
    each(&names::BUDGET_LEFT, &|out, labels, o| {
        o.budget.iter().for_each(|budget| out.sample(labels, &[], budget.left_ratio()));
    });
    each(&names::OBJECTIVE_ALERT, &|out, labels, o| {
        for severity in Severity::ALL {
            let open = o.open.iter().any(|(open, _)| *open == severity);
            out.sample(labels, &[("severity", severity.as_str())], open);
        }
    });
}

fn subject(o: &ObjectiveBoard, identity: &[String]) -> String {
    let mut labels = service_labels(&o.service, identity);
    if let Some(journey) = &o.journey {
        labels.push(',');
        label(&mut labels, "journey", journey);
    }
    labels
}
