//! What one group of slots adds to the evidence. A [`Term`] holds the numbers that went in, so that the log
//! of a decision can be summed again later; [`Term::add_to`] turns it into nats for each step of a ladder of
//! effect sizes.

use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer};

/// Most steps a ladder has.
pub const STEPS: usize = 10;

/// Nats per step of a ladder; unused steps stay 0.
pub type Steps = [f64; STEPS];

/// Effect sizes relative to the margin, uniform prior: how much worse the candidate may be.
pub const LADDER: [f64; 10] = [1.15, 1.35, 1.7, 2.3, 3.3, 5.0, 8.0, 14.0, 30.0, 100.0];
/// The same for fewer: the reciprocals of [`LADDER`].
pub const LADDER_BELOW: [f64; 10] = [
    1.0 / 1.15,
    1.0 / 1.35,
    1.0 / 1.7,
    1.0 / 2.3,
    1.0 / 3.3,
    1.0 / 5.0,
    1.0 / 8.0,
    1.0 / 14.0,
    1.0 / 30.0,
    1.0 / 100.0,
];
/// Effect sizes of the reversed test: how much better than "unacceptable" the candidate may be.
pub const LADDER_PASS: [f64; 5] = [0.85, 0.7, 0.5, 0.3, 0.1];
/// Odds ratios of the two-sample Bernoulli form.
pub const ODDS: [f64; 8] = [1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];

/// Requests and bad ones of candidate (`c`) and baseline (`b`), and the parameters that were fixed before
/// they were read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Term {
    /// Null: the candidate's bad rate is at most `r0` times the baseline's, plus `delta`. Equation (2);
    /// `c` is the incident size.
    RateRatio {
        /// Candidate requests.
        n_c: f64,
        /// Candidate bad ones.
        x_c: f64,
        /// Baseline requests.
        n_b: f64,
        /// Baseline bad ones.
        x_b: f64,
        /// Tolerated ratio.
        r0: f64,
        /// Tolerated absolute increase.
        delta: f64,
        /// Incident size, at least 1.
        c: f64,
    },
    /// Null: the candidate's bad rate is at most the baseline's, for frequent events. Equation (4); `p` is
    /// the predicted baseline rate, `phi` the dispersion.
    Bernoulli {
        /// Candidate requests.
        n_c: f64,
        /// Candidate bad ones.
        x_c: f64,
        /// Baseline requests.
        n_b: f64,
        /// Baseline bad ones.
        x_b: f64,
        /// Predicted baseline rate.
        p: f64,
        /// Dispersion, at least 1.
        phi: f64,
    },
    /// Null: the candidate's bad rate is at most `p0` (ladder above 1) or at least `p0` (below 1). Section 6.
    OneSample {
        /// Candidate requests.
        n: f64,
        /// Candidate bad ones.
        x: f64,
        /// The rate of the null.
        p0: f64,
        /// Incident size, at least 1.
        c: f64,
    },
    /// Null: the candidate's rate is at least `p0`. The same form on a ladder below 1.
    OneSampleBelow {
        /// Candidate requests.
        n: f64,
        /// Candidate events.
        x: f64,
        /// The rate of the null.
        p0: f64,
        /// Incident size, at least 1.
        c: f64,
    },
}

