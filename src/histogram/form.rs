//! One set of buckets for all versions of a service. Senders divide durations differently: exponential
//! buckets of some scale, explicit buckets with some bounds. Two versions can be compared only where all of
//! them have an edge, so the form of a service is what their divisions share. Nothing is ever interpolated.
//!
//! Exponential buckets stay on the grid of [`super::layout`] while they are fine enough for the margin that is
//! judged; coarser ones are taken as explicit buckets whose bounds are their edges.

use std::sync::Arc;

use super::exponential::{FINEST, grid_bucket};
use super::layout::{self, LOWEST};
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer};

/// Octaves of seconds that edges of coarse exponential buckets are listed for: 1 us to 9 h.
const OCTAVES: [f64; 2] = [-20.0, 15.0];

/// How one sender divides durations, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ruler<'a> {
    /// Base-2 exponential buckets of a scale of at most [`FINEST`].
    Exponential(i8),
    /// Explicit buckets.
    Explicit(&'a [f64]),
}

/// What the divisions of all senders share so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Form {
    /// No sender had buckets yet.
    #[default]
    Unknown,
    /// The grid, coarsened to this scale.
    Grid(i8),
    /// These bounds; possibly none, and then no latency can be compared.
    Bounds(Arc<[f64]>),
}

impl Form {
    /// Takes a further sender into account; answers whether the form changed. Exponential buckets wider than
    /// `margin` buckets of the grid do not stay on it.
    pub fn admit(&mut self, ruler: Ruler<'_>, margin: i32) -> bool {
        let next = match (&*self, ruler) {
            (Self::Unknown | Self::Grid(_), Ruler::Exponential(scale)) if is_fine(scale, margin) => {
                match self {
                    Self::Grid(own) if *own <= scale => return false,
                    _ => Self::Grid(scale),
                }
            }
            (Self::Unknown | Self::Grid(_), Ruler::Exponential(scale)) => Self::Bounds(edges(scale)),
            (Self::Unknown, Ruler::Explicit(bounds)) => Self::Bounds(bounds.into()),
            (Self::Grid(scale), Ruler::Explicit(bounds)) => {
                Self::Bounds(bounds.iter().copied().filter(|b| is_edge(*b, *scale)).collect())
            }
            (Self::Bounds(own), ruler) => {
                let shared = |b: &f64| match ruler {
                    Ruler::Exponential(scale) => is_edge(*b, scale),
                    Ruler::Explicit(bounds) => bounds.contains(b),
                };
                if own.iter().all(shared) {
                    return false;
                }
                Self::Bounds(own.iter().copied().filter(shared).collect())
            }
        };
        *self = next;
        true
    }

    /// What it shares with another form.
    pub fn shared(mut self, other: &Self, margin: i32) -> Self {
        match other {
            Self::Unknown => {}
            Self::Grid(scale) => _ = self.admit(Ruler::Exponential(*scale), margin),
            Self::Bounds(bounds) => _ = self.admit(Ruler::Explicit(bounds), margin),
        }
        self
    }

    /// The bounds where there are any: `None` for the grid.
    pub fn bounds(&self) -> Option<Arc<[f64]>> {
        match self {
            Self::Unknown => Some(Arc::from([])),
            Self::Grid(_) => None,
            Self::Bounds(bounds) => Some(Arc::clone(bounds)),
        }
    }

    /// The key of bucket `index` of exponential buckets of a scale that was admitted.
    pub fn of_exponential(&self, scale: i8, index: i64) -> i16 {
        match self {
            Self::Grid(own) => {
                let coarser = (scale - own).clamp(0, 31);
                grid_bucket(scale.min(*own), index >> coarser)
            }
            _ => self.above((index as f64 + 1.0) / f64::from(scale).exp2()).unwrap_or_default(),
        }
    }

    /// Where a value of 2^`log2` seconds, the upper edge of a bucket, lies among the bounds.
    fn above(&self, log2: f64) -> Option<i16> {
        let Self::Bounds(bounds) = self else { return None };
        // The edge itself is computed, so it may be a rounding error away from the bound that it is.
        let edge = log2.exp2() * (1.0 - 1e-12);
        Some(bounds.partition_point(|b| *b < edge) as i16)
    }

