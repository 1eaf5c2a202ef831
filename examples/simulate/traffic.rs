//! Slots of a simulated service, second by second: first the baseline alone, then both versions. Written as the
//! judge takes them in, so that a day of deployments takes minutes. The same seed gives the same slots.

use std::sync::Arc;

use fastrand::Rng;
use rollguard::histogram::{SparseHistogram, layout};
use rollguard::model::Slot;
use rollguard::verdict::{Arm, Cells, Counts, InstanceCounts, SlotInput};

use crate::dimensions::{Slice, Slices};
use crate::samplers::{binomial, exponential, gamma, geometric, normal, normals, poisson};
use crate::scenario::{Operation, Scenario};

const CANDIDATE: usize = 0;
const BASELINE: usize = 1;
/// The second law of latencies: how much slower, and the spread of ln(latency).
const TAIL_TIMES: f64 = 3.6;
const TAIL_SIGMA: f64 = 0.8;
/// Median and spread of ln(latency) of a request that meets a pause.
const PAUSED_MEDIAN_S: f64 = 0.25;
const PAUSED_SIGMA: f64 = 0.5;
/// Share of requests refused as the client's fault, in both versions.
const CLIENT_ERRORS: f64 = 0.01;
/// Seconds in which a failing long request fails.
const FAST_FAILURE_S: f64 = 0.05;
/// Time constant of a slow start, seconds.
const SLOW_START_S: f64 = 120.0;
/// Seconds between steps of a shared slowdown, and how much of it stays.
const SLOWDOWN_STEP_S: i64 = 5;
const SLOWDOWN_KEPT: f64 = 0.9;

/// Buckets for a natural logarithm.
fn buckets(ln: f64) -> f64 {
    ln * f64::from(1u32 << layout::SCALE) / std::f64::consts::LN_2
}

/// Times at which something is going on at one instance: exponential gaps and lengths.
#[derive(Debug)]
struct Episodes {
    law: Option<[f64; 2]>,
    from: f64,
    until: f64,
}

impl Episodes {
    fn new(law: Option<[f64; 2]>, rng: &mut Rng) -> Self {
        let from = law.map_or(f64::INFINITY, |[gap, _]| exponential(rng, gap));
        let until = from + law.map_or(0.0, |[_, length]| exponential(rng, length));
        Self { law, from, until }
    }

    /// Share of second `t` that lies in an episode.
    fn share(&mut self, t: f64, rng: &mut Rng) -> f64 {
        let mut share = 0.0;
        while let Some([gap, length]) = self.law
            && self.from < t + 1.0
        {
            share += (self.until.min(t + 1.0) - self.from.max(t)).max(0.0);
            if self.until > t + 1.0 {
                break;
            }
            self.from = self.until + exponential(rng, gap);
            self.until = self.from + exponential(rng, length);
        }
        share
    }
}

#[derive(Debug)]
struct Instance {
    /// Slot of its first request.
    first: Option<Slot>,
    error_factor: f64,
    latency_shift: f64,
    bursts: Episodes,
    pauses: Episodes,
    /// Shares of the current second.
    bursting: f64,
    paused: f64,
}

/// Buckets counted so far, dense; emptied into a sparse histogram.
#[derive(Debug)]
struct Tally {
    counts: Vec<u32>,
    range: [usize; 2],
}

impl Tally {
    fn new() -> Self {
        Self { counts: vec![0; layout::BUCKETS], range: [layout::BUCKETS, 0] }
    }

    fn add(&mut self, bucket: i16) {
        let i = (i32::from(bucket) - i32::from(layout::LOWEST)) as usize;
        self.counts[i] += 1;
        self.range = [self.range[0].min(i), self.range[1].max(i + 1)];
    }

    fn take(&mut self) -> SparseHistogram {
        let [low, high] = self.range;
        self.range = [layout::BUCKETS, 0];
        (low..high)
            .filter_map(|i| {
                let n = std::mem::take(&mut self.counts[i]);
                (n > 0).then_some((i as i16 + layout::LOWEST, n))
            })
            .collect()
    }
}

/// What one instance served in one second.
#[derive(Debug)]
pub(crate) struct Part {
    /// 0 for the candidate, 1 for the baseline.
    pub(crate) side: usize,
    pub(crate) instance: usize,
    pub(crate) arm: Arm,
}

