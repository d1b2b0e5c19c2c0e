//! Settling: what user code made of a view's loose attributes becomes part of its snapshot.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::super::class::{Part, ViewClass};
use super::super::clone::{clone, immutable};
use super::super::held::held_elsewhere;
use super::super::pace::{CONTAINER, Pace};
use super::super::raw;
use super::super::same::same;
use super::ViewState;

/// References to a loose value that are accounted for: its dictionary or slot, and the variable that looks at it.
const OWN_REFERENCES: isize = 2;

/// Takes what is loose and differs into the snapshot, and returns that. What is there again as it was at the fork is
/// the fork's own object again, so that who compares snapshots needs no look at the values.
pub(super) fn settle<'py>(
    view: &Bound<'py, PyAny>,
    class: &ViewClass,
    state: &ViewState,
    pace: &Pace<'_>,
) -> PyResult<Bound<'py, PyDict>> {
    let py = view.py();
    let loose = raw::instance_dict(view)?;
    if loose.is_empty()
        && let Some(current) = state.current_alone(py)
    {
        return Ok(current);
    }
    let (current, complete) = state.current(py);
    let loose_parts = state.with(|cells| cells.loose_parts);
    let origin = state.origin(py);
    // The instance and this variable; more means that user code holds `vars(context)`.
    let escaped = raw::references(loose.as_any()) > 2;
    let next = current.copy()?;
    let mut changed = false;
    let mut movable = Vec::new();
    for name in loose.keys().iter() {
        let name = name.cast_into::<PyString>()?;
        let Some(value) = loose.get_item(&name)? else {
            continue;
        };
        let before = current.get_item(&name)?;
        if let Some(before) = &before
            && same(before, &value, pace)?
        {
            continue;
        }
        changed = true;
        if let Some(original) = restored(&origin, before.as_ref(), &name, &value, pace)? {
            next.set_item(&name, original)?;
        } else if !escaped && class.is_field(&name)? && free(&value, pace)? {
            movable.push((name, value));
        } else {
            next.set_item(&name, clone(&value, pace)?)?;
        }
    }
    if complete {
        for name in current.keys() {
            let name = name.cast_into::<PyString>()?;
            if Part::of_key(&name).is_none() && !loose.contains(&name)? {
                next.del_item(&name)?;
                changed = true;
            }
        }
    }
    for part in Part::ALL {
        if !loose_parts[part as usize] {
            continue;
        }
        let name = part.name(py);
        let Some(value) = raw::slot(part.slot(py)?, view)? else {
            continue;
        };
        let before = current.get_item(name)?;
        if let Some(before) = &before
            && same(before, &value, pace)?
        {
            continue;
        }
        changed = true;
        match restored(&origin, before.as_ref(), name, &value, pace)? {
            Some(original) => next.set_item(name, original)?,
            None => next.set_item(name, clone(&value, pace)?)?,
        }
    }
    if !changed {
        return Ok(current);
    }
    pace.before_writing()?;
    let brief = Pace::brief();
    let mut moved = Vec::new();
    for (name, value) in movable {
        // Other code may have taken a reference since.
        if !pace.shares() || free(&value, &brief)? {
            next.set_item(&name, &value)?;
            moved.push((name, value));
        } else {
            next.set_item(&name, clone(&value, &brief)?)?;
        }
    }
    state.replace_current(&next);
    for (name, value) in &moved {
        if loose.get_item(name)?.is_some_and(|present| present.is(value)) {
            loose.del_item(name)?;
        }
    }
    if !moved.is_empty() {
        state.with(|cells| cells.complete = false);
    }
    Ok(next)
}

/// Whether a loose value can move: nobody else can change it.
fn free(value: &Bound<'_, PyAny>, pace: &Pace<'_>) -> PyResult<bool> {
    if immutable(value) {
        return Ok(true);
    }
    let answer = held_elsewhere(value, OWN_REFERENCES, pace.uninterrupted());
    pace.spend(value.py(), answer.containers * CONTAINER)?;
    Ok(!answer.held)
}

/// The value at the fork, where a value that had changed since is the same again.
pub(super) fn restored<'py>(
    origin: &Bound<'py, PyDict>,
    before: Option<&Bound<'py, PyAny>>,
    name: &Bound<'py, PyString>,
    value: &Bound<'py, PyAny>,
    pace: &Pace<'_>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match origin.get_item(name)? {
        Some(original)
            if !before.is_some_and(|before| before.is(&original)) && same(&original, value, pace)? =>
        {
            Ok(Some(original))
        }
        _ => Ok(None),
    }
}
