//! A `PostgreSQL` server: the promises, restarts under load, damage.

use std::sync::Arc;
use std::time::Duration;

use flujo_core::store::{RunStore, StoreError};
use flujo_store::{Postgres, PostgresOptions};
use flujo_store_conformance::{Place, compare, run};
use tokio_postgres::NoTls;

use super::memory;
use super::runs::{append, enlist, have, load, wait, whole, write};
use super::server::Server;

/// Tables of their own on the shared server.
struct Tables(PostgresOptions);

impl Tables {
    fn new() -> Self {
        let mut options = PostgresOptions::default();
        options.schema = Server::schema();
        Self(options)
    }

    fn store(&self) -> Postgres {
        Postgres::with(&Server::shared().address(), self.0.clone()).unwrap()
    }

    /// Does something to the tables behind the store's back.
    fn sql(&self, sql: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&Server::shared().address(), NoTls)
                .await
                .unwrap();
            tokio::spawn(connection);
            client
                .batch_execute(&format!("SET search_path = \"{}\"; {sql}", self.0.schema))
                .await
                .unwrap();
        });
    }
}

impl Place for Tables {
    fn open(&self) -> Arc<dyn RunStore> {
        Arc::new(self.store())
    }
}

#[test]
fn postgres_keeps_every_promise() {
    run(Tables::new).unwrap_or_else(|broken| panic!("{broken}"));
}

#[test]
fn postgres_and_memory_answer_alike_whatever_happens() {
    compare(Tables::new, memory, 16).unwrap_or_else(|broken| panic!("{broken}"));
}

#[test]
fn a_server_that_crashes_under_load_loses_nothing_and_does_nothing_twice() {
    let mut server = Server::start();
    let mut options = PostgresOptions::default();
    options.reconnect_timeout = Duration::from_mins(5);
    let store = Postgres::with(&server.address(), options).unwrap();
    let worker = enlist(&store);
    let names = ["a", "b", "c", "d"];
    let claims = names.map(|run| have(&store, run, worker));
    let (store, done) = (&store, &std::sync::atomic::AtomicBool::new(false));
    let counts: Vec<u64> = std::thread::scope(|scope| {
        let writing = claims.map(|claim| {
            scope.spawn(move || {
                let mut number = 0;
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    number += 1;
                    write(store, &claim, number, 300).unwrap();
                }
                number
            })
        });
        for round in 1..=4 {
            // Well under way.
            while whole(store, "a", 300) < round * 20 {}
            server.crash();
            server.begin();
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        writing
            .into_iter()
            .map(|writing| writing.join().unwrap())
            .collect()
    });
    for (run, count) in names.iter().zip(counts) {
        assert_eq!(whole(store, run, 300), count);
    }
}

#[test]
fn a_server_that_stays_away_is_told_without_secrets() {
    let mut server = Server::start();
    let mut options = PostgresOptions::default();
    options.reconnect_timeout = Duration::from_millis(50);
    let store = Postgres::with(&server.address(), options.clone()).unwrap();
    let worker = enlist(&store);
    let claim = have(&store, "a", worker);
    write(&store, &claim, 1, 10).unwrap();
    server.crash();
    let away = write(&store, &claim, 2, 10);
    assert!(
        matches!(&away, Err(StoreError::Unreachable { place, .. }) if place.contains("127.0.0.1")),
        "{away:?}"
    );
    let text = away.unwrap_err().to_string() + &store.place() + &format!("{store:?}");
    assert!(!text.contains("secret"), "{text}");
    let opened = Postgres::with(&server.address(), options).map(drop);
    assert!(
        matches!(&opened, Err(StoreError::Unreachable { .. })),
        "{opened:?}"
    );
    server.begin();
    // What came after it isn't written either, until the run is claimed again.
    assert!(matches!(
        write(&store, &claim, 3, 10),
        Err(StoreError::Unreachable { .. })
    ));
    let claim = have(&store, "a", worker);
    write(&store, &claim, 2, 10).unwrap();
    assert_eq!(whole(&store, "a", 10), 2);
}

