//! Who waits for whom.

use std::sync::Arc;
use std::time::Duration;

use flujo_core::store::{RunStore, StoreError};
use flujo_store::sqlite::{after_fork, before_fork};
use flujo_store::{Sqlite, SqliteOptions};

use super::runs::{enlist, have, load, wait, whole, write};

#[test]
fn a_file_that_is_locked_for_longer_than_the_busy_time_is_busy_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let mut options = SqliteOptions::default();
    options.busy_timeout = Duration::from_millis(20);
    let store = Sqlite::with(&file, options).unwrap();
    let worker = enlist(&store);
    let claim = have(&store, "a", worker);
    write(&store, &claim, 1, 10).unwrap();
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let busy = write(&store, &claim, 2, 10);
    assert!(
        matches!(&busy, Err(StoreError::Busy { place, waited }) if place.contains("runs.db") && *waited == options.busy_timeout),
        "{busy:?}"
    );
    // Reading waits for nobody.
    assert_eq!(load(&store, "a").unwrap().records.len(), 1);
    other.execute_batch("COMMIT").unwrap();
    // What came after it isn't written either, until the run is claimed again.
    assert!(matches!(
        write(&store, &claim, 3, 10),
        Err(StoreError::Busy { .. })
    ));
    let claim = have(&store, "a", worker);
    write(&store, &claim, 2, 10).unwrap();
}

#[test]
fn what_others_write_between_two_writes_is_seen_by_the_second() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let (store, other) = (Sqlite::open(&file).unwrap(), Sqlite::open(&file).unwrap());
    let worker = enlist(&store);
    let claim = have(&store, "a", worker);
    write(&store, &claim, 1, 10).unwrap();
    write(&store, &claim, 2, 10).unwrap();
    // The same worker's run, taken anew and written to by way of another connection.
    let anew = have(&other, "a", worker);
    write(&other, &anew, 3, 10).unwrap();
    let stale = write(&store, &claim, 3, 10);
    assert!(matches!(stale, Err(StoreError::Fenced { .. })), "{stale:?}");
    write(&store, &anew, 4, 10).unwrap();
    write(&other, &anew, 5, 10).unwrap();
    assert_eq!(whole(&store, "a", 10), 5);
}

#[test]
fn nothing_is_open_while_a_process_forks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let store = Arc::new(Sqlite::open(&file).unwrap());
    let claim = have(&*store, "a", enlist(&*store));
    load(&*store, "a").unwrap();
    let open = || {
        let links = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        links.filter(|link| link.starts_with(folder.path())).count()
    };
    assert!(open() > 0);
    before_fork();
    before_fork();
    assert_eq!(open(), 0);
    // What is asked for now is done afterwards.
    let written = store.write(&claim, vec![super::runs::append("a", 1, 10)]);
    assert_eq!(open(), 0);
    after_fork();
    wait(written).unwrap();
    assert_eq!(load(&*store, "a").unwrap().records.len(), 1);
}

#[test]
fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("made/by us/runs.db");
    let store = Sqlite::open(&file).unwrap();
    enlist(&store);
    let mode = |path: &str| {
        std::fs::metadata(folder.path().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!((mode("made"), mode("made/by us")), (0o700, 0o700));
    for file in ["runs.db", "runs.db-wal", "runs.db-shm"] {
        assert_eq!(mode(&format!("made/by us/{file}")), 0o600, "{file}");
    }
}

#[test]
fn a_store_that_was_closed_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path().join("runs.db")).unwrap();
    store.close();
    let told = wait(store.enlist(super::runs::process(1)));
    assert!(
        matches!(&told, Err(StoreError::Other { reason, .. }) if reason.contains("closed")),
        "{told:?}"
    );
}
