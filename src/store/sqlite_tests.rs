//! The store on real files: reopened, copied in mid-flight, damaged, foreign.

use rusqlite::Connection;

use super::super::outbox::{AttemptOutcome, OutboxState, outbox_id};
use super::*;
use crate::deployment::{Beginning, Event, Mode, Origin, transition};
use crate::model::DeploymentId;
use crate::pipeline::ObjectiveState;
use crate::verdict::Policy;

impl Store {
    /// As on a full or read-only disk: reads work, writes fail.
    pub(crate) fn refuse_writes(&self, refused: bool) {
        self.lock().pragma_update(None, "query_only", refused).unwrap();
    }
}

fn at(seconds: u64) -> UnixNanos {
    UnixNanos::from_secs(1_800_000_000 + seconds)
}

fn deployment(id: &str, started: u64) -> Deployment {
    Beginning {
        id: DeploymentId(id.into()),
        service: ServiceKey { name: "checkout".into(), environment: "prod".into(), ..ServiceKey::default() },
        baseline: Some("v1".into()),
        candidate: "v2".into(),
        time: None,
        scope: Default::default(),
        origin: Origin::Detected,
        release: Deployment::VERSION.into(),
        mode: Mode::Act,
        policy: Policy::default(),
        url: None,
        commit: None,
        share: None,
    }
    .begin(at(started))
}

fn ended(id: &str, started: u64) -> Deployment {
    transition(&deployment(id, started), Event::CancelledBy("test".into()), at(started)).deployment
}

fn commit(seconds: u64, deployments: Vec<Deployment>) -> Commit {
    let deployments = deployments.into_iter().map(Arc::new).collect();
    Commit { at: at(seconds), deployments, ..Commit::default() }
}

fn row(deployment: &str) -> NewOutboxRow {
    NewOutboxRow {
        id: outbox_id(deployment, "rollback", "deployer"),
        deployment_id: Some(DeploymentId(deployment.into())),
        kind: "rollback".into(),
        endpoint: "deployer".into(),
        body: b"{}".to_vec(),
    }
}

fn snapshot(content: &str) -> ServiceSnapshot {
    let mut out = Writer::with_header();
    content.to_owned().save(&mut out);
    ServiceSnapshot { service: known("v1").service, at: at(10), bytes: out.into_bytes() }
}

fn known(version: &str) -> VersionKey {
    let service =
        ServiceKey { name: "checkout".into(), extra: vec!["eu \"1\"".into()], ..ServiceKey::default() };
    VersionKey { service, version: version.into() }
}

fn objective(journey: &str, seconds: u64) -> ObjectiveState {
    let service = known("v1").service;
    ObjectiveState { service, journey: journey.into(), at: at(seconds), bytes: vec![1, 2, 3] }
}

fn everything() -> (Commit, Vec<NewOutboxRow>) {
    let mut all = commit(10, vec![deployment("d1", 1), ended("d0", 0)]);
    all.known_versions = vec![known("v1"), known("v2")];
    all.snapshots = vec![snapshot("state")];
    all.objectives = vec![objective("", 10), objective("pay", 10)];
    (all, vec![row("d1")])
}

#[test]
fn what_was_committed_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rollguard.db");
    let (all, rows) = everything();
    Store::open(&path).unwrap().commit(&all, &rows).unwrap();
    let store = Store::open(&path).unwrap();
    let restored = store.restore().unwrap();
    assert_eq!(restored.deployments, all.deployments, "newest first");
    assert_eq!(restored.known_versions, all.known_versions);
    assert_eq!(restored.snapshots, [snapshot("state")]);
    assert_eq!(restored.objectives, all.objectives);
    assert_eq!(store.due(at(10), 9).unwrap().into_iter().map(|r| r.new).collect::<Vec<_>>(), rows);
}

/// Scenario: the machine dies right after a commit; what is on disk at that moment is all there is.
#[test]
fn a_crash_after_a_commit_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rollguard.db");
    let store = Store::open(&path).unwrap();
    let (all, rows) = everything();
    store.commit(&all, &rows).unwrap();
    let image = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), image.path().join(file.file_name())).unwrap();
    }
    assert!(image.path().join("rollguard.db-wal").exists(), "the commit is still in the log only");
    let after = Store::open(image.path().join("rollguard.db")).unwrap();
    assert_eq!(after.restore().unwrap().deployments, all.deployments);
    assert_eq!(after.due(at(10), 9).unwrap().len(), 1);
}

