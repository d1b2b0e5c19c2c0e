//! What went wrong in a template: where, why, and which names there are.

use minijinja::{Error, ErrorKind};

use super::Scope;
use super::bridge::is_private;

/// The most names that a message lists.
const MOST_NAMES: usize = 20;

/// An error in a template or expression. Its text never shows the values that were rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", place(*line, *column))]
pub struct TemplateError {
    /// What kind of error it is.
    pub kind: TemplateErrorKind,
    /// The line in the template, counted from 1.
    pub line: Option<usize>,
    /// The column in characters, counted from 1.
    pub column: Option<usize>,
    /// What is wrong and what to do about it.
    pub message: String,
}

/// The kinds of [`TemplateError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateErrorKind {
    /// The text isn't a template.
    Syntax,
    /// A name that doesn't exist was printed or used.
    Undefined,
    /// An operation doesn't fit its values.
    Evaluation,
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
            kind if detail.is_empty() => (TemplateErrorKind::Evaluation, kind.to_string()),
            kind => (TemplateErrorKind::Evaluation, format!("{kind}: {detail}")),
        };
        Self {
            kind,
            line,
            column,
            message,
        }
    }

    /// An expression whose result is undefined.
    pub(super) fn undefined(source: &str, scope: &Scope) -> Self {
        Self {
            kind: TemplateErrorKind::Undefined,
            line: Some(1),
            column: Some(1),
            message: explain_undefined(source, scope),
        }
    }

    /// An expression whose result can't be used.
    pub(super) fn evaluation(message: &str, source: &str) -> Self {
        Self {
            kind: TemplateErrorKind::Evaluation,
            line: Some(1),
            column: Some(1),
            message: format!("`{source}`: {message}"),
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
    let Some(mut value) = scope.get(first) else {
        return broken_off(name, first, "known names", scope.names().into_iter());
    };
    let mut reached = first.to_owned();
    for segment in segments {
        let Some(entries) = value.as_map() else {
            return format!(
                "`{name}` is not defined: `{reached}` is of kind `{}` and has no names in it; \
                 write `{name} or ''` if it may be missing",
                value.kind()
            );
        };
        match entries.iter().find(|(key, _)| &**key == segment) {
            Some((_, next)) if !is_private(segment) => value = next,
            _ => {
                let known = entries.iter().map(|(key, _)| &**key);
                return broken_off(name, segment, &format!("names in `{reached}`"), known);
            }
        }
        reached = format!("{reached}.{segment}");
    }
    format!("`{name}` is not defined; write `{name} or ''` if it may be missing")
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
