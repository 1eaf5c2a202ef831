//! The part of a service's requests that a change without a version is about: one operation, one value of a dimension,
//! or both. What is remembered of a service is remembered of each operation and of each value too, so a scope takes its
//! part out of the memory that was frozen at the change, and the same part out of each slot after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cohort::{CohortArm, cohort_label, cohort_parts, is_joint, labels_of_joint};
use super::input::{Arm, Cells, totals, with_old};
use super::memory::Memory;
use super::policy::Policy;
use super::stratum::Stratum;
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

/// What an operation is called in a scope; every other name is that of a dimension.
pub const OPERATION: &str = "operation";
/// Seconds whose requests say which version serves.
const SERVING_S: i64 = 60;
/// Values that an error names.
const NAMED: usize = 10;

/// Which requests; all of them where it names nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    values: BTreeMap<String, String>,
}

snapshot_fields!(Scope { values });

/// Why a scope cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// It names what is no dimension of the policy.
    #[error(
        "scope names {attribute:?}, by which requests of the service are not told apart; it may name {known}. To add \
         {attribute:?}, list it under `dimensions` of the service's policy (`policies.services[].policy.dimensions`) \
         before the change, so that what it shows is remembered"
    )]
    NoDimension {
        /// What it names.
        attribute: String,
        /// What it may name.
        known: String,
    },
    /// It names some of three dimensions.
    #[error(
        "scope names {named} of the {all} dimensions of the service; values are remembered one by one and in \
         combinations of all: name one dimension, or each"
    )]
    Partly {
        /// Dimensions that it names.
        named: usize,
        /// Dimensions of the policy.
        all: usize,
    },
    /// Nothing is remembered of what it names.
    #[error(
        "no request with {attribute} {value:?} was seen, so there is nothing to hold a time against; seen: {seen}"
    )]
    Unseen {
        /// An attribute that it names, or `operation`.
        attribute: String,
        /// The value.
        value: String,
        /// Others that were seen, by name.
        seen: String,
    },
    /// What was seen of it does not count yet.
    #[error(
        "nothing is remembered of {0} yet: requests count once their instances are past the warm-up. Announce the change \
         when it has served for some minutes"
    )]
    NothingYet(String),
    /// Requests are counted by other combinations than the policy has now.
    #[error(
        "of requests with all of {named} nothing is remembered: combinations are of {counted}, the dimensions that the \
         policy has had since the start. Name one of them, or restart and announce the change some minutes later"
    )]
    OtherDimensions {
        /// What it names.
        named: String,
        /// Attributes of the combinations that are counted.
        counted: String,
    },
    /// Each value was seen, and never on one request.
    #[error("no request with all of {0} was seen, so there is nothing to hold a time against")]
    NeverTogether(String),
}

impl Scope {
    /// A scope of these values by attribute.
    pub fn new(values: BTreeMap<String, String>) -> Self {
        Self { values }
    }

    /// Requests of it and failed ones. Those of a warm-up are not told apart by operation, and count in none.
    pub fn totals(&self, arm: &Arm) -> [u64; 2] {
        if self.values.contains_key(OPERATION) { totals(&arm.warm) } else { arm.totals() }
    }

    /// Whether it is all requests.
    pub fn is_whole(&self) -> bool {
        self.values.is_empty()
    }

