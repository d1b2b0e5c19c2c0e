//! Random pipelines whose runs are kept: what is found in the store is how they ended, and from several records of
//! their log another process goes on to the same end.

use std::sync::{Arc, Mutex};

use flujo_core::plan::LaneFailure;
use flujo_core::store::RunStore;
use flujo_core::usage::UsageLimits;
use flujo_core::value::Value;
use flujo_simulation::differential::{self, EndView};
use flujo_simulation::{Case, Script, Spec};
use flujo_store::Memory;
use flujo_tokio::{Done, Run, Runner};
use serde_json::Value as Json;

use super::scripted::{self, CONSTRUCTS, Log};
use super::{cases, difference, flow, seen};
use crate::left::first_of;

const SEED: u64 = 2;
/// One of so many of the cases that are compared without a store.
const SHARE: u64 = 32;
/// From so many places of its log a run goes on.
const PLACES: usize = 6;

const RUN: &str = "the run";

/// A process with a store: its runner, and what it has called.
struct Kept {
    case: Case,
    store: Arc<Memory>,
    log: Arc<Mutex<Log>>,
    runner: Runner,
    /// How often each question was answered, and behind which record.
    answered: Vec<(String, u64)>,
}

impl Kept {
    fn of(case: &Case, store: Arc<Memory>, index: u64) -> Self {
        let mut log = Log::of(case);
        log.named = true;
        let log = Arc::new(Mutex::new(log));
        let builder = seen::builder(case, seen::config(index), &log);
        let runner = builder.store(Arc::<Memory>::clone(&store)).build().unwrap();
        Self {
            case: case.clone(),
            store,
            log,
            runner,
            answered: Vec::new(),
        }
    }

    /// Runs to the end, answering all that is asked.
    async fn ends(&mut self, mut run: Run) -> Done {
        let canceller = seen::cancelling(&self.case, &run);
        loop {
            let done = run.await;
            let Some(paused) = &done.paused else {
                return done;
            };
            let info = self.store.info(RUN.into()).await.unwrap();
            let behind = info.unwrap().last_record;
            let mut answers: Vec<(String, Value)> = Vec::new();
            for pause in paused.pauses() {
                let times = self.answered.iter().filter(|(id, _)| *id == pause.id).count();
                answers.push((
                    pause.id.clone(),
                    flow::answer(&self.case.pipeline, &pause.step, times),
                ));
                self.answered.push((pause.id.clone(), behind));
            }
            run = self.runner.resume_with(paused, answers).unwrap();
            *canceller.lock().unwrap() = run.canceller();
        }
    }

    async fn begins(&mut self) -> Done {
        let (input, context) = (scripted::value_of(&self.case.input), seen::context_of(&self.case));
        let run = self.runner.run_named(RUN, input, context);
        self.ends(run).await
    }

    async fn goes_on(&mut self) -> Done {
        let run = self.runner.stored(RUN);
        self.ends(run).await
    }

    fn calls(&self) -> usize {
        self.log.lock().unwrap().calls.values().map(Vec::len).sum()
    }
}

/// A case that ends the same however long its calls take, and however often they are made: where a process dies, the attempt
/// that was under way begins again.
fn timeless(case: &Case) -> Case {
    let mut case = case.clone();
    (case.deadline, case.schedule.cancel_at) = (None, None);
    case.limits = UsageLimits::default();
    case.rates.clear();
    case.agent_rates.clear();
    let mut case: Case = serde_json::from_value(with_one_act(serde_json::to_value(case).unwrap())).unwrap();
    case.pipeline.visit_mut(&mut |spec| match spec {
        Spec::Step(step) => {
            (step.policy.timeout, step.deadline, step.limits) = (None, None, None);
            step.rates.clear();
        }
        Spec::Conditional(spec) => spec.deadline = None,
        // What a branch that fails finds under way depends on when it does.
        Spec::Parallel(spec) => (spec.deadline, spec.on_failure) = (None, LaneFailure::Ignore),
        Spec::Map(spec) => (spec.deadline, spec.on_failure) = (None, LaneFailure::Tolerate),
        Spec::Group(spec) => spec.deadline = None,
        Spec::Loop(spec) => spec.deadline = None,
        // One that always said the same would never end.
        Spec::States(spec) => (spec.deadline, spec.next) = (None, Script::default()),
        Spec::Human(spec) => (spec.deadline, spec.accept) = (None, None),
        Spec::Sequence(_) | Spec::Guard(_) => {}
    });
    case
}

