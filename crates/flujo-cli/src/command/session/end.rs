//! What a run comes to for whoever called the command: its output, or why there is none, and what to do.

use std::sync::Arc;

use flujo_blueprint::{Blueprint, Position, Rule, Source};
use flujo_core::machine::{Failure as StepFailure, FailureKind, Outcome, Status, Stop};
use flujo_core::value::Value;
use flujo_durable::DurableError;
use flujo_tokio::{Done, PausedRun, Tokio, user_error};

use super::Showing;
use crate::outcome::{Exit, Failure};
use crate::{result, terminal};

/// What a run comes to for whoever called the command.
pub(super) struct End<'a> {
    pub(super) blueprint: &'a Blueprint,
    pub(super) done: &'a Done,
    pub(super) interrupted: bool,
    /// Of a run that is kept: what finds its store again, on a command line.
    pub(super) kept: Option<&'a str>,
    pub(super) showing: &'a Showing<'a>,
}

impl End<'_> {
    /// The exit code, and for a run that didn't complete the reason.
    pub(super) fn tell(&self) -> Result<Exit, Failure> {
        match &self.done.finish.outcome {
            Outcome::Completed(output) => {
                if !self.showing.json {
                    print_output(output);
                }
                Ok(Exit::Done)
            }
            Outcome::Failed(failure) | Outcome::Stopped(Stop::Fatal(failure)) => {
                let place = self.place(&failure.root().step);
                Err(failed(failure, place, self.showing.debug))
            }
            Outcome::Stopped(Stop::LimitExceeded(breach)) => {
                let cure = "raise `usage_limits` in the blueprint, `--max-cost-usd` or `--max-tokens`";
                Err(Failure::Other {
                    rule: Rule::LimitReached,
                    exit: Exit::Limit,
                    message: format!("step `{}`: {breach}", breach.step),
                    place: self.place(&breach.step),
                    hint: Some(match self.resume() {
                        Some(resume) => format!("{cure}, then {resume} goes on"),
                        None => cure.to_owned(),
                    }),
                    details: None,
                })
            }
            Outcome::Stopped(Stop::Aborted(reason)) => Err(stopped(
                format!("the run was aborted: {reason}"),
                Exit::Failed,
                self.resume().map(|resume| format!("{resume} goes on")),
            )),
            Outcome::Stopped(Stop::Paused) => Err(self.paused()),
            Outcome::Stopped(Stop::Cancelled) => Err(self.cancelled()),
        }
    }

    fn place(&self, step: &str) -> Option<(Arc<Source>, Position)> {
        let (source, position) = self.blueprint.place_of(step)?;
        Some((Arc::clone(source), position))
    }

    /// The command that goes on with a run that is kept.
    fn resume(&self) -> Option<String> {
        let option = self.kept?;
        Some(format!(
            "`flujo runs resume {}{option}`",
            word(&self.done.id.to_string())
        ))
    }

    fn paused(&self) -> Failure {
        let pauses = self
            .done
            .paused
            .as_ref()
            .map(PausedRun::pauses)
            .unwrap_or_default();
        let asked = pauses.iter().map(|pause| {
            let message = terminal::one_line(&pause.message);
            let rejected = pause.rejected.as_deref().map(terminal::one_line);
            let rejected = rejected.map_or_else(String::new, |reason| format!("; not taken: {reason}"));
            format!("step `{}` asks: {message}{rejected}", pause.step)
        });
        let asked: Vec<_> = asked.collect();
        let id = self.done.id.to_string();
        let hint = match (self.kept, pauses) {
            (Some(option), [_]) => format!("answer with `flujo runs answer {} VALUE{option}`", word(&id)),
            (Some(option), _) => {
                let ids: Vec<_> = pauses.iter().map(|pause| format!("`{}`", pause.id)).collect();
                let ids = ids.join(", ");
                let id = word(&id);
                format!(
                    "answer with `flujo runs answer {id} --pause PAUSE VALUE{option}`, PAUSE being one of {ids}"
                )
            }
            (None, _) => {
                "answer with `--answer STEP=VALUE`, or run it on a terminal and answer there".to_owned()
            }
        };
        Failure::Other {
            rule: Rule::Paused,
            exit: Exit::Paused,
            message: format!("the run waits for answers: {}", asked.join("; ")),
            place: pauses.first().and_then(|pause| self.place(&pause.step)),
            hint: Some(hint),
            details: None,
        }
    }

    fn cancelled(&self) -> Failure {
        let records = &self.done.finish.history.records;
        let finished = records
            .iter()
            .filter(|record| record.status == Status::Succeeded)
            .count();
        let exit = if self.interrupted {
            Exit::Interrupted
        } else {
            Exit::Failed
        };
        let steps = if finished == 1 { "step" } else { "steps" };
        stopped(
            format!("the run was cancelled; {finished} {steps} had finished"),
            exit,
            self.resume().map(|resume| format!("{resume} goes on")),
        )
    }
}

/// An argument as a shell takes it for one word.
pub(in crate::command) fn word(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

/// What a store could not do, where that is how the run ended.
pub(in crate::command) fn of_the_store(done: &Done) -> Option<&DurableError> {
    match &done.finish.outcome {
        Outcome::Failed(failure) if failure.kind == FailureKind::Host && failure.step.is_empty() => {
            user_error(failure)?.downcast_ref()
        }
        _ => None,
    }
}

fn stopped(message: String, exit: Exit, hint: Option<String>) -> Failure {
    Failure::Other {
        rule: Rule::Interrupted,
        exit,
        message,
        place: None,
        hint,
        details: None,
    }
}

/// The failure at the root: the step that failed first, and why.
fn failed(failure: &StepFailure<Tokio>, place: Option<(Arc<Source>, Position)>, debug: bool) -> Failure {
    let root = failure.root();
    let stage = match root.kind {
        FailureKind::Validator => "its output was rejected: ",
        FailureKind::Context => "its output doesn't fit the context: ",
        _ => "",
    };
    let attempt = match root.attempt {
        0 | 1 => String::new(),
        attempt => format!(" on attempt {attempt}"),
    };
    let message = terminal::one_line(&root.message);
    Failure::Other {
        rule: Rule::RunFailed,
        exit: Exit::Failed,
        message: match root.kind {
            FailureKind::Pricing => message,
            _ => format!("step `{}` failed{attempt}: {stage}{message}", root.step),
        },
        place,
        hint: None,
        details: debug.then(|| format!("{failure:#?}")),
    }
}

fn print_output(output: &Value) {
    match output {
        Value::Null => {}
        Value::Str(text) => terminal::data_line(text),
        Value::Bytes(bytes) => terminal::data(bytes),
        other => {
            let json = result::plain(other);
            terminal::data_line(&serde_json::to_string_pretty(&json).unwrap_or_else(|_| json.to_string()));
        }
    }
}
