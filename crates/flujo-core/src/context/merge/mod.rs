//! Three-way merge of the contexts of branches against the context they were forked from, by path. A value that a
//! branch left as it was is never a write. Nothing depends on a field's name or on timing, only on the declared order.

mod conflict;
mod lists;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};

pub use conflict::MergeConflict;
pub use rules::{FieldCheck, MergeFunction, MergeRule, MergeRules};

use super::Context;
use crate::value::{Map, Value};

/// What is done when branches wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeStrategy {
    /// Writes to different paths combine, appends to one list follow one another in declared order, equal values are
    /// no conflict; anything else is one.
    #[default]
    ContextUpdate,
    /// The last declared branch that wrote a path decides it.
    Overwrite,
    /// The first declared branch that wrote a path decides it.
    KeepFirst,
    /// Any path that two branches wrote is a conflict, whatever they wrote.
    ErrorOnConflict,
    /// What the branches wrote is dropped.
    NoMerge,
}

/// One entry of a map.
type Entry = (Arc<str>, Value);
/// What one branch left at a place: `None` when it removed it.
type Write<'a> = (usize, Option<&'a Value>);
/// What branches left at one place, where all of them left the same kind of thing.
type Alike<'a, T> = Vec<(usize, &'a T)>;

impl Context {
    /// The context at the fork (`self`) with what the branches wrote, in declared order.
    ///
    /// # Errors
    /// [`MergeConflict`] names the path, the branches and the values that cannot be combined.
    pub fn merge(
        &self,
        branches: &[(Arc<str>, &Context)],
        strategy: MergeStrategy,
    ) -> Result<Context, MergeConflict> {
        if strategy == MergeStrategy::NoMerge {
            return Ok(self.clone());
        }
        let mut writers = branches
            .iter()
            .enumerate()
            .filter(|(_, (_, context))| !self.same(context));
        let (first, second) = (writers.next(), writers.next());
        match (first, second) {
            (None, _) => return Ok(self.clone()),
            // Who wrote alone is right, and shares everything with the fork already.
            (Some((_, (_, only))), None) => return Ok(self.with_fields_of(only)),
            _ => {}
        }
        let mut fields: BTreeMap<&Arc<str>, Vec<Write<'_>>> = BTreeMap::new();
        for (branch, (_, context)) in first.into_iter().chain(second).chain(writers) {
            for change in self.fields.diff(&context.fields) {
                let (field, value) = match change {
                    DiffItem::Update {
                        old: (_, before),
                        new: (_, value),
                    } if same(before, value) => continue,
                    DiffItem::Add(field, value)
                    | DiffItem::Update {
                        new: (field, value), ..
                    } => (field, Some(value)),
                    DiffItem::Remove(field, _) => (field, None),
                };
                fields.entry(field).or_default().push((branch, value));
            }
        }
        let merge = Merge { branches, strategy };
        let mut merged = self.clone();
        for (field, writes) in fields {
            match merge.field(self, field, &writes)? {
                Some(value) => merged.set(Arc::clone(field), value),
                None => drop(merged.remove(field)),
            }
        }
        Ok(merged)
    }

    fn with_fields_of(&self, branch: &Self) -> Self {
        Self {
            fields: branch.fields.clone(),
            beside: self.beside.clone(),
        }
    }
}

struct Merge<'a> {
    branches: &'a [(Arc<str>, &'a Context)],
    strategy: MergeStrategy,
}

