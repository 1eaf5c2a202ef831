//! Finds the few names of attributes that something looks at among the many that records carry: those of every request
//! and those that conditions are about, in one table. The last eight bytes and the length are looked up as one number,
//! because names of one namespace differ at their end; most names come to a free place and are turned away by that.

use crate::model::attribute::Attribute;
use crate::model::bytes::same;

/// Names and their numbers: an [`Attribute`] has its own, the others follow as they were added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// The number of a name, plus 1, by a hash of its end and length, else in the next free place; 0 is free.
    places: [u8; PLACES],
    known: Vec<Known>,
}

/// A name and its pieces, as numbers that are compared at once: of a name of up to 32 bytes they are all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// The last eight bytes, as [`place`] has them.
    end: u64,
    pieces: Pieces,
    /// Whether it is among those that were added.
    is_added: bool,
    name: Box<[u8]>,
}

/// The first eight bytes of a name that has them, and of one of 16 or more the next eight and the eight before the end.
type Pieces = [u64; 3];

/// More than twice what the caps on conditions and quantities allow beside the attributes of every request, so that
/// most places are free.
const PLACES: usize = 256;

impl Default for Names {
    fn default() -> Self {
        let mut names = Self { places: [0; PLACES], known: Vec::new() };
        for (_, name) in Attribute::ALL {
            names.place(name);
        }
        names
    }
}

impl Known {
    fn new(name: &[u8]) -> Self {
        Self { end: place(name).0, pieces: pieces(name), is_added: false, name: name.into() }
    }

    /// `end` is what [`place`] says of the name.
    #[inline(always)]
    fn is(&self, end: u64, name: &[u8]) -> bool {
        if self.end != end || self.name.len() != name.len() {
            return false;
        }
        // In numbers: an array that was just written is slow to compare.
        let ([a, b, c], [d, e, f]) = (self.pieces, pieces(name));
        (a ^ d | b ^ e | c ^ f) == 0 && (name.len() <= 32 || is_same(&self.name, name))
    }
}

#[inline(always)]
fn pieces(name: &[u8]) -> Pieces {
    let number = |piece: &[u8; 8]| u64::from_le_bytes(*piece);
    if let (Some(first), Some(last)) = (name.first_chunk::<16>(), name.last_chunk::<16>()) {
        let halves = (first.first_chunk(), first.last_chunk(), last.first_chunk());
        if let (Some(first), Some(second), Some(third)) = halves {
            return [number(first), number(second), number(third)];
        }
    }
    [name.first_chunk().map_or(0, number), 0, 0]
}

/// Few names are so long.
#[cold]
#[inline(never)]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    same(a, b)
}

impl Names {
    /// Adds a name, unless it is there, and says its number. There must be fewer than half as many as places.
    pub(super) fn add(&mut self, name: &[u8]) -> usize {
        let number = self.find(name).map_or_else(|| self.place(name), |(number, _)| number);
        self.known[number].is_added = true;
        number
    }

    fn place(&mut self, name: &[u8]) -> usize {
        let (_, mut at) = place(name);
        while self.places[at] != 0 {
            at = (at + 1) % PLACES;
        }
        self.known.push(Known::new(name));
        debug_assert!(self.known.len() < PLACES / 2);
        self.places[at] = self.known.len() as u8;
        self.known.len() - 1
    }

    /// Numbers are below this.
    pub(super) const fn numbers(&self) -> usize {
        self.known.len()
    }

    /// The number of a name, and whether it was added: it may be that of an [`Attribute`] alone.
    #[inline(always)]
    pub(super) fn find(&self, name: &[u8]) -> Option<(usize, bool)> {
        let (end, at) = place(name);
        let number = usize::from(self.places[at]).checked_sub(1)?;
        let known = self.known.get(number)?;
        if known.is(end, name) { Some((number, known.is_added)) } else { self.find_after(at, end, name) }
    }

