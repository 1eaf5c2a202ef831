//! When a request that was not taken is sent again: which answers allow it, and after how long.

use std::time::Duration;

use prost::Message;
use tonic::Code;

use super::RetryConfig;
use super::client::Next;
use super::route::mix;

const RETRY_INFO_TYPE: &str = "type.googleapis.com/google.rpc.RetryInfo";
/// A downstream may ask for more time, but not for ever.
const ASKED_MAX: Duration = Duration::from_secs(300);

/// Reads a gRPC status as the OTLP specification says.
pub(super) fn next_of(code: Code, details: &[u8]) -> Next {
    let asked = retry_info(details);
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Next::Retry(asked),
        Code::ResourceExhausted if asked.is_some() => Next::Retry(asked),
        _ => Next::GiveUp,
    }
}

/// The wait before attempt number `attempt` + 1 (1 after the first failure): exponential, with jitter drawn
/// from `seed`, so that a fleet does not come back all at once, and not before the downstream asked for it.
pub(super) fn wait(config: &RetryConfig, attempt: u32, seed: u64, asked: Option<Duration>) -> Duration {
    let mut wait = config.initial_interval.min(config.max_interval);
    for _ in 1..attempt {
        if wait >= config.max_interval {
            break;
        }
        wait = wait.mul_f64(config.multiplier).min(config.max_interval);
    }
    let share = mix(seed.wrapping_add(u64::from(attempt))) as f64 / u64::MAX as f64;
    let factor: f64 = 1.0 + config.randomization_factor * (2.0 * share - 1.0);
    wait.mul_f64(factor.max(0.0)).max(asked.unwrap_or_default().min(ASKED_MAX))
}

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The delay in the `RetryInfo` of a `google.rpc.Status`.
fn retry_info(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let info = status.details.iter().find(|any| any.type_url == RETRY_INFO_TYPE)?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.delay.unwrap_or_default();
    Some(Duration::new(delay.seconds.try_into().unwrap_or(0), delay.nanos.try_into().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_retry_info(seconds: i64) -> Vec<u8> {
        let value = RetryInfo { delay: Some(Delay { seconds, nanos: 0 }) }.encode_to_vec();
        RpcStatus { details: vec![Any { type_url: RETRY_INFO_TYPE.into(), value }] }.encode_to_vec()
    }

    #[test]
    fn codes_decide_as_otlp_says() {
        let retried =
            [Code::Unavailable, Code::DeadlineExceeded, Code::Aborted, Code::Cancelled, Code::DataLoss];
        for code in retried {
            assert_eq!(next_of(code, b""), Next::Retry(None), "{code:?}");
        }
        let asked = Next::Retry(Some(Duration::from_secs(7)));
        assert_eq!(next_of(Code::Unavailable, &with_retry_info(7)), asked);
        assert_eq!(next_of(Code::ResourceExhausted, &with_retry_info(7)), asked);
        assert_eq!(next_of(Code::Unavailable, b"junk"), Next::Retry(None));
        for code in [Code::ResourceExhausted, Code::InvalidArgument, Code::Internal, Code::Unknown] {
            assert_eq!(next_of(code, b""), Next::GiveUp, "{code:?}");
        }
        let hostile = next_of(Code::Unavailable, &with_retry_info(i64::MAX));
        let Next::Retry(asked) = hostile else { panic!("it is retried") };
        assert_eq!(wait(&RetryConfig::default(), 1, 0, asked), ASKED_MAX);
    }

    #[test]
    fn waits_grow_to_the_longest_and_are_spread() {
        let config = RetryConfig::default();
        for attempt in 1..40 {
            let plain = (5.0 * 1.5_f64.powi(attempt as i32 - 1)).min(30.0);
            for seed in 0..50 {
                let wait = wait(&config, attempt, seed, None).as_secs_f64();
                assert!(wait >= plain * 0.499 && wait <= plain * 1.501, "{attempt} {seed} {wait}");
            }
        }
        assert_ne!(wait(&config, 1, 1, None), wait(&config, 1, 2, None));
        assert_eq!(wait(&config, 1, 1, Some(Duration::from_secs(60))), Duration::from_secs(60));
        let steady = RetryConfig { randomization_factor: 0.0, multiplier: 1.0, ..config };
        assert_eq!(wait(&steady, 9, 3, None), Duration::from_secs(5));
    }
}
