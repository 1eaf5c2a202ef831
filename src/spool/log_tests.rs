//! The queue as a plain value: what it keeps, deletes, refuses and counts. Sequences of everything that can
//! happen are in `tests/it/spool.rs`.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

use super::*;

const CONFIG: LogConfig = LogConfig { segment_bytes: 1_000, reserve_bytes: 0, fsync: true, seed: 11 };

fn open(folder: &Path) -> (Log, Recovered) {
    Log::open(folder, CONFIG).unwrap()
}

fn put(log: &mut Log, body: &[u8]) -> Position {
    let position = log.append(b"to: shop", body, 3).unwrap();
    log.sync().unwrap();
    log.commit(position);
    position
}

fn drain(log: &mut Log) -> Vec<Entry> {
    let entries: Vec<Entry> = std::iter::from_fn(|| log.take().unwrap()).collect();
    for entry in &entries {
        assert!(log.acknowledge(entry.position));
    }
    entries
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn messages_come_back_as_they_were_and_in_order_and_their_files_go() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    let bodies: Vec<Vec<u8>> = (0..50_u8).map(|n| vec![n; usize::from(n) * 20]).collect();
    let mut most = 0;
    for round in 0..4 {
        bodies.iter().for_each(|body| {
            put(&mut log, body);
        });
        assert_eq!(log.entries(), 50);
        most = most.max(log.bytes());
        assert_eq!(log.bytes(), on_disk(folder.path()), "round {round}");
        let entries = drain(&mut log);
        assert!(entries.iter().map(|entry| &entry.body[..]).eq(bodies.iter().map(|body| &body[..])));
        assert!(entries.iter().all(|entry| &entry.metadata[..] == b"to: shop" && entry.records == 3));
        assert!(log.take().unwrap().is_none());
        assert_eq!(log.entries(), 0);
    }
    assert!(most < 60_000, "{most}");
    assert!(log.bytes() <= 1_000 && on_disk(folder.path()) <= 1_000, "{} are left", log.bytes());
    assert_eq!(log.faults(), Faults::default());
}

fn on_disk(folder: &Path) -> u64 {
    files(folder).iter().map(|path| path.metadata().unwrap().len()).sum()
}

#[test]
fn one_message_that_stays_keeps_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    (0..100).for_each(|_| {
        put(&mut log, &[7; 300]);
    });
    let stuck = log.take().unwrap().unwrap();
    assert_eq!(drain(&mut log).len(), 99);
    assert!(files(folder.path()).len() <= 2, "{:?}", files(folder.path()));
    drop(log);
    let (mut log, recovered) = open(folder.path());
    assert_eq!((recovered.entries, recovered.records), (1, 3));
    assert_eq!(log.take().unwrap(), Some(stuck));
}

#[test]
fn what_was_taken_or_appended_and_not_finished_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    put(&mut log, b"acknowledged");
    put(&mut log, b"taken");
    let appended = log.append(b"", b"appended", 1).unwrap();
    let discarded = log.append(b"", b"discarded", 1).unwrap();
    let first = log.take().unwrap().unwrap();
    log.acknowledge(first.position);
    assert_eq!(&log.take().unwrap().unwrap().body[..], b"taken");
    assert_eq!(log.take().unwrap(), None, "what is not committed waits");
    log.discard(discarded);
    drop(log);
    let (mut log, recovered) = open(folder.path());
    assert_eq!(recovered, Recovered { entries: 2, records: 4, ..Recovered::default() });
    let bodies: Vec<Bytes> = drain(&mut log).into_iter().map(|entry| entry.body).collect();
    assert_eq!(bodies, [&b"taken"[..], b"appended"]);
    assert_eq!(appended.segment, discarded.segment);
}

#[test]
fn what_is_given_back_comes_again_before_what_is_newer() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    let positions: Vec<Position> = (0..4_u8).map(|n| put(&mut log, &[n])).collect();
    let taken: Vec<Position> = (0..3).map(|_| log.take().unwrap().unwrap().position).collect();
    assert_eq!(taken, positions[..3]);
    assert!(log.give_back(taken[2]) && log.give_back(taken[0]));
    assert!(!log.give_back(taken[0]), "it was given back");
    assert!(!log.acknowledge(taken[0]), "it is not handed out");
    let rest: Vec<Position> = drain(&mut log).iter().map(|entry| entry.position).collect();
    assert_eq!(rest, [positions[0], positions[2], positions[3]]);
    assert_eq!(log.entries(), 1);
}