    /// The same where another name has the first place.
    #[cold]
    #[inline(never)]
    fn find_after(&self, at: usize, end: u64, name: &[u8]) -> Option<(usize, bool)> {
        let mut at = at;
        loop {
            at = (at + 1) % PLACES;
            let number = usize::from(self.places[at]).checked_sub(1)?;
            let known = self.known.get(number)?;
            if known.is(end, name) {
                return Some((number, known.is_added));
            }
        }
    }
}

/// The last eight bytes as a number, fewer of a shorter name, and where to look for it.
#[inline(always)]
fn place(name: &[u8]) -> (u64, usize) {
    let end = match name.last_chunk() {
        Some(end) => u64::from_le_bytes(*end),
        None => whole(name),
    };
    let mixed = (end ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (end, (mixed >> (u64::BITS - PLACES.ilog2())) as usize)
}

/// A name of less than eight bytes as a number.
#[inline(never)]
fn whole(name: &[u8]) -> u64 {
    name.iter().fold(0, |end, byte| end << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(of: &[Vec<u8>]) -> Names {
        let mut names = Names::default();
        for name in of {
            names.add(name);
        }
        names
    }

    #[test]
    fn attributes_have_their_own_numbers() {
        let names = names(&[b"http.route".to_vec(), b"mine".to_vec(), b"http.route".to_vec()]);
        assert_eq!(names.find(b"http.route"), Some((Attribute::Route as usize, true)));
        assert_eq!(
            (names.find(b"mine"), names.numbers()),
            (Some((Attribute::COUNT, true)), Attribute::COUNT + 1)
        );
        assert_eq!(names.find(b"yours"), None);
        for (attribute, name) in Attribute::ALL {
            let found = names.find(name).unwrap();
            assert_eq!(found, (*attribute as usize, *attribute == Attribute::Route));
        }
    }

    #[test]
    fn every_byte_of_a_name_counts_whatever_its_length() {
        for length in 0..=70 {
            let mut name = vec![b'n'; length];
            let names = names(std::slice::from_ref(&name));
            assert!(names.find(&name).is_some(), "{length}");
            for at in 0..length {
                name[at] = b'm';
                assert_eq!(names.find(&name), None, "{length} {at}");
                name[at] = b'n';
            }
            name.push(b'n');
            assert_eq!(names.find(&name), None, "{length}");
        }
    }

    /// As many as the caps allow, so that many have the first place of another.
    #[test]
    fn names_whose_place_is_taken_are_found_after_it() {
        let all: Vec<Vec<u8>> = (0..90).map(|n| format!("attribute.number.{n}").into_bytes()).collect();
        let names = names(&all);
        let has_own_place = |name: &&Vec<u8>| {
            let number = usize::from(names.places[place(name).1]) - 1;
            *names.known[number].name == ***name
        };
        assert!(all.iter().filter(has_own_place).count() < all.len() - 5);
        for (n, name) in all.iter().enumerate() {
            assert_eq!(names.find(name), Some((Attribute::COUNT + n, true)));
        }
        assert!((90..2000).all(|n| names.find(format!("attribute.number.{n}").as_bytes()).is_none()));
    }

    proptest! {
        /// Few letters and all lengths, so that there are many of one length and of one end.
        #[test]
        fn what_was_added_is_found_and_nothing_else(
            all in prop::collection::vec("[ab]{0,4}|[ab]{2}.middle.of.it.[ab]{0,2}|(x{64})?a", 0..40),
        ) {
            let all: Vec<Vec<u8>> = all.into_iter().map(String::into_bytes).collect();
            let (added, others) = all.split_at(all.len() / 2);
            let names = names(added);
            for name in added.iter().chain(others) {
                let found = names.find(name).map(|(number, _)| &*names.known[number].name);
                prop_assert_eq!(found, added.contains(name).then_some(&**name));
            }
        }
    }
}
