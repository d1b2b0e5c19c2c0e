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
use pyo3::sync::PyOnceLock;

/// A loop, and what it is to call.
type Call = (Py<PyAny>, Py<PyAny>);

/// What the thread is told.
enum Told {
    Call(Call),
    /// To end, and to say so.
    End(Sender<()>),
}

/// Has a loop call something, once, whenever it is woken.
pub(super) struct Ring(Mutex<Option<Call>>);

impl Ring {
    pub(super) fn waker(event_loop: &Bound<'_, PyAny>, callback: Bound<'_, PyAny>) -> Waker {
        end_with_interpreter(event_loop.py());
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

static RELAY: LazyLock<PerProcess<OnceLock<Option<Sender<Told>>>>> = LazyLock::new(PerProcess::default);

/// Asks to be told of the interpreter's end: a thread that waits for its lock then is ended in the middle of what it does.
fn end_with_interpreter(py: Python<'_>) {
    static WATCHED: PyOnceLock<()> = PyOnceLock::new();
    WATCHED.get_or_init(py, || {
        let registered = py
            .import("atexit")
            .and_then(|atexit| atexit.call_method1("register", (wrap_pyfunction!(end, py)?,)));
        drop(registered);
    });
}

/// Ends the thread while it can still reach the interpreter. Nobody is told anything after that.
#[pyfunction]
fn end(py: Python<'_>) {
    let relay = RELAY.get();
    let Some(Some(relay)) = relay.get() else { return };
    let (sender, ended) = mpsc::channel();
    if relay.send(Told::End(sender)).is_ok() {
        // It says so, or is gone.
        let _ = py.detach(move || ended.recv());
    }
}

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
            // When it has ended there is no loop any more that could be told.
            let _ = relay.send(Told::Call(call));
        }
        // No thread can be started: then this one waits.
        None => pass_on(vec![call]),
    }
}

fn run(told: &Receiver<Told>) {
    let mut waiting = Vec::new();
    while let Ok(first) = told.recv() {
        let mut ends = take_in(&mut waiting, [first]).or_else(|| take_in(&mut waiting, told.try_iter()));
        let passed = Python::try_attach(|py| {
            // While the lock was waited for more may have come.
            ends = ends.take().or_else(|| take_in(&mut waiting, told.try_iter()));
            for (event_loop, callback) in waiting.drain(..) {
                // A loop that was closed has nobody who waits.
                let _ = event_loop
                    .bind(py)
                    .call_method1(intern!(py, "call_soon_threadsafe"), (callback,));
            }
        });
        if let Some(ends) = ends {
            let _ = ends.send(());
            return;
        }
        if passed.is_none() {
            return; // the interpreter ends
        }
    }
}

/// Takes in calls; gives who is to be told of the end, when that has come.
fn take_in(waiting: &mut Vec<Call>, told: impl IntoIterator<Item = Told>) -> Option<Sender<()>> {
    for one in told {
        match one {
            Told::Call(call) => waiting.push(call),
            Told::End(sender) => return Some(sender),
        }
    }
    None
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
