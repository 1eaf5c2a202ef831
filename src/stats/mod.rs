//! Tests that stay valid however often one looks: increments of e-processes, the processes themselves, and
//! how several are combined. All evidence is in nats. `docs/statistics.md` derives every formula; numbers in
//! parentheses in the docs of the functions are its equation numbers.

mod combine;
mod increment;
mod logsum;
mod process;
mod ranks;

pub use combine::{degraded_list, ratio_interval, score};
pub use increment::{LADDER, LADDER_BELOW, LADDER_PASS, ODDS, STEPS, Steps, Term, lower_bound, upper_bound};
pub use logsum::{ln_add_exp, ln_sum_exp};
pub use process::{
    BLOCK_S, EProcess, RESTART_S, Rhythm, WATCH_RESTART_S, WatchProcess, block_cap, watch_unit,
};
pub use ranks::{RANK_ODDS, ln_rank_evidence, ln_rank_ratio};

/// ln of the Shiryaev-Roberts statistic at which watch mode fires: 43,200 minutes, that is 30 days, between
/// false alarms of one version.
pub fn watch_threshold() -> f64 {
    43_200f64.ln()
}
