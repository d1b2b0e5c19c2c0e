//! What a lane did to a list, relative to the list at the fork.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::PyList;

use super::clone::immutable;
use super::pace::Pace;
use super::same::same;
use super::walk;

/// What became of one element.
#[derive(Clone)]
pub(super) enum Edit<'py> {
    Keep,
    Remove,
    Replace(Bound<'py, PyAny>),
}

/// All that was done to a list.
pub(super) struct Edits<'py> {
    /// One per element of the original.
    pub(super) items: Vec<Edit<'py>>,
    /// What was inserted before the element with that index; the original's length stands for the end.
    pub(super) inserted: HashMap<usize, Vec<Bound<'py, PyAny>>>,
}

/// Comparisons above which no common subsequence is searched: the changed stretch then counts as replaced.
const MOST_COMPARISONS: usize = 250_000;

/// How the list was edited. A stretch of equal length was changed in place; else the longest common subsequence was kept,
/// and a mutable element between two kept ones was changed in place, not exchanged.
pub(super) fn edits<'py>(
    before: &Bound<'py, PyList>,
    after: &Bound<'py, PyList>,
    pace: &Pace<'_>,
) -> PyResult<Edits<'py>> {
    let mut prefix = walk::first_different(before, after, 0, pace)?;
    let old: Vec<_> = before.iter().collect();
    let new: Vec<_> = after.iter().collect();
    let shortest = old.len().min(new.len());
    // What another thread has taken out meanwhile is gone.
    prefix = prefix.min(shortest);
    let same = |left: &Bound<'py, PyAny>, right: &Bound<'py, PyAny>| {
        pace.spend(left.py(), 1)?;
        same(left, right, pace)
    };
    while prefix < shortest && same(&old[prefix], &new[prefix])? {
        prefix += 1;
    }
    let mut suffix = 0;
    while suffix < shortest - prefix && same(&old[old.len() - 1 - suffix], &new[new.len() - 1 - suffix])? {
        suffix += 1;
    }
    let mut result = Edits {
        items: vec![Edit::Keep; old.len()],
        inserted: HashMap::new(),
    };
    let (old_end, new_end) = (old.len() - suffix, new.len() - suffix);
    if old_end - prefix == new_end - prefix {
        for index in prefix..old_end {
            if !same(&old[index], &new[index])? {
                result.items[index] = Edit::Replace(new[index].clone());
            }
        }
        return Ok(result);
    }
    let kept = common_subsequence(&old[prefix..old_end], &new[prefix..new_end], same)?;
    let (mut from_old, mut from_new) = (prefix, prefix);
    for (kept_old, kept_new) in kept
        .into_iter()
        .map(|(old, new)| (old + prefix, new + prefix))
        .chain([(old_end, new_end)])
    {
        result.stretch(&old, &new, from_old..kept_old, from_new..kept_new);
        (from_old, from_new) = (kept_old + 1, kept_new + 1);
    }
    Ok(result)
}

impl<'py> Edits<'py> {
    /// Records a stretch without a kept element.
    fn stretch(
        &mut self,
        old: &[Bound<'py, PyAny>],
        new: &[Bound<'py, PyAny>],
        old_range: std::ops::Range<usize>,
        new_range: std::ops::Range<usize>,
    ) {
        let end = old_range.end;
        let mut replacements = new_range;
        for index in old_range {
            let counterpart = new.get(replacements.start).filter(|_| !replacements.is_empty());
            self.items[index] = match counterpart {
                Some(value) if !immutable(value) && value.get_type().is(old[index].get_type()) => {
                    replacements.start += 1;
                    Edit::Replace(value.clone())
                }
                _ => Edit::Remove,
            };
        }
        if !replacements.is_empty() {
            self.inserted
                .entry(end)
                .or_default()
                .extend(new[replacements].iter().cloned());
        }
    }
}

/// Index pairs of the longest common subsequence.
fn common_subsequence<'py>(
    old: &[Bound<'py, PyAny>],
    new: &[Bound<'py, PyAny>],
    same: impl Fn(&Bound<'py, PyAny>, &Bound<'py, PyAny>) -> PyResult<bool>,
) -> PyResult<Vec<(usize, usize)>> {
    if old.is_empty() || new.is_empty() || old.len().saturating_mul(new.len()) > MOST_COMPARISONS {
        return Ok(Vec::new());
    }
    let width = new.len() + 1;
    let mut equal = vec![false; old.len() * new.len()];
    // longest[i][j]: of old[i..] and new[j..].
    let mut longest = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            let same = same(&old[i], &new[j])?;
            equal[i * new.len() + j] = same;
            longest[i * width + j] = if same {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let mut pairs = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < old.len() && j < new.len() {
        if equal[i * new.len() + j] {
            pairs.push((i, j));
            i += 1;
            j += 1;
        } else if longest[(i + 1) * width + j] >= longest[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    Ok(pairs)
}
