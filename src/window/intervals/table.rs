//! Values by name, found by hash and kept in a list. Most points are of the same name as the point before.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::FixedState;

/// Values by name.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    list: Vec<(K, V)>,
    /// Names are of ids that are ours, so a fixed seed is safe.
    places: HashMap<K, usize, FixedState>,
    last: usize,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { list: Vec::new(), places: HashMap::default(), last: 0 }
    }
}

impl<K: Copy + Eq + Ord + Hash, V: Default> Table<K, V> {
    pub(super) fn get_or_default(&mut self, name: K) -> &mut V {
        if self.list.get(self.last).is_none_or(|(last, _)| *last != name) {
            self.last = *self.places.entry(name).or_insert(self.list.len());
            if self.last == self.list.len() {
                self.list.push((name, V::default()));
            }
        }
        &mut self.list[self.last].1
    }

    /// Puts the list into the order of its names. What comes afterwards is not found by name any more.
    pub(super) fn sort(&mut self) {
        self.places = HashMap::default();
        self.list.sort_unstable_by_key(|(name, _)| *name);
    }
}

impl<K, V> Table<K, V> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.list.iter()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.list.iter().map(|(_, value)| value)
    }
}