/// A running simulated service.
#[derive(Debug)]
pub(crate) struct Service {
    scenario: Scenario,
    rng: Rng,
    t: Slot,
    began: Slot,
    takeover: Slot,
    instances: [Vec<Instance>; 2],
    names: [Vec<Arc<str>>; 2],
    /// Factor of a shared error burst and the slot in which it ends.
    burst: (f64, Slot),
    /// Shared slowdown in standard deviations.
    slowdown: f64,
    /// Where in the cycle of the day it begins, in radians.
    time_of_day: f64,
    slices: Arc<Slices>,
    tally: Tally,
    young_tally: Tally,
}

/// What one instance serves of one operation in one second.
#[derive(Debug, Clone, Copy)]
struct Serving {
    requests: u64,
    bad: u64,
    client_errors: u64,
    /// Middle of the latencies, in buckets.
    middle: f64,
    /// Spread of ln(latency).
    sigma: f64,
    /// Requests of the second law.
    tail: u64,
    /// Requests that meet a pause.
    paused: u64,
}

impl Service {
    /// A service whose candidate begins after `history_s` seconds. Its first second is anywhere within the
    /// blocks of the clock.
    pub(crate) fn new(scenario: Scenario, history_s: i64, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let t = 1_700_000_000 + rng.i64(0..600);
        let noise = scenario.noise;
        let mut instance = |first| Instance {
            first,
            error_factor: (normal(&mut rng) * noise.error_spread - noise.error_spread.powi(2) / 2.0).exp(),
            latency_shift: buckets(normal(&mut rng) * noise.latency_spread),
            bursts: Episodes::new(noise.instance_bursts.map(|[gap, length, _]| [gap, length]), &mut rng),
            pauses: Episodes::new(noise.pauses, &mut rng),
            bursting: 0.0,
            paused: 0.0,
        };
        let [candidates, baselines] = scenario.load.instances;
        let instances = [
            (0..candidates).map(|_| instance(None)).collect(),
            (0..baselines).map(|_| instance(Some(Slot::MIN / 2))).collect(),
        ];
        let name = |prefix: &str, o: &Operation| Arc::from(format!("{prefix}{}", o.name));
        let list = |prefix| scenario.operations.iter().map(|o| name(prefix, o)).collect();
        Self {
            scenario,
            t: t - 1,
            began: t,
            takeover: t + history_s,
            instances,
            names: [list(if scenario.renamed { "v2 " } else { "" }), list("")],
            burst: (1.0, 0),
            slowdown: normal(&mut rng),
            time_of_day: if scenario.cycle > 1.0 { rng.f64() * std::f64::consts::TAU } else { 0.0 },
            slices: Arc::new(Slices::new(scenario.dimensions, scenario.load.instances)),
            rng,
            tally: Tally::new(),
            young_tally: Tally::new(),
        }
    }

    /// Begins `later_s` seconds after the time of day at which another service began.
    pub(crate) fn set_time_of_day(&mut self, other: &Self, later_s: i64) {
        self.time_of_day = other.time_of_day + std::f64::consts::TAU * later_s as f64 / 86_400.0;
    }

    /// The next second, and its age: seconds since the candidate began, negative before.
    pub(crate) fn second(&mut self) -> (Slot, i64, SlotInput) {
        self.t += 1;
        let age = self.t - self.takeover;
        self.weather();
        let mut input = SlotInput::default();
        if self.scenario.before_after && age >= 0 {
            input.candidate = self.arm(BASELINE, None, age, &mut Cells::new());
            return (self.t, age, input);
        }
        if age < 0 || !self.scenario.baseline_ends {
            input.baseline = self.arm(BASELINE, None, age, &mut input.started_before);
        }
        if (0..self.scenario.silent_from_s).contains(&age) {
            input.candidate = self.arm(CANDIDATE, None, age, &mut Cells::new());
        }
        (self.t, age, input)
    }

