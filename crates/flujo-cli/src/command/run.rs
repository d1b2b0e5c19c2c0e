//! `flujo run`: a blueprint from its file to its output.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use flujo_blueprint::{Blueprint, Functions, Position, Rule, Source};
use flujo_core::machine::{Failure as StepFailure, FailureKind, Outcome, Status, Stop};
use flujo_core::usage::{Cost, UsageLimits};
use flujo_core::value::Value;
use flujo_tokio::{Done, PausedRun, ResumeError, Run, Runner, Tokio};

use super::telemetry::{self, Telemetry};
use super::{folder, write_whole};
use crate::answers::{Answers, Next};
use crate::arguments::RunArguments;
use crate::color::{Paint, Stream};
use crate::outcome::{Exit, Failure};
use crate::progress::{Progress, REDRAW};
use crate::settings::Settings;
use crate::{input, result, summary, terminal};

/// How long work that can't be stopped may hold up the end of the command.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) fn run(
    arguments: &RunArguments,
    matches: &ArgMatches,
    functions: Option<&dyn Functions>,
    debug: bool,
) -> Result<Exit, Failure> {
    let settings = Settings::resolve(Some(matches), &folder())?;
    let blueprint = Blueprint::load_for(&arguments.file, functions.is_some(), settings.prices.clone())?;
    blueprint.check_allowed(&settings.allowed())?;
    let context = input::context(&arguments.fields)?;
    let input = input::read(arguments.input.as_deref())?;
    let mut answers = Answers::read(&arguments.answers, arguments.json)?;
    let stats_out = settings.value("stats_out").map(PathBuf::from);
    let written = ["trace_out", "metrics_out"].map(|name| settings.value(name).map(PathBuf::from));
    for path in stats_out
        .iter()
        .chain(&arguments.context_out)
        .chain(written.iter().flatten())
    {
        check_folder(path)?;
    }
    let telemetry = Telemetry::new(&settings)?;
    let runner = runner(&blueprint, &settings, functions, &telemetry)?;
    let telemetry = telemetry.serve(&runner, blueprint.name())?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other {
            rule: Rule::RunFailed,
            exit: Exit::Failed,
            message: format!("no threads can be started: {error}"),
            place: None,
            hint: Some("raise the limits of processes and open files".to_owned()),
            details: None,
        })?;
    let paint = Paint::for_stream(Stream::Error);
    let word = settings.value("progress").unwrap_or("auto");
    let show = || Progress::new(word, arguments.quiet, blueprint.name(), paint);
    let mut run = runner.run(input, context);
    if let Some(caller) = telemetry::caller() {
        run.set_parent(caller);
    }
    let (done, interrupted) = runtime.block_on(to_end(&runner, run, &mut answers, paint, show))?;
    runtime.shutdown_timeout(GRACE);
    telemetry.end(paint)?;
    for step in answers.left() {
        terminal::note(&paint.warning(&format!("`--answer {step}=…`: step `{step}` asked nothing")));
    }

    if !arguments.quiet {
        terminal::note(&summary::tree(&done.plan, &done.finish, done.status(), paint));
    }
    if let Some(path) = stats_out {
        let text =
            serde_json::to_vec_pretty(&runner.performance_statistics()).map_err(|error| not_json(&error))?;
        write_whole(&path, &text)?;
    }
    if let Some(path) = &arguments.context_out {
        let context = result::plain(&done.finish.context.to_value());
        let text = serde_json::to_vec_pretty(&context).map_err(|error| not_json(&error))?;
        write_whole(path, &text)?;
    }
    if arguments.json {
        let text = serde_json::to_string_pretty(&result::to_json(&done)).map_err(|error| not_json(&error))?;
        terminal::data_line(&text);
    }
    end(&blueprint, &done, interrupted, arguments, debug)
}

