//! The queue as a plain value: append, take, acknowledge, over the segments of one folder. It does what it is told
//! when it is told, on the thread of its caller, and blocks while the disk does.
//!
//! The reader goes through the segments once, in order. A message that it handed out is either acknowledged,
//! which marks it in the file, or given back, and then handed out again before any newer one. A segment is deleted
//! when the reader has left it and nothing handed out of it is open; so one message that cannot be delivered
//! keeps one segment, not all behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::format::{Position, RecordHeader, SEGMENT_HEADER_BYTES, Salt, record_bytes};
use super::recovery::{Recovered, recover};
use super::segment::{Files, Scanner, Segment, read_data, read_header, write_record};
use super::{AppendError, SpoolError};

/// Messages hold what users of a service did; nobody else on the machine needs to look.
const FOLDER_MODE: u32 = 0o700;
/// The segment being written is given up early when nothing in it waits and it has this share of a segment's bytes,
/// so that a queue that is empty takes little of its room.
const EARLY_SHARE: u64 = 4;

/// How a queue keeps its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// Bytes at which a segment is full; one message may be larger.
    pub segment_bytes: u64,
    /// Bytes of the file system that are left free.
    pub reserve_bytes: u64,
    /// Whether [`Log::sync`] makes appended messages safe against a loss of power.
    pub fsync: bool,
    /// Random: the checksums are salted with it, so that no message can be made that looks like the queue's own
    /// bytes.
    pub seed: u64,
}

/// A message handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Names it until it is acknowledged or given back.
    pub position: Position,
    /// As it was appended.
    pub metadata: Bytes,
    /// As it was appended.
    pub body: Bytes,
    /// As it was appended.
    pub records: u32,
}

/// What went wrong since it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Faults {
    /// Messages that were damaged on the disk, and the records in them.
    pub(super) lost_entries: u64,
    pub(super) lost_records: u64,
    /// Marks that could not be written and files that could not be deleted: what is in them may be sent again
    /// after a restart.
    pub(super) unmarked: u64,
}

/// A queue on disk.
#[derive(Debug)]
pub struct Log {
    config: LogConfig,
    files: Files,
    segments: BTreeMap<u64, Segment>,
    /// The segment being written.
    tail: Option<u64>,
    next_id: u64,
    /// Where the reader is.
    cursor: Position,
    /// Appended and not committed, with the records in each: the reader waits in front of the first.
    uncommitted: BTreeMap<Position, u32>,
    /// Handed out.
    taken: BTreeSet<Position>,
    /// Given back, to be handed out again.
    returned: BTreeSet<Position>,
    bytes: u64,
    entries: u64,
    /// Segments with messages that a loss of power could take.
    unsynced: BTreeSet<u64>,
    /// Since it was last asked.
    syncs: u64,
    faults: Faults,
}

