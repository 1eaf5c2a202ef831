//! The bytes of a segment: one header, then records, all numbers little-endian.
//!
//! The header stands there twice, so that no single damaged place costs a whole segment. A record is a header of
//! 28 bytes, the metadata and the body. The only bytes ever written again are the mark of a record: zero
//! while it waits, a checksum of its place once it is done. Checksums are CRC-32 over the salt of the segment,
//! where the record begins, and the bytes; somebody who sends a message that looks like records does not
//! know the salt.

/// The version of the format that this program writes and reads.
pub(super) const VERSION: u32 = 1;

/// Where the first record begins: behind two headers.
pub(super) const SEGMENT_HEADER_BYTES: u64 = 2 * HEADER_BYTES as u64;
/// Bytes in front of the metadata and the body of each record.
pub(super) const RECORD_HEADER_BYTES: usize = 28;
/// Where the mark is within a record.
pub(super) const MARK_AT: u64 = 4;

const HEADER_BYTES: usize = 32;
const MAGIC: [u8; 8] = *b"RGSPOOL\n";
const RECORD_MAGIC: [u8; 4] = *b"RGe\x1a";

/// Where a record is: its segment, and the byte in it at which it begins. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Number of the segment; it is in the file's name.
    pub segment: u64,
    /// Byte in the file.
    pub offset: u64,
}

/// Bytes on disk of a record with this much metadata and body.
pub const fn record_bytes(metadata: usize, body: usize) -> u64 {
    (RECORD_HEADER_BYTES + metadata + body) as u64
}

/// What tells the checksums of one segment from those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Salt(pub(super) u64);

/// What the first bytes of a file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SegmentHeader {
    /// A segment that can be read.
    Known(Salt),
    /// A segment of another version of the format.
    Foreign(u32),
    /// Neither header is whole.
    Damaged,
}

/// The two headers of a segment.
pub(super) fn segment_header(id: u64, salt: Salt) -> [u8; SEGMENT_HEADER_BYTES as usize] {
    let mut one = [0; HEADER_BYTES];
    one[..8].copy_from_slice(&MAGIC);
    one[8..12].copy_from_slice(&VERSION.to_le_bytes());
    one[12..20].copy_from_slice(&id.to_le_bytes());
    one[20..28].copy_from_slice(&salt.0.to_le_bytes());
    let sum = crc32fast::hash(&one[..28]);
    one[28..].copy_from_slice(&sum.to_le_bytes());
    let mut both = [0; SEGMENT_HEADER_BYTES as usize];
    both[..HEADER_BYTES].copy_from_slice(&one);
    both[HEADER_BYTES..].copy_from_slice(&one);
    both
}

/// Reads the first bytes of the segment with this number; fewer than both headers will do if one is whole.
/// Magic, version and checksum are at these places in every version.
pub(super) fn read_segment_header(id: u64, bytes: &[u8]) -> SegmentHeader {
    for one in bytes.chunks_exact(HEADER_BYTES).take(2) {
        if one[..8] != MAGIC || crc32fast::hash(&one[..28]) != u32_at(one, 28) {
            continue;
        }
        let version = u32_at(one, 8);
        if version != VERSION {
            return SegmentHeader::Foreign(version);
        }
        if u64_at(one, 12) == id {
            return SegmentHeader::Known(Salt(u64_at(one, 20)));
        }
    }
    SegmentHeader::Damaged
}

/// What stands in front of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    /// Bytes of metadata.
    pub(super) metadata: u16,
    /// Bytes of body.
    pub(super) body: u32,
    /// Spans, data points or log records in the body, as its sender counted them.
    pub(super) records: u32,
    /// Checksum of metadata and body.
    pub(super) sum: u32,
    /// Whether it was delivered.
    pub(super) is_done: bool,
}

impl RecordHeader {
    /// For a record that begins at `offset` and waits.
    pub(super) fn new(salt: Salt, offset: u64, metadata: &[u8], body: &[u8], records: u32) -> Option<Self> {
        Some(Self {
            metadata: u16::try_from(metadata.len()).ok()?,
            body: u32::try_from(body.len()).ok()?,
            records,
            sum: checksum(salt, offset, &[metadata, body]),
            is_done: false,
        })
    }

    /// Bytes of the whole record.
    pub(super) const fn bytes(&self) -> u64 {
        record_bytes(self.metadata as usize, self.body as usize)
    }