fn runner(
    blueprint: &Blueprint,
    settings: &Settings,
    functions: Option<&dyn Functions>,
    telemetry: &Telemetry,
) -> Result<Runner, Failure> {
    let mut builder = Runner::builder(blueprint.pipeline_with(functions)?)
        .name(blueprint.name().clone())
        .usage_limits(limits(blueprint.usage_limits(), settings));
    for limit in blueprint.rate_limits() {
        builder = builder.rate_limit(limit.clone());
    }
    builder = builder.optimizations(settings.value("optimizations") != Some("false"));
    if let Some(seconds) = settings.number("deadline_s") {
        builder = builder.deadline(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    }
    telemetry.attach(builder).build().map_err(|error| {
        Failure::usage(
            Rule::BadValue,
            format!("the pipeline can't run: {error}"),
            "correct the blueprint",
        )
    })
}

/// The stricter of the blueprint's limits and the settings'.
fn limits(blueprint: UsageLimits, settings: &Settings) -> UsageLimits {
    let cost = settings
        .number("max_cost_usd")
        .and_then(|dollars| Cost::from_dollars(dollars).ok());
    let tokens = settings
        .value("max_tokens")
        .and_then(|tokens| tokens.parse().ok());
    UsageLimits {
        cost: blueprint.cost.into_iter().chain(cost).min(),
        tokens: blueprint.tokens.into_iter().chain(tokens).min(),
        requests: blueprint.requests,
    }
}

/// Drives the run and shows it, through all questions that something comes of.
async fn to_end(
    runner: &Runner,
    run: Run,
    answers: &mut Answers,
    paint: Paint,
    show: impl Fn() -> Progress,
) -> Result<(Done, bool), Failure> {
    let (mut done, mut interrupted) = watch(run, show()).await;
    while let Some(paused) = &done.paused {
        let next = if interrupted {
            Next::Cancel
        } else {
            answers.to(paused.pauses(), paint).await
        };
        interrupted |= matches!(next, Next::Cancel);
        let run = match next {
            Next::Resume(answers) => resume(runner, paused, answers, paint),
            Next::Cancel => runner.cancel(paused),
        };
        let run = match run {
            Ok(run) => run,
            Err(ResumeError::NoAnswer { .. }) => break,
            Err(error) => {
                let hint = "answer each question once";
                return Err(Failure::usage(Rule::BadInput, error.to_string(), hint));
            }
        };
        let (ended, cancelled) = watch(run, show()).await;
        done = ended;
        interrupted |= cancelled;
    }
    Ok((done, interrupted))
}

/// Goes on with the answers that come in time, and without those that don't.
fn resume(
    runner: &Runner,
    paused: &PausedRun,
    mut answers: Vec<(String, Value)>,
    paint: Paint,
) -> Result<Run, ResumeError> {
    loop {
        match runner.resume_with(paused, answers.clone()) {
            Err(ResumeError::Expired { id }) => {
                answers.retain(|(answered, _)| *answered != id);
                for pause in paused.pauses().iter().filter(|pause| pause.id == id) {
                    let text = format!("not taken: the answer to step `{}` came too late", pause.step);
                    terminal::note(&paint.warning(&text));
                }
            }
            resumed => return resumed,
        }
    }
}

/// Drives the run and shows it. The first interrupt cancels the run, the second ends the process at once.
async fn watch(mut run: Run, mut progress: Progress) -> (Done, bool) {
    let canceller = run.canceller();
    let mut interrupted = false;
    let mut redraw = tokio::time::interval(REDRAW);
    let mut events = run.events();
    loop {
        tokio::select! {
            biased;
            signal = tokio::signal::ctrl_c() => {
                if signal.is_err() {
                    continue;
                }
                if interrupted {
                    std::process::exit(Exit::Interrupted as i32);
                }
                interrupted = true;
                canceller.cancel();
                progress.note("interrupted: cancelling, waiting for steps to clean up (interrupt again to end at once)");
            }
            event = events.next() => match event {
                Some(event) => progress.event(&event),
                None => break,
            },
            _ = redraw.tick() => progress.redraw(),
        }
    }
    let done = run.await;
    progress.finish();
    (done, interrupted)
}

/// The exit code, and for a run that didn't complete the reason.
fn end(
    blueprint: &Blueprint,
    done: &Done,
    interrupted: bool,
    arguments: &RunArguments,
    debug: bool,
) -> Result<Exit, Failure> {
    let place = |step: &str| {
        let (source, position) = blueprint.place_of(step)?;
        Some((Arc::clone(source), position))
    };
    match &done.finish.outcome {
        Outcome::Completed(output) => {
            if !arguments.json {
                print_output(output);
            }
            Ok(Exit::Done)
        }
        Outcome::Failed(failure) | Outcome::Stopped(Stop::Fatal(failure)) => {
            Err(failed(failure, place(&failure.root().step), debug))
        }
        Outcome::Stopped(Stop::LimitExceeded(breach)) => Err(Failure::Other {
            rule: Rule::LimitReached,
            exit: Exit::Limit,
            message: format!("step `{}`: {breach}", breach.step),
            place: place(&breach.step),
            hint: Some(
                "raise `usage_limits` in the blueprint, `--max-cost-usd` or `--max-tokens`".to_owned(),
            ),
            details: None,
        }),
        Outcome::Stopped(Stop::Aborted(reason)) => {
            Err(stopped(format!("the run was aborted: {reason}"), Exit::Failed))
        }
        Outcome::Stopped(Stop::Paused) => {
            let pauses = done.paused.iter().flat_map(PausedRun::pauses);
            let asked = pauses.map(|pause| {
                let message = terminal::one_line(&pause.message);
                let rejected = pause.rejected.as_deref().map(terminal::one_line);
                let rejected = rejected.map_or_else(String::new, |reason| format!("; not taken: {reason}"));
                format!("step `{}` asks: {message}{rejected}", pause.step)
            });
            let asked: Vec<_> = asked.collect();
            Err(Failure::Other {
                rule: Rule::Paused,
                exit: Exit::Paused,
                message: format!("the run waits for answers: {}", asked.join("; ")),
                place: done
                    .paused
                    .as_ref()
                    .and_then(|paused| paused.pauses().first())
                    .and_then(|pause| place(&pause.step)),
                hint: Some(
                    "answer with `--answer STEP=VALUE`, or run it on a terminal and answer there".to_owned(),
                ),
                details: None,
            })
        }
        Outcome::Stopped(Stop::Cancelled) => {
            let records = &done.finish.history.records;
            let finished = records
                .iter()
                .filter(|record| record.status == Status::Succeeded)
                .count();
            let exit = if interrupted {
                Exit::Interrupted
            } else {
                Exit::Failed
            };
            let steps = if finished == 1 { "step" } else { "steps" };
            Err(stopped(
                format!("the run was cancelled; {finished} {steps} had finished"),
                exit,
            ))
        }
    }
}

fn stopped(message: String, exit: Exit) -> Failure {
    Failure::Other {
        rule: Rule::Interrupted,
        exit,
        message,
        place: None,
        hint: None,
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

/// Before a long run, not after it: the folder of a file to be written has to be there.
fn check_folder(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => Err(Failure::usage(
            Rule::OutputUnwritable,
            format!(
                "`{}` can't be written: there is no folder `{}`",
                path.display(),
                folder.display()
            ),
            "make the folder, or name a file in another one",
        )),
        _ => Ok(()),
    }
}

fn not_json(error: &serde_json::Error) -> Failure {
    Failure::Other {
        rule: Rule::OutputUnwritable,
        exit: Exit::Failed,
        message: format!("the result has no JSON form: {error}"),
        place: None,
        hint: None,
        details: None,
    }
}
