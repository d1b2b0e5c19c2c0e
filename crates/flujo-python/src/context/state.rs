//! The state of one view, and how a fork, an access and a commit change it.
//!
//! A view consists of a **snapshot** and **loose** attributes. The snapshot is a dictionary from attribute to value
//! that is never changed, only replaced, and whose values nobody changes in place: any number of views share it, so a
//! fork costs the same whatever the context weighs. Loose attributes live in the instance's own `__dict__` and slots:
//! what was assigned, and the clones that were handed out on first access. Only they can be changed by user code.
//!
//! **Settling** takes loose values that differ from the snapshot into a new one. A value that nobody else refers to is
//! moved (the next access clones it again); one that somebody still holds (a local of running code, an output, a global)
//! stays loose, and a clone of it goes into the snapshot. Hence a reference that leaks from a step never reaches what
//! later forks see. Forking, committing and merging all start from a settled view.

mod fork;
mod settle;
mod touched;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet, PyString};

use super::class::{self, Part, ViewClass};
use super::clone::{clone, immutable, measured};
use super::pace::Pace;
use super::reads::ReadLog;
use super::{Change, kind, raw};

pub(super) use fork::{fork, fork_of};
use settle::{restored, settle};
pub(super) use touched::touched;

/// What a view carries in its hidden slot.
#[pyclass(frozen, module = "flujo._native")]
pub(super) struct ViewState {
    cells: Mutex<Cells>,
    told: Told,
    class: Py<ViewClass>,
}

/// Who is told what happens in a view; in its forks too.
#[derive(Clone, Default)]
pub(super) struct Told {
    /// Counts what is cloned.
    pub(super) counts: Option<Arc<CloneCounts>>,
    /// Notes what is read of what it was forked from.
    pub(super) reads: Option<Arc<ReadLog>>,
}

/// What was cloned on first access, over all views that count here.
#[derive(Debug, Default)]
pub(crate) struct CloneCounts {
    /// Fields, private attributes as one, and extra values as one.
    pub(crate) fields: AtomicU64,
    /// Bytes of the containers that were made, about.
    pub(crate) bytes: AtomicU64,
}

struct Cells {
    /// The snapshot at the fork: the common ancestor of a three-way merge.
    origin: Py<PyDict>,
    /// The snapshot now.
    current: Py<PyDict>,
    /// Every attribute is loose, so one that is missing there was deleted.
    complete: bool,
    /// Which parts are loose, in the order of `Part::ALL`.
    loose_parts: [bool; 3],
}

#[pymethods]
impl ViewState {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.class)?;
        // The lock is never held while Python runs, so the collector always finds it free.
        if let Ok(cells) = self.cells.try_lock() {
            visit.call(&cells.origin)?;
            visit.call(&cells.current)?;
        }
        Ok(())
    }
}

impl ViewState {
    /// Looks at or changes the cells. No Python code may run inside; what is dropped must be returned.
    fn with<T>(&self, act: impl FnOnce(&mut Cells) -> T) -> T {
        act(&mut self.cells.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn current<'py>(&self, py: Python<'py>) -> (Bound<'py, PyDict>, bool) {
        self.with(|cells| (cells.current.clone_ref(py).into_bound(py), cells.complete))
    }

    /// The current snapshot, where nothing is loose but what the instance's dictionary has.
    fn current_alone<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyDict>> {
        self.with(|cells| {
            let alone = !cells.complete && cells.loose_parts == [false; 3];
            alone.then(|| cells.current.clone_ref(py).into_bound(py))
        })
    }

    /// What is known about its class.
    pub(super) fn class(&self) -> &Py<ViewClass> {
        &self.class
    }

    pub(super) fn told(&self) -> &Told {
        &self.told
    }

    fn origin<'py>(&self, py: Python<'py>) -> Bound<'py, PyDict> {
        self.with(|cells| cells.origin.clone_ref(py).into_bound(py))
    }

    /// A clone of a value in the snapshot, for user code to change.
    fn clone_counted<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (cloned, bytes) = measured(value, &Pace::attended())?;
        if let Some(counts) = self.told.counts.as_ref().filter(|_| !cloned.is(value)) {
            counts.fields.fetch_add(1, Ordering::Relaxed);
            counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        Ok(cloned)
    }

    fn replace_current(&self, current: &Bound<'_, PyDict>) {
        let new = current.clone().unbind();
        let old = self.with(|cells| std::mem::replace(&mut cells.current, new));
        drop(old);
    }
}

