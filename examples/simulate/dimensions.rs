//! Requests told apart by region and by kind of client: which shares of the traffic they are, where they are served and
//! how they differ. Regions may have instances of their own, kinds of clients are served by all of them. Without
//! dimensions a service is one slice.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollguard::verdict::{Arm, Dimension, Policy, RegionAction, Regions, cohort_label, joint_label};

/// The attributes that a simulated policy names.
const REGION: &str = "cloud.region";
const CLIENT: &str = "client.class";
/// Two neighbouring instances are in one region, one of each group.
const IN_A_ROW: usize = 2;

/// One value of a dimension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its shares of the requests of candidate and baseline.
    pub(crate) shares: [f64; 2],
    /// Factors on error rate and latency, in both versions.
    pub(crate) errors_times: f64,
    pub(crate) latency_times: f64,
}

const fn value(name: &'static str, shares: [f64; 2], errors_times: f64, latency_times: f64) -> Value {
    Value { name, shares, errors_times, latency_times }
}

/// Four regions. The candidate serves less of the near ones and more of the far.
pub(crate) const REGIONS: &[Value] = &[
    value("eu-1", [0.25, 0.4], 1.0, 1.0),
    value("us-1", [0.25, 0.3], 1.0, 1.5),
    value("ap-1", [0.3, 0.2], 2.0, 2.5),
    value("sa-1", [0.2, 0.1], 1.5, 2.0),
];
/// Three kinds of clients; what the candidate serves more of is slower and fails more often.
pub(crate) const CLIENTS: &[Value] = &[
    value("web", [0.3, 0.55], 1.0, 1.0),
    value("mobile", [0.35, 0.35], 0.5, 1.4),
    value("batch", [0.35, 0.1], 4.0, 2.0),
];

/// What a service's requests are told apart by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dimensions {
    /// Regions; empty for none.
    pub(crate) regions: &'static [Value],
    /// Whether each has instances of its own; else all serve clients from everywhere.
    pub(crate) is_placed: bool,
    /// Kinds of clients; empty for none.
    pub(crate) clients: &'static [Value],
    /// What a region that is worse leads to.
    pub(crate) action: RegionAction,
    /// The one region in which the candidate is different.
    pub(crate) only_in: Option<&'static str>,
}

impl Dimensions {
    /// A policy that names them.
    pub(crate) fn policy(self, policy: Policy) -> Policy {
        let named = [(REGION, self.regions), (CLIENT, self.clients)];
        let known = named.into_iter().filter(|(_, values)| !values.is_empty());
        let dimension = |(attribute, values): (&str, &[Value])| Dimension {
            attribute: attribute.to_owned(),
            values: values.len() as u8,
        };
        let regions = Regions { attribute: REGION.to_owned(), action: self.action };
        Policy {
            dimensions: Arc::new(known.map(dimension).collect()),
            regions: (!self.regions.is_empty()).then_some(regions),
            ..policy
        }
    }
}

/// Requests that are alike: one combination of values.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    /// Its shares of the requests of candidate and baseline.
    pub(crate) shares: [f64; 2],
    /// Instances of each that serve it.
    pub(crate) instances: [usize; 2],
    pub(crate) errors_times: f64,
    pub(crate) latency_times: f64,
    /// Whether what happens to the candidate happens here.
    pub(crate) is_changed: bool,
    /// Number of its region and of regions, where these have instances of their own.
    region: Option<[usize; 2]>,
    /// Labels of its values, and of all of them.
    labels: Vec<Arc<str>>,
}

impl Slice {
    /// Whether an instance serves it.
    pub(crate) fn is_served_by(&self, instance: usize) -> bool {
        serves(self.region, instance)
    }
}

fn serves(region: Option<[usize; 2]>, instance: usize) -> bool {
    region.is_none_or(|[own, of]| instance / IN_A_ROW % of == own)
}

/// The slices of a service.
#[derive(Debug)]
pub(crate) struct Slices {
    pub(crate) each: Vec<Slice>,
    /// Region of each label, where it has one.
    regions: BTreeMap<Arc<str>, Option<[usize; 2]>>,
}

