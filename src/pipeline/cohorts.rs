//! The values of a service's dimensions, interned: which cohorts a request belongs to. Values come from outside, so
//! each dimension has a cap; the first to come are told apart, and what comes beyond them is one cohort, `(other)`. The
//! numbers are the service's, the same for all its versions, so that like is compared with like.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::{DIMENSION_VALUES_MAX, DIMENSIONS_MAX, DimensionTexts};
use crate::verdict::{COHORTS_MAX, Dimension, NO_VALUE, OTHER_VALUE, cohort_label, joint_label};

/// Number of the values beyond the cap; 0 is that of no value.
const OTHER: u8 = u8::MAX;

/// The cohorts of a request: one value of each dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cohort {
    /// Which combination of values it is; from 1 on, in order of appearance.
    pub number: u16,
    /// Labels of the values, one for each dimension.
    pub each: Vec<Arc<str>>,
    /// All of them as one label. With a single dimension it is its value's.
    pub joint: Arc<str>,
}

/// What one service is told apart by.
#[derive(Debug, Default)]
pub(crate) struct ServiceCohorts {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    dimensions: Vec<(String, usize)>,
    values: [Vec<Box<[u8]>>; DIMENSIONS_MAX],
    cohorts: BTreeMap<[u8; DIMENSIONS_MAX], Arc<Cohort>>,
    /// How many there ever were: a number is never used twice.
    made: u16,
}

impl ServiceCohorts {
    /// Makes dimensions known that are not yet; one that is known may get room for more values. Answers those that
    /// found no room.
    pub(crate) fn admit<'a>(&self, dimensions: &'a [Dimension]) -> Vec<&'a str> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut refused = Vec::new();
        for dimension in dimensions {
            let values = usize::from(dimension.values).min(DIMENSION_VALUES_MAX);
            if let Some((_, cap)) = known.dimensions.iter_mut().find(|(name, _)| *name == dimension.attribute)
            {
                *cap = values.max(*cap);
            } else if known.dimensions.len() < DIMENSIONS_MAX {
                known.dimensions.push((dimension.attribute.clone(), values));
                // A combination has a value of each: those known so far begin anew.
                known.cohorts.clear();
            } else {
                refused.push(dimension.attribute.as_str());
            }
        }
        refused
    }

    /// Attributes in the order of their numbers.
    pub(crate) fn attributes(&self) -> Vec<String> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.dimensions.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The cohorts of a request.
    pub(crate) fn of(&self, texts: &DimensionTexts) -> Option<Arc<Cohort>> {
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(numbers) = known.numbers(texts)
                && let Some(cohort) = known.cohorts.get(&numbers)
            {
                return Some(Arc::clone(cohort));
            }
        }
        self.known.write().unwrap_or_else(PoisonError::into_inner).find_or_make(texts)
    }
}

impl Known {
    /// Numbers of the values; `None` where one is new and has room.
    fn numbers(&self, texts: &DimensionTexts) -> Option<[u8; DIMENSIONS_MAX]> {
        let mut numbers = [0; DIMENSIONS_MAX];
        for (i, (text, (_, cap))) in texts.all().iter().zip(&self.dimensions).enumerate() {
            if text.is_empty() {
                continue;
            }
            numbers[i] = match self.values[i].iter().position(|value| **value == **text) {
                Some(at) => at as u8 + 1,
                None if self.values[i].len() < *cap => return None,
                None => OTHER,
            };
        }
        Some(numbers)
    }

    fn find_or_make(&mut self, texts: &DimensionTexts) -> Option<Arc<Cohort>> {
        if self.dimensions.is_empty() {
            return None;
        }
        for (i, (text, (_, cap))) in texts.all().iter().zip(&self.dimensions).enumerate() {
            let values = &mut self.values[i];
            if !text.is_empty() && values.len() < *cap && !values.iter().any(|value| **value == **text) {
                values.push(text.as_slice().into());
            }
        }
        let mut numbers = self.numbers(texts)?;
        if !self.cohorts.contains_key(&numbers) && self.cohorts.len() >= COHORTS_MAX {
            // The first dimension, which regions are, stays: a region in which traffic begins late is one.
            numbers[1..].fill(OTHER);
        }
        if let Some(cohort) = self.cohorts.get(&numbers) {
            return Some(Arc::clone(cohort));
        }
        let label = |(i, (name, _)): (usize, &(String, usize))| -> Arc<str> {
            let value = match numbers[i] {
                0 => NO_VALUE.into(),
                OTHER => OTHER_VALUE.into(),
                number => String::from_utf8_lossy(&self.values[i][usize::from(number) - 1]),
            };
            cohort_label(name, &value).into()
        };
        let each: Vec<Arc<str>> = self.dimensions.iter().enumerate().map(label).collect();
        let joint = match each.as_slice() {
            [single] => Arc::clone(single),
            several => joint_label(several).into(),
        };
        self.made += 1;
        let cohort = Arc::new(Cohort { number: self.made, each, joint });
        self.cohorts.insert(numbers, Arc::clone(&cohort));
        Some(cohort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AttributeValue::Text;

    fn dimension(attribute: &str, values: u8) -> Dimension {
        Dimension { attribute: attribute.into(), values }
    }

    fn joint(cohorts: &ServiceCohorts, values: [&str; 2]) -> String {
        let mut texts = DimensionTexts::default();
        values.iter().enumerate().for_each(|(i, value)| texts.set(i, Text(value.as_bytes())));
        cohorts.of(&texts).map(|cohort| cohort.joint.to_string()).unwrap_or_default()
    }

    #[test]
    fn values_beyond_the_cap_are_one_cohort() {
        let cohorts = ServiceCohorts::default();
        assert_eq!(joint(&cohorts, ["eu", ""]), "");
        assert!(cohorts.admit(&[dimension("cloud.region", 2)]).is_empty());
        let rows = [
            ("eu", "cloud.region=eu"),
            ("us", "cloud.region=us"),
            ("ap", "cloud.region=(other)"),
            ("", "cloud.region=(none)"),
            ("sa", "cloud.region=(other)"),
            ("eu", "cloud.region=eu"),
        ];
        for (value, expected) in rows {
            assert_eq!(joint(&cohorts, [value, "gold"]), expected, "{value}");
        }
        let more = [dimension("cloud.region", 3), dimension("tier", 2)];
        assert!(cohorts.admit(&more).is_empty());
        assert_eq!(joint(&cohorts, ["sa", "gold"]), "cloud.region=sa\u{1f}tier=gold");
        assert_eq!(cohorts.attributes(), ["cloud.region", "tier"]);
        let refused = [dimension("a", 1), dimension("b", 1)];
        assert_eq!(cohorts.admit(&refused), ["b"]);
    }

    #[test]
    fn combinations_are_capped() {
        let cohorts = ServiceCohorts::default();
        cohorts.admit(&[dimension("a", 16), dimension("b", 16)]);
        let all: std::collections::BTreeSet<String> =
            (0..256).map(|i| joint(&cohorts, [&format!("x{}", i / 16), &format!("y{}", i % 16)])).collect();
        assert_eq!(all.len(), COHORTS_MAX + 14);
        assert!(all.contains("a=x2\u{1f}b=(other)"));
    }
}
