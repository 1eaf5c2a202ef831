//! What is done about a fail, or about an error budget that burns: a signed webhook to whoever can roll back, or look.
//! It is written to the durable outbox together with the decision and sent from there until it is answered, so a crash sends it later under the
//! same id, never under two.
//!
//! `config.rs` what a user sets | `body.rs`, `alert.rs` the messages | `sign.rs` Standard Webhooks signatures | `guard.rs`
//! where we refuse to connect | `webhook.rs` one attempt and what its answer means | `worker.rs` the loop
//! over the outbox.

mod alert;
mod body;
mod config;
mod guard;
mod sign;
mod webhook;
mod worker;

pub use alert::{KIND_ALERT_FIRING, KIND_ALERT_RESOLVED, alert_body, alert_kind};
pub use body::{BODY_BYTES, KIND_ROLLBACK, Links, fail_body};
pub use config::WebhookConfig;
pub use guard::{AddressPolicy, Refused};
pub use sign::{Secret, SecretError, TOLERANCE_SECONDS, VerifyError, sign, verify};
pub use webhook::{AttemptResult, Webhook, WebhookError};
pub use worker::{Endpoints, Worker};
