//! What went wrong in a template: where, why, and which names there are.

use std::sync::Arc;

use flujo_core::value::Value;
use minijinja::{Error, ErrorKind};

use super::Scope;
use super::bridge::is_private;
use super::host::{Shape, host_object};

/// The most names that a message lists.
const MOST_NAMES: usize = 20;

/// An error in a template or expression. Its text never shows the values that were rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}{}", place(*line, *column), hint.map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct TemplateError {
    /// What kind of error it is.
    pub kind: TemplateErrorKind,
    /// The line in the template, counted from 1.
    pub line: Option<usize>,
    /// The column in characters, counted from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// How a form that is Python's is written here.
    pub hint: Option<&'static str>,
}

/// The kinds of [`TemplateError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateErrorKind {
    /// The text isn't a template.
    Syntax,
    /// The text is Python's, and is written otherwise here.
    OldForm,
    /// A name that doesn't exist was printed or used.
    Undefined,
    /// An operation doesn't fit its values.
    Evaluation,
    /// It took more work, or gave more text, than a template may.
    TooMuch,
}

impl TemplateError {
    /// The engine's error in our words. With a `scope` the known names are listed.
    pub(super) fn from_engine(error: &Error, source: &str, scope: Option<&Scope>) -> Self {
        let line = error.line();
        let range = error.range().filter(|range| source.get(range.clone()).is_some());
        let column = range.map(|range| {
            let before = &source[..range.start];
            before.chars().rev().take_while(|&c| c != '\n').count() + 1
        });
        let detail = error.detail().unwrap_or_default();
        let (kind, message) = match error.kind() {
            ErrorKind::SyntaxError => (
                TemplateErrorKind::Syntax,
                format!("the template has a syntax error: {detail}"),
            ),
            ErrorKind::UndefinedError => {
                let message = match (undefined_name(detail), scope) {
                    (Some(name), Some(scope)) => explain_undefined(name, scope),
                    _ => format!("a name is not defined: {detail}"),
                };
                (TemplateErrorKind::Undefined, message)
            }
            ErrorKind::OutOfFuel => return Self::too_much(line, column),
            kind if detail.is_empty() => (TemplateErrorKind::Evaluation, kind.to_string()),
            kind => (TemplateErrorKind::Evaluation, format!("{kind}: {detail}")),
        };
        Self {
            kind,
            line,
            column,
            message,
            hint: None,
        }
    }

    /// A form of older versions.
    pub(super) fn old(form: &str, rewrite: &'static str) -> Self {
        Self {
            kind: TemplateErrorKind::OldForm,
            line: None,
            column: None,
            message: format!("`{form}` is Python, which expressions don't run"),
            hint: Some(rewrite),
        }
    }

    /// Work or output without measure.
    pub(super) fn too_much(line: Option<usize>, column: Option<usize>) -> Self {
        Self {
            kind: TemplateErrorKind::TooMuch,
            line,
            column,
            message: format!(
                "the template does more work or gives more text (at most {} MiB) than a template may; \
                 do it in a step of its own",
                super::MOST_OUTPUT >> 20
            ),
            hint: None,
        }
    }

    /// An expression whose result is undefined.
    pub(super) fn undefined(source: &str, scope: &Scope) -> Self {
        Self {
            kind: TemplateErrorKind::Undefined,
            line: Some(1),
            column: Some(1),
            message: explain_undefined(source, scope),
            hint: None,
        }
    }

    /// An expression whose result can't be used.
    pub(super) fn evaluation(message: &str, source: &str) -> Self {
        Self {
            kind: TemplateErrorKind::Evaluation,
            line: Some(1),
            column: Some(1),
            message: format!("`{source}`: {message}"),
            hint: None,
        }
    }
}

fn place(line: Option<usize>, column: Option<usize>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!("line {line}, column {column}: "),
        (Some(line), None) => format!("line {line}: "),
        _ => String::new(),
    }
}

/// The expression that the engine's detail names, as in "`user.name` is undefined".
fn undefined_name(detail: &str) -> Option<&str> {
    let end = detail.find("` is undefined")?;
    let start = detail[..end].rfind('`')? + 1;
    Some(&detail[start..end])
}

/// Follows a dotted name as far as it goes, and lists what is known at the point where it breaks off.
fn explain_undefined(name: &str, scope: &Scope) -> String {
    let mut segments = name.split('.');
    let first = segments.next().unwrap_or_default();
    let Some(mut value) = scope.get(first).cloned() else {
        return broken_off(name, first, "known names", scope.names().into_iter());
    };
    let mut reached = first.to_owned();
    for segment in segments {
        let (kind, known) = names_in(&value);
        let Some(known) = known else {
            return format!(
                "`{name}` is not defined: `{reached}` is of kind `{kind}` and has no names in it; \
                 write `{name} or ''` if it may be missing"
            );
        };
        match entry(&value, segment) {
            Some(next) if !is_private(segment) => value = next,
            _ => {
                let place = format!("names in `{reached}`");
                return broken_off(name, segment, &place, known.iter().map(|name| &**name));
            }
        }
        reached = format!("{reached}.{segment}");
    }
    format!("`{name}` is not defined; write `{name} or ''` if it may be missing")
}

/// What kind of value it is, and the names in it when it can have any.
fn names_in(value: &Value) -> (String, Option<Vec<Arc<str>>>) {
    let names = match (value.as_map(), host_object(value)) {
        (Some(entries), _) => entries.iter().map(|(name, _)| Arc::clone(name)).collect(),
        (None, Some(object)) => {
            let is_named = object.shape() == Shape::Map;
            let names = object.entries().into_iter().filter_map(|(name, _)| match name {
                Value::Str(text) => Some(text),
                _ => None,
            });
            return (object.type_name(), is_named.then(|| names.collect()));
        }
        (None, None) => return (value.kind().to_owned(), None),
    };
    (value.kind().to_owned(), Some(names))
}

fn entry(value: &Value, name: &str) -> Option<Value> {
    match host_object(value) {
        Some(object) => object.entry(name)?.ok(),
        None => value.get(name).cloned(),
    }
}

fn broken_off<'a>(name: &str, segment: &str, place: &str, known: impl Iterator<Item = &'a str>) -> String {
    if is_private(segment) {
        return format!("`{name}` can't be used: names with a leading underscore are private");
    }
    let known: Vec<&str> = known.filter(|name| !is_private(name)).collect();
    let listed = known
        .iter()
        .take(MOST_NAMES)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    let more = known.len().saturating_sub(MOST_NAMES);
    let listed = match (known.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => listed,
        (false, more) => format!("{listed} and {more} more"),
    };
    format!("`{name}` is not defined; {place}: {listed}; write `{name} or ''` if it may be missing")
}
