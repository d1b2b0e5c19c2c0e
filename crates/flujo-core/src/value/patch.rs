//! How one value became another, so that what is written of a change grows with the change.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Map, Value};

/// Values nested deeper than this are taken whole.
const DEEPEST: usize = 64;
/// Shorter texts are taken whole.
const SHORT: usize = 64;

/// How one value became another. See [`Patch::between`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Patch {
    /// It is this one now.
    Whole(Value),
    /// A text of which the first and the last bytes stayed.
    Text {
        /// How many bytes stayed at the front.
        front: usize,
        /// How many stayed at the back.
        back: usize,
        /// What is between them now.
        middle: Arc<str>,
    },
    /// A list of which the first and the last items stayed.
    List {
        /// How many items stayed at the front.
        front: usize,
        /// How many stayed at the back.
        back: usize,
        /// The items between them now: changes of the ones that were there when there are as many, else new ones.
        middle: Vec<Patch>,
    },
    /// A map whose entries stayed in their order, but for these.
    Map {
        /// Entries that are gone.
        gone: Vec<Arc<str>>,
        /// Entries that changed in place, and behind them the new ones in their order.
        set: Vec<(Arc<str>, Patch)>,
    },
}

impl Patch {
    /// How `old` became `new`; `None` when they are equal. Its size grows with the difference, its cost with the sizes of
    /// what isn't shared by both.
    pub fn between(old: &Value, new: &Value) -> Option<Self> {
        between(old, new, 0)
    }

    /// The value that `old` became.
    ///
    /// # Errors
    /// What doesn't fit, when the patch was made from another value.
    pub fn apply(self, old: &Value) -> Result<Value, String> {
        let misfit = |wanted: &str| format!("a change of a {wanted} doesn't fit a {}", old.kind());
        match self {
            Self::Whole(value) => Ok(value),
            Self::Text { front, back, middle } => {
                let Value::Str(text) = old else {
                    return Err(misfit("text"));
                };
                let rest = text.len().checked_sub(back);
                match (text.get(..front), rest.and_then(|rest| text.get(rest..))) {
                    (Some(front), Some(back)) => Ok(Value::Str([front, &middle, back].concat().into())),
                    _ => Err(misfit("longer text")),
                }
            }
            Self::List { front, back, middle } => {
                let Value::List(items) = old else {
                    return Err(misfit("list"));
                };
                let rest = items.len().checked_sub(back).filter(|rest| *rest >= front);
                let Some(rest) = rest else {
                    return Err(misfit("longer list"));
                };
                let changed = &items[front..rest];
                let in_place = changed.len() == middle.len();
                let mut list = Vec::with_capacity(front + middle.len() + back);
                list.extend_from_slice(&items[..front]);
                for (place, patch) in middle.into_iter().enumerate() {
                    let old = if in_place { &changed[place] } else { &Value::Null };
                    list.push(patch.apply(old)?);
                }
                list.extend_from_slice(&items[rest..]);
                Ok(Value::List(Arc::new(list)))
            }
            Self::Map { gone, set } => {
                let Value::Map(entries) = old else {
                    return Err(misfit("map"));
                };
                let mut map: Map = entries
                    .iter()
                    .filter(|(key, _)| !gone.contains(key))
                    .cloned()
                    .collect();
                let mut at = 0;
                for (key, patch) in set {
                    if let Some(found) = map[at..].iter().position(|(known, _)| *known == key) {
                        let value = &mut map[at + found].1;
                        *value = patch.apply(value)?;
                        at += found + 1;
                    } else {
                        map.push((key, patch.apply(&Value::Null)?));
                        at = map.len();
                    }
                }
                Ok(Value::Map(Arc::new(map)))
            }
        }
    }
}

type Entry = (Arc<str>, Value);

/// Whether both are the same without a look inside.
fn shared(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Str(old), Value::Str(new)) => Arc::ptr_eq(old, new),
        (Value::Bytes(old), Value::Bytes(new)) => Arc::ptr_eq(old, new),
        (Value::List(old), Value::List(new)) => Arc::ptr_eq(old, new),
        (Value::Map(old), Value::Map(new)) => Arc::ptr_eq(old, new),
        (Value::Opaque(old), Value::Opaque(new)) => old.same_object(new),
        _ => false,
    }
}

