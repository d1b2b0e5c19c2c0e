//! Commit and merge: what changed in views goes into the context that they were forked from.
//!
//! A merge is three-way and by path: the state at the fork is the common ancestor, a lane's value that equals it is no
//! write. Dictionaries, models and objects are merged by key and attribute, lists by position, sets by element; where
//! two lanes wrote one path the strategy decides. Neither names nor timing matter. New containers are built from parts
//! of the lanes and the ancestor: snapshots are never changed in place, so sharing parts is safe.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet, PyString};

use super::class::{self, Part};
use super::kind::{self, Instance, Kind, Slots};
use super::list::{self, Edit};
use super::same::same;
use super::state::{self, Snapshots};
use super::{Change, raw};

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

type Value<'py> = Option<Bound<'py, PyAny>>;

/// A lane's version of one path: the lane's index and its value, absent where the lane deleted it.
type Version<'py> = (usize, Value<'py>);

pub(super) fn commit(_py: Python<'_>, view: &Bound<'_, PyAny>, into: &Bound<'_, PyAny>) -> PyResult<()> {
    let view_class = class::model_of(&view.get_type())?;
    if !view_class.is(class::model_of(&into.get_type())?) {
        return Err(PyTypeError::new_err(format!(
            "a view of {} can't be committed into a {}; commit it into the context that it was made from",
            view_class.name()?,
            into.get_type().name()?
        )));
    }
    let lane = match state::snapshots(view)? {
        Some(lane) => lane,
        None => copied_lane(view, &current_of(into)?)?,
    };
    let mut changes: Vec<Change<'_>> = Vec::new();
    let mut kept = 0;
    for (name, after) in lane.current.iter() {
        let name = name.cast_into::<PyString>()?;
        let before = lane.origin.get_item(&name)?;
        kept += usize::from(before.is_some());
        if same_value(before.as_ref(), Some(&after))? {
            continue;
        }
        if Part::of_key(&name) == Some(Part::FieldsSet) {
            let target = current_of(into)?.get_item(&name)?;
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
    let deleted = if kept < lane.origin.len() {
        lane.origin.keys().iter().collect()
    } else {
        Vec::new()
    };
    for name in deleted {
        let name = name.cast_into::<PyString>()?;
        if !lane.current.contains(&name)? && current_of(into)?.contains(&name)? {
            changes.push((name, None));
        }
    }
    write(into, &changes)?;
    state::rebase(view)
}

pub(super) fn merge(
    py: Python<'_>,
    base: &Bound<'_, PyAny>,
    lanes: &[(String, Py<PyAny>)],
    strategy: MergeStrategy,
) -> PyResult<()> {
    if strategy == MergeStrategy::NoMerge {
        return Ok(());
    }
    let target = current_of(base)?;
    let mut snapshots = Vec::with_capacity(lanes.len());
    for (_, view) in lanes {
        snapshots.push(lane_of(view.bind(py), &target)?);
    }
    let fields = fields_of(base)?;
    let mut merger = Merger {
        strategy,
        lanes,
        path: Vec::new(),
    };
    let mut changes = Vec::new();
    for name in names_of(std::iter::once(&target).chain(snapshots.iter().map(|lane| &lane.current)))? {
        let mut versions = Vec::new();
        for (index, lane) in snapshots.iter().enumerate() {
            let (before, after) = (lane.origin.get_item(&name)?, lane.current.get_item(&name)?);
            if !same_value(before.as_ref(), after.as_ref())? {
                versions.push((index, after));
            }
        }
        if versions.is_empty() {
            continue;
        }
        let before = target.get_item(&name)?;
        let after = match Part::of_key(&name) {
            Some(Part::FieldsSet) => Some(merge_sets(before.as_ref(), before.as_ref(), &versions)?),
            Some(_) => merger.merge_members(before.as_ref(), &versions)?,
            None if fields
                .as_ref()
                .is_some_and(|fields| !fields.contains(&name).unwrap_or(true)) =>
            {
                // A cached property: what it was derived from may have changed, so it is computed anew.
                None
            }
            None => merger.at(Step::Attribute(name.clone()), |merger| {
                merger.combine(before.as_ref(), &versions)
            })?,
        };
        if !same_value(before.as_ref(), after.as_ref())? {
            changes.push((name, after));
        }
    }
    write(base, &changes)
}

/// The settled present state of a context.
fn current_of<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    match state::snapshots(context)? {
        Some(snapshots) => Ok(snapshots.current),
        None => state::plain_snapshot(context),
    }
}

/// Ancestor and present state of a lane; a plain copy was made from the target as it is.
fn lane_of<'py>(lane: &Bound<'py, PyAny>, target: &Bound<'py, PyDict>) -> PyResult<Snapshots<'py>> {
    match state::snapshots(lane)? {
        Some(snapshots) => Ok(snapshots),
        None => copied_lane(lane, target),
    }
}

fn copied_lane<'py>(lane: &Bound<'py, PyAny>, target: &Bound<'py, PyDict>) -> PyResult<Snapshots<'py>> {
    let current = state::plain_snapshot(lane)?;
    for (name, value) in current.copy()?.iter() {
        // User code may still hold the copy's parts.
        current.set_item(name, super::clone::clone(&value)?)?;
    }
    let origin = target.copy()?;
    Ok(Snapshots { origin, current })
}

fn fields_of<'py>(base: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if base.is_instance(kind::base_model(base.py())?)? {
        Ok(Some(base.get_type().getattr("__pydantic_fields__")?))
    } else {
        Ok(None)
    }
}

