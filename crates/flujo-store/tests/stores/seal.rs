//! Content that is encrypted, or isn't stored.

use std::path::Path;
use std::sync::Arc;

use flujo_core::store::{Blob, Change, RunQuery, RunStatus, RunStore, StoreError, Summary};
use flujo_core::usage::Usage;
use flujo_store::{Key, Memory, Sealed, Sqlite};
use flujo_store_conformance::{Place, run};

use super::File;
use super::runs::{append, body, enlist, have, load, new, wait};

fn key(byte: u8) -> Key {
    Key::new([byte; 32])
}

/// An encrypted file.
struct Encrypted(File);

impl Place for Encrypted {
    fn open(&self) -> Arc<dyn RunStore> {
        Arc::new(Sealed::encrypted(self.0.open(), &key(1)))
    }
}

/// What must not be found on the disk.
const CANARY: &str = "canary-4711";

/// Puts it wherever a program can put something.
fn fill(store: &dyn RunStore) {
    let worker = enlist(store);
    let text = || CANARY.as_bytes().into();
    let given = flujo_core::store::NewRun {
        definition: text(),
        snapshot: text(),
        blobs: vec![Blob::of(text())],
        ..new("a")
    };
    wait(store.create(given, None)).unwrap();
    let claim = have(store, "a", worker);
    let summary = Summary {
        status: RunStatus::Paused,
        updated: 1,
        due: None,
        steps: 1,
        usage: Usage::ZERO,
        message: Some(CANARY.into()),
    };
    let changes = vec![
        append(CANARY, 1, 500),
        Change::Snapshot {
            through: 1,
            body: text(),
        },
        append(CANARY, 2, 500),
        Change::Blob(Blob::of(body(CANARY, 1, 5000))),
        Change::Summary(summary),
    ];
    wait(store.write(&claim, changes)).unwrap();
}

/// Whether any file below has it, or the name it would give a blob.
fn found(folder: &Path) -> bool {
    let name = Blob::of(CANARY.as_bytes().into()).id;
    std::fs::read_dir(folder).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        has(CANARY.as_bytes()) || has(&name.0)
    })
}

#[test]
fn an_encrypted_store_keeps_every_promise_but_counts_bytes_as_they_are_stored() {
    let broken = run(|| Encrypted(File::new())).map_or_else(|broken| broken.to_string(), |()| String::new());
    let others: Vec<&str> = broken
        .lines()
        .filter(|line| !line.starts_with("bytes are counted"))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn nothing_of_the_content_is_on_the_disk_unless_it_is_stored_as_it_is() {
    for (kind, visible) in [("full", true), ("encrypted", false), ("none", false)] {
        let folder = tempfile::tempdir().unwrap();
        let file = Arc::new(Sqlite::open(folder.path().join("runs.db")).unwrap());
        let store: Arc<dyn RunStore> = match kind {
            "full" => file.clone(),
            "encrypted" => Arc::new(Sealed::encrypted(file.clone(), &key(1))),
            _ => Arc::new(Sealed::without_content(file.clone())),
        };
        fill(&*store);
        if kind != "none" {
            wait(store.post("a".into(), CANARY.as_bytes().into())).unwrap();
        }
        // In its log, and in the file itself.
        assert_eq!(found(folder.path()), visible, "{kind}");
        file.close();
        assert_eq!(found(folder.path()), visible, "{kind}");
    }
}

#[test]
fn with_the_key_everything_comes_back_and_with_another_one_nothing() {
    let inner: Arc<dyn RunStore> = Arc::new(Memory::new());
    let store = Sealed::encrypted(inner.clone(), &key(1));
    fill(&store);
    let stored = load(&store, "a").unwrap();
    assert_eq!(
        (&*stored.definition, &*stored.snapshot),
        (CANARY.as_bytes(), CANARY.as_bytes())
    );
    assert_eq!(stored.records[0].body, body(CANARY, 2, 500));
    assert_eq!(stored.info.summary.message.as_deref(), Some(CANARY));
    let large = Blob::of(body(CANARY, 1, 5000));
    assert_eq!(wait(store.blob("a".into(), large.id)).unwrap(), large.body);

    let other = Sealed::encrypted(inner.clone(), &key(2));
    let told = load(&other, "a");
    assert!(
        matches!(&told, Err(StoreError::Withheld { run, reason, .. }) if &**run == "a" && reason.contains("key"))
    );
    assert!(wait(other.blob("a".into(), large.id)).is_err());
    let listed = wait(other.list(RunQuery::default())).unwrap().runs;
    assert_eq!(
        (listed[0].summary.status, &listed[0].summary.message),
        (RunStatus::Paused, &None)
    );
}

#[test]
fn bytes_in_anothers_place_are_not_opened() {
    let inner: Arc<dyn RunStore> = Arc::new(Memory::new());
    let store = Sealed::encrypted(inner.clone(), &key(1));
    fill(&store);
    // Somebody who can write to the store gives one run what another one holds.
    let stored = load(&*inner, "a").unwrap();
    let moved = flujo_core::store::NewRun {
        definition: stored.definition,
        snapshot: stored.snapshot,
        ..new("b")
    };
    wait(inner.create(moved, None)).unwrap();
    assert!(matches!(load(&store, "b"), Err(StoreError::Withheld { .. })));
}

#[test]
fn a_run_whose_content_was_not_stored_is_listed_and_cannot_go_on() {
    let inner: Arc<dyn RunStore> = Arc::new(Memory::new());
    let store = Sealed::without_content(inner.clone());
    fill(&store);
    let listed = wait(store.list(RunQuery::default())).unwrap().runs;
    assert_eq!(
        (listed[0].summary.status, listed[0].last_record),
        (RunStatus::Paused, 2)
    );
    for store in [
        &store as &dyn RunStore,
        &Sealed::encrypted(inner.clone(), &key(1)),
    ] {
        let told = load(store, "a");
        assert!(
            matches!(&told, Err(StoreError::Withheld { reason, .. }) if reason.contains("not stored")),
            "{told:?}"
        );
    }
    let left = wait(store.post("a".into(), CANARY.as_bytes().into()));
    assert!(matches!(left, Err(StoreError::Withheld { .. })), "{left:?}");
}

#[test]
fn a_key_is_64_digits_and_is_never_shown() {
    let digits = "0123456789abcdefABCDEF9876543210".repeat(2);
    let key = Key::from_hex(&digits).unwrap();
    assert!(!format!("{key:?}").contains("0123"));
    for wrong in [
        "",
        "01",
        &digits[1..],
        &format!("{digits}00"),
        &digits.replace('0', "g"),
        &"é".repeat(32),
    ] {
        assert!(Key::from_hex(wrong).is_none(), "{wrong}");
    }
}
