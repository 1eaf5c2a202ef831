//! Patterns in which `*` stands for any characters, and how specific one is: of two patterns that fit, the one
//! that says more about the text wins.

/// How much a pattern says about the text that it fits: nothing, some characters, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::pipeline) enum Rank {
    /// Left out, or nothing but `*`.
    Any,
    /// A pattern with this many characters beside its `*`.
    Pattern(usize),
    /// The text itself.
    Exact,
}

/// How specific a pattern is that fits `text`; `None` where it does not fit. A pattern that is left out fits all.
pub(in crate::pipeline) fn rank(pattern: Option<&str>, text: &str) -> Option<Rank> {
    let Some(pattern) = pattern else { return Some(Rank::Any) };
    if !glob(pattern, text) {
        return None;
    }
    Some(match pattern.bytes().filter(|b| *b != b'*').count() {
        _ if !pattern.contains('*') => Rank::Exact,
        0 => Rank::Any,
        letters => Rank::Pattern(letters),
    })
}

/// Whether `text` fits `pattern`, in which `*` stands for any characters, also none. Linear in practice:
/// only the last `*` is ever retried.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), retry) {
            (Some(b'*'), _) => {
                retry = Some((p + 1, t));
                p += 1;
            }
            (Some(c), _) if *c == text[t] => {
                p += 1;
                t += 1;
            }
            (_, Some((after_star, from))) => {
                retry = Some((after_star, from + 1));
                p = after_star;
                t = from + 1;
            }
            _ => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        let rows = [
            ("checkout", "checkout", true),
            ("checkout", "checkout2", false),
            ("*", "", true),
            ("pay*", "payments", true),
            ("pay*", "repay", false),
            ("*-api", "orders-api", true),
            ("*-api", "orders-api-v2", false),
            ("a*b*c", "axxbyybc", true),
            ("a*b*c", "axxbyyb", false),
            ("", "x", false),
        ];
        for (pattern, text, expected) in rows {
            assert_eq!(glob(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn what_says_more_ranks_higher() {
        let of = |pattern| rank(pattern, "checkout-eu");
        let ascending = [
            of(None),
            of(Some("check*")),
            of(Some("checkout*")),
            of(Some("check*out-eu")),
            of(Some("checkout-eu")),
        ];
        assert!(ascending.windows(2).all(|pair| pair[0].is_some() && pair[0] < pair[1]), "{ascending:?}");
        assert_eq!((of(Some("*")), of(Some("cart*"))), (Some(Rank::Any), None));
        assert_eq!(rank(Some(""), ""), Some(Rank::Exact), "services without a namespace");
    }
}