fn write<'py>(context: &Bound<'py, PyAny>, changes: &[Change<'py>]) -> PyResult<()> {
    if changes.is_empty() || state::write_view(context, changes)? {
        return Ok(());
    }
    state::write_plain(context, changes)
}

/// The union of the keys, in order of first appearance.
fn keys_of<'py, 'a>(
    dicts: impl IntoIterator<Item = &'a Bound<'py, PyDict>>,
) -> PyResult<Vec<Bound<'py, PyAny>>>
where
    'py: 'a,
{
    let mut seen: Option<Bound<'py, PyDict>> = None;
    for dict in dicts {
        let seen = seen.get_or_insert_with(|| PyDict::new(dict.py()));
        for key in dict.keys() {
            seen.set_item(key, true)?;
        }
    }
    Ok(seen.map(|seen| seen.keys().iter().collect()).unwrap_or_default())
}

fn names_of<'py, 'a>(
    dicts: impl IntoIterator<Item = &'a Bound<'py, PyDict>>,
) -> PyResult<Vec<Bound<'py, PyString>>>
where
    'py: 'a,
{
    keys_of(dicts)?
        .into_iter()
        .map(|key| Ok(key.cast_into::<PyString>()?))
        .collect()
}

fn same_value(left: Option<&Bound<'_, PyAny>>, right: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
    match (left, right) {
        (Some(left), Some(right)) => Ok(left.is(right) || same(left, right)?),
        (None, None) => Ok(true),
        _ => Ok(false),
    }
}

/// The set that the lanes' additions and removals leave of `onto`.
fn merge_sets<'py>(
    ancestor: Option<&Bound<'py, PyAny>>,
    onto: Option<&Bound<'py, PyAny>>,
    versions: &[Version<'py>],
) -> PyResult<Bound<'py, PyAny>> {
    let Some(py) = versions
        .iter()
        .find_map(|(_, value)| value.as_ref())
        .or(onto)
        .or(ancestor)
        .map(Bound::py)
    else {
        return Err(PyValueError::new_err("no set to merge"));
    };
    let merged = PySet::empty(py)?;
    if let Some(onto) = onto {
        merged.call_method1("update", (onto,))?;
    }
    let empty = PySet::empty(py)?.into_any();
    let before = ancestor.unwrap_or(&empty);
    for (_, value) in versions {
        let value = value.as_ref().unwrap_or(&empty);
        merged.call_method1(
            "difference_update",
            (before.call_method1("difference", (value,))?,),
        )?;
        merged.call_method1("update", (value.call_method1("difference", (before,))?,))?;
    }
    Ok(merged.into_any())
}

