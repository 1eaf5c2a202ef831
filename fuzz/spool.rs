//! A queue on disk beside a model of it that remembers everything: whatever is appended, taken, acknowledged,
//! cut off, flipped or overwritten, and wherever the process is killed, the queue hands out nothing that was not
//! appended, loses nothing that the damage did not touch, keeps the order, and ends up empty.
//!
//! The fuzzer makes the steps from its bytes; the property test of `tests/it/spool.rs` draws them.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rollguard::spool::{Entry, Log, LogConfig, Position, record_bytes};

/// Bytes in front of the first record: two copies of the header.
const SEGMENT_HEADER: u64 = 64;
const CONFIG: LogConfig = LogConfig { segment_bytes: 600, reserve_bytes: 0, fsync: false, seed: 7 };

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A message of this much metadata and body.
    Append {
        metadata: u8,
        body: u16,
    },
    /// Of those not committed, one.
    Commit(u8),
    Discard(u8),
    Take,
    /// Of those handed out, one.
    Acknowledge(u8),
    GiveBack(u8),
    /// The process is killed, then this happens to the files, then it starts again.
    Kill(Vec<Damage>),
    /// This happens to the files while the process runs.
    Damage(Damage),
}

/// What happens to a file; places are shares of its length in 65,536ths.
#[derive(Debug, Clone)]
pub(crate) enum Damage {
    /// A byte is changed by this mask.
    Flip { segment: u8, at: u16, mask: u8 },
    /// A stretch becomes this byte.
    Fill { segment: u8, at: u16, len: u8, with: u8 },
    /// The end is cut off. Only while nothing runs: a running process knows how long its files are.
    Cut { segment: u8, at: u16 },
    /// Bytes are added at the end.
    Grow { segment: u8, len: u8 },
    /// A stretch is copied over another one of the same file.
    Copy { segment: u8, from: u16, to: u16, len: u8 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Uncommitted,
    Waiting,
    Taken,
    Done,
}

#[derive(Debug, Clone)]
struct Message {
    metadata: Vec<u8>,
    body: Vec<u8>,
    records: u32,
    state: State,
    /// Damage touched it: it may be lost, or come again after it was done.
    is_damaged: bool,
}

/// The queue and what is known of it.
struct Run {
    folder: PathBuf,
    log: Log,
    messages: BTreeMap<Position, Message>,
    /// Which copies of a segment's header were damaged.
    headers: BTreeMap<u64, [bool; 2]>,
    appended: u32,
}

/// Does the steps, then empties the queue; panics where the queue breaks its word.
pub(crate) fn run(folder: &Path, steps: &[Step]) {
    let folder = folder.to_owned();
    let (log, _) = Log::open(&folder, CONFIG).expect("a new queue opens");
    let mut run = Run { folder, log, messages: BTreeMap::new(), headers: BTreeMap::new(), appended: 0 };
    for step in steps {
        run.step(step);
    }
    run.finish();
}

impl Run {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Append { metadata, body } => self.append(usize::from(*metadata), usize::from(*body) % 700),
            Step::Commit(which) => {
                if let Some(position) = self.pick(State::Uncommitted, *which) {
                    self.log.commit(position);
                    self.set(position, State::Waiting);
                }
            }
            Step::Discard(which) => {
                if let Some(position) = self.pick(State::Uncommitted, *which) {
                    self.log.discard(position);
                    self.set(position, State::Done);
                }
            }
            Step::Take => {
                self.take();
            }
            Step::Acknowledge(which) => {
                if let Some(position) = self.pick(State::Taken, *which) {
                    assert!(self.log.acknowledge(position), "{position:?} was handed out");
                    assert!(!self.log.acknowledge(position), "{position:?} is done");
                    self.set(position, State::Done);
                }
            }
            Step::GiveBack(which) => {
                if let Some(position) = self.pick(State::Taken, *which) {
                    assert!(self.log.give_back(position), "{position:?} was handed out");
                    self.set(position, State::Waiting);
                }
            }
            Step::Kill(damages) => self.kill(damages),
            Step::Damage(Damage::Cut { .. } | Damage::Grow { .. }) => {}
            Step::Damage(damage) => self.damage(damage),
        }
    }

    fn append(&mut self, metadata: usize, body: usize) {
        self.appended += 1;
        let fill = |len: usize, salt: u32| -> Vec<u8> {
            (0..len as u32).map(|at| (at.wrapping_mul(31) ^ self.appended.wrapping_mul(salt)) as u8).collect()
        };
        let (metadata, body) = (fill(metadata, 17), fill(body, 101));
        let position = self.log.append(&metadata, &body, self.appended).expect("an append to a sound disk");
        if position.offset == SEGMENT_HEADER {
            // A new file; a number is used again once nothing is left of the queue.
            self.headers.remove(&position.segment);
            self.messages.retain(|known, _| known.segment != position.segment);
        }
        let message = Message {
            metadata,
            body,
            records: self.appended,
            state: State::Uncommitted,
            // A running process has no need of the header, a later one has.
            is_damaged: self.headers.get(&position.segment) == Some(&[true, true]),
        };
        self.messages.insert(position, message);
    }

    fn take(&mut self) -> Option<Position> {
        let entry = self.log.take().expect("a sound disk is read");
        let first_uncommitted = self.first(State::Uncommitted);
        let Some(Entry { position, metadata, body, records }) = entry else {
            // Nothing is held back but what stands behind a message that is not committed.
            let held = self.first(State::Waiting);
            if let Some(held) = held {
                assert!(first_uncommitted.is_some_and(|first| first < held), "{held:?} is not handed out");
            }
            return None;
        };
        let message = self.messages.get_mut(&position).expect("only what was appended is handed out");
        assert_eq!((&message.metadata[..], &message.body[..]), (&metadata[..], &body[..]), "{position:?}");
        assert_eq!(message.records, records, "{position:?}");
        match message.state {
            State::Waiting => {}
            State::Done => assert!(message.is_damaged, "{position:?} comes again"),
            State::Taken | State::Uncommitted => panic!("{position:?} is {:?}", message.state),
        }
        message.state = State::Taken;
        if let Some(earlier) = self.first(State::Waiting) {
            assert!(earlier > position, "{position:?} comes before {earlier:?}");
        }
        Some(position)
    }

    fn kill(&mut self, damages: &[Damage]) {
        for damage in damages {
            self.damage(damage);
        }
        let (log, recovered) = Log::open(&self.folder, CONFIG).expect("a damaged queue opens");
        self.log = log;
        for message in self.messages.values_mut().filter(|message| message.state != State::Done) {
            message.state = State::Waiting;
        }
        let whole =
            self.messages.values().filter(|m| m.state == State::Waiting && !m.is_damaged).count() as u64;
        assert!(recovered.entries >= whole, "{} of {whole} are found", recovered.entries);
        assert_eq!(self.log.entries(), recovered.entries);
    }

    fn damage(&mut self, damage: &Damage) {
        match *damage {
            Damage::Flip { segment, at, mask } => self.change(segment, at, 1, |bytes, _| bytes[0] ^= mask),
            Damage::Fill { segment, at, len, with } => {
                self.change(segment, at, u64::from(len), |bytes, _| bytes.fill(with));
            }
            Damage::Copy { segment, from, to, len } => {
                self.change(segment, to, u64::from(len), |bytes, file| {
                    let from = share(file.len() as u64, from) as usize;
                    let len = bytes.len().min(file.len() - from);
                    bytes[..len].copy_from_slice(&file[from..from + len]);
                })
            }
            Damage::Cut { segment, at } => {
                let Some((id, path)) = self.file(segment) else { return };
                let length = fs::metadata(&path).expect("a segment").len();
                let left = share(length, at);
                OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .and_then(|f| f.set_len(left))
                    .expect("cut a segment");
                self.touch(id, left, length);
            }
            Damage::Grow { segment, len } => {
                let Some((_, path)) = self.file(segment) else { return };
                let mut bytes = fs::read(&path).expect("a segment");
                bytes.extend((0..len).map(|at| at.wrapping_mul(37)));
                fs::write(&path, bytes).expect("grow a segment");
            }
        }
    }

    /// Changes up to `len` bytes of a file; what is the same afterwards is not damaged.
    fn change(&mut self, segment: u8, at: u16, len: u64, how: impl FnOnce(&mut [u8], &[u8])) {
        let Some((id, path)) = self.file(segment) else { return };
        let before = fs::read(&path).expect("a segment");
        let begin = share(before.len() as u64, at);
        let end = (begin + len).min(before.len() as u64);
        if begin >= end {
            return;
        }
        let old = &before[begin as usize..end as usize];
        let mut new = old.to_vec();
        how(&mut new, &before);
        let file = OpenOptions::new().write(true).open(&path).expect("a segment");
        file.write_all_at(&new, begin).expect("damage a segment");
        for (index, _) in old.iter().zip(&new).enumerate().filter(|(_, (old, new))| old != new) {
            self.touch(id, begin + index as u64, begin + index as u64 + 1);
        }
    }

    /// These bytes are not what they were.
    fn touch(&mut self, id: u64, begin: u64, end: u64) {
        let copies = self.headers.entry(id).or_default();
        for (copy, from) in copies.iter_mut().zip([0, SEGMENT_HEADER / 2]) {
            *copy |= begin < from + SEGMENT_HEADER / 2 && end > from;
        }
        let is_lost = *copies == [true, true];
        for (position, message) in self.messages.iter_mut().filter(|(position, _)| position.segment == id) {
            let message_end = position.offset + record_bytes(message.metadata.len(), message.body.len());
            message.is_damaged |= is_lost || (begin < message_end && end > position.offset);
        }
    }

    fn file(&self, which: u8) -> Option<(u64, PathBuf)> {
        let mut names: Vec<String> = fs::read_dir(&self.folder)
            .expect("the queue's folder")
            .map(|entry| entry.expect("a file").file_name().into_string().expect("a plain name"))
            .collect();
        names.sort();
        let name = names.get(usize::from(which) % names.len().max(1))?;
        let id = u64::from_str_radix(name.trim_end_matches(".segment"), 16).expect("the number of a segment");
        Some((id, self.folder.join(name)))
    }

    /// The first message in this state that must be there.
    fn first(&self, state: State) -> Option<Position> {
        let mut found = self.messages.iter().filter(|(_, m)| m.state == state && !m.is_damaged);
        // One that is damaged may hold back as well: the reader may still be in front of it.
        let mut any = self.messages.iter().filter(|(_, m)| m.state == state);
        match state {
            State::Uncommitted => any.next(),
            _ => found.next(),
        }
        .map(|(position, _)| *position)
    }

    fn pick(&self, state: State, which: u8) -> Option<Position> {
        let all: Vec<Position> =
            self.messages.iter().filter(|(_, m)| m.state == state).map(|(position, _)| *position).collect();
        all.get(usize::from(which) % all.len().max(1)).copied()
    }

    fn set(&mut self, position: Position, state: State) {
        self.messages.get_mut(&position).expect("a known message").state = state;
    }

    fn finish(&mut self) {
        while let Some(position) = self.pick(State::Uncommitted, 0) {
            self.step(&Step::Commit(0));
            assert_ne!(self.messages[&position].state, State::Uncommitted);
        }
        while let Some(position) = self.take() {
            assert!(self.log.acknowledge(position));
            self.set(position, State::Done);
        }
        while self.pick(State::Taken, 0).is_some() {
            self.step(&Step::Acknowledge(0));
        }
        assert!(self.take().is_none());
        assert_eq!(self.log.entries(), 0, "nothing waits");
        // All that is left is the segment being written.
        assert!(self.file(0).is_none_or(|first| self.file(1) == Some(first)), "one file at most");
        assert!(self.log.bytes() <= CONFIG.segment_bytes + 1000);
        self.kill(&[]);
        while let Some(position) = self.take() {
            assert!(self.messages[&position].is_damaged, "{position:?} was done before the kill");
            assert!(self.log.acknowledge(position));
        }
    }
}