#[test]
fn a_torn_end_costs_the_message_that_was_being_written() {
    let folder = tempfile::tempdir().unwrap();
    for kept in [1, 20, 28, 35, 60] {
        let (mut log, _) = open(folder.path());
        put(&mut log, b"whole");
        let torn = put(&mut log, &[1; 100]);
        drop(log);
        let file = OpenOptions::new().write(true).open(&files(folder.path())[0]).unwrap();
        file.set_len(torn.offset + kept).unwrap();
        let (mut log, recovered) = open(folder.path());
        assert_eq!((recovered.entries, recovered.torn, recovered.damaged_places), (1, 1, 0), "{kept}");
        assert_eq!(drain(&mut log).len(), 1);
        assert_eq!(log.faults(), Faults::default(), "{kept}: it was never answered");
        drop(log);
        fs::remove_dir_all(folder.path()).unwrap();
    }
}

#[test]
fn damage_is_counted_once_and_with_its_records() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    let positions: Vec<Position> = (0..5_u8).map(|n| put(&mut log, &[n; 50])).collect();
    drop(log);
    let file = OpenOptions::new().write(true).open(&files(folder.path())[0]).unwrap();
    // The body of the second, the header of the fourth.
    file.write_all_at(&[0xff], positions[1].offset + 60).unwrap();
    file.write_all_at(&[0xff], positions[3].offset + 9).unwrap();
    let (mut log, recovered) = open(folder.path());
    let expected = Recovered { entries: 4, records: 12, damaged_places: 1, damaged_bytes: 86, torn: 0 };
    assert_eq!(recovered, expected);
    let taken: Vec<Position> = drain(&mut log).iter().map(|entry| entry.position).collect();
    assert_eq!(taken, [positions[0], positions[2], positions[4]]);
    assert_eq!(log.faults(), Faults { lost_entries: 1, lost_records: 3, unmarked: 0 });
    assert_eq!((log.entries(), log.faults()), (0, Faults::default()));
    drop(log);
    assert_eq!(open(folder.path()).1.entries, 0, "what is lost is lost once");
}

#[test]
fn a_header_damaged_while_it_runs_is_counted_too() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    let positions: Vec<Position> = (0..3_u8).map(|n| put(&mut log, &[n; 50])).collect();
    let file = OpenOptions::new().write(true).open(&files(folder.path())[0]).unwrap();
    file.write_all_at(&[0xff], positions[1].offset).unwrap();
    assert_eq!(drain(&mut log).len(), 2);
    assert!(log.take().unwrap().is_none());
    assert_eq!(log.faults(), Faults { lost_entries: 1, lost_records: 3, unmarked: 0 });
    assert_eq!(log.entries(), 0);
}

/// Scenario: a process with too many files open, or too little memory, cannot read for a while. Guarantees: what waits
/// is neither lost nor passed over, whether it is read for the first time or again.
#[test]
fn what_cannot_be_read_now_is_read_later() {
    const MESSAGES: u8 = 40;
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    // Two in a file, and more files than are kept open.
    let positions: Vec<Position> = (0..MESSAGES).map(|n| put(&mut log, &[n; 400])).collect();
    let paths = files(folder.path());
    assert!(paths.len() > 17, "{}", paths.len());
    let (oldest, aside) = (&paths[0], folder.path().join("aside"));
    let out_of_reach = || {
        fs::rename(oldest, &aside).unwrap();
        // The system follows it until it gives up: ELOOP.
        symlink(oldest, oldest).unwrap();
    };
    let within_reach = || fs::rename(&aside, oldest).unwrap();
    out_of_reach();
    for _ in 0..3 {
        let error = log.take().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
        assert_eq!(log.entries(), u64::from(MESSAGES));
    }
    within_reach();
    let taken: Vec<Entry> = std::iter::from_fn(|| log.take().unwrap()).collect();
    let held: Vec<Position> = taken.iter().map(|entry| entry.position).collect();
    assert_eq!(held, positions);
    held.iter().for_each(|position| assert!(log.give_back(*position)));
    out_of_reach();
    for _ in 0..3 {
        log.take().unwrap_err();
    }
    within_reach();
    assert_eq!(drain(&mut log), taken);
    assert_eq!((log.faults(), log.entries()), (Faults::default(), 0));
}

#[test]
fn what_is_appended_is_synced_once_for_all_where_that_is_configured() {
    for (fsync, expected) in [(true, [0, 1, 0, 1]), (false, [0; 4])] {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(folder.path(), LogConfig { fsync, ..CONFIG }).unwrap();
        let append = |log: &mut Log| _ = log.append(b"", b"message", 1).unwrap();
        (0..3).for_each(|_| append(&mut log));
        let appended = log.synced();
        log.sync().unwrap();
        let synced = log.synced();
        log.sync().unwrap();
        let nothing_new = log.synced();
        append(&mut log);
        log.sync().unwrap();
        assert_eq!([appended, synced, nothing_new, log.synced()], expected, "fsync: {fsync}");
    }
}

