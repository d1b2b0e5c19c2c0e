//! `flujo run`: a blueprint from its file to its output.

use std::sync::Arc;

use clap::ArgMatches;
use flujo_blueprint::{Functions, Rule};
use flujo_tokio::Runner;

use super::folder;
use super::session::{Session, Showing, Stopped, check_folder};
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
    let session = Session::load(&arguments.file, settings, functions, store)?;
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

fn refuse(message: &str, hint: &str) -> Failure {
    Failure::usage(Rule::BadInput, message, hint)
}