impl Slices {
    pub(crate) fn new(dimensions: Option<Dimensions>, instances: [usize; 2]) -> Self {
        const WHOLE: Value = value("", [1.0; 2], 1.0, 1.0);
        let of = |values: Option<&'static [Value]>| values.filter(|v| !v.is_empty()).unwrap_or(&[WHOLE]);
        let (places, clients) = (of(dimensions.map(|d| d.regions)), of(dimensions.map(|d| d.clients)));
        let only_in = dimensions.and_then(|d| d.only_in);
        let is_placed = dimensions.is_some_and(|d| d.is_placed);
        let mut slices = Self { each: Vec::new(), regions: BTreeMap::new() };
        for (r, place) in places.iter().enumerate() {
            let region = is_placed.then_some([r, places.len()]);
            let here = instances.map(|n| (0..n).filter(|i| serves(region, *i)).count());
            for client in clients {
                let named = [(REGION, place.name), (CLIENT, client.name)];
                let mut labels: Vec<Arc<str>> = named
                    .into_iter()
                    .filter(|(_, value)| !value.is_empty())
                    .map(|(attribute, value)| cohort_label(attribute, value).into())
                    .collect();
                if labels.len() > 1 {
                    labels.push(joint_label(&labels).into());
                }
                for label in &labels {
                    let is_of_all = label.starts_with(CLIENT);
                    slices.regions.insert(Arc::clone(label), region.filter(|_| !is_of_all));
                }
                slices.each.push(Slice {
                    shares: [0, 1].map(|side| place.shares[side] * client.shares[side]),
                    instances: here,
                    errors_times: place.errors_times * client.errors_times,
                    latency_times: place.latency_times * client.latency_times,
                    is_changed: only_in.is_none_or(|name| name == place.name),
                    region,
                    labels,
                });
            }
        }
        slices
    }

    /// Adds what was served of one slice to the whole and to its cohorts.
    pub(crate) fn add(&self, number: usize, part: Arm, sum: &mut Arm) {
        let slice = &self.each[number];
        if slice.labels.is_empty() {
            *sum = part;
            return;
        }
        if !part.is_silent() {
            for label in &slice.labels {
                let cohort = sum.cohorts.entry(Arc::clone(label)).or_default();
                // The last one names them all.
                cohort.is_joint = slice.labels.last() == Some(label);
                merge(&mut cohort.arm, &part);
            }
        }
        merge(sum, &part);
        if sum.instances.is_empty() {
            sum.instances = part.instances;
            return;
        }
        for (all, one) in sum.instances.iter_mut().zip(part.instances) {
            all.requests += one.requests;
            all.bad += one.bad;
            all.bucket_sum += one.bucket_sum;
            all.bucket_squares += one.bucket_squares;
        }
    }

    /// Once all slices are added: an instance counts whole in each cohort that it serves.
    pub(crate) fn finish(&self, arm: &mut Arm) {
        arm.instances.retain(|i| i.requests > 0);
        for (label, cohort) in &mut arm.cohorts {
            let region = self.regions.get(label).copied().flatten();
            let own = arm.instances.iter().filter(|i| serves(region, i.ordinal as usize));
            cohort.arm.instances = own.copied().collect();
        }
    }
}

fn merge(sum: &mut Arm, part: &Arm) {
    sum.status_seen |= part.status_seen;
    sum.young.merge(&part.young);
    for (operation, cell) in &part.warm {
        sum.warm.entry(Arc::clone(operation)).or_default().merge(cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{REGIONAL, Scenario};
    use crate::traffic::Service;

    const BOTH: Dimensions = Dimensions {
        regions: REGIONS,
        is_placed: true,
        clients: CLIENTS,
        action: RegionAction::Report,
        only_in: None,
    };

    #[test]
    fn shares_add_up() {
        for values in [REGIONS, CLIENTS] {
            for side in [0, 1] {
                let sum: f64 = values.iter().map(|v| v.shares[side]).sum();
                assert!((sum - 1.0).abs() < 1e-9, "{sum}");
            }
        }
        let slices = Slices::new(Some(BOTH), [8, 24]);
        assert_eq!(slices.each.len(), REGIONS.len() * CLIENTS.len());
        assert!(slices.each.iter().all(|slice| slice.instances == [2, 6]));
    }

    /// Scenario: a service with regions and kinds of clients. Guarantees: combinations of values add up to the whole,
    /// the values of each dimension too, regions have instances of their own, and the rate is that of the load.
    #[test]
    fn cohorts_add_up_to_the_whole() {
        let scenario = Scenario { dimensions: Some(BOTH), warmup_s: 20, ..Scenario::healthy(REGIONAL) };
        let mut service = Service::new(scenario, 10, 4);
        let mut all = 0;
        for _ in 0..60 {
            let (_, _, input) = service.second();
            for arm in [&input.candidate, &input.baseline] {
                let sum = |is: &dyn Fn(&str) -> bool| {
                    let own = arm.cohorts.iter().filter(|(label, _)| is(label));
                    own.fold([0, 0], |s, (_, c)| {
                        let [requests, bad] = c.arm.totals();
                        [s[0] + requests, s[1] + bad]
                    })
                };
                let is_joint = |label: &str| arm.cohorts[label].is_joint;
                assert_eq!(sum(&is_joint), arm.totals());
                assert_eq!(sum(&|label| label.starts_with(REGION) && !is_joint(label)), arm.totals());
                assert_eq!(sum(&|label| label.starts_with(CLIENT)), arm.totals());
                if let Some(eu) = arm.cohorts.get("cloud.region=eu-1") {
                    assert!(eu.arm.instances.iter().all(|i| [0, 1].contains(&(i.ordinal % 8))));
                }
            }
            all += input.baseline.totals()[0];
        }
        assert!((all as f64 / 60.0 - 150.0).abs() < 6.0, "{all}");
    }
}
