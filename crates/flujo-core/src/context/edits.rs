//! What was done to a list since it was copied: which items were removed or replaced, and what was inserted where. It
//! knows positions only, so that every host can ask it about lists of its own.

use std::ops::Range;

/// What became of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// It is gone.
    Remove,
    /// The item at this place of the new list stands for it.
    Replace(usize),
}

/// All that was done to a list, by places of the old one in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// The old items that are no longer there as they were.
    pub changed: Vec<(usize, Edit)>,
    /// Items of the new list, and before which old item they were inserted; the old length stands for the end.
    pub inserted: Vec<(usize, Range<usize>)>,
}

/// More edits than this between the first and the last changed item make it another list.
const MOST_EDITS: usize = 500;

/// How a list of `old` items became one of `new`, by the fewest removals and insertions. Items between two kept ones
/// stand for one another in order; a stretch that kept its length was changed in place. `None`: it is another list.
///
/// `same` tells whether an old item and a new one are the same; the first `known` items are.
///
/// # Errors
/// What `same` gives.
pub fn edits<E>(
    old: usize,
    new: usize,
    known: usize,
    mut same: impl FnMut(usize, usize) -> Result<bool, E>,
    mut kin: impl FnMut(usize) -> Result<bool, E>,
) -> Result<Option<Edits>, E> {
    let shortest = old.min(new);
    let mut prefix = known.min(shortest);
    while prefix < shortest && same(prefix, prefix)? {
        prefix += 1;
    }
    let mut suffix = 0;
    while suffix < shortest - prefix && same(old - 1 - suffix, new - 1 - suffix)? {
        suffix += 1;
    }
    let (old_end, new_end) = (old - suffix, new - suffix);
    let mut edits = Edits::default();
    if old == new {
        for place in prefix..old_end {
            if !same(place, place)? {
                edits.changed.push((place, Edit::Replace(place)));
            }
        }
        return Ok(Some(edits));
    }
    let shifted = |old: usize, new: usize| same(prefix + old, prefix + new);
    let Some(kept) = common_items(old_end - prefix, new_end - prefix, shifted)? else {
        return Ok(None);
    };
    if kept.is_empty() && prefix + suffix == 0 && shortest > 0 {
        let mut place = 0;
        while !kin(place)? {
            place += 1;
            if place == shortest {
                return Ok(None);
            }
        }
    }
    let (mut from_old, mut from_new) = (prefix, prefix);
    for (kept_old, kept_new) in kept
        .into_iter()
        .map(|(old, new)| (prefix + old, prefix + new))
        .chain([(old_end, new_end)])
    {
        edits.stretch(from_old..kept_old, from_new..kept_new);
        (from_old, from_new) = (kept_old + 1, kept_new + 1);
    }
    Ok(Some(edits))
}

impl Edits {
    /// Records a stretch in which no item was kept.
    fn stretch(&mut self, old: Range<usize>, new: Range<usize>) {
        let end = old.end;
        let mut replacements = new;
        for place in old {
            let edit = replacements.next().map_or(Edit::Remove, Edit::Replace);
            self.changed.push((place, edit));
        }
        if !replacements.is_empty() {
            self.inserted.push((end, replacements));
        }
    }
}

/// Places of a longest common subsequence, found in Myers' way: all that can be reached by so many edits, then by one
/// more. `None`: more edits than are looked for.
fn common_items<E>(
    old: usize,
    new: usize,
    mut same: impl FnMut(usize, usize) -> Result<bool, E>,
) -> Result<Option<Vec<(usize, usize)>>, E> {
    if old == 0 || new == 0 {
        return Ok(Some(Vec::new()));
    }
    let most = (old + new).min(MOST_EDITS);
    // How far along the old list each diagonal was followed; diagonal k, at most `most` off, is at `most + k`. A diagonal
    // is the place in the old list less that in the new one.
    let mut reached = vec![0; 2 * most + 2];
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for edits in 0..=most {
        rounds.push(reached[most - edits..=most + edits].to_vec());
        for diagonal in (most - edits..=most + edits).step_by(2) {
            let inserts = diagonal == most - edits
                || diagonal != most + edits && reached[diagonal - 1] < reached[diagonal + 1];
            let mut at = if inserts {
                reached[diagonal + 1]
            } else {
                reached[diagonal - 1] + 1
            };
            // Below the first item of the new list no diagonal is ever followed.
            let Some(mut other) = (at + most).checked_sub(diagonal) else {
                continue;
            };
            while at < old && other < new && same(at, other)? {
                (at, other) = (at + 1, other + 1);
            }
            reached[diagonal] = at;
            if at >= old && other >= new {
                return Ok(Some(followed_back(&rounds, old, new)));
            }
        }
    }
    Ok(None)
}

/// The kept items on the way that led to the end of both lists.
fn followed_back(rounds: &[Vec<usize>], old: usize, new: usize) -> Vec<(usize, usize)> {
    let mut kept = Vec::new();
    let (mut at, mut other) = (old, new);
    for (edits, reached) in rounds.iter().enumerate().rev() {
        // Where the last edit of this round began; `reached` holds the diagonals from `-edits` on.
        let middle = edits + at - other;
        let (from, from_other) = if edits == 0 {
            (0, 0)
        } else {
            let inserts = middle == 0 || middle != 2 * edits && reached[middle - 1] < reached[middle + 1];
            let diagonal = if inserts { middle + 1 } else { middle - 1 };
            let from = reached[diagonal];
            (from, from + edits - diagonal)
        };
        while at > from && other > from_other {
            (at, other) = (at - 1, other - 1);
            kept.push((at, other));
        }
        (at, other) = (from, from_other);
    }
    kept.reverse();
    kept
}
