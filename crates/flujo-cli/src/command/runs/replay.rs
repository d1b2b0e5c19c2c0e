//! `flujo runs replay`: what agents answered in a stored run, fed to its pipeline as it is now.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use flujo_blueprint::{Blueprint, Rule};
use flujo_core::agent::Agent;
use flujo_core::context::Context;
use flujo_core::plan::Plan;
use flujo_core::store::{NewRun, RunStatus, RunStore, StoredRun};
use flujo_core::value::Value;
use flujo_durable::{Contents, Definition, Happened, Raw, RawIn, Replay, Snapshot, Uncalled};
use flujo_store::Memory;
use flujo_tokio::{Done, ResumeError, Run, Runner, Tokio};

use super::super::session::of_the_store;
use super::Runs;
use super::differences::{Differences, Ended};
use super::goes_on::{Program, needed};
use super::player::{Player, Record, Stop, exact};
use super::reading::Reading;
use crate::arguments::ReplayArguments;
use crate::outcome::{Exit, Failure};
use crate::{store, terminal};

/// What a run was, as far as replaying it needs.
struct Before {
    /// Its input and context; `None` when its log begins behind a snapshot.
    start: Option<(Value, Context)>,
    record: Record,
    answers: Answers,
    /// Where it stopped, its end included.
    stops: VecDeque<Stop>,
    ended: Ended,
}

/// What became of each question, by the path of its step and the lane around it, in the order in which that happened: its
/// answer, or that its time was up.
type Answers = HashMap<(Arc<str>, String), VecDeque<Option<Value>>>;

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
            "a run that has ended, and whose log is kept, can",
        )
    };
    runs.info(id)?;
    let stored = runs.load(id)?;
    let reading = Reading::of(&stored)?;
    let file = needed(id, arguments.file.as_deref(), &reading)?;
    let contents = Contents::<Raw>::of(&stored).map_err(|error| store::failed(&error))?;
    let mut before = before(&stored, &reading.definition, contents).map_err(refuse)?;

    let player = Arc::new(Player::new(before.record));
    let agent: Arc<dyn Agent> = Arc::clone(&player) as _;
    let blueprint = Blueprint::load_for(
        &file,
        program.functions.is_some(),
        program.settings.prices.clone(),
    )?;
    let pipeline = blueprint.pipeline_played(program.functions, &agent)?;
    let found = Arc::clone(&player);
    let limits = before.stops.front().and_then(|stop| stop.limits);
    let runner = Runner::builder(pipeline)
        .name(blueprint.name().clone())
        .usage_limits(limits.unwrap_or_else(|| blueprint.usage_limits()))
        .finds(move |place| found.found(place));
    let from = if before.start.is_some() {
        "beginning"
    } else {
        "snapshot"
    };
    // Time is that of the log: it goes on by itself as soon as everybody waits.
    let clock = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .map_err(|error| refuse(format!("its clock can't be made: {error}")))?;
    let copy: Arc<dyn RunStore> = Arc::new(Memory::new());
    let runner = match &before.start {
        Some(_) => runner,
        None => runner.store(Arc::clone(&copy)),
    };
    let runner = runner
        .build()
        .map_err(|error| refuse(format!("the pipeline can't run: {error}")))?;
    let done = clock.block_on(async {
        let run = if let Some((input, context)) = before.start {
            runner.run_named(id.as_str(), input, context)
        } else {
            let put = copy.create(behind_snapshot(&stored), None).await;
            put.map_err(|error| store::failed(&error.into()))?;
            runner.stored(id.as_str())
        };
        let played = Playing {
            player: &player,
            answers: before.answers,
            stops: std::mem::take(&mut before.stops),
        };
        let done = played.drive(&runner, run).await;
        done.map_err(|error| refuse(error.to_string()))
    })?;
    if let Some(error) = of_the_store(&done) {
        return Err(store::failed(error));
    }

    let (made, left) = player.end();
    let differences = Differences::of(&made, &left, &before.ended, &done);
    if arguments.json {
        terminal::data_line(&format!("{:#}", differences.to_json(id, from)));
    } else {
        terminal::data_line(&differences.text(id, from));
    }
    Ok(if differences.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// A run as it was when its last snapshot was written.
fn behind_snapshot(stored: &StoredRun) -> NewRun {
    NewRun {
        id: Arc::clone(&stored.info.id),
        pipeline: Arc::clone(&stored.info.pipeline),
        definition: Arc::clone(&stored.definition),
        created: stored.info.created,
        forked_from: None,
        status: RunStatus::Running,
        snapshot: Arc::clone(&stored.snapshot),
        blobs: Vec::new(),
    }
}

/// Follows the log of a run from its beginning on, or from its last snapshot on.
fn before(stored: &StoredRun, definition: &Definition, contents: Contents<Raw>) -> Result<Before, String> {
    let start = match &contents.snapshot {
        Snapshot::Start(start) => Some((
            exact(&start.input),
            match exact(&start.context) {
                Value::Map(fields) => fields.iter().cloned().collect(),
                _ => Context::new(),
            },
        )),
        Snapshot::Machines { .. } => None,
        Snapshot::Ended(_) => return Err("only its result is kept, and not its log".to_owned()),
    };
    let plan = Arc::new(definition.plan()?);
    let mut replay = Replay::new(Arc::clone(&plan), contents.snapshot)?;
    let (mut record, mut answers) = (Record::default(), Answers::new());
    let (mut stops, mut stop) = (VecDeque::new(), Stop::default());
    // Machines that have been cancelled: what was under way in them ends by that.
    let mut cancelling = HashSet::new();
    let id = &stored.info.id;
    for entry in contents.records.into_iter().flat_map(|(_, entries)| entries) {
        if let Some((machine, call)) = replay.call(entry.machine) {
            let stops = cancelling.contains(&entry.machine);
            record.take_in(id, machine, call, &entry.happened, stops);
        }
        match &entry.happened {
            Happened::CacheHit { output, saved, .. } => {
                if let Some((machine, path)) = replay.step_of(entry.machine) {
                    record.take_in_hit(id, machine, path, (exact(output), *saved));
                }
            }
            Happened::Cancel { .. } => {
                if entry.machine == 0 {
                    stop.given_up = !replay.questions().is_empty();
                    stop.cancelled = Some(record.reached);
                }
                cancelling.insert(entry.machine);
            }
            Happened::Refused(breach) => stop.limits = Some(breach.limits),
            Happened::TakenUp { .. } => {
                stops.push_back(ended(std::mem::take(&mut stop), &record));
                cancelling.clear();
            }
            _ => {}
        }
        let answer = match &entry.happened {
            Happened::Resumed { answer, .. } => Some(Some(exact(answer))),
            Happened::Expired { .. } => Some(None),
            _ => None,
        };
        if let Some(answer) = answer {
            let mut open = replay.questions().into_iter();
            if let Some(open) = open.find(|open| open.machine == entry.machine) {
                let path = Arc::clone(&replay.plan().node(open.question.node).path);
                answers.entry((path, open.lane)).or_default().push_back(answer);
                record.reached.answered += 1;
            }
        }
        replay.feed(entry)?;
    }
    stops.push_back(ended(stop, &record));
    let finish = replay.into_finish().ok_or("it hasn't ended")?;
    Ok(Before {
        start,
        record,
        answers,
        stops,
        ended: Ended {
            finish,
            context: context(stored, plan),
        },
    })
}

/// The context that a run ended with, if it is one of this host.
fn context(stored: &StoredRun, plan: Arc<Plan<Uncalled>>) -> Option<Context> {
    let contents = Contents::<RawIn<Tokio>>::of(stored).ok()?;
    let finish = contents.replay(plan).ok()?.into_finish()?;
    Some(finish.context)
}

/// A run that has stopped: what was under way as it was cancelled has been cancelled with it.
fn ended(mut stop: Stop, record: &Record) -> Stop {
    if let Some(then) = &mut stop.cancelled {
        let stood_still = then.cancelled == record.reached.cancelled;
        then.cancelled = record.reached.cancelled;
        stop.given_up &= stood_still;
        stop.cancelled.take_if(|_| stop.given_up);
    }
    stop
}

/// A run that is being played.
struct Playing<'a> {
    player: &'a Player,
    answers: Answers,
    stops: VecDeque<Stop>,
}

