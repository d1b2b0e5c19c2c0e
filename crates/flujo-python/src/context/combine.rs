//! How several versions of one value combine: by key, attribute and element, with the strategy deciding where two lanes
//! wrote one path. New containers are built from parts of the versions and the ancestor, which nobody changes in place.

use std::collections::BTreeSet;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet, PyString};

use super::class::{self, Part};
use super::conflict::{self, Step, Written};
use super::kind::{self, Instance, Kind, Slots};
use super::merge::MergeStrategy;
use super::pace::{CONTAINER, Pace};
use super::same::same;
use super::walk::{self, Place};
use super::{plain, raw, rules};

/// A value, absent where there is none.
pub(super) type Value<'py> = Option<Bound<'py, PyAny>>;

/// A lane's version of one path: the lane's index and its value, absent where the lane deleted it.
pub(super) type Version<'py> = (usize, Value<'py>);

/// The set that the lanes' additions and removals leave of `onto`.
pub(super) fn merge_sets<'py>(
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

/// Combines versions.
pub(super) struct Merger<'a, 'py> {
    pub(super) py: Python<'py>,
    pub(super) strategy: MergeStrategy,
    /// Names and views, in declared order.
    pub(super) lanes: &'a [(String, Py<PyAny>)],
    /// Where it is.
    pub(super) path: Vec<Step<'py>>,
    pub(super) pace: &'a Pace<'a>,
}

