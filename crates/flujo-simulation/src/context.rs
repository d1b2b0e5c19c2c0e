//! The state of a run: named values, merged three-way when lanes join.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Object;
use crate::script::Write;

/// A field that no commit may change: a script that writes it makes its commit fail.
pub const SEALED: &str = "sealed";

/// Named values. Cloning shares; the first write after it copies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context(Arc<BTreeMap<String, Object>>);

impl<const N: usize> From<[(&str, Object); N]> for Context {
    fn from(fields: [(&str, Object); N]) -> Self {
        Self(Arc::new(
            fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        ))
    }
}

impl Context {
    /// A field's value.
    pub fn get(&self, field: &str) -> Option<&Object> {
        self.0.get(field)
    }

    /// All fields by name.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Object)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Does one write.
    pub fn write(&mut self, field: &str, write: &Write) {
        let fields = Arc::make_mut(&mut self.0);
        let before = fields.get(field).cloned().unwrap_or_default();
        let after = match (write, before) {
            (Write::Set(value), _) => value.clone(),
            (Write::Append(value), Object::List(mut values)) => {
                values.push(value.clone());
                Object::List(values)
            }
            (Write::Append(value), _) => Object::List(vec![value.clone()]),
            (Write::Add(number), before) => Object::Int(before.as_int().unwrap_or(0).wrapping_add(*number)),
        };
        fields.insert(field.to_owned(), after);
    }

    /// What `branches`, forks of `self` in declared order, have written, taken together: disjoint writes combine, both
    /// appended to one list give the appends in order, the same new value is no conflict.
    ///
    /// # Errors
    /// Names the field, the branches and their values when two branches disagree.
    pub fn merge<'a>(&self, branches: impl IntoIterator<Item = (&'a str, &'a Self)>) -> Result<Self, String> {
        let mut merged = self.clone();
        let mut writers: BTreeMap<&str, &str> = BTreeMap::new();
        for (branch, context) in branches {
            if Arc::ptr_eq(&self.0, &context.0) {
                continue;
            }
            let fields: BTreeSet<&String> = self.0.keys().chain(context.0.keys()).collect();
            for field in fields {
                let (base, own) = (self.get(field), context.get(field));
                if base == own {
                    continue;
                }
                let present = merged.get(field).cloned();
                let result = match (writers.get(field.as_str()), own) {
                    (None, own) => own.cloned(),
                    (Some(first), own) => match (appended(base, present.as_ref()), appended(base, own)) {
                        (Some(_), Some(added)) => Some(extended(present, added)),
                        _ if own == present.as_ref() => present,
                        _ => {
                            let (left, right) = (shown(present.as_ref()), shown(own));
                            return Err(format!(
                                "branches '{first}' and '{branch}' write different values to '{field}': {left} and {right} cannot both be kept"
                            ));
                        }
                    },
                };
                writers.entry(field).or_insert(branch);
                let merged = Arc::make_mut(&mut merged.0);
                match result {
                    Some(value) => merged.insert(field.clone(), value),
                    None => merged.remove(field),
                };
            }
        }
        Ok(merged)
    }
}

/// What was appended to the list `base` to make `value`; `None` when that is not how it was made.
fn appended<'a>(base: Option<&Object>, value: Option<&'a Object>) -> Option<&'a [Object]> {
    let Some(Object::List(values)) = value else {
        return None;
    };
    match base {
        Some(Object::List(before)) => values.strip_prefix(before.as_slice()),
        _ => None,
    }
}

fn extended(list: Option<Object>, added: &[Object]) -> Object {
    let mut values = match list {
        Some(Object::List(values)) => values,
        _ => Vec::new(),
    };
    values.extend_from_slice(added);
    Object::List(values)
}

fn shown(value: Option<&Object>) -> String {
    value.map_or_else(|| "nothing".to_owned(), ToString::to_string)
}
