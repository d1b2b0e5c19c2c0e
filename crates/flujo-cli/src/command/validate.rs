//! `flujo validate`: everything that is wrong with a blueprint. Reads files, runs nothing.

use flujo_blueprint::{Blueprint, Problem};
use serde_json::json;

use super::folder;
use crate::arguments::ValidateArguments;
use crate::outcome::{Exit, Failure};
use crate::settings::Settings;
use crate::terminal;

pub(crate) fn validate(arguments: &ValidateArguments, python: bool) -> Result<Exit, Failure> {
    let prices = Settings::resolve(None, &folder())?.prices;
    let checked = Blueprint::load_for(&arguments.file, python, prices);
    if !arguments.json {
        let blueprint = checked?;
        terminal::note(&format!("{}: no problems", arguments.file.display()));
        for requirement in blueprint.requirements() {
            terminal::note(&format!("  needs permission for {}", requirement.permission));
        }
        return Ok(Exit::Done);
    }
    let problems = checked.err().map(|problems| problems.0).unwrap_or_default();
    let found: Vec<_> = problems.iter().map(problem).collect();
    let text = json!({"file": arguments.file.display().to_string(), "valid": problems.is_empty(), "problems": found});
    terminal::data_line(&format!("{text:#}"));
    Ok(if problems.is_empty() {
        Exit::Done
    } else {
        Exit::Usage
    })
}

fn problem(problem: &Problem) -> serde_json::Value {
    json!({
        "rule": problem.rule.id(),
        "file": problem.source.path().display().to_string(),
        "line": problem.position.line,
        "column": problem.position.column,
        "message": problem.message,
        "hint": problem.hint,
    })
}