    /// The next second, instance by instance. Long requests are not told apart.
    pub(crate) fn second_by_instance(&mut self) -> (Slot, i64, Vec<Part>) {
        self.t += 1;
        let age = self.t - self.takeover;
        self.weather();
        let serves = [age >= 0, age < 0 || !self.scenario.baseline_ends];
        let mut parts = Vec::new();
        for side in [CANDIDATE, BASELINE].into_iter().filter(|side| serves[*side]) {
            for instance in 0..self.instances[side].len() {
                let arm = self.arm(side, Some(instance), age, &mut Cells::new());
                parts.push(Part { side, instance, arm });
            }
        }
        (self.t, age, parts)
    }

    /// Moves what is going on, in the service and at its instances, to the current second.
    fn weather(&mut self) {
        let (noise, rng, t) = (self.scenario.noise, &mut self.rng, self.t);
        if let Some([variation, length]) = noise.shared_bursts
            && t >= self.burst.1
        {
            self.burst = (gamma(rng, variation), t + (exponential(rng, length) as i64).max(1));
        }
        if t % SLOWDOWN_STEP_S == 0 {
            let fresh = (1.0 - SLOWDOWN_KEPT * SLOWDOWN_KEPT).sqrt();
            self.slowdown = SLOWDOWN_KEPT * self.slowdown + fresh * normal(rng);
        }
        let elapsed = (t - self.began) as f64;
        for instance in self.instances.iter_mut().flatten() {
            instance.bursting = instance.bursts.share(elapsed, rng);
            instance.paused = instance.pauses.share(elapsed, rng);
        }
    }

    /// What a version serves in the second: all of its instances, or `only` one.
    fn arm(&mut self, side: usize, only: Option<usize>, age: i64, before: &mut Cells) -> Arm {
        let slices = Arc::clone(&self.slices);
        let mut sum = Arm::default();
        for (number, slice) in slices.each.iter().enumerate() {
            let part = self.slice(side, only, slice, age, before);
            slices.add(number, part, &mut sum);
        }
        slices.finish(&mut sum);
        sum
    }

    /// The same of one slice.
    fn slice(
        &mut self,
        side: usize,
        only: Option<usize>,
        slice: &Slice,
        age: i64,
        before: &mut Cells,
    ) -> Arm {
        let mut arm = Arm { status_seen: true, ..Arm::default() };
        arm.instances = (0..self.instances[side].len() as u32)
            .map(|ordinal| InstanceCounts { ordinal, ..InstanceCounts::default() })
            .collect();
        for o in 0..self.scenario.operations.len() {
            if self.scenario.operations[o].long {
                self.serve_long(side, o, (slice, age), &mut arm, before);
            } else {
                self.serve(side, only, o, (slice, age), &mut arm);
            }
        }
        arm.young.latency = self.young_tally.take();
        arm
    }

    /// One operation of one version.
    fn serve(
        &mut self,
        side: usize,
        only: Option<usize>,
        o: usize,
        (slice, age): (&Slice, i64),
        arm: &mut Arm,
    ) {
        for group in 0..2 {
            let mut counts = Counts::default();
            let is_asked = |i: &usize| only.is_none_or(|only| only == *i) && slice.is_served_by(*i);
            for i in (group..self.instances[side].len()).step_by(2).filter(is_asked) {
                let serving = self.draw(side, o, i, (slice, age));
                let young = self.is_young(side, i, serving.requests);
                let cell = if young { &mut arm.young } else { &mut counts };
                cell.requests += serving.requests;
                cell.bad += serving.bad;
                cell.client_errors += serving.client_errors;
                let sums = self.latencies(&serving, young);
                if !young {
                    count(&mut arm.instances[i], &serving, sums);
                }
            }
            counts.latency = self.tally.take();
            if counts.requests > 0 {
                let name = Arc::clone(&self.names[side][o]);
                arm.warm.entry(name).or_default().groups[group] = counts;
            }
        }
    }

    /// Notes the first request of an instance; says whether it is in its warm-up.
    fn is_young(&mut self, side: usize, i: usize, requests: u64) -> bool {
        let (first, t) = (&mut self.instances[side][i].first, self.t);
        if requests > 0 {
            first.get_or_insert(t);
        }
        first.is_none_or(|first| t - first < self.scenario.warmup_s)
    }

