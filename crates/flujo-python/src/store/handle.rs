//! A store as an object of Python.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::store::{Order, PurgeQuery, RunQuery, RunStatus, RunStore, StoreFuture, StoredRun, WallTime};
use flujo_store::{Key, Memory, Postgres, PostgresOptions, Sealed, Sqlite, SqliteOptions};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::errors::store_error;
use super::{awaited, blocking, shown, steps};

/// A store that is open. Methods with an `event_loop` give a future of that loop; without one they wait.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct Store {
    store: Arc<dyn RunStore>,
    opened: Opened,
}

/// What is closed.
#[derive(Clone)]
enum Opened {
    Memory,
    Sqlite(Arc<Sqlite>),
    Postgres(Arc<Postgres>),
}

impl Store {
    /// Where runs are kept.
    pub(crate) fn run_store(&self) -> &Arc<dyn RunStore> {
        &self.store
    }

    /// A run with its contents.
    fn load(&self, run_id: &str) -> StoreFuture<StoredRun> {
        flujo_durable::load(Arc::clone(&self.store), run_id.into())
    }
}

#[pymethods]
impl Store {
    /// A store in this process's memory.
    #[staticmethod]
    fn memory() -> Self {
        Self {
            store: Arc::new(Memory::new()),
            opened: Opened::Memory,
        }
    }

    /// A file, made where there is none.
    #[staticmethod]
    #[pyo3(signature = (path, *, busy_timeout_s=5.0, max_bytes=None))]
    fn sqlite(py: Python<'_>, path: PathBuf, busy_timeout_s: f64, max_bytes: Option<u64>) -> PyResult<Self> {
        let mut options = SqliteOptions::default();
        options.busy_timeout = seconds("busy_timeout_s", busy_timeout_s)?;
        options.max_bytes = max_bytes;
        let opened = py.detach(|| Sqlite::with(path, options));
        let file = Arc::new(opened.map_err(|error| store_error(py, &error))?);
        Ok(Self {
            store: file.clone(),
            opened: Opened::Sqlite(file),
        })
    }

    /// The tables of a schema on a server.
    #[staticmethod]
    #[pyo3(signature = (url, *, schema="flujo", authorities=None, busy_timeout_s=5.0, reconnect_timeout_s=10.0))]
    fn postgres(
        py: Python<'_>,
        url: &str,
        schema: &str,
        authorities: Option<PathBuf>,
        busy_timeout_s: f64,
        reconnect_timeout_s: f64,
    ) -> PyResult<Self> {
        let mut options = PostgresOptions::default();
        schema.clone_into(&mut options.schema);
        options.authorities = authorities;
        options.busy_timeout = seconds("busy_timeout_s", busy_timeout_s)?;
        options.reconnect_timeout = seconds("reconnect_timeout_s", reconnect_timeout_s)?;
        let opened = py.detach(|| Postgres::with(url, options));
        let server = Arc::new(opened.map_err(|error| store_error(py, &error))?);
        Ok(Self {
            store: server.clone(),
            opened: Opened::Postgres(server),
        })
    }

    /// The same store with what is in runs encrypted under a key of 32 bytes; without a key it isn't stored at all.
    fn sealed(&self, key: Option<&[u8]>) -> PyResult<Self> {
        let inner = self.store.clone();
        let store = match key {
            Some(key) => {
                let key: [u8; 32] = key.try_into().map_err(|_| {
                    PyValueError::new_err(format!(
                        "a key to encrypt stored runs with has 32 bytes, not {}; secrets.token_bytes(32) makes one",
                        key.len()
                    ))
                })?;
                Sealed::encrypted(inner, &Key::new(key))
            }
            None => Sealed::without_content(inner),
        };
        Ok(Self {
            store: Arc::new(store),
            opened: self.opened.clone(),
        })
    }

