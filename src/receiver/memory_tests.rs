//! A process whose memory is what a test says.

use std::cell::Cell;
use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};

use super::*;
use crate::telemetry::Resident;

/// Allocated, resident, of files, and most, in MiB.
#[derive(Clone)]
struct Told(Arc<Mutex<[u64; 4]>>);

impl Told {
    fn set(&self, told: [u64; 4]) {
        *self.0.lock().unwrap() = told;
    }

    fn get(&self, which: usize) -> u64 {
        self.0.lock().unwrap()[which] * MIB
    }
}

impl Memory for Told {
    fn allocated(&self) -> u64 {
        self.get(0)
    }

    fn resident(&self) -> Resident {
        Resident { anonymous: self.get(1), of_files: self.get(2) }
    }

    fn most(&self) -> u64 {
        self.get(3)
    }
}

fn limiter(json: &str, told: [u64; 4]) -> (Arc<MemoryLimiter>, Told) {
    let config: MemoryLimiterConfig = serde_json::from_str(json).unwrap();
    assert_eq!(config.problems(), Vec::<String>::new());
    let memory = Told(Arc::new(Mutex::new(told)));
    (Arc::new(MemoryLimiter::new(&config, Arc::new(memory.clone()))), memory)
}

#[test]
fn o3_limits_are_the_collectors() {
    for (json, most, expected) in [
        ("{}", 1000, Some((640, 800))),
        (r#"{"limit_mib":200}"#, 1000, Some((160, 200))),
        (r#"{"limit_mib":200,"spike_limit_mib":50,"limit_percentage":1}"#, 1000, Some((150, 200))),
        (r#"{"limit_percentage":50}"#, 1000, Some((400, 500))),
        (r#"{"limit_percentage":50,"spike_limit_percentage":20}"#, 1000, Some((300, 500))),
        (r#"{"limit_percentage":0}"#, 1000, None),
    ] {
        let config: MemoryLimiterConfig = serde_json::from_str(json).unwrap();
        let limits = config.limits(most * MIB).map(|(soft, hard)| (soft.div_ceil(MIB), hard.div_ceil(MIB)));
        assert_eq!(limits, expected, "{json}");
    }
    for json in [
        r#"{"check_interval":"0s"}"#,
        r#"{"limit_percentage":101}"#,
        r#"{"limit_mib":10,"spike_limit_mib":10}"#,
        r#"{"limit_percentage":20,"spike_limit_percentage":20}"#,
        r#"{"spike_limit_mib":10}"#,
    ] {
        let config: MemoryLimiterConfig = serde_json::from_str(json).unwrap();
        assert_eq!(config.problems().len(), 1, "{json}: {:?}", config.problems());
    }
}

#[test]
fn o3_requests_come_in_below_the_soft_limit_and_again_at_once() {
    let (limiter, memory) = limiter(r#"{"limit_mib":200}"#, [100, 100, 10, 1000]);
    let at = |millis: u64| UnixNanos(1_000_000_000 + millis * 1_000_000);
    let rows = [
        (0, [100, 100, 10, 1000], true, "110"),
        (1, [150, 100, 10, 1000], false, "what is allocated counts with every request"),
        (1, [149, 100, 10, 1000], true, "and again at once"),
        (2, [149, 150, 10, 1000], true, "what is resident is asked for every 10 ms"),
        (10, [149, 150, 10, 1000], false, "and counts"),
        (10, [74, 150, 10, 1000], true, "up to twice of what is allocated: 158"),
        (10, [75, 150, 10, 1000], false, "160"),
        (30, [70, 500, 10, 1000], true, "pages that are kept do not shut the door"),
        (30, [90, 0, 0, 1000], false, "asked at the same time"),
        (0, [90, 0, 0, 1000], true, "also when the clock is set back"),
    ];
    for (millis, told, expected, why) in rows {
        memory.set(told);
        assert_eq!(limiter.admit(at(millis)).is_some(), expected, "{why}");
    }
}

/// Of 200 MiB 160 are the soft limit: a request is let in below it while all that are in are expected to fit.
#[test]
fn o3_requests_that_are_in_count_before_their_bodies_do_and_few_wait() {
    let (limiter, memory) = limiter(r#"{"limit_mib":200}"#, [150, 0, 9, 1000]);
    let now = UnixNanos::from_secs(1);
    let mut inside: Vec<_> = (0..41).map_while(|_| limiter.admit(now)).collect();
    assert_eq!(inside.len(), 41, "159 MiB are used, 41 are left");
    assert!(limiter.admit(now).is_none());
    let waiting: Vec<_> = (0..99).map_while(|_| limiter.queue()).collect();
    assert_eq!(waiting.len(), 10, "a quarter of the spike");
    inside.pop();
    assert!(limiter.admit(now).is_some(), "as soon as one is answered");
    drop(inside);
    memory.set([0, 0, 9, 1000]);
    assert_eq!((0..300).map_while(|_| limiter.admit(now)).collect::<Vec<_>>().len(), 191);
    drop(waiting);
    assert!(limiter.queue().is_some());
}

#[test]
fn o3_a_small_spike_lets_requests_in_one_by_one() {
    let (limiter, _) = limiter(r#"{"limit_mib":100,"spike_limit_mib":1}"#, [98, 0, 0, 1000]);
    let now = UnixNanos::from_secs(1);
    let inside: Vec<_> = (0..99).map_while(|_| limiter.admit(now)).collect();
    assert_eq!(inside.len(), 8, "of 2 MiB, a quarter of the spike each");
    assert!(limiter.queue().is_some() && limiter.admit(now).is_none());
}

#[test]
fn o3_a_limit_that_changes_counts() {
    let (limiter, memory) = limiter("{}", [100, 0, 0, 1000]);
    assert!(limiter.admit(UnixNanos::from_secs(1)).is_some());
    memory.set([100, 0, 0, 150]);
    assert!(limiter.admit(UnixNanos::from_secs(2)).is_none());
}

#[test]
fn o3_without_a_limit_everything_comes_in() {
    let (limiter, _) = limiter(r#"{"limit_percentage":0}"#, [999, 999, 99, 1000]);
    assert!(limiter.admit(UnixNanos::from_secs(1)).is_some() && !limiter.is_out());
}

#[tokio::test]
async fn o3_bodies_are_given_up_at_the_hard_limit_and_may_come_again() {
    let (limiter, memory) = limiter(r#"{"limit_mib":200}"#, [170, 0, 10, 1000]);
    assert!(limiter.admit(UnixNanos::from_secs(1)).is_none());
    let given_up = Cell::new(0);
    let body = || limiter.watch(Full::new(Bytes::from_static(b"abc")), || given_up.set(given_up.get() + 1));
    assert_eq!(body().collect().await.unwrap().to_bytes(), "abc");
    memory.set([190, 0, 10, 1000]);
    let error = body().collect().await.err().unwrap();
    let status = error.downcast_ref::<tonic::Status>().unwrap();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(!status.details().is_empty(), "RetryInfo");
    assert_eq!(given_up.get(), 1);
}
