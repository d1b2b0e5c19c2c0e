//! Telling event loops that something has happened on another thread, by a thread of its own: whoever tells it waits
//! neither for the interpreter's lock nor for the loop. What has gathered meanwhile is told in one go.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use flujo_core::agent::BoxFuture;
use flujo_shared::process::PerProcess;
use pyo3::intern;
use pyo3::prelude::*;

/// A loop, and what it is to call.
type Call = (Py<PyAny>, Py<PyAny>);

/// Has a loop call something, once, whenever it is woken.
pub(super) struct Ring(Mutex<Option<Call>>);

impl Ring {
    pub(super) fn waker(event_loop: &Bound<'_, PyAny>, callback: Bound<'_, PyAny>) -> Waker {
        let call = (event_loop.clone().unbind(), callback.unbind());
        Waker::from(Arc::new(Self(Mutex::new(Some(call)))))
    }
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let call = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(call) = call {
            tell(call);
        }
    }
}

static RELAY: LazyLock<PerProcess<OnceLock<Option<Sender<Call>>>>> = LazyLock::new(PerProcess::default);

fn tell(call: Call) {
    let relay = RELAY.get().get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        let begun = thread::Builder::new()
            .name("flujo-relay".to_owned())
            .spawn(move || run(&receiver));
        begun.ok().map(|_| sender)
    });
    match relay {
        Some(relay) => {
            // It never ends.
            let _ = relay.send(call);
        }
        // No thread can be started: then this one waits.
        None => pass_on(vec![call]),
    }
}

fn run(calls: &Receiver<Call>) {
    while let Ok(first) = calls.recv() {
        let mut waiting = vec![first];
        waiting.extend(calls.try_iter());
        // While the lock was waited for more may have come.
        let passed = Python::try_attach(|py| {
            waiting.extend(calls.try_iter());
            for (event_loop, callback) in waiting.drain(..) {
                // A loop that was closed has nobody who waits.
                let _ = event_loop
                    .bind(py)
                    .call_method1(intern!(py, "call_soon_threadsafe"), (callback,));
            }
        });
        if passed.is_none() {
            return; // the interpreter ends
        }
    }
}

fn pass_on(calls: Vec<Call>) {
    Python::try_attach(|py| {
        for (event_loop, callback) in calls {
            let _ = event_loop
                .bind(py)
                .call_method1(intern!(py, "call_soon_threadsafe"), (callback,));
        }
    });
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
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        let done = Bound::new(
            py,
            Done {
                future: future.clone().unbind(),
            },
        )?;
        let waker = Ring::waker(event_loop, done.into_any());
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
