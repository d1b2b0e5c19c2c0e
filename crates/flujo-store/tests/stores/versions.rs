//! Files that earlier versions have written, as this one finds them. A new version of the schema adds its file.

use flujo_core::store::{BlobId, RunQuery, RunStore};
use flujo_store::Sqlite;

use super::runs::{body, enlist, have, wait, whole, write};

/// By version.
const FILES: [&str; 4] = [
    include_str!("versions/1.sql"),
    include_str!("versions/2.sql"),
    include_str!("versions/3.sql"),
    include_str!("versions/4.sql"),
];

#[test]
fn a_file_of_every_earlier_version_is_read_and_written() {
    for (version, sql) in (1..).zip(FILES) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("runs.db");
        let made = rusqlite::Connection::open(&file).unwrap();
        made.execute_batch(sql).unwrap();
        assert_eq!(
            made.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
                .unwrap(),
            version
        );
        drop(made);
        let store = Sqlite::open(&file).unwrap();
        let page = wait(store.list(RunQuery::default())).unwrap();
        assert_eq!(page.runs.iter().map(|run| &*run.id).collect::<Vec<_>>(), ["a"]);
        assert_eq!(whole(&store, "a", 20), 3);
        let blob = BlobId(*blake3::hash(&body("blob", 0, 50)).as_bytes());
        assert_eq!(wait(store.blob("a".into(), blob)).unwrap(), body("blob", 0, 50));
        let worker = enlist(&store);
        let claim = have(&store, "a", worker);
        assert_eq!(
            wait(store.messages(worker)).unwrap()[0].body,
            body("message", 0, 20)
        );
        write(&store, &claim, 4, 20).unwrap();
        assert_eq!(whole(&store, "a", 20), 4);
    }
}

#[test]
fn a_process_of_an_earlier_version_that_still_has_the_file_open_can_spoil_nothing() {
    // What versions 2 and 3 do when a run's row is to tell all of its log.
    for (version, column) in [(2, "tail"), (3, "told")] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("runs.db");
        let earlier = rusqlite::Connection::open(&file).unwrap();
        earlier.execute_batch("PRAGMA journal_mode = wal").unwrap();
        earlier.execute_batch(FILES[version - 1]).unwrap();
        let sql = format!("UPDATE runs SET last = last + 1, {column} = ?1 WHERE id = 'a'");
        let mut grown = earlier.prepare(&sql).unwrap();
        assert_eq!(grown.execute((3,)).unwrap(), 1);
        drop(Sqlite::open(&file).unwrap());
        let refused = grown.execute((3,)).unwrap_err();
        assert!(refused.to_string().contains(column), "{refused}");
    }
}
