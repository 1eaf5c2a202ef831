//! Opening a queue that another process left, perhaps in the middle of a write: which messages wait, and what is
//! damaged. Only headers are read; whether a body is whole shows when it is read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::SpoolError;
use super::format::{SEGMENT_HEADER_BYTES, SegmentHeader, VERSION, read_segment_header};
use super::segment::{Files, Found, Scanner, Segment};

/// What was found when a queue was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Messages that wait.
    pub entries: u64,
    /// Spans, data points and log records in them.
    pub records: u64,
    /// Messages whose end is missing, as a kill in the middle of a write leaves them: their senders were not
    /// answered. (Or the file lost its end later; that cannot be told apart.)
    pub torn: u64,
    /// Places at which a segment holds something other than records, each with one message or more lost.
    pub damaged_places: u64,
    /// Bytes in those places.
    pub damaged_bytes: u64,
}

/// Reads the segments with these numbers.
///
/// # Errors
/// When a file cannot be read or is of another version. Nothing is changed or deleted then.
pub(super) fn recover(files: &mut Files, ids: &[u64]) -> Result<Vec<Examined>, SpoolError> {
    ids.iter().map(|id| examine(files, *id)).collect()
}

/// One segment as it was found.
pub(super) struct Examined {
    pub(super) id: u64,
    /// `None` when there is nothing in it to be sent.
    pub(super) segment: Option<Segment>,
    pub(super) recovered: Recovered,
}

fn examine(files: &mut Files, id: u64) -> Result<Examined, SpoolError> {
    let path = files.path(id);
    let failed = |cause| SpoolError::Read { path: path.clone(), cause };
    let file = files.get(id).map_err(failed)?;
    let end = file.metadata().map_err(failed)?.len();
    let header = first_bytes(&file, end).map_err(failed)?;
    let (segment, recovered) = match read_segment_header(id, &header) {
        SegmentHeader::Foreign(found) => {
            return Err(SpoolError::Version { path, found, known: VERSION });
        }
        // Killed when the file was being made: nothing was in it.
        SegmentHeader::Damaged if end <= SEGMENT_HEADER_BYTES => (None, Recovered::default()),
        SegmentHeader::Damaged => {
            (None, Recovered { damaged_places: 1, damaged_bytes: end, ..Recovered::default() })
        }
        SegmentHeader::Known(salt) => {
            let mut segment = Segment::new(salt);
            let recovered = scan(&file, &mut segment, end).map_err(failed)?;
            ((recovered.entries > 0).then_some(segment), recovered)
        }
    };
    Ok(Examined { id, segment, recovered })
}

fn first_bytes(file: &File, end: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; SEGMENT_HEADER_BYTES.min(end) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Counts what waits in a segment.
fn scan(file: &File, segment: &mut Segment, end: u64) -> io::Result<Recovered> {
    let mut recovered = Recovered::default();
    let mut scanner = Scanner::new(file, segment.salt, end);
    let mut at = SEGMENT_HEADER_BYTES;
    while at < end {
        match scanner.at(at)? {
            Found::Record(header) => {
                if !header.is_done {
                    recovered.entries += 1;
                    recovered.records += u64::from(header.records);
                }
                at += header.bytes();
            }
            Found::Torn(_) => {
                recovered.torn += 1;
                break;
            }
            Found::Nothing => {
                let next = scanner.next_record(at + 1)?;
                match next == end && end - at < super::format::RECORD_HEADER_BYTES as u64 {
                    true => recovered.torn += 1,
                    false => {
                        recovered.damaged_places += 1;
                        recovered.damaged_bytes += next - at;
                    }
                }
                at = next;
            }
        }
    }
    segment.len = end.max(SEGMENT_HEADER_BYTES);
    segment.unread = recovered.entries;
    segment.unread_records = recovered.records;
    Ok(recovered)
}

impl Recovered {
    pub(super) fn add(&mut self, other: Self) {
        self.entries += other.entries;
        self.records += other.records;
        self.torn += other.torn;
        self.damaged_places += other.damaged_places;
        self.damaged_bytes += other.damaged_bytes;
    }
}
