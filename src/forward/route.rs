//! Which of several addresses the data of a service goes to. Rollguards behind Rollguards need all versions of a
//! service at one place, for a verdict compares them; so every Rollguard in front must choose the same address for
//! the same service, today, after a restart and in its next version.
//!
//! Each address is given a weight for the service, drawn from both names, and the heaviest one takes it (rendezvous
//! hashing): when an address is added or removed, only the services that it gains or had move. There is no moving
//! away from an address that is down: what is for it waits.

/// The addresses, by a hash of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route(Vec<u64>);

impl Route {
    pub(super) fn new<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Self {
        Self(addresses.into_iter().map(|address| mix(fnv(FNV_BASIS, address.as_bytes()))).collect())
    }

    /// The number of the address for a service.
    pub(super) fn of(&self, namespace: &[u8], name: &[u8]) -> usize {
        let service = fnv(fnv(fnv(FNV_BASIS, namespace), b"/"), name);
        let weight = |address: &u64| mix(service ^ *address);
        let heaviest = self.0.iter().enumerate().max_by_key(|(_, address)| weight(address));
        heaviest.map_or(0, |(number, _)| number)
    }
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: as good as need be, and the same everywhere and for ever.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Spreads a number over all 64 bits (the finaliser of splitmix64).
pub(super) const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services() -> Vec<String> {
        (0..3_000).map(|n| format!("service-{n}")).collect()
    }

    #[test]
    fn services_spread_and_few_move() {
        let addresses = ["http://a:4317", "http://b:4317", "http://c:4317"];
        let (three, two) = (Route::new(addresses), Route::new(addresses[..2].iter().copied()));
        let mut taken = [0; 3];
        for service in services() {
            let now = three.of(b"", service.as_bytes());
            taken[now] += 1;
            let before = two.of(b"", service.as_bytes());
            assert!(now == before || now == 2, "{service} moved between addresses that were there before");
        }
        assert!(taken.iter().all(|n| (900..1_100).contains(n)), "{taken:?}");
    }

    /// These must never change: Rollguards of several versions run side by side.
    #[test]
    fn the_choice_is_the_same_for_ever() {
        let route = Route::new(["http://a:4317", "http://b:4317", "http://c:4317"]);
        let chosen: Vec<usize> = services()[..12].iter().map(|s| route.of(b"shop", s.as_bytes())).collect();
        assert_eq!(chosen, [0, 2, 1, 1, 2, 2, 0, 2, 2, 2, 0, 2]);
        assert_eq!(route.of(b"", b""), 0);
    }
}
