//! How one value differs from another one of the same state, so that what is written of a context grows with what
//! changed in it and not with what it holds.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use serde::ser::{Error as _, SerializeSeq as _};
use serde::{Deserialize, Serialize, Serializer};

use super::class::Part;
use super::made::made_model;
use super::pace::Pace;
use super::same::same;
use super::{class, kind, plain, walk};
use crate::cache::placed;
use crate::object::Object;

/// Values nested deeper than this are written whole.
const DEPTH: u32 = 64;

/// What makes one value of another one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Patch {
    /// This, whatever it was.
    Whole(Object),
    /// A dictionary: entries that are another value now, that are new, and (without a patch) that are gone.
    Entries(Vec<(Object, Option<Self>)>),
    /// A list: what stands between so many items at its beginning and so many at its end is this now.
    Between(usize, Vec<Object>, usize),
    /// A list: these items are another value now.
    Items(Vec<(usize, Self)>),
    /// A pydantic model: attributes, as entries.
    Attributes(#[serde(serialize_with = "attributes")] Vec<(String, Option<Self>)>),
}

impl Patch {
    /// What it makes of `old`, which stays as it is.
    pub(super) fn apply<'py>(
        &self,
        old: Option<&Bound<'py, PyAny>>,
        py: Python<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let expected = |kind| Err(misfit(format!("a change of a {kind} stands where there is none")));
        match (self, old) {
            (Self::Whole(value), _) => Ok(value.bind(py).clone()),
            (Self::Entries(entries), Some(old)) => {
                let Ok(old) = old.cast::<PyDict>() else {
                    return expected("dictionary");
                };
                let made = old.copy()?;
                for (key, patch) in entries {
                    let key = key.bind(py);
                    match patch {
                        Some(patch) => made.set_item(key, patch.apply(old.get_item(key)?.as_ref(), py)?)?,
                        None => made.del_item(key)?,
                    }
                }
                Ok(made.into_any())
            }
            (Self::Between(before, items, behind), Some(old)) => {
                let Ok(old) = old.cast::<PyList>() else {
                    return expected("list");
                };
                if before + behind > old.len() {
                    return expected("list of such a length");
                }
                let made = old.get_slice(0, *before);
                for item in items {
                    made.append(item.bind(py))?;
                }
                let end = old.get_slice(old.len() - behind, old.len());
                made.set_slice(made.len(), made.len(), &end)?;
                Ok(made.into_any())
            }
            (Self::Items(items), Some(old)) => {
                let Ok(old) = old.cast::<PyList>() else {
                    return expected("list");
                };
                let made = old.get_slice(0, old.len());
                for (place, patch) in items {
                    made.set_item(*place, patch.apply(Some(&old.get_item(*place)?), py)?)?;
                }
                Ok(made.into_any())
            }
            (Self::Attributes(attributes), Some(old)) if old.is_instance(kind::base_model(py)?)? => {
                let snapshot = changed(&plain::model_snapshot(old)?, attributes, py)?;
                model_of(&class::model_of(&old.get_type())?, &snapshot)
            }
            (Self::Attributes(_), _) => expected("model"),
            (_, None) => expected("value"),
        }
    }
}

/// Attributes with their patches; an error in one names it.
pub(super) fn attributes<S: Serializer>(
    attributes: &[(String, Option<Patch>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(attributes.len()))?;
    for attribute in attributes {
        list.serialize_element(attribute).map_err(|error| {
            let refusal = error.to_string();
            let (place, reason) = placed(&refusal);
            S::Error::custom(format!("at .{}{place}: {reason}", attribute.0))
        })?;
    }
    list.end()
}

fn misfit(reason: String) -> PyErr {
    pyo3::exceptions::PyValueError::new_err(reason)
}

/// A snapshot with such changes.
pub(super) fn changed<'py>(
    snapshot: &Bound<'py, PyDict>,
    attributes: &[(String, Option<Patch>)],
    py: Python<'py>,
) -> PyResult<Bound<'py, PyDict>> {
    let made = snapshot.copy()?;
    for (name, patch) in attributes {
        let name = name_of(py, name);
        match patch {
            Some(patch) => made.set_item(&name, patch.apply(snapshot.get_item(&name)?.as_ref(), py)?)?,
            None => made.del_item(&name)?,
        }
    }
    Ok(made)
}

/// The changes between two snapshots. What is the same object is the same state.
pub(super) fn changes(
    old: &Bound<'_, PyDict>,
    new: &Bound<'_, PyDict>,
    pace: &Pace<'_>,
    depth: u32,
) -> PyResult<Vec<(String, Option<Patch>)>> {
    let mut found = Vec::new();
    for (name, value) in new.iter() {
        let patch = match old.get_item(&name)? {
            Some(before) => within(&before, &value, pace, depth)?,
            None => Some(Patch::Whole(value.into())),
        };
        if let Some(patch) = patch {
            found.push((name.extract()?, Some(patch)));
        }
    }
    for name in old.keys() {
        if !new.contains(&name)? {
            found.push((name.extract()?, None));
        }
    }
    Ok(found)
}

