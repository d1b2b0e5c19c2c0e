//! Three-way merge of the contexts of branches against the context they were forked from, by path. A value that a
//! branch left as it was is never a write. Nothing depends on a field's name or on timing, only on the declared order.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};

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

/// How concurrent writes to one field combine, whatever the strategy. A field that one branch alone wrote takes its
/// value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeRule {
    /// The number at the fork plus each branch's difference to it.
    Sum,
    /// The largest of the numbers written.
    Max,
    /// The smallest of the numbers written.
    Min,
    /// Every item or entry that some branch has, once; the items at the fork first, then in declared order.
    Union,
    /// The list or text at the fork, then what each branch appended, in declared order.
    Append,
    /// What the first declared branch wrote.
    First,
    /// What the last declared branch wrote.
    Last,
}

/// Branches wrote what cannot be combined.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeConflict {
    /// Where, as a path into the context: `report.items[0]`.
    pub path: String,
    /// The branches that wrote it, in declared order, with what they wrote; `None` for one that removed it.
    pub writes: Vec<(Arc<str>, Option<Value>)>,
    /// Why the writes cannot be combined.
    pub reason: &'static str,
}

impl fmt::Display for MergeConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "branches cannot be merged at `{}`: ", self.path)?;
        for (place, (branch, value)) in self.writes.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            match value {
                Some(value) => write!(f, "{comma}`{branch}` wrote {}", Excerpt(value))?,
                None => write!(f, "{comma}`{branch}` removed it")?,
            }
        }
        write!(
            f,
            "; {}. Give the field a merge rule, choose another merge strategy, or let one branch write it",
            self.reason
        )
    }
}

impl std::error::Error for MergeConflict {}

/// A value in at most some sixty characters.
struct Excerpt<'a>(&'a Value);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:?}", self.0);
        match text.char_indices().nth(60) {
            Some((end, _)) => write!(f, "{}…", &text[..end]),
            None => f.write_str(&text),
        }
    }
}

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
        let mut merged = self.clone();
        if strategy == MergeStrategy::NoMerge {
            return Ok(merged);
        }
        let mut fields: BTreeMap<&Arc<str>, Vec<Write<'_>>> = BTreeMap::new();
        for (branch, (_, context)) in branches.iter().enumerate() {
            if self.same(context) {
                continue;
            }
            for change in self.fields.diff(&context.fields) {
                let (field, value) = match change {
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
        for (field, writes) in fields {
            let base = self.get(field);
            let rule = self.rules.as_ref().and_then(|rules| rules.get(field));
            let mut path = field.to_string();
            let value = match (rule, writes.as_slice()) {
                (Some(rule), [_, _, ..]) => merge.by_rule(*rule, &path, base, &writes)?,
                _ => merge.place(&mut path, base, &writes)?,
            };
            match value {
                Some(value) => merged.set(Arc::clone(field), value),
                None => drop(merged.remove(field)),
            }
        }
        Ok(merged)
    }
}

struct Merge<'a> {
    branches: &'a [(Arc<str>, &'a Context)],
    strategy: MergeStrategy,
}

