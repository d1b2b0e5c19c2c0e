//! `flujo runs list`: runs, page by page.

use std::sync::Arc;

use flujo_blueprint::Rule;
use flujo_core::store::{RunInfo, RunQuery, WallTime};
use serde_json::json;

use super::{Runs, ago, shown};
use crate::arguments::ListArguments;
use crate::color::{Paint, Stream};
use crate::outcome::{Exit, Failure};
use crate::summary::used;
use crate::terminal;

pub(super) fn list(runs: &Runs, arguments: &ListArguments) -> Result<Exit, Failure> {
    let filter = &arguments.filter;
    let query = RunQuery {
        statuses: filter.status.clone(),
        pipeline: filter.pipeline.as_deref().map(Arc::from),
        created_before: filter.older_than.map(ago),
        created_from: arguments.newer_than.map(ago),
        after: arguments.after.as_deref().map(place).transpose()?,
        limit: arguments.limit,
        ..RunQuery::default()
    };
    let page = runs.list(query)?;
    let next = page.next.as_ref().map(|(created, id)| format!("{created}:{id}"));
    if arguments.json {
        let list: Vec<_> = page.runs.iter().map(shown::info).collect();
        terminal::data_line(&format!("{:#}", json!({"runs": list, "next": next})));
        return Ok(Exit::Done);
    }
    if page.runs.is_empty() {
        terminal::note("no runs");
        return Ok(Exit::Done);
    }
    table(&page.runs);
    if let Some(next) = next {
        let next = super::session::word(&next);
        terminal::note(&format!("more: `--after {next}`"));
    }
    Ok(Exit::Done)
}

/// A place in the list, as the page before told it.
fn place(written: &str) -> Result<(WallTime, Arc<str>), Failure> {
    let place = written.split_once(':');
    let place = place.and_then(|(created, id)| Some((created.parse().ok()?, Arc::from(id))));
    place.ok_or_else(|| {
        Failure::usage(
            Rule::BadInput,
            format!("`--after {written}` is no place in a list"),
            "give it what the list before told: `next` of `--json`, or its last line",
        )
    })
}

/// One line for each run.
fn table(runs: &[RunInfo]) {
    let paint = Paint::for_stream(Stream::Out);
    let row = |run: &RunInfo| {
        [
            terminal::one_line(&run.id),
            terminal::one_line(&run.pipeline),
            run.summary.status.as_str().to_owned(),
            shown::since(run.created),
            run.summary.steps.to_string(),
        ]
    };
    let heads = ["run", "pipeline", "status", "began", "steps"].map(str::to_owned);
    let rows: Vec<[String; 5]> = runs.iter().map(row).collect();
    let wide = |column: usize| {
        let all = rows.iter().chain([&heads]);
        all.map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let wide: Vec<usize> = (0..heads.len()).map(wide).collect();
    let line = |row: &[String; 5], more: &str, status: Option<String>| {
        let mut text = String::new();
        for (column, cell) in row.iter().enumerate() {
            let gap = " ".repeat(wide[column] - cell.chars().count() + 2);
            match (column, &status) {
                (2, Some(painted)) => text.push_str(painted),
                _ => text.push_str(cell),
            }
            text.push_str(&gap);
        }
        terminal::data_line(format!("{text}{more}").trim_end());
    };
    line(&heads, "used", None);
    for (run, row) in runs.iter().zip(&rows) {
        let summary = &run.summary;
        let message = summary.message.as_deref().map(terminal::one_line);
        let more = format!("{}  {}", used(summary.usage).trim(), message.unwrap_or_default());
        line(row, more.trim(), Some(shown::status(summary.status, paint)));
    }
}
