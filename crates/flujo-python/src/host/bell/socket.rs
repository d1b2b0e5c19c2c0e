//! The socket that a loop reads from.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;

use super::Ring;

/// The socket that a loop reads from, and what it is to call.
pub(super) struct Bell {
    socket: UnixStream,
    rung: Mutex<Rung>,
}

#[derive(Default)]
struct Rung {
    rings: Vec<Arc<Ring>>,
    /// The loop is closed: it calls nothing any more.
    closed: bool,
}

impl Bell {
    /// Has a loop read from a socket.
    ///
    /// Errors: not every kind of loop can; no more files can be opened.
    pub(super) fn hang(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        let py = event_loop.py();
        let (inside, outside) = UnixStream::pair()?;
        inside.set_nonblocking(true)?;
        outside.set_nonblocking(true)?;
        let bell = Arc::new(Self {
            socket: outside,
            rung: Mutex::default(),
        });
        let file = inside.as_raw_fd();
        let listening = Listening {
            bell: Arc::clone(&bell),
            socket: inside,
        };
        // The context variables of whoever is the first here aren't the loop's.
        let context = py.import("contextvars")?.getattr("Context")?.call0()?;
        let add = event_loop.getattr(intern!(py, "add_reader"))?;
        context.call_method1(intern!(py, "run"), (add, file, Bound::new(py, listening)?))?;
        Ok(bell)
    }

    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ring(&self, ring: Arc<Ring>) {
        let mut rung = self.lock();
        if rung.closed {
            return;
        }
        let first = rung.rings.is_empty();
        rung.rings.push(ring);
        drop(rung);
        if first {
            // It is never full: one byte is on its way at most for each time the loop has looked.
            let _ = (&self.socket).write(&[0]);
        }
    }
}

/// The loop's end of a bell; it is the loop's own, and goes when that is closed.
#[pyclass(module = "flujo._native", frozen)]
struct Listening {
    bell: Arc<Bell>,
    socket: UnixStream,
}

#[pymethods]
impl Listening {
    fn __call__(&self, py: Python<'_>) {
        // What is rung from here on writes another byte.
        let _ = (&self.socket).read(&mut [0; 64]);
        let rings = std::mem::take(&mut self.bell.lock().rings);
        for ring in rings {
            let callback = ring.callback.bind(py);
            if let Err(error) = callback.call0() {
                error.write_unraisable(py, Some(callback));
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut rung = self.bell.lock();
        rung.closed = true;
        let rings = std::mem::take(&mut rung.rings);
        // What they hold may be the last of something that rings.
        drop(rung);
        drop(rings);
    }
}