    fn draw(&mut self, side: usize, o: usize, i: usize, (slice, age): (&Slice, i64)) -> Serving {
        let Scenario { load, operations, noise, change, .. } = self.scenario;
        let operation = operations[o];
        let instance = &self.instances[side][i];
        let share = self.scenario.mix.filter(|_| side == CANDIDATE).map_or(operation.share, |mix| mix[o]);
        let share = share * slice.shares[side];
        let mut rate = operation.error_rate * self.burst.0 * instance.error_factor * slice.errors_times;
        if let Some([_, _, added]) = noise.instance_bursts {
            rate += added * instance.bursting;
        }
        let mut middle = buckets(operation.median_s.ln() + noise.slowdowns * self.slowdown);
        middle += instance.latency_shift + buckets(slice.latency_times.ln());
        let of_day = std::f64::consts::TAU * (self.t - self.began) as f64 / 86_400.0;
        let cycle = (0.5 * self.scenario.cycle.ln() * (self.time_of_day + of_day).sin()).exp();
        rate *= cycle;
        if side == CANDIDATE || (self.scenario.before_after && age >= 0) {
            if slice.is_changed && (change.from_s..change.until_s).contains(&age) {
                rate = rate * change.errors_times + change.errors_plus;
                middle += buckets(change.latency_times.ln());
            }
            let slower = (self.scenario.slow_start - 1.0) * (-age as f64 / SLOW_START_S).exp();
            middle += buckets((1.0 + slower).ln());
        }
        let rng = &mut self.rng;
        let requests = poisson(rng, cycle * load.rates[side] * share / slice.instances[side] as f64);
        let bad = clustered(rng, requests, rate.min(1.0), noise.cluster);
        let mut client_errors = binomial(rng, requests - bad, CLIENT_ERRORS);
        let kept = self.scenario.sampled[side];
        let (mut requests, mut bad) = (requests, bad);
        if kept < 1.0 {
            let good = binomial(rng, requests - bad - client_errors, kept);
            (bad, client_errors) = (binomial(rng, bad, kept), binomial(rng, client_errors, kept));
            requests = good + bad + client_errors;
        }
        let paused = binomial(rng, requests, instance.paused);
        let tail = binomial(rng, requests - paused, operation.tail);
        Serving { requests, bad, client_errors, middle, sigma: operation.sigma, tail, paused }
    }

    /// Draws latencies; answers with the sum of their buckets and of the squares.
    fn latencies(&mut self, serving: &Serving, young: bool) -> [i64; 2] {
        let tally = if young { &mut self.young_tally } else { &mut self.tally };
        let mut sums = [0; 2];
        let paused_middle = buckets(PAUSED_MEDIAN_S.ln());
        for (n, middle, sigma) in [
            (serving.requests - serving.paused - serving.tail, serving.middle, serving.sigma),
            (serving.tail, serving.middle + buckets(TAIL_TIMES.ln()), TAIL_SIGMA),
            (serving.paused, paused_middle, PAUSED_SIGMA),
        ] {
            let (middle, sigma) = (middle as f32, buckets(sigma) as f32);
            normals(&mut self.rng, n, |z| {
                let bucket = clamped(middle + sigma * z);
                tally.add(bucket);
                sums = [sums[0] + i64::from(bucket), sums[1] + i64::from(bucket).pow(2)];
            });
        }
        sums
    }

    /// An operation whose requests are long and whose failures are fast: of the candidate only those have ended
    /// that began after it did; the baseline's that began before are told apart.
    fn serve_long(
        &mut self,
        side: usize,
        o: usize,
        (slice, age): (&Slice, i64),
        arm: &mut Arm,
        before: &mut Cells,
    ) {
        let name = Arc::clone(&self.names[side][o]);
        for i in (0..self.instances[side].len()).filter(|i| slice.is_served_by(*i)) {
            let serving = self.draw(side, o, i, (slice, age));
            let young = self.is_young(side, i, serving.requests);
            for k in 0..serving.requests {
                let bad = k < serving.bad;
                let spread = serving.sigma * normal(&mut self.rng);
                let ln = if bad { FAST_FAILURE_S.ln() } else { serving.middle / buckets(1.0) } + spread;
                let censored = age >= 0 && ln.exp() > age as f64 + 0.5;
                if censored && side == CANDIDATE {
                    continue;
                }
                let one = Serving { requests: 1, bad: u64::from(bad), client_errors: 0, ..serving };
                let bucket = clamped(buckets(ln) as f32);
                let cell = if young {
                    &mut arm.young
                } else {
                    count(&mut arm.instances[i], &one, [i64::from(bucket), i64::from(bucket).pow(2)]);
                    let cells = if censored { &mut *before } else { &mut arm.warm };
                    &mut cells.entry(Arc::clone(&name)).or_default().groups[i % 2]
                };
                cell.requests += 1;
                cell.bad += u64::from(bad);
                if young {
                    self.young_tally.add(bucket);
                } else {
                    cell.latency.record(bucket);
                }
            }
        }
    }
}