/// One step of a path, for error messages.
enum Step<'py> {
    Attribute(Bound<'py, PyString>),
    Key(Bound<'py, PyAny>),
    Index(usize),
}

struct Merger<'a, 'py> {
    strategy: MergeStrategy,
    lanes: &'a [(String, Py<PyAny>)],
    path: Vec<Step<'py>>,
}

impl<'py> Merger<'_, 'py> {
    fn at<T>(&mut self, step: Step<'py>, act: impl FnOnce(&mut Self) -> PyResult<T>) -> PyResult<T> {
        self.path.push(step);
        let result = act(self);
        self.path.pop();
        result
    }

    /// What becomes of one path. Each version differs from the ancestor's value, or is dropped here.
    fn combine(
        &mut self,
        before: Option<&Bound<'py, PyAny>>,
        versions: &[Version<'py>],
    ) -> PyResult<Value<'py>> {
        let mut written = Vec::with_capacity(versions.len());
        for (lane, value) in versions {
            if !same_value(before, value.as_ref())? {
                written.push((*lane, value.clone()));
            }
        }
        let Some((first, rest)) = written.split_first() else {
            return Ok(before.cloned());
        };
        if rest.is_empty() {
            return Ok(first.1.clone());
        }
        if let Some(merged) = self.combine_containers(before, &written)? {
            return Ok(Some(merged));
        }
        match self.strategy {
            MergeStrategy::Overwrite => Ok(written.last().and_then(|(_, value)| value.clone())),
            MergeStrategy::KeepFirst => Ok(first.1.clone()),
            MergeStrategy::ErrorOnConflict => Err(self.conflict(&written)),
            MergeStrategy::ContextUpdate | MergeStrategy::NoMerge => {
                for (_, value) in rest {
                    if !same_value(first.1.as_ref(), value.as_ref())? {
                        return Err(self.conflict(&written));
                    }
                }
                Ok(first.1.clone())
            }
        }
    }

    /// Merges by parts where ancestor and all versions are containers of one class.
    fn combine_containers(
        &mut self,
        before: Option<&Bound<'py, PyAny>>,
        versions: &[Version<'py>],
    ) -> PyResult<Value<'py>> {
        let Some((_, Some(first))) = versions.first() else {
            return Ok(None);
        };
        let class = class::model_of(&first.get_type())?;
        for value in before
            .into_iter()
            .chain(versions.iter().filter_map(|(_, value)| value.as_ref()))
        {
            if !class.is(class::model_of(&value.get_type())?) {
                return Ok(None);
            }
        }
        if versions.iter().any(|(_, value)| value.is_none()) {
            return Ok(None);
        }
        let adds_up = self.strategy == MergeStrategy::ContextUpdate;
        match (kind::of(first)?, before) {
            (Kind::Dict, _) => self.merge_members(before, versions),
            (Kind::Reduce(_), _) if first.is_instance_of::<PyDict>() => {
                let Some(members) = self.merge_members(before, versions)? else {
                    return Ok(None);
                };
                let merged = super::clone::clone(before.unwrap_or(first))?;
                merged.call_method0("clear")?;
                merged.call_method1("update", (members,))?;
                Ok(Some(merged))
            }
            (Kind::Instance(shape), Some(before)) => self.merge_instances(before, versions, shape).map(Some),
            (Kind::List, Some(before)) if adds_up => self.merge_lists(before, versions).map(Some),
            (Kind::Set, Some(_)) if adds_up => merge_sets(before, before, versions).map(Some),
            _ => Ok(None),
        }
    }

    /// Merges dictionaries by key.
    fn merge_members(
        &mut self,
        before: Option<&Bound<'py, PyAny>>,
        versions: &[Version<'py>],
    ) -> PyResult<Value<'py>> {
        let dict =
            |value: Option<&Bound<'py, PyAny>>| value.and_then(|value| value.cast::<PyDict>().ok().cloned());
        let ancestor = dict(before);
        let mut lanes = Vec::with_capacity(versions.len());
        for (lane, value) in versions {
            match dict(value.as_ref()) {
                Some(members) => lanes.push((*lane, members)),
                None => return Ok(value.clone()),
            }
        }
        let Some((_, first)) = lanes.first() else {
            return Ok(before.cloned());
        };
        let merged = PyDict::new(first.py());
        for key in keys_of(ancestor.iter().chain(lanes.iter().map(|(_, members)| members)))? {
            let before = match &ancestor {
                Some(ancestor) => ancestor.get_item(&key)?,
                None => None,
            };
            let mut versions = Vec::with_capacity(lanes.len());
            for (lane, members) in &lanes {
                versions.push((*lane, members.get_item(&key)?));
            }
            // Private attributes and extra values, which start a path, are attributes to the user.
            let step = match key.cast::<PyString>() {
                Ok(name) if self.path.is_empty() => Step::Attribute(name.clone()),
                _ => Step::Key(key.clone()),
            };
            if let Some(value) = self.at(step, |merger| merger.combine(before.as_ref(), &versions))? {
                merged.set_item(key, value)?;
            }
        }
        Ok(Some(merged.into_any()))
    }

    /// Merges objects attribute by attribute.
    fn merge_instances(
        &mut self,
        before: &Bound<'py, PyAny>,
        versions: &[Version<'py>],
        shape: Instance,
    ) -> PyResult<Bound<'py, PyAny>> {
        let class = class::model_of(&before.get_type())?;
        let merged = raw::bare_instance(&class)?;
        let ancestor = attributes(before)?;
        let mut lanes = Vec::with_capacity(versions.len());
        for (lane, value) in versions {
            if let Some(value) = value {
                lanes.push((*lane, attributes(value)?));
            }
        }
        let dict = PyDict::new(before.py());
        for name in names_of(std::iter::once(&ancestor).chain(lanes.iter().map(|(_, members)| members)))? {
            let before = ancestor.get_item(&name)?;
            let mut versions = Vec::with_capacity(lanes.len());
            for (lane, members) in &lanes {
                versions.push((*lane, members.get_item(&name)?));
            }
            let after = match Part::of_key(&name) {
                Some(Part::FieldsSet) => Some(merge_sets(before.as_ref(), before.as_ref(), &versions)?),
                _ => self.at(Step::Attribute(name.clone()), |merger| {
                    merger.combine(before.as_ref(), &versions)
                })?,
            };
            let Some(after) = after else { continue };
            if shape.slots != Slots::None && class_slot(&class, &name)? {
                raw::set_attribute(&merged, &name, Some(&after))?;
            } else {
                dict.set_item(name, after)?;
            }
        }
        if shape.has_dict {
            raw::set_instance_dict(&merged, &dict)?;
        }
        Ok(merged)
    }

    /// Merges lists: removals are applied, a changed element is merged with its counterpart, insertions at one place
    /// follow each other in declared order.
    fn merge_lists(
        &mut self,
        before: &Bound<'py, PyAny>,
        versions: &[Version<'py>],
    ) -> PyResult<Bound<'py, PyAny>> {
        let before = before.cast::<PyList>()?;
        let mut edited = Vec::with_capacity(versions.len());
        for (lane, value) in versions {
            if let Some(value) = value {
                edited.push((*lane, list::edits(before, value.cast::<PyList>()?)?));
            }
        }
        let merged = PyList::empty(before.py());
        for (index, item) in before.iter().map(Some).chain(std::iter::once(None)).enumerate() {
            for (_, edits) in &edited {
                for inserted in edits.inserted.get(&index).into_iter().flatten() {
                    merged.append(inserted)?;
                }
            }
            let Some(item) = item else { break };
            let mut versions = Vec::new();
            for (lane, edits) in &edited {
                match edits.items.get(index) {
                    Some(Edit::Remove) => versions.push((*lane, None)),
                    Some(Edit::Replace(value)) => versions.push((*lane, Some(value.clone()))),
                    Some(Edit::Keep) | None => {}
                }
            }
            let after = if versions.is_empty() {
                Some(item)
            } else {
                self.at(Step::Index(index), |merger| {
                    merger.combine(Some(&item), &versions)
                })?
            };
            if let Some(after) = after {
                merged.append(after)?;
            }
        }
        Ok(merged.into_any())
    }

    fn path(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Attribute(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(&name.to_string_lossy());
                }
                Step::Key(key) => {
                    text.push('[');
                    text.push_str(&shown(Some(key)));
                    text.push(']');
                }
                Step::Index(index) => {
                    text.push('[');
                    text.push_str(&index.to_string());
                    text.push(']');
                }
            }
        }
        text
    }

    fn conflict(&self, versions: &[Version<'py>]) -> PyErr {
        let path = self.path();
        let names: Vec<&str> = versions
            .iter()
            .filter_map(|(lane, _)| self.lanes.get(*lane))
            .map(|(name, _)| name.as_str())
            .collect();
        let wrote: Vec<String> = names
            .iter()
            .zip(versions)
            .map(|(name, (_, value))| format!("branch {name:?} wrote {}", shown(value.as_ref())))
            .collect();
        let message = format!(
            "conflicting writes to context path {path:?}: {}. Let the branches write different paths, choose another \
             merge strategy, or declare on the field how its writes combine",
            wrote.join(", ")
        );
        let Some(py) = versions
            .iter()
            .find_map(|(_, value)| value.as_ref())
            .map(Bound::py)
        else {
            return PyValueError::new_err(message);
        };
        let error = match py
            .import("flujo.exceptions")
            .and_then(|module| module.getattr("ContextMergeError"))
        {
            Ok(class) => match class.call1((&message,)) {
                Ok(error) => PyErr::from_value(error),
                Err(_) => PyValueError::new_err(message),
            },
            Err(_) => PyValueError::new_err(message),
        };
        let details = error.value(py);
        let values: Vec<Option<&Bound<'py, PyAny>>> =
            versions.iter().map(|(_, value)| value.as_ref()).collect();
        // An exception class without room for attributes still has the message.
        let _ = details.setattr("path", path);
        let _ = details.setattr("branches", names);
        let _ = details.setattr("values", values);
        error
    }
}

/// A short form of a value, at most 60 characters.
fn shown(value: Option<&Bound<'_, PyAny>>) -> String {
    const LONGEST: usize = 60;
    let Some(value) = value else {
        return "a deletion".to_owned();
    };
    let text = match value.repr() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => "a value without a representation".to_owned(),
    };
    if text.chars().count() <= LONGEST {
        text
    } else {
        text.chars()
            .take(LONGEST - 1)
            .chain(std::iter::once('…'))
            .collect()
    }
}

/// All attributes of an object, those in slots too.
fn attributes<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    state::plain_snapshot(object)
}

fn class_slot(class: &Bound<'_, pyo3::types::PyType>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    match kind::slot_names(class)? {
        Some(names) => names.contains(name),
        None => Ok(false),
    }
}
