//! What several lanes made together is validated as an assignment of it would be, where the model validates assignments
//! and where something could be wrong with it although each lane's part was right: a validator of the user's own, a
//! limit on a collection's length, a merge rule's result.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};

use super::combine::{Merger, Version, identical, names_of};
use super::conflict::Step;
use super::{Change, class, clone, kind, state};

/// A field that lanes wrote, with what they wrote.
pub(super) type Field<'py> = (Bound<'py, PyString>, Vec<Version<'py>>);

impl<'py> Merger<'_, 'py> {
    /// The changes of a merge as validation leaves them. It works on a view of the context, so that neither the context
    /// nor the lanes meet what validators do.
    pub(super) fn validated(
        &mut self,
        base: &Bound<'py, PyAny>,
        target: &Bound<'py, PyDict>,
        changes: Vec<Change<'py>>,
        fields: &[Field<'py>],
        rules: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Vec<Change<'py>>> {
        let suspects = suspects(&base.get_type(), fields, rules)?;
        if suspects.is_empty() {
            return Ok(changes);
        }
        let Some(trial) = state::fork(base, state::Told::default(), self.pace)? else {
            return Ok(changes);
        };
        state::write_view(&trial, &changes, self.pace)?;
        for (name, written) in suspects {
            self.at(Step::Attribute(name.clone()), |merger| {
                merger.assign(&trial, &name, &written)
            })?;
        }
        let Some(after) = state::snapshots(&trial, self.pace)? else {
            return Ok(changes);
        };
        let after = after.current;
        let mut changes = Vec::new();
        for name in names_of([target, &after])? {
            let value = after.get_item(&name)?;
            if !identical(target.get_item(&name)?.as_ref(), value.as_ref()) {
                changes.push((name, value));
            }
        }
        Ok(changes)
    }

    /// A model inside the context, as validation leaves it.
    pub(super) fn validated_part(
        &mut self,
        merged: Bound<'py, PyAny>,
        fields: &[Field<'py>],
        rules: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let suspects = suspects(&merged.get_type(), fields, rules)?;
        if suspects.is_empty() {
            return Ok(merged);
        }
        let trial = clone::clone(&merged, self.pace)?;
        for (name, written) in suspects {
            self.at(Step::Attribute(name.clone()), |merger| {
                merger.assign(&trial, &name, &written)
            })?;
        }
        Ok(trial)
    }

    /// Assigns a field what it holds.
    fn assign(
        &self,
        trial: &Bound<'py, PyAny>,
        name: &Bound<'py, PyString>,
        written: &[Version<'py>],
    ) -> PyResult<()> {
        match trial.setattr(name, trial.getattr(name)?) {
            Err(error) if error.is_instance_of::<PyException>(self.py) => {
                let reason = format!(
                    "the context refuses what they make together: {}",
                    brief(&error, self.py)
                );
                Err(self.conflict_because(written, &reason, Some(error)))
            }
            other => other,
        }
    }
}

/// The fields to validate, each with the writes to be told of where it is refused.
fn suspects<'py>(
    class: &Bound<'py, PyType>,
    fields: &[Field<'py>],
    rules: Option<&Bound<'py, PyDict>>,
) -> PyResult<Vec<Field<'py>>> {
    let is_model = class.is_subclass(kind::base_model(class.py())?)?;
    let Some(found) = class::view_class(class)?.filter(|_| is_model) else {
        return Ok(Vec::new());
    };
    let assignments = &found.get().assignments;
    let whole = assignments.validates_whole();
    let mut suspects = Vec::new();
    for (name, written) in fields {
        if !assignments.validates(name)? {
            continue;
        }
        let ruled = match rules {
            Some(rules) => rules.contains(name)?,
            None => false,
        };
        if whole || written.len() > 1 && (ruled || assignments.guards(name)?) {
            suspects.push((name.clone(), written.clone()));
        }
    }
    if whole && suspects.len() > 1 {
        // What is wrong with the whole is the work of all who wrote.
        let mut all: Vec<Version<'py>> = Vec::new();
        for (_, written) in &suspects {
            all.extend(written.iter().cloned());
        }
        all.sort_by_key(|(lane, _)| *lane);
        for (_, written) in &mut suspects {
            written.clone_from(&all);
        }
    }
    Ok(suspects)
}

/// What is wrong, without the value that it is wrong with.
fn brief(error: &PyErr, py: Python<'_>) -> String {
    let messages = || -> PyResult<Vec<String>> {
        let errors = error.value(py).call_method0(intern!(py, "errors"))?;
        errors
            .try_iter()?
            .map(|entry| entry?.get_item(intern!(py, "msg"))?.extract())
            .collect()
    };
    messages().map_or_else(|_| error.value(py).to_string(), |messages| messages.join("; "))
}
