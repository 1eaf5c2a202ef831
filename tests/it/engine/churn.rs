//! Instances that die and are replaced, where a policy gives it weight: a configuration file, OTLP into the walkers or
//! through the front door, the real pipeline, a verdict. No span shows an error: a process that dies takes them along.

use std::sync::Arc;

use rollguard::deployment::{Deployment, Mode, Phase};
use rollguard::verdict::{Flag, Policy, Verdict};

use super::front::{Front, WELL, line, policy, resource, walked_by};
use super::world::World;

const CHURN: &str = "      instance_churn: {kind: churn, weight: 0.2}\n";

/// The instances of one version, by the numbers in their names.
#[derive(Debug, Default)]
struct Fleet {
    version: &'static str,
    ids: Vec<usize>,
    born: usize,
}

impl Fleet {
    fn of(version: &'static str, size: usize) -> Self {
        let mut fleet = Self { version, ..Self::default() };
        fleet.scale(size);
        fleet
    }

    /// The newest go first.
    fn scale(&mut self, size: usize) {
        self.ids.truncate(size);
        while self.ids.len() < size {
            self.ids.push(self.born);
            self.born += 1;
        }
    }

    /// Another instance takes the place of one.
    fn replace(&mut self, place: usize) {
        self.ids[place] = self.born;
        self.born += 1;
    }
}

/// A shop of several fleets.
struct Shop {
    world: World,
    random: fastrand::Rng,
}

impl Shop {
    fn open(slis: &str, seed: u64) -> Self {
        Self { world: World::new(policy(slis), Mode::Act), random: fastrand::Rng::with_seed(seed) }
    }

    fn second(&mut self, fleets: &[&Fleet]) {
        self.world.run(1);
        for fleet in fleets {
            for id in &fleet.ids {
                walked_by(&self.world, &mut self.random, resource(fleet.version, *id), WELL);
            }
        }
    }

    fn seconds(&mut self, seconds: u64, fleets: &[&Fleet]) {
        (0..seconds).for_each(|_| self.second(fleets));
    }

    /// Each instance dies of one request in two hundred, of ten a second.
    fn crash(&mut self, fleet: &mut Fleet) {
        for place in 0..fleet.ids.len() {
            if self.random.f64() < 1.0 - 0.995_f64.powi(10) {
                fleet.replace(place);
            }
        }
    }

    fn v2(&self) -> Arc<Deployment> {
        self.world.deployment("v2").expect("v2 was seen")
    }
}

/// Scenario: every 20 s each instance of `v2` dies and another takes its place. Guarantees: where the policy gives that
/// weight the version fails by it, within alpha, and says what died against what; where it only reports, nothing but the
/// flag speaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_die_fail_a_version_where_the_policy_says_so() {
    for weight in ["weight: 0.2", "report_only: true"] {
        let slis = format!("      instance_churn: {{kind: churn, {weight}}}\n");
        let mut front = Front::open(Policy { horizon_s: 300, ..policy(&slis) }).await;
        front.crashes = true;
        let d = front.judge(WELL, true).await;
        let own = line(&d, "instance_churn");
        assert!(own.bad[0] >= 10 && own.bad[1] == 0 && own.ln_e > 4.0, "{own:?}");
        assert!(d.evidence.has(Flag::InstancesRestart), "{:?}", d.evidence.flags);
        if weight == "report_only: true" {
            assert_eq!((d.verdict, own.weight), (Verdict::Inconclusive, 0.0), "{}", d.explanation);
        } else {
            assert_eq!(d.verdict, Verdict::Fail, "{}", d.explanation);
            assert!(
                d.explanation.contains("instance_churn") && d.explanation.contains("deaths"),
                "{}",
                d.explanation
            );
            let account = d.account().text();
            assert!(account.contains("instance-minutes of v2") && account.contains("no deaths"), "{account}");
            let sum: f64 = d.evidence.slis.iter().map(|e| e.weight).sum();
            assert!(
                own.degraded && (own.weight - 0.2 / 1.2).abs() < 1e-12 && sum <= 1.0 + 1e-9,
                "{own:?} of {sum}"
            );
        }
        front.end().await;
    }
}

