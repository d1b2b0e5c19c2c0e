//! A blueprint with its runner: what drives runs of it to their end, and shows them.

mod end;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flujo_blueprint::{Blueprint, Functions, Rule};
use flujo_core::usage::{Cost, UsageLimits};
use flujo_core::value::Value;
use flujo_durable::Durability;
use flujo_tokio::{Done, PausedRun, ResumeError, Run, Runner};

use self::end::End;
pub(in crate::command) use self::end::of_the_store;
pub(super) use self::end::word;
use super::telemetry::{self, Telemetry};
use super::write_whole;
use crate::answers::{Answers, Next};
use crate::color::{Paint, Stream};
use crate::interrupts::Interrupts;
use crate::outcome::{Exit, Failure};
use crate::progress::{Progress, REDRAW};
use crate::settings::Settings;
use crate::store::{self, Store};
use crate::{result, summary, terminal};

/// How long work that can't be stopped may hold up the end of the command.
const GRACE: Duration = Duration::from_secs(5);

/// A blueprint that is ready to run.
pub(super) struct Session {
    blueprint: Blueprint,
    settings: Settings,
    telemetry: Telemetry,
    runner: Runner,
    paint: Paint,
    // The last: it is closed when nobody needs it any more.
    store: Option<Store>,
}

/// What is shown of a run.
pub(super) struct Showing<'a> {
    pub(super) json: bool,
    pub(super) quiet: bool,
    pub(super) context_out: Option<&'a Path>,
    pub(super) debug: bool,
}

/// How a run is gone on with that was stopped before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It isn't: how it stands is its result.
    Stays,
    /// It goes on, with the limits that hold now.
    GoesOn,
}

impl Session {
    /// Reads and checks everything; nothing runs.
    pub(super) fn load(
        file: &Path,
        settings: Settings,
        functions: Option<&dyn Functions>,
        store: Option<Store>,
        before: UsageLimits,
    ) -> Result<Self, Failure> {
        let blueprint = Blueprint::load_for(file, functions.is_some(), settings.prices.clone())?;
        blueprint.check_allowed(&settings.allowed())?;
        for name in ["stats_out", "trace_out", "metrics_out"] {
            if let Some(path) = settings.value(name) {
                check_folder(Path::new(path))?;
            }
        }
        let telemetry = Telemetry::new(&settings)?;
        let given = given(&settings, before);
        let kept = store.as_ref().map(|store| (store, file));
        let runner = runner(&blueprint, kept, &settings, functions, given, &telemetry)?;
        let telemetry = telemetry.serve(&runner, blueprint.name())?;
        Ok(Self {
            blueprint,
            settings,
            telemetry,
            runner,
            paint: Paint::for_stream(Stream::Error),
            store,
        })
    }

    /// Drives a run to its end, or to where it waits for answers, and shows it.
    pub(super) fn drive(
        self,
        run: impl FnOnce(&Runner) -> Run,
        stopped: Stopped,
        mut answers: Answers,
        showing: &Showing<'_>,
    ) -> Result<Exit, Failure> {
        // The first, and so the last that goes.
        let Self {
            store,
            blueprint,
            settings,
            telemetry,
            runner,
            paint,
        } = self;
        let runtime = runtime()?;
        let word = settings.value("progress").unwrap_or("auto");
        let show = || Progress::new(word, showing.quiet, blueprint.name(), paint);
        let mut run = run(&runner);
        if let Some(caller) = telemetry::caller() {
            run.set_parent(caller);
        }
        let (done, interrupted) =
            runtime.block_on(to_end(&runner, run, stopped, &mut answers, paint, show))?;
        runtime.shutdown_timeout(GRACE);
        telemetry.end(paint)?;
        if let Some(error) = of_the_store(&done) {
            return Err(store::failed(error));
        }
        for step in answers.left() {
            terminal::note(&paint.warning(&format!("`--answer {step}=…`: step `{step}` asked nothing")));
        }
        if !showing.quiet {
            terminal::note(&summary::tree(&done.plan, &done.finish, done.status(), paint));
        }
        if let Some(path) = settings.value("stats_out").map(PathBuf::from) {
            let text = serde_json::to_vec_pretty(&runner.performance_statistics())
                .map_err(|error| not_json(&error))?;
            write_whole(&path, &text)?;
        }
        if let Some(path) = showing.context_out {
            let context = result::plain(&done.finish.context.to_value());
            let text = serde_json::to_vec_pretty(&context).map_err(|error| not_json(&error))?;
            write_whole(path, &text)?;
        }
        if showing.json {
            let text =
                serde_json::to_string_pretty(&result::to_json(&done)).map_err(|error| not_json(&error))?;
            terminal::data_line(&text);
        }
        let end = End {
            blueprint: &blueprint,
            done: &done,
            interrupted,
            kept: store.as_ref().map(Store::option),
            showing,
        };
        end.tell()
    }
}