impl Merge<'_> {
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
        if let Some((base, lists)) = longer_lists(base, writes) {
            return self.lists(path, base, &lists);
        }
        // Only now: two branches that appended the same to a list have both appended it.
        if self.strategy != MergeStrategy::ErrorOnConflict && rest.iter().all(|(_, value)| value == first) {
            return Ok(first.cloned());
        }
        match self.strategy {
            MergeStrategy::Overwrite => Ok(writes.last().and_then(|(_, value)| value.cloned())),
            MergeStrategy::KeepFirst => Ok(first.cloned()),
            MergeStrategy::ErrorOnConflict => Err(self.conflict(path, writes, "both wrote it")),
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
        let known = by_name(base);
        let branches: Vec<BTreeMap<&str, &Value>> = maps.iter().map(|(_, map)| by_name(map)).collect();
        let mut names: Vec<&Arc<str>> = base.iter().map(|(name, _)| name).collect();
        let mut new = std::collections::BTreeSet::new();
        for (name, _) in maps.iter().flat_map(|(_, map)| map.iter()) {
            if !known.contains_key(&**name) && new.insert(&**name) {
                names.push(name);
            }
        }
        let mut merged = Map::with_capacity(names.len());
        let depth = path.len();
        for name in names {
            let before = known.get(&**name).copied();
            let entries = maps.iter().zip(&branches);
            let writes: Vec<Write<'_>> = entries
                .map(|((branch, _), entries)| (*branch, entries.get(&**name).copied()))
                .filter(|(_, value)| *value != before)
                .collect();
            path.push('.');
            path.push_str(name);
            if let Some(value) = self.place(path, before, &writes)? {
                merged.push((Arc::clone(name), value));
            }
            path.truncate(depth);
        }
        Ok(Some(Value::Map(Arc::new(merged))))
    }

    /// Item by item as far as the list went at the fork, then what was appended.
    fn lists(
        &self,
        path: &mut String,
        base: &[Value],
        lists: &[(usize, &[Value])],
    ) -> Result<Option<Value>, MergeConflict> {
        let mut merged = Vec::with_capacity(base.len());
        let depth = path.len();
        for (index, before) in base.iter().enumerate() {
            let writes: Vec<Write<'_>> = lists
                .iter()
                .map(|(branch, list)| (*branch, list.get(index)))
                .filter(|(_, value)| *value != Some(before))
                .collect();
            let _ = write!(path, "[{index}]"); // writing to a string cannot fail
            merged.extend(self.place(path, Some(before), &writes)?);
            path.truncate(depth);
        }
        let appended: Vec<(usize, &[Value])> = lists
            .iter()
            .map(|(branch, list)| (*branch, &list[base.len()..]))
            .filter(|(_, tail)| !tail.is_empty())
            .collect();
        match self.strategy {
            MergeStrategy::Overwrite => {
                merged.extend(appended.last().iter().flat_map(|(_, tail)| tail.iter().cloned()));
            }
            MergeStrategy::KeepFirst => {
                merged.extend(appended.first().iter().flat_map(|(_, tail)| tail.iter().cloned()));
            }
            MergeStrategy::ErrorOnConflict if appended.len() > 1 => {
                let tails: Vec<(usize, Value)> = appended
                    .iter()
                    .map(|(branch, tail)| (*branch, Value::list(tail.iter().cloned())))
                    .collect();
                let writes: Vec<Write<'_>> =
                    tails.iter().map(|(branch, tail)| (*branch, Some(tail))).collect();
                return Err(self.conflict(path, &writes, "both appended to it"));
            }
            _ => merged.extend(appended.iter().flat_map(|(_, tail)| tail.iter().cloned())),
        }
        Ok(Some(Value::List(Arc::new(merged))))
    }

    fn by_rule(
        &self,
        rule: MergeRule,
        path: &str,
        base: Option<&Value>,
        writes: &[Write<'_>],
    ) -> Result<Option<Value>, MergeConflict> {
        let conflict = |reason| self.conflict(path, writes, reason);
        let values: Option<Vec<&Value>> = writes.iter().map(|(_, value)| *value).collect();
        match rule {
            MergeRule::First => return Ok(writes.first().and_then(|(_, value)| value.cloned())),
            MergeRule::Last => return Ok(writes.last().and_then(|(_, value)| value.cloned())),
            _ => {}
        }
        let values = values.ok_or_else(|| conflict("a removed field cannot be combined"))?;
        let combined = match rule {
            MergeRule::Sum => sum(base, &values).map_err(conflict)?,
            MergeRule::Max => extreme(&values, std::cmp::Ordering::Greater).map_err(conflict)?,
            MergeRule::Min => extreme(&values, std::cmp::Ordering::Less).map_err(conflict)?,
            MergeRule::Union => union(base, &values).map_err(conflict)?,
            _ => append(base, &values).map_err(conflict)?,
        };
        Ok(Some(combined))
    }

    fn conflict(&self, path: &str, writes: &[Write<'_>], reason: &'static str) -> MergeConflict {
        let name = |branch: usize| self.branches.get(branch).map(|(name, _)| Arc::clone(name));
        MergeConflict {
            path: path.to_owned(),
            writes: writes
                .iter()
                .map(|(branch, value)| (name(*branch).unwrap_or_default(), value.cloned()))
                .collect(),
            reason,
        }
    }
}

fn by_name(map: &Map) -> BTreeMap<&str, &Value> {
    map.iter().map(|(name, value)| (&**name, value)).collect()
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

/// The fork's list and the branches' lists, when none of them is shorter.
fn longer_lists<'a>(
    base: Option<&'a Value>,
    writes: &[Write<'a>],
) -> Option<(&'a [Value], Alike<'a, [Value]>)> {
    let base = base?.as_list()?;
    let lists: Option<Vec<_>> = writes
        .iter()
        .map(|(branch, value)| Some((*branch, value.as_ref()?.as_list()?)))
        .collect();
    let lists = lists?;
    lists
        .iter()
        .all(|(_, list)| list.len() >= base.len())
        .then_some((base, lists))
}

const NOT_NUMBERS: &str = "the rule needs numbers of one kind, all integers or all floats";

fn sum(base: Option<&Value>, values: &[&Value]) -> Result<Value, &'static str> {
    match (base, values.first()) {
        (None | Some(Value::Null | Value::Int(_)), Some(Value::Int(_))) => {
            let base = base.and_then(Value::as_int).unwrap_or(0);
            let mut total = i128::from(base);
            for value in values {
                total += i128::from(value.as_int().ok_or(NOT_NUMBERS)?) - i128::from(base);
            }
            let total = i64::try_from(total).map_err(|_| "the sum does not fit a 64-bit integer")?;
            Ok(Value::Int(total))
        }
        (None | Some(Value::Null | Value::Float(_)), Some(Value::Float(_))) => {
            let base = match base {
                Some(Value::Float(base)) => *base,
                _ => 0.0,
            };
            let mut total = base;
            for value in values {
                let Value::Float(value) = value else {
                    return Err(NOT_NUMBERS);
                };
                total += value - base;
            }
            Ok(Value::Float(total))
        }
        _ => Err(NOT_NUMBERS),
    }
}

fn extreme(values: &[&Value], wanted: std::cmp::Ordering) -> Result<Value, &'static str> {
    let mut best: Option<&Value> = None;
    for value in values {
        let order = match (*value, best) {
            (Value::Int(_), None) => wanted,
            (Value::Float(number), None) if !number.is_nan() => wanted,
            (Value::Int(a), Some(Value::Int(b))) => a.cmp(b),
            (Value::Float(a), Some(Value::Float(b))) => a.partial_cmp(b).ok_or(NOT_NUMBERS)?,
            _ => return Err(NOT_NUMBERS),
        };
        if order == wanted {
            best = Some(value);
        }
    }
    best.cloned().ok_or(NOT_NUMBERS)
}