#[test]
fn only_what_the_disk_has_lost_is_damage() {
    use rustix::io::Errno;
    for (errno, expected) in [
        (Errno::IO, true),
        (Errno::NOENT, true),
        (Errno::MFILE, false),
        (Errno::NFILE, false),
        (Errno::NOMEM, false),
        (Errno::ACCESS, false),
        (Errno::STALE, false),
        (Errno::LOOP, false),
    ] {
        assert_eq!(is_damage(&errno.into()), expected, "{errno:?}");
    }
    assert!(is_damage(&io::ErrorKind::UnexpectedEof.into()), "the file was cut");
}

#[test]
fn a_message_that_holds_a_record_is_not_read_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    put(&mut log, b"an order");
    let segment = fs::read(&files(folder.path())[0]).unwrap();
    // Its own bytes, put where a damaged header makes the reader look for the next record.
    let bait = put(&mut log, &segment[SEGMENT_HEADER_BYTES as usize..].repeat(4));
    put(&mut log, b"the last");
    drop(log);
    let file = OpenOptions::new().write(true).open(&files(folder.path())[0]).unwrap();
    file.write_all_at(&[0xff], bait.offset).unwrap();
    let (mut log, recovered) = open(folder.path());
    assert_eq!((recovered.entries, recovered.damaged_places), (2, 1));
    let bodies: Vec<Bytes> = drain(&mut log).into_iter().map(|entry| entry.body).collect();
    assert_eq!(bodies, [&b"an order"[..], b"the last"]);
}

/// A segment as `docs/queue-format.md` describes it, byte by byte: what a process of an earlier version left is read by
/// this one, and what this one leaves can be read by whoever goes by the description.
fn segment_by_the_book(salt: u64, is_done: [bool; 3]) -> Vec<u8> {
    let sum = |at: u64, bytes: &[u8]| {
        crc32fast::hash(&[&salt.to_le_bytes()[..], &at.to_le_bytes(), bytes].concat()).to_le_bytes()
    };
    let mut header =
        [&b"RGSPOOL\n"[..], &[1, 0, 0, 0], &[1, 0, 0, 0, 0, 0, 0, 0], &salt.to_le_bytes()].concat();
    let header_sum = crc32fast::hash(&header);
    header.extend_from_slice(&header_sum.to_le_bytes());
    let mut segment = header.repeat(2);
    let records: [(&[u8], &[u8], u8); 3] =
        [(b"", b"done", 1), (b"", b"waits", 2), (b"\x01\0\0\0\0\0\0\0n\x01\0\0\0\0\0\0\0v", b"tenant's", 3)];
    for ((metadata, body, number), is_done) in records.into_iter().zip(is_done) {
        let at = segment.len() as u64;
        let lengths = [
            &[metadata.len() as u8, 0, 0, 0][..],
            &[body.len() as u8, 0, 0, 0],
            &[number, 0, 0, 0],
            &sum(at, &[metadata, body].concat()),
        ]
        .concat();
        let mark = if is_done { sum(at, b"done") } else { [0; 4] };
        segment.extend_from_slice(
            &[&b"RGe\x1a"[..], &mark, &lengths, &sum(at, &lengths), metadata, body].concat(),
        );
    }
    segment
}

#[test]
fn a_segment_is_what_its_description_says() {
    const SALT: u64 = 0x0123_4567_89ab_cdef;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0000000000000001.segment");
    fs::write(&path, segment_by_the_book(SALT, [true, false, false])).unwrap();
    let (mut log, recovered) = open(folder.path());
    assert_eq!(recovered, Recovered { entries: 2, records: 5, ..Recovered::default() });
    let metadata = b"\x01\0\0\0\0\0\0\0n\x01\0\0\0\0\0\0\0v";
    let read: Vec<(Bytes, Bytes, u32)> = std::iter::from_fn(|| log.take().unwrap())
        .map(|entry| (entry.metadata, entry.body, entry.records))
        .collect();
    let expected: [(&[u8], &[u8], u32); 2] = [(b"", b"waits", 2), (metadata, b"tenant's", 3)];
    assert_eq!(read, expected.map(|(m, b, n)| (Bytes::copy_from_slice(m), Bytes::copy_from_slice(b), n)));
    drop(log);
    fs::remove_file(&path).unwrap();

    let (mut log, _) = open(folder.path());
    for (metadata, body, records) in
        [(&b""[..], &b"done"[..], 1), (b"", b"waits", 2), (metadata, b"tenant's", 3)]
    {
        let position = log.append(metadata, body, records).unwrap();
        log.commit(position);
    }
    let written = fs::read(&path).unwrap();
    let salt = u64::from_le_bytes(written[20..28].try_into().unwrap());
    assert_eq!(written, segment_by_the_book(salt, [false; 3]));
    let first = log.take().unwrap().unwrap();
    log.acknowledge(first.position);
    assert_eq!(fs::read(&path).unwrap(), segment_by_the_book(salt, [true, false, false]));
}