    /// The key of bucket `index` of explicit buckets with bounds that were admitted.
    pub fn of_explicit(&self, bounds: &[f64], index: usize) -> i16 {
        let upper = bounds.get(index).copied().unwrap_or(f64::INFINITY);
        match self {
            Self::Bounds(own) => own.partition_point(|b| *b < upper) as i16,
            Self::Grid(_) => layout::bucket_of_nanos((upper * 1e9) as u64),
            Self::Unknown => 0,
        }
    }

    /// The key of values of about 0, and of those whose duration is not known.
    pub fn lowest(&self) -> i16 {
        if matches!(self, Self::Grid(_)) { LOWEST } else { 0 }
    }

    /// The bucket of the grid in whose middle a key lies: where instances are compared by their mean.
    pub fn grid_of(&self, key: i16) -> i16 {
        let Self::Bounds(bounds) = self else { return key };
        let Ok(at) = usize::try_from(key) else { return LOWEST };
        let (lower, upper) = (at.checked_sub(1).and_then(|i| bounds.get(i)), bounds.get(at));
        let middle = match (lower, upper) {
            (Some(l), Some(u)) if *l > 0.0 => 2.0 * l * u / (l + u),
            (_, Some(u)) => u / 2.0,
            (Some(l), None) => *l,
            (None, None) => 0.0,
        };
        layout::bucket_of_nanos((middle.max(0.0) * 1e9) as u64)
    }

    /// The scale of a grid that is coarser than [`FINEST`].
    pub fn coarse_scale(&self) -> Option<i8> {
        if let Self::Grid(scale) = self { Some(*scale).filter(|scale| *scale < FINEST) } else { None }
    }
}

/// Worst relative error of a value that is read from the middle of its exponential bucket (the harmonic mean of
/// its bounds): (base - 1) / (base + 1) with base = 2^(2^-scale).
pub fn error_of_scale(scale: i8) -> f64 {
    let base = (1.0 / f64::from(scale).exp2()).exp2();
    (base - 1.0) / (base + 1.0)
}

/// Whether buckets of this scale are no wider than a margin.
fn is_fine(scale: i8, margin: i32) -> bool {
    let width =
        1_i64.checked_shl(u32::from((FINEST - scale).clamp(0, 62).unsigned_abs())).unwrap_or(i64::MAX);
    width <= i64::from(margin.max(1))
}

/// Whether a bound is an edge of exponential buckets.
fn is_edge(bound: f64, scale: i8) -> bool {
    let at = bound.log2() * f64::from(scale).exp2();
    (at - at.round()).abs() < 1e-9
}

/// All edges of a coarse scale, ascending.
fn edges(scale: i8) -> Arc<[f64]> {
    let per_octave = f64::from(scale).exp2();
    let [first, last] = OCTAVES.map(|octave| (octave * per_octave) as i32);
    (first..=last).map(|k| (f64::from(k) / per_octave).exp2()).collect()
}

