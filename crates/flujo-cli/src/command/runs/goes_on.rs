//! `flujo runs resume`, `answer` and `cancel`: going on with a run here, or leaving word for whoever has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flujo_blueprint::{Functions, Rule, parse_value};
use flujo_core::store::{RunInfo, RunStatus};
use flujo_core::value::Value;
use flujo_durable::{Definition, ForkPoint, Posted};
use flujo_tokio::Runner;

use super::Runs;
use super::reading::Reading;
use crate::answers::Answers;
use crate::arguments::{AnswerArguments, ForkArguments, ResumeArguments};
use crate::command::session::{Session, Showing, Stopped};
use crate::outcome::{Exit, Failure};
use crate::result::plain;
use crate::settings::Settings;
use crate::{store, terminal};

/// What runs are gone on with.
pub(super) struct Program<'a> {
    pub(super) settings: Settings,
    pub(super) functions: Option<&'a dyn Functions>,
    pub(super) debug: bool,
}

/// What is done with a run once its blueprint is there.
enum Aim {
    GoOn(Answers, Stopped),
    Cancel,
    /// Another run of this name.
    Fork(ForkPoint, Arc<str>),
}

impl Program<'_> {
    fn take(
        self,
        runs: Runs,
        arguments: &ResumeArguments,
        (file, before): (&Path, &Definition),
        aim: Aim,
    ) -> Result<Exit, Failure> {
        let store = Some(runs.store);
        let session = Session::load(file, self.settings, self.functions, store, before.limits())?;
        let showing = Showing {
            json: arguments.json,
            quiet: arguments.quiet,
            context_out: None,
            debug: self.debug,
        };
        let id: Arc<str> = Arc::from(arguments.id.as_str());
        match aim {
            Aim::GoOn(answers, stopped) => {
                session.drive(|runner: &Runner| runner.stored(id), stopped, answers, &showing)
            }
            Aim::Cancel => session.cancel(id, &showing),
            Aim::Fork(at, new) => {
                let answers = Answers::read(&[], arguments.json)?;
                session.drive(
                    |runner: &Runner| runner.fork(id, at, new),
                    Stopped::Stays,
                    answers,
                    &showing,
                )
            }
        }
    }
}

pub(super) fn resume(runs: Runs, arguments: &ResumeArguments, program: Program<'_>) -> Result<Exit, Failure> {
    // One that is stopped on its way from here is not gone on with.
    let stopped = match runs.info(&arguments.id)?.summary.status {
        RunStatus::LimitExceeded | RunStatus::Cancelled => Stopped::GoesOn,
        _ => Stopped::Stays,
    };
    let reading = Reading::of(&runs.load(&arguments.id)?)?;
    let file = needed(&arguments.id, arguments.file.as_deref(), &reading)?;
    let answers = Answers::read(&[], arguments.json)?;
    program.take(
        runs,
        arguments,
        (&file, &reading.definition),
        Aim::GoOn(answers, stopped),
    )
}

pub(super) fn answer(runs: Runs, arguments: &AnswerArguments, program: Program<'_>) -> Result<Exit, Failure> {
    let resume = &arguments.resume;
    let value = if arguments.text {
        Value::from(arguments.value.as_str())
    } else {
        parse_value(&arguments.value).map_err(|reason| {
            Failure::usage(
                Rule::BadInput,
                format!("the answer isn't YAML: {reason}"),
                "put it into quotes, or take it as text with `--text`",
            )
        })?
    };
    let info = runs.info(&resume.id)?;
    if info.summary.status != RunStatus::Paused {
        return Err(wrong_status(&info, "it waits for no answer"));
    }
    let reading = Reading::of(&runs.load(&resume.id)?)?;
    let pause = match &reading.steps {
        Ok(steps) => {
            let asked = steps.questions.addressed(arguments.pause.as_deref());
            Some(asked.map_err(|error| store::failed(&error))?.id.clone())
        }
        Err(_) => arguments.pause.clone(),
    };
    let file = blueprint(resume.file.as_deref(), &reading).filter(|_| !arguments.leave);
    match (file, pause) {
        (Some(file), Some(pause)) => {
            let answers = Answers::one(pause, value, resume.json)?;
            program.take(
                runs,
                resume,
                (&file, &reading.definition),
                Aim::GoOn(answers, Stopped::Stays),
            )
        }
        (_, pause) => {
            let value = plain(&value);
            runs.leave(&resume.id, &Posted::Answer { pause, value })?;
            terminal::note(
                "the answer is left in the store; the run goes on when its pipeline's process takes it",
            );
            Ok(Exit::Done)
        }
    }
}

pub(super) fn cancel(runs: Runs, arguments: &ResumeArguments, program: Program<'_>) -> Result<Exit, Failure> {
    let info = runs.info(&arguments.id)?;
    match info.summary.status {
        status if status.has_ended() => return Err(wrong_status(&info, "it has ended")),
        RunStatus::Paused => {
            let reading = Reading::of(&runs.load(&arguments.id)?)?;
            if let Some(file) = blueprint(arguments.file.as_deref(), &reading) {
                return program.take(runs, arguments, (&file, &reading.definition), Aim::Cancel);
            }
        }
        _ => {}
    }
    runs.leave(&arguments.id, &Posted::Cancel)?;
    terminal::note("the run is asked to end; its process does that as soon as it looks");
    Ok(Exit::Done)
}

pub(super) fn fork(runs: Runs, arguments: &ForkArguments, program: Program<'_>) -> Result<Exit, Failure> {
    let resume = &arguments.resume;
    runs.info(&resume.id)?;
    let reading = Reading::of(&runs.load(&resume.id)?)?;
    let file = needed(&resume.id, resume.file.as_deref(), &reading)?;
    let at = ForkPoint {
        step: Arc::from(arguments.from.as_str()),
        iteration: arguments.iteration,
    };
    let new = Arc::from(arguments.run_id.as_str());
    program.take(runs, resume, (&file, &reading.definition), Aim::Fork(at, new))
}

impl Runs {
    /// Leaves something for whoever runs the run.
    fn leave(&self, id: &str, posted: &Posted) -> Result<(), Failure> {
        let left = self.store.runs().post(Arc::from(id), posted.to_bytes());
        self.ask(left).map(|_| ())
    }
}

/// The blueprint of a run: the one that is named, else the file that it began with, if that is there.
fn blueprint(named: Option<&Path>, reading: &Reading) -> Option<PathBuf> {
    let began = || reading.definition.source().map(PathBuf::from);
    let began = || began().filter(|file| file.is_file());
    named.map(Path::to_owned).or_else(began)
}

/// The same where nothing can be done without it.
pub(super) fn needed(id: &str, named: Option<&Path>, reading: &Reading) -> Result<PathBuf, Failure> {
    blueprint(named, reading).ok_or_else(|| {
        Failure::usage(
            Rule::BadInput,
            format!("run `{id}` doesn't say which file its pipeline is in"),
            "name the blueprint with `--pipeline FILE`; a pipeline of a program goes on where that program runs",
        )
    })
}

fn wrong_status(info: &RunInfo, reason: &str) -> Failure {
    Failure::Other {
        rule: Rule::WrongStatus,
        exit: Exit::Usage,
        message: format!("run `{}` is {}: {reason}", info.id, info.summary.status),
        place: None,
        hint: Some(format!("`flujo runs show {}` tells more", info.id)),
        details: None,
    }
}
