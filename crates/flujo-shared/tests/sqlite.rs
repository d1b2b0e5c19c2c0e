//! Results in a file.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{HOUR, bytes_of, conforms};
use flujo_core::cache::CacheKey;
use flujo_shared::cache::{ResultStore, SqliteOptions, SqliteStore, StoreError};
use proptest::prelude::*;
use rusqlite::Connection;

const KEY: CacheKey = CacheKey(1);

/// A clock that goes when it is told to, in milliseconds.
#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_000_000)))
    }

    fn set(&self, milliseconds: u64) {
        self.0.store(milliseconds, Ordering::SeqCst);
    }

    fn passes(&self, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap();
        self.0.fetch_add(milliseconds, Ordering::SeqCst);
    }

    fn store(&self, path: &Path, max_bytes: u64) -> SqliteStore {
        let now = Arc::clone(&self.0);
        let clock = move || UNIX_EPOCH + Duration::from_millis(now.load(Ordering::SeqCst));
        SqliteStore::with_clock(path, within(max_bytes), clock).unwrap()
    }
}

fn within(max_bytes: u64) -> SqliteOptions {
    let mut options = SqliteOptions::default();
    options.max_bytes = max_bytes;
    options.busy_timeout = Duration::from_mins(1); // the machine may be busy with other tests
    options
}

fn impatient() -> SqliteOptions {
    let mut options = SqliteOptions::default();
    options.busy_timeout = Duration::from_millis(1);
    options
}

fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, within(100_000_000))
}

/// A folder and a file in it.
fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.db");
    (folder, path)
}

#[test]
fn a_file_is_a_store() {
    let ((_folder, path), clock) = (file(), Clock::new());
    conforms(clock.store(&path, 100_000_000), |_| clock.passes(HOUR));
}

#[test]
fn what_was_kept_is_there_when_the_file_is_opened_again() {
    let (_folder, path) = file();
    open(&path).unwrap().put(KEY, b"x", Some(HOUR)).unwrap();
    assert_eq!(bytes_of(&open(&path).unwrap(), 1), Some(b"x".to_vec()));
}

#[cfg(unix)]
#[test]
fn only_its_owner_can_read_a_file() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = file();
    open(&path).unwrap().put(KEY, b"x", None).unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
}

#[test]
fn a_file_stays_within_its_size_and_lets_the_oldest_go() {
    let ((_folder, path), clock) = (file(), Clock::new());
    let store = clock.store(&path, 100_000);
    for key in 0..1_000 {
        store.put(CacheKey(key), &[7; 1_000], None).unwrap();
        assert!(store.contents().unwrap().bytes <= 100_000);
    }
    let kept = u128::from(store.contents().unwrap().results);
    assert!(kept > 90, "{kept}");
    for key in 0..1_000 {
        assert_eq!(bytes_of(&store, key).is_some(), key >= 1_000 - kept, "{key}");
    }
    // What is written again is new again.
    store.put(CacheKey(1_000 - kept), &[8; 1_000], None).unwrap();
    store.put(CacheKey(1_000), &[7; 1_000], None).unwrap();
    assert!(bytes_of(&store, 1_000 - kept).is_some());
    assert!(bytes_of(&store, 1_001 - kept).is_none());
    assert!(fs::metadata(&path).unwrap().len() < 300_000);
}

#[test]
fn what_has_expired_goes_first() {
    let ((_folder, path), clock) = (file(), Clock::new());
    let store = clock.store(&path, 20_000);
    store.put(CacheKey(0), &[0; 1_000], None).unwrap();
    for key in 1..=10 {
        store.put(CacheKey(key), &[0; 1_000], Some(HOUR)).unwrap();
    }
    clock.passes(HOUR);
    for key in 11..=20 {
        store.put(CacheKey(key), &[0; 1_000], None).unwrap();
    }
    assert!(bytes_of(&store, 0).is_some(), "the oldest, though it was good");
    assert_eq!(store.contents().unwrap().results, 11);
}

#[test]
fn a_result_larger_than_the_file_may_be_is_refused_and_nothing_goes_for_it() {
    let ((_folder, path), clock) = (file(), Clock::new());
    let store = clock.store(&path, 5_000);
    store.put(KEY, b"small", None).unwrap();
    let refused = store.put(CacheKey(2), &[0; 5_000], None).unwrap_err();
    assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
    assert_eq!(bytes_of(&store, 1), Some(b"small".to_vec()));
}

#[test]
fn a_clock_that_is_put_back_makes_nothing_last_longer() {
    let ((_folder, path), clock) = (file(), Clock::new());
    let store = clock.store(&path, 5_000);
    clock.set(10 * 3_600_000);
    store.put(KEY, b"x", Some(HOUR)).unwrap();
    clock.set(0);
    assert_eq!(store.get(KEY).unwrap().unwrap().expires_in, Some(HOUR));
}

/// The variable that makes this test's own process a writer, with the file's name in it.
const WRITER: &str = "FLUJO_TEST_WRITER";

#[test]
fn many_processes_write_one_file() {
    if let Some(path) = std::env::var_os(WRITER) {
        let store = SqliteStore::open(&path, within(200_000)).unwrap();
        for turn in 0..60_u8 {
            for key in 0..5 {
                store.put(CacheKey(key), &[turn; 2_000], None).unwrap();
                let found = bytes_of(&store, key).unwrap();
                assert!(found.len() == 2_000 && found.iter().all(|byte| *byte == found[0]));
            }
        }
        return;
    }
    let (_folder, path) = file();
    let writer = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::many_processes_write_one_file"])
            .env(WRITER, &path)
            .spawn()
            .unwrap()
    };
    // All of them make the file at the same time.
    let writers: Vec<_> = (0..6).map(|_| writer()).collect();
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    let contents = open(&path).unwrap().contents().unwrap();
    assert_eq!((contents.results, contents.bytes), (5, 5 * 2_064));
}