/// Whether they are equal and of the same type, all the way down: 1 and 1.0 aren't, NaN and NaN are.
fn same(old: &Value, new: &Value, depth: usize) -> bool {
    if shared(old, new) {
        return true;
    }
    if depth > DEEPEST {
        return false;
    }
    match (old, new) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(old), Value::Bool(new)) => old == new,
        (Value::Int(old), Value::Int(new)) => old == new,
        (Value::Float(old), Value::Float(new)) => old.to_bits() == new.to_bits(),
        (Value::Str(old), Value::Str(new)) => old == new,
        (Value::Bytes(old), Value::Bytes(new)) => old == new,
        (Value::List(old), Value::List(new)) => {
            old.len() == new.len() && old.iter().zip(&**new).all(|(old, new)| same(old, new, depth + 1))
        }
        (Value::Map(old), Value::Map(new)) => {
            let entry = |(old, new): (&Entry, &Entry)| old.0 == new.0 && same(&old.1, &new.1, depth + 1);
            old.len() == new.len() && old.iter().zip(&**new).all(entry)
        }
        (Value::Opaque(_), Value::Opaque(_)) => old == new,
        _ => false,
    }
}

fn between(old: &Value, new: &Value, depth: usize) -> Option<Patch> {
    if shared(old, new) {
        return None;
    }
    match (old, new) {
        _ if depth > DEEPEST => Some(Patch::Whole(new.clone())),
        (Value::Str(old), Value::Str(new)) => text(old, new),
        (Value::List(old), Value::List(new)) => list(old, new, depth),
        (Value::Map(old), Value::Map(new)) => map(old, new, depth),
        _ => (!same(old, new, depth)).then(|| Patch::Whole(new.clone())),
    }
}

fn text(old: &Arc<str>, new: &Arc<str>) -> Option<Patch> {
    if old == new {
        return None;
    }
    let shortest = old.len().min(new.len());
    let (ones, others) = (old.as_bytes(), new.as_bytes());
    let mut front = ones
        .iter()
        .zip(others)
        .take_while(|(one, other)| one == other)
        .count();
    while !(old.is_char_boundary(front) && new.is_char_boundary(front)) {
        front -= 1;
    }
    let rest = ones.iter().rev().zip(others.iter().rev()).take(shortest - front);
    let mut back = rest.take_while(|(one, other)| one == other).count();
    while !(old.is_char_boundary(old.len() - back) && new.is_char_boundary(new.len() - back)) {
        back -= 1;
    }
    if front + back < SHORT {
        return Some(Patch::Whole(Value::Str(Arc::clone(new))));
    }
    let middle = Arc::from(&new[front..new.len() - back]);
    Some(Patch::Text { front, back, middle })
}

fn list(old: &[Value], new: &[Value], depth: usize) -> Option<Patch> {
    let shortest = old.len().min(new.len());
    let equal = |(one, other): &(&Value, &Value)| same(one, other, depth + 1);
    let front = old.iter().zip(new).take_while(equal).count();
    if front == old.len() && front == new.len() {
        return None;
    }
    let rest = old.iter().rev().zip(new.iter().rev()).take(shortest - front);
    let back = rest.take_while(equal).count();
    let (old, new) = (&old[front..old.len() - back], &new[front..new.len() - back]);
    let in_place = old.len() == new.len();
    let change = |(place, new): (usize, &Value)| {
        let patch = in_place.then(|| between(&old[place], new, depth + 1)).flatten();
        patch.unwrap_or_else(|| Patch::Whole(new.clone()))
    };
    let middle = new.iter().enumerate().map(change).collect();
    Some(Patch::List { front, back, middle })
}

fn map(old: &Arc<Map>, new: &Arc<Map>, depth: usize) -> Option<Patch> {
    let whole = || Some(Patch::Whole(Value::Map(Arc::clone(new))));
    let keys: HashSet<&str> = new.iter().map(|(key, _)| &**key).collect();
    let (kept, gone): (Vec<_>, Vec<_>) = old.iter().partition(|(key, _)| keys.contains(&**key));
    let in_order = kept.iter().zip(&**new).all(|(kept, new)| kept.0 == new.0);
    if keys.len() != new.len() || !in_order || kept.len() > new.len() {
        return whole();
    }
    let mut set = Vec::new();
    for ((_, old), (key, new)) in kept.iter().zip(&**new) {
        set.extend(between(old, new, depth + 1).map(|patch| (Arc::clone(key), patch)));
    }
    let added = new[kept.len()..].iter();
    set.extend(added.map(|(key, new)| (Arc::clone(key), Patch::Whole(new.clone()))));
    let gone: Vec<Arc<str>> = gone.into_iter().map(|(key, _)| Arc::clone(key)).collect();
    (!set.is_empty() || !gone.is_empty()).then_some(Patch::Map { gone, set })
}

#[cfg(test)]
mod tests;