impl Playing<'_> {
    /// Drives a run through the questions that were answered, and where it stopped and went on.
    async fn drive(mut self, runner: &Runner, run: Run) -> Result<Done, ResumeError> {
        let mut done = self.played(run).await;
        loop {
            done = if let Some(paused) = &done.paused {
                let (mut known, mut over) = (Vec::new(), None);
                for pause in paused.pauses() {
                    let key = (Arc::clone(&pause.path), pause.lane.clone());
                    match self.answers.get_mut(&key).and_then(VecDeque::pop_front) {
                        Some(Some(answer)) => known.push((pause.id.clone(), answer)),
                        Some(None) => over = over.max(pause.expires),
                        None => continue,
                    }
                    self.player.answered();
                }
                match over {
                    Some(over) => tokio::time::sleep_until(over).await,
                    None if !known.is_empty() => {}
                    None if self.stops.front().is_some_and(|stop| stop.given_up) => {
                        done = runner.cancel(paused)?.await;
                        continue;
                    }
                    None => return Ok(done),
                }
                self.played(runner.resume_with(paused, known)?).await
            } else if let (Some(stopped), true) = (&done.stopped, self.stops.len() > 1) {
                self.stops.pop_front();
                let limits = self.stops.front().and_then(|stop| stop.limits);
                let run = runner.resume_stopped(stopped, Some(limits.unwrap_or_default()))?;
                self.played(run).await
            } else {
                return Ok(done);
            };
        }
    }

    /// Drives it until it stops, and cancels it where it was cancelled.
    async fn played(&self, run: Run) -> Done {
        let at = self.stops.front().and_then(|stop| stop.cancelled);
        self.player.cancels(at, run.canceller());
        run.await
    }
}
