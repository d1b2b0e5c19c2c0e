//! Commit and merge: what changed in views goes into the context that they were forked from.
//!
//! A merge is three-way and by path: the state at the fork is the common ancestor, a lane's value that equals it is no
//! write. Dictionaries, models and objects are merged by key and attribute, lists by position, sets by element; where
//! two lanes wrote one path the strategy decides (see `combine`). Neither names nor timing matter. All is written, or
//! nothing.

use std::collections::BTreeSet;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::class::{self, Part};
use super::combine::{Merger, identical, merge_sets, names_of, same_value};
use super::conflict::Step;
use super::pace::Pace;
use super::state::{self, Snapshots};
use super::{Change, kind, plain, rules};

/// How writes of several lanes to one path combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MergeStrategy {
    /// Appends to a list and changes of a set add up; equal new values agree; anything else is a conflict.
    ContextUpdate,
    /// The last declared lane that wrote the path wins.
    Overwrite,
    /// The first declared lane that wrote the path wins.
    KeepFirst,
    /// Any path that two lanes wrote is a conflict.
    ErrorOnConflict,
    /// Nothing is merged.
    NoMerge,
}

impl MergeStrategy {
    /// The strategy of that name, in the spelling of the Python enum's values.
    pub(crate) fn from_name(name: &str) -> PyResult<Self> {
        match name {
            "context_update" => Ok(Self::ContextUpdate),
            "overwrite" => Ok(Self::Overwrite),
            "keep_first" => Ok(Self::KeepFirst),
            "error_on_conflict" => Ok(Self::ErrorOnConflict),
            "no_merge" => Ok(Self::NoMerge),
            _ => Err(PyValueError::new_err(format!(
                "unknown merge strategy {name:?}; known: context_update, overwrite, keep_first, error_on_conflict, no_merge"
            ))),
        }
    }
}

pub(super) fn commit(view: &Bound<'_, PyAny>, into: &Bound<'_, PyAny>, pace: &Pace<'_>) -> PyResult<()> {
    let view_class = class::model_of(&view.get_type())?;
    if !view_class.is(class::model_of(&into.get_type())?) {
        return Err(PyTypeError::new_err(format!(
            "a view of {} can't be committed into a {}; commit it into the context that it was made from",
            view_class.name()?,
            into.get_type().name()?
        )));
    }
    let lane = match state::snapshots(view, pace)? {
        Some(snapshots) => Lane::of_view(snapshots),
        None => Lane::of_copy(view, &current_of(into, pace)?, pace)?,
    };
    if lane.snapshots.current.is(&lane.snapshots.origin) {
        return Ok(());
    }
    let mut changes: Vec<Change<'_>> = Vec::new();
    let mut kept = 0;
    for (name, after) in lane.snapshots.current.iter() {
        let name = name.cast_into::<PyString>()?;
        let before = lane.snapshots.origin.get_item(&name)?;
        kept += usize::from(before.is_some());
        if !lane.wrote(before.as_ref(), Some(&after), pace)? {
            continue;
        }
        if Part::of_key(&name) == Some(Part::FieldsSet) {
            let target = current_of(into, pace)?.get_item(&name)?;
            let as_forked = target
                .as_ref()
                .zip(before.as_ref())
                .is_some_and(|(target, before)| target.is(before));
            let merged = if as_forked {
                after
            } else {
                merge_sets(before.as_ref(), target.as_ref(), &[(0, Some(after))])?
            };
            changes.push((name, Some(merged)));
        } else {
            changes.push((name, Some(after)));
        }
    }
    if kept < lane.snapshots.origin.len() {
        let target = current_of(into, pace)?;
        for name in lane.snapshots.origin.keys() {
            let name = name.cast_into::<PyString>()?;
            if !lane.snapshots.current.contains(&name)? && target.contains(&name)? {
                changes.push((name, None));
            }
        }
    }
    write(into, &changes, pace)?;
    state::rebase(view)
}

