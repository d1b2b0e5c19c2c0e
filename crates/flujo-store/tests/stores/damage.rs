//! Files that aren't as they should be: told with their run and place, and left as they are.

use std::fs;
use std::path::Path;

use flujo_core::store::{Blob, Change, PurgeQuery, RunStore, StoreError};
use flujo_store::Sqlite;

use super::runs::{append, body, enlist, have, load, wait, whole, write};

/// Two runs, their records and a blob, closed.
fn fill(file: &Path) -> Blob {
    let store = Sqlite::open(file).unwrap();
    let worker = enlist(&store);
    let blob = Blob::of(body("blob", 0, 2000));
    for run in ["a", "b"] {
        let claim = have(&store, run, worker);
        for number in 1..=10 {
            write(&store, &claim, number, 900).unwrap();
        }
        wait(store.write(&claim, vec![Change::Blob(blob.clone())])).unwrap();
    }
    store.close();
    blob
}

/// Changes one byte of the first place where these bytes stand.
fn damage(file: &Path, bytes: &[u8]) {
    let mut all = fs::read(file).unwrap();
    let at = all
        .windows(bytes.len())
        .position(|window| window == bytes)
        .expect("it is stored as it is");
    all[at + bytes.len() / 2] ^= 1;
    fs::write(file, all).unwrap();
}

fn is_corrupt<T: std::fmt::Debug>(told: Result<T, StoreError>, run: &str, at: &str) {
    match told {
        Err(StoreError::Corrupt {
            run: Some(of),
            place,
            location,
            ..
        }) => {
            assert_eq!((&*of, location.as_str()), (run, at));
            assert!(place.contains("runs.db"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_damaged_record_is_told_and_other_runs_stay_readable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    fill(&file);
    damage(&file, &body("a", 7, 900));
    let before = fs::read(&file).unwrap();
    let store = Sqlite::open(&file).unwrap();
    is_corrupt(load(&store, "a"), "a", "record 7");
    assert_eq!(whole(&store, "b", 900), 10);
    // Its place in lists isn't damaged.
    assert_eq!(wait(store.info("a".into())).unwrap().unwrap().last_record, 10);
    store.close();
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn a_record_that_leads_to_another_runs_is_told_and_purging_takes_nothing_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    fill(&file);
    let outside = rusqlite::Connection::open(&file).unwrap();
    let run = |id: &str| -> i64 {
        let sql = "SELECT run FROM runs WHERE id = ?1";
        outside.query_row(sql, (id,), |row| row.get(0)).unwrap()
    };
    let (a, b) = (run("a"), run("b"));
    let led = "UPDATE records SET previous = (SELECT tells FROM runs WHERE run = ?2) \
               WHERE record = (SELECT record FROM records WHERE run = ?1 ORDER BY record LIMIT 1 OFFSET 4)";
    assert_eq!(outside.execute(led, (a, b)).unwrap(), 1);
    outside
        .execute(
            "UPDATE runs SET status = 'completed', worker = NULL WHERE run = ?1",
            (a,),
        )
        .unwrap();
    let store = Sqlite::open(&file).unwrap();
    is_corrupt(load(&store, "a"), "a", "record 4");
    let purged = wait(store.purge(PurgeQuery::default())).unwrap();
    let left = |run: i64| -> i64 {
        let sql = "SELECT count(*) FROM records WHERE run = ?1";
        outside.query_row(sql, (run,), |row| row.get(0)).unwrap()
    };
    assert_eq!((purged, left(a), left(b)), (1, 0, 10));
    assert_eq!(whole(&store, "b", 900), 10);
}

#[test]
fn a_damaged_blob_is_told_and_the_same_of_another_run_stays_readable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let blob = fill(&file);
    // From where both runs' copies are alike.
    damage(&file, &blob.body);
    let store = Sqlite::open(&file).unwrap();
    let told: Vec<_> = ["a", "b"].map(|run| wait(store.blob(run.into(), blob.id))).into();
    let (damaged, whole): (Vec<_>, Vec<_>) = ["a", "b"]
        .into_iter()
        .zip(told)
        .partition(|(_, told)| told.is_err());
    assert_eq!(whole[0].1.as_ref().unwrap(), &blob.body);
    let (run, told) = damaged.into_iter().next().unwrap();
    is_corrupt(told, run, &format!("blob {}", blob.id));
}

#[test]
fn a_page_of_garbage_is_told_and_other_runs_stay_readable_and_writable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    fill(&file);
    let mut all = fs::read(&file).unwrap();
    let bytes = body("a", 5, 900);
    let at = all
        .windows(bytes.len())
        .position(|window| window == &*bytes)
        .unwrap();
    let page = at / 4096 * 4096;
    // Where the page says what it is.
    all[page..page + 100].fill(0xff);
    fs::write(&file, &all).unwrap();
    let store = Sqlite::open(&file).unwrap();
    is_corrupt(load(&store, "a"), "a", "one of its pages");
    assert_eq!(whole(&store, "b", 900), 10);
    let claim = have(&store, "b", enlist(&store));
    wait(store.write(&claim, vec![append("b", 11, 900)])).unwrap();
    assert_eq!(whole(&store, "b", 900), 11);
}

#[test]
fn what_is_no_file_of_ours_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let theirs = folder.path().join("theirs.db");
    let other = rusqlite::Connection::open(&theirs).unwrap();
    other
        .execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        .unwrap();
    drop(other);
    fill(&folder.path().join("ours.db"));
    let ours = fs::read(folder.path().join("ours.db")).unwrap();
    for bytes in [
        b"some text, and no file of runs".to_vec(),
        fs::read(&theirs).unwrap(),
        ours[..5000].to_vec(),
        [&ours[..16], &[0xff; 5000]].concat(),
    ] {
        fs::write(&file, &bytes).unwrap();
        let refused = Sqlite::open(&file).and_then(|store| load(&store, "a").map(drop));
        assert!(
            matches!(&refused, Err(StoreError::Corrupt { place, .. }) if place.contains("runs.db")),
            "{refused:?}"
        );
        assert!(fs::read(&file).unwrap() == bytes, "it was changed");
    }
}

#[test]
fn a_file_of_a_later_version_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    fill(&file);
    let other = rusqlite::Connection::open(&file).unwrap();
    other
        .execute_batch("PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    drop(other);
    let before = fs::read(&file).unwrap();
    let refused = Sqlite::open(&file).map(drop);
    assert!(
        matches!(refused, Err(StoreError::NewerSchema { found: 99, .. })),
        "{refused:?}"
    );
    assert_eq!(fs::read(&file).unwrap(), before);
}
