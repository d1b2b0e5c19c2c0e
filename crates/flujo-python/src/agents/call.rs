//! A call that runs on tokio and is awaited on an event loop.
//!
//! The work ends before its caller goes on, also when it is cancelled: what an agent had started is over by then.

use std::sync::{Arc, Mutex, PoisonError};

use flujo_agents::Pricing;
use flujo_core::agent::{AgentError, AgentOutput, BoxFuture, ChunkSink};
use flujo_core::value::Value;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::{AbortHandle, JoinHandle};

use super::{outcome, plain};

/// How many chunks may wait for their reader; then the agent waits.
const BUFFERED_CHUNKS: usize = 16;

/// What an agent is doing.
pub(super) type Work = BoxFuture<'static, Result<AgentOutput, AgentError>>;

type Chunks = Arc<AsyncMutex<mpsc::Receiver<Value>>>;

/// A call under way.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct NativeCall {
    event_loop: Py<PyAny>,
    future: Py<PyAny>,
    runtime: Handle,
    abort: AbortHandle,
    work: Mutex<Option<JoinHandle<()>>>,
    chunks: Option<Chunks>,
}

impl NativeCall {
    /// Starts `work`; its end settles an asyncio future of the running loop.
    pub(super) fn start(
        py: Python<'_>,
        runtime: Handle,
        work: Work,
        pricing: Pricing,
        chunks: Option<mpsc::Receiver<Value>>,
    ) -> PyResult<Self> {
        let event_loop = running_loop(py)?;
        let (future, reply) = Reply::new(&event_loop)?;
        let task = runtime.spawn(async move {
            let result = work.await;
            reply.send(|py| outcome::of(py, result, pricing));
        });
        Ok(Self {
            event_loop: event_loop.unbind(),
            future,
            runtime,
            abort: task.abort_handle(),
            work: Mutex::new(Some(task)),
            chunks: chunks.map(|chunks| Arc::new(AsyncMutex::new(chunks))),
        })
    }
}

#[pymethods]
impl NativeCall {
    /// The asyncio future of the outcome.
    #[getter]
    fn future(&self, py: Python<'_>) -> Py<PyAny> {
        self.future.clone_ref(py)
    }

    /// Stops the work where it waits. Nothing happens when it has ended.
    fn abort(&self) {
        self.abort.abort();
    }

    /// An asyncio future that is done when the work is over and what it held is let go; None when somebody has it.
    fn ended(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(work) = work else { return Ok(None) };
        let (future, reply) = Reply::new(self.event_loop.bind(py))?;
        self.runtime.spawn(async move {
            // How it ended is said by its own future; here it only matters that it has.
            let _ = work.await;
            reply.send(|py| Ok(py.None().into_bound(py)));
        });
        Ok(Some(future))
    }

    /// The next chunk in a tuple of one when it is there already, an empty tuple at the end, else None.
    fn take_chunk<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(chunks) = &self.chunks else {
            return Ok(Some(PyTuple::empty(py)));
        };
        let Ok(mut chunks) = chunks.try_lock() else {
            return Ok(None);
        };
        match chunks.try_recv() {
            Ok(chunk) => chunk_object(py, Some(&chunk)).map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => chunk_object(py, None).map(Some),
        }
    }

    /// An asyncio future of the next chunk in a tuple of one, or of an empty tuple at the end.
    fn next_chunk(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (future, reply) = Reply::new(self.event_loop.bind(py))?;
        let chunks = self.chunks.clone();
        self.runtime.spawn(async move {
            let chunk = match chunks {
                Some(chunks) => chunks.lock().await.recv().await,
                None => None,
            };
            reply.send(|py| chunk_object(py, chunk.as_ref()).map(Bound::into_any));
        });
        Ok(future)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.future)
    }
}

impl Drop for NativeCall {
    /// Nobody waits any more.
    fn drop(&mut self) {
        self.abort.abort();
    }
}

fn chunk_object<'py>(py: Python<'py>, chunk: Option<&Value>) -> PyResult<Bound<'py, PyTuple>> {
    match chunk {
        Some(chunk) => PyTuple::new(py, [plain::to_object(py, chunk)?]),
        None => Ok(PyTuple::empty(py)),
    }
}

/// Both ends of the way that chunks take: bounded, so that a slow reader slows the service down.
pub(super) fn chunk_channel() -> (Arc<dyn ChunkSink>, mpsc::Receiver<Value>) {
    let (sender, receiver) = mpsc::channel(BUFFERED_CHUNKS);
    (Arc::new(Sink(sender)), receiver)
}

struct Sink(mpsc::Sender<Value>);

impl ChunkSink for Sink {
    fn send(&self, chunk: Value) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // A reader that is gone has the call aborted.
            let _ = self.0.send(chunk).await;
        })
    }
}

fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static CELL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CELL.import(py, "asyncio", "get_running_loop")?.call0()
}

/// The duty to settle an asyncio future, from any thread. One that is dropped unmet settles it with an error, so that
/// nobody waits for ever.
pub(crate) struct Reply(Option<(Py<PyAny>, Py<PyAny>)>);

impl Reply {
    pub(crate) fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<(Py<PyAny>, Self)> {
        let py = event_loop.py();
        let future = event_loop.call_method0(intern!(py, "create_future"))?.unbind();
        let reply = Self(Some((event_loop.clone().unbind(), future.clone_ref(py))));
        Ok((future, reply))
    }

    pub(crate) fn send(mut self, make: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>>) {
        self.deliver(make);
    }

    fn deliver(&mut self, make: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>>) {
        let Some((event_loop, future)) = self.0.take() else {
            return;
        };
        // An interpreter that is shutting down has nobody who waits.
        Python::try_attach(move |py| {
            let settled = (|| {
                let (result, error) = match make(py) {
                    Ok(result) => (Some(result), None),
                    Err(error) => (None, Some(error.into_value(py))),
                };
                let settle = wrap_pyfunction!(settle, py)?;
                event_loop.call_method1(
                    py,
                    intern!(py, "call_soon_threadsafe"),
                    (settle, future.bind(py), result, error),
                )
            })();
            // It fails when the loop is closed: nobody waits any more.
            drop(settled);
        });
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.deliver(|_| {
            Err(PyRuntimeError::new_err(
                "the work was broken off before it had an outcome",
            ))
        });
    }
}

/// Has a future of a loop be done, from any thread.
///
/// Errors: the loop is closed.
pub(crate) fn wake(event_loop: &Bound<'_, PyAny>, future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    let settled = (wrap_pyfunction!(settle, py)?, future, py.None(), py.None());
    event_loop
        .call_method1(intern!(py, "call_soon_threadsafe"), settled)
        .map(drop)
}

/// Called by the loop; a future that was cancelled meanwhile stays as it is.
#[pyfunction]
fn settle(future: &Bound<'_, PyAny>, result: &Bound<'_, PyAny>, error: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if future.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    if error.is_none() {
        future.call_method1(intern!(py, "set_result"), (result,))?;
    } else {
        future.call_method1(intern!(py, "set_exception"), (error,))?;
    }
    Ok(())
}
