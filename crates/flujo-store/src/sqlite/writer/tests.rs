//! When a run waits for the disk in its own thread, and when it doesn't.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flujo_core::store::StoreError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::super::SqliteOptions;
use super::super::engine::Place;
use super::super::failure::Failure;
use super::super::file;
use super::super::known::Known;
use super::super::statements::Statements;
use super::{IN_A_ROW, Job, SHORT, Write, Writer};
use crate::queue::Queue;

struct Raise(Option<oneshot::Sender<Result<(), StoreError>>>);

impl Job for Raise {
    fn act(&mut self, at: &mut Statements<'_>, _: &mut Known) -> Result<(), Failure> {
        at.connection.execute(
            "INSERT INTO workers (host, boot, pid, began, beats) VALUES ('', '', 1, 1, 1)",
            (),
        )?;
        Ok(())
    }

    fn tell(&mut self, written: Result<(), StoreError>) {
        self.0.take().unwrap().send(written).unwrap();
    }
}

type Answer = oneshot::Receiver<Result<(), StoreError>>;

fn write(run: &str) -> (Write, Answer) {
    let (tell, told) = oneshot::channel();
    let write = Write {
        run: Some(run.into()),
        token: Some(1),
        job: Box::new(Raise(Some(tell))),
    };
    (write, told)
}

/// A file, and a writer that `a` has used by itself last.
struct Alone {
    folder: tempfile::TempDir,
    queue: Queue<Write>,
    writer: Mutex<Writer>,
}

impl Alone {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place {
            path: folder.path().join("runs.db"),
            options: SqliteOptions::default(),
        };
        file::prepare(&place.path, &place.options).unwrap();
        let alone = Self {
            folder,
            queue: Queue::default(),
            writer: Mutex::new(Writer::new(Arc::new(place))),
        };
        // Once more, so that its log has room.
        alone.by_its_thread("a");
        alone.by_its_thread("a");
        alone
    }

    /// What the store's thread does with one that is asked for.
    fn by_its_thread(&self, run: &str) {
        let (write, mut told) = write(run);
        assert!(self.queue.push(write).is_ok());
        let mut writer = self.writer.lock().unwrap();
        super::tell(writer.written(&self.queue));
        told.try_recv().unwrap().unwrap();
    }

    /// Whether it is done here on a disk that takes so long, and if so, that it is told.
    fn is_here_at(&self, takes: Duration, run: &str) -> bool {
        if let Ok(mut writer) = self.writer.try_lock() {
            writer.takes = takes;
        }
        let (write, mut told) = write(run);
        let given_back = Writer::here(&self.writer, &self.queue, write);
        if given_back.is_none() {
            told.try_recv().unwrap().unwrap();
        }
        given_back.is_none()
    }

    fn is_here(&self, run: &str) -> bool {
        self.is_here_at(Duration::ZERO, run)
    }

    fn outside(&self) -> Connection {
        Connection::open(self.folder.path().join("runs.db")).unwrap()
    }

    fn count(&self) -> i64 {
        let sql = "SELECT count(*) FROM workers";
        self.outside().query_row(sql, (), |row| row.get(0)).unwrap()
    }
}

#[test]
fn a_run_that_writes_alone_writes_in_its_own_thread() {
    let alone = Alone::new();
    assert!(alone.is_here("a"));
    assert_eq!(alone.count(), 3);
    // Whose turn it is now isn't known.
    assert!(!alone.is_here("b"));
    alone.by_its_thread("b");
    assert!(!alone.is_here("a") && alone.is_here("b"));
    assert_eq!(alone.count(), 5);
}

#[test]
fn whoever_would_overtake_somebody_doesnt() {
    let alone = Alone::new();
    let (before, mut told) = write("b");
    assert!(alone.queue.push(before).is_ok());
    assert!(!alone.is_here("a"));
    let writing = alone.writer.lock().unwrap();
    assert!(!alone.is_here("a"));
    drop(writing);
    super::tell(alone.writer.lock().unwrap().written(&alone.queue));
    told.try_recv().unwrap().unwrap();
    alone.by_its_thread("a");
    alone.queue.close();
    assert!(!alone.is_here("a"));
    assert_eq!(alone.count(), 4);
}

#[test]
fn a_thread_has_time_for_something_else_now_and_then_and_waits_for_no_slow_disk() {
    let alone = Alone::new();
    alone.writer.lock().unwrap().in_a_row = IN_A_ROW;
    assert!(!alone.is_here("a"));
    alone.by_its_thread("a");
    assert!(alone.is_here("a"));
    assert!(!alone.is_here_at(SHORT, "a"));
}

#[test]
fn what_another_process_holds_is_waited_for_by_the_store_s_thread() {
    let alone = Alone::new();
    let other = alone.outside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(!alone.is_here("a"));
    other.execute_batch("COMMIT").unwrap();
    assert!(alone.is_here("a"));
}
