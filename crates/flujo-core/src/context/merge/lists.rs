//! Lists: removed items go, a replaced item is merged with what others made of it, and what several branches inserted at
//! one place follows one another in declared order.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;

use super::{Merge, MergeConflict, MergeStrategy, Write, same};
use crate::context::edits::{Edit, edits};
use crate::value::Value;

/// What was done at one place of the list at the fork.
#[derive(Default)]
struct Touched<'a> {
    /// What branches inserted before the item.
    inserted: Vec<(usize, &'a [Value])>,
    /// What they made of the item itself.
    writes: Vec<Write<'a>>,
}

fn kin(old: &Value, new: &Value) -> bool {
    matches!(
        (old, new),
        (Value::Map(_), Value::Map(_)) | (Value::List(_), Value::List(_))
    )
}

impl Merge<'_> {
    /// `None`: a branch made another list of it.
    pub(super) fn lists(
        &self,
        path: &mut String,
        base: &[Value],
        lists: &[(usize, &[Value])],
    ) -> Result<Option<Value>, MergeConflict> {
        let mut touched: BTreeMap<usize, Touched<'_>> = BTreeMap::new();
        for (branch, list) in lists {
            let alike = |old: usize, new: usize| Ok::<_, Infallible>(same(&base[old], &list[new]));
            let kin = |place: usize| Ok(kin(&base[place], &list[place]));
            let Ok(edited) = edits(base.len(), list.len(), 0, alike, kin);
            let Some(edited) = edited else { return Ok(None) };
            for (place, edit) in edited.changed {
                let value = match edit {
                    Edit::Remove => None,
                    Edit::Replace(new) => list.get(new),
                };
                touched.entry(place).or_default().writes.push((*branch, value));
            }
            for (place, items) in edited.inserted {
                let items = (*branch, &list[items]);
                touched.entry(place).or_default().inserted.push(items);
            }
        }
        let mut merged = Vec::with_capacity(base.len() + touched.len());
        let mut copied = 0;
        let depth = path.len();
        for (place, Touched { inserted, writes }) in touched {
            merged.extend_from_slice(&base[copied..place]);
            self.insert(path, &mut merged, &inserted)?;
            copied = place;
            if !writes.is_empty() {
                let _ = write!(path, "[{place}]"); // writing to a string cannot fail
                merged.extend(self.place(path, base.get(place), &writes)?);
                path.truncate(depth);
                copied += 1;
            }
        }
        merged.extend_from_slice(&base[copied..]);
        Ok(Some(Value::List(Arc::new(merged))))
    }

    fn insert(
        &self,
        path: &str,
        merged: &mut Vec<Value>,
        inserted: &[(usize, &[Value])],
    ) -> Result<(), MergeConflict> {
        let kept = match (self.strategy, inserted) {
            (MergeStrategy::Overwrite, [.., _]) => &inserted[inserted.len() - 1..],
            (MergeStrategy::KeepFirst, [_, ..]) => &inserted[..1],
            (MergeStrategy::ErrorOnConflict, [_, _, ..]) => {
                let tails: Vec<(usize, Value)> = inserted
                    .iter()
                    .map(|(branch, items)| (*branch, Value::list(items.iter().cloned())))
                    .collect();
                let writes: Vec<Write<'_>> =
                    tails.iter().map(|(branch, tail)| (*branch, Some(tail))).collect();
                return Err(self.conflict(path, &writes, "several added to it at one place"));
            }
            _ => inserted,
        };
        merged.extend(kept.iter().flat_map(|(_, items)| items.iter().cloned()));
        Ok(())
    }
}