#[test]
fn committing_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("rollguard.db")).unwrap();
    let (mut all, rows) = everything();
    store.commit(&all, &rows).unwrap();
    store.record_attempt(&rows[0].id, &AttemptOutcome::Delivered, at(11)).unwrap();
    let before = (store.restore().unwrap().deployments, store.list(OutboxState::Delivered, 9).unwrap());
    all.at = at(12);
    store.commit(&all, &rows).unwrap();
    assert_eq!(
        (store.restore().unwrap().deployments, store.list(OutboxState::Delivered, 9).unwrap()),
        before
    );
    assert_eq!(store.next_due().unwrap(), None);
}

#[test]
fn a_failing_commit_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("rollguard.db")).unwrap();
    store.lock().execute_batch("DROP TABLE outbox").unwrap();
    let (all, rows) = everything();
    assert_eq!(store.commit(&all, &rows).unwrap_err().to_string(), "write an outbox row");
    assert!(store.restore().unwrap().deployments.is_empty());
}

#[test]
fn attempts_move_a_row_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("rollguard.db")).unwrap();
    store.commit(&commit(10, vec![]), &[row("d1"), row("d2")]).unwrap();
    let (one, two) = (row("d1").id, row("d2").id);
    let retry = AttemptOutcome::Retry { next_at: at(13), error: "503".into() };
    store.record_attempt(&one, &retry, at(12)).unwrap();
    assert_eq!(store.due(at(12), 9).unwrap().iter().map(|r| &r.new.id).collect::<Vec<_>>(), [&two]);
    assert_eq!(store.due(at(13), 9).unwrap().len(), 2);
    assert_eq!(store.due(at(13), 1).unwrap().len(), 1);
    assert_eq!(store.next_due().unwrap(), Some(at(10)));
    store.record_attempt(&one, &AttemptOutcome::Dead("410".into()), at(14)).unwrap();
    store.record_attempt(&one, &AttemptOutcome::Delivered, at(15)).unwrap();
    store.record_attempt(&two, &AttemptOutcome::Delivered, at(15)).unwrap();
    let dead = store.list(OutboxState::Dead, 9).unwrap();
    assert_eq!((dead.len(), dead[0].attempts, dead[0].last_error.as_deref()), (1, 2, Some("410")));
    let delivered = store.list(OutboxState::Delivered, 9).unwrap();
    assert_eq!((delivered[0].attempts, delivered[0].delivered_at), (1, Some(at(15))));
}

#[test]
fn a_damaged_snapshot_is_left_out_and_the_rest_stands() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("rollguard.db")).unwrap();
    let (all, rows) = everything();
    store.commit(&all, &rows).unwrap();
    for damage in [
        "UPDATE snapshots SET bytes = substr(bytes, 1, 9)",
        "UPDATE snapshots SET bytes = x'00', digest = x'00'",
    ] {
        store.lock().execute_batch(damage).unwrap();
        let restored = store.restore().unwrap();
        assert_eq!((restored.snapshots.len(), restored.deployments.len()), (0, 2), "{damage}");
    }
    store.lock().execute_batch("UPDATE deployments SET state = x'ff' WHERE id = 'd0'").unwrap();
    assert_eq!(store.restore().unwrap().deployments.len(), 1);
}

/// A budget counts for 30 days: it outlives a week of silence, and damage to one costs that one only.
#[test]
fn objectives_outlive_snapshots_and_end_after_their_days() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("rollguard.db")).unwrap();
    let mut first = commit(0, vec![]);
    first.objectives = vec![objective("", 0), objective("pay", 0)];
    first.snapshots = vec![snapshot("state")];
    store.commit(&first, &[]).unwrap();
    let mut later = commit(20 * 86_400, vec![]);
    later.objectives = vec![objective("pay", 20 * 86_400)];
    later.snapshots = vec![ServiceSnapshot { at: at(20 * 86_400), ..snapshot("other") }];
    store.commit(&later, &[]).unwrap();
    assert_eq!(store.restore().unwrap().objectives.len(), 2, "twenty days are no thirty");
    store.lock().execute_batch("UPDATE objectives SET bytes = x'00' WHERE journey = ''").unwrap();
    assert_eq!(store.restore().unwrap().objectives, later.objectives);
    later.at = at(32 * 86_400);
    store.commit(&later, &[]).unwrap();
    let left = store.lock().query_row("SELECT count(*) FROM objectives", [], |row| row.get::<_, u32>(0));
    assert_eq!(left.unwrap(), 1);
}

