//! What other days say of a deployment that rests on what is remembered, as the API shows it.

use serde::Serialize;

use crate::verdict::{OtherDay, OtherDays, Tally};

/// The same time of day on other days.
#[derive(Debug, Serialize)]
pub(super) struct OtherDaysView {
    /// Since the change, or since the baseline went away.
    now: TallyView,
    days: Vec<DayView>,
}

#[derive(Debug, Serialize)]
struct TallyView {
    requests: u64,
    error_ratio: Option<f64>,
    /// Shares of requests beyond three latencies, the lowest first; null where they cannot be compared.
    slow_ratios: Option<[f64; 3]>,
}

#[derive(Debug, Serialize)]
struct DayView {
    days_ago: u8,
    #[serde(flatten)]
    tally: TallyView,
    /// Whether errors, or latency, rose and are no worse than around that time of that day.
    errors_alike: bool,
    latency_alike: bool,
}

impl OtherDaysView {
    pub(super) fn new(other: &OtherDays) -> Self {
        let now = TallyView::new(&other.now, other.is_marked);
        Self { now, days: other.days.iter().map(DayView::new).collect() }
    }
}

impl TallyView {
    fn new(tally: &Tally, is_marked: bool) -> Self {
        let slow_ratios = tally.slow_rates().filter(|_| is_marked);
        Self { requests: tally.requests, error_ratio: tally.error_rate(), slow_ratios }
    }
}

impl DayView {
    fn new(day: &OtherDay) -> Self {
        Self {
            days_ago: day.days_ago,
            tally: TallyView::new(&day.tally, day.is_marked),
            errors_alike: day.errors_alike,
            latency_alike: day.latency_alike,
        }
    }
}
