//! Telling event loops that something has happened on another thread. Each loop that is told anything reads from a socket of
//! its own, so that whoever tells it waits neither for the interpreter's lock nor for the loop. What has gathered meanwhile is
//! told in one go.

#[cfg(unix)]
mod socket;

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};

use flujo_core::agent::BoxFuture;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use tokio::runtime::Handle;

use crate::agents::runtime;

/// Has a loop call something, on its own thread, each time it is woken.
pub(super) struct Ring {
    line: Line,
    /// The loop's.
    thread: ThreadId,
    event_loop: Py<PyAny>,
    callback: Py<PyAny>,
}

/// How a loop is reached from other threads.
#[derive(Clone)]
enum Line {
    #[cfg(unix)]
    Bell(Arc<socket::Bell>),
    /// It can't read from sockets of others: one of these threads waits for the interpreter's lock. Whoever wakes may hold what
    /// the thread wants that has it.
    Threads(Handle),
}

impl Ring {
    /// Asked for on the loop's thread.
    pub(super) fn waker(event_loop: &Bound<'_, PyAny>, callback: Bound<'_, PyAny>) -> PyResult<Waker> {
        let ring = Self {
            line: line(event_loop)?,
            thread: thread::current().id(),
            event_loop: event_loop.clone().unbind(),
            callback: callback.unbind(),
        };
        Ok(Waker::from(Arc::new(ring)))
    }

    fn tell(&self) {
        // Where the interpreter ends, or the loop was closed, nobody waits any more.
        Python::try_attach(|py| {
            let (event_loop, callback) = (self.event_loop.bind(py), &self.callback);
            let _ = event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (callback,));
        });
    }
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        match &self.line {
            _ if thread::current().id() == self.thread => self.tell(),
            #[cfg(unix)]
            Line::Bell(bell) => Arc::clone(bell).ring(self),
            Line::Threads(threads) => drop(threads.clone().spawn_blocking(move || self.tell())),
        }
    }
}

/// The line that a loop has.
#[pyclass(module = "flujo._native", frozen)]
struct Known(Line);

fn line(event_loop: &Bound<'_, PyAny>) -> PyResult<Line> {
    static OF_LOOPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = event_loop.py();
    let of_loops = OF_LOOPS.get_or_try_init(py, || {
        let class = py.import("weakref")?.getattr("WeakKeyDictionary")?;
        Ok::<_, PyErr>(class.call0()?.unbind())
    })?;
    let of_loops = of_loops.bind(py);
    let known = of_loops.call_method1(intern!(py, "get"), (event_loop,))?;
    if let Ok(known) = known.cast::<Known>() {
        return Ok(known.get().0.clone());
    }
    let line = match bell(event_loop) {
        Some(line) => line,
        None => Line::Threads(runtime(py)?),
    };
    of_loops.set_item(event_loop, Bound::new(py, Known(line.clone()))?)?;
    Ok(line)
}

/// A bell for a loop that can read from a socket.
#[cfg(unix)]
fn bell(event_loop: &Bound<'_, PyAny>) -> Option<Line> {
    socket::Bell::hang(event_loop).ok().map(Line::Bell)
}

#[cfg(not(unix))]
fn bell(_event_loop: &Bound<'_, PyAny>) -> Option<Line> {
    None
}

/// Something that is on its way, as whoever is driven by an asyncio loop waits for it.
pub(super) struct Awaiting<T>(BoxFuture<'static, T>);

impl<T> Awaiting<T> {
    pub(super) fn new(on_its_way: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Box::pin(on_its_way))
    }

    pub(super) fn into_inner(self) -> BoxFuture<'static, T> {
        self.0
    }

    /// What it has come to; or else the future of the loop to wait for, and come back.
    pub(super) fn look(&mut self, event_loop: &Bound<'_, PyAny>) -> PyResult<Result<T, Py<PyAny>>> {
        let py = event_loop.py();
        // Whoever is told by something shared that it is there is told once more when it takes it.
        let mut unheard = Context::from_waker(Waker::noop());
        if let Poll::Ready(come) = self.0.as_mut().poll(&mut unheard) {
            return Ok(Ok(come));
        }
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        let done = Done {
            future: future.clone().unbind(),
        };
        let waker = Ring::waker(event_loop, Bound::new(py, done)?.into_any())?;
        match self.0.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(come) => Ok(Ok(come)),
            Poll::Pending => {
                // What a future's own iterator does when it is awaited.
                future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
                Ok(Err(future.unbind()))
            }
        }
    }
}

/// Ends a future of a loop, on the loop.
#[pyclass(module = "flujo._native", frozen)]
struct Done {
    future: Py<PyAny>,
}

#[pymethods]
impl Done {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let future = self.future.bind(py);
        if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
            future.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
        Ok(())
    }
}
