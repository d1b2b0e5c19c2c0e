//! The context view: isolation of a pydantic context without copying it.
//!
//! [`view`] gives an instance of the user's own class whose mutable fields are cloned on first access; [`commit`] moves
//! what changed into the context that it was forked from; [`merge`] combines several such views. Views nest: a lane's
//! view is forked from the run's, an attempt's from the lane's. See `state` for how isolation holds.
//!
//! A context is written only through `commit` and `merge` while views of it exist. The run's own context should itself
//! be a view of what the caller passed in, which then stays as it was; [`plain`] turns it into an ordinary model at the
//! end. Contexts that aren't pydantic models are copied whole, by the same clone.
//!
//! How long it takes: merges and what precedes a commit stop nobody (see `pace`). A first access is a call that user code
//! makes, so an event loop's own thread waits for it: about 30 ms for a million flat entries or 250,000 small lists.
//! Meanwhile signal handlers and other threads run, but a run that is cancelled hears of it only at its next `await`.

mod assignment;
mod attributes;
mod class;
mod clone;
mod combine;
mod conflict;
mod handle;
mod held;
mod kind;
mod list;
mod made;
mod merge;
mod pace;
mod patch;
mod plain;
mod raw;
mod reads;
mod rules;
mod same;
pub(crate) mod saved;
mod state;
mod validation;
mod walk;

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use class::Part;
use state::Told;

pub(crate) use handle::Handle;
pub(crate) use made::{made_instance, made_model, model_class};
pub(crate) use merge::MergeStrategy;
pub(crate) use pace::{CONTAINER, Pace, Ticket};
pub(crate) use reads::ReadLog;
pub(crate) use saved::{ContextWrites, SavedContext};
pub(crate) use state::CloneCounts;

/// One attribute to write, or to delete where there is no value.
type Change<'py> = (Bound<'py, PyString>, Option<Bound<'py, PyAny>>);

/// An isolated view of the context: an instance of its class that sees its present state. Costs the same whatever the
/// context weighs, except for a context that isn't a pydantic model: that is copied. A view of a view counts what is
/// cloned where that does.
pub(crate) fn view(base: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    told(base, state::told_of(base)?)
}

/// As `view`, counting there what is cloned from it and from views of it.
pub(crate) fn counting_view(base: &Bound<'_, PyAny>, counts: &Arc<CloneCounts>) -> PyResult<Py<PyAny>> {
    let counts = Some(Arc::clone(counts));
    told(base, Told { counts, reads: None })
}

/// As `view`, noting there what is read from it and from views of it: all at once, of what isn't a pydantic model.
pub(crate) fn recorded_view(base: &Bound<'_, PyAny>, reads: &Arc<ReadLog>) -> PyResult<Py<PyAny>> {
    let view = told(
        base,
        Told {
            reads: Some(Arc::clone(reads)),
            ..state::told_of(base)?
        },
    )?;
    if !state::is_view(view.bind(base.py()))? {
        reads.read_whole();
    }
    Ok(view)
}

/// Where what is read of a view is noted.
pub(crate) fn read_log(view: &Bound<'_, PyAny>) -> PyResult<Option<Arc<ReadLog>>> {
    Ok(state::told_of(view)?.reads)
}

/// Whether nothing was written to a view that what it was forked from doesn't have; of what isn't a view nobody knows.
pub(crate) fn is_unwritten(view: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(state::is_unwritten(view, &Pace::brief())?.unwrap_or(false))
}

/// The context's attributes as they are now, by name: a dictionary that nobody changes. Of what isn't a view it is a copy
/// whose values may change.
pub(crate) fn snapshot<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    match state::snapshots(context, &Pace::attended())? {
        Some(snapshots) => Ok(snapshots.current),
        None => plain::snapshot(context),
    }
}

