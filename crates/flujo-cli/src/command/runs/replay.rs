//! `flujo runs replay`: what agents answered in a stored run, fed to its pipeline as it is now.

use std::collections::BTreeMap;
use std::sync::Arc;

use flujo_blueprint::{Blueprint, Rule};
use flujo_core::agent::Agent;
use flujo_core::context::Context;
use flujo_core::machine::{Finish, Outcome};
use flujo_core::store::StoredRun;
use flujo_core::value::Value;
use flujo_durable::{Contents, Definition, Happened, Raw, Replay, Snapshot};
use flujo_tokio::{Done, ResumeError, Run, Runner};
use serde_json::{Value as Json, json};

use super::Runs;
use super::goes_on::{Program, needed};
use super::player::{Made, Player, Record, Recorded, exact};
use super::reading::Reading;
use crate::arguments::ReplayArguments;
use crate::outcome::{Exit, Failure};
use crate::result::plain;
use crate::{store, terminal};

/// What a run was, as far as replaying it needs.
struct Before {
    input: Value,
    context: Context,
    record: Record,
    /// By the ids of questions.
    answers: BTreeMap<String, Value>,
    finish: Box<Finish<Raw>>,
}

pub(super) fn replay(
    runs: &Runs,
    arguments: &ReplayArguments,
    program: &Program<'_>,
) -> Result<Exit, Failure> {
    let id = &arguments.id;
    let refuse = |reason: String| {
        Failure::usage(
            Rule::WrongStatus,
            format!("run `{id}` can't be replayed: {reason}"),
            "a run that has ended, and of which the whole log is kept, can",
        )
    };
    runs.info(id)?;
    let stored = runs.load(id)?;
    let reading = Reading::of(&stored)?;
    let file = needed(id, arguments.file.as_deref(), &reading)?;
    let contents = Contents::<Raw>::of(&stored).map_err(|error| store::failed(&error))?;
    let before = before(&stored, &reading.definition, contents).map_err(refuse)?;

    let player = Arc::new(Player::new(before.record));
    let agent: Arc<dyn Agent> = Arc::clone(&player) as _;
    let blueprint = Blueprint::load_for(
        &file,
        program.functions.is_some(),
        program.settings.prices.clone(),
    )?;
    let pipeline = blueprint.pipeline_played(program.functions, &agent)?;
    let runner = Runner::builder(pipeline)
        .name(blueprint.name().clone())
        .usage_limits(blueprint.usage_limits())
        .build()
        .map_err(|error| refuse(format!("the pipeline can't run: {error}")))?;
    let run = runner.run_named(id.as_str(), before.input, before.context);
    let done = runs.runtime.block_on(to_end(&runner, run, &before.answers));
    let done = done.map_err(|error| refuse(error.to_string()))?;

    let (made, left) = player.end();
    let differences = differences(&made, &left, &before.finish, &done);
    let equal = differences.is_empty();
    if arguments.json {
        let report = json!({"run": id, "equal": equal, "differences": differences});
        terminal::data_line(&format!("{report:#}"));
    } else {
        terminal::data_line(&text(id, &differences));
    }
    Ok(if equal { Exit::Done } else { Exit::Failed })
}

/// Follows the log of a run from its beginning.
fn before(stored: &StoredRun, definition: &Definition, contents: Contents<Raw>) -> Result<Before, String> {
    let Snapshot::Start(start) = &contents.snapshot else {
        return Err("its log isn't kept from the beginning on".to_owned());
    };
    let input = exact(&start.input);
    let context = match exact(&start.context) {
        Value::Map(fields) => fields.iter().cloned().collect(),
        _ => Context::new(),
    };
    let plan = Arc::new(definition.plan()?);
    let mut replay = Replay::new(plan, contents.snapshot)?;
    let (mut record, mut answers) = (Record::default(), BTreeMap::new());
    for entry in contents.records.into_iter().flat_map(|(_, entries)| entries) {
        if let Some((machine, call)) = replay.call(entry.machine) {
            record.take_in(&stored.info.id, machine, call, &entry.happened);
        }
        if let Happened::Resumed { answer, .. } = &entry.happened {
            let mut open = replay.questions().into_iter();
            if let Some(question) = open.find(|open| open.machine == entry.machine) {
                answers.insert(question.id, exact(answer));
            }
        }
        replay.feed(entry)?;
    }
    let finish = replay.into_finish().ok_or("it hasn't ended")?;
    Ok(Before {
        input,
        context,
        record,
        answers,
        finish,
    })
}

/// Drives a run through the questions that were answered.
async fn to_end(runner: &Runner, run: Run, answers: &BTreeMap<String, Value>) -> Result<Done, ResumeError> {
    let mut done = run.await;
    while let Some(paused) = &done.paused {
        let known = paused.pauses().iter().filter_map(|pause| {
            let answer = answers.get(&pause.id).filter(|_| pause.rejected.is_none())?;
            Some((pause.id.clone(), answer.clone()))
        });
        let known: Vec<_> = known.collect();
        if known.is_empty() {
            break;
        }
        done = runner.resume_with(paused, known)?.await;
    }
    Ok(done)
}

/// In what the run differs now.
fn differences(made: &[Made], left: &[Recorded], before: &Finish<Raw>, done: &Done) -> Vec<Json> {
    let mut found = Vec::new();
    let mut differs = |path: &str, attempt: u32, what: &str, recorded: Json, now: Json| {
        if recorded != now {
            found.push(json!({
                "path": path, "attempt": attempt, "what": what, "recorded": recorded, "now": now,
            }));
        }
    };
    for made in made {
        let now = plain(&made.input);
        match &made.recorded {
            Some(recorded) => differs(&recorded.path, made.attempt, "input", plain(&recorded.input), now),
            None => differs(
                &made.step,
                made.attempt,
                "call",
                Json::Null,
                json!({"input": now}),
            ),
        }
    }
    for recorded in left {
        let input = json!({"input": plain(&recorded.input)});
        differs(&recorded.path, recorded.attempt, "call", input, Json::Null);
    }
    let now = &done.finish.outcome;
    differs("", 0, "status", json!(before.outcome.name()), json!(now.name()));
    let recorded = match &before.outcome {
        Outcome::Completed(output) => plain(&exact(output)),
        _ => Json::Null,
    };
    differs("", 0, "output", recorded, done.output().map_or(Json::Null, plain));
    found
}

fn text(id: &str, differences: &[Json]) -> String {
    if differences.is_empty() {
        return format!("run {}: the same", terminal::one_line(id));
    }
    let line = |difference: &Json| {
        let path = difference["path"].as_str().filter(|path| !path.is_empty());
        let place = match path {
            Some(path) => format!(
                "{path}, attempt {}: {}",
                difference["attempt"], difference["what"]
            ),
            None => format!("the run's {}", difference["what"]),
        };
        let place = place.replace('"', "");
        format!(
            "{place}: was {}, is {}",
            difference["recorded"], difference["now"]
        )
    };
    let lines: Vec<String> = differences.iter().map(line).collect();
    terminal_lines(&lines)
}

/// Each on a line of its own, without what a terminal would obey.
fn terminal_lines(lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| terminal::one_line(line)).collect();
    lines.join("\n")
}