    /// Attributes and their values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(attribute, value)| (attribute.as_str(), value.as_str()))
    }

    /// `attribute=value` of each.
    pub fn labels(&self) -> Vec<String> {
        self.iter().map(|(attribute, value)| format!("{attribute}={value}")).collect()
    }

    /// In words: `cloud.region eu-1, GET /pay`.
    pub fn words(&self) -> String {
        let one = |(attribute, value): (&str, &str)| match attribute {
            OPERATION => value.to_owned(),
            _ => format!("{attribute} {value}"),
        };
        self.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// Whether a request can be of both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.iter().all(|(attribute, value)| other.values.get(attribute).is_none_or(|v| v == value))
    }

    fn operation(&self) -> Option<&str> {
        self.values.get(OPERATION).map(String::as_str)
    }

    /// Labels of the values of dimensions.
    fn cohorts(&self) -> BTreeSet<String> {
        let of_dimensions = self.iter().filter(|(attribute, _)| *attribute != OPERATION);
        of_dimensions.map(|(attribute, value)| cohort_label(attribute, value)).collect()
    }

    /// Whether a request of this operation with these labels is of it.
    pub fn holds(&self, operation: &str, labels: &[Arc<str>]) -> bool {
        let has = |wanted: &String| labels.iter().any(|label| **label == **wanted);
        self.operation().is_none_or(|own| own == operation) && self.cohorts().iter().all(has)
    }

    /// Checks that a policy tells its requests apart.
    ///
    /// # Errors
    /// It names what is no dimension, or some of several.
    pub fn check(&self, policy: &Policy) -> Result<(), ScopeError> {
        let is_known = |attribute: &str| attribute == OPERATION || policy.has_dimension(attribute);
        if let Some((attribute, _)) = self.iter().find(|(attribute, _)| !is_known(attribute)) {
            let names = policy.dimensions.iter().map(|dimension| dimension.attribute.as_str());
            let known = [OPERATION].into_iter().chain(names).collect::<Vec<_>>().join(", ");
            return Err(ScopeError::NoDimension { attribute: attribute.to_owned(), known });
        }
        let (named, all) = (self.cohorts().len(), policy.dimensions.len());
        if named > 1 && named < all {
            return Err(ScopeError::Partly { named, all });
        }
        Ok(())
    }

    /// Why nothing is remembered of it, by what is remembered of the version that serves.
    pub fn unseen(&self, memory: &Memory) -> ScopeError {
        let unseen = |attribute: &str, value: &str, seen: Vec<&str>| ScopeError::Unseen {
            attribute: attribute.to_owned(),
            value: value.to_owned(),
            seen: named(&seen),
        };
        if memory.requests <= 0.0 {
            return ScopeError::NothingYet(self.words());
        }
        for (attribute, value) in self.iter() {
            if attribute == OPERATION {
                let names: Vec<&str> = memory.strata.keys().map(|name| &**name).collect();
                if !names.contains(&value) {
                    return unseen(attribute, value, names);
                }
                continue;
            }
            let is_own = |label: &str| !is_joint(label) && cohort_parts(label).0 == attribute;
            let labels = memory.cohorts.keys().filter(|label| is_own(label));
            let values: Vec<&str> = labels.map(|label| cohort_parts(label).1).collect();
            if !values.contains(&cohort_parts(&cohort_label(attribute, value)).1) {
                return unseen(attribute, value, values);
            }
        }
        let wanted = self.cohorts();
        let others = |label: &&Arc<str>| {
            let has = |own: &String| labels_of_joint(label).any(|one| one == own);
            is_joint(label) && labels_of_joint(label).count() > wanted.len() && wanted.iter().all(has)
        };
        if let Some(label) = memory.cohorts.keys().find(others).filter(|_| wanted.len() > 1) {
            let counted: Vec<&str> = labels_of_joint(label).map(|one| cohort_parts(one).0).collect();
            return ScopeError::OtherDimensions { named: self.words(), counted: counted.join(", ") };
        }
        match self.values.len() {
            1 => ScopeError::NothingYet(self.words()),
            _ => ScopeError::NeverTogether(self.words()),
        }
    }

    /// Its own of things by label of values, or of combinations of values of all dimensions.
    fn find<'a, T>(&self, all: &'a BTreeMap<Arc<str>, T>) -> Option<&'a T> {
        let wanted = self.cohorts();
        if let (Some(single), 1) = (wanted.first(), wanted.len()) {
            return all.get(single.as_str());
        }
        let is_it =
            |label: &str| labels_of_joint(label).map(str::to_owned).collect::<BTreeSet<_>>() == wanted;
        all.iter().find(|(label, _)| is_joint(label) && is_it(label)).map(|(_, one)| one)
    }

    /// Its own requests of a slot, those that began before it included: by their ends, as they are remembered. An
    /// operation keeps the service's young requests, which only say that instances were restarted and when their latency
    /// has settled.
    pub fn arm(&self, arm: &Arm, old: &Cells) -> Arm {
        if self.cohorts().is_empty() {
            return self.of_operation(arm, old);
        }
        let own = self.find(&arm.cohorts);
        own.map_or_else(Arm::default, |own| self.of_operation(&own.arm, &own.started_before))
    }

    fn of_operation(&self, arm: &Arm, old: &Cells) -> Arm {
        let Some(operation) = self.operation() else {
            return Arm { warm: with_old(&arm.warm, old).into_owned(), ..arm.clone() };
        };
        let mut warm = with_old(&arm.warm, old).into_owned();
        warm.retain(|name, _| **name == *operation);
        let of_cohort = |(label, one): (&Arc<str>, &CohortArm)| {
            let arm = self.of_operation(&one.arm, &one.started_before);
            (Arc::clone(label), CohortArm { arm, started_before: Cells::new(), is_joint: one.is_joint })
        };
        Arm {
            warm,
            young: arm.young.clone(),
            status_seen: arm.status_seen,
            instances: arm.instances.clone(),
            zones: Vec::new(),
            measures: Default::default(),
            cohorts: arm.cohorts.iter().map(of_cohort).collect(),
        }
    }
}

