//! Finds the few names of attributes that conditions are about among the many that records carry. Most are turned away
//! by their length; of the others the last eight bytes are looked up, as one number, because names of one namespace
//! differ at their end. Those that are read of every request are recognised anyway and not looked up again.

use crate::model::attribute::Attribute;
use crate::model::bytes::same;

/// Names and their numbers: an [`Attribute`] has its own, the others follow as they were added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// Which attributes are among them.
    attributes: u32,
    /// Which lengths there are, modulo 64: of all and of the others.
    all_lengths: u64,
    lengths: u64,
    /// The others by a hash of the end and the length, else in the next free place.
    places: [Place; PLACES],
    others: Vec<Box<[u8]>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Place {
    end: u64,
    /// Which of the others, plus 1; 0 of a free place.
    other: u8,
}

/// More than twice what the caps on conditions and quantities allow, so that most places are free.
const PLACES: usize = 256;

const _: () = assert!(Attribute::COUNT <= u32::BITS as usize);

impl Default for Names {
    fn default() -> Self {
        Self {
            attributes: 0,
            all_lengths: 0,
            lengths: 0,
            places: [Place::default(); PLACES],
            others: Vec::new(),
        }
    }
}

impl Names {
    /// The number of a name, which is added unless it is there. There must be fewer than half as many as places.
    pub(super) fn add(&mut self, name: &[u8]) -> usize {
        self.all_lengths |= 1 << (name.len() % 64);
        if let Some(attribute) = Attribute::named(name) {
            self.attributes |= 1 << attribute as u32;
            return attribute as usize;
        }
        self.find_other(name).unwrap_or_else(|| {
            let (end, mut at) = place(name);
            while self.places[at].other != 0 {
                at = (at + 1) % PLACES;
            }
            self.others.push(name.into());
            debug_assert!(self.others.len() < PLACES / 2);
            self.places[at] = Place { end, other: self.others.len() as u8 };
            self.lengths |= 1 << (name.len() % 64);
            self.numbers() - 1
        })
    }

    /// Whether there may be a name of this length.
    #[inline]
    pub(super) const fn has_length(&self, length: usize) -> bool {
        self.all_lengths & 1 << (length % 64) != 0
    }

    /// Numbers are below this.
    pub(super) const fn numbers(&self) -> usize {
        Attribute::COUNT + self.others.len()
    }

    /// The number of a name; `attribute` is the attribute of that name.
    #[inline(always)]
    pub(super) fn find(&self, attribute: Option<Attribute>, name: &[u8]) -> Option<usize> {
        match attribute {
            Some(attribute) => (self.attributes & 1 << attribute as u32 != 0).then_some(attribute as usize),
            None => self.find_other(name),
        }
    }

    #[inline(always)]
    fn find_other(&self, name: &[u8]) -> Option<usize> {
        if self.lengths & 1 << (name.len() % 64) == 0 {
            return None;
        }
        let (wanted, mut at) = place(name);
        loop {
            let Place { end, other } = self.places[at];
            let other = usize::from(other).checked_sub(1)?;
            if end == wanted && same(&self.others[other], name) {
                return Some(Attribute::COUNT + other);
            }
            at = (at + 1) % PLACES;
        }
    }
}

/// The last eight bytes as a number, fewer of a shorter name, and where to look for it.
#[inline(always)]
fn place(name: &[u8]) -> (u64, usize) {
    let end = match name.last_chunk() {
        Some(end) => u64::from_le_bytes(*end),
        None => name.iter().fold(0, |end, byte| end << 8 | u64::from(*byte)),
    };
    let mixed = (end ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (end, (mixed >> (u64::BITS - PLACES.ilog2())) as usize)
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
        let find = |name| names.find(Attribute::named(name), name);
        assert_eq!(find(b"http.route"), Some(Attribute::Route as usize));
        assert_eq!((find(b"mine"), names.numbers()), (Some(Attribute::COUNT), Attribute::COUNT + 1));
        assert_eq!(find(b"url.path"), None);
        assert_eq!([4, 8, 10].map(|length| names.has_length(length)), [true, false, true]);
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
                let found = names.find(None, name).map(|number| &*names.others[number - Attribute::COUNT]);
                prop_assert_eq!(found, added.contains(name).then_some(&**name));
            }
        }
    }
}