/// The key in snapshots under which a model notes which fields were set: no state that a step can depend on.
pub(crate) fn fields_set_key(py: Python<'_>) -> &Bound<'_, PyString> {
    Part::FieldsSet.name(py)
}

fn told(base: &Bound<'_, PyAny>, told: Told) -> PyResult<Py<PyAny>> {
    let pace = Pace::attended();
    match state::fork(base, told, &pace)? {
        Some(view) => Ok(view.unbind()),
        None => clone::clone(base, &pace).map(Bound::unbind),
    }
}

/// Copies every field of a view now, not when somebody first looks at it. What isn't a view has been copied.
pub(crate) fn copy_all(view: &Bound<'_, PyAny>) -> PyResult<()> {
    state::copy_all(view)
}

/// Whether both are contexts of one class; a view's is that of its model.
pub(crate) fn same_class(left: &Bound<'_, PyAny>, right: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(class::model_of(&left.get_type())?.is(class::model_of(&right.get_type())?))
}

/// Names of the fields, private attributes and extra values that may have changed since the view was made: assigned,
/// deleted, or handed out in a form that can be changed in place. A plain copy of a context that isn't a model names
/// all of its attributes.
pub(crate) fn touched(view: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    match state::touched(view)? {
        Some(names) => Ok(names),
        None => plain::snapshot(view)?
            .keys()
            .iter()
            .map(|name| name.extract())
            .collect(),
    }
}

/// Prepares a view for its commit, so that this is short: takes what user code has changed into the view's snapshot.
pub(crate) fn settle(view: &Bound<'_, PyAny>, pace: &Pace<'_>) -> PyResult<()> {
    state::snapshots(view, pace).map(drop)
}

/// Moves what changed in the view into the context that it was forked from, without validating it again. Equal values
/// aren't written. The view stays usable and isolated; references that anybody took from it don't reach the context.
pub(crate) fn commit(view: &Bound<'_, PyAny>, into: &Bound<'_, PyAny>, pace: &Pace<'_>) -> PyResult<()> {
    merge::commit(view, into, pace)
}

/// Merges the views of lanes, given in declared order with their names, into the context that they were forked from.
///
/// Errors: `ContextMergeError` naming path, lanes and values where the strategy allows no decision; what ends the work
/// according to its pace. The context is written only if everything could be merged.
pub(crate) fn merge(
    base: &Bound<'_, PyAny>,
    lanes: &[(String, Py<PyAny>)],
    strategy: MergeStrategy,
    pace: &Pace<'_>,
) -> PyResult<()> {
    merge::merge(base, lanes, strategy, pace)
}

/// The native deep clone: immutable and uncopyable values (locks, clients, iterators, functions) are shared, aliases
/// inside the value are kept.
pub(crate) fn clone_value(value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    clone::clone(value, &Pace::attended()).map(Bound::unbind)
}

/// A deep clone that shares nothing with the value that can change; `None` where something in it can't be copied.
pub(crate) fn isolated<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    clone::isolated(value, &Pace::attended())
}

/// An ordinary instance of the user's class with the view's present state, and independent of it; what isn't a view comes
/// back as it is.
pub(crate) fn plain(_py: Python<'_>, context: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    if !state::is_view(context)? {
        return Ok(context.clone().unbind());
    }
    let fork = state::fork(context, Told::default(), &Pace::attended())?;
    state::plain_model(fork.as_ref().unwrap_or(context)).map(Bound::unbind)
}

/// The same functions under private names of the native module, for tests and measurements.
mod exposed {
    use pyo3::prelude::*;

    use super::{MergeStrategy, Pace};

    #[pyfunction]
    pub(super) fn context_view(base: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        super::view(base)
    }

    #[pyfunction]
    pub(super) fn context_touched(view: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
        super::touched(view)
    }

    #[pyfunction]
    pub(super) fn context_commit(view: &Bound<'_, PyAny>, into: &Bound<'_, PyAny>) -> PyResult<()> {
        super::commit(view, into, &Pace::attended())
    }

    #[pyfunction]
    #[pyo3(signature = (base, lanes, strategy = "context_update"))]
    pub(super) fn context_merge(
        base: &Bound<'_, PyAny>,
        lanes: Vec<(String, Py<PyAny>)>,
        strategy: &str,
    ) -> PyResult<()> {
        super::merge(
            base,
            &lanes,
            MergeStrategy::from_name(strategy)?,
            &Pace::attended(),
        )
    }

    #[pyfunction]
    pub(super) fn context_plain(context: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        super::plain(context.py(), context)
    }

    #[pyfunction]
    pub(super) fn clone_value(value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        super::clone_value(value)
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(exposed::context_view, module)?)?;
    module.add_function(wrap_pyfunction!(exposed::context_touched, module)?)?;
    module.add_function(wrap_pyfunction!(exposed::context_commit, module)?)?;
    module.add_function(wrap_pyfunction!(exposed::context_merge, module)?)?;
    module.add_function(wrap_pyfunction!(exposed::context_plain, module)?)?;
    module.add_function(wrap_pyfunction!(exposed::clone_value, module)?)?;
    Ok(())
}
