//! Runs on a `PostgreSQL` server (13 or later), for any number of processes on any number of machines.
//!
//! What was written has been flushed to the server's disk when its future is done. A server that is away is waited for;
//! what was on its way then is done once, or an error says that it wasn't.

mod call;
mod engine;
mod failure;
mod list;
mod read;
mod session;
#[cfg(test)]
mod tests;
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::store::{
    BlobId, Change, Claim, Created, Message, MessageId, NewRun, Page, Process, PurgeQuery, RunInfo, RunQuery,
    RunStore, Seen, StoreError, StoreFuture, StoredRun, Worker, WorkerId,
};
use flujo_shared::process::PerProcess;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use self::engine::{Asked, Engine, Of};
use self::session::{MIGRATIONS, Place, Session};

/// How a server is used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// For an address with `sslmode=require`: a PEM file of the authorities whose certificates are trusted, instead of
    /// those that the system trusts.
    pub authorities: Option<PathBuf>,
    /// The schema that holds the tables; it is made where there is none.
    pub schema: String,
    /// For how long a call waits for what others write.
    pub busy_timeout: Duration,
    /// For how long a call waits for a server that is away.
    pub reconnect_timeout: Duration,
}

impl Default for PostgresOptions {
    /// The system's authorities; `flujo`; 5 seconds; 10 seconds.
    fn default() -> Self {
        Self {
            authorities: None,
            schema: "flujo".to_owned(),
            busy_timeout: Duration::from_secs(5),
            reconnect_timeout: Duration::from_secs(10),
        }
    }
}

/// Runs in the tables of one schema.
pub struct Postgres {
    place: Arc<Place>,
    engine: PerProcess<Engine>,
}

impl Postgres {
    /// Connects to a server, `postgresql://user:password@host:5432/database`, and makes the tables where there are none.
    /// With `?sslmode=require` by TLS, and its certificate is checked; else without. Blocks.
    pub fn connect(address: &str) -> Result<Self, StoreError> {
        Self::with(address, PostgresOptions::default())
    }

    /// The same with options.
    pub fn with(address: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        let wrong = |reason: &str| StoreError::Other {
            place: "the address of the PostgreSQL server".to_owned(),
            reason: format!("{reason}; it looks like postgresql://user:password@host:5432/database"),
        };
        // What the library says about a wrong address may quote it.
        let mut config: Config = address.parse().map_err(|_| wrong("it can't be understood"))?;
        let secure = config.get_ssl_mode() == SslMode::Require;
        let tls = secure.then(|| tls::connector(options.authorities.as_deref()));
        let tls = tls.transpose().map_err(|reason| StoreError::Unreachable {
            place: named(&config, &options.schema),
            reason,
        })?;
        if !secure {
            // One that isn't checked keeps nobody out.
            config.ssl_mode(SslMode::Disable);
        }
        config.application_name("flujo");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        if config.get_tcp_user_timeout().is_none() {
            // A server that has vanished is noticed, also while nothing is sent.
            config.tcp_user_timeout(Duration::from_secs(30));
            config.keepalives_idle(Duration::from_secs(10));
        }
        let named = named(&config, &options.schema);
        let place = Place {
            config,
            tls,
            options,
            named,
        };
        prepare(&place)?;
        Ok(Self {
            place: Arc::new(place),
            engine: PerProcess::default(),
        })
    }

    /// Does what has been asked for and closes the connections; nothing is done after it. Blocks. A store that is
    /// dropped does the same, and nobody waits for it.
    pub fn close(&self) {
        self.engine.get().close();
    }

    fn ask<T: Send + 'static>(
        &self,
        of: Of,
        run: Option<Arc<str>>,
        act: impl for<'s> Fn(&'s Session) -> Asked<'s, T> + Send + Sync + 'static,
    ) -> StoreFuture<T> {
        self.engine.get().ask(&self.place, of, run, act)
    }
}

/// Makes the tables, on a thread of its own: whoever asks may be within a runtime.
fn prepare(place: &Place) -> Result<(), StoreError> {
    let work = || -> Result<(), StoreError> {
        let other = |reason: String| StoreError::Other {
            place: place.named.clone(),
            reason,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| other(error.to_string()))?;
        let prepared = runtime.block_on(Session::prepare(place, MIGRATIONS));
        prepared.map_err(|failure| place.told(failure, None))
    };
    let ended = |_| StoreError::Other {
        place: place.named.clone(),
        reason: "the thread that makes the tables has ended".to_owned(),
    };
    std::thread::scope(|scope| scope.spawn(work).join().map_err(ended)?)
}