impl<'py> Merger<'_, 'py> {
    /// Goes one step down the path.
    pub(super) fn at<T>(
        &mut self,
        step: Step<'py>,
        act: impl FnOnce(&mut Self) -> PyResult<T>,
    ) -> PyResult<T> {
        self.path.push(step);
        let result = act(self);
        self.path.pop();
        result
    }

    /// The versions that are writes: one that is the same as the ancestor's value isn't.
    pub(super) fn written(
        &self,
        before: Option<&Bound<'py, PyAny>>,
        versions: &[Version<'py>],
    ) -> PyResult<Vec<Version<'py>>> {
        let mut written = Vec::with_capacity(versions.len());
        for (lane, value) in versions {
            if !same_value(before, value.as_ref(), self.pace)? {
                written.push((*lane, value.clone()));
            }
        }
        Ok(written)
    }

    /// What becomes of one path.
    pub(super) fn combine(
        &mut self,
        before: Option<&Bound<'py, PyAny>>,
        versions: &[Version<'py>],
    ) -> PyResult<Value<'py>> {
        let written = self.written(before, versions)?;
        self.combine_written(before, written)
    }

    /// As `combine`, where every version is known to differ from the ancestor's value.
    pub(super) fn combine_written(
        &mut self,
        before: Option<&Bound<'py, PyAny>>,
        written: Vec<Version<'py>>,
    ) -> PyResult<Value<'py>> {
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
                    if !same_value(first.1.as_ref(), value.as_ref(), self.pace)? {
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
        match (kind::of(first)?, before) {
            (Kind::Dict, _) => self.merge_members(before, versions),
            (Kind::Reduce(_), _) if first.is_instance_of::<PyDict>() => {
                let Some(members) = self.merge_members(before, versions)? else {
                    return Ok(None);
                };
                let merged = super::clone::clone(before.unwrap_or(first), self.pace)?;
                merged.call_method0("clear")?;
                merged.call_method1("update", (members,))?;
                Ok(Some(merged))
            }
            (Kind::Instance(shape), Some(before)) => self.merge_instances(before, versions, shape).map(Some),
            (Kind::List, Some(before)) => self.merge_lists(before, versions),
            (Kind::Set, Some(before)) => {
                if self.strategy == MergeStrategy::ErrorOnConflict {
                    self.refuse_common_elements(before, versions)?;
                }
                merge_sets(Some(before), Some(before), versions).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Merges dictionaries by key.
    pub(super) fn merge_members(
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
        let py = first.py();
        let written = PyDict::new(py);
        for (_, members) in &lanes {
            if let Some(ancestor) = &ancestor {
                changed_keys(ancestor, members, &written, self.pace)?;
            } else {
                self.pace.spend(py, members.len())?;
                written.update(members.as_mapping())?;
            }
        }
        let merged = match &ancestor {
            Some(ancestor) => {
                self.pace.spend(py, ancestor.len())?;
                ancestor.copy()?
            }
            None => PyDict::new(py),
        };
        let mut place = Place::default();
        while let Some((key, _)) = place.next(&written) {
            self.pace.spend(py, CONTAINER)?;
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
            let after = self.at(step, |merger| merger.combine(before.as_ref(), &versions))?;
            match after {
                Some(value) => merged.set_item(key, value)?,
                None if before.is_some() => merged.del_item(key)?,
                None => {}
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
        let rules = rules::of(&class)?;
        let mut fields = Vec::new();
        let mut writers = BTreeSet::new();
        for name in names_of(std::iter::once(&ancestor).chain(lanes.iter().map(|(_, members)| members)))? {
            let before = ancestor.get_item(&name)?;
            let mut versions = Vec::with_capacity(lanes.len());
            for (lane, members) in &lanes {
                versions.push((*lane, members.get_item(&name)?));
            }
            let after = if Part::of_key(&name) == Some(Part::FieldsSet) {
                Some(merge_sets(before.as_ref(), before.as_ref(), &versions)?)
            } else {
                let written = self.written(before.as_ref(), &versions)?;
                writers.extend(written.iter().map(|(lane, _)| *lane));
                if !written.is_empty() {
                    fields.push((name.clone(), written.clone()));
                }
                self.at(Step::Attribute(name.clone()), |merger| {
                    merger.field(rules.as_ref(), &name, before.as_ref(), written)
                })?
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
        if writers.len() > 1 {
            return self.validated_part(merged, &fields, rules.as_ref());
        }
        Ok(merged)
    }

    /// Refuses elements that several lanes added or removed.
    fn refuse_common_elements(&self, before: &Bound<'py, PyAny>, versions: &[Version<'py>]) -> PyResult<()> {
        let met = PySet::empty(self.py)?;
        for (_, value) in versions {
            let changed = before.call_method1("symmetric_difference", (value,))?;
            if !met.call_method1("isdisjoint", (&changed,))?.is_truthy()? {
                return Err(self.conflict(versions));
            }
            met.call_method1("update", (changed,))?;
        }
        Ok(())
    }

    pub(super) fn conflict(&self, versions: &[Version<'py>]) -> PyErr {
        conflict::error(self.py, &self.path, &self.told(versions))
    }

    /// The failure of a place for another reason than the strategy's.
    pub(super) fn conflict_because(
        &self,
        versions: &[Version<'py>],
        reason: &str,
        cause: Option<PyErr>,
    ) -> PyErr {
        conflict::because(self.py, &self.path, &self.told(versions), reason, cause)
    }

    fn told<'v>(&'v self, versions: &'v [Version<'py>]) -> Vec<Written<'v, 'py>> {
        versions
            .iter()
            .filter_map(|(lane, value)| Some((self.lanes.get(*lane)?.0.as_str(), value.as_ref())))
            .collect()
    }
}

/// Adds the keys whose values differ between the ancestor and what a lane made of it.
fn changed_keys<'py>(
    ancestor: &Bound<'py, PyDict>,
    lane: &Bound<'py, PyDict>,
    changed: &Bound<'py, PyDict>,
    pace: &Pace<'_>,
) -> PyResult<()> {
    let py = lane.py();
    let mut places = (Place::default(), Place::default());
    // Entries of the ancestor that have been met.
    let mut met = 0;
    // As long as the lane has only changed and removed entries, both are in the same order.
    loop {
        met += walk::pass_identical(ancestor, lane, &mut places, pace)?;
        let (mut at_ancestor, mut at_lane) = places;
        let (Some((key, before)), Some((lane_key, after))) = (at_ancestor.next(ancestor), at_lane.next(lane))
        else {
            break;
        };
        pace.spend(py, 1)?;
        if key.is(&lane_key) {
            if !same(&before, &after, pace)? {
                changed.set_item(&key, true)?;
            }
            places = (at_ancestor, at_lane);
        } else if lane.contains(&key)? {
            break;
        } else {
            changed.set_item(&key, true)?;
            places.0 = at_ancestor;
        }
        met += 1;
    }
    let (mut rest, mut lane_rest) = places;
    while let Some((key, after)) = lane_rest.next(lane) {
        pace.spend(py, CONTAINER)?;
        match ancestor.get_item(&key)? {
            Some(before) if same(&before, &after, pace)? => met += 1,
            Some(_) => {
                met += 1;
                changed.set_item(key, true)?;
            }
            None => changed.set_item(key, true)?,
        }
    }
    if met < ancestor.len() {
        while let Some((key, _)) = rest.next(ancestor) {
            pace.spend(py, CONTAINER)?;
            if !lane.contains(&key)? {
                changed.set_item(key, true)?;
            }
        }
    }
    Ok(())
}

/// All attributes of an object, those in slots too.
fn attributes<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    plain::snapshot(object)
}

fn class_slot(class: &Bound<'_, pyo3::types::PyType>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    match kind::slot_names(class)? {
        Some(names) => names.contains(name),
        None => Ok(false),
    }
}

/// The union of the names, in order of first appearance.
pub(super) fn names_of<'py, 'a>(
    dicts: impl IntoIterator<Item = &'a Bound<'py, PyDict>>,
) -> PyResult<Vec<Bound<'py, PyString>>>
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
    let Some(seen) = seen else { return Ok(Vec::new()) };
    seen.keys()
        .iter()
        .map(|key| Ok(key.cast_into::<PyString>()?))
        .collect()
}

/// Whether both are the very same object, or both absent.
pub(super) fn identical(left: Option<&Bound<'_, PyAny>>, right: Option<&Bound<'_, PyAny>>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => left.is(right),
        (None, None) => true,
        _ => false,
    }
}

/// Whether both are the same state, or both absent.
pub(super) fn same_value(
    left: Option<&Bound<'_, PyAny>>,
    right: Option<&Bound<'_, PyAny>>,
    pace: &Pace<'_>,
) -> PyResult<bool> {
    match (left, right) {
        (Some(left), Some(right)) => same(left, right, pace),
        (None, None) => Ok(true),
        _ => Ok(false),
    }
}