#[test]
fn hours_are_read_by_number_and_end_after_eight_days() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("rollguard.db")).unwrap();
    let hour = |service: &str, number: i64, byte: u8| HourRow {
        service: ServiceKey { name: service.into(), ..ServiceKey::default() },
        number,
        bytes: vec![byte],
    };
    let write_at = |number: u64, hours: Vec<HourRow>| {
        let at = UnixNanos::from_secs(number * 3_600);
        store.commit(&Commit { at, hours, ..Commit::default() }, &[]).unwrap();
    };
    let write = |hours: Vec<HourRow>| write_at(1_002, hours);
    write(vec![hour("a", 1_000, 1), hour("a", 1_001, 2), hour("b", 1_000, 3)]);
    // Written again when it is over: the newer one stays.
    write(vec![hour("a", 1_001, 4)]);
    let read = |service: &str, numbers: &[i64]| store.hours(&hour(service, 0, 0).service, numbers).unwrap();
    assert_eq!(read("a", &[999, 1_000, 1_001]), [hour("a", 1_000, 1), hour("a", 1_001, 4)]);
    assert_eq!(read("b", &[1_000, 1_001]), [hour("b", 1_000, 3)]);
    assert_eq!(read("c", &[1_000]), []);
    write(vec![hour("b", 2_000, 5)]);
    assert_eq!(
        read("a", &[1_000]),
        [hour("a", 1_000, 1)],
        "a row of a clock that was ahead takes nothing along"
    );
    write_at(1_000 + 192, vec![hour("b", 1_192, 5)]);
    assert_eq!(read("a", &[1_000]), [hour("a", 1_000, 1)], "eight days are kept");
    write_at(1_001 + 192, vec![hour("b", 1_193, 5)]);
    assert_eq!((read("a", &[1_000]), read("a", &[1_001]).len()), (Vec::new(), 1));
    store.refuse_writes(true);
    assert_eq!(read("a", &[1_001]).len(), 1);
}

#[test]
fn old_things_are_pruned_and_running_ones_never() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("rollguard.db")).unwrap();
    let running: Vec<_> = (0..300).map(|i| deployment(&format!("run{i}"), i)).collect();
    let over: Vec<_> = (0..1_100).map(|i| ended(&format!("over{i:04}"), 1_000 + i)).collect();
    let rows: Vec<_> = (0..1_100).map(|i| row(&format!("over{i:04}"))).collect();
    store.commit(&commit(1, running), &rows).unwrap();
    for row in &rows {
        store.lock().execute("UPDATE outbox SET state = 'delivered' WHERE id = ?1", [&row.id]).unwrap();
    }
    store.commit(&commit(2, over), &[row("run0")]).unwrap();
    let restored = store.restore().unwrap().deployments;
    assert_eq!(restored.iter().filter(|d| !d.phase.is_over()).count(), 300);
    assert_eq!(restored.len(), 300 + RESTORE_ENDED as usize);
    let count = |sql: &str| store.lock().query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM deployments WHERE ended = 1"), KEEP_DEPLOYMENTS);
    assert_eq!(count("SELECT count(*) FROM outbox WHERE state = 'delivered'"), KEEP_OUTBOX);
    assert_eq!(store.due(at(9), 9).unwrap().len(), 1);
}

#[test]
fn files_that_are_not_ours_are_refused_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    std::fs::write(
        file("text.db"),
        "this is a text file, and long enough to be read as a header of something else",
    )
    .unwrap();
    Connection::open(file("foreign.db")).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    drop(Store::open(file("newer.db")).unwrap());
    Connection::open(file("newer.db")).unwrap().pragma_update(None, "user_version", 99).unwrap();
    std::fs::write(file("plain"), "").unwrap();
    for (name, says) in [
        ("text.db", "this is not a Rollguard database"),
        ("foreign.db", "this is not a Rollguard database"),
        ("newer.db", "written by a newer Rollguard (schema 99, this one knows 3)"),
        ("nowhere/rollguard.db", "the file and its directory must exist and be writable"),
        ("plain/rollguard.db", "the file and its directory must exist and be writable"),
    ] {
        let error = Store::open(file(name)).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains(name), "{error}");
    }
}

#[test]
fn a_read_only_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rollguard.db");
    drop(Store::open(&path).unwrap());
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let mut connection = Connection::open_with_flags(&path, flags).unwrap();
    let error = schema::prepare(&mut connection, &path).unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
}

#[test]
fn a_second_owner_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rollguard.db");
    let first = Store::open(&path).unwrap();
    assert!(matches!(Store::open(&path).unwrap_err(), StoreError::InUse { .. }));
    drop(first);
    Store::open(&path).unwrap();
}
