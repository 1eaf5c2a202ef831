//! What is to be sent, and when: rows and a pure schedule. A rollback is worth little after a few minutes, so
//! the gaps are short and then it is over: the row is kept as dead, counted and logged, for a person to see.

use sha2::{Digest, Sha256};

use crate::model::{DeploymentId, NANOS_PER_SECOND, UnixNanos};

/// Seconds before each attempt: the first at once, the last a minute after the fifth.
pub const GAPS_SECONDS: [u64; 6] = [0, 1, 3, 10, 30, 60];
/// A receiver may ask for a longer pause, but not for one that outlives the purpose.
pub const LONGEST_RETRY_AFTER_SECONDS: u64 = 300;

/// When to try again after `attempts` failed ones; `None` when it is over. `retry_after_seconds` is what the
/// receiver asked for: it lengthens the gap, never shortens it.
pub fn next_attempt(attempts: u32, now: UnixNanos, retry_after_seconds: Option<u64>) -> Option<UnixNanos> {
    let gap = *GAPS_SECONDS.get(attempts as usize)?;
    let asked = retry_after_seconds.unwrap_or(0).min(LONGEST_RETRY_AFTER_SECONDS);
    Some(now.plus_nanos(gap.max(asked) * NANOS_PER_SECOND))
}

/// The id of a row, and of its webhook on every attempt, from what caused it (a deployment by its id, an alert by what
/// it is about): the same cause gives the same id, on any machine. No `.` in it (Standard Webhooks 1.0).
pub fn outbox_id(cause: &str, kind: &str, endpoint: &str) -> String {
    let mut digest = Sha256::new();
    for part in [cause, kind, endpoint] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    let mut id = String::from("msg_");
    for byte in digest.finalize().iter().take(16) {
        id.push_str(&format!("{byte:02x}"));
    }
    id
}

/// Something to send, as the decision's transaction writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOutboxRow {
    /// [`outbox_id`].
    pub id: String,
    /// The deployment that it is about, if any.
    pub deployment_id: Option<DeploymentId>,
    /// What it is, for example `rollback`.
    pub kind: String,
    /// Name of the configured endpoint. Its address is looked up at each attempt.
    pub endpoint: String,
    /// The exact bytes to send.
    pub body: Vec<u8>,
}

/// Where a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxState {
    /// To be sent.
    Pending,
    /// Answered with success.
    Delivered,
    /// Given up.
    Dead,
}

impl OutboxState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Dead];

    /// The word in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// A row as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// What was to be sent.
    pub new: NewOutboxRow,
    /// When it was written.
    pub created_at: UnixNanos,
    /// Attempts that were finished.
    pub attempts: u32,
    /// When the next attempt is due, while pending.
    pub next_at: UnixNanos,
    /// Where it stands.
    pub state: OutboxState,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When it was delivered.
    pub delivered_at: Option<UnixNanos>,
}

/// How an attempt ended, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The receiver has it.
    Delivered,
    /// Not yet; again at `next_at`.
    Retry {
        /// When.
        next_at: UnixNanos,
        /// What went wrong.
        error: String,
    },
    /// Never; what went wrong.
    Dead(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gaps_of_the_schedule() {
        let now = UnixNanos::from_secs(1000);
        for (attempts, retry_after, seconds) in [
            (0, None, Some(0)),
            (1, None, Some(1)),
            (2, None, Some(3)),
            (3, None, Some(10)),
            (4, None, Some(30)),
            (5, None, Some(60)),
            (6, None, None),
            (6, Some(5), None),
            (u32::MAX, None, None),
            // Asking for longer is granted within reason, for shorter is not.
            (1, Some(20), Some(20)),
            (4, Some(2), Some(30)),
            (1, Some(86_400), Some(300)),
        ] {
            let expected = seconds.map(|s| UnixNanos::from_secs(1000 + s));
            assert_eq!(next_attempt(attempts, now, retry_after), expected, "{attempts} {retry_after:?}");
        }
    }

    #[test]
    fn an_id_follows_from_its_cause() {
        assert_eq!(outbox_id("d1", "rollback", "deployer"), outbox_id("d1", "rollback", "deployer"));
        let all = [
            outbox_id("d1", "rollback", "deployer"),
            outbox_id("d2", "rollback", "deployer"),
            outbox_id("d1", "rollbackd", "eployer"),
            outbox_id("d1", "notice", "deployer"),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(a.starts_with("msg_") && a.len() == 36 && !a.contains('.'), "{a}");
            assert!(all[i + 1..].iter().all(|b| a != b));
        }
    }
}
