//! A worker's life, on a file that others work with too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use flujo_core::store::RunStatus::{Completed, Paused};
use flujo_core::store::{Change, Lease, RunStore, StoreError};
use flujo_store::{Memory, Sqlite, WorkerHandle};

use super::child::{Player, command};
use super::runs::{enlist, have, new, process, wait, write};

fn memory() -> Arc<dyn RunStore> {
    Arc::new(Memory::new())
}

/// Short, so that a test needn't wait; nothing is said about how long it takes.
const SHORT: Lease = Lease {
    lasts: Duration::from_millis(60),
    renewed: Duration::from_millis(5),
};

fn never_ends() -> Lease {
    Lease {
        lasts: Duration::from_secs(100_000),
        renewed: Duration::from_millis(5),
    }
}

#[test]
fn a_worker_shows_that_it_lives_until_it_stops() {
    let store = memory();
    let worker = WorkerHandle::new(store.clone(), SHORT);
    assert!(
        wait(store.workers()).unwrap().is_empty(),
        "it isn't there before it is needed"
    );
    let id = wait(worker.id()).unwrap();
    assert_eq!(wait(worker.id()).unwrap(), id);
    let beats = || {
        wait(store.workers())
            .unwrap()
            .iter()
            .find(|worker| worker.id == id)
            .map(|worker| worker.beats)
    };
    while beats().unwrap() < 3 {
        std::thread::yield_now();
    }
    let claim = have(&*store, "a", id);
    wait(worker.stop()).unwrap();
    assert_eq!(beats(), None);
    assert!(matches!(
        write(&*store, &claim, 1, 1),
        Err(StoreError::Fenced { .. })
    ));
    // It can be used again, as another one.
    assert_ne!(wait(worker.id()).unwrap(), id);
}

#[test]
fn what_a_dropped_worker_owned_is_free_and_what_it_wrote_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn RunStore> = Arc::new(Sqlite::open(folder.path().join("runs.db")).unwrap());
    let worker = WorkerHandle::new(store.clone(), SHORT);
    let claim = have(&*store, "a", wait(worker.id()).unwrap());
    for number in 1..=20 {
        drop(store.write(&claim, vec![super::runs::append("a", number, 10)]));
    }
    drop(worker);
    while !wait(store.workers()).unwrap().is_empty() {
        std::thread::yield_now();
    }
    let info = wait(store.info("a".into())).unwrap().unwrap();
    assert_eq!((info.owner, info.last_record), (None, 20));
}

#[test]
fn a_run_of_a_worker_that_is_silent_for_a_lease_is_taken_over() {
    let store = memory();
    // Of another machine: nobody can see whether it is there.
    let silent = wait(store.enlist(process(1))).unwrap();
    let stale = have(&*store, "a", silent);
    let worker = WorkerHandle::new(store.clone(), SHORT);
    let claim = wait(worker.claim_after_lease("a".into())).unwrap();
    assert!(claim.token > stale.token);
    assert!(matches!(
        write(&*store, &stale, 1, 1),
        Err(StoreError::Fenced { .. })
    ));
    write(&*store, &claim, 1, 1).unwrap();
}

#[test]
fn a_run_of_a_worker_that_shows_itself_is_left_to_it() {
    let store = memory();
    let other = wait(store.enlist(process(1))).unwrap();
    let theirs = have(&*store, "a", other);
    let worker = WorkerHandle::new(store.clone(), never_ends());
    assert!(matches!(
        wait(worker.claim("a".into())),
        Err(StoreError::Owned { .. })
    ));
    let waiting = worker.claim_after_lease("a".into());
    let waited = AtomicBool::new(false);
    let told = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let told = wait(waiting);
            waited.store(true, Ordering::SeqCst);
            told
        });
        while !waited.load(Ordering::SeqCst) {
            wait(store.beat(other)).unwrap();
            std::thread::yield_now();
        }
        waiting.join().unwrap()
    });
    assert!(
        matches!(&told, Err(StoreError::Owned { owner, .. }) if owner.contains("elsewhere")),
        "{told:?}"
    );
    write(&*store, &theirs, 1, 1).unwrap();
}

#[test]
fn a_run_of_a_process_that_was_killed_is_taken_over_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let mut other = Player::start(command("works", &file, "a"));
    assert_eq!(other.says().as_deref(), Some("works"));
    let store: Arc<dyn RunStore> = Arc::new(Sqlite::open(&file).unwrap());
    // With a lease that no test waits for.
    let worker = WorkerHandle::new(store.clone(), never_ends());
    assert!(matches!(
        wait(worker.claim("a".into())),
        Err(StoreError::Owned { .. })
    ));
    other.process.kill().unwrap();
    other.process.wait().unwrap();
    let claim = wait(worker.claim("a".into())).unwrap();
    write(&*store, &claim, 2, 300).unwrap();
}

