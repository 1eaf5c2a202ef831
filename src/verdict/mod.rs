//! The judge: slots of two versions in, evidence and a verdict out. Pure; see `docs/statistics.md`.

mod evidence;
mod policy;

pub use evidence::{Evidence, Flag, Sli, SliEvidence, Verdict};
pub use policy::Policy;
