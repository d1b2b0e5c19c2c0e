//! Processes that are killed, and many of them at once.

use flujo_core::store::{Lease, RunStatus, RunStore};
use flujo_store::{Sqlite, SqliteOptions, WorkerHandle};
use std::sync::Arc;

use super::child::{Player, command};
use super::runs::{enlist, have, wait, whole, write};

/// How often a process is killed: `FLUJO_KILLS`, or 20 times.
fn kills() -> u32 {
    let asked = std::env::var("FLUJO_KILLS").ok();
    asked.map_or(20, |kills| kills.parse().expect("FLUJO_KILLS is a number"))
}

#[test]
fn a_process_that_is_killed_loses_nothing_it_was_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    for round in 0..kills() {
        let run = format!("run {round}");
        let mut writer = Player::start(command("writes for ever", &file, &run));
        // At another moment each time: so many records later, and wherever the process is then.
        for _ in 0..=(u64::from(round) * 7 % 13) {
            writer.says().expect("it writes");
        }
        writer.process.kill().unwrap();
        let mut told = 0;
        while let Some(number) = writer.says() {
            told = number.parse().unwrap();
        }
        writer.process.wait().unwrap();
        let store: Arc<dyn RunStore> = Arc::new(Sqlite::open(&file).unwrap());
        let written = whole(&*store, &run, 300);
        assert!(written >= told, "{told} were told, {written} are there");
        // It is certainly dead, so its run can be had at once; and the log goes on where it ended.
        let worker = WorkerHandle::new(store.clone(), Lease::default());
        let claim = wait(worker.claim(run.as_str().into())).unwrap();
        write(&*store, &claim, written + 1, 300).unwrap();
        assert_eq!(whole(&*store, &run, 300), written + 1);
        wait(worker.stop()).unwrap();
    }
}

#[test]
fn a_purge_that_is_killed_at_any_moment_has_taken_all_or_nothing() {
    const ENDED: i64 = 5_000;
    let folder = tempfile::tempdir().unwrap();
    let (before, file) = (folder.path().join("before.db"), folder.path().join("runs.db"));
    let store = Sqlite::open(&before).unwrap();
    for number in 0..ENDED {
        let mut run = super::runs::new(&format!("ended {number}"));
        run.status = RunStatus::Completed;
        run.snapshot = vec![7; 500].into();
        drop(store.create(run, None));
    }
    let under_way = have(&store, "under way", enlist(&store));
    write(&store, &under_way, 1, 300).unwrap();
    store.close();
    let log = || std::fs::metadata(folder.path().join("runs.db-wal")).map_or(0, |log| log.len());
    let left = || {
        let connection = rusqlite::Connection::open(&file).unwrap();
        let whole: String = connection
            .query_row("PRAGMA integrity_check", (), |row| row.get(0))
            .unwrap();
        assert_eq!(whole, "ok");
        let count = |table: &str| -> i64 {
            let sql = format!("SELECT count(*) FROM {table}");
            connection.query_row(&sql, (), |row| row.get(0)).unwrap()
        };
        assert_eq!(count("snapshots"), count("runs"));
        count("runs") - 1
    };
    let begin = || {
        for name in ["runs.db", "runs.db-wal", "runs.db-shm"] {
            drop(std::fs::remove_file(folder.path().join(name)));
        }
        std::fs::copy(&before, &file).unwrap();
        let mut purger = Player::start(command("purges", &file, ""));
        assert_eq!(purger.says().as_deref(), Some("begins"));
        purger
    };
    // One that nobody kills shows how much is written.
    let mut purger = begin();
    assert_eq!(purger.says().unwrap(), ENDED.to_string());
    let written = log();
    drop(purger);
    assert_eq!(left(), 0);
    let rounds = u64::from(kills().div_ceil(4));
    let (mut round, mut broken_off) = (0, 0);
    while round < rounds || broken_off == 0 {
        let mut purger = begin();
        // At another moment each time, by how much has been written.
        let until = written * (round % rounds) / rounds;
        while log() < until {
            std::thread::yield_now();
        }
        purger.process.kill().unwrap();
        let told = purger.says();
        purger.process.wait().unwrap();
        match left() {
            0 => {}
            ENDED => {
                assert_eq!(told, None);
                broken_off += 1;
            }
            some => panic!("{some} of {ENDED} are left"),
        }
        let store = Sqlite::open(&file).unwrap();
        assert_eq!(whole(&store, "under way", 300), 1);
        store.close();
        round += 1;
    }
}

#[test]
fn p13_eight_processes_write_one_file_at_once_while_somebody_reads_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let store = Sqlite::open(&file).unwrap();
    let before = have(&store, "before", enlist(&store));
    write(&store, &before, 1, 300).unwrap();
    let reader = rusqlite::Connection::open(&file).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let runs = |reader: &rusqlite::Connection| -> i64 {
        reader
            .query_row("SELECT count(*) FROM runs", (), |row| row.get(0))
            .unwrap()
    };
    assert_eq!(runs(&reader), 1);
    let start = |process| Player::start(command("writes short runs", &file, &format!("process {process}")));
    let mut writers: Vec<Player> = (0..8).map(start).collect();
    for writer in &mut writers {
        assert_eq!(writer.says().as_deref(), Some("done"));
        assert!(writer.process.wait().unwrap().success());
    }
    // It still sees the moment it began in.
    assert_eq!(runs(&reader), 1);
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(runs(&reader), 401);
    for (process, run) in (0..8).flat_map(|process| (0..50).map(move |run| (process, run))) {
        assert_eq!(whole(&store, &format!("process {process} {run}"), 300), 2);
    }
}

#[test]
fn p13_a_long_reader_doesnt_make_the_log_grow_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let log = || std::fs::metadata(folder.path().join("runs.db-wal")).map_or(0, |log| log.len());
    let mut options = SqliteOptions::default();
    options.max_wal_bytes = 1_000_000;
    let store = Sqlite::with(&file, options).unwrap();
    let claim = have(&store, "a", enlist(&store));
    let reader = rusqlite::Connection::open(&file).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM runs;").unwrap();
    for number in 1..=60 {
        write(&store, &claim, number, 100_000).unwrap();
    }
    assert!(log() > 6_000_000, "the reader needs what was before");
    reader.execute_batch("COMMIT").unwrap();
    for number in 61..=400 {
        write(&store, &claim, number, 1).unwrap();
    }
    // Emptied once the reader had gone; what has come since is far less.
    assert!(log() < 3_000_000, "{} bytes", log());
    store.close();
    assert_eq!(log(), 0);
}