    /// The header as it is written first: waiting.
    pub(super) fn encode(&self, salt: Salt, offset: u64) -> [u8; RECORD_HEADER_BYTES] {
        let mut out = [0; RECORD_HEADER_BYTES];
        out[..4].copy_from_slice(&RECORD_MAGIC);
        out[8..10].copy_from_slice(&self.metadata.to_le_bytes());
        out[12..16].copy_from_slice(&self.body.to_le_bytes());
        out[16..20].copy_from_slice(&self.records.to_le_bytes());
        out[20..24].copy_from_slice(&self.sum.to_le_bytes());
        let sum = checksum(salt, offset, &[&out[8..24]]);
        out[24..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// The header at `offset` of a segment; `None` when these bytes are none.
    pub(super) fn decode(salt: Salt, offset: u64, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..RECORD_HEADER_BYTES)?;
        if bytes[..4] != RECORD_MAGIC || checksum(salt, offset, &[&bytes[8..24]]) != u32_at(bytes, 24) {
            return None;
        }
        Some(Self {
            metadata: u16::from_le_bytes([bytes[8], bytes[9]]),
            body: u32_at(bytes, 12),
            records: u32_at(bytes, 16),
            sum: u32_at(bytes, 20),
            is_done: bytes[4..8] == done_mark(salt, offset),
        })
    }

    /// Whether this is the data that was written behind the header.
    pub(super) fn fits(&self, salt: Salt, offset: u64, data: &[u8]) -> bool {
        checksum(salt, offset, &[data]) == self.sum
    }
}

/// What is written over the mark of a record that was delivered. Damage does not look like it.
pub(super) fn done_mark(salt: Salt, offset: u64) -> [u8; 4] {
    checksum(salt, offset, &[b"done"]).to_le_bytes()
}

/// Where in `bytes` the next header of a record might begin.
pub(super) fn find_magic(bytes: &[u8]) -> Option<usize> {
    bytes.windows(RECORD_MAGIC.len()).position(|window| window == RECORD_MAGIC)
}

fn checksum(salt: Salt, offset: u64, parts: &[&[u8]]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&salt.0.to_le_bytes());
    sum.update(&offset.to_le_bytes());
    parts.iter().for_each(|part| sum.update(part));
    sum.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt(0x0123_4567_89ab_cdef);

    #[test]
    fn one_whole_header_of_two_is_enough() {
        let whole = segment_header(7, SALT);
        assert_eq!(read_segment_header(7, &whole), SegmentHeader::Known(SALT));
        assert_eq!(read_segment_header(8, &whole), SegmentHeader::Damaged, "a file under another name");
        assert_eq!(read_segment_header(7, &whole[..HEADER_BYTES]), SegmentHeader::Known(SALT));
        assert_eq!(read_segment_header(7, &whole[..HEADER_BYTES - 1]), SegmentHeader::Damaged);
        for byte in 0..whole.len() {
            let mut flipped = whole;
            flipped[byte] ^= 0x10;
            assert_eq!(read_segment_header(7, &flipped), SegmentHeader::Known(SALT), "byte {byte}");
            flipped[(byte + HEADER_BYTES) % whole.len()] ^= 0x10;
            assert_eq!(read_segment_header(7, &flipped), SegmentHeader::Damaged, "byte {byte} of both");
        }
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let mut later = segment_header(7, SALT);
        later[8..12].copy_from_slice(&2_u32.to_le_bytes());
        assert_eq!(read_segment_header(7, &later), SegmentHeader::Known(SALT), "the second header is whole");
        let sum = crc32fast::hash(&later[..28]);
        later[28..32].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(read_segment_header(7, &later), SegmentHeader::Foreign(2));
    }

    #[test]
    fn a_record_is_read_at_its_place_and_with_its_salt_only() {
        let (metadata, body) = (b"meta".as_slice(), b"the message".as_slice());
        let header = RecordHeader::new(SALT, 64, metadata, body, 3).unwrap();
        let bytes = header.encode(SALT, 64);
        assert_eq!(RecordHeader::decode(SALT, 64, &bytes), Some(header));
        assert_eq!(RecordHeader::decode(SALT, 65, &bytes), None);
        assert_eq!(RecordHeader::decode(Salt(1), 64, &bytes), None);
        assert_eq!(header.bytes(), 28 + 4 + 11);
        assert!(header.fits(SALT, 64, b"metathe message"));
        assert!(!header.fits(SALT, 64, b"metathe messagf"));
        assert!(!header.fits(SALT, 65, b"metathe message"));
        assert_eq!(find_magic(&[b"xy", bytes.as_slice()].concat()), Some(2));
    }

    #[test]
    fn each_flipped_bit_of_a_header_is_seen_and_none_marks_it_done() {
        let header = RecordHeader::new(SALT, 64, b"", b"message", 1).unwrap();
        for bit in 0..RECORD_HEADER_BYTES * 8 {
            let mut bytes = header.encode(SALT, 64);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = RecordHeader::decode(SALT, 64, &bytes);
            match (32..64).contains(&bit) {
                true => assert_eq!(read, Some(header), "a damaged mark waits: bit {bit}"),
                false => assert!(read.is_none(), "bit {bit}"),
            }
        }
    }

    #[test]
    fn a_done_mark_is_read_as_done() {
        let header = RecordHeader::new(SALT, 64, b"", b"message", 1).unwrap();
        let mut bytes = header.encode(SALT, 64);
        bytes[4..8].copy_from_slice(&done_mark(SALT, 64));
        assert_eq!(RecordHeader::decode(SALT, 64, &bytes), Some(RecordHeader { is_done: true, ..header }));
    }
}
