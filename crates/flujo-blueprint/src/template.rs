//! Templates and expressions of a blueprint: parsed with their place in the file, and checked for names that can't be
//! there.

use std::collections::BTreeSet;

use flujo_agents::template::{Expression, Scope, Template, TemplateError, TextTemplate};
use flujo_core::value::Value;

use crate::node::{Content, Node};
use crate::position::{Position, Source};
use crate::problem::{Reporter, did_you_mean};
use crate::rule::Rule;

/// Data whose texts are templates. A text that is one placeholder and nothing else gives the value itself.
#[derive(Debug)]
pub(crate) enum DataTemplate {
    Constant(Value),
    Text(TextTemplate),
    List(Vec<DataTemplate>),
    Map(Vec<(String, DataTemplate)>),
}

impl DataTemplate {
    /// Reads the template in `node`. `more` are the names it knows beyond the standard ones.
    pub(crate) fn read(
        node: &Node,
        more: &[&str],
        names: &Names<'_>,
        reporter: &mut Reporter,
    ) -> Option<Self> {
        match &node.content {
            Content::List(items) => items
                .iter()
                .map(|item| Self::read(item, more, names, reporter))
                .collect::<Option<_>>()
                .map(Self::List),
            Content::Map(entries) => entries
                .iter()
                .map(|entry| {
                    Some((
                        entry.key.clone(),
                        Self::read(&entry.value, more, names, reporter)?,
                    ))
                })
                .collect::<Option<_>>()
                .map(Self::Map),
            Content::Scalar(Value::Str(text)) => {
                let template = parsed(node, text, TextTemplate::parse(text), reporter)?;
                check_names(node.position, template.variables(), more, names, reporter);
                Some(Self::Text(template))
            }
            Content::Scalar(value) => Some(Self::Constant(value.clone())),
        }
    }

    /// The data with every placeholder filled in.
    pub(crate) fn evaluate(&self, scope: &Scope) -> Result<Value, TemplateError> {
        Ok(match self {
            Self::Constant(value) => value.clone(),
            Self::Text(template) => template.evaluate(scope)?,
            Self::List(items) => {
                let items: Result<Vec<_>, _> = items.iter().map(|item| item.evaluate(scope)).collect();
                Value::from(items?)
            }
            Self::Map(entries) => {
                let mut map = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    map.push((key.as_str(), value.evaluate(scope)?));
                }
                Value::map(map)
            }
        })
    }
}

/// What templates of one file may name.
pub(crate) struct Names<'a> {
    /// The steps of the file.
    pub(crate) steps: &'a BTreeSet<String>,
}

const STANDARD: [&str; 4] = ["input", "previous_step", "context", "steps"];

/// Functions that templates can call.
const FUNCTIONS: [&str; 4] = ["range", "dict", "debug", "len"];

/// A template in a text node.
pub(crate) fn template(
    node: &Node,
    text: &str,
    more: &[&str],
    names: &Names<'_>,
    reporter: &mut Reporter,
) -> Option<Template> {
    let template = parsed(node, text, Template::parse(text), reporter)?;
    check_names(node.position, template.variables(), more, names, reporter);
    Some(template)
}

/// What a text was parsed into; an error is reported.
fn parsed<T>(
    node: &Node,
    text: &str,
    result: Result<T, TemplateError>,
    reporter: &mut Reporter,
) -> Option<T> {
    result
        .map_err(|error| report_syntax(node, text, &error, reporter))
        .ok()
}

/// An expression in a text node; `true` and `false` may stand without quotes.
pub(crate) fn expression(
    node: &Node,
    more: &[&str],
    names: &Names<'_>,
    reporter: &mut Reporter,
) -> Option<Expression> {
    let text = crate::structure::name_text(node)?;
    let expression = parsed(node, &text, Expression::parse(&text), reporter)?;
    check_names(node.position, expression.variables(), more, names, reporter);
    Some(expression)
}

fn check_names(
    position: Position,
    variables: &BTreeSet<String>,
    more: &[&str],
    names: &Names<'_>,
    reporter: &mut Reporter,
) {
    for variable in variables {
        let mut parts = variable.split('.');
        let top = parts.next().unwrap_or_default();
        if !STANDARD.contains(&top) && !more.contains(&top) && !FUNCTIONS.contains(&top) {
            let known = STANDARD.iter().copied().chain(more.iter().copied());
            reporter.report_with_hint(
                Rule::UnknownName,
                position,
                format!("the template uses `{top}`, which isn't there"),
                match did_you_mean(top, known.clone(), "names") {
                    hint if hint.starts_with("did") => hint,
                    hint => format!("{hint}; fields of the context are `context.{top}`"),
                },
            );
        }
        if top == "steps" {
            check_step(position, parts.next(), names, reporter);
        }
    }
}

fn check_step(position: Position, step: Option<&str>, names: &Names<'_>, reporter: &mut Reporter) {
    let Some(step) = step.filter(|step| !names.steps.contains(*step)) else {
        return;
    };
    reporter.report_with_hint(
        Rule::UnknownName,
        position,
        format!("the template uses the output of a step `{step}`, which this file doesn't have"),
        did_you_mean(step, names.steps.iter().map(String::as_str), "steps"),
    );
}

fn report_syntax(node: &Node, text: &str, error: &TemplateError, reporter: &mut Reporter) {
    let source = std::sync::Arc::clone(reporter.source());
    let position = place_in_text(&source, node.position, text, error.line, error.column);
    match error.hint {
        Some(rewrite) => {
            reporter.report_with_hint(Rule::OldExpression, position, error.message.clone(), rewrite);
        }
        None => reporter.report(Rule::BadTemplate, position, error.message.clone()),
    }
}

/// Where in the file a line and column of a text are. Texts that YAML folds are pointed at as a whole.
fn place_in_text(
    source: &Source,
    start: Position,
    text: &str,
    line: Option<usize>,
    column: Option<usize>,
) -> Position {
    let Some(line) = line else { return start };
    let column = column.unwrap_or(1);
    let first = source.line(start.line).unwrap_or_default();
    let opening: String = first
        .chars()
        .skip(start.column.saturating_sub(1))
        .take(1)
        .collect();
    match opening.as_str() {
        "|" => {
            let place = start.line + line;
            let wanted = text.lines().nth(line - 1).unwrap_or_default();
            let indent = source.line(place).map_or(0, |found| {
                found.chars().count().saturating_sub(wanted.chars().count())
            });
            Position {
                line: place,
                column: indent + column,
            }
        }
        ">" => start,
        "\"" | "'" if line == 1 => Position {
            line: start.line,
            column: start.column + column,
        },
        _ if line == 1 && first.contains(text.trim_end()) => Position {
            line: start.line,
            column: start.column + column - 1,
        },
        _ => start,
    }
}
