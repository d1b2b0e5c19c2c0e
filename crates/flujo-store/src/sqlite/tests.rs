//! How a file is brought to a later version. The two versions behind the last one are made up here.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;

use rusqlite::Connection;

use super::failure::Failure;
use super::file::{MIGRATIONS, be_patient, migrate, prepare};

const FILE: &str = "FLUJO_TEST_MIGRATED";

/// Two more versions, the second of which takes as long as one lets it.
fn versions(second: &'static str) -> Vec<&'static str> {
    let first = "ALTER TABLE runs ADD COLUMN colour TEXT; UPDATE runs SET colour = 'blue';";
    [MIGRATIONS, &[first, second]].concat()
}

const ENDLESS: &str = "
    CREATE TABLE half (x);
    UPDATE runs SET colour = 'half';
    WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)
    INSERT INTO half SELECT zeroblob(100000) FROM n;";
const FINE: &str = "CREATE TABLE whole (x); UPDATE runs SET colour = colour || ' and green';";

/// A file of this version with a run.
fn first(file: &Path) -> Connection {
    let mut connection = Connection::open(file).unwrap();
    be_patient(std::time::Duration::from_mins(1));
    migrate(file, &mut connection, MIGRATIONS).unwrap();
    connection
        .execute_batch(
            "INSERT INTO runs (id, pipeline, created, status, updated, steps, cost, tokens, requests, unpriced, token, \
             through, last, bytes) VALUES ('a', 'p', 1, 'running', 1, 0, 0, 0, 0, 0, 1, 0, 0, 0)",
        )
        .unwrap();
    connection
}

fn colour(connection: &Connection) -> String {
    connection
        .query_row("SELECT colour FROM runs WHERE id = 'a'", (), |row| row.get(0))
        .unwrap()
}

/// How many versions behind the last one it has got.
fn later(connection: &Connection) -> usize {
    let version: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    usize::try_from(version).unwrap() - MIGRATIONS.len()
}

#[test]
fn a_file_of_an_earlier_version_becomes_one_of_this() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let mut connection = first(&file);
    for _ in 0..2 {
        migrate(&file, &mut connection, &versions(FINE)).unwrap();
        assert_eq!(
            (later(&connection), colour(&connection)),
            (2, "blue and green".to_owned())
        );
    }
    let newer = migrate(&file, &mut connection, MIGRATIONS);
    assert!(matches!(newer, Err(Failure::Store(_))), "{newer:?}");
}

#[test]
fn a_version_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let mut connection = first(&file);
    let failed = migrate(
        &file,
        &mut connection,
        &versions("UPDATE runs SET colour = 'half'; CREATE nonsense;"),
    );
    assert!(matches!(failed, Err(Failure::Sqlite(_))), "{failed:?}");
    assert_eq!((later(&connection), colour(&connection)), (1, "blue".to_owned()));
    migrate(&file, &mut connection, &versions(FINE)).unwrap();
    assert_eq!(colour(&connection), "blue and green");
}

#[test]
fn a_migration_that_is_killed_in_the_middle_has_not_begun() {
    if let Some(file) = std::env::var_os(FILE) {
        let file = Path::new(&file);
        let mut connection = Connection::open(file).unwrap();
        drop(migrate(file, &mut connection, &versions(ENDLESS)));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    drop(first(&file));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "sqlite::tests::a_migration_that_is_killed_in_the_middle_has_not_begun",
        ])
        .env(FILE, &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // It is in the middle when more has been written than it keeps in memory.
    let log = folder.path().join("runs.db-wal");
    while std::fs::metadata(&log).map_or(0, |log| log.len()) < 5_000_000 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut connection = Connection::open(&file).unwrap();
    assert_eq!((later(&connection), colour(&connection)), (1, "blue".to_owned()));
    migrate(&file, &mut connection, &versions(FINE)).unwrap();
    assert_eq!(
        (later(&connection), colour(&connection)),
        (2, "blue and green".to_owned())
    );
    let whole: String = connection
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(whole, "ok");
}

#[test]
fn whoever_looks_while_a_file_is_made_takes_it_for_ours() {
    for _ in 0..100 {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("runs.db");
        // Its name is waited for on the disk: from here on they are as close together as can be.
        std::fs::File::create(&file).unwrap();
        let start = Barrier::new(16);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    start.wait();
                    prepare(&file, &super::SqliteOptions::default()).unwrap();
                });
            }
        });
    }
}
