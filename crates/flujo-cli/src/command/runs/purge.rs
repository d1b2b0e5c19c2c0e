//! `flujo runs purge`: deletes runs, after it has said how many.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;

use flujo_blueprint::Rule;
use flujo_core::store::{PurgeQuery, RunQuery, RunStatus};
use serde_json::json;

use super::{Runs, ago};
use crate::arguments::PurgeArguments;
use crate::outcome::{Exit, Failure};
use crate::terminal;

/// How many runs are looked at together.
const PAGE: u32 = 1000;

pub(super) fn purge(runs: &Runs, arguments: &PurgeArguments) -> Result<Exit, Failure> {
    if let Some(id) = &arguments.id {
        runs.info(id)?;
    }
    let filter = &arguments.filter;
    let statuses = match (&filter.status[..], &arguments.id) {
        ([], Some(_)) => RunStatus::ALL.to_vec(),
        ([], None) => RunStatus::ALL
            .into_iter()
            .filter(|status| status.has_ended())
            .collect(),
        (given, _) => given.to_vec(),
    };
    let query = PurgeQuery {
        run: arguments.id.as_deref().map(Arc::from),
        pipeline: filter.pipeline.as_deref().map(Arc::from),
        statuses,
        updated_before: filter.older_than.map(ago),
        keep: arguments.keep,
        ..PurgeQuery::default()
    };
    let count = count(runs, &query)?;
    let deleted = if arguments.dry_run || count == 0 || !agreed(arguments, count)? {
        0
    } else {
        runs.ask(runs.store.runs().purge(query))?
    };
    if arguments.json {
        terminal::data_line(&json!({"found": count, "deleted": deleted}).to_string());
    } else if arguments.dry_run {
        terminal::data_line(&format!("{} would be deleted", named(count)));
    } else {
        terminal::data_line(&format!("{} deleted", named(deleted)));
    }
    Ok(Exit::Done)
}

/// How many runs fit, with those that are under way, which stay.
fn count(runs: &Runs, query: &PurgeQuery) -> Result<u64, Failure> {
    let mut found = 0;
    let mut looked = RunQuery {
        statuses: query.statuses.clone(),
        pipeline: query.pipeline.clone(),
        limit: PAGE,
        ..RunQuery::default()
    };
    if let Some(id) = &query.run {
        let info = runs.info(id)?;
        let fits = query.statuses.contains(&info.summary.status)
            && query
                .pipeline
                .as_ref()
                .is_none_or(|pipeline| *pipeline == info.pipeline)
            && query
                .updated_before
                .is_none_or(|before| info.summary.updated < before)
            && info.owner.is_none();
        return Ok(u64::from(fits).saturating_sub(query.keep.unwrap_or(0)));
    }
    loop {
        let page = runs.ask(runs.store.runs().list(looked.clone()))?;
        let fits = page.runs.iter().filter(|run| {
            run.owner.is_none()
                && query
                    .updated_before
                    .is_none_or(|before| run.summary.updated < before)
        });
        found += fits.count() as u64;
        match page.next {
            Some(next) => looked.after = Some(next),
            None => return Ok(found.saturating_sub(query.keep.unwrap_or(0))),
        }
    }
}

/// Whether the runs are to be deleted.
fn agreed(arguments: &PurgeArguments, count: u64) -> Result<bool, Failure> {
    if arguments.yes {
        return Ok(true);
    }
    if arguments.json || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::usage(
            Rule::BadInput,
            format!("{} would be deleted, and nobody can be asked here", named(count)),
            "add `--yes`, or look first with `--dry-run`",
        ));
    }
    terminal::prompt(&format!("delete {}? [y/N] ", named(count)));
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    Ok(read.is_ok() && ["y", "yes"].contains(&line.trim().to_lowercase().as_str()))
}

fn named(count: u64) -> String {
    format!("{count} {}", if count == 1 { "run" } else { "runs" })
}
