//! The whole pipeline under a simulated clock: from spans at the intake to deployments, commits and rollbacks,
//! without I/O and with fixed seeds.

mod account;
mod blindness;
mod caps;
mod changes;
mod churn;
mod deployments;
mod dimensions;
mod door;
mod front;
mod gauge_slis;
mod lives;
mod logs;
mod metric_slis;
mod metrics;
mod metrics_changes;
mod metrics_door;
mod objectives;
mod other_days;
mod pod_metrics;
mod recorded_slis;
mod redo;
mod restarts;
mod routing;
mod scopes;
mod senders;
mod settling;
mod slis;
mod spans;
mod world;
