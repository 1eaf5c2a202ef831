//! A deployment: one candidate version held against one baseline, from its first request to its end; or, where a
//! change carries no version, a service after a time held against what it showed before. A pure state machine; the
//! pipeline feeds it, the store keeps it.

mod choice;
mod lifecycle;
mod proposal;
mod record;

pub use choice::{
    BaselineMerge, CHANGE_AHEAD_S, CHANGE_BACK_S, FRESH_START_SECONDS, KNOWN_REQUESTS, KNOWN_SECONDS,
    LABEL_BYTES, LINK_BYTES, Merged, RequestError, Resolution, Sighting, check_request, check_time,
    choose_baseline, merge_request, resolve_service, starts_deployment,
};
pub use lifecycle::{
    Beginning, Event, HISTORY_LINES, RECOVERY_SECONDS, Step, is_version, recovery_deadline, transition,
};
pub use proposal::Proposal;
pub use record::{Action, Deployment, Kind, Mode, Origin, Phase, Request, Transition};
