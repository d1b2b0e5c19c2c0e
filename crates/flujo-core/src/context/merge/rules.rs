//! Rules that fields declare: how what several branches wrote to a field becomes one value, whatever the strategy.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::{Merge, MergeConflict, Write, by_name};
use crate::value::{Map, Value};

/// Combines what was there at the fork with what branches wrote, in declared order; or says why it doesn't.
pub type MergeFunction = fn(base: Option<&Value>, values: &[&Value]) -> Result<Value, String>;

/// Whether a field can hold a value; `Err` says why not.
pub type FieldCheck = fn(field: &str, value: &Value) -> Result<(), String>;

/// How concurrent writes to one field combine, whatever the strategy. A field that one branch alone wrote takes its
/// value.
#[derive(Clone, Copy)]
pub enum MergeRule {
    /// The number at the fork plus each branch's difference to it.
    Sum,
    /// The largest of the number at the fork and those written; null at any place is left out.
    Max,
    /// The smallest of the number at the fork and those written; null at any place is left out.
    Min,
    /// The items or entries at the fork, then those that branches have beside them, once, in declared order. Nothing is
    /// removed; of different values under one key the last declared one counts.
    Union,
    /// The list or text at the fork, then what each branch appended, in declared order.
    Append,
    /// What the first declared branch wrote.
    First,
    /// What the last declared branch wrote.
    Last,
    /// What a function makes of them.
    With(MergeFunction),
}

impl fmt::Debug for MergeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sum => "Sum",
            Self::Max => "Max",
            Self::Min => "Min",
            Self::Union => "Union",
            Self::Append => "Append",
            Self::First => "First",
            Self::Last => "Last",
            Self::With(_) => "With",
        })
    }
}

/// The rules of a context's fields, and what its fields can hold.
#[derive(Debug, Clone, Default)]
pub struct MergeRules {
    by_field: BTreeMap<Arc<str>, MergeRule>,
    check: Option<FieldCheck>,
}

impl MergeRules {
    /// No rules: whatever branches write differently is a conflict.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same rules; merged values that `check` refuses are a conflict.
    #[must_use]
    pub fn with_check(mut self, check: FieldCheck) -> Self {
        self.check = Some(check);
        self
    }

    /// Whether nothing is ruled or checked.
    pub fn is_empty(&self) -> bool {
        self.by_field.is_empty() && self.check.is_none()
    }

    pub(super) fn of(&self, field: &str) -> Option<MergeRule> {
        self.by_field.get(field).copied()
    }

    pub(super) fn check(&self, field: &str, value: &Value) -> Result<(), String> {
        self.check.map_or(Ok(()), |check| check(field, value))
    }
}

impl FromIterator<(Arc<str>, MergeRule)> for MergeRules {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, MergeRule)>>(rules: I) -> Self {
        Self {
            by_field: rules.into_iter().collect(),
            check: None,
        }
    }
}

impl Merge<'_> {
    pub(super) fn by_rule(
        &self,
        rule: MergeRule,
        path: &str,
        base: Option<&Value>,
        writes: &[Write<'_>],
    ) -> Result<Option<Value>, MergeConflict> {
        match rule {
            MergeRule::First => return Ok(writes.first().and_then(|(_, value)| value.cloned())),
            MergeRule::Last => return Ok(writes.last().and_then(|(_, value)| value.cloned())),
            _ => {}
        }
        let conflict = |reason: Cow<'static, str>| self.conflict(path, writes, reason);
        let values: Option<Vec<&Value>> = writes.iter().map(|(_, value)| *value).collect();
        let values = values.ok_or_else(|| conflict("a removed field cannot be combined".into()))?;
        let combined = match rule {
            MergeRule::Sum => sum(base, &values).map_err(Cow::from),
            MergeRule::Max => extreme(base, &values, Ordering::Greater).map_err(Cow::from),
            MergeRule::Min => extreme(base, &values, Ordering::Less).map_err(Cow::from),
            MergeRule::Union => union(base, &values).map_err(Cow::from),
            MergeRule::With(function) => function(base, &values).map_err(Cow::from),
            _ => append(base, &values).map_err(Cow::from),
        };
        combined.map(Some).map_err(conflict)
    }
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

fn extreme(base: Option<&Value>, values: &[&Value], wanted: Ordering) -> Result<Value, &'static str> {
    let mut best: Option<&Value> = None;
    for value in base.into_iter().chain(values.iter().copied()) {
        let order = match (value, best) {
            (Value::Null, _) => continue,
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
    Ok(best.cloned().unwrap_or_default())
}

fn union(base: Option<&Value>, values: &[&Value]) -> Result<Value, &'static str> {
    if let Some(lists) = all(values, Value::as_list) {
        let mut items: Vec<Value> = Vec::new();
        let kept = base.and_then(Value::as_list).unwrap_or_default();
        for item in kept.iter().chain(lists.iter().copied().flatten()) {
            if !items.contains(item) {
                items.push(item.clone());
            }
        }
        return Ok(Value::List(Arc::new(items)));
    }
    let maps = all(values, Value::as_map).ok_or("the rule needs lists or maps")?;
    let mut entries: Map = base.and_then(Value::as_map).cloned().unwrap_or_default();
    let known = base.and_then(Value::as_map).map(by_name).unwrap_or_default();
    let mut places: HashMap<Arc<str>, usize> = entries
        .iter()
        .enumerate()
        .map(|(place, (name, _))| (Arc::clone(name), place))
        .collect();
    for (name, value) in maps.iter().copied().flatten() {
        match places.get(name) {
            // What a branch left as it was is no write.
            Some(_) if known.get(&**name) == Some(&value) => {}
            Some(place) => entries[*place].1 = value.clone(),
            None => {
                places.insert(Arc::clone(name), entries.len());
                entries.push((Arc::clone(name), value.clone()));
            }
        }
    }
    Ok(Value::Map(Arc::new(entries)))
}

fn append(base: Option<&Value>, values: &[&Value]) -> Result<Value, &'static str> {
    const NOT_APPENDED: &str = "the rule needs lists or texts to which something was appended";
    if let Some(lists) = all(values, Value::as_list) {
        let base = base.and_then(Value::as_list).unwrap_or_default();
        let mut items = base.to_vec();
        for list in lists {
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

/// The values, where all of them are of one kind.
fn all<'a, T: ?Sized>(values: &[&'a Value], kind: impl Fn(&'a Value) -> Option<&'a T>) -> Option<Vec<&'a T>> {
    values.iter().map(|value| kind(value)).collect()
}
