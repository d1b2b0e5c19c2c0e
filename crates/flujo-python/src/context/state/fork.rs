//! Forking: a view of what a context is now, which costs the same whatever the context weighs.

use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::super::class::{self, Part, ViewClass};
use super::super::clone::clone;
use super::super::pace::Pace;
use super::super::{plain, raw};
use super::settle::settle;
use super::{Cells, Told, ViewState, state_in};

/// A view of a pydantic model or of another view; `None` where the class admits none.
pub(in crate::context) fn fork<'py>(
    base: &Bound<'py, PyAny>,
    told: Told,
    pace: &Pace<'_>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(class) = class::view_class(&base.get_type())? else {
        return Ok(None);
    };
    let state = state_in_base(base, class.get())?;
    let (view, _) = fork_of(base, &class, state.as_ref().map(Bound::get), told, pace)?;
    Ok(Some(view))
}

/// A view of a model of this class, or of a view of one, which has this state.
pub(in crate::context) fn fork_of<'py>(
    base: &Bound<'py, PyAny>,
    view_class: &Bound<'py, ViewClass>,
    state: Option<&ViewState>,
    told: Told,
    pace: &Pace<'_>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, ViewState>)> {
    let (py, class) = (base.py(), view_class.get());
    let snapshot = match state {
        Some(state) => settle(base, class, state, pace)?,
        None => plain::model_snapshot(base)?,
    };
    let view = raw::bare_instance(class.class(py)?)?;
    let extra_keys = snapshot.len() > class.field_count(py) + Part::ALL.len();
    let shared = snapshot.clone().unbind();
    let cells = Cells {
        origin: shared.clone_ref(py),
        current: shared,
        complete: false,
        loose_parts: [false; 3],
    };
    let state = Bound::new(
        py,
        ViewState {
            cells: Mutex::new(cells),
            told,
            class: view_class.clone().unbind(),
        },
    )?;
    raw::set_slot(class.state_slot(py)?, &view, Some(state.as_any()))?;
    if extra_keys {
        // Cached properties and the like have no descriptor of ours: they must be in place.
        let attributes = raw::instance_dict(&view)?;
        for (name, value) in snapshot.iter() {
            let name = name.cast_into::<PyString>()?;
            if !class.is_field(&name)? && Part::of_key(&name).is_none() {
                attributes.set_item(name, clone(&value, pace)?)?;
            }
        }
    }
    Ok((view, state))
}

fn state_in_base<'py>(
    base: &Bound<'py, PyAny>,
    class: &ViewClass,
) -> PyResult<Option<Bound<'py, ViewState>>> {
    if base.get_type().is(class.class(base.py())?) {
        state_in(base, class)
    } else {
        Ok(None)
    }
}
