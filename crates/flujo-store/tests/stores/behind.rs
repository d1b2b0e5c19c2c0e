//! The row of a run that somebody owns is behind its log, and nobody notices.

use std::fs;
use std::path::Path;

use flujo_core::store::{Change, RunQuery, RunStore, Seen, StoreError};
use flujo_store::Sqlite;
use rusqlite::Connection;

use super::runs::{append, body, enlist, have, load, wait, whole, write};

/// Of each of the runs so many records.
const RECORDS: u64 = 800;
const SIZE: usize = 40;

/// What the row of a run says: the number of its last record, and how many keys have been given since.
fn row(file: &Path, run: &str) -> (u64, i64) {
    let outside = Connection::open(file).unwrap();
    let sql = "SELECT last, (SELECT max(record) FROM records) - tells FROM runs WHERE id = ?1";
    outside
        .query_row(sql, (run,), |row| {
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?))
        })
        .unwrap()
}

fn bytes(run: &str) -> u64 {
    let of_body = |number| body(run, number, SIZE).len() as u64;
    (1..=RECORDS).map(of_body).sum()
}

#[test]
fn what_a_row_does_not_tell_of_is_found_by_whoever_looks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let store = Sqlite::open(&file).unwrap();
    let worker = enlist(&store);
    let claims = ["a", "b", "c"].map(|run| have(&store, run, worker));
    let begun = wait(store.info("a".into())).unwrap().unwrap().bytes;
    let mut seen = 0;
    for number in 1..=RECORDS {
        for claim in &claims {
            write(&store, claim, number, SIZE).unwrap();
        }
        let (last, since) = row(&file, "a");
        // Never so far that it couldn't be found.
        assert!(since <= 1_024 + 3, "{since}");
        seen = seen.max(number - last);
        if number % 100 == 0 {
            assert_eq!(whole(&Sqlite::open(&file).unwrap(), "b", SIZE), number);
        }
    }
    assert!(seen > 300, "{seen}: nothing was behind");
    assert!(row(&file, "c").0 < RECORDS);
    let other = Sqlite::open(&file).unwrap();
    for info in wait(other.list(RunQuery::default())).unwrap().runs {
        assert_eq!(
            (info.last_record, info.bytes),
            (RECORDS, begun + bytes(&info.id)),
            "{}",
            info.id
        );
    }
    // Given back: nothing is left to be found.
    wait(store.write(&claims[0], vec![Change::Release])).unwrap();
    assert_eq!(row(&file, "a").0, RECORDS);
    // Of one that is gone, the next one finds it.
    let seen = wait(other.workers()).unwrap()[0].beats;
    assert!(wait(other.dismiss(worker, Some(seen))).unwrap());
    let free = RunQuery {
        owner: Some(None),
        ..RunQuery::default()
    };
    let free = wait(other.list(free)).unwrap().runs;
    assert_eq!(
        free.iter().map(|run| run.last_record).collect::<Vec<_>>(),
        [RECORDS; 3]
    );
    for run in ["a", "b", "c"] {
        let claim = have(&other, run, enlist(&other));
        write(&other, &claim, RECORDS + 1, SIZE).unwrap();
        assert_eq!(whole(&other, run, SIZE), RECORDS + 1);
        assert!(matches!(
            write(&store, &claims[1], RECORDS + 1, SIZE),
            Err(StoreError::Fenced { .. })
        ));
    }
}

#[test]
fn where_the_end_of_a_log_cannot_be_read_its_run_is_listed_and_the_others_are_readable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let store = Sqlite::open(&file).unwrap();
    let worker = enlist(&store);
    for run in ["a", "b"] {
        let claim = have(&store, run, worker);
        for number in 1..=10 {
            wait(store.write(&claim, vec![append(run, number, 900)])).unwrap();
        }
    }
    store.close();
    let mut all = fs::read(&file).unwrap();
    let seventh = body("a", 7, 900);
    let at = all.windows(900).position(|window| window == &*seventh).unwrap();
    // What kind of page it is.
    all[at / 4096 * 4096] = 0xff;
    fs::write(&file, &all).unwrap();
    let store = Sqlite::open(&file).unwrap();
    match load(&store, "a") {
        Err(StoreError::Corrupt { run, location, .. }) => {
            assert_eq!((run.as_deref(), &*location), (Some("a"), "one of its pages"));
        }
        other => panic!("{other:?}"),
    }
    let listed = wait(store.list(RunQuery::default())).unwrap().runs;
    let listed: Vec<_> = listed.iter().map(|run| (&*run.id, run.last_record)).collect();
    assert_eq!(listed, [("a", 1), ("b", 10)]);
    assert_eq!(whole(&store, "b", 900), 10);
    // Both are free when their worker is gone, and whoever wants to have this one is told that it is damaged.
    assert!(wait(store.dismiss(worker, None)).unwrap());
    let next = enlist(&store);
    let claim = have(&store, "b", next);
    write(&store, &claim, 11, 900).unwrap();
    let free = RunQuery {
        owner: Some(None),
        ..RunQuery::default()
    };
    let free = wait(store.list(free)).unwrap().runs;
    assert_eq!(free.iter().map(|run| &*run.id).collect::<Vec<_>>(), ["a"]);
    let claimed = wait(store.claim("a".into(), next, Seen::Free));
    assert!(matches!(claimed, Err(StoreError::Corrupt { .. })), "{claimed:?}");
}
