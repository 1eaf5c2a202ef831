//! When somebody is told, as a table. The four tiers of a 30-day objective are common practice: each needs its burn
//! rate over a long window, so that it matters, and over a short one, so that it still goes on. The two rules for
//! deployments hold while one is running or watched.

use super::record::Window;

/// Failed requests in the long window below which nothing fires: at little traffic a handful of failures is a high
/// burn rate and no reason to wake anybody.
pub const LEAST_FAILED: u64 = 10;
/// Burn rate that a service should stay below at all times. Shown, never told.
pub const TARGET_BURN: f64 = 3.0;
/// Seconds for which a review must hold before it is told, and for which any alert must be calm before it is over.
pub const HOLD_S: i64 = 300;

/// How loud an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Somebody must act now.
    Page,
    /// Somebody must look in working hours.
    Ticket,
    /// The newest deployment is put under review.
    Review,
}

impl Severity {
    /// All severities, the loudest first.
    pub const ALL: [Self; 3] = [Self::Page, Self::Ticket, Self::Review];

    /// The word used in the webhook, the API and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Ticket => "ticket",
            Self::Review => "review",
        }
    }
}

/// Which line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// 2 % of a 30-day budget in an hour.
    Burn1h,
    /// 5 % in six hours.
    Burn6h,
    /// 10 % in a day.
    Burn1d,
    /// 10 % in three days.
    Burn3d,
    /// Above 5 over 5 minutes while a deployment is running or watched.
    DeployPage,
    /// Above 2 over 5 minutes, for 5 minutes, while a deployment is running or watched.
    DeployReview,
}

impl Rule {
    /// All rules, in the order of [`TIERS`].
    pub const ALL: [Self; 6] =
        [Self::Burn1h, Self::Burn6h, Self::DeployPage, Self::Burn1d, Self::Burn3d, Self::DeployReview];

    /// The word used in the webhook and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Burn1h => "burn_1h",
            Self::Burn6h => "burn_6h",
            Self::Burn1d => "burn_1d",
            Self::Burn3d => "burn_3d",
            Self::DeployPage => "deploy_burn",
            Self::DeployReview => "deploy_review",
        }
    }

    /// Its line of the table.
    pub fn tier(self) -> &'static Tier {
        TIERS.iter().find(|tier| tier.rule == self).unwrap_or(&TIERS[0])
    }
}

/// One line of the table: fires when the burn rates over both windows are above the factor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tier {
    /// Which.
    pub rule: Rule,
    /// How loud.
    pub severity: Severity,
    /// Burn rate above which it fires.
    pub factor: f64,
    /// Shows that it matters.
    pub long: Window,
    /// Shows that it goes on.
    pub short: Window,
    /// Whether it holds only while a deployment is running or watched.
    pub deploying: bool,
    /// Seconds for which it must hold.
    pub hold_s: i64,
}

const fn tier(rule: Rule, severity: Severity, factor: f64, long: Window, short: Window) -> Tier {
    Tier { rule, severity, factor, long, short, deploying: false, hold_s: 0 }
}

/// The table. Of one severity the first that fires gives its name to the alert.
pub const TIERS: [Tier; 6] = [
    tier(Rule::Burn1h, Severity::Page, 14.4, Window::H1, Window::M5),
    tier(Rule::Burn6h, Severity::Page, 6.0, Window::H6, Window::M30),
    Tier { deploying: true, ..tier(Rule::DeployPage, Severity::Page, 5.0, Window::M5, Window::M5) },
    tier(Rule::Burn1d, Severity::Ticket, 3.0, Window::D1, Window::H2),
    tier(Rule::Burn3d, Severity::Ticket, 1.0, Window::D3, Window::H6),
    Tier {
        deploying: true,
        hold_s: HOLD_S,
        ..tier(Rule::DeployReview, Severity::Review, 2.0, Window::M5, Window::M5)
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_a_thirty_day_objective() {
        // Share of a 30-day budget that is gone when a tier fires at its factor for its long window.
        let spent = |t: &Tier| t.factor * t.long.seconds() as f64 / (30.0 * 86_400.0);
        let shares: Vec<f64> = TIERS.iter().filter(|t| !t.deploying).map(spent).collect();
        for (share, expected) in shares.iter().zip([0.02, 0.05, 0.1, 0.1]) {
            assert!((share - expected).abs() < 1e-12, "{shares:?}");
        }
        for (rule, tier) in Rule::ALL.into_iter().zip(TIERS) {
            assert_eq!(rule, tier.rule);
            assert_eq!(*rule.tier(), tier);
            assert!(tier.short.seconds() <= tier.long.seconds());
        }
    }
}