fn clamped(bucket: f32) -> i16 {
    (bucket.floor() as i32).clamp(i32::from(layout::LOWEST), i32::from(layout::HIGHEST)) as i16
}

fn count(instance: &mut InstanceCounts, serving: &Serving, sums: [i64; 2]) {
    instance.requests += serving.requests;
    instance.bad += serving.bad;
    instance.bucket_sum += sums[0];
    instance.bucket_squares += sums[1];
}

/// Failures that come in clusters of geometric size with the given mean; never more than there are requests.
fn clustered(rng: &mut Rng, n: u64, p: f64, mean: f64) -> u64 {
    if mean <= 1.0 {
        return binomial(rng, n, p);
    }
    let clusters = poisson(rng, n as f64 * p / mean);
    (0..clusters).map(|_| geometric(rng, 1.0 / mean)).sum::<u64>().min(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{CHANCE, LONG, Noise, SMALL_SHARE};

    fn errors_and_requests(noise: Noise) -> [f64; 2] {
        let scenario = Scenario { noise, ..Scenario::healthy(SMALL_SHARE) };
        let mut sum = [0.0; 2];
        for seed in 0..6 {
            let mut service = Service::new(scenario, 1500, seed);
            for _ in 0..1500 {
                let [requests, bad] = service.second().2.baseline.totals();
                sum = [sum[0] + bad as f64, sum[1] + requests as f64];
            }
        }
        sum
    }

    #[test]
    fn every_law_keeps_the_rates() {
        let clustered = Noise { cluster: 3.0, ..CHANCE };
        let bursts = Noise { instance_bursts: Some([600.0, 5.0, 0.2]), ..CHANCE };
        let shared = Noise { shared_bursts: Some([1.5, 20.0]), ..CHANCE };
        // Clusters lose what does not fit into an instance's second.
        for (noise, low, high) in [
            (CHANCE, 0.0009, 0.0011),
            (clustered, 0.0006, 0.0011),
            (shared, 0.0005, 0.0016),
            (bursts, 0.0018, 0.0036),
        ] {
            let [bad, requests] = errors_and_requests(noise);
            assert!((requests / 9000.0 - 190.0).abs() < 1.0, "{requests}");
            assert!((low..high).contains(&(bad / requests)), "{noise:?}: {}", bad / requests);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_slots() {
        let slots = |seed| {
            let mut service = Service::new(Scenario::healthy(SMALL_SHARE), 20, seed);
            (0..40).map(|_| service.second()).collect::<Vec<_>>()
        };
        assert_eq!(slots(1), slots(1));
        assert_ne!(slots(1), slots(2));
    }

    /// Scenario: half of the requests take 20 s. Guarantees: at first the candidate shows fast ones only, and
    /// the baseline's slow ones are told apart until the candidate can have finished as slow ones.
    #[test]
    fn long_requests_are_censored() {
        let scenario = Scenario { operations: LONG, warmup_s: 0, ..Scenario::healthy(SMALL_SHARE) };
        let mut service = Service::new(scenario, 10, 4);
        let mut before = [0; 2];
        for _ in 0..400 {
            let (_, age, input) = service.second();
            let n: u64 = input.started_before.values().map(|c| c.requests()).sum();
            assert!(age >= 0 || n == 0);
            before[usize::from(age > 200)] += n;
        }
        assert!(before[0] > 500 && before[1] == 0, "{before:?}");
    }
}