impl Session {
    /// Ends a run that waits for answers.
    pub(super) fn cancel(self, id: Arc<str>, showing: &Showing<'_>) -> Result<Exit, Failure> {
        let (runner, paint) = (&self.runner, self.paint);
        let ended = runtime()?.block_on(async {
            let done = runner.stored(id).await;
            match done.paused.as_ref().map(|paused| runner.cancel(paused)) {
                Some(Ok(run)) => Ok(run.await),
                Some(Err(error)) => Err(Failure::usage(
                    Rule::WrongStatus,
                    error.to_string(),
                    "look at it again",
                )),
                None => Ok(done),
            }
        });
        let done = ended?;
        if let Some(error) = of_the_store(&done) {
            return Err(store::failed(error));
        }
        if !showing.quiet {
            terminal::note(&summary::tree(&done.plan, &done.finish, done.status(), paint));
        }
        if showing.json {
            terminal::data_line(&format!("{:#}", result::to_json(&done)));
        }
        self.telemetry.end(paint)?;
        Ok(Exit::Done)
    }
}

/// Threads for runs.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Failure::Other {
        rule: Rule::RunFailed,
        exit: Exit::Failed,
        message: format!("no threads can be started: {error}"),
        place: None,
        hint: Some("raise the limits of processes and open files".to_owned()),
        details: None,
    })
}

fn runner(
    blueprint: &Blueprint,
    kept: Option<(&Store, &Path)>,
    settings: &Settings,
    functions: Option<&dyn Functions>,
    given: UsageLimits,
    telemetry: &Telemetry,
) -> Result<Runner, Failure> {
    let mut builder = Runner::builder(blueprint.pipeline_with(functions)?)
        .name(blueprint.name().clone())
        .usage_limits(blueprint.usage_limits().and(given))
        .given_limits(given);
    for limit in blueprint.rate_limits() {
        builder = builder.rate_limit(limit.clone());
    }
    builder = builder.optimizations(settings.value("optimizations") != Some("false"));
    if let Some(seconds) = settings.number("deadline_s") {
        builder = builder.deadline(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    }
    if let Some((store, file)) = kept {
        let durability = match settings.value("durability") {
            Some("async") => Durability::Async,
            Some("exit") => Durability::Exit,
            _ => Durability::Strict,
        };
        builder = builder.store(Arc::clone(store.runs())).durability(durability);
        // Whoever goes on with the run may be in another folder.
        if let Some(source) = std::path::absolute(file).ok().as_deref().and_then(Path::to_str) {
            builder = builder.source(source);
        }
    }
    telemetry.attach(builder).build().map_err(|error| {
        Failure::usage(
            Rule::BadValue,
            format!("the pipeline can't run: {error}"),
            "correct the blueprint",
        )
    })
}

/// The settings' limits and, where they say nothing, those that came with the run before.
fn given(settings: &Settings, before: UsageLimits) -> UsageLimits {
    let cost = settings
        .number("max_cost_usd")
        .and_then(|dollars| Cost::from_dollars(dollars).ok());
    let tokens = settings
        .value("max_tokens")
        .and_then(|tokens| tokens.parse().ok());
    UsageLimits {
        cost: cost.or(before.cost),
        tokens: tokens.or(before.tokens),
        requests: before.requests,
    }
}

/// Drives the run and shows it, through all questions that something comes of.
async fn to_end(
    runner: &Runner,
    run: Run,
    stopped: Stopped,
    answers: &mut Answers,
    paint: Paint,
    show: impl Fn() -> Progress,
) -> Result<(Done, bool), Failure> {
    let mut interrupts = Interrupts::listen();
    let (mut done, mut interrupted) = watch(run, show(), &mut interrupts).await;
    if let (Stopped::GoesOn, false, Some(before)) = (stopped, interrupted, &done.stopped) {
        let run = runner.resume_stopped(before, None).map_err(|error| {
            let hint = "raise `usage_limits` in the blueprint, `--max-cost-usd` or `--max-tokens`";
            Failure::usage(Rule::LimitReached, error.to_string(), hint)
        })?;
        (done, interrupted) = watch(run, show(), &mut interrupts).await;
    }
    while let Some(paused) = &done.paused {
        let next = if interrupted {
            Next::Cancel
        } else {
            answers.to(paused.pauses(), paint, &mut interrupts).await
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
        let (ended, cancelled) = watch(run, show(), &mut interrupts).await;
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
async fn watch(mut run: Run, mut progress: Progress, interrupts: &mut Interrupts) -> (Done, bool) {
    let canceller = run.canceller();
    let mut interrupted = false;
    let mut redraw = tokio::time::interval(REDRAW);
    let mut events = run.events();
    loop {
        tokio::select! {
            biased;
            () = interrupts.next() => {
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

/// Before a long run, not after it: the folder of a file to be written has to be there.
pub(super) fn check_folder(path: &Path) -> Result<(), Failure> {
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

pub(super) fn not_json(error: &serde_json::Error) -> Failure {
    Failure::Other {
        rule: Rule::OutputUnwritable,
        exit: Exit::Failed,
        message: format!("the result has no JSON form: {error}"),
        place: None,
        hint: None,
        details: None,
    }
}
