//! No room, and no permission.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use flujo_core::store::{Change, PurgeQuery, RunStatus, RunStore, StoreError, Summary};
use flujo_core::usage::Usage;
use flujo_store::{Sqlite, SqliteOptions};

use super::child::{Player, command};
use super::runs::{append, enlist, have, load, wait, whole, write};

#[test]
fn a_full_store_refuses_what_has_no_room_and_keeps_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = SqliteOptions::default();
    options.max_bytes = Some(600_000);
    let store = Sqlite::with(folder.path().join("runs.db"), options).unwrap();
    let worker = enlist(&store);
    let (a, b, c) = (
        have(&store, "a", worker),
        have(&store, "b", worker),
        have(&store, "c", worker),
    );
    let mut written = 0;
    let full = loop {
        match write(&store, &a, written + 1, 50_000) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&full, StoreError::Full { place, .. } if place.contains("runs.db")),
        "{full:?}"
    );
    assert!(written > 5);
    assert_eq!(whole(&store, "a", 50_000), written);
    // One without room does no harm to those that are written with it.
    let large = store.write(&b, vec![append("b", 1, 400_000)]);
    let small = store.write(&c, vec![append("c", 1, 10)]);
    assert!(matches!(wait(large), Err(StoreError::Full { .. })));
    wait(small).unwrap();
    assert_eq!((whole(&store, "b", 1), whole(&store, "c", 10)), (0, 1));
    // Room that is made is used again.
    let summary = Summary {
        status: RunStatus::Completed,
        updated: 2,
        due: None,
        steps: 0,
        usage: Usage::ZERO,
        message: None,
    };
    let a = have(&store, "a", worker);
    wait(store.write(&a, vec![Change::Summary(summary), Change::Release])).unwrap();
    assert_eq!(wait(store.purge(PurgeQuery::default())).unwrap(), 1);
    let b = have(&store, "b", worker);
    wait(store.write(&b, vec![append("b", 1, 400_000)])).unwrap();
    assert_eq!(whole(&store, "b", 400_000), 1);
}

#[test]
fn a_purge_gives_the_disk_its_room_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let size = || std::fs::metadata(&file).unwrap().len();
    let store = Sqlite::open(&file).unwrap();
    let claim = have(&store, "a", enlist(&store));
    for number in 1..=20 {
        write(&store, &claim, number, 100_000).unwrap();
    }
    wait(store.write(&claim, vec![Change::Release])).unwrap();
    let everything = PurgeQuery {
        statuses: RunStatus::ALL.to_vec(),
        ..PurgeQuery::default()
    };
    assert_eq!(wait(store.purge(everything)).unwrap(), 1);
    store.close();
    assert!(size() < 200_000, "{} bytes", size());
}

#[test]
fn a_file_that_may_not_grow_keeps_what_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    drop(Sqlite::open(&file).unwrap());
    let inner = command("writes until it fails", &file, "a");
    // No file may become larger than so many blocks of half a KB; the signal that says so is ignored.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 400; exec \"$0\" \"$@\""]);
    limited.arg(inner.get_program()).args(inner.get_args());
    limited.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.stdout(std::process::Stdio::piped());
    let mut writer = Player::start(limited);
    let written: u64 = writer.says().unwrap().parse().unwrap();
    let why = writer.says().unwrap();
    assert!(["full", "unreachable"].contains(&&*why), "{why}");
    assert!(written > 0);
    let store = Sqlite::open(&file).unwrap();
    assert_eq!(whole(&store, "a", 20_000), written);
    // With room it goes on.
    let claim = have(&store, "a", enlist(&store));
    write(&store, &claim, written + 1, 20_000).unwrap();
}

#[test]
fn the_log_is_made_longer_in_large_pieces_and_no_further_than_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path().join("runs.db")).unwrap();
    let claim = have(&store, "a", enlist(&store));
    let mut lengths = std::collections::BTreeSet::new();
    for number in 1..=1_000 {
        write(&store, &claim, number, 3_000).unwrap();
        lengths.insert(
            std::fs::metadata(folder.path().join("runs.db-wal"))
                .unwrap()
                .len(),
        );
    }
    assert!(lengths.len() < 40, "{lengths:?}");
    assert!(lengths.last() < Some(&6_000_000), "{lengths:?}");
    store.close();
    assert!(!folder.path().join("runs.db-wal").exists());
}

/// What a process says that tries to open a file and has no special rights.
fn opened_by_nobody(file: &Path) -> String {
    let asked = command("opens", file, "");
    let forbidden = tempfile::tempdir().unwrap();
    std::fs::set_permissions(forbidden.path(), PermissionsExt::from_mode(0o555)).unwrap();
    if std::fs::write(forbidden.path().join("x"), "x").is_err() {
        return Player::start(asked).says().unwrap();
    }
    // Who may do everything asks as somebody else, with a copy of the program where they can reach it.
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(folder.path(), 0o755);
    let program = folder.path().join("program");
    std::fs::copy(asked.get_program(), &program).unwrap();
    mode(&program, 0o755);
    let mut other = Command::new(&program);
    other
        .args(asked.get_args())
        .envs(asked.get_envs().filter_map(|(name, value)| Some((name, value?))));
    other
        .uid(65534)
        .gid(65534)
        .current_dir("/")
        .stdout(std::process::Stdio::piped());
    Player::start(other).says().unwrap()
}

#[test]
fn a_folder_that_may_not_be_written_to_is_told_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(folder.path(), 0o555);
    let told = opened_by_nobody(&file);
    assert!(told.contains("ReadOnly") && told.contains("runs.db"), "{told}");
    assert!(!file.exists());

    mode(folder.path(), 0o755);
    let store = Sqlite::open(&file).unwrap();
    let claim = have(&store, "a", enlist(&store));
    write(&store, &claim, 1, 10).unwrap();
    store.close();
    drop(store);
    let before = std::fs::read(&file).unwrap();
    // The folder alone, the file too.
    for of_file in [0o666, 0o444] {
        mode(&file, of_file);
        mode(folder.path(), 0o555);
        let told = opened_by_nobody(&file);
        assert!(told.contains("ReadOnly"), "{told}");
        mode(folder.path(), 0o755);
    }
    mode(&file, 0o600);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert_eq!(load(&Sqlite::open(&file).unwrap(), "a").unwrap().records.len(), 1);
}
