//! The directory in which the queues of one process live: a folder for each, and a lock file, so that no second
//! process sends the same messages.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::SpoolError;

const LOCK: &str = "lock";

/// Where queues are kept on disk. Names and defaults are those of the Collector's `file_storage` extension where
/// it has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileStorageConfig {
    /// The directory; it is made when it is not there.
    pub directory: PathBuf,
    /// Whether a message is on the disk, and not only in the page cache, before its sender is answered: safe against a
    /// loss of power, and slower. A kill of the process loses nothing either way.
    pub fsync: bool,
    /// Bytes of the file system that the queues leave free, for the database of decisions above all.
    pub reserve_bytes: u64,
}

impl Default for FileStorageConfig {
    fn default() -> Self {
        Self { directory: PathBuf::from("rollguard-queues"), fsync: false, reserve_bytes: 256 << 20 }
    }
}

/// A directory of queues that this process has to itself until this is dropped.
#[derive(Debug)]
pub struct SpoolDirectory {
    path: PathBuf,
    /// Closing the file gives up the lock.
    _lock: File,
}

impl SpoolDirectory {
    /// Makes the directory where it is not there and locks it.
    ///
    /// # Errors
    /// When it cannot be used, or another process has it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, SpoolError> {
        let path = path.into();
        let failed = |cause| SpoolError::Directory { path: path.clone(), cause };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(SpoolError::Locked { path }),
            Err(TryLockError::Error(cause)) => Err(SpoolError::Directory { path, cause }),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the queue with this name, whatever characters are in it.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.path.join(file_name(name))
    }

    /// Folders with segments in them that are none of these names: queues whose exporter is no longer configured.
    /// What is in them is not sent until it is again.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn left_behind(&self, names: &[String]) -> Result<Vec<PathBuf>, SpoolError> {
        let known: Vec<PathBuf> = names.iter().map(|name| self.folder(name)).collect();
        let failed = |cause| SpoolError::Directory { path: self.path.clone(), cause };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let holds_segments = path.is_dir() && !known.contains(&path) && holds_segments(&path);
            found.extend(holds_segments.then_some(path));
        }
        found.sort();
        Ok(found)
    }
}

fn holds_segments(path: &Path) -> bool {
    super::segment::Files::new(path.to_owned()).list().is_ok_and(|ids| !ids.is_empty())
}

/// A name as a file's: all but letters, digits and `-_.` as `%` and two hexadecimal digits, and so is a dot in
/// front.
fn file_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'.' if at == 0 => out.push_str("%2e"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Log, LogConfig};
    use super::*;

    #[test]
    fn names_become_folders_of_their_own_below_the_directory() {
        let table = [
            ("otlp_grpc", "otlp_grpc"),
            // As exporters name theirs; a process finds what an earlier version left in them.
            ("otlp_grpc traces", "otlp_grpc%20traces"),
            ("otlp_http/eu-1 profiles", "otlp_http%2feu-1%20profiles"),
            ("otlp_grpc@https://b.example:4317 logs", "otlp_grpc%40https%3a%2f%2fb.example%3a4317%20logs"),
            ("otlp_grpc/backup", "otlp_grpc%2fbackup"),
            ("..", "%2e."),
            ("a%2fb", "a%252fb"),
            ("ü", "%c3%bc"),
        ];
        for (name, expected) in table {
            assert_eq!(file_name(name), expected);
        }
    }

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let first = SpoolDirectory::open(&path).unwrap();
        let second = SpoolDirectory::open(&path).unwrap_err();
        assert!(second.to_string().contains("another Rollguard is using it"), "{second}");
        drop(first);
        SpoolDirectory::open(&path).unwrap();
    }

    #[test]
    fn a_file_in_its_place_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let error = SpoolDirectory::open(&path).unwrap_err().to_string();
        assert!(error.contains("file") && error.contains("must be a directory"), "{error}");
    }

    #[test]
    fn queues_of_exporters_that_are_gone_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let directory = SpoolDirectory::open(folder.path()).unwrap();
        let config = LogConfig { segment_bytes: 1 << 20, reserve_bytes: 0, fsync: false, seed: 1 };
        for name in ["otlp_grpc traces", "otlp_grpc/old traces", "empty"] {
            let (mut log, _) = Log::open(directory.folder(name), config).unwrap();
            if name != "empty" {
                log.append(b"", b"message", 1).unwrap();
            }
        }
        let left = directory.left_behind(&["otlp_grpc traces".to_owned()]).unwrap();
        assert_eq!(left, [directory.folder("otlp_grpc/old traces")]);
    }
}
