//! YAML as a tree of nodes with positions.
//!
//! The tree is put together from the parser's events in a loop, so that neither deep nesting nor many aliases cost
//! more than the stated bounds.

mod builder;
mod scalar;

use std::collections::HashMap;
use std::sync::Arc;

use crate::position::Position;
use crate::problem::Reporter;
use crate::rule::Rule;
use builder::{Builder, Unreadable};
use flujo_core::value::Value;

/// The deepest nesting of lists and maps.
pub const MAX_DEPTH: usize = 128;

/// A value with its place in the file.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) position: Position,
    pub(crate) content: Content,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One entry of a map. Keys are text, whatever they were written as.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_position: Position,
    pub(crate) value: Node,
}

impl Node {
    /// Reads the only document in a file; reports syntax errors, duplicate keys and what goes beyond the bounds.
    pub(crate) fn read(reporter: &mut Reporter) -> Option<Self> {
        let source = Arc::clone(reporter.source());
        match Builder::default().build(source.text()) {
            Ok(node) => {
                node.report_duplicates(reporter);
                Some(node)
            }
            Err(Unreadable {
                rule,
                position,
                message,
                hint,
            }) => {
                match hint {
                    Some(hint) => reporter.report_with_hint(rule, position, message, hint),
                    None => reporter.report(rule, position, message),
                }
                None
            }
        }
    }

    pub(crate) fn as_map(&self) -> Option<&[Entry]> {
        match &self.content {
            Content::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[Node]> {
        match &self.content {
            Content::List(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(value) => value.as_str(),
            _ => None,
        }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        match &self.content {
            Content::Scalar(Value::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }

    pub(crate) fn as_int(&self) -> Option<i64> {
        match &self.content {
            Content::Scalar(value) => value.as_int(),
            _ => None,
        }
    }

    #[allow(clippy::cast_precision_loss)] // settings with a fraction are far below 2⁵³
    pub(crate) fn as_float(&self) -> Option<f64> {
        match &self.content {
            Content::Scalar(Value::Float(number)) => Some(*number),
            Content::Scalar(Value::Int(number)) => Some(*number as f64),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.content, Content::Scalar(Value::Null))
    }

    /// The value under `key`, when the node is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.as_map()?.iter().find(|entry| entry.key == key)
    }

    /// What kind of value this is, in YAML's words.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.content {
            Content::Scalar(Value::Null) => "nothing",
            Content::Scalar(Value::Bool(_)) => "true or false",
            Content::Scalar(Value::Int(_)) => "a whole number",
            Content::Scalar(Value::Float(_)) => "a number",
            Content::Scalar(_) => "text",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }

    /// The node as plain data.
    pub(crate) fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => Value::list(items.iter().map(Self::to_value)),
            Content::Map(entries) => Value::map(
                entries
                    .iter()
                    .map(|entry| (entry.key.as_str(), entry.value.to_value())),
            ),
        }
    }

    /// How many nodes there are in it, itself included.
    fn size(&self) -> usize {
        match &self.content {
            Content::Scalar(_) => 1,
            Content::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Content::Map(entries) => 1 + entries.iter().map(|entry| entry.value.size()).sum::<usize>(),
        }
    }

    /// How deeply lists and maps are nested in it.
    fn depth(&self) -> usize {
        match &self.content {
            Content::Scalar(_) => 0,
            Content::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Content::Map(entries) => 1 + entries.iter().map(|entry| entry.value.depth()).max().unwrap_or(0),
        }
    }

    fn report_duplicates(&self, reporter: &mut Reporter) {
        let mut waiting = vec![self];
        while let Some(node) = waiting.pop() {
            match &node.content {
                Content::Scalar(_) => {}
                Content::List(items) => waiting.extend(items),
                Content::Map(entries) => {
                    let mut seen = HashMap::new();
                    for entry in entries {
                        if let Some(first) = seen.insert(entry.key.as_str(), entry.key_position) {
                            reporter.report_with_hint(
                                Rule::DuplicateKey,
                                entry.key_position,
                                format!("the key `{}` is already there in line {}", entry.key, first.line),
                                "remove or rename one of the two",
                            );
                        }
                    }
                    waiting.extend(entries.iter().map(|entry| &entry.value));
                }
            }
        }
    }
}

/// Reads YAML as plain data, in the same dialect as blueprints. Empty text is null.
///
/// # Errors
/// The reason with line and column.
pub fn parse_value(text: &str) -> Result<Value, String> {
    match Builder::default().build(text) {
        Ok(node) => Ok(node.to_value()),
        Err(error) => Err(format!(
            "line {}, column {}: {}",
            error.position.line, error.position.column, error.message
        )),
    }
}
