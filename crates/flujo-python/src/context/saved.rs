//! Contexts as they are written down, and made again from that.
//!
//! A view is its snapshot at the fork and its snapshot now; views of one run share snapshots, or have ones that differ
//! little. So while something is written that has many of them, each snapshot is written once, and as what differs
//! from the one written before it.

use std::cell::RefCell;
use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use serde::{Deserialize, Serialize};

use super::pace::Pace;
use super::patch::{self, Patch};
use super::{Change, class, plain, state};
use crate::cache::{class_named, own_name};
use crate::object::Object;

/// A context as it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum SavedContext {
    /// A view.
    View {
        /// Its model's class: module and qualified name.
        class: (String, String),
        /// Its snapshot at the fork.
        origin: SavedSnapshot,
        /// Its snapshot now, where it is another one.
        now: Option<SavedSnapshot>,
    },
    /// What isn't a view.
    Other(Object),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum SavedSnapshot {
    /// One that was written before, by number.
    Known(u32),
    /// All of its attributes.
    Whole(#[serde(serialize_with = "patch::attributes")] Vec<(String, Option<Patch>)>),
    /// What differs from one that was written before.
    Since(
        u32,
        #[serde(serialize_with = "patch::attributes")] Vec<(String, Option<Patch>)>,
    ),
}

/// What was written to a context.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ContextWrites(#[serde(serialize_with = "patch::attributes")] Vec<(String, Option<Patch>)>);

/// The snapshots that have been written, or read.
#[derive(Default)]
struct Shared {
    known: Vec<Py<PyDict>>,
    /// By address: `known` keeps them alive.
    numbers: HashMap<usize, u32>,
    /// The last one of each class, by the address of the class, which its instances keep alive.
    last: HashMap<usize, u32>,
}

thread_local! {
    static SHARED: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// Does `work`, in which snapshots are written, or read, once.
pub(crate) fn sharing<R>(work: impl FnOnce() -> R) -> R {
    struct Before(Option<Shared>);
    impl Drop for Before {
        fn drop(&mut self) {
            let own = SHARED.with_borrow_mut(|shared| std::mem::replace(shared, self.0.take()));
            Python::attach(|_| drop(own));
        }
    }
    let _before = Before(SHARED.replace(Some(Shared::default())));
    work()
}

/// The snapshot of a view now, settled; `None` of what isn't a view.
pub(crate) fn now(context: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyDict>>> {
    let snapshots = state::snapshots(context, &Pace::attended())?;
    Ok(snapshots.map(|snapshots| snapshots.current.unbind()))
}

/// What was written to a view since it had the snapshot `before`, or since the fork; `None` of what isn't a view.
pub(crate) fn writes(
    view: &Bound<'_, PyAny>,
    before: Option<&Bound<'_, PyDict>>,
) -> PyResult<Option<ContextWrites>> {
    let pace = Pace::attended();
    let Some(snapshots) = state::snapshots(view, &pace)? else {
        return Ok(None);
    };
    let before = before.unwrap_or(&snapshots.origin);
    if before.is(&snapshots.current) {
        return Ok(Some(ContextWrites(Vec::new())));
    }
    let changes = patch::changes(before, &snapshots.current, &pace, 0)?;
    Ok(Some(ContextWrites(changes)))
}

/// Writes the same to another view, of a context that is as that one was.
pub(crate) fn write_again(view: &Bound<'_, PyAny>, writes: &ContextWrites) -> PyResult<()> {
    let (py, pace) = (view.py(), Pace::attended());
    let current = match state::snapshots(view, &pace)? {
        Some(snapshots) => snapshots.current,
        None => plain::snapshot(view)?,
    };
    let changes: Vec<Change<'_>> = writes
        .0
        .iter()
        .map(|(name, patch)| {
            let name = patch::name_of(py, name);
            let patch = patch.as_ref();
            let value = patch.map(|patch| patch.apply(current.get_item(&name)?.as_ref(), py));
            Ok((name, value.transpose()?))
        })
        .collect::<PyResult<_>>()?;
    if changes.is_empty() || state::write_view(view, &changes, &pace)? {
        return Ok(());
    }
    plain::write(view, &changes)
}

impl ContextWrites {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A context, to be written.
pub(crate) fn save(context: &Bound<'_, PyAny>) -> PyResult<SavedContext> {
    let pace = Pace::attended();
    let Some(snapshots) = state::snapshots(context, &pace)? else {
        return Ok(SavedContext::Other(context.clone().into()));
    };
    let class = class::model_of(&context.get_type())?;
    let name = own_name(&class)?;
    let changed = !snapshots.current.is(&snapshots.origin);
    Ok(SavedContext::View {
        class: name,
        origin: save_snapshot(&snapshots.origin, &class, &pace)?,
        now: changed
            .then(|| save_snapshot(&snapshots.current, &class, &pace))
            .transpose()?,
    })
}

fn save_snapshot(
    snapshot: &Bound<'_, PyDict>,
    class: &Bound<'_, PyType>,
    pace: &Pace<'_>,
) -> PyResult<SavedSnapshot> {
    let py = snapshot.py();
    let (address, class) = (snapshot.as_ptr() as usize, class.as_ptr() as usize);
    let (known, last) = SHARED.with_borrow(|shared| {
        let Some(shared) = shared else {
            return (None, None);
        };
        let last = shared.last.get(&class).and_then(|number| {
            let last = shared.known.get(*number as usize)?;
            Some((*number, last.clone_ref(py)))
        });
        (shared.numbers.get(&address).copied(), last)
    });
    if let Some(number) = known {
        return Ok(SavedSnapshot::Known(number));
    }
    let saved = match last {
        Some((number, last)) => {
            SavedSnapshot::Since(number, patch::changes(last.bind(py), snapshot, pace, 0)?)
        }
        None => SavedSnapshot::Whole(patch::changes(&PyDict::new(py), snapshot, pace, 0)?),
    };
    note(snapshot, class);
    Ok(saved)
}

/// Takes note of a snapshot that was written or read.
fn note(snapshot: &Bound<'_, PyDict>, class: usize) {
    SHARED.with_borrow_mut(|shared| {
        if let Some(shared) = shared {
            let number = u32::try_from(shared.known.len()).unwrap_or(u32::MAX);
            shared.numbers.insert(snapshot.as_ptr() as usize, number);
            shared.last.insert(class, number);
            shared.known.push(snapshot.clone().unbind());
        }
    });
}

/// The context that was written: a view, where it was one.
pub(crate) fn restore<'py>(py: Python<'py>, saved: &SavedContext) -> PyResult<Bound<'py, PyAny>> {
    let (class, origin, now) = match saved {
        SavedContext::View { class, origin, now } => (class, origin, now),
        SavedContext::Other(object) => return Ok(object.bind(py).clone()),
    };
    let class = find_class(py, class)?;
    let origin = restore_snapshot(py, origin)?;
    let now = match now {
        Some(now) => Some(restore_snapshot(py, now)?),
        None => None,
    };
    let view = super::view(&patch::model_of(&class, &origin)?)?.into_bound(py);
    let Some(now) = now else {
        return Ok(view);
    };
    let mut changes: Vec<Change<'_>> = Vec::new();
    for (name, value) in now.iter() {
        if !origin.get_item(&name)?.is_some_and(|before| before.is(&value)) {
            changes.push((name.cast_into()?, Some(value)));
        }
    }
    for name in origin.keys() {
        if !now.contains(&name)? {
            changes.push((name.cast_into()?, None));
        }
    }
    state::write_view(&view, &changes, &Pace::attended())?;
    Ok(view)
}

fn restore_snapshot<'py>(py: Python<'py>, saved: &SavedSnapshot) -> PyResult<Bound<'py, PyDict>> {
    let known = |number: u32| {
        let found = SHARED.with_borrow(|shared| {
            let known = &shared.as_ref()?.known;
            Some(known.get(number as usize)?.clone_ref(py).into_bound(py))
        });
        found.ok_or_else(|| {
            pyo3::exceptions::PyValueError::new_err(format!(
                "it tells of snapshot {number}, which isn't there"
            ))
        })
    };
    let snapshot = match saved {
        SavedSnapshot::Known(number) => return known(*number),
        SavedSnapshot::Whole(attributes) => patch::changed(&PyDict::new(py), attributes, py)?,
        SavedSnapshot::Since(number, changes) => patch::changed(&known(*number)?, changes, py)?,
    };
    note(&snapshot, 0);
    Ok(snapshot)
}

fn find_class<'py>(py: Python<'py>, (module, name): &(String, String)) -> PyResult<Bound<'py, PyType>> {
    let found = class_named(py, module, name)?.and_then(|found| found.cast_into::<PyType>().ok());
    found.ok_or_else(|| {
        pyo3::exceptions::PyValueError::new_err(format!(
            "the context's class {module}.{name} isn't imported, or isn't called so any more"
        ))
    })
}
