//! Looks names up that come in the order of a map which knows most of them. Of each operation and each process many
//! things are kept in maps of their own; a walk along two of them takes one step for each name, where a search would
//! compare it with half a dozen others. Names that are one and the same in memory are not read.

use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::sync::Arc;

/// A name with an order that sees at once that a name is itself.
pub(crate) trait Name: Ord {
    /// The order of [`Ord`].
    fn order(&self, other: &Self) -> Ordering;
}

impl Name for Arc<str> {
    #[inline]
    fn order(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(self, other) { Ordering::Equal } else { self.cmp(other) }
    }
}

/// What is left of a map, in its order.
pub(crate) struct Beside<'a, K, V> {
    rest: Peekable<btree_map::Iter<'a, K, V>>,
}

impl<'a, K: Name, V> Beside<'a, K, V> {
    /// The whole map.
    pub(crate) fn of(map: &'a BTreeMap<K, V>) -> Self {
        Self { rest: map.iter().peekable() }
    }

    /// What stands under a name, which must not come before one that was asked for earlier.
    #[inline]
    pub(crate) fn find(&mut self, name: &K) -> Option<&'a V> {
        loop {
            let (next, value) = *self.rest.peek()?;
            match next.order(name) {
                Ordering::Less => self.rest.next(),
                Ordering::Equal => return Some(value),
                Ordering::Greater => return None,
            };
        }
    }

    /// All names of one map with what stands under them in another.
    pub(crate) fn all<W>(
        names: &'a BTreeMap<K, W>,
        other: &'a BTreeMap<K, V>,
    ) -> impl Iterator<Item = (&'a K, Option<&'a V>)> {
        let mut other = Self::of(other);
        names.keys().map(move |name| (name, other.find(name)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_search_finds(
            names in prop::collection::btree_set("[ab]{0,3}", 0..12),
            map in prop::collection::btree_map("[ab]{0,3}", any::<u8>(), 0..12),
        ) {
            let map: BTreeMap<Arc<str>, u8> = map.into_iter().map(|(k, v)| (k.into(), v)).collect();
            let mut beside = Beside::of(&map);
            for name in names {
                // Twice, and by the same name as well as by one that only reads alike.
                let name: Arc<str> = name.into();
                let same = map.get_key_value(&name).map_or_else(|| Arc::clone(&name), |(known, _)| Arc::clone(known));
                prop_assert_eq!(beside.find(&name), map.get(&name));
                prop_assert_eq!(beside.find(&same), map.get(&name));
            }
        }
    }
}