/// The snapshots of one context: what it was forked from and what it is now. Of a view, values that are the same state
/// are the same object.
pub(super) struct Snapshots<'py> {
    pub(super) origin: Bound<'py, PyDict>,
    pub(super) current: Bound<'py, PyDict>,
}

fn state_in<'py>(instance: &Bound<'py, PyAny>, class: &ViewClass) -> PyResult<Option<Bound<'py, ViewState>>> {
    match raw::slot(class.state_slot(instance.py())?, instance)? {
        Some(state) => Ok(Some(state.cast_into::<ViewState>()?)),
        None => Ok(None),
    }
}

/// The state of the instance, if it is a view.
pub(super) fn state_of<'py>(
    instance: &Bound<'py, PyAny>,
) -> PyResult<Option<(Bound<'py, ViewClass>, Bound<'py, ViewState>)>> {
    let Some(class) = class::view_class_of(instance)? else {
        return Ok(None);
    };
    let state = state_in(instance, class.get())?;
    Ok(state.map(|state| (class, state)))
}

/// Whether a view has nothing loose, so that its snapshot is its state.
pub(super) fn has_nothing_loose(view: &Bound<'_, PyAny>, state: &ViewState) -> PyResult<bool> {
    Ok(state.current_alone(view.py()).is_some() && raw::instance_dict(view)?.is_empty())
}

/// Whether nobody has changed anything in a view, which was never settled either.
pub(super) fn is_untouched(view: &Bound<'_, PyAny>, state: &ViewState) -> PyResult<bool> {
    let as_forked = state
        .current_alone(view.py())
        .is_some_and(|current| current.is(state.origin(view.py())));
    Ok(as_forked && raw::instance_dict(view)?.is_empty())
}

/// Whether the object is a view.
pub(super) fn is_view(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(state_of(object)?.is_some())
}

/// Who is told what happens in a view.
pub(super) fn told_of(view: &Bound<'_, PyAny>) -> PyResult<Told> {
    Ok(state_of(view)?.map_or_else(Told::default, |(_, state)| state.get().told.clone()))
}

/// A field's value; mutable ones are cloned on first access. `None`: the field isn't there.
pub(super) fn field<'py>(
    instance: &Bound<'py, PyAny>,
    class: &ViewClass,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let loose = raw::instance_dict(instance)?;
    if let Some(value) = loose.get_item(name)? {
        return Ok(Some(value));
    }
    let Some(state) = state_in(instance, class)? else {
        return Ok(None);
    };
    let (current, complete) = state.get().current(instance.py());
    if complete {
        return Ok(None);
    }
    if let Some(reads) = &state.get().told.reads {
        reads.read(name.to_str()?);
    }
    match current.get_item(name)? {
        Some(value) if immutable(&value) => Ok(Some(value)),
        Some(value) => hand_out(state.get(), &loose, name, &value).map(Some),
        None => Ok(None),
    }
}

/// Puts a clone of the value among the loose attributes, unless another thread was faster.
fn hand_out<'py>(
    state: &ViewState,
    loose: &Bound<'py, PyDict>,
    name: &Bound<'py, PyString>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let cloned = state.clone_counted(value)?;
    if let Some(present) = loose.get_item(name)? {
        return Ok(present);
    }
    loose.set_item(name, &cloned)?;
    Ok(cloned)
}