/// A place in a file.
fn share(length: u64, at: u16) -> u64 {
    length * u64::from(at) / 65_536
}

/// Steps out of a fuzzer's bytes; what is missing at the end is zero.
pub(crate) fn steps(bytes: &[u8]) -> Vec<Step> {
    let mut rest = bytes.iter().copied();
    let mut steps = Vec::new();
    while let (Some(kind), true) = (rest.next(), steps.len() < 200) {
        let mut byte = || rest.next().unwrap_or(0);
        steps.push(match kind % 16 {
            0..=3 => Step::Append { metadata: byte(), body: u16::from_le_bytes([byte(), byte()]) },
            4..=6 => Step::Commit(byte()),
            7 => Step::Discard(byte()),
            8..=10 => Step::Take,
            11 | 12 => Step::Acknowledge(byte()),
            13 => Step::GiveBack(byte()),
            14 => Step::Kill((0..byte() % 4).map(|_| damage(&mut byte)).collect()),
            _ => Step::Damage(damage(&mut byte)),
        });
    }
    steps
}

fn damage(byte: &mut impl FnMut() -> u8) -> Damage {
    let (kind, segment) = (byte(), byte());
    let mut place = || u16::from_le_bytes([byte(), byte()]);
    match kind % 5 {
        0 => Damage::Flip { segment, at: place(), mask: byte() },
        1 => Damage::Fill { segment, at: place(), len: byte(), with: byte() },
        2 => Damage::Cut { segment, at: place() },
        3 => Damage::Grow { segment, len: byte() },
        _ => Damage::Copy { segment, from: place(), to: place(), len: byte() },
    }
}
