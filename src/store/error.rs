//! What can go wrong with the database file, in words that say what to do.

use std::path::PathBuf;

/// Failed to use the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or its directory cannot be used.
    #[error("open the database {path}: the file and its directory must exist and be writable")]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        cause: rusqlite::Error,
    },
    /// The file is something else.
    #[error("open the database {path}: this is not a Rollguard database; move it away or name another file")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another process has it.
    #[error("open the database {path}: another process is using it; one Rollguard per database")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer program.
    #[error(
        "open the database {path}: written by a newer Rollguard (schema {found}, this one knows {known}); \
         use that version or name another file"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Schema of the file.
        found: i64,
        /// Newest schema that this program knows.
        known: i64,
    },
    /// A statement failed.
    #[error("{doing}")]
    Sql {
        /// What was being done.
        doing: &'static str,
        /// What SQLite says.
        #[source]
        cause: rusqlite::Error,
    },
}

impl StoreError {
    /// For `map_err`: what was being done when a statement failed.
    pub(super) fn sql(doing: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |cause| Self::Sql { doing, cause }
    }
}