impl Snapshot for Form {
    fn save(&self, out: &mut Writer) {
        match self {
            Self::Unknown => 0_u8.save(out),
            Self::Grid(scale) => {
                1_u8.save(out);
                i16::from(*scale).save(out);
            }
            Self::Bounds(bounds) => {
                2_u8.save(out);
                bounds.to_vec().save(out);
            }
        }
    }

    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(match u8::load(from)? {
            0 => Self::Unknown,
            1 => Self::Grid(i8::try_from(i16::load(from)?).map_err(|_| Corrupt::Body)?),
            2 => Self::Bounds(Vec::<f64>::load(from)?.into()),
            _ => return Err(Corrupt::Body),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARGIN: i32 = 4;

    fn form(rulers: &[Ruler<'_>]) -> Form {
        let mut form = Form::default();
        rulers.iter().for_each(|ruler| _ = form.admit(*ruler, MARGIN));
        form
    }

    #[test]
    fn x5_different_bounds_share_what_they_have_in_common() {
        use Ruler::{Explicit, Exponential};
        let bounds = |list: &[f64]| Form::Bounds(list.into());
        let cases: &[(&[Ruler<'_>], Form)] = &[
            (&[], Form::Unknown),
            (&[Exponential(5), Exponential(3), Exponential(4)], Form::Grid(3)),
            (&[Explicit(&[0.1, 0.5, 1.0]), Explicit(&[0.5, 0.75, 1.0])], bounds(&[0.5, 1.0])),
            (&[Explicit(&[0.1, 0.5, 1.0]), Explicit(&[0.1, 0.5, 1.0])], bounds(&[0.1, 0.5, 1.0])),
            (&[Exponential(5), Explicit(&[0.1, 0.5, 1.0])], bounds(&[0.5, 1.0])),
            (&[Explicit(&[0.1, 0.5, 1.0]), Exponential(0)], bounds(&[0.5, 1.0])),
            (&[Explicit(&[0.1]), Explicit(&[0.2])], bounds(&[])),
        ];
        for (rulers, expected) in cases {
            assert_eq!(form(rulers), *expected, "{rulers:?}");
        }
        // Milliseconds and seconds of the same bounds are the same bounds.
        let ms = [5.0, 10.0, 25.0, 75.0, 7500.0].map(|b| crate::model::DurationUnit::Millis.seconds(b));
        assert_eq!(form(&[Explicit(&ms), Explicit(&[0.005, 0.01, 0.025, 0.075, 7.5])]), bounds(&ms));
    }

    #[test]
    fn e4_a_coarse_scale_keeps_its_own_error() {
        let coarse = |scale| form(&[Ruler::Exponential(6), Ruler::Exponential(scale)]).coarse_scale();
        assert_eq!([3, 4, 5, 6].map(coarse), [Some(3), Some(4), None, None]);
        assert_eq!(form(&[Ruler::Explicit(&[0.1])]).coarse_scale(), None);
        let per_mille = [3, 4, 5, 6, 7].map(|scale| (error_of_scale(scale) * 1000.0).round());
        assert_eq!(per_mille, [43.0, 22.0, 11.0, 5.0, 3.0]);
    }

    #[test]
    fn e4_buckets_wider_than_the_margin_leave_the_grid() {
        let Form::Bounds(edges) = form(&[Ruler::Exponential(2)]) else { panic!("scale 2 is wider than 9 %") };
        assert!(edges.len() == 141 && edges[0] < 1e-6 && edges[140] == 32_768.0);
        let coarse = form(&[Ruler::Exponential(5), Ruler::Exponential(2)]);
        // Between 1 and 2^(1/4) s: the same key from fine and from coarse buckets.
        assert_eq!(coarse.of_exponential(5, 3), coarse.of_exponential(2, 0));
        assert_eq!(coarse.of_exponential(5, 8), coarse.of_exponential(2, 1));
    }

    /// X3: one value for a whole bucket is off by at most (u - l) / (u + l), and by half a bucket of the grid.
    #[test]
    fn x3_the_middle_of_an_explicit_bucket_stands_for_it() {
        let bounds = [0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 0.75];
        let form = form(&[Ruler::Explicit(&bounds)]);
        let value = |key: i16| layout::midpoint_seconds(form.grid_of(key));
        for (i, pair) in bounds.windows(2).enumerate() {
            let [l, u] = [pair[0], pair[1]];
            let middle = value(i as i16 + 1);
            let worst = ((middle - l) / l).max((u - middle) / u);
            assert!((worst - (u - l) / (u + l)).abs() < 0.025, "{l} to {u} s: {middle} is off by {worst}");
        }
        // Below the first bound half of it, above the last that one.
        assert!((value(0) / 0.0025 - 1.0).abs() < 0.025 && (value(7) / 0.75 - 1.0).abs() < 0.025);
    }

    #[test]
    fn keys_of_all_divisions_agree() {
        let grid = form(&[Ruler::Exponential(5), Ruler::Exponential(3)]);
        assert_eq!([0, 3, 4].map(|i| grid.of_exponential(5, i)), [3, 3, 7]);
        assert_eq!([0, 1].map(|i| grid.of_exponential(3, i)), [3, 7]);
        let shared = form(&[Ruler::Explicit(&[0.1, 0.5, 1.0]), Ruler::Explicit(&[0.25, 0.5, 1.0])]);
        assert_eq!([0, 1, 2, 3].map(|i| shared.of_explicit(&[0.1, 0.5, 1.0], i)), [0, 0, 1, 2]);
        assert_eq!((shared.lowest(), grid.lowest()), (0, LOWEST));
        let none = Form::Unknown;
        assert_eq!(none.bounds().map(|b| b.len()), Some(0));
        assert_eq!((none.of_explicit(&[1.0], 1), none.of_exponential(5, 9)), (0, 0));
    }
}
