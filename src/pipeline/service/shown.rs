//! What a service shows on the board.

use super::Service;
use crate::model::UnixNanos;
use crate::pipeline::board::{MetricsSide, ServiceBoard, VersionBoard};

impl Service {
    /// Seconds between two exports of its request metrics, once they are known.
    pub(in crate::pipeline) fn metrics_interval_s(&self, now: UnixNanos) -> Option<i64> {
        Some(self.metered.as_ref()?.board(now)?.slot_seconds)
    }

    fn metrics_side(&self, now: UnixNanos) -> Option<MetricsSide> {
        let side = self.metered.as_ref()?.board(now)?;
        let sides = self.versions.values().filter_map(|version| version.metered.as_ref());
        let busiest = sides.max_by_key(|side| side.last_seconds(300)[0]);
        Some(MetricsSide { bounds: busiest.and_then(|side| side.memory.bound_tests()), ..side })
    }

    pub(in crate::pipeline) fn board(&self, now: UnixNanos) -> ServiceBoard {
        let slo = self.policy.slo;
        let live = self.versions.iter().filter(|(_, v)| !v.ended);
        let next = self.next_slots();
        let mut versions: Vec<VersionBoard> = live.map(|(label, v)| v.board(label, next, slo)).collect();
        self.logs.iter().for_each(|logs| logs.show(&mut versions));
        ServiceBoard {
            key: (*self.key).clone(),
            versions,
            lateness_seconds: self.lateness.current_seconds(),
            completeness: self.completeness(now),
            slo,
            metrics: self.metrics_side(now),
            sli_metrics: self.sli_metrics(),
        }
    }
}
