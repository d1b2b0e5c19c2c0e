//! What may have changed in a view.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::super::class::Part;
use super::super::raw;
use super::state_of;

/// Names whose values may have changed since the fork, without settling: fields, private attributes, extra values.
pub(in crate::context) fn touched(view: &Bound<'_, PyAny>) -> PyResult<Option<Vec<String>>> {
    let py = view.py();
    let Some((_, state)) = state_of(view)? else {
        return Ok(None);
    };
    let origin = state.get().origin(py);
    let (current, complete) = state.get().current(py);
    let loose = raw::instance_dict(view)?;
    let mut names = Vec::new();
    for name in current.keys() {
        let name = name.cast_into::<PyString>()?;
        if Part::of_key(&name).is_some() {
            continue;
        }
        let now = match loose.get_item(&name)? {
            Some(value) => Some(value),
            None if complete => None,
            None => current.get_item(&name)?,
        };
        if !identical(origin.get_item(&name)?, now) {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    for name in loose.keys() {
        if !current.contains(&name)? {
            names.push(name.extract()?);
        }
    }
    for name in origin.keys() {
        if !current.contains(&name)? && !loose.contains(&name)? {
            names.push(name.extract()?);
        }
    }
    for part_of in [Part::Private, Part::Extra] {
        let before = origin.get_item(part_of.name(py))?;
        let now = if state.get().with(|cells| cells.loose_parts[part_of as usize]) {
            raw::slot(part_of.slot(py)?, view)?
        } else {
            current.get_item(part_of.name(py))?
        };
        let (before, now) = (as_dict(before, py), as_dict(now, py));
        for (name, value) in now.iter() {
            if !identical(before.get_item(&name)?, Some(value)) {
                names.push(name.extract()?);
            }
        }
        for name in before.keys() {
            if !now.contains(&name)? {
                names.push(name.extract()?);
            }
        }
    }
    Ok(Some(names))
}

fn identical(left: Option<Bound<'_, PyAny>>, right: Option<Bound<'_, PyAny>>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => left.is(&right),
        (None, None) => true,
        _ => false,
    }
}

fn as_dict<'py>(value: Option<Bound<'py, PyAny>>, py: Python<'py>) -> Bound<'py, PyDict> {
    value
        .and_then(|value| value.cast_into::<PyDict>().ok())
        .unwrap_or_else(|| PyDict::new(py))
}