fn union(base: Option<&Value>, values: &[&Value]) -> Result<Value, &'static str> {
    if values.iter().all(|value| value.as_list().is_some()) {
        let mut items: Vec<Value> = Vec::new();
        let kept = base.and_then(Value::as_list).unwrap_or_default();
        let kept = kept.iter().filter(|item| {
            values
                .iter()
                .any(|value| value.as_list().is_some_and(|list| list.contains(item)))
        });
        let written = values.iter().filter_map(|value| value.as_list()).flatten();
        for item in kept.chain(written) {
            if !items.contains(item) {
                items.push(item.clone());
            }
        }
        return Ok(Value::List(Arc::new(items)));
    }
    let mut entries = Map::new();
    let before = base.and_then(Value::as_map).map(by_name).unwrap_or_default();
    for (name, value) in values
        .iter()
        .map(|value| value.as_map().ok_or("the rule needs lists or maps"))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
    {
        match entries.iter_mut().find(|(known, _)| known == name) {
            None => entries.push((Arc::clone(name), value.clone())),
            Some((_, known)) if known == value => {}
            Some((_, known)) if before.get(&**name) == Some(&&*known) => *known = value.clone(),
            Some(_) if before.get(&**name) == Some(&value) => {}
            Some(_) => return Err("the maps hold different values under one name"),
        }
    }
    Ok(Value::Map(Arc::new(entries)))
}

fn append(base: Option<&Value>, values: &[&Value]) -> Result<Value, &'static str> {
    const NOT_APPENDED: &str = "the rule needs lists or texts to which something was appended";
    if values.iter().all(|value| value.as_list().is_some()) {
        let base = base.and_then(Value::as_list).unwrap_or_default();
        let mut items = base.to_vec();
        for list in values.iter().filter_map(|value| value.as_list()) {
            let tail = list.strip_prefix(base).ok_or(NOT_APPENDED)?;
            items.extend_from_slice(tail);
        }
        return Ok(Value::List(Arc::new(items)));
    }
    let base = base.and_then(Value::as_str).unwrap_or_default();
    let mut text = base.to_owned();
    for value in values {
        let tail = value.as_str().and_then(|text| text.strip_prefix(base));
        text.push_str(tail.ok_or(NOT_APPENDED)?);
    }
    Ok(Value::from(text))
}