impl Term {
    /// The ladder this term is judged on when the question is "worse?".
    pub fn ladder(&self) -> &'static [f64] {
        match self {
            Self::Bernoulli { .. } => &ODDS,
            Self::RateRatio { .. } | Self::OneSample { .. } => &LADDER,
            Self::OneSampleBelow { .. } => &LADDER_BELOW,
        }
    }

    /// Candidate requests, bad ones, baseline requests, bad ones.
    pub fn counts(&self) -> [f64; 4] {
        match *self {
            Self::RateRatio { n_c, x_c, n_b, x_b, .. } | Self::Bernoulli { n_c, x_c, n_b, x_b, .. } => {
                [n_c, x_c, n_b, x_b]
            }
            Self::OneSample { n, x, .. } | Self::OneSampleBelow { n, x, .. } => [n, x, 0.0, 0.0],
        }
    }

    /// Adds this term's nats on `ladder` to `sum`.
    pub fn add_to(&self, sum: &mut Steps, ladder: &[f64]) {
        for (total, &g) in sum.iter_mut().zip(ladder) {
            *total += self.nats(g);
        }
    }

    /// Nats for one step of a ladder.
    pub fn nats(&self, g: f64) -> f64 {
        match *self {
            Self::RateRatio { n_c, x_c, n_b, x_b, r0, delta, c } => {
                let b = (n_c * r0 + n_b) / (n_c * r0 * g + n_b);
                let a = g * b;
                -delta * n_c * (a - 1.0) / c + events(x_c, a, c) + events(x_b, b, c)
            }
            Self::Bernoulli { n_c, x_c, n_b, x_b, p, phi } => {
                let odds = g * p / (1.0 - p);
                let q = odds / (1.0 + odds);
                let p0 = (n_c * q + n_b * p) / (n_c + n_b);
                let candidate = x_c * (q / p0).ln() + (n_c - x_c) * ((1.0 - q) / (1.0 - p0)).ln();
                let baseline = x_b * (p / p0).ln() + (n_b - x_b) * ((1.0 - p) / (1.0 - p0)).ln();
                (candidate + baseline) / phi
            }
            Self::OneSample { n, x, p0, c } | Self::OneSampleBelow { n, x, p0, c } => {
                -n * p0 * (g - 1.0) / c + events(x, g, c)
            }
        }
    }
}

/// x ln z with z of equation (2), nothing for no events.
fn events(x: f64, ratio: f64, c: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x * (c * ratio / (1.0 + ratio * (c - 1.0))).ln() }
}

/// Upper bound of a remembered rate: `factor` times an upper 99.8 % Poisson bound. Equation (5).
pub fn upper_bound(x: f64, n: f64, factor: f64) -> f64 {
    factor * ((x + 1.0).sqrt() + 1.5).powi(2) / n
}

/// Lower bound of a remembered rate, for PASS. Section 7.3.
pub fn lower_bound(x: f64, n: f64) -> f64 {
    (x.sqrt() - 1.5).max(0.0).powi(2) / n
}

impl Snapshot for Term {
    fn save(&self, out: &mut Writer) {
        match *self {
            Self::RateRatio { n_c, x_c, n_b, x_b, r0, delta, c } => {
                0u8.save(out);
                [n_c, x_c, n_b, x_b, r0, delta, c].save(out);
            }
            Self::Bernoulli { n_c, x_c, n_b, x_b, p, phi } => {
                1u8.save(out);
                [n_c, x_c, n_b, x_b, p, phi].save(out);
            }
            Self::OneSample { n, x, p0, c } => {
                2u8.save(out);
                [n, x, p0, c].save(out);
            }
            Self::OneSampleBelow { n, x, p0, c } => {
                3u8.save(out);
                [n, x, p0, c].save(out);
            }
        }
    }

    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        match u8::load(from)? {
            0 => {
                let [n_c, x_c, n_b, x_b, r0, delta, c] = Snapshot::load(from)?;
                Ok(Self::RateRatio { n_c, x_c, n_b, x_b, r0, delta, c })
            }
            1 => {
                let [n_c, x_c, n_b, x_b, p, phi] = Snapshot::load(from)?;
                Ok(Self::Bernoulli { n_c, x_c, n_b, x_b, p, phi })
            }
            2 => {
                let [n, x, p0, c] = Snapshot::load(from)?;
                Ok(Self::OneSample { n, x, p0, c })
            }
            3 => {
                let [n, x, p0, c] = Snapshot::load(from)?;
                Ok(Self::OneSampleBelow { n, x, p0, c })
            }
            _ => Err(Corrupt::Body),
        }
    }
}