/// Scenario: `v2` takes the place of `v1`, is sound or dies of one request in two hundred; or `v1` goes on beside it while
/// its instances are replaced one after the other. Guarantees: only the one that dies fails, against what is remembered
/// and beside a roll-out of the old version.
#[test]
fn deaths_are_held_to_what_is_remembered_and_a_roll_out_hides_none() {
    for (crashes, beside) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut shop = Shop::open(CHURN, 3);
        let (mut v1, mut v2) = (Fleet::of("v1", 6), Fleet::of("v2", 6));
        shop.seconds(900, &[&v1]);
        // What is beside it tells less than a quiet history, so it takes longer.
        for second in 0..if crashes && beside { 480 } else { 240 } {
            if beside && second % 20 == 10 && second < 130 {
                v1.replace(second / 20);
            }
            if beside || second < 3 {
                shop.second(&[&v1, &v2]);
            } else {
                shop.second(&[&v2]);
            }
            if crashes {
                shop.crash(&mut v2);
                if second > 60 && shop.v2().verdict == Verdict::Fail {
                    break;
                }
            }
        }
        let d = shop.v2();
        assert_eq!(
            d.verdict == Verdict::Fail,
            crashes,
            "beside: {beside}: {}\n{:#?}",
            d.explanation,
            d.evidence.slis
        );
        assert_eq!(d.evidence.has(Flag::InstancesRestart), crashes, "{:?}", d.evidence.flags);
        assert!(!crashes || d.explanation.contains("instance_churn"), "{}", d.explanation);
    }
}

/// Scenario: the new fleet grows, and shrinks again, while the old one shrinks. Guarantee: that is no death.
#[test]
fn scaling_is_no_death() {
    let mut shop = Shop::open(CHURN, 4);
    let (mut v1, mut v2) = (Fleet::of("v1", 6), Fleet::of("v2", 1));
    shop.seconds(300, &[&v1]);
    for second in 0..360 {
        v2.scale([1, 2, 3, 4, 3, 2][second / 60]);
        v1.scale([6, 5, 4, 3, 3, 3][second / 60]);
        shop.second(&[&v1, &v2]);
    }
    let d = shop.v2();
    let own = line(&d, "instance_churn");
    assert!(
        d.verdict != Verdict::Fail && own.bad == [0, 0] && own.requests[0] > 50,
        "{own:?} {}",
        d.explanation
    );
    assert!(!d.evidence.has(Flag::InstancesRestart));
}

/// Scenario: while it is judged, each instance of the new version is replaced once: restarted by hand, or moved with the
/// nodes. Guarantee: that is no fail.
#[test]
fn a_new_version_that_is_rolled_out_again_is_not_failed_for_it() {
    for beside in [true, false] {
        let mut shop = Shop::open(CHURN, 6);
        let (v1, mut v2) = (Fleet::of("v1", 12), Fleet::of("v2", 12));
        shop.seconds(900, &[&v1]);
        for second in 0..300 {
            if second % 6 == 0 && (90..90 + 6 * 12).contains(&second) {
                v2.replace((second - 90) / 6);
            }
            if beside || second < 3 {
                shop.second(&[&v1, &v2]);
            } else {
                shop.second(&[&v2]);
            }
        }
        let d = shop.v2();
        let own = line(&d, "instance_churn");
        assert!(
            d.verdict != Verdict::Fail && own.bad == [0, 0],
            "beside: {beside}: {own:?} {}",
            d.explanation
        );
    }
}

/// Scenario: a change of configuration that restarts every instance once, one after the other; then the new ones die of
/// one request in two hundred. Guarantees: the roll-out is no fail, what dies after it is.
#[test]
fn a_change_that_restarts_its_instances_is_not_failed_for_it() {
    for crashes in [false, true] {
        let mut shop = Shop::open(CHURN, 5);
        let mut v1 = Fleet::of("v1", 8);
        shop.seconds(900, &[&v1]);
        let id = shop.world.announce(0, &[]).unwrap();
        for second in 0..250 {
            if second % 8 == 4 && second < 64 {
                v1.replace(second / 8);
            }
            shop.second(&[&v1]);
            if crashes && second > 60 {
                shop.crash(&mut v1);
            }
        }
        let d = shop.world.again(&id);
        assert_eq!(
            d.phase == Phase::Failed || d.verdict == Verdict::Fail,
            crashes,
            "{}\n{:#?}",
            d.explanation,
            d.evidence.slis
        );
        assert!(!crashes || d.explanation.contains("instance_churn"), "{}", d.explanation);
    }
}
