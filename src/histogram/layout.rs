//! Value to bucket and back, on OTLP's base-2 exponential grid at scale 5 over seconds: bucket `i` holds
//! `(2^(i/32), 2^((i+1)/32)]`. Exponential histograms that arrive in seconds at scale 5 or finer therefore
//! merge exactly (OTLP metrics data model, "Exponential Scale"). The midpoint of a bucket is within 1.1 % of
//! every value in it.

use std::sync::LazyLock;

/// log2 of the number of buckets per octave.
pub const SCALE: u32 = 5;
/// Lowest bucket: everything up to about 1 microsecond, zero included.
pub const LOWEST: i16 = -640;
/// Highest bucket: everything above about 9 hours.
pub const HIGHEST: i16 = 480;
/// Buckets in all.
pub const BUCKETS: usize = (HIGHEST as i32 - LOWEST as i32 + 1) as usize;

const PER_OCTAVE: usize = 1 << SCALE;
const MANTISSA_BITS: u32 = 52;

/// Lower edges inside one octave, as mantissas in `[1, 2)`.
static EDGES: LazyLock<[f64; PER_OCTAVE]> =
    LazyLock::new(|| std::array::from_fn(|i| (i as f64 / PER_OCTAVE as f64).exp2()));

/// The bucket of a duration in nanoseconds.
///
/// The exponent is read from the bits of the float; inside the octave the top mantissa bits give a first
/// guess that is at most two edges off, because `2^x - 1 <= x` and the gap is below 0.087.
pub fn bucket_of_nanos(nanos: u64) -> i16 {
    if nanos == 0 {
        return LOWEST;
    }
    let bits = (nanos as f64 / 1e9).to_bits();
    let exponent = (bits >> MANTISSA_BITS) as i32 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << MANTISSA_BITS) - 1)) | (1023 << MANTISSA_BITS));
    let edges = &*EDGES;
    let mut below = ((mantissa - 1.0) * PER_OCTAVE as f64) as usize;
    while below < PER_OCTAVE && edges[below] < mantissa {
        below += 1;
    }
    let index = exponent * PER_OCTAVE as i32 + below as i32 - 1;
    index.clamp(i32::from(LOWEST), i32::from(HIGHEST)) as i16
}

/// The upper edge of a bucket in seconds.
pub fn upper_edge_seconds(bucket: i16) -> f64 {
    ((f64::from(bucket) + 1.0) / PER_OCTAVE as f64).exp2()
}

/// The harmonic midpoint of a bucket in seconds: the value with the least worst relative error.
pub fn midpoint_seconds(bucket: i16) -> f64 {
    let (low, high) = (upper_edge_seconds(bucket - 1), upper_edge_seconds(bucket));
    2.0 * low * high / (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        for (nanos, bucket) in [
            (0, LOWEST),
            (1, LOWEST),
            (500_000_000, -33),
            (1_000_000_000, -1),
            (1_000_000_001, 0),
            (2_000_000_000, 31),
            (u64::MAX, HIGHEST),
        ] {
            assert_eq!(bucket_of_nanos(nanos), bucket, "{nanos} ns");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(nanos in 1_000u64..30_000_000_000_000) {
            let exact = (nanos as f64 / 1e9).log2() * 32.0;
            // On an edge itself the logarithm is rounded; there either side may be right.
            prop_assume!((exact - exact.round()).abs() > 1e-9);
            prop_assert_eq!(i64::from(bucket_of_nanos(nanos)), (exact.ceil() as i64 - 1).clamp(-640, 480));
        }

        #[test]
        fn the_midpoint_is_within_1_1_percent(nanos in 2_000u64..30_000_000_000_000) {
            let seconds = nanos as f64 / 1e9;
            let error = (midpoint_seconds(bucket_of_nanos(nanos)) - seconds).abs() / seconds;
            prop_assert!(error < 0.01084, "{}", error);
        }
    }
}
