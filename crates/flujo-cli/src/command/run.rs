//! `flujo run`: a blueprint from its file to its output.

use std::sync::Arc;

use clap::ArgMatches;
use flujo_blueprint::{Functions, Rule};
use flujo_core::usage::UsageLimits;
use flujo_durable::{Definition, load};
use flujo_tokio::Runner;

use super::folder;
use super::session::{Session, Showing, Stopped, check_folder, runtime};
use crate::answers::Answers;
use crate::arguments::RunArguments;
use crate::input;
use crate::outcome::{Exit, Failure};
use crate::settings::Settings;
use crate::store::Store;

pub(crate) fn run(
    arguments: &RunArguments,
    matches: &ArgMatches,
    functions: Option<&dyn Functions>,
    debug: bool,
) -> Result<Exit, Failure> {
    let settings = Settings::resolve(Some(matches), &folder())?;
    let context = input::context(&arguments.fields)?;
    let input = input::read(arguments.input.as_deref())?;
    let answers = Answers::read(&arguments.answers, arguments.json)?;
    if let Some(path) = &arguments.context_out {
        check_folder(path)?;
    }
    let id = match arguments.run_id.as_deref() {
        Some("") => return Err(refuse("`--run-id` is empty", "name the run")),
        id => id,
    };
    let store = Store::to_keep(&settings)?;
    if id.is_some() && store.is_none() {
        return Err(refuse(
            "`--run-id` names a run that is kept, and no store is asked for",
            "add `--store`, or set `FLUJO_STATE_URI`",
        ));
    }
    let before = match (id, &store) {
        (Some(id), Some(store)) => given_before(id, store)?,
        _ => UsageLimits::default(),
    };
    let session = Session::load(&arguments.file, settings, functions, store, before)?;
    let showing = Showing {
        json: arguments.json,
        quiet: arguments.quiet,
        context_out: arguments.context_out.as_deref(),
        debug,
    };
    let begin = |runner: &Runner| match id {
        Some(id) => runner.run_named(Arc::<str>::from(id), input, context),
        None => runner.run(input, context),
    };
    session.drive(begin, Stopped::Stays, answers, &showing)
}

/// The limits that came with a run that is kept already. What is wrong with it is told when it is to go on.
fn given_before(id: &str, store: &Store) -> Result<UsageLimits, Failure> {
    let stored = load(Arc::clone(store.runs()), Arc::from(id));
    let stored = runtime()?.block_on(stored).ok();
    let definition = stored.and_then(|stored| Definition::of_stored(&stored).ok());
    Ok(definition.map_or_else(UsageLimits::default, |before| before.limits()))
}

fn refuse(message: &str, hint: &str) -> Failure {
    Failure::usage(Rule::BadInput, message, hint)
}