/// The same thing each time that something is called. No plugin asks for another agent: what an attempt used that begins again
/// behind such a request was used.
fn with_one_act(json: Json) -> Json {
    match json {
        Json::Array(mut items) => {
            if items
                .first()
                .is_some_and(|item| item.get("takes_per_unit").is_some())
            {
                items.truncate(1);
            }
            items.into_iter().map(with_one_act).collect()
        }
        Json::Object(fields) if fields.contains_key("redirect") => Json::from("natural"),
        Json::Object(fields) => fields
            .into_iter()
            .map(|(name, item)| (name, with_one_act(item)))
            .collect(),
        other => other,
    }
}

/// Texts without the number of the call that they tell of.
fn unnumbered(json: Json) -> Json {
    match json {
        Json::String(text) => {
            let parts = text
                .split("call ")
                .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
            Json::from(parts.collect::<Vec<_>>().join("call "))
        }
        Json::Array(items) => items.into_iter().map(unnumbered).collect(),
        Json::Object(fields) => fields
            .into_iter()
            .map(|(name, item)| (name, unnumbered(item)))
            .collect(),
        other => other,
    }
}

fn compared(what: &str, expected: &EndView, done: &Done) -> Result<(), String> {
    let json = |end: &EndView| unnumbered(serde_json::to_value(end).unwrap());
    let (expected, seen) = (json(expected), json(&seen::end_of(done)));
    match difference("", &expected, &seen) {
        None => Ok(()),
        Some(found) => Err(format!("{what}: {found}")),
    }
}

/// The end of a kept run, and what is found of it by who looks it up. Gives what ran it.
async fn found(case: &Case, expected: &EndView, index: u64) -> Result<Kept, String> {
    let mut first = Kept::of(case, Arc::new(Memory::new()), index);
    compared("kept", expected, &first.begins().await)?;

    let mut second = Kept::of(case, Arc::clone(&first.store), index);
    compared("found", expected, &second.goes_on().await)?;
    match second.calls() {
        0 => Ok(first),
        _ => Err(format!(
            "who looks it up calls {:?}",
            second.log.lock().unwrap().calls
        )),
    }
}

/// The end of a run that goes on from each of several places; gives how many there were.
async fn goes_on(case: &Case, expected: &EndView, index: u64) -> Result<usize, String> {
    let first = found(case, expected, index).await?;
    let stored = first.store.load(RUN.into()).await.unwrap();
    let places = stored.records.len() + 1;
    let several = (0..places).step_by(places.div_ceil(PLACES));
    let mut went_on = 0;
    for place in several {
        let behind = stored.through + place as u64;
        let mut other = Kept::of(case, first_of(&stored, place).await, index);
        let answered = first.answered.iter().filter(|(_, record)| *record < behind);
        other.answered = answered.cloned().collect();
        let at = format!("from record {behind} of {}", stored.info.last_record);
        compared(&at, expected, &other.goes_on().await)?;
        went_on += 1;
    }
    Ok(went_on)
}

fn check<T: Send + 'static>(
    case: &Case,
    index: u64,
    found: impl Future<Output = Result<T, String>> + Send + 'static,
) -> T {
    seen::on_paused_clock(found).unwrap_or_else(|found| {
        panic!(
            "case {index} of seed {SEED} with {:?}\n{found}\n{}",
            seen::config(index),
            serde_json::to_string(case).unwrap()
        )
    })
}

#[test]
fn random_pipelines_are_found_in_their_store_as_they_ended_and_go_on_from_records_of_their_log_to_the_same_end()
 {
    let (mut kept, mut went_on, mut places) = (0, 0, 0);
    for index in 0..cases() / SHARE {
        let Some(expectation) = differential::expectation(SEED, index, CONSTRUCTS).unwrap() else {
            continue;
        };
        let case = seen::own_rates(&expectation.case);
        let end = expectation.view.end;
        let of = case.clone();
        check(
            &case,
            index,
            async move { found(&of, &end, index).await.map(drop) },
        );
        kept += 1;

        let case = timeless(&case);
        let Some(expectation) = differential::expected(case.clone()).unwrap() else {
            continue;
        };
        let end = expectation.view.end;
        let of = case.clone();
        places += check(&case, index, async move { goes_on(&of, &end, index).await });
        went_on += 1;
    }
    println!("{kept} cases of seed {SEED}, {went_on} gone on with from {places} places");
    assert!(went_on > kept / 2, "{went_on} of {kept}");
}