/// The instance's `__dict__` with every attribute in it.
pub(super) fn all_attributes<'py>(instance: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let loose = raw::instance_dict(instance)?;
    let Some((_, state)) = state_of(instance)? else {
        return Ok(loose);
    };
    let (current, complete) = state.get().current(instance.py());
    if complete {
        return Ok(loose);
    }
    if let Some(reads) = &state.get().told.reads {
        reads.read_whole();
    }
    // In the order of the snapshot, which is that of the fields: dumps and iteration follow it.
    let assigned = loose.copy()?;
    for (name, value) in current.iter() {
        let name = name.cast_into::<PyString>()?;
        if Part::of_key(&name).is_none() && !assigned.contains(&name)? {
            hand_out(state.get(), &loose, &name, &value)?;
        }
    }
    if !assigned.is_empty() {
        let values = loose.copy()?;
        loose.clear();
        for name in current.keys() {
            if let Some(value) = values.get_item(&name)? {
                loose.set_item(&name, value)?;
            }
        }
        loose.update(values.as_mapping())?;
    }
    state.get().with(|cells| cells.complete = true);
    Ok(loose)
}

/// A part of the model that isn't a field. `None`: the model has none.
pub(super) fn part<'py>(instance: &Bound<'py, PyAny>, part: Part) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = instance.py();
    let slot = part.slot(py)?;
    let Some((_, state)) = state_of(instance)? else {
        return raw::slot(slot, instance);
    };
    if state.get().with(|cells| cells.loose_parts[part as usize]) {
        return raw::slot(slot, instance);
    }
    // Which fields were set is looked at by every assignment.
    if let Some(reads) = state
        .get()
        .told
        .reads
        .as_ref()
        .filter(|_| part != Part::FieldsSet)
    {
        reads.read(part.name(py).to_str()?);
    }
    let Some(value) = state.get().current(py).0.get_item(part.name(py))? else {
        return Ok(None);
    };
    if value.is_none() {
        return Ok(Some(value));
    }
    let cloned = state.get().clone_counted(&value)?;
    if state.get().with(|cells| cells.loose_parts[part as usize]) {
        return raw::slot(slot, instance);
    }
    raw::set_slot(slot, instance, Some(&cloned))?;
    state.get().with(|cells| cells.loose_parts[part as usize] = true);
    Ok(Some(cloned))
}

/// Copies everything that a view has not handed out yet.
pub(super) fn copy_all(view: &Bound<'_, PyAny>) -> PyResult<()> {
    all_attributes(view)?;
    for part_of in Part::ALL {
        part(view, part_of)?;
    }
    Ok(())
}

pub(super) fn set_part(instance: &Bound<'_, PyAny>, part: Part, value: &Bound<'_, PyAny>) -> PyResult<()> {
    raw::set_slot(part.slot(instance.py())?, instance, Some(value))?;
    if let Some((_, state)) = state_of(instance)? {
        state.get().with(|cells| cells.loose_parts[part as usize] = true);
    }
    Ok(())
}

/// An assignment of what is there already is none in the end: that it is depends on what is there, as a read does.
pub(super) fn note_assignment(
    instance: &Bound<'_, PyAny>,
    class: &ViewClass,
    name: &Bound<'_, PyString>,
) -> PyResult<()> {
    if let Some(state) = state_in(instance, class)?
        && let Some(reads) = &state.get().told.reads
    {
        reads.read(name.to_str()?);
    }
    Ok(())
}

/// Notes that the field was set, in a set of the view's own only if it wasn't known before.
pub(super) fn record_assignment(
    instance: &Bound<'_, PyAny>,
    class: &ViewClass,
    name: &Bound<'_, PyString>,
) -> PyResult<()> {
    let py = instance.py();
    note_assignment(instance, class, name)?;
    if let Some(state) = state_in(instance, class)?
        && !state
            .get()
            .with(|cells| cells.loose_parts[Part::FieldsSet as usize])
        && let Some(fields_set) = state.get().current(py).0.get_item(Part::FieldsSet.name(py))?
        && fields_set.cast::<PySet>()?.contains(name)?
    {
        return Ok(());
    }
    match part(instance, Part::FieldsSet)? {
        Some(fields_set) => fields_set.cast_into::<PySet>()?.add(name),
        None => Ok(()),
    }
}