impl Log {
    /// Opens the queue in a folder, which is made when it is not there.
    ///
    /// # Errors
    /// When the folder cannot be used or a segment cannot be read or is of another version; nothing in it is
    /// changed then.
    pub fn open(folder: impl Into<PathBuf>, config: LogConfig) -> Result<(Self, Recovered), SpoolError> {
        let folder = folder.into();
        let failed = |cause| SpoolError::Directory { path: folder.clone(), cause };
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&folder).map_err(failed)?;
        let mut files = Files::new(folder.clone());
        let ids = files.list().map_err(failed)?;
        let examined = recover(&mut files, &ids)?;
        let mut log = Self {
            config,
            files,
            segments: BTreeMap::new(),
            tail: None,
            next_id: ids.last().map_or(1, |last| last + 1),
            cursor: Position { segment: 0, offset: 0 },
            uncommitted: BTreeMap::new(),
            taken: BTreeSet::new(),
            returned: BTreeSet::new(),
            bytes: 0,
            entries: 0,
            unsynced: BTreeSet::new(),
            syncs: 0,
            faults: Faults::default(),
        };
        let mut recovered = Recovered::default();
        for one in examined {
            recovered.add(one.recovered);
            match one.segment {
                Some(segment) => {
                    log.bytes += segment.len;
                    log.entries += segment.unread;
                    log.segments.insert(one.id, segment);
                }
                None => log.remove_file(one.id),
            }
        }
        Ok((log, recovered))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.files.folder()
    }

    /// Bytes that the segments take on disk.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Messages that are not done.
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// Appends a message. The reader does not pass it before it is committed.
    ///
    /// # Errors
    /// When it does not fit on the disk or cannot be written; the queue is as it was before.
    pub fn append(&mut self, metadata: &[u8], body: &[u8], records: u32) -> Result<Position, AppendError> {
        let needed = record_bytes(metadata.len(), body.len());
        self.check_space(needed)?;
        if self.tail.and_then(|id| self.segments.get(&id)).is_some_and(|tail| {
            tail.len > SEGMENT_HEADER_BYTES && tail.len + needed > self.config.segment_bytes
        }) {
            self.end_tail();
        }
        let id = match self.tail {
            Some(id) => id,
            None => self.begin_tail().map_err(AppendError::Io)?,
        };
        let file = self.files.get(id).map_err(AppendError::Io)?;
        let Some(segment) = self.segments.get_mut(&id) else { return Err(AppendError::Closed) };
        let (salt, offset) = (segment.salt, segment.len);
        let header = RecordHeader::new(salt, offset, metadata, body, records).ok_or(AppendError::TooLarge)?;
        if let Err(error) = write_record(&file, salt, offset, &header, metadata, body) {
            // Should this fail too, what was half written stays behind the end of the segment, where nobody reads.
            if file.set_len(offset).is_err() {
                self.tail = None;
            }
            return Err(AppendError::Io(error));
        }
        segment.len += needed;
        segment.unread += 1;
        segment.unread_records += u64::from(records);
        self.bytes += needed;
        self.entries += 1;
        if self.config.fsync {
            self.unsynced.insert(id);
        }
        let position = Position { segment: id, offset };
        self.uncommitted.insert(position, records);
        Ok(position)
    }

    /// Lets the reader have a message that was appended.
    pub fn commit(&mut self, position: Position) {
        self.uncommitted.remove(&position);
    }

    /// Takes back a message that was appended and not committed.
    pub fn discard(&mut self, position: Position) {
        let Some(records) = self.uncommitted.remove(&position) else { return };
        let Some(segment) = self.segments.get_mut(&position.segment) else { return };
        match self.files.mark_done(position, segment.salt) {
            Ok(()) if segment.unread > 0 => {
                segment.unread -= 1;
                segment.unread_records = segment.unread_records.saturating_sub(u64::from(records));
                self.entries -= 1;
            }
            Ok(()) => {}
            // It cannot be taken back: it is sent, and its sender may send it again.
            Err(_) => self.faults.unmarked += 1,
        }
    }

    /// Makes what was appended safe against a loss of power, where that is configured.
    ///
    /// # Errors
    /// When the system cannot say that it is. What was appended since the last time may or may not last then.
    pub fn sync(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        for id in std::mem::take(&mut self.unsynced) {
            let synced = self.files.get(id).and_then(|file| file.sync_data());
            self.syncs += u64::from(synced.is_ok());
            if synced.is_err() {
                // After a failure nobody knows what of this file is on the disk: nothing more is added to it.
                self.tail = self.tail.filter(|tail| *tail != id);
                result = synced;
            }
        }
        result
    }

    /// Hands out the oldest message that is committed and not handed out.
    ///
    /// # Errors
    /// When the system cannot read now, for want of open files or memory, say. Nothing is lost or passed over: the
    /// same message is tried when this is called again.
    pub fn take(&mut self) -> io::Result<Option<Entry>> {
        while let Some(position) = self.returned.pop_first() {
            match self.read_again(position) {
                Ok(Some(Ok(entry))) => {
                    self.taken.insert(position);
                    return Ok(Some(entry));
                }
                Ok(Some(Err(damaged))) => self.lose_outstanding(position, damaged.records),
                Ok(None) => self.lose_outstanding(position, 0),
                Err(later) => {
                    self.returned.insert(position);
                    return Err(later);
                }
            }
        }
        loop {
            let Some((&id, segment)) = self.segments.range(self.cursor.segment..).next() else {
                return Ok(None);
            };
            if id != self.cursor.segment || self.cursor.offset < SEGMENT_HEADER_BYTES {
                self.cursor = Position { segment: id, offset: SEGMENT_HEADER_BYTES };
            }
            if self.cursor.offset >= segment.len {
                if !self.leave(id) {
                    return Ok(None);
                }
                continue;
            }
            if self.uncommitted.contains_key(&self.cursor) {
                return Ok(None);
            }
            if let Some(entry) = self.read_next()? {
                return Ok(Some(entry));
            }
        }
    }

    /// The message was delivered or given up: it is not handed out again, also not after a restart. Answers whether
    /// it was handed out.
    pub fn acknowledge(&mut self, position: Position) -> bool {
        if !self.taken.remove(&position) {
            return false;
        }
        self.finish(position);
        true
    }

    /// The message was not delivered: it is handed out again. Answers whether it was handed out.
    pub fn give_back(&mut self, position: Position) -> bool {
        self.taken.remove(&position) && self.returned.insert(position)
    }

    /// What went wrong since this was last asked.
    pub(super) fn faults(&mut self) -> Faults {
        std::mem::take(&mut self.faults)
    }

    /// Files that were synced since this was last asked.
    pub(super) const fn synced(&mut self) -> u64 {
        std::mem::replace(&mut self.syncs, 0)
    }

    /// Whether the file system has room for this many bytes beside the reserve.
    pub(super) fn check_space(&self, needed: u64) -> Result<(), AppendError> {
        let reserve = self.config.reserve_bytes;
        if reserve == 0 {
            return Ok(());
        }
        let space = rustix::fs::statvfs(self.folder()).map_err(|error| AppendError::Io(error.into()))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        match free.saturating_sub(needed) < reserve {
            true => Err(AppendError::Reserve { free, reserve }),
            false => Ok(()),
        }
    }

    fn begin_tail(&mut self) -> io::Result<u64> {
        let id = self.next_id;
        let salt = Salt(mix(self.config.seed ^ mix(id)));
        self.files.create(id, salt)?;
        self.next_id += 1;
        if self.config.fsync {
            self.files.sync_folder()?;
        }
        let segment = Segment::new(salt);
        self.bytes += segment.len;
        self.segments.insert(id, segment);
        self.tail = Some(id);
        Ok(id)
    }

    fn end_tail(&mut self) {
        if let Some(id) = self.tail.take() {
            self.retire(id);
        }
    }

    /// Reads what is at the cursor and moves on; `None` when that was no message to hand out. After an error the
    /// cursor is where it was.
    fn read_next(&mut self) -> io::Result<Option<Entry>> {
        let position = self.cursor;
        let Some(segment) = self.segments.get(&position.segment) else { return Ok(None) };
        let (salt, len) = (segment.salt, segment.len);
        let Some(file) = sound(self.files.get(position.segment))? else {
            self.cursor.offset = len;
            return Ok(None);
        };
        let Some(header) = sound(read_header(&file, salt, position.offset, len))?.flatten() else {
            self.cursor.offset = next_record(&file, salt, position.offset, len)?;
            return Ok(None);
        };
        if header.is_done {
            self.cursor.offset += header.bytes();
            return Ok(None);
        }
        let entry = whole_entry(&file, salt, position, &header)?;
        self.cursor.offset += header.bytes();
        let Some(segment) = self.segments.get_mut(&position.segment) else { return Ok(None) };
        match segment.unread {
            // Its mark was lost after the segment had been counted.
            0 => self.entries += 1,
            _ => segment.unread -= 1,
        }
        segment.unread_records = segment.unread_records.saturating_sub(u64::from(header.records));
        segment.outstanding += 1;
        match &entry {
            Some(_) => _ = self.taken.insert(position),
            None => self.lose_outstanding(position, header.records),
        }
        Ok(entry)
    }

    /// A message that was given back; its header when only that is whole.
    fn read_again(&mut self, position: Position) -> io::Result<Option<Result<Entry, RecordHeader>>> {
        let Some(segment) = self.segments.get(&position.segment) else { return Ok(None) };
        let Some(file) = sound(self.files.get(position.segment))? else { return Ok(None) };
        let header = sound(read_header(&file, segment.salt, position.offset, segment.len))?.flatten();
        let Some(header) = header else { return Ok(None) };
        Ok(Some(whole_entry(&file, segment.salt, position, &header)?.ok_or(header)))
    }

    fn lose_outstanding(&mut self, position: Position, records: u32) {
        self.faults.lost_entries += 1;
        self.faults.lost_records += u64::from(records);
        self.finish(position);
    }

    fn finish(&mut self, position: Position) {
        let Some(segment) = self.segments.get_mut(&position.segment) else { return };
        segment.outstanding -= 1;
        self.entries -= 1;
        if self.files.mark_done(position, segment.salt).is_err() {
            self.faults.unmarked += 1;
        }
        self.retire(position.segment);
    }

    /// The reader is at the end of a segment. Answers whether there may be something behind it.
    fn leave(&mut self, id: u64) -> bool {
        let Some(segment) = self.segments.get_mut(&id) else { return true };
        // What waits here and was not come by is damaged.
        let missed = std::mem::take(&mut segment.unread);
        self.entries -= missed;
        self.faults.lost_entries += missed;
        self.faults.lost_records += std::mem::take(&mut segment.unread_records);
        let is_tail = self.tail == Some(id);
        if !is_tail {
            segment.is_read = true;
            self.cursor = Position { segment: id.saturating_add(1), offset: 0 };
        }
        self.uncommitted.retain(|position, _| position.segment != id);
        self.retire(id);
        !is_tail
    }

    /// Deletes a segment when all in it is done.
    fn retire(&mut self, id: u64) {
        let Some(segment) = self.segments.get(&id) else { return };
        if segment.outstanding > 0 {
            return;
        }
        let is_read = match self.tail == Some(id) {
            false => segment.is_read,
            true => {
                segment.unread == 0
                    && self.cursor == (Position { segment: id, offset: segment.len })
                    && segment.len > self.config.segment_bytes / EARLY_SHARE
            }
        };
        if is_read {
            self.bytes = self.bytes.saturating_sub(segment.len);
            self.segments.remove(&id);
            self.unsynced.remove(&id);
            self.tail = self.tail.filter(|tail| *tail != id);
            self.remove_file(id);
        }
    }

    fn remove_file(&mut self, id: u64) {
        if let Err(error) = self.files.remove(id) {
            tracing::warn!(path = %self.files.path(id).display(), %error, "a queue file that is done cannot be deleted");
            self.faults.unmarked += 1;
        }
    }
}

/// What was read; `None` when the disk does not have it any more: the file or its end is gone, or the device says
/// that it cannot read there. Any other error says nothing about the disk, and may be over the next time.
fn sound<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_damage(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound)
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// A message with its body; `None` when that is damaged.
fn whole_entry(
    file: &File,
    salt: Salt,
    position: Position,
    header: &RecordHeader,
) -> io::Result<Option<Entry>> {
    let Some(data) = sound(read_data(file, position.offset, header))? else { return Ok(None) };
    if !header.fits(salt, position.offset, &data) {
        return Ok(None);
    }
    let mut metadata = Bytes::from(data);
    let body = metadata.split_off(usize::from(header.metadata));
    Ok(Some(Entry { position, metadata, body, records: header.records }))
}

/// Where the reader goes on behind a damaged place.
fn next_record(file: &File, salt: Salt, damaged: u64, len: u64) -> io::Result<u64> {
    Ok(sound(Scanner::new(file, salt, len).next_record(damaged + 1))?.unwrap_or(len))
}

/// Spreads a number over all 64 bits (the finaliser of splitmix64).
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
