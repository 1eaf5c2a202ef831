//! What the regions and other cohorts say, in words: which one is worse while the others are well, and what the
//! versions serve differently.

use super::words::{count, number, per_cent, share};
use super::{CohortEvidence, Evidence, Flag, RegionAction};

/// Cohorts of one dimension that are named.
const NAMED: usize = 3;

impl Evidence {
    /// The region that decided a fail which the evidence of the whole did not bear.
    pub fn deciding_region(&self) -> Option<&CohortEvidence> {
        let regions = self.regions.as_ref().filter(|regions| regions.action == RegionAction::Fail)?;
        let decided = self.ln_e_bar < self.fail_threshold;
        let of_regions =
            |one: &&CohortEvidence| one.ln_e >= one.threshold && one.attribute == regions.attribute;
        self.cohorts.iter().filter(|_| decided).find(of_regions)
    }
}

/// Sentences to add to an explanation, each with a space in front.
pub(super) fn cohort_words(evidence: &Evidence) -> String {
    let mut words = String::new();
    if let Some(regions) = &evidence.regions {
        let of_region = |one: &&CohortEvidence| one.attribute == regions.attribute;
        if let Some(odd) = &regions.odd {
            let counts = evidence.cohorts.iter().filter(of_region).find(|one| one.value == *odd);
            words.push_str(&format!(
                " Only {} {odd} is worse{}; the other {} are not.",
                regions.attribute,
                counts.map_or_else(String::new, counted),
                regions.judged - 1,
            ));
        } else if !regions.scope.is_empty() {
            let of = format!("{} of {}", regions.scope.len(), regions.judged);
            words.push_str(&format!(
                " By {} {of} are worse: {}.",
                regions.attribute,
                regions.scope.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ")
            ));
        }
    }
    let regions = words.clone();
    let told = |one: &CohortEvidence| {
        evidence
            .regions
            .as_ref()
            .is_some_and(|r| r.attribute == one.attribute && regions.contains(&one.value))
    };
    for one in evidence.cohorts.iter().filter(|one| one.is_worse && !told(one)).take(NAMED) {
        let odds = number(one.ln_e.min(13.8).exp());
        let times = if one.ln_e > 13.8 { "more than a million".to_owned() } else { odds };
        words.push_str(&format!(
            " It is worse for {} {}{}, at {times} to 1.",
            one.attribute,
            one.value,
            counted(one)
        ));
    }
    if let Some(mix) = evidence.mix.as_ref().filter(|mix| mix.by != "operation")
        && evidence.has(Flag::MixShift)
    {
        words.push_str(&format!(
            " The versions serve different mixes: {} {} makes up {} of the new version's requests and {} of the old \
             one's; they are compared within each.",
            mix.by,
            mix.value,
            per_cent(mix.shares[0]),
            per_cent(mix.shares[1])
        ));
    }
    words
}

/// Why no PASS comes where the versions serve from different zones, and the way out.
pub(super) fn zone_words(evidence: &Evidence) -> Option<String> {
    let zones = evidence.zones.as_ref().filter(|_| evidence.has(Flag::ZoneSkew))?;
    Some(format!(
        "the versions serve from different zones ({}: {} of the new version's requests, {} of the old one's; spread its \
         instances like the old version's, or make {} a dimension of the policy)",
        zones.value,
        per_cent(zones.shares[0]),
        per_cent(zones.shares[1]),
        zones.by
    ))
}

/// ` (4.1 % of 812 requests fail, of the old version 0.1 %)`.
fn counted(one: &CohortEvidence) -> String {
    if one.requests[0] == 0 {
        return String::new();
    }
    let old = match one.requests[1] {
        0 => String::new(),
        n => format!(", of the old version's {}", share(one.errors[1], n)),
    };
    let slow =
        one.sli.as_ref().filter(|sli| super::witness::quantile(sli.sli).is_some() && sli.requests[0] > 0);
    match slow {
        Some(sli) => format!(
            " ({} of {} requests are slower than the limit{})",
            share(sli.bad[0], sli.requests[0]),
            count(sli.requests[0]),
            match sli.requests[1] {
                0 => String::new(),
                n => format!(", of the old version's {}", share(sli.bad[1], n)),
            }
        ),
        None => {
            format!(
                " ({} of {} requests fail{old})",
                share(one.errors[0], one.requests[0]),
                count(one.requests[0])
            )
        }
    }
}