/// The snapshots of a settled view; `None` where the object isn't one.
pub(super) fn snapshots<'py>(view: &Bound<'py, PyAny>, pace: &Pace<'_>) -> PyResult<Option<Snapshots<'py>>> {
    let Some((class, state)) = state_of(view)? else {
        return Ok(None);
    };
    let current = settle(view, class.get(), state.get(), pace)?;
    Ok(Some(Snapshots {
        origin: state.get().origin(view.py()),
        current,
    }))
}

/// From here on the view's present state counts as the one that it was forked from.
pub(super) fn rebase(view: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Some((_, state)) = state_of(view)? {
        let current = state.get().current(view.py()).0.unbind();
        let old = state
            .get()
            .with(|cells| std::mem::replace(&mut cells.origin, current));
        drop(old);
    }
    Ok(())
}

/// Writes to a view from outside: `None` deletes. What the view had loose under these names is dropped. All of it is
/// written, or nothing.
pub(super) fn write_view<'py>(
    view: &Bound<'py, PyAny>,
    changes: &[Change<'py>],
    pace: &Pace<'_>,
) -> PyResult<bool> {
    let py = view.py();
    let Some((class, state)) = state_of(view)? else {
        return Ok(false);
    };
    let origin = state.get().origin(py);
    let (current, complete) = state.get().current(py);
    let next = current.copy()?;
    let mut in_place = Vec::new();
    for (name, value) in changes {
        let before = current.get_item(name)?;
        match value {
            Some(value) => {
                let original = restored(&origin, before.as_ref(), name, value, pace)?;
                next.set_item(name, original.as_ref().unwrap_or(value))?;
            }
            None if before.is_some() => next.del_item(name)?,
            None => {}
        }
        // A complete dictionary must stay complete, and what has no descriptor must be in it.
        let stays = Part::of_key(name).is_none() && (complete || !class.get().is_field(name)?);
        in_place.push(match value {
            Some(value) if stays => Some(clone(value, pace)?),
            _ => None,
        });
    }
    pace.before_writing()?;
    let loose = raw::instance_dict(view)?;
    for ((name, _), value) in changes.iter().zip(in_place) {
        if let Some(part) = Part::of_key(name) {
            state.get().with(|cells| cells.loose_parts[part as usize] = false);
            if raw::slot(part.slot(py)?, view)?.is_some() {
                raw::set_slot(part.slot(py)?, view, None)?;
            }
        } else if let Some(value) = value {
            loose.set_item(name, value)?;
        } else if loose.contains(name)? {
            loose.del_item(name)?;
        }
    }
    state.get().replace_current(&next);
    Ok(true)
}

/// A plain instance of the user's class with the view's present attributes, which it shares with the view.
pub(super) fn plain_model<'py>(instance: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = instance.py();
    let model = raw::bare_instance(&class::model_of(&instance.get_type())?)?;
    raw::set_instance_dict(&model, &all_attributes(instance)?.copy()?)?;
    for part_of in Part::ALL {
        if let Some(value) = part(instance, part_of)? {
            raw::set_slot(part_of.slot(py)?, &model, Some(&value))?;
        }
    }
    if let Some(names) = kind::slot_names(&model.get_type())? {
        for name in names.iter() {
            let name = name.cast_into::<PyString>()?;
            if Part::of_key(&name).is_none()
                && let Some(value) = raw::get_attribute(instance, &name)?
            {
                raw::set_attribute(&model, &name, Some(&value))?;
            }
        }
    }
    Ok(model)
}

/// Whether nothing was written to a view that what it was forked from doesn't have. Settles it.
pub(super) fn is_unwritten(view: &Bound<'_, PyAny>, pace: &Pace<'_>) -> PyResult<Option<bool>> {
    let Some(Snapshots { origin, current }) = snapshots(view, pace)? else {
        return Ok(None);
    };
    if origin.is(&current) {
        return Ok(Some(true));
    }
    let fields_set = Part::FieldsSet.name(view.py());
    for (name, value) in current.iter() {
        if !name.is(fields_set) && !origin.get_item(&name)?.is_some_and(|before| before.is(&value)) {
            return Ok(Some(false));
        }
    }
    Ok(Some(origin.len() == current.len()))
}
