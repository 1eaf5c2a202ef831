//! The `file` exporter: messages behind one another in a file that `rollguard replay` and the Collector's own
//! tools read. At a size the file is put aside under a number and a new one begun, so that what it takes is
//! bounded.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::FileConfig;
use super::super::compress::Payload;
use super::super::config::FileFormat;
use super::{Failure, Taken, json};
use crate::pipeline::DataType;

/// A file that the queues of all kinds of data write to.
#[derive(Debug, Clone)]
pub(in crate::forward) struct File {
    data: DataType,
    sink: Arc<Sink>,
}

#[derive(Debug)]
struct Sink {
    config: FileConfig,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    file: fs::File,
    bytes: u64,
}

impl File {
    pub(in crate::forward) fn new(data: DataType, config: &FileConfig) -> Self {
        Self { data, sink: Arc::new(Sink { config: config.clone(), open: Mutex::default() }) }
    }

    /// The same file for another kind of data.
    pub(in crate::forward) fn also_for(&self, data: DataType) -> Self {
        Self { data, sink: Arc::clone(&self.sink) }
    }

    pub(super) async fn write(&self, payload: &Payload) -> Result<Taken, Failure> {
        let (data, sink, message) = (self.data, Arc::clone(&self.sink), payload.plain());
        let written = tokio::task::spawn_blocking(move || match sink.config.format {
            FileFormat::Proto => {
                sink.append(&message).map_err(|error| Failure::passing("io", error.to_string()))
            }
            FileFormat::Json => match json::of(data, &message) {
                Ok(line) => sink.append(line.as_bytes()).map_err(|e| Failure::passing("io", e.to_string())),
                Err(error) => {
                    Err(Failure::for_good("invalid", format!("no JSON of it: {error}; use format: proto")))
                }
            },
        });
        match written.await {
            Ok(outcome) => outcome.map(|()| Taken::default()),
            Err(error) => Err(Failure::passing("io", error.to_string())),
        }
    }
}

impl Sink {
    /// Appends one message. Half a message that could not be finished is taken back, for what follows would not
    /// be readable behind it.
    fn append(&self, entry: &[u8]) -> io::Result<()> {
        let framed = match self.config.format {
            FileFormat::Json => [entry, b"\n"].concat(),
            FileFormat::Proto => {
                let length = u32::try_from(entry.len()).map_err(io::Error::other)?;
                [&length.to_be_bytes(), entry].concat()
            }
        };
        let mut slot = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = match slot.take() {
            Some(open) => open,
            None => Open::new(&self.config.path)?,
        };
        let most = self.config.rotation.max_megabytes << 20;
        if open.bytes > 0 && open.bytes + framed.len() as u64 > most {
            drop(open);
            put_aside(&self.config.path, self.config.rotation.max_backups)?;
            open = Open::new(&self.config.path)?;
        }
        if let Err(error) = open.file.write_all(&framed) {
            let _ = open.file.set_len(open.bytes);
            return Err(error);
        }
        open.bytes += framed.len() as u64;
        *slot = Some(open);
        Ok(())
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }
}

/// `path` becomes `path.1`, `path.1` becomes `path.2` and so on; the oldest goes.
fn put_aside(path: &Path, backups: u32) -> io::Result<()> {
    if backups == 0 {
        return fs::remove_file(path);
    }
    let numbered = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    for n in (1..backups).rev() {
        match fs::rename(numbered(n), numbered(n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, numbered(1))
}

#[cfg(test)]
mod tests {
    use super::super::super::config::RotationConfig;
    use super::*;

    #[test]
    fn files_are_put_aside_and_bounded_and_hold_whole_messages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let rotation = RotationConfig { max_megabytes: 1, max_backups: 2 };
        let config = FileConfig { format: FileFormat::Proto, rotation, ..FileConfig::at(&path) };
        for n in 0..9_u8 {
            // A new exporter goes on where the one before ended.
            let sink = File::new(DataType::Logs, &config).sink;
            sink.append(&vec![n; 400 << 10]).unwrap();
        }
        let messages = |name: &str| {
            let bytes = fs::read(folder.path().join(name)).unwrap();
            let each = bytes.chunks(4 + (400 << 10));
            each.map(|m| (m[..4] == (400_u32 << 10).to_be_bytes(), m[4])).collect::<Vec<_>>()
        };
        assert_eq!(messages("out"), [(true, 8)]);
        assert_eq!(messages("out.1"), [(true, 6), (true, 7)]);
        assert_eq!(messages("out.2"), [(true, 4), (true, 5)]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_file_that_cannot_be_written_says_so() {
        let sink = File::new(DataType::Logs, &FileConfig::at("/does/not/exist/out")).sink;
        assert!(sink.append(b"{}").is_err());
    }
}
