//! Problems of a file as text: what, where, the line itself, and what to do.

use std::fmt::Write;

use flujo_blueprint::{Position, Problem, Problems, Rule, Source};

use crate::color::Paint;

/// The longest part of a line that is shown, in characters.
const SHOWN: usize = 100;

/// All problems, and how many there are.
pub(crate) fn render(problems: &Problems, paint: Paint) -> String {
    let mut text = String::new();
    for problem in &problems.0 {
        one(&mut text, problem, paint);
    }
    let ids: Vec<&str> = problems.0.iter().map(|problem| problem.rule.id()).collect();
    // Writing to a string cannot fail.
    let _ = match (&ids[..], problems.0.len()) {
        ([first, rest @ ..], count) if rest.iter().all(|id| id == first) => {
            let problems = if count == 1 { "problem" } else { "problems" };
            writeln!(text, "{count} {problems}; `flujo explain {first}` tells more")
        }
        ([first, ..], count) => writeln!(
            text,
            "{count} problems; `flujo explain {first}` tells more about the first"
        ),
        _ => Ok(()),
    };
    text
}

fn one(text: &mut String, problem: &Problem, paint: Paint) {
    text.push_str(&headed(
        problem.rule,
        &problem.message,
        &problem.source,
        problem.position,
        paint,
    ));
    text.push('\n');
    if let Some(hint) = &problem.hint {
        let margin = problem.position.line.to_string().len();
        let _ = writeln!(
            text,
            "{:margin$} {} {}: {hint}",
            "",
            paint.faint("="),
            paint.hint("hint")
        );
    }
    text.push('\n');
}

/// What is wrong, where, and the line itself, without a line break at the end.
pub(crate) fn headed(rule: Rule, message: &str, source: &Source, place: Position, paint: Paint) -> String {
    let margin = place.line.to_string().len();
    let bar = paint.faint("|");
    let mut text = format!(
        "{}: {}\n",
        paint.error(&format!("error[{rule}]")),
        paint.strong(message)
    );
    let _ = write!(
        text,
        "{:margin$}{} {}:{place}",
        "",
        paint.faint("-->"),
        source.path().display()
    );
    if let Some(line) = source.line(place.line) {
        let (shown, column) = around(line, place.column);
        let _ = write!(text, "\n{} {bar} {shown}", paint.faint(&place.line.to_string()));
        let _ = write!(
            text,
            "\n{:margin$} {bar} {}{}",
            "",
            " ".repeat(column - 1),
            paint.error("^")
        );
    }
    text
}

/// The part of a line around a column, and the column in it, which counts from 1.
fn around(line: &str, column: usize) -> (String, usize) {
    let start = column.saturating_sub(SHOWN / 2 + 1);
    let start = if line.chars().count() <= SHOWN { 0 } else { start };
    let shown: String = line
        .chars()
        .skip(start)
        .take(SHOWN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    (shown, column.saturating_sub(start).max(1))
}