/// Names, as many as an error has room for.
fn named(seen: &[&str]) -> String {
    match seen {
        [] => "none".into(),
        few if few.len() <= NAMED => few.join(", "),
        many => format!("{} and {} more", many[..NAMED].join(", "), many.len() - NAMED),
    }
}

impl Policy {
    /// What a part of the requests is judged by: SLIs of the policy's own count the whole service, and a value of a
    /// dimension has no regions below it. Dimensions stay, for they have to be counted.
    #[must_use]
    pub fn within(self, scope: &Scope) -> Self {
        if scope.is_whole() {
            return self;
        }
        let regions = self.regions.filter(|_| scope.cohorts().is_empty());
        Self { slis: Arc::default(), regions, ..self }
    }
}

impl Memory {
    /// What is remembered of a part of the requests; `None` where nothing is.
    pub fn within(&self, scope: &Scope) -> Option<Self> {
        let base = if scope.cohorts().is_empty() { self } else { scope.find(&self.cohorts)? };
        let own = match scope.operation() {
            Some(operation) => base.of_operation(operation)?,
            None => base.clone(),
        };
        (own.requests > 0.0).then_some(own)
    }

    /// Requests of a part in the last minute before slot `t` that have a latency, and the slot of its last one; `None`
    /// where it never had any.
    pub fn lately_within(&self, scope: &Scope, t: Slot) -> Option<(u64, Slot)> {
        let base = if scope.cohorts().is_empty() { self } else { scope.find(&self.cohorts)? };
        let since = t - base.timing().at_least(SERVING_S, 2);
        let own = scope.operation().map(|operation| base.strata.get(operation));
        let strata: Vec<&Stratum> = match own {
            Some(stratum) => vec![stratum?],
            None => base.strata.values().map(Box::as_ref).collect(),
        };
        let lately = strata.iter().map(|stratum| stratum.requests_since(since)).sum();
        let last = strata.iter().filter_map(|stratum| stratum.last()).max()?;
        Some((lately, last))
    }

    /// One operation as if it were all. How unlike instances are, and how bursty what is counted of the whole only, is
    /// the service's.
    fn of_operation(&self, operation: &str) -> Option<Self> {
        let (name, stratum) = self.strata.get_key_value(operation)?;
        let own_cohorts = || {
            let each = self.cohorts.iter();
            each.filter_map(|(label, one)| Some((Arc::clone(label), Box::new(one.of_operation(operation)?))))
        };
        let mut own = Self::new(self.timing());
        own.pooled_thresholds = stratum.thresholds;
        own.pooled_bounds.clone_from(&stratum.bounds);
        own.dispersions = stratum.dispersions.clone();
        own.p75 = self.p75.clone();
        own.client_errors = self.client_errors.clone();
        own.errors = stratum.bad_requests(self.traffic_s);
        own.requests = stratum.kept_requests(self.traffic_s);
        own.traffic_s = self.traffic_s;
        (own.first, own.last) = (stratum.first(), stratum.last());
        own.heterogeneity = self.heterogeneity.clone();
        own.strata = [(Arc::clone(name), stratum.clone())].into();
        own.cohorts = own_cohorts().collect();
        Some(own)
    }
}

#[cfg(test)]
#[path = "scope_tests.rs"]
mod tests;