    /// `memory`, `sqlite` or `postgres`.
    #[getter]
    fn kind(&self) -> &'static str {
        self.store.kind()
    }

    /// Where it is, without passwords.
    #[getter]
    fn place(&self) -> String {
        self.store.place()
    }

    /// What is known of a run, or None.
    #[pyo3(signature = (run_id, *, event_loop=None))]
    fn info(
        &self,
        py: Python<'_>,
        run_id: &str,
        event_loop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        asked(
            py,
            event_loop,
            self.run_store().info(run_id.into()),
            |py, info| {
                let shown = info.map(|info| shown::run(py, &info)).transpose()?;
                shown.into_pyobject(py).map_err(Into::into)
            },
        )
    }

    /// A page of runs, and where the next one begins.
    #[pyo3(signature = (*, statuses=None, pipeline_name=None, created_from=None, created_before=None, after=None,
        oldest_first=false, limit=50, event_loop=None))]
    #[allow(clippy::too_many_arguments)] // named at the one place that calls it
    fn list(
        &self,
        py: Python<'_>,
        statuses: Option<Vec<String>>,
        pipeline_name: Option<&str>,
        created_from: Option<WallTime>,
        created_before: Option<WallTime>,
        after: Option<(WallTime, String)>,
        oldest_first: bool,
        limit: u32,
        event_loop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let query = RunQuery {
            statuses: named(&statuses.unwrap_or_default())?,
            pipeline: pipeline_name.map(Into::into),
            created_from,
            created_before,
            after: after.map(|(created, id)| (created, id.into())),
            order: if oldest_first {
                Order::Oldest
            } else {
                Order::Newest
            },
            limit,
            ..RunQuery::default()
        };
        asked(py, event_loop, self.run_store().list(query), shown::page)
    }

    /// The steps of a run.
    #[pyo3(signature = (run_id, *, event_loop=None))]
    fn steps(
        &self,
        py: Python<'_>,
        run_id: &str,
        event_loop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        asked(py, event_loop, self.load(run_id), steps::steps)
    }

    /// What happened in a run behind the first `after` events, and when it ended, if the last one of all is its end.
    #[pyo3(signature = (run_id, after, *, event_loop=None))]
    fn events(
        &self,
        py: Python<'_>,
        run_id: &str,
        after: usize,
        event_loop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let stored = self.load(run_id);
        asked(py, event_loop, stored, move |py, stored| {
            steps::events(py, stored, after)
        })
    }

    /// The questions of a run that wait for answers: each one's id, and the path of its step.
    #[pyo3(signature = (run_id, *, event_loop=None))]
    fn questions(
        &self,
        py: Python<'_>,
        run_id: &str,
        event_loop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let stored = self.load(run_id);
        asked(py, event_loop, stored, steps::questions)
    }

    /// The version of the pipeline that a run goes on with; None where it isn't known.
    #[pyo3(signature = (run_id, *, event_loop=None))]
    fn version(
        &self,
        py: Python<'_>,
        run_id: &str,
        event_loop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let stored = self.load(run_id);
        asked(py, event_loop, stored, steps::version)
    }

    /// Deletes runs, whole, and tells how many.
    #[pyo3(signature = (*, run_id=None, pipeline_name=None, statuses=None, updated_before=None, keep=None,
        event_loop=None))]
    #[allow(clippy::too_many_arguments)] // named at the one place that calls it
    fn purge(
        &self,
        py: Python<'_>,
        run_id: Option<&str>,
        pipeline_name: Option<&str>,
        statuses: Option<Vec<String>>,
        updated_before: Option<WallTime>,
        keep: Option<u64>,
        event_loop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let query = PurgeQuery {
            run: run_id.map(Into::into),
            pipeline: pipeline_name.map(Into::into),
            statuses: named(&statuses.unwrap_or_default())?,
            updated_before,
            keep,
            at_most: None,
        };
        asked(py, event_loop, self.run_store().purge(query), |py, deleted| {
            Ok(deleted.into_pyobject(py)?.into_any())
        })
    }

    /// The processes that run runs.
    #[pyo3(signature = (*, event_loop=None))]
    fn workers(&self, py: Python<'_>, event_loop: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        asked(py, event_loop, self.run_store().workers(), shown::workers)
    }

    /// Done when all that was asked for before is done.
    #[pyo3(signature = (*, event_loop=None))]
    fn flush(&self, py: Python<'_>, event_loop: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        asked(py, event_loop, self.run_store().flush(), |py, ()| {
            Ok(py.None().into_bound(py))
        })
    }

    /// Waits for what was asked for, and closes connections; nothing is done after it.
    fn close(&self, py: Python<'_>) {
        py.detach(|| match &self.opened {
            Opened::Memory => {}
            Opened::Sqlite(file) => file.close(),
            Opened::Postgres(server) => server.close(),
        });
    }
}

fn asked<T: Send + 'static>(
    py: Python<'_>,
    event_loop: Option<&Bound<'_, PyAny>>,
    asked: StoreFuture<T>,
    convert: impl for<'py> FnOnce(Python<'py>, T) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
) -> PyResult<Py<PyAny>> {
    match event_loop {
        Some(event_loop) => awaited(event_loop, asked, convert),
        None => convert(py, blocking(py, asked)?).map(Bound::unbind),
    }
}

fn named(statuses: &[String]) -> PyResult<Vec<RunStatus>> {
    let named = statuses.iter().map(|name| {
        RunStatus::named(name).ok_or_else(|| {
            let known: Vec<&str> = RunStatus::ALL.iter().map(|status| status.as_str()).collect();
            PyValueError::new_err(format!(
                "a stored run's status is one of {}, not {name:?}",
                known.join(", ")
            ))
        })
    });
    named.collect()
}

fn seconds(name: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        PyValueError::new_err(format!(
            "{name} must be a number of seconds from 0 on, not {seconds}"
        ))
    })
}
