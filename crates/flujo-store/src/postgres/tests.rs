//! How tables are brought to a later version. The two behind the last one are made up here.
#![cfg(unix)]

use std::process::{Command, Stdio};
use std::time::Duration;

use super::failure::Failure;
use super::session::{MIGRATIONS, Place, Session};
use super::{PostgresOptions, named, read};
use crate::sum::{self, Kind};

#[allow(
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    reason = "for tests, which use a part of it"
)]
#[path = "../../tests/stores/server.rs"]
mod server;

const ADDRESS: &str = "FLUJO_TEST_MIGRATED_SERVER";

/// Two more versions.
fn versions(second: &'static str) -> Vec<&'static str> {
    let first = "ALTER TABLE runs ADD COLUMN colour TEXT; UPDATE runs SET colour = 'blue';";
    [MIGRATIONS, &[first, second]].concat()
}

/// It waits in its middle for whoever holds the lock 77.
const HELD: &str = "
    CREATE TABLE half (x INT);
    UPDATE runs SET colour = 'half';
    SELECT pg_advisory_xact_lock(77);";
const FINE: &str = "CREATE TABLE whole (x INT); UPDATE runs SET colour = colour || ' and green';";

fn place(address: &str) -> Place {
    let config: tokio_postgres::Config = address.parse().unwrap();
    let options = PostgresOptions {
        busy_timeout: Duration::from_hours(1),
        ..PostgresOptions::default()
    };
    let named = named(&config, &options.schema);
    Place {
        config,
        tls: None,
        options,
        named,
    }
}

async fn number(session: &Session, sql: &str) -> i64 {
    session.one(sql, &[]).await.unwrap().get(0)
}

async fn colour(session: &Session) -> String {
    let found = session.one("SELECT colour FROM runs WHERE id = 'a'", &[]).await;
    found.unwrap().get(0)
}

#[test]
fn a_migration_that_is_killed_in_the_middle_has_not_begun() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    if let Ok(address) = std::env::var(ADDRESS) {
        drop(runtime.block_on(Session::prepare(&place(&address), &versions(HELD))));
        return;
    }
    let server = server::Server::with(&["fsync=off"]);
    let place = place(&server.address());
    runtime.block_on(async {
        Session::prepare(&place, MIGRATIONS).await.unwrap();
        let holder = Session::open(&place).await.unwrap();
        let run =
            "INSERT INTO runs (id, pipeline, created, status, updated) VALUES ('a', 'p', 1, 'running', 1)";
        holder.execute(run).await.unwrap();
        holder.execute("SELECT pg_advisory_lock(77)").await.unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "postgres::tests::a_migration_that_is_killed_in_the_middle_has_not_begun",
            ])
            .env(ADDRESS, server.address())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let waiting =
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted";
        while number(&holder, waiting).await == 0 {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let known = i64::try_from(MIGRATIONS.len()).unwrap();
        assert_eq!(number(&holder, "SELECT version FROM version").await, known + 1);
        assert_eq!(colour(&holder).await, "blue");
        // The server goes on with what was asked of it, and then finds nobody who says that it is to stay.
        holder.execute("SELECT pg_advisory_unlock(77)").await.unwrap();
        Session::prepare(&place, &versions(FINE)).await.unwrap();
        assert_eq!(number(&holder, "SELECT version FROM version").await, known + 2);
        assert_eq!(colour(&holder).await, "blue and green");
        let half = "SELECT count(*) FROM pg_tables WHERE tablename = 'half'";
        assert_eq!(number(&holder, half).await, 0);
    });
}

#[test]
fn what_the_first_version_wrote_is_read() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = server::Server::with(&["fsync=off"]);
    let place = place(&server.address());
    runtime.block_on(async {
        Session::prepare(&place, &MIGRATIONS[..1]).await.unwrap();
        let first = Session::open(&place).await.unwrap();
        let sum = |kind, place: &[u8], body: &[u8]| sum::earlier(kind, "a", place, body);
        first
            .execute(&format!(
                "INSERT INTO runs (id, pipeline, created, status, updated, last) VALUES ('a', 'p', 1, 'running', 1, 1); \
                 INSERT INTO contents SELECT run, 'all', {}, 'begin', {} FROM runs; \
                 INSERT INTO records (run, number, body, sum) SELECT run, 1, 'one', {} FROM runs",
                sum(Kind::Definition, &[], b"all"),
                sum(Kind::Snapshot, &0_u64.to_le_bytes(), b"begin"),
                sum(Kind::Record, &1_u64.to_le_bytes(), b"one"),
            ))
            .await
            .unwrap();
        Session::prepare(&place, MIGRATIONS).await.unwrap();
        let session = Session::open(&place).await.unwrap();
        let stored = read::load(&session, &"a".into()).await.unwrap();
        assert_eq!((&*stored.definition, &*stored.snapshot), (&b"all"[..], &b"begin"[..]));
        assert_eq!(&*stored.records[0].body, b"one");
        let damaged = "UPDATE records SET body = 'two'";
        session.execute(damaged).await.unwrap();
        let refused = read::load(&session, &"a".into()).await;
        assert!(matches!(&refused, Err(Failure::Damaged(record, _)) if record == "record 1"), "{refused:?}");
    });
}
