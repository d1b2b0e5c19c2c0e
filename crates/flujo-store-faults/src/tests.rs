//! What a power cut leaves.

use rusqlite::Connection;

use super::Disk;

/// How many rows a power cut leaves of two, written one after the other.
fn left(synchronous: &str) -> i64 {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::watch(folder.path()).unwrap();
    let file = folder.path().canonicalize().unwrap().join("x.db");
    let connection = Connection::open(&file).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = wal; PRAGMA synchronous = full; CREATE TABLE t (x); INSERT INTO t VALUES (1);")
        .unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA synchronous = {synchronous}; INSERT INTO t VALUES (2)"
        ))
        .unwrap();
    let cut = folder.path().join("cut");
    disk.power_cut(&cut).unwrap();
    let cut = Connection::open(cut.join("x.db")).unwrap();
    cut.query_row("SELECT count(*) FROM t", (), |row| row.get(0))
        .unwrap()
}

#[test]
fn what_was_synced_is_left_and_what_was_not_is_gone() {
    assert_eq!(left("full"), 2);
    assert_eq!(left("normal"), 1);
}