#[test]
fn processes_that_make_the_tables_at_once_make_them_once() {
    let tables = Tables::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| enlist(&tables.store()));
        }
    });
    assert_eq!(wait(tables.store().workers()).unwrap().len(), 8);
}

#[test]
fn tables_of_a_later_version_are_refused() {
    let tables = Tables::new();
    drop(tables.store());
    tables.sql("UPDATE version SET version = 99");
    let refused = Postgres::with(&Server::shared().address(), tables.0.clone()).map(drop);
    assert!(
        matches!(refused, Err(StoreError::NewerSchema { found: 99, .. })),
        "{refused:?}"
    );
}

#[test]
fn a_damaged_record_is_told_and_other_runs_stay_readable() {
    let tables = Tables::new();
    let store = tables.store();
    let worker = enlist(&store);
    for run in ["a", "b"] {
        let claim = have(&store, run, worker);
        for number in 1..=3 {
            write(&store, &claim, number, 100).unwrap();
        }
    }
    tables.sql("UPDATE records SET body = body || 'x' WHERE number = 2 AND run = (SELECT run FROM runs WHERE id = 'a')");
    let told = load(&store, "a");
    assert!(
        matches!(&told, Err(StoreError::Corrupt { run: Some(run), location, .. }) if &**run == "a" && location == "record 2"),
        "{told:?}"
    );
    assert_eq!(whole(&store, "b", 100), 3);
}

#[test]
fn a_lock_that_others_hold_for_too_long_is_busy() {
    let tables = Tables::new();
    let mut options = tables.0.clone();
    options.busy_timeout = Duration::from_millis(300);
    drop(tables.store());
    let store = Postgres::with(&Server::shared().address(), options).unwrap();
    let worker = enlist(&store);
    let (a, b) = (have(&store, "a", worker), have(&store, "b", worker));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&Server::shared().address(), NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let lock = format!(
            "BEGIN; SELECT FROM \"{}\".runs WHERE id = 'a' FOR UPDATE",
            tables.0.schema
        );
        client.batch_execute(&lock).await.unwrap();
        // One that has to wait doesn't keep what was asked for with it.
        let (held, free) = (
            store.write(&a, vec![append("a", 1, 10)]),
            store.write(&b, vec![append("b", 1, 10)]),
        );
        assert!(matches!(held.await, Err(StoreError::Busy { .. })));
        free.await.unwrap();
        client.batch_execute("COMMIT").await.unwrap();
    });
    assert_eq!((whole(&store, "a", 10), whole(&store, "b", 10)), (0, 1));
}

#[test]
fn a_server_with_tls_is_reached_when_its_certificate_is_trusted() {
    let server = Server::with_tls();
    let address = server.address() + "?sslmode=require";
    let authority = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&authority, include_str!("tls/ca.crt")).unwrap();
    let mut options = PostgresOptions::default();
    options.authorities = Some(authority.path().to_owned());
    let store = Postgres::with(&address, options.clone()).unwrap();
    let claim = have(&store, "a", enlist(&store));
    write(&store, &claim, 1, 10).unwrap();
    assert_eq!(whole(&store, "a", 10), 1);
    // Of nobody, of somebody the system doesn't trust, and without.
    std::fs::write(&authority, "").unwrap();
    for (address, options) in [
        (address.clone(), options),
        (address, PostgresOptions::default()),
        (server.address(), PostgresOptions::default()),
    ] {
        let refused = Postgres::with(&address, options).map(drop);
        assert!(
            matches!(&refused, Err(StoreError::Unreachable { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_wrong_address_is_told_without_what_it_holds() {
    for address in ["postgresql://flujo:secret@[", "secret"] {
        let wrong = Postgres::connect(address).map(drop);
        let text = wrong.unwrap_err().to_string();
        assert!(
            text.contains("postgresql://user:password@host:5432/database"),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
    }
}