#[test]
fn a_worker_that_was_struck_off_gets_another_name() {
    let store = memory();
    let worker = WorkerHandle::new(store.clone(), SHORT);
    let before = wait(worker.id()).unwrap();
    let claim = have(&*store, "a", before);
    assert!(wait(store.dismiss(before, None)).unwrap());
    assert!(matches!(
        write(&*store, &claim, 1, 1),
        Err(StoreError::Fenced { .. })
    ));
    let mut now = before;
    while now == before {
        now = wait(worker.id()).unwrap();
        std::thread::yield_now();
    }
    let claim = wait(worker.claim("a".into())).unwrap();
    assert_eq!(claim.worker, now);
    write(&*store, &claim, 1, 1).unwrap();
}

#[test]
fn a_run_of_ones_own_is_not_taken_from_oneself() {
    let store = memory();
    let worker = WorkerHandle::new(store.clone(), SHORT);
    have(&*store, "a", wait(worker.id()).unwrap());
    assert!(matches!(
        wait(worker.claim("a".into())),
        Err(StoreError::Owned { .. })
    ));
    assert!(matches!(
        wait(worker.claim_after_lease("a".into())),
        Err(StoreError::Owned { .. })
    ));
    assert!(matches!(
        wait(worker.claim("b".into())),
        Err(StoreError::UnknownRun { .. })
    ));
}

#[test]
fn two_workers_that_want_one_run_of_a_dead_one_get_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let mut dead = Player::start(command("works", &file, "a"));
    assert_eq!(dead.says().as_deref(), Some("works"));
    dead.process.kill().unwrap();
    dead.process.wait().unwrap();
    let store: Arc<dyn RunStore> = Arc::new(Sqlite::open(&file).unwrap());
    // Neither takes the other for dead, however slow it is.
    let workers = [
        WorkerHandle::new(store.clone(), never_ends()),
        WorkerHandle::new(store.clone(), never_ends()),
    ];
    let claims: Vec<_> = std::thread::scope(|scope| {
        let claim = |worker: &WorkerHandle| wait(worker.claim_after_lease("a".into()));
        let claiming: Vec<_> = workers
            .iter()
            .map(|worker| scope.spawn(move || claim(worker)))
            .collect();
        claiming
            .into_iter()
            .map(|claiming| claiming.join().unwrap())
            .collect()
    });
    assert_eq!(
        claims.iter().filter(|claim| claim.is_ok()).count(),
        1,
        "{claims:?}"
    );
}

#[test]
fn what_waits_for_somebody_is_told_the_oldest_first() {
    let store = memory();
    let dead = enlist(&*store);
    let created = |id: &str, created| flujo_core::store::NewRun { created, ..new(id) };
    wait(store.create(created("left", 5), Some(dead))).unwrap();
    wait(store.create(created("queued", 3), None)).unwrap();
    let mine = WorkerHandle::new(store.clone(), SHORT);
    let id = wait(mine.id()).unwrap();
    let summary = |status, due| flujo_core::store::Summary {
        status,
        updated: 9,
        due,
        steps: 0,
        usage: flujo_core::usage::Usage::ZERO,
        message: None,
    };
    for (run, status, due) in [
        ("answered", Paused, None),
        ("asking", Paused, None),
        ("due", Paused, Some(10)),
        ("not due", Paused, Some(11)),
        ("done", Completed, None),
    ] {
        let claim = have(&*store, run, id);
        wait(store.write(
            &claim,
            vec![Change::Summary(summary(status, due)), Change::Release],
        ))
        .unwrap();
    }
    wait(store.post("answered".into(), b"yes".as_slice().into())).unwrap();
    have(&*store, "under way", id);
    let names = || -> Vec<String> {
        wait(mine.waiting(None, 10, 50))
            .unwrap()
            .iter()
            .map(|run| run.id.to_string())
            .collect()
    };
    while !names().contains(&"left".to_owned()) {
        std::thread::yield_now();
    }
    assert_eq!(names(), ["queued", "left", "due", "answered"]);
}

#[test]
fn one_that_doesnt_go_on_while_it_gets_its_name_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn RunStore> = Arc::new(Sqlite::open(folder.path().join("runs.db")).unwrap());
    let worker = WorkerHandle::new(store.clone(), SHORT);
    // The file is somebody else's for as long, so that the first one has to wait.
    let other = rusqlite::Connection::open(folder.path().join("runs.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut stands_still = worker.id();
    let mut nobody = Context::from_waker(Waker::noop());
    assert!(stands_still.as_mut().poll(&mut nobody).is_pending());
    other.execute_batch("COMMIT").unwrap();
    let id = wait(worker.id()).unwrap();
    let beats = || wait(store.workers()).unwrap()[0].beats;
    while beats() < 3 {
        std::thread::yield_now();
    }
    assert_eq!(wait(stands_still).unwrap(), id);
}