#[test]
fn whoever_looks_while_a_file_is_made_takes_it_for_ours() {
    for _ in 0..100 {
        let (_folder, path) = file();
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    open(&path).unwrap();
                });
            }
        });
    }
}

#[test]
fn others_that_write_all_the_time_are_told_of_as_that() {
    let (_folder, path) = file();
    let store = SqliteStore::open(&path, impatient()).unwrap();
    store.put(KEY, b"x", None).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let busy = store.put(KEY, b"y", None).unwrap_err();
    assert!(matches!(busy, StoreError::Busy { .. }), "{busy}");
    assert_eq!(
        bytes_of(&store, 1),
        Some(b"x".to_vec()),
        "readers wait for nobody"
    );
    other.execute_batch("ROLLBACK").unwrap();
    store.put(KEY, b"y", None).unwrap();
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_as_it_is() {
    let (_folder, path) = file();
    let another_program = |sql: &str| {
        let _ = fs::remove_file(&path);
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        fs::read(&path).unwrap()
    };
    let files = [
        b"These are my notes, and no database.\n".to_vec(),
        another_program("CREATE TABLE notes (text TEXT)"),
        another_program("PRAGMA journal_mode = wal; CREATE TABLE notes (text TEXT)"),
        another_program("PRAGMA application_id = 7"),
        another_program("PRAGMA application_id = 1718384234; PRAGMA user_version = 99"),
    ];
    for bytes in files {
        fs::write(&path, &bytes).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("results.db"), "{error}");
        assert!(fs::read(&path).unwrap() == bytes, "changed: {error}");
    }
}

#[test]
fn a_damaged_file_is_told_of_and_left_as_it_is() {
    let (_folder, path) = file();
    let store = open(&path).unwrap();
    for key in 0..100 {
        store.put(CacheKey(key), &[1; 3_000], None).unwrap();
    }
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    let second_page = 4_096..;
    bytes[second_page].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    let store = open(&path).unwrap();
    for _ in 0..2 {
        let error = store.get(KEY).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert_eq!(store.put(KEY, b"y", None), Err(error));
    }
    drop(store);
    assert!(fs::read(&path).unwrap() == bytes, "changed");
}

#[test]
fn a_file_cut_short_is_told_of_and_left_as_it_is() {
    let (_folder, path) = file();
    open(&path).unwrap().put(KEY, &vec![1; 50_000], None).unwrap();
    let bytes = fs::read(&path).unwrap();
    for length in [10, 90, 5_000, 20_000] {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = open(&path).and_then(|store| store.get(KEY)).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{length}: {error}");
        assert!(fs::read(&path).unwrap() == bytes[..length], "{length}: changed");
    }
}

#[test]
fn a_place_where_no_file_can_be_is_an_error_that_names_it() {
    let (folder, _) = file();
    for path in [folder.path().to_owned(), folder.path().join("no/such/folder.db")] {
        let error = open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    for path in ["", ":memory:"] {
        assert!(matches!(open(Path::new(path)), Err(StoreError::Refused { .. })));
    }
}

#[derive(Debug, Clone)]
enum Act {
    Put(u128, u8, Option<u64>),
    Get(u128),
    Remove(u128),
    Wait(u64),
    OpenAgain,
    Clear,
}

fn act() -> impl Strategy<Value = Act> {
    let key = 0..6_u128;
    prop_oneof![
        6 => (key.clone(), any::<u8>(), proptest::option::of(0..20_u64)).prop_map(|(key, value, ttl)| Act::Put(key, value, ttl)),
        6 => key.clone().prop_map(Act::Get),
        1 => key.prop_map(Act::Remove),
        2 => (1..10_u64).prop_map(Act::Wait),
        1 => Just(Act::OpenAgain),
        1 => Just(Act::Clear),
    ]
}

proptest! {
    // A file each.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    /// Whatever is done, a file with room for all gives exactly what was kept last and hasn't expired.
    #[test]
    fn a_file_gives_what_was_kept(acts in proptest::collection::vec(act(), 0..40)) {
        let ((_folder, path), clock) = (file(), Clock::new());
        let mut store = clock.store(&path, 1_000_000);
        let mut known: HashMap<u128, (u8, Option<u64>)> = HashMap::new();
        let now = || clock.0.load(Ordering::SeqCst);
        for act in acts {
            match act {
                Act::Put(key, value, ttl) => {
                    store.put(CacheKey(key), &[value], ttl.map(Duration::from_millis)).unwrap();
                    known.insert(key, (value, ttl.map(|ttl| now() + ttl)));
                }
                Act::Get(key) => {
                    let right = known.get(&key).filter(|(_, expires)| expires.is_none_or(|at| now() < at));
                    prop_assert_eq!(bytes_of(&store, key), right.map(|(value, _)| vec![*value]));
                }
                Act::Remove(key) => {
                    store.remove(CacheKey(key)).unwrap();
                    known.remove(&key);
                }
                Act::Wait(time) => clock.passes(Duration::from_millis(time)),
                Act::OpenAgain => store = clock.store(&path, 1_000_000),
                Act::Clear => {
                    store.clear().unwrap();
                    known.clear();
                }
            }
        }
    }
}

#[test]
fn the_clock_of_the_world_is_taken_by_default() {
    let (_folder, path) = file();
    let store = open(&path).unwrap();
    let long = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    store.put(KEY, b"x", Some(long)).unwrap();
    let left = store.get(KEY).unwrap().unwrap().expires_in.unwrap();
    assert!(left <= long && left + HOUR > long, "{left:?}");
}
