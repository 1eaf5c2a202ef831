//! The judge: slots of two versions in, evidence and a verdict out. Pure; see `docs/statistics.md`.

mod evidence;
mod explain;
mod policy;
mod words;

pub use evidence::{Evidence, Flag, Sli, SliEvidence, Verdict};
pub use explain::{ExplainInput, Waiting, explain};
pub use policy::Policy;