impl Merge<'_> {
    /// What becomes of one field that some branch wrote.
    fn field(
        &self,
        base: &Context,
        field: &str,
        writes: &[Write<'_>],
    ) -> Result<Option<Value>, MergeConflict> {
        let before = base.fields.get(field);
        let mut path = field.to_owned();
        if writes.len() == 1 {
            return self.place(&mut path, before, writes);
        }
        let rules = base.rules().map(AsRef::as_ref);
        let value = match rules.and_then(|rules| rules.of(field)) {
            Some(rule) => self.by_rule(rule, field, before, writes)?,
            None => self.place(&mut path, before, writes)?,
        };
        // A value that no branch has had must be one that the field can hold.
        if let (Some(value), Some(rules)) = (&value, rules) {
            rules
                .check(field, value)
                .map_err(|reason| self.conflict(field, writes, reason))?;
        }
        Ok(value)
    }

    /// What becomes of one place that the given branches changed.
    fn place(
        &self,
        path: &mut String,
        base: Option<&Value>,
        writes: &[Write<'_>],
    ) -> Result<Option<Value>, MergeConflict> {
        let (first, rest) = match writes {
            [] => return Ok(base.cloned()),
            [(_, only)] => return Ok(only.cloned()),
            [(_, first), rest @ ..] => (first, rest),
        };
        if let Some((base, maps)) = all_maps(base, writes) {
            return self.maps(path, base, &maps);
        }
        if let Some((base, lists)) = all_lists(base, writes)
            && let Some(merged) = self.lists(path, base, &lists)?
        {
            return Ok(Some(merged));
        }
        // Only now: two branches that appended the same to a list have both appended it.
        if self.strategy != MergeStrategy::ErrorOnConflict
            && rest.iter().all(|(_, value)| same_value(*first, *value))
        {
            return Ok(first.cloned());
        }
        match self.strategy {
            MergeStrategy::Overwrite => Ok(writes.last().and_then(|(_, value)| value.cloned())),
            MergeStrategy::KeepFirst => Ok(first.cloned()),
            MergeStrategy::ErrorOnConflict => Err(self.conflict(path, writes, "several wrote it")),
            MergeStrategy::ContextUpdate | MergeStrategy::NoMerge => {
                Err(self.conflict(path, writes, "the values differ"))
            }
        }
    }

    /// Entry by entry: those of the fork in their order, then new ones in declared order.
    fn maps(
        &self,
        path: &mut String,
        base: &Map,
        maps: &[(usize, &Map)],
    ) -> Result<Option<Value>, MergeConflict> {
        let mut written: HashMap<&str, Vec<Write<'_>>> = HashMap::new();
        let mut new = Vec::new();
        for (branch, map) in maps {
            for (name, value, is_new) in changes(base, map) {
                let writes = written.entry(name).or_default();
                if is_new && writes.is_empty() {
                    new.push(name);
                }
                writes.push((*branch, value));
            }
        }
        let mut merged = Map::with_capacity(base.len() + new.len());
        let depth = path.len();
        let known = base.iter().map(|(name, value)| (name, Some(value)));
        for (name, before) in known.chain(new.into_iter().map(|name| (name, None))) {
            let Some(writes) = written.get(&**name) else {
                merged.extend(before.map(|before| (Arc::clone(name), before.clone())));
                continue;
            };
            path.push('.');
            path.push_str(name);
            if let Some(value) = self.place(path, before, writes)? {
                merged.push((Arc::clone(name), value));
            }
            path.truncate(depth);
        }
        Ok(Some(Value::Map(Arc::new(merged))))
    }
}

/// What a branch did to the entries of a map, and whether an entry is new.
fn changes<'a>(base: &'a Map, map: &'a Map) -> Vec<(&'a Arc<str>, Option<&'a Value>, bool)> {
    let named = |((left, _), (right, _)): (&Entry, &Entry)| Arc::ptr_eq(left, right) || left == right;
    if base.len() <= map.len() && base.iter().zip(map).all(named) {
        let kept = base.iter().zip(map);
        let changed = kept
            .filter(|((_, before), (_, after))| !same(before, after))
            .map(|((name, _), (_, after))| (name, Some(after), false));
        let new = map[base.len()..]
            .iter()
            .map(|(name, value)| (name, Some(value), true));
        return changed.chain(new).collect();
    }
    let (before, after) = (by_name(base), by_name(map));
    let removed = base
        .iter()
        .filter(|(name, _)| !after.contains_key(&**name))
        .map(|(name, _)| (name, None, false));
    let written = map.iter().filter_map(|(name, value)| match before.get(&**name) {
        Some(before) => (!same(before, value)).then_some((name, Some(value), false)),
        None => Some((name, Some(value), true)),
    });
    removed.chain(written).collect()
}

fn by_name(map: &Map) -> HashMap<&str, &Value> {
    map.iter().map(|(name, value)| (&**name, value)).collect()
}

/// Whether both are the same state: what is shared needs no look, and what is no number is the same as itself.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::List(left), Value::List(right)) => {
            Arc::ptr_eq(left, right)
                || left.len() == right.len()
                    && left.iter().zip(&**right).all(|(left, right)| same(left, right))
        }
        (Value::Map(left), Value::Map(right)) => {
            let entry = |((left_name, left), (right_name, right)): (&Entry, &Entry)| {
                left_name == right_name && same(left, right)
            };
            Arc::ptr_eq(left, right) || left.len() == right.len() && left.iter().zip(&**right).all(entry)
        }
        (Value::Float(left), Value::Float(right)) => left.total_cmp(right).is_eq(),
        (Value::Str(left), Value::Str(right)) => Arc::ptr_eq(left, right) || left == right,
        _ => left == right,
    }
}

fn same_value(left: Option<&Value>, right: Option<&Value>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => same(left, right),
        (left, right) => left.is_none() && right.is_none(),
    }
}

static NO_ENTRIES: Map = Map::new();

/// The fork's and the branches' maps; a place that did not exist is an empty map.
fn all_maps<'a>(base: Option<&'a Value>, writes: &[Write<'a>]) -> Option<(&'a Map, Alike<'a, Map>)> {
    let base = base.map_or(Some(&NO_ENTRIES), Value::as_map)?;
    let maps: Option<Vec<_>> = writes
        .iter()
        .map(|(branch, value)| Some((*branch, value.as_ref()?.as_map()?)))
        .collect();
    Some((base, maps?))
}

/// The fork's list and the branches' lists.
fn all_lists<'a>(base: Option<&'a Value>, writes: &[Write<'a>]) -> Option<(&'a [Value], Alike<'a, [Value]>)> {
    let base = base?.as_list()?;
    let lists: Option<Vec<_>> = writes
        .iter()
        .map(|(branch, value)| Some((*branch, value.as_ref()?.as_list()?)))
        .collect();
    Some((base, lists?))
}