pub(super) fn merge(
    base: &Bound<'_, PyAny>,
    lanes: &[(String, Py<PyAny>)],
    strategy: MergeStrategy,
    pace: &Pace<'_>,
) -> PyResult<()> {
    if strategy == MergeStrategy::NoMerge {
        return Ok(());
    }
    let py = base.py();
    let target = current_of(base, pace)?;
    let mut forked = Vec::with_capacity(lanes.len());
    for (_, view) in lanes {
        let view = view.bind(py);
        // A plain copy was made from the target as it is.
        forked.push(match state::snapshots(view, pace)? {
            Some(snapshots) => Lane::of_view(snapshots),
            None => Lane::of_copy(view, &target, pace)?,
        });
    }
    let fields = fields_of(base)?;
    let rules = match &fields {
        Some(_) => rules::of(&class::model_of(&base.get_type())?)?,
        None => None,
    };
    let mut merger = Merger {
        py,
        strategy,
        lanes,
        path: Vec::new(),
        pace,
    };
    let mut changes = Vec::new();
    let mut written = Vec::new();
    let mut writers = BTreeSet::new();
    for name in names_of(std::iter::once(&target).chain(forked.iter().map(|lane| &lane.snapshots.current)))? {
        let target_value = target.get_item(&name)?;
        let mut versions = Vec::new();
        let mut since_fork = false;
        for (index, lane) in forked.iter().enumerate() {
            let before = lane.snapshots.origin.get_item(&name)?;
            let after = lane.snapshots.current.get_item(&name)?;
            if lane.wrote(before.as_ref(), after.as_ref(), pace)? {
                since_fork |= !identical(before.as_ref(), target_value.as_ref());
                versions.push((index, after));
            }
        }
        if versions.is_empty() {
            continue;
        }
        writers.extend(versions.iter().map(|(lane, _)| *lane));
        let before = target_value.as_ref();
        let certain = !since_fork && versions.len() == 1;
        let after = match Part::of_key(&name) {
            Some(Part::FieldsSet) => Some(merge_sets(before, before, &versions)?),
            Some(_) => merger.merge_members(before, &versions)?,
            None if fields
                .as_ref()
                .is_some_and(|fields| !fields.contains(&name).unwrap_or(true)) =>
            {
                // A cached property: what it was derived from may have changed, so it is computed anew.
                None
            }
            None => {
                if since_fork {
                    versions = merger.written(before, &versions)?;
                }
                written.push((name.clone(), versions.clone()));
                merger.at(Step::Attribute(name.clone()), |merger| {
                    merger.field(rules.as_ref(), &name, before, versions)
                })?
            }
        };
        if certain || !same_value(before, after.as_ref(), pace)? {
            changes.push((name, after));
        }
    }
    if writers.len() > 1 {
        changes = merger.validated(base, &target, changes, &written, rules.as_ref())?;
    }
    write(base, &changes, pace)
}

/// The settled present state of a context.
fn current_of<'py>(context: &Bound<'py, PyAny>, pace: &Pace<'_>) -> PyResult<Bound<'py, PyDict>> {
    match state::snapshots(context, pace)? {
        Some(snapshots) => Ok(snapshots.current),
        None => plain::snapshot(context),
    }
}

/// What one lane made of the context.
struct Lane<'py> {
    snapshots: Snapshots<'py>,
    /// What is the same state is the same object.
    by_identity: bool,
}

impl<'py> Lane<'py> {
    fn of_view(snapshots: Snapshots<'py>) -> Self {
        Self {
            snapshots,
            by_identity: true,
        }
    }

    /// A context that was copied whole from the target as it is.
    fn of_copy(lane: &Bound<'py, PyAny>, target: &Bound<'py, PyDict>, pace: &Pace<'_>) -> PyResult<Self> {
        let current = plain::snapshot(lane)?;
        for (name, value) in current.copy()?.iter() {
            // User code may still hold the copy's parts.
            current.set_item(name, super::clone::clone(&value, pace)?)?;
        }
        let origin = target.copy()?;
        Ok(Self {
            snapshots: Snapshots { origin, current },
            by_identity: false,
        })
    }

    fn wrote(
        &self,
        before: Option<&Bound<'_, PyAny>>,
        after: Option<&Bound<'_, PyAny>>,
        pace: &Pace<'_>,
    ) -> PyResult<bool> {
        if identical(before, after) {
            return Ok(false);
        }
        Ok(self.by_identity || !same_value(before, after, pace)?)
    }
}

fn fields_of<'py>(base: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if base.is_instance(kind::base_model(base.py())?)? {
        Ok(Some(base.get_type().getattr("__pydantic_fields__")?))
    } else {
        Ok(None)
    }
}

fn write<'py>(context: &Bound<'py, PyAny>, changes: &[Change<'py>], pace: &Pace<'_>) -> PyResult<()> {
    if changes.is_empty() || state::write_view(context, changes, pace)? {
        return Ok(());
    }
    pace.before_writing()?;
    plain::write(context, changes)
}
