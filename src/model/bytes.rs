//! Comparing short texts: the names and values of attributes have some ten bytes, for which a call of the C library's
//! comparison costs more than the comparison.

/// Whether two texts are the same.
#[inline]
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // The ends first: names of one namespace differ there. What is left goes in eights from the beginning, and
    // the last of them may reach into the end.
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(x), Some(y)) => x == y && a.chunks_exact(8).zip(b.chunks_exact(8)).all(|(x, y)| x == y),
        _ => match (a.last_chunk::<4>(), b.last_chunk::<4>()) {
            (Some(x), Some(y)) => x == y && a.first_chunk::<4>() == b.first_chunk::<4>(),
            _ => a.iter().zip(b).all(|(x, y)| x == y),
        },
    }
}

/// Whether a text begins with another.
#[inline]
pub(super) fn begins(text: &[u8], with: &[u8]) -> bool {
    text.get(..with.len()).is_some_and(|beginning| same(beginning, with))
}

/// Whether a text ends with another.
#[inline]
pub(super) fn ends(text: &[u8], with: &[u8]) -> bool {
    text.len().checked_sub(with.len()).is_some_and(|at| same(&text[at..], with))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        let text: Vec<u8> = (0..40).collect();
        for length in 0..=text.len() {
            let (a, mut b) = (&text[..length], text[..length].to_vec());
            assert!(same(a, &b) && begins(&text, &b) && ends(a, &b) && ends(a, b""));
            assert!(!same(a, &text[..(length + 1) % 40]), "{length}");
            for at in 0..length {
                b[at] ^= 1;
                assert!(!same(a, &b) && !begins(&text, &b) && !ends(a, &b), "{length} {at}");
                b[at] ^= 1;
            }
            b.push(7);
            assert!(!begins(a, &b) && !ends(a, &b), "{length}");
        }
    }
}
