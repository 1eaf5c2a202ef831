//! Objectives: what share of requests must be good over 28 or 30 days, how fast the budget of failures that
//! this allows is spent, and when somebody must be told. One objective belongs to a service, or to a journey: a
//! named set of its operations.
//!
//! A [`Record`] counts requests and failures in coarse steps and how long we were there to see them; a window of it
//! gives a burn rate ([`Tally::burn`]) and the whole of it a [`Budget`]. [`Alerts`] is the state machine over the
//! [`Tier`]s: pages and tickets, each told once when it begins and once when it is over.
//!
//! Not a word of this reaches the judge: alpha, thresholds and verdicts are the same with and without objectives.
//! What was not seen, because we were stopped or nothing was sent, is neither good nor bad: no alert fires or ends by
//! it, and it is shown as a completeness below 1.

mod alert;
mod budget;
mod record;
mod tier;

pub use alert::{Alerts, Change, Ended, Episode, Situation};
pub use budget::{Budget, Spent, budget};
pub use record::{Record, Tally, Window};
pub use tier::{HOLD_S, LEAST_FAILED, Rule, Severity, TARGET_BURN, TIERS, Tier};

#[cfg(test)]
mod alert_tests;
