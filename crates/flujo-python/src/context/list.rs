//! Lists: removed elements go, a replaced one is merged with what others made of it, and what several lanes inserted at
//! one place follows one another in declared order.

use std::collections::BTreeMap;

use flujo_core::context::{Edit, edits};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::class;
use super::combine::{Merger, Value, Version};
use super::conflict::Step;
use super::kind::{self, Kind};
use super::merge::MergeStrategy;
use super::same::same;
use super::walk;

/// What was done at one place of the list at the fork.
#[derive(Default)]
struct Touched<'py> {
    /// What lanes inserted before the element.
    inserted: Vec<(usize, Bound<'py, PyList>)>,
    /// What they made of the element itself.
    versions: Vec<Version<'py>>,
}

/// Whether both are mutable objects of one type.
fn kin(old: &Bound<'_, PyAny>, new: &Bound<'_, PyAny>) -> PyResult<bool> {
    let of_one_type = class::model_of(&old.get_type())?.is(class::model_of(&new.get_type())?);
    Ok(of_one_type && !matches!(kind::of(new)?, Kind::Immutable | Kind::Shared))
}

impl<'py> Merger<'_, 'py> {
    /// Merges lists; `None` where a lane made another list of it.
    pub(super) fn merge_lists(
        &mut self,
        before: &Bound<'py, PyAny>,
        versions: &[Version<'py>],
    ) -> PyResult<Value<'py>> {
        let before = before.cast::<PyList>()?;
        let mut touched: BTreeMap<usize, Touched<'py>> = BTreeMap::new();
        for (lane, value) in versions {
            let Some(value) = value else { continue };
            let after = value.cast::<PyList>()?;
            let known = walk::first_different(before, after, 0, self.pace)?;
            let alike = |old: usize, new: usize| {
                self.pace.spend(self.py, 1)?;
                match (before.get_item(old), after.get_item(new)) {
                    (Ok(old), Ok(new)) => same(&old, &new, self.pace),
                    // What another thread has taken out meanwhile is gone.
                    _ => Ok(false),
                }
            };
            let kin = |place: usize| match (before.get_item(place), after.get_item(place)) {
                (Ok(old), Ok(new)) => kin(&old, &new),
                _ => Ok(false),
            };
            let Some(edited) = edits(before.len(), after.len(), known, alike, kin)? else {
                return Ok(None);
            };
            for (place, edit) in edited.changed {
                let value = match edit {
                    Edit::Remove => None,
                    Edit::Replace(new) => Some(after.get_item(new)?),
                };
                touched.entry(place).or_default().versions.push((*lane, value));
            }
            for (place, items) in edited.inserted {
                let items = after.get_slice(items.start, items.end);
                touched.entry(place).or_default().inserted.push((*lane, items));
            }
        }
        self.pace.spend(self.py, before.len())?;
        let merged = PyList::empty(self.py);
        let take = |items: &Bound<'py, PyList>| merged.set_slice(merged.len(), merged.len(), items);
        let mut copied = 0;
        for (place, Touched { inserted, versions }) in touched {
            take(&before.get_slice(copied, place))?;
            copied = place;
            for (_, items) in self.decided(&inserted)? {
                take(items)?;
            }
            if versions.is_empty() {
                continue;
            }
            let item = before.get_item(place)?;
            let after = self.at(Step::Index(place), |merger| {
                merger.combine(Some(&item), &versions)
            })?;
            if let Some(after) = after {
                merged.append(after)?;
            }
            copied += 1;
        }
        take(&before.get_slice(copied, before.len()))?;
        Ok(Some(merged.into_any()))
    }

    /// Which of the insertions at one place are kept.
    fn decided<'a>(
        &self,
        inserted: &'a [(usize, Bound<'py, PyList>)],
    ) -> PyResult<&'a [(usize, Bound<'py, PyList>)]> {
        match (self.strategy, inserted) {
            (MergeStrategy::Overwrite, [.., _]) => Ok(&inserted[inserted.len() - 1..]),
            (MergeStrategy::KeepFirst, [_, ..]) => Ok(&inserted[..1]),
            (MergeStrategy::ErrorOnConflict, [_, _, ..]) => {
                let written: Vec<Version<'py>> = inserted
                    .iter()
                    .map(|(lane, items)| (*lane, Some(items.clone().into_any())))
                    .collect();
                Err(self.conflict(&written))
            }
            _ => Ok(inserted),
        }
    }
}
