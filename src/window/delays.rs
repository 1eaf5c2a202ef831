//! Delays of one version, counted in bins of a tenth of a second, in as few bytes as will do: every version
//! has three parts of them, and with SDKs that hold spans for 5 s a part has some fifty bins.

/// Counts per bin, sparse, ascending. Counts are exact; what does not fit into 16 bits is kept apart, because
/// few versions are so busy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Delays {
    low: Vec<(u16, u16)>,
    /// Bin, and its count in units of 2^16.
    high: Vec<(u16, u32)>,
}

impl Delays {
    /// Counts so many spans.
    pub(super) fn record(&mut self, bin: u16, n: u64) {
        let at = self.low.binary_search_by_key(&bin, |c| c.0).unwrap_or_else(|at| {
            if self.low.len() == self.low.capacity() {
                self.low.reserve_exact(self.low.len() / 8 + 8);
            }
            self.low.insert(at, (bin, 0));
            at
        });
        let sum = u64::from(self.low[at].1).saturating_add(n);
        self.low[at].1 = sum as u16;
        if sum > u64::from(u16::MAX) {
            self.carry(bin, sum >> 16);
        }
    }

    fn carry(&mut self, bin: u16, n: u64) {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        match self.high.binary_search_by_key(&bin, |c| c.0) {
            Ok(at) => self.high[at].1 = self.high[at].1.saturating_add(n),
            Err(at) => self.high.insert(at, (bin, n)),
        }
    }

    /// Bins and counts, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let high = |bin: u16| match self.high.binary_search_by_key(&bin, |c| c.0) {
            Ok(at) => u64::from(self.high[at].1) << 16,
            Err(_) => 0,
        };
        self.low.iter().map(move |&(bin, low)| (bin, high(bin) + u64::from(low)))
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.low.capacity() * size_of::<(u16, u16)>() + self.high.capacity() * size_of::<(u16, u32)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn counts_beyond_sixteen_bits_are_exact() {
        let mut delays = Delays::default();
        (0..200_000).for_each(|_| delays.record(7, 1));
        (0..65_536).for_each(|_| delays.record(3, 1));
        delays.record(600, 1);
        assert_eq!(delays.iter().collect::<Vec<_>>(), [(3, 65_536), (7, 200_000), (600, 1)]);
    }

    proptest! {
        #[test]
        fn counts_equal_a_naive_model(
            bins in prop::collection::vec((0u16..=600, prop_oneof![Just(1), 1_u64..200_000]), 0..400),
        ) {
            let (mut delays, mut model) = (Delays::default(), BTreeMap::<u16, u64>::new());
            for (bin, n) in bins {
                delays.record(bin, n);
                *model.entry(bin).or_default() += n;
            }
            prop_assert_eq!(delays.iter().collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
        }
    }
}