#[test]
fn another_version_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    let position = put(&mut log, b"message");
    let taken = log.take().unwrap().unwrap();
    log.acknowledge(taken.position);
    drop(log);
    let path = folder.path().join(format!("{:016x}.segment", position.segment + 1));
    let mut header = [0; 32];
    header[..8].copy_from_slice(b"RGSPOOL\n");
    header[8..12].copy_from_slice(&9_u32.to_le_bytes());
    let sum = crc32fast::hash(&header[..28]);
    header[28..].copy_from_slice(&sum.to_le_bytes());
    fs::write(&path, [&header[..], b"whatever version 9 holds"].concat()).unwrap();
    let before = files(folder.path());
    let error = Log::open(folder.path(), CONFIG).unwrap_err().to_string();
    assert!(
        error.contains("version 9") && error.contains("version 1") && error.contains("left as it is"),
        "{error}"
    );
    assert_eq!(files(folder.path()), before, "nothing is deleted, not even what is done");
}

#[test]
fn the_reserve_stays_free() {
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig { reserve_bytes: u64::MAX, ..CONFIG };
    let (mut log, _) = Log::open(folder.path(), config).unwrap();
    let error = log.append(b"", b"message", 1).unwrap_err();
    assert!(matches!(error, AppendError::Reserve { reserve: u64::MAX, .. }), "{error}");
    assert_eq!((log.bytes(), log.entries(), files(folder.path()).len()), (0, 0, 0));
}

#[test]
fn messages_too_large_for_the_format_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    let error = log.append(&[0; 1 << 16], b"message", 1).unwrap_err();
    assert!(matches!(error, AppendError::TooLarge), "{error}");
    put(&mut log, b"message");
    assert_eq!(drain(&mut log).len(), 1);
}

#[test]
fn files_are_for_their_owner_only_and_those_of_others_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let queue = folder.path().join("queue");
    let (mut log, _) = open(&queue);
    for name in ["notes.txt", "1.segment", "ffffffffffffffff.segment", "zzzzzzzzzzzzzzzz.segment"] {
        fs::write(queue.join(name), "mine").unwrap();
    }
    let position = put(&mut log, b"message");
    let segment = queue.join(format!("{:016x}.segment", position.segment));
    assert_eq!(segment.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(queue.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    drop(log);
    let (mut log, recovered) = open(&queue);
    assert_eq!((recovered.entries, recovered.damaged_places), (1, 0));
    assert_eq!(drain(&mut log).len(), 1);
    assert!(files(&queue).len() >= 4);
}

#[test]
fn files_that_were_never_finished_go_and_damaged_ones_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("0000000000000001.segment"), "").unwrap();
    fs::write(folder.path().join("0000000000000002.segment"), "RGSPOOL").unwrap();
    fs::write(folder.path().join("0000000000000003.segment"), [0; 500]).unwrap();
    let (_, recovered) = open(folder.path());
    let expected = Recovered { damaged_places: 1, damaged_bytes: 500, ..Recovered::default() };
    assert_eq!(recovered, expected);
    assert_eq!(files(folder.path()).len(), 0);
}

/// The search for the next record goes through the file piece by piece; its header may lie across two of them.
#[test]
fn the_next_record_is_found_wherever_it_begins() {
    const PIECE: usize = 16 * 1024;
    for before in PIECE - 75..PIECE - 25 {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(folder.path(), LogConfig { segment_bytes: 1 << 20, ..CONFIG }).unwrap();
        let damaged = put(&mut log, &vec![b'R'; before]);
        put(&mut log, b"behind it");
        let file = OpenOptions::new().write(true).open(&files(folder.path())[0]).unwrap();
        file.write_all_at(&[0xff], damaged.offset).unwrap();
        assert_eq!(drain(&mut log).len(), 1, "{before}, running");
        drop(log);
        // The mark of the one that was found, taken back.
        file.write_all_at(&[0; 4], damaged.offset + record_bytes(8, before) + 4).unwrap();
        let (mut log, recovered) = open(folder.path());
        assert_eq!((recovered.entries, recovered.damaged_places), (1, 1), "{before}");
        assert_eq!(drain(&mut log).len(), 1, "{before}, after a start");
    }
}