/// An attribute's name as snapshots hold it.
pub(super) fn name_of<'py>(py: Python<'py>, name: &str) -> Bound<'py, PyString> {
    let text = PyString::intern(py, name);
    let part = Part::ALL.into_iter().map(|part| part.name(py));
    match part.into_iter().find(|part| part.is(&text)) {
        Some(part) => part.clone(),
        None => text,
    }
}

/// A model of a class from a snapshot.
pub(super) fn model_of<'py>(
    class: &Bound<'py, pyo3::types::PyType>,
    snapshot: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let attributes = PyDict::new(py);
    let none = py.None().into_bound(py);
    let mut parts = [none.clone(), none.clone(), none];
    for (name, value) in snapshot.iter() {
        let name = name.cast_into::<PyString>()?;
        match Part::of_key(&name) {
            Some(part) => parts[part as usize] = value,
            None => attributes.set_item(name, value)?,
        }
    }
    let [set, extra, private] = &parts;
    made_model(class, &attributes, [set, extra, private])
}

fn within(
    old: &Bound<'_, PyAny>,
    new: &Bound<'_, PyAny>,
    pace: &Pace<'_>,
    depth: u32,
) -> PyResult<Option<Patch>> {
    if old.is(new) {
        return Ok(None);
    }
    let of_one_class = class::model_of(&old.get_type())?.is(class::model_of(&new.get_type())?);
    if of_one_class && depth < DEPTH {
        if let (Ok(old), Ok(new)) = (old.cast_exact::<PyDict>(), new.cast_exact::<PyDict>()) {
            return entries(old, new, pace, depth + 1);
        }
        if let (Ok(old), Ok(new)) = (old.cast_exact::<PyList>(), new.cast_exact::<PyList>()) {
            return items(old, new, pace, depth + 1);
        }
        if old.is_instance(kind::base_model(old.py())?)? && kind::slot_names(&old.get_type())?.is_none() {
            let (old, new) = (plain::model_snapshot(old)?, plain::model_snapshot(new)?);
            let changes = changes(&old, &new, pace, depth + 1)?;
            return Ok((!changes.is_empty()).then_some(Patch::Attributes(changes)));
        }
    }
    Ok(if same(old, new, pace)? {
        None
    } else {
        Some(Patch::Whole(new.clone().into()))
    })
}

fn entries(
    old: &Bound<'_, PyDict>,
    new: &Bound<'_, PyDict>,
    pace: &Pace<'_>,
    depth: u32,
) -> PyResult<Option<Patch>> {
    let mut found = Vec::new();
    for key in old.keys() {
        if !new.contains(&key)? {
            found.push((Object::from(key), None));
        }
    }
    let kept = old.len() - found.len();
    // What stays keeps its place, and what is new stands behind it; and keys are the same, not only equal.
    let mut stays = old.iter().filter(|(key, _)| new.contains(key).unwrap_or(false));
    for (place, (key, value)) in new.iter().enumerate() {
        pace.spend(new.py(), 1)?;
        if place >= kept {
            if old.contains(&key)? {
                return Ok(Some(Patch::Whole(new.clone().into())));
            }
            found.push((key.into(), Some(Patch::Whole(value.into()))));
            continue;
        }
        let Some((before, old_value)) = stays.next() else {
            return Ok(Some(Patch::Whole(new.clone().into())));
        };
        if !same(&before, &key, pace)? {
            return Ok(Some(Patch::Whole(new.clone().into())));
        }
        if let Some(patch) = within(&old_value, &value, pace, depth)? {
            found.push((key.into(), Some(patch)));
        }
    }
    Ok((!found.is_empty()).then_some(Patch::Entries(found)))
}

fn items(
    old: &Bound<'_, PyList>,
    new: &Bound<'_, PyList>,
    pace: &Pace<'_>,
    depth: u32,
) -> PyResult<Option<Patch>> {
    let shorter = old.len().min(new.len());
    let mut before = walk::first_different(old, new, 0, pace)?.min(shorter);
    while before < shorter && same(&old.get_item(before)?, &new.get_item(before)?, pace)? {
        before += 1;
        before = walk::first_different(old, new, before, pace)?.min(shorter);
    }
    if before == old.len() && before == new.len() {
        return Ok(None);
    }
    let mut behind = 0;
    while behind < shorter - before
        && same(
            &old.get_item(old.len() - 1 - behind)?,
            &new.get_item(new.len() - 1 - behind)?,
            pace,
        )?
    {
        behind += 1;
    }
    let end = new.len() - behind;
    if old.len() == new.len() {
        let mut found = Vec::new();
        for place in before..end {
            if let Some(patch) = within(&old.get_item(place)?, &new.get_item(place)?, pace, depth)? {
                found.push((place, patch));
            }
        }
        return Ok(Some(Patch::Items(found)));
    }
    let middle = new.get_slice(before, end).iter().map(Object::from).collect();
    Ok(Some(Patch::Between(before, middle, behind)))
}
