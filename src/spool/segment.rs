//! One file of the queue: making it, writing and marking records, reading them back, and finding the next record
//! behind a damaged place.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{
    MARK_AT, Position, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, Salt, done_mark, find_magic,
    segment_header,
};

const MAX_ID: u64 = u64::MAX / 2;
const SUFFIX: &str = ".segment";
/// Messages hold what users of a service did; nobody else on the machine needs to read them.
const FILE_MODE: u32 = 0o600;
/// Files kept open at a time: the one written, the one read, and those in which messages are still under way.
const OPEN_FILES: usize = 16;
/// Bytes read at a time where only headers are looked for.
const WINDOW_BYTES: usize = 16 * 1024;

/// What is known of a segment without reading it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) salt: Salt,
    /// Where its last record ends.
    pub(super) len: u64,
    /// Messages that wait and that the reader has not come to, and the records in them.
    pub(super) unread: u64,
    pub(super) unread_records: u64,
    /// Messages that the reader handed out and that are not done.
    pub(super) outstanding: u64,
    /// Whether the reader has left it for the next one.
    pub(super) is_read: bool,
}

impl Segment {
    pub(super) fn new(salt: Salt) -> Self {
        Self { salt, len: SEGMENT_HEADER_BYTES, unread: 0, unread_records: 0, outstanding: 0, is_read: false }
    }
}

/// The files of one queue by number, a few of them open.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    /// Latest used last.
    open: VecDeque<(u64, Arc<File>)>,
}

impl Files {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, open: VecDeque::new() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn path(&self, id: u64) -> PathBuf {
        self.folder.join(format!("{id:016x}{SUFFIX}"))
    }

    /// Numbers of the segments in the folder, in order. Other files are left alone.
    pub(super) fn list(&self) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let Some(digits) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) else { continue };
            // Higher numbers are never reached: such a file is not one of the queue's.
            if let (16, Ok(id @ ..=MAX_ID)) = (digits.len(), u64::from_str_radix(digits, 16)) {
                found.push(id);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// An open file.
    pub(super) fn get(&mut self, id: u64) -> io::Result<Arc<File>> {
        if let Some(at) = self.open.iter().rposition(|(open, _)| *open == id)
            && let Some(entry) = self.open.remove(at)
        {
            self.open.push_back(entry);
        } else {
            let file = OpenOptions::new().read(true).write(true).open(self.path(id))?;
            self.keep(id, file);
        }
        self.open.back().map(|(_, file)| Arc::clone(file)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn keep(&mut self, id: u64, file: File) {
        while self.open.len() >= OPEN_FILES {
            self.open.pop_front();
        }
        self.open.push_back((id, Arc::new(file)));
    }

    /// Makes a segment; nothing is left of it when that fails.
    pub(super) fn create(&mut self, id: u64, salt: Salt) -> io::Result<()> {
        let path = self.path(id);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        if let Err(error) = file.write_all_at(&segment_header(id, salt), 0) {
            // A header that is not whole would be removed at the next start; sooner is better.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.keep(id, file);
        Ok(())
    }

    /// Deletes a segment; one that is gone already is no error.
    pub(super) fn remove(&mut self, id: u64) -> io::Result<()> {
        self.open.retain(|(open, _)| *open != id);
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes the names of the files as durable as what is in them.
    pub(super) fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    /// Marks a record as done.
    pub(super) fn mark_done(&mut self, at: Position, salt: Salt) -> io::Result<()> {
        self.get(at.segment)?.write_all_at(&done_mark(salt, at.offset), at.offset + MARK_AT)
    }
}

/// Writes a record. What a failure leaves behind is cut off by the caller.
pub(super) fn write_record(
    file: &File,
    salt: Salt,
    offset: u64,
    header: &RecordHeader,
    metadata: &[u8],
    body: &[u8],
) -> io::Result<()> {
    let mut head = Vec::with_capacity(RECORD_HEADER_BYTES + metadata.len());
    head.extend_from_slice(&header.encode(salt, offset));
    head.extend_from_slice(metadata);
    file.write_all_at(&head, offset)?;
    file.write_all_at(body, offset + head.len() as u64)
}

/// The header at `offset`; `None` when there is none, or when its record does not end before `end`.
pub(super) fn read_header(
    file: &File,
    salt: Salt,
    offset: u64,
    end: u64,
) -> io::Result<Option<RecordHeader>> {
    let mut bytes = [0; RECORD_HEADER_BYTES];
    if end.saturating_sub(offset) < bytes.len() as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut bytes, offset)?;
    let header = RecordHeader::decode(salt, offset, &bytes);
    Ok(header.filter(|header| offset + header.bytes() <= end))
}

/// Metadata and body of a record.
pub(super) fn read_data(file: &File, offset: u64, header: &RecordHeader) -> io::Result<Vec<u8>> {
    // The header was found to end within the file, so this is no more than what the file holds.
    let mut data = vec![0; usize::from(header.metadata) + header.body as usize];
    file.read_exact_at(&mut data, offset + RECORD_HEADER_BYTES as u64)?;
    Ok(data)
}

/// What stands at a place of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A record.
    Record(RecordHeader),
    /// A record whose end is missing: the last thing in its file.
    Torn(RecordHeader),
    /// Neither.
    Nothing,
}

/// Reads headers in order, with few calls where records are small.
pub(super) struct Scanner<'a> {
    file: &'a File,
    salt: Salt,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(file: &'a File, salt: Salt, end: u64) -> Self {
        Self { file, salt, end, window: Vec::new(), window_at: 0 }
    }

    /// What stands at `offset`.
    pub(super) fn at(&mut self, offset: u64) -> io::Result<Found> {
        let (salt, end) = (self.salt, self.end);
        let bytes = self.bytes(offset, RECORD_HEADER_BYTES)?;
        Ok(match RecordHeader::decode(salt, offset, bytes) {
            Some(header) if offset + header.bytes() <= end => Found::Record(header),
            Some(header) => Found::Torn(header),
            None => Found::Nothing,
        })
    }

    /// Where the next record begins, at `from` or behind it; the end when there is none.
    pub(super) fn next_record(&mut self, from: u64) -> io::Result<u64> {
        let mut at = from;
        while at + (RECORD_HEADER_BYTES as u64) <= self.end {
            // A header that begins in the last bytes of this window is found by the next one.
            let bytes = self.bytes(at, WINDOW_BYTES)?;
            let Some(hit) = find_magic(bytes) else {
                at += (bytes.len().saturating_sub(RECORD_HEADER_BYTES) + 1) as u64;
                continue;
            };
            at += hit as u64;
            if self.at(at)? != Found::Nothing {
                return Ok(at);
            }
            at += 1;
        }
        Ok(self.end)
    }

    /// Up to `len` bytes at `offset`, fewer at the end.
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = len.min(left);
        let begin = offset.checked_sub(self.window_at).and_then(|begin| usize::try_from(begin).ok());
        let begin = match begin.filter(|begin| begin + wanted <= self.window.len()) {
            Some(begin) => begin,
            None => {
                self.window.resize(WINDOW_BYTES.min(left), 0);
                self.window_at = offset;
                if let Err(error) = self.file.read_exact_at(&mut self.window, offset) {
                    self.window.clear();
                    return Err(error);
                }
                0
            }
        };
        Ok(&self.window[begin..begin + wanted])
    }
}
