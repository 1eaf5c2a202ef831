//! What can go wrong with a queue on disk, and what the one who runs it can do about it.

use std::io;
use std::path::PathBuf;

/// Failed to open a queue.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The directory cannot be made or read.
    #[error("use the queue directory {}: it must be a directory that this user may write", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// Another process has it.
    #[error(
        "lock the queue directory {}: another Rollguard is using it; end that one or give each its own \
         directory",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Written by another version of Rollguard.
    #[error(
        "read {}: it has version {found} of the queue's format and this Rollguard knows version {known}; run \
         the Rollguard that wrote it until the queue is empty, or move the file away. It is left as it is",
        path.display()
    )]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The segment.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// The thread that reads and writes cannot be started.
    #[error("start the thread of the queue in {}", path.display())]
    Thread {
        /// The directory of the queue.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
}

/// Failed to append a message; the queue is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// What is free of the file system is kept for other things.
    #[error("keep {reserve} bytes of the file system free: {free} are left")]
    Reserve {
        /// Bytes free.
        free: u64,
        /// Bytes to be kept free.
        reserve: u64,
    },
    /// The metadata is longer than 64 KiB or the body than 4 GiB.
    #[error("keep a message of more than 64 KiB of metadata or 4 GiB")]
    TooLarge,
    /// The file cannot be written.
    #[error("write the queue")]
    Io(#[source] io::Error),
    /// The queue was closed.
    #[error("write to a queue that is closed")]
    Closed,
}

impl AppendError {
    /// One word for a metric.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Reserve { .. } => "reserve",
            Self::TooLarge => "too_large",
            Self::Io(_) => "io",
            Self::Closed => "closed",
        }
    }
}
