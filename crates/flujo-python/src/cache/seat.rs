//! Where somebody waits for a result that another run makes, perhaps on another thread's loop.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flujo_core::cache::{Landed, Turn, Waiter};
use pyo3::intern;
use pyo3::prelude::*;

use super::held::Value;
use crate::agents::wake;

/// What whoever waits is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// Nothing yet.
    Nothing,
    /// A result is there.
    Landed(Arc<Landed<Value>>),
    /// To make it is its turn.
    Turn(Turn),
    /// It no longer waits.
    Gone,
}

/// Where somebody waits.
#[derive(Debug)]
pub(crate) struct Seat(Mutex<State>);

#[derive(Debug)]
struct State {
    told: Told,
    /// The loop and the future that it waits with.
    bell: Option<(Py<PyAny>, Py<PyAny>)>,
}

impl Seat {
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            told: Told::Nothing,
            bell: None,
        };
        Arc::new(Self(Mutex::new(state)))
    }

    /// A future of the loop that is done when something is told; `None` when that is so already.
    pub(crate) fn future<'py>(&self, event_loop: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = event_loop.py();
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        let bell = Some((event_loop.clone().unbind(), future.clone().unbind()));
        let mut state = self.lock();
        if !matches!(state.told, Told::Nothing) {
            return Ok(None);
        }
        let old = std::mem::replace(&mut state.bell, bell);
        drop(state);
        drop(old);
        Ok(Some(future))
    }

    /// What was told, once.
    pub(crate) fn take(&self) -> Told {
        std::mem::replace(&mut self.lock().told, Told::Nothing)
    }

    /// Nobody waits here any more. Gives what was told and not taken.
    pub(crate) fn leave(&self) -> Told {
        std::mem::replace(&mut self.lock().told, Told::Gone)
    }

    /// Tells; false when nobody waits.
    fn tell(&self, told: Told) -> bool {
        let bell = {
            let mut state = self.lock();
            if matches!(state.told, Told::Gone) {
                return false;
            }
            state.told = told;
            state.bell.take()
        };
        let Some((event_loop, future)) = bell else {
            return true; // it looks before it waits
        };
        let rung = Python::try_attach(|py| wake(event_loop.bind(py), future.bind(py)).is_ok());
        if rung != Some(true) {
            // The loop is closed: whoever waited there is gone.
            drop(self.leave());
            return false;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits, as the cache knows it.
#[derive(Debug)]
pub(crate) struct Waiting(pub(crate) Arc<Seat>);

impl Waiter<Value> for Waiting {
    fn landed(self, landed: Arc<Landed<Value>>) {
        self.0.tell(Told::Landed(landed));
    }

    fn turn(self, turn: Turn) -> bool {
        self.0.tell(Told::Turn(turn))
    }
}
