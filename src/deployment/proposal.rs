//! What a fail asks whoever gets the webhook to do. Rollguard changes nothing by itself, and going back is not always
//! the way out: a migration that is undone half way, or a policy that is opened again, does more harm than the fault.

/// What the webhook of a fail proposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Proposal {
    /// Go back to the baseline; of a change without a version, undo it.
    #[default]
    Rollback,
    /// Do nothing: a person is told and decides.
    Tell,
    /// Go neither on nor back: hold the rollout or the migration where it is.
    Freeze,
    /// Switch the feature flag off; the version stays.
    FlagOff,
}

impl Proposal {
    /// All proposals.
    pub const ALL: [Self; 4] = [Self::Rollback, Self::Tell, Self::Freeze, Self::FlagOff];

    /// The word in the configuration and in the webhook's `data.proposal`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Tell => "tell",
            Self::Freeze => "freeze",
            Self::FlagOff => "flag_off",
        }
    }

    /// The `type` of the message. Each proposal has one of its own, so that a receiver that only knows how to roll
    /// back does not do so where that would harm.
    pub const fn message_type(self) -> &'static str {
        match self {
            Self::Rollback => "rollguard.rollback",
            Self::Tell => "rollguard.tell",
            Self::Freeze => "rollguard.freeze",
            Self::FlagOff => "rollguard.flag_off",
        }
    }
}
