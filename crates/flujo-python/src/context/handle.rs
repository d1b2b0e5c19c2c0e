//! A context as whoever runs steps holds it: the object with its state at hand, so that what is done to it for every
//! step needs no look-up in its class.

use pyo3::PyTraverseError;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;

use super::pace::Pace;
use super::state::{self, ViewState};

/// A context that is held.
#[derive(Debug)]
pub(crate) struct Handle {
    object: Py<PyAny>,
    /// Of a view.
    state: Option<Py<ViewState>>,
}

impl Handle {
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            object: object.clone().unbind(),
            state: state::state_of(object)?.map(|(_, state)| state.unbind()),
        })
    }

    pub(crate) fn object(&self) -> &Py<PyAny> {
        &self.object
    }

    pub(crate) fn is_view(&self) -> bool {
        self.state.is_some()
    }

    /// An isolated view of it, as [`view`](super::view) gives one.
    pub(crate) fn view(&self, py: Python<'_>) -> PyResult<Self> {
        let base = self.object.bind(py);
        let Some(state) = &self.state else {
            return Self::of(super::view(base)?.bind(py));
        };
        let (state, pace) = (state.get(), Pace::attended());
        let told = state.told().clone();
        let (view, state) = state::fork_of(base, state.class().bind(py), Some(state), told, &pace)?;
        Ok(Self {
            object: view.unbind(),
            state: Some(state.unbind()),
        })
    }

    /// Whether it needs no preparation for its commit, as a view that nobody has changed.
    pub(crate) fn is_settled(&self, py: Python<'_>) -> PyResult<bool> {
        match &self.state {
            Some(state) => state::has_nothing_loose(self.object.bind(py), state.get()),
            None => Ok(false),
        }
    }

    /// Makes what changed in this view part of `base`; see [`commit`](super::commit).
    pub(crate) fn commit_into(&self, py: Python<'_>, base: &Self) -> PyResult<()> {
        let view = self.object.bind(py);
        if let (Some(state), Some(base)) = (&self.state, &base.state)
            && state.get().class().is(base.get().class())
            && state::is_untouched(view, state.get())?
        {
            return Ok(());
        }
        // What user code made of it has been settled before, so this is short; half a commit would be no isolation.
        super::commit(view, base.object.bind(py), &Pace::brief())
    }

    /// Tells the garbage collector of what is held.
    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        match &self.state {
            Some(state) => visit.call(state),
            None => Ok(()),
        }
    }
}
