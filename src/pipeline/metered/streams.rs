//! What the streams of one version said last, in the order in which they were met: those of a sender are met together,
//! so its points find them side by side. Of a large fleet a table by hash would be two cache misses a point.
//!
//! A stream is found by its key; who comes again and again remembers its place beside. A place is no promise: what is
//! given up leaves it to another stream, and the key tells.

use std::collections::HashMap;

use crate::window::Stream;

/// Where a stream lies, as far as one knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pipeline) struct StreamPlace(u32);

impl Default for StreamPlace {
    /// Not known.
    fn default() -> Self {
        Self(u32::MAX)
    }
}

/// The streams of a version.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Places, by the digest that names a stream.
    places: HashMap<u128, StreamPlace, foldhash::fast::RandomState>,
    entries: Vec<Option<(u128, Stream)>>,
    free: Vec<StreamPlace>,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether it is there. `place` is where it was last, and is set right.
    pub(super) fn contains(&self, key: u128, place: &mut StreamPlace) -> bool {
        if matches!(self.entries.get(place.0 as usize), Some(Some((found, _))) if *found == key) {
            return true;
        }
        let Some(found) = self.places.get(&key) else { return false };
        *place = *found;
        true
    }

    /// A stream; `fresh` where it is not there yet. `place` is where it was last, and is set right.
    pub(super) fn get_or_insert_with(
        &mut self,
        key: u128,
        place: &mut StreamPlace,
        fresh: impl FnOnce() -> Stream,
    ) -> &mut Stream {
        if !self.contains(key, place) {
            *place = self.insert(key, fresh());
        }
        match self.entries.get_mut(place.0 as usize) {
            Some(entry) => &mut entry.get_or_insert_with(|| (key, Stream::default())).1,
            None => unreachable!("it is where it was found or inserted"),
        }
    }

    /// Puts a stream in, in place of what was known of it.
    pub(super) fn insert(&mut self, key: u128, stream: Stream) -> StreamPlace {
        let known = self.places.get(&key).copied().or_else(|| self.free.pop());
        let place = known.unwrap_or(StreamPlace(self.entries.len() as u32));
        match self.entries.get_mut(place.0 as usize) {
            Some(entry) => *entry = Some((key, stream)),
            None => self.entries.push(Some((key, stream))),
        }
        self.places.insert(key, place);
        place
    }

    pub(super) fn remove(&mut self, key: u128) -> Option<Stream> {
        let place = self.places.remove(&key)?;
        self.free.push(place);
        self.entries.get_mut(place.0 as usize)?.take().map(|(_, stream)| stream)
    }

    /// Gives back room that most streams have left.
    pub(super) fn tidy(&mut self) {
        if self.free.len() <= self.entries.len() / 2 {
            return;
        }
        self.entries.retain(Option::is_some);
        self.entries.shrink_to_fit();
        self.free = Vec::new();
        let keys = self.entries.iter().flatten().map(|(key, _)| *key);
        self.places = keys.zip((0..).map(StreamPlace)).collect();
    }

    /// All with their keys, in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u128, &Stream)> {
        self.entries.iter().flatten().map(|(key, stream)| (*key, stream))
    }

    /// Takes all out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Stream> + use<> {
        std::mem::take(self).entries.into_iter().flatten().map(|(_, stream)| stream)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::UnixNanos;

    fn stream(number: u64) -> Stream {
        Stream::met_again(UnixNanos(number))
    }

    #[test]
    fn a_place_that_another_stream_has_taken_is_not_believed() {
        let mut streams = Streams::default();
        let mut place = StreamPlace::default();
        assert_eq!(*streams.get_or_insert_with(1, &mut place, || stream(10)), stream(10));
        let old = place;
        assert_eq!(streams.remove(1), Some(stream(10)));
        assert!(!streams.contains(1, &mut place));
        assert_eq!(streams.insert(2, stream(20)), old, "room is used again");
        assert!(!streams.contains(1, &mut place));
        assert_eq!(*streams.get_or_insert_with(1, &mut place, || stream(11)), stream(11));
        assert_ne!(place, old);
        let mut wrong = old;
        assert!(streams.contains(1, &mut wrong) && wrong == place, "it is set right");
    }

    proptest! {
        /// Whatever comes and goes, it holds what a map would hold.
        #[test]
        fn equals_a_map(steps in prop::collection::vec((0_u8..4, 0_u128..20), 0..200)) {
            let (mut streams, mut model) = (Streams::default(), HashMap::<u128, Stream>::new());
            let mut places = [StreamPlace::default(); 20];
            for (number, (step, key)) in (0..).zip(steps) {
                let place = &mut places[key as usize];
                match step {
                    0 => drop(streams.insert(key, stream(number))),
                    1 => prop_assert_eq!(streams.remove(key), model.remove(&key)),
                    2 => streams.tidy(),
                    _ => {
                        let known = model.entry(key).or_insert_with(|| stream(number));
                        prop_assert_eq!(streams.get_or_insert_with(key, place, || stream(number)), known);
                    }
                }
                if step == 0 {
                    model.insert(key, stream(number));
                }
                prop_assert_eq!(streams.contains(key, place), model.contains_key(&key));
                prop_assert_eq!(streams.len(), model.len());
                prop_assert!(streams.iter().all(|(key, stream)| model.get(&key) == Some(stream)));
            }
            prop_assert_eq!(streams.drain().count(), model.len());
        }
    }
}
