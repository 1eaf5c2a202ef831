//! Where the database lives, as a user writes it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The `store` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// The database file; it is made when it is not there. Its folder must be writable.
    pub path: PathBuf,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { path: PathBuf::from("rollguard.db") }
    }
}
