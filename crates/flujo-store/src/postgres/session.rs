//! A connection to the server, with its statements prepared; and how the tables come to this version.

use std::collections::HashMap;
use std::time::Duration;

use flujo_core::store::StoreError;
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure::Failure;
use super::{PostgresOptions, call};

/// What brings the tables from each version to the next.
pub(super) const MIGRATIONS: &[&str] = &[include_str!("schema/1.sql"), include_str!("schema/2.sql")];
/// Whoever makes tables holds this lock: "flur".
const LOCK: i32 = 0x666c_7572;

/// A connection.
pub(super) struct Session {
    client: Client,
    statements: HashMap<&'static str, Statement>,
    /// What moves bytes while this thread waits for answers.
    moved: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.moved.abort();
    }
}

/// A server, its database and its schema, as every thread needs them.
pub(super) struct Place {
    pub(super) config: Config,
    pub(super) tls: Option<MakeRustlsConnect>,
    pub(super) options: PostgresOptions,
    /// As it is called in messages.
    pub(super) named: String,
}

impl Place {
    pub(super) fn told(&self, failure: Failure, run: Option<&std::sync::Arc<str>>) -> StoreError {
        failure.told(&self.named, self.options.busy_timeout, run)
    }
}

impl Session {
    /// A connection to tables that are there.
    pub(super) async fn open(place: &Place) -> Result<Self, Failure> {
        let mut session = Self::connect(place).await?;
        for sql in call::ALL {
            let prepared = session.client.prepare(sql).await?;
            session.statements.insert(sql, prepared);
        }
        Ok(session)
    }

    async fn connect(place: &Place) -> Result<Self, Failure> {
        let (client, moved) = match &place.tls {
            None => {
                let (client, connection) = place.config.connect(NoTls).await?;
                (client, tokio::spawn(moved(connection)))
            }
            Some(tls) => {
                let (client, connection) = place.config.connect(tls.clone()).await?;
                (client, tokio::spawn(moved(connection)))
            }
        };
        let session = Self {
            client,
            statements: HashMap::new(),
            moved,
        };
        let milliseconds = place
            .options
            .busy_timeout
            .as_millis()
            .clamp(1, i32::MAX.unsigned_abs().into());
        let settings = format!(
            "SET search_path = {}; SET lock_timeout = {milliseconds}; SET default_transaction_isolation = 'read committed'; \
             SET idle_in_transaction_session_timeout = '30s'; \
             SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') IN ('off', 'local');",
            quoted(&place.options.schema),
        );
        session.client.batch_execute(&settings).await?;
        Ok(session)
    }

    /// Makes the tables, or brings them to this version, one step in one transaction each.
    pub(super) async fn prepare(place: &Place, migrations: &[&str]) -> Result<(), Failure> {
        let mut session = Self::connect(place).await?;
        let schema = quoted(&place.options.schema);
        if session.version().await? == Some(known(migrations)) {
            return Ok(());
        }
        loop {
            let transaction = session.client.transaction().await?;
            // Others wait here until this has been done, and see then that it has.
            transaction
                .execute(
                    "SELECT pg_advisory_xact_lock($1, hashtext($2))",
                    &[&LOCK, &place.options.schema],
                )
                .await?;
            let there = transaction
                .query_one(
                    "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)",
                    &[&place.options.schema.as_str()],
                )
                .await?;
            if !there.try_get::<_, bool>(0)? {
                transaction
                    .batch_execute(&format!("CREATE SCHEMA {schema}"))
                    .await?;
            }
            transaction
                .batch_execute("CREATE TABLE IF NOT EXISTS version (version BIGINT NOT NULL)")
                .await?;
            let row = transaction.query_opt("SELECT version FROM version", &[]).await?;
            let version: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
            let known = known(migrations);
            if version > known {
                return Err(Failure::Store(StoreError::NewerSchema {
                    place: place.named.clone(),
                    found: version,
                    known,
                }));
            }
            let Some(next) = usize::try_from(version)
                .ok()
                .and_then(|version| migrations.get(version))
            else {
                return Ok(());
            };
            transaction.batch_execute(next).await?;
            transaction.execute("DELETE FROM version", &[]).await?;
            transaction
                .execute("INSERT INTO version VALUES ($1)", &[&(version + 1)])
                .await?;
            transaction.commit().await?;
        }
    }

    /// The version of the tables, where there are any.
    async fn version(&self) -> Result<Option<i64>, Failure> {
        let there = self
            .client
            .query_one("SELECT to_regclass('version') IS NOT NULL", &[])
            .await?;
        if !there.try_get::<_, bool>(0)? {
            return Ok(None);
        }
        let row = self.client.query_opt("SELECT version FROM version", &[]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    pub(super) async fn execute(&self, sql: &str) -> Result<(), Failure> {
        Ok(self.client.batch_execute(sql).await?)
    }

    pub(super) async fn rows(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Failure> {
        Ok(match self.statements.get(sql) {
            Some(statement) => self.client.query(statement, values).await?,
            None => self.client.query(sql, values).await?,
        })
    }

    pub(super) async fn one(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Row, Failure> {
        let row = self.rows(sql, values).await?.pop();
        row.ok_or_else(|| Failure::Damaged("an answer".to_owned(), "it has no row"))
    }
}

/// Whoever waits for an answer is told when there will be none.
async fn moved(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    drop(connection.await);
}

fn known(migrations: &[&str]) -> i64 {
    i64::try_from(migrations.len()).unwrap_or(i64::MAX)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Waits before the next try to connect: longer each time, never for long.
pub(super) fn pause(tries: u32) -> Duration {
    Duration::from_millis(20 << tries.min(5))
}
