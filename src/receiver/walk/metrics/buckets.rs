//! The buckets of the point being read. They are copied, because the wire does not align them, into two lists
//! that live as long as the walk.
//!
//! Nearly all points of a message have the same bounds. Bounds that stand where those of the point before did,
//! byte for byte, are not read again.

use crate::wire::WalkError;

/// Buckets of one point beyond which it is unusable: an SDK writes 160 at most, a person a few dozen.
const BUCKETS_MAX: usize = 2_048;

/// Buckets of one point.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    pub(super) counts: Vec<u64>,
    bounds: Vec<f64>,
    /// Whether the point has bounds; else those of a point before are still there.
    has_bounds: bool,
    /// What `bounds` were read from, as it stood on the wire: empty where they came in several parts.
    packed: Vec<u8>,
    /// Whether the bounds read from `packed` ascend.
    ascend: bool,
    /// Values below 0.
    pub(super) negative: u64,
    pub(super) too_many: bool,
}

impl Buckets {
    pub(super) fn clear(&mut self) {
        self.counts.clear();
        self.has_bounds = false;
        (self.negative, self.too_many) = (0, false);
    }

    pub(super) fn count(&mut self, count: u64) {
        self.too_many |= self.counts.len() >= BUCKETS_MAX;
        if !self.too_many {
            self.counts.push(count);
        }
    }

    /// The numbers of a packed field.
    pub(super) fn packed_counts(&mut self, packed: &[u8]) -> Result<(), WalkError> {
        let numbers = chunks(packed)?;
        if self.counts.len() + numbers.len() > BUCKETS_MAX {
            self.too_many = true;
        } else {
            self.counts.extend(numbers.iter().map(|number| u64::from_le_bytes(*number)));
        }
        Ok(())
    }

    pub(super) fn bound(&mut self, bits: u64) {
        self.add_bounds(&[bits.to_le_bytes()]);
    }

    /// The bounds of a packed field.
    pub(super) fn packed_bounds(&mut self, packed: &[u8]) -> Result<(), WalkError> {
        if !self.has_bounds && !packed.is_empty() && packed == self.packed {
            self.has_bounds = true;
            return Ok(());
        }
        let is_first = !self.has_bounds;
        self.add_bounds(chunks(packed)?);
        if is_first && !self.too_many {
            self.packed.extend_from_slice(packed);
            self.ascend = ascend(&self.bounds);
        }
        Ok(())
    }

    fn add_bounds(&mut self, numbers: &[[u8; 8]]) {
        if !self.has_bounds {
            self.has_bounds = true;
            self.bounds.clear();
        }
        self.packed.clear();
        if self.bounds.len() + numbers.len() > BUCKETS_MAX {
            self.too_many = true;
        } else {
            self.bounds.extend(numbers.iter().map(|number| f64::from_le_bytes(*number)));
        }
    }

    pub(super) fn bounds(&self) -> &[f64] {
        if self.has_bounds { &self.bounds } else { &[] }
    }

    /// Sum of all counts; `None` beyond 64 bits.
    pub(super) fn total(&self) -> Option<u64> {
        self.counts.iter().try_fold(self.negative, |sum, n| sum.checked_add(*n))
    }

    pub(super) fn bounds_ascend(&self) -> bool {
        if self.has_bounds && !self.packed.is_empty() { self.ascend } else { ascend(self.bounds()) }
    }
}

fn ascend(bounds: &[f64]) -> bool {
    bounds.iter().all(|b| b.is_finite()) && bounds.windows(2).all(|pair| pair[0] < pair[1])
}

fn chunks(packed: &[u8]) -> Result<&[[u8; 8]], WalkError> {
    let (numbers, rest) = packed.as_chunks::<8>();
    if rest.is_empty() { Ok(numbers) } else { Err(WalkError::Truncated) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How the bounds of a point come: packed, in several parts, one by one.
    fn parts() -> impl Strategy<Value = Vec<(bool, Vec<f64>)>> {
        let bounds = prop_oneof![
            4 => Just(vec![0.1, 0.5, 1.0]),
            2 => Just(vec![0.1, 0.5, 2.0]),
            1 => Just(vec![1.0, 0.5]),
            1 => Just(vec![]),
            1 => Just(vec![0.0; BUCKETS_MAX]),
        ];
        prop::collection::vec((prop::bool::weighted(0.8), bounds), 0..3)
    }

    proptest! {
        /// What one point leaves behind changes nothing of the next.
        #[test]
        fn bounds_are_those_of_the_point_itself(points in prop::collection::vec(parts(), 1..8)) {
            let mut reused = Buckets::default();
            for parts in points {
                let mut fresh = Buckets::default();
                for buckets in [&mut reused, &mut fresh] {
                    buckets.clear();
                    for (is_packed, bounds) in &parts {
                        let bytes: Vec<u8> = bounds.iter().flat_map(|b| b.to_le_bytes()).collect();
                        match is_packed {
                            true => buckets.packed_bounds(&bytes).unwrap(),
                            false => bounds.iter().for_each(|b| buckets.bound(b.to_bits())),
                        }
                    }
                }
                let all: Vec<f64> = parts.iter().flat_map(|(_, bounds)| bounds.clone()).collect();
                prop_assert_eq!(reused.too_many, all.len() > BUCKETS_MAX);
                prop_assert_eq!(fresh.too_many, reused.too_many);
                prop_assert_eq!(fresh.bounds(), reused.bounds());
                if !reused.too_many {
                    prop_assert_eq!(reused.bounds(), &all);
                    prop_assert_eq!(reused.bounds_ascend(), ascend(&all));
                }
            }
        }
    }

    #[test]
    fn half_a_number_is_refused() {
        let mut buckets = Buckets::default();
        assert_eq!(buckets.packed_bounds(&[0; 12]), Err(WalkError::Truncated));
        assert_eq!(buckets.packed_counts(&[0; 7]), Err(WalkError::Truncated));
    }
}
