//! A Redis server: its address, its connections, and what to do when it is away.
//!
//! A call takes a connection that lies idle, or makes one, and puts it back when it can be used again. Nothing is tried twice
//! but a connection that turns out to be dead: who asks decides when a server that is away is asked again.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, RedisResult,
};

use crate::process::PerProcess;

/// So many connections lie idle at most.
const IDLE: usize = 8;

/// How patient calls are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The longest time to reach the server and to log in.
    pub connect_timeout: Duration,
    /// The longest time an answer may take.
    pub operation_timeout: Duration,
}

impl Default for ServerOptions {
    /// A second to connect, half a second for an answer.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            operation_timeout: Duration::from_millis(500),
        }
    }
}

/// Why a server gave no answer. No text holds a name or password from the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// The address is no address.
    #[error(
        "the Redis address is wrong: {reason}; it looks like redis://host:6379/0, rediss://… for TLS, or unix:///path"
    )]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// The server can't be reached, or didn't answer in time.
    #[error("{server} can't be reached: {reason}")]
    Unreachable {
        /// Which.
        server: String,
        /// Why.
        reason: String,
    },
    /// The server was reached and refused.
    #[error("{server} refused: {reason}")]
    Refused {
        /// Which.
        server: String,
        /// Why.
        reason: String,
    },
}

/// A Redis server.
pub struct RedisServer {
    client: Client,
    /// The address without credentials.
    shown: String,
    options: ServerOptions,
    idle: PerProcess<Mutex<Vec<Connection>>>,
}

impl RedisServer {
    /// A server at an address such as `redis://user:password@host:6379/0`. Connects when first asked.
    pub fn new(address: &str, options: ServerOptions) -> Result<Self, ServerError> {
        // What the library says about a wrong address may quote it.
        let wrong = |reason: &str| ServerError::Address {
            reason: reason.to_owned(),
        };
        let info = address
            .into_connection_info()
            .map_err(|error| wrong(reason_of_address(&error)))?;
        let shown = shown(&info);
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            // An application may have chosen another one already.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let client = Client::open(info).map_err(|_| wrong("it can't be used"))?;
        Ok(Self {
            client,
            shown,
            options,
            idle: PerProcess::default(),
        })
    }

    /// The address without name and password.
    pub fn address(&self) -> &str {
        &self.shown
    }

    /// Asks the server. A connection that turns out to be dead is replaced once, so `ask` may be called twice.
    pub fn ask<T>(&self, mut ask: impl FnMut(&mut Connection) -> RedisResult<T>) -> Result<T, ServerError> {
        let idle = self.idle().pop();
        if let Some(mut connection) = idle {
            match ask(&mut connection) {
                Err(error) if error.is_connection_dropped() => self.idle().clear(),
                answer => return self.answered(connection, answer),
            }
        }
        let mut connection = self.connect().map_err(|error| self.failed(&error))?;
        let answer = ask(&mut connection);
        self.answered(connection, answer)
    }

    fn connect(&self) -> RedisResult<Connection> {
        let connection = self
            .client
            .get_connection_with_timeout(self.options.connect_timeout)?;
        connection.set_read_timeout(Some(self.options.operation_timeout))?;
        connection.set_write_timeout(Some(self.options.operation_timeout))?;
        Ok(connection)
    }

    /// A connection whose answer didn't come in time would give it to the next question, so it is dropped.
    fn answered<T>(&self, connection: Connection, answer: RedisResult<T>) -> Result<T, ServerError> {
        let answer = answer.map_err(|error| self.failed(&error));
        if !matches!(answer, Err(ServerError::Unreachable { .. })) {
            let mut idle = self.idle();
            if idle.len() < IDLE {
                idle.push(connection);
            }
        }
        answer
    }

    fn failed(&self, error: &RedisError) -> ServerError {
        let server = format!("the Redis server {}", self.shown);
        let reason = self.without_secrets(error.to_string());
        if error.is_unrecoverable_error() || error.is_timeout() || error.is_io_error() {
            ServerError::Unreachable { server, reason }
        } else {
            ServerError::Refused { server, reason }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.get().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Errors quote what the server says, and it may say what it was told.
    fn without_secrets(&self, text: String) -> String {
        let settings = self.client.get_connection_info().redis_settings();
        let secrets = [settings.password(), settings.username()];
        let secrets = secrets.into_iter().flatten().filter(|secret| !secret.is_empty());
        secrets.fold(text, |text, secret| text.replace(secret, "***"))
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RedisServer")
            .field("address", &self.shown)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

fn shown(info: &ConnectionInfo) -> String {
    let database = info.redis_settings().db();
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => format!("redis://{host}:{port}/{database}"),
        ConnectionAddr::TcpTls { host, port, .. } => format!("rediss://{host}:{port}/{database}"),
        ConnectionAddr::Unix(path) => format!("unix://{}", path.display()),
        _ => "redis".to_owned(),
    }
}

/// The library's fixed words about an address, without what it quotes.
fn reason_of_address(error: &RedisError) -> &str {
    if error.detail().is_some() {
        "a part of it can't be read"
    } else {
        "it isn't a Redis URL"
    }
}
