//! Templates and expressions of a blueprint: parsed with their place in the file, and checked for names that can't be
//! there.

use std::collections::BTreeSet;

use flujo_agents::template::{Expression, Scope, Template, TemplateError};
use flujo_core::value::Value;

use crate::node::{Content, Node};
use crate::position::{Position, Source};
use crate::problem::{Reporter, did_you_mean};
use crate::rule::Rule;

/// Data whose texts are templates. A text that is one placeholder and nothing else gives the value itself.
#[derive(Debug)]
pub(crate) enum DataTemplate {
    Constant(Value),
    Expression(Expression),
    Text(Template),
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
                let template = template(node, text, more, names, reporter)?;
                if template.is_constant() {
                    return Some(Self::Constant(Value::Str(text.clone())));
                }
                if is_one_placeholder(text) {
                    return Expression::parse(text).ok().map(Self::Expression);
                }
                Some(Self::Text(template))
            }
            Content::Scalar(value) => Some(Self::Constant(value.clone())),
        }
    }

    /// The data with every placeholder filled in.
    pub(crate) fn evaluate(&self, scope: &Scope) -> Result<Value, TemplateError> {
        Ok(match self {
            Self::Constant(value) => value.clone(),
            Self::Expression(expression) => expression.evaluate(scope)?,
            Self::Text(template) => Value::from(template.render(scope)?),
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

/// Whether the whole text is `{{ … }}`, with no other placeholder in it.
fn is_one_placeholder(text: &str) -> bool {
    let inner = text
        .trim()
        .strip_prefix("{{")
        .and_then(|rest| rest.strip_suffix("}}"));
    inner.is_some_and(|inner| !["{{", "}}", "{%", "{#"].iter().any(|mark| inner.contains(mark)))
}

/// What templates of one file may name.
pub(crate) struct Names<'a> {
    /// The steps of the file; `None` where the outputs of steps can't be read.
    pub(crate) steps: Option<&'a BTreeSet<String>>,
}

const STANDARD: [&str; 4] = ["input", "previous_step", "context", "steps"];

/// Functions that templates can call.
const FUNCTIONS: [&str; 5] = ["range", "dict", "namespace", "debug", "len"];

/// A template in a text node.
pub(crate) fn template(
    node: &Node,
    text: &str,
    more: &[&str],
    names: &Names<'_>,
    reporter: &mut Reporter,
) -> Option<Template> {
    match Template::parse(text) {
        Ok(template) => {
            check_names(node.position, template.variables(), more, names, reporter);
            Some(template)
        }
        Err(error) => {
            report_syntax(node, text, &error, reporter);
            None
        }
    }
}

/// An expression in a text node; `true` and `false` may stand without quotes.
pub(crate) fn expression(
    node: &Node,
    more: &[&str],
    names: &Names<'_>,
    reporter: &mut Reporter,
) -> Option<Expression> {
    let text = crate::structure::name_text(node)?;
    if let Some((form, rewrite)) = old_form(&text) {
        reporter.report_with_hint(
            Rule::OldExpression,
            node.position,
            format!("`{form}` is Python, which expressions don't run"),
            rewrite,
        );
        return None;
    }
    match Expression::parse(&text) {
        Ok(expression) => {
            check_names(node.position, expression.variables(), more, names, reporter);
            Some(expression)
        }
        Err(error) => {
            report_syntax(node, &text, &error, reporter);
            None
        }
    }
}

/// Forms that expressions of Flujo 0.6 could have and that are written otherwise here.
fn old_form(text: &str) -> Option<(&'static str, &'static str)> {
    let forms = [
        ("is not None", "write `is not none`"),
        ("is None", "write `is none`"),
        (
            "isinstance(",
            "write a test: `x is string`, `x is number`, `x is mapping`, `x is sequence`",
        ),
        (
            "lambda ",
            "write the condition itself; names are `input`, `context`, `steps`",
        ),
        ("str(", "write a filter: `x | string`"),
        ("int(", "write a filter: `x | int`"),
        ("float(", "write a filter: `x | float`"),
        ("bool(", "write `x` where truth is asked for"),
        ("any(", "write filters: `x | select | list | length > 0`"),
        ("all(", "write filters: `x | reject | list | length == 0`"),
        ("sum(", "write a filter: `x | sum`"),
        ("min(", "write a filter: `x | min`"),
        ("max(", "write a filter: `x | max`"),
        ("sorted(", "write a filter: `x | sort`"),
    ];
    forms.into_iter().find(|(form, _)| {
        outside_quotes(text).match_indices(form).any(|(place, _)| {
            // `point(` isn't `int(`, and `x | int(0)` is a filter.
            let before = outside_quotes(text)[..place].trim_end().chars().next_back();
            let joined = outside_quotes(text)[..place]
                .chars()
                .next_back()
                .is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.');
            !joined && before != Some('|')
        })
    })
}

/// The text with the contents of its quoted parts blanked out.
fn outside_quotes(text: &str) -> String {
    let mut quote = None;
    text.chars()
        .map(|c| match quote {
            Some(open) if c == open => {
                quote = None;
                c
            }
            Some(_) => ' ',
            None => {
                if c == '"' || c == '\'' {
                    quote = Some(c);
                }
                c
            }
        })
        .collect()
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
    match (names.steps, step) {
        (None, _) => reporter.report_with_hint(
            Rule::UnknownName,
            position,
            "`steps` can't be read here",
            "use `input`, or put the step's output into the context by `sink_to` and read it there",
        ),
        (Some(known), Some(step)) if !known.contains(step) => reporter.report_with_hint(
            Rule::UnknownName,
            position,
            format!("the template uses the output of a step `{step}`, which this file doesn't have"),
            did_you_mean(step, known.iter().map(String::as_str), "steps"),
        ),
        _ => {}
    }
}

fn report_syntax(node: &Node, text: &str, error: &TemplateError, reporter: &mut Reporter) {
    let source = std::sync::Arc::clone(reporter.source());
    let position = place_in_text(&source, node.position, text, error.line, error.column);
    reporter.report(Rule::BadTemplate, position, error.message.clone());
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