/// How the server is called in messages: without its user's password.
fn named(config: &Config, schema: &str) -> String {
    let host = config.get_hosts().first().map_or_else(
        || "localhost".to_owned(),
        |host| match host {
            Host::Tcp(host) => host.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        },
    );
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config.get_dbname().or(config.get_user()).unwrap_or("its user's");
    format!("the schema {schema} of the database {database} on {host}:{port}")
}

impl RunStore for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn place(&self) -> String {
        self.place.named.clone()
    }

    fn create(&self, run: NewRun, worker: Option<WorkerId>) -> StoreFuture<Created> {
        let (id, place, run) = (run.id.clone(), self.place(), Arc::new(run));
        self.ask(Of::Runs, Some(id), move |session| {
            let (run, place) = (run.clone(), place.clone());
            Box::pin(async move { call::create(session, &run, worker, &place).await })
        })
    }

    fn claim(&self, run: Arc<str>, worker: WorkerId, seen: Seen) -> StoreFuture<Claim> {
        let place = self.place();
        self.ask(Of::Runs, Some(run.clone()), move |session| {
            let (run, place) = (run.clone(), place.clone());
            Box::pin(async move { call::claim(session, &run, worker, seen, &place).await })
        })
    }

    fn write(&self, claim: &Claim, changes: Vec<Change>) -> StoreFuture<()> {
        self.engine.get().write(&self.place, claim, changes)
    }

    fn info(&self, run: Arc<str>) -> StoreFuture<Option<RunInfo>> {
        self.ask(Of::Reads, Some(run.clone()), move |session| {
            let run = run.clone();
            Box::pin(async move { read::info(session, &run).await })
        })
    }

    fn load(&self, run: Arc<str>) -> StoreFuture<StoredRun> {
        self.ask(Of::Reads, Some(run.clone()), move |session| {
            let run = run.clone();
            Box::pin(async move { read::load(session, &run).await })
        })
    }

    fn blob(&self, run: Arc<str>, blob: BlobId) -> StoreFuture<Arc<[u8]>> {
        self.ask(Of::Reads, Some(run.clone()), move |session| {
            let run = run.clone();
            Box::pin(async move { read::blob(session, &run, blob).await })
        })
    }

    fn list(&self, query: RunQuery) -> StoreFuture<Page> {
        self.ask(Of::Reads, None, move |session| {
            let query = query.clone();
            Box::pin(async move { list::list(session, &query).await })
        })
    }

    fn purge(&self, query: PurgeQuery) -> StoreFuture<u64> {
        self.ask(Of::Runs, None, move |session| {
            let query = query.clone();
            Box::pin(async move { call::purge(session, &query).await })
        })
    }

    fn post(&self, run: Arc<str>, message: Arc<[u8]>) -> StoreFuture<MessageId> {
        self.ask(Of::Runs, Some(run.clone()), move |session| {
            let (run, message) = (run.clone(), message.clone());
            Box::pin(async move { call::post(session, &run, &message).await })
        })
    }

    fn messages(&self, worker: WorkerId) -> StoreFuture<Vec<Message>> {
        self.ask(Of::Reads, None, move |session| {
            Box::pin(async move { read::messages(session, worker).await })
        })
    }

    fn enlist(&self, process: Process) -> StoreFuture<WorkerId> {
        self.ask(Of::Workers, None, move |session| {
            let process = process.clone();
            Box::pin(async move { call::enlist(session, &process).await })
        })
    }

    fn beat(&self, worker: WorkerId) -> StoreFuture<()> {
        let place = self.place();
        self.ask(Of::Workers, None, move |session| {
            let place = place.clone();
            Box::pin(async move { call::beat(session, worker, &place).await })
        })
    }

    fn dismiss(&self, worker: WorkerId, seen: Option<u64>) -> StoreFuture<bool> {
        self.ask(Of::Workers, None, move |session| {
            Box::pin(async move { call::dismiss(session, worker, seen).await })
        })
    }

    fn workers(&self) -> StoreFuture<Vec<Worker>> {
        self.ask(Of::Workers, None, |session| Box::pin(read::workers(session)))
    }

    fn flush(&self) -> StoreFuture<()> {
        // Behind all that came before it.
        self.ask(Of::Runs, None, |_| Box::pin(async { Ok(()) }))
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Postgres")
            .field("place", &self.place.named)
            .field("options", &self.place.options)
            .finish_non_exhaustive()
    }
}
