//! Runs that stand still for answers, and go on.

#![allow(clippy::expect_used)] // also in what the tests share: a panic is how a test fails

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::context::Context;
use flujo_core::machine::{Outcome, Status, Stop};
use flujo_core::usage::{Usage, UsageLimits};
use flujo_core::value::Value;
use flujo_tokio::{
    Done, EventKind, Handler, Human, Loop, MapOver, Parallel, PausedRun, Pipeline, ResumeError, Runner, Step,
};

fn runner(pipeline: impl Into<Pipeline>) -> Runner {
    Runner::builder(pipeline).build().expect("the pipeline can run")
}

async fn start(runner: &Runner, input: impl Into<Value>) -> Done {
    runner.run(input.into(), Context::new()).await
}

fn paused(done: &Done) -> &PausedRun {
    assert_eq!(done.status(), "paused");
    assert!(matches!(done.finish.outcome, Outcome::Stopped(Stop::Paused)));
    done.paused.as_ref().expect("it is paused")
}

fn ids(done: &Done) -> Vec<String> {
    paused(done)
        .pauses()
        .iter()
        .map(|pause| pause.id.clone())
        .collect()
}

async fn answer(runner: &Runner, done: &Done, answer: impl Into<Value>) -> Done {
    runner
        .resume(paused(done), answer.into())
        .expect("it goes on")
        .await
}

/// A step that counts how often it runs.
fn counted(name: &'static str) -> (Step, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let step = Step::new(
        name,
        Handler::processor(move |input, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(input.clone())
        }),
    );
    (step, calls)
}

fn numbers(output: Option<&Value>) -> Vec<i64> {
    let values = output.and_then(Value::as_list).expect("a list");
    values.iter().filter_map(Value::as_int).collect()
}

fn list(numbers: impl IntoIterator<Item = i64>) -> Value {
    Value::list(numbers.into_iter().map(Value::from))
}

#[tokio::test]
async fn a_question_pauses_the_run_at_that_very_point_and_its_answer_goes_on() {
    let (before, calls) = counted("before");
    let after = Step::new(
        "after",
        Handler::processor(|input, _| Ok(Value::from(format!("{}!", input.as_str().unwrap_or_default())))),
    );
    let runner = runner(
        Pipeline::from(before)
            .then(Human::new("approve").sink_to("answers.approve"))
            .then(after),
    );
    let done = start(&runner, "publish it?").await;
    let pause = &paused(&done).pauses()[0];
    assert_eq!(
        (&*pause.step, &*pause.path, &*pause.message),
        ("approve", "approve", "publish it?")
    );
    let statuses: Vec<_> = done
        .finish
        .history
        .records
        .iter()
        .map(|record| record.status)
        .collect();
    assert_eq!(statuses, [Status::Succeeded, Status::Running]);
    assert_eq!(done.output(), None);

    let done = answer(&runner, &done, "yes").await;
    assert_eq!(done.output(), Some(&Value::from("yes!")));
    assert_eq!(
        done.finish.context.get_path("answers.approve"),
        Some(&Value::from("yes"))
    );
    assert_eq!(calls.load(Ordering::Relaxed), 1, "nothing runs again");
    assert_eq!(runner.performance_statistics().execution_count, 1);
}

#[tokio::test]
async fn a_question_in_a_loop_pauses_once_for_each_iteration_and_none_of_its_steps_runs_again() {
    let (first, firsts) = counted("first");
    let (last, lasts) = counted("last");
    let body = Pipeline::from(first)
        .then(Human::new("ask"))
        .then(last.sink_to("slot"));
    let looped = Loop::until("turns", body, |output, _| Ok(output.as_str() == Some("y")));
    let runner = runner(looped);
    let one = start(&runner, "go").await;
    let two = answer(&runner, &one, "x").await;
    assert_ne!(ids(&one), ids(&two), "each question has a name of its own");
    let done = answer(&runner, &two, "y").await;
    assert_eq!(done.output(), Some(&Value::from("y")));
    assert_eq!(
        (firsts.load(Ordering::Relaxed), lasts.load(Ordering::Relaxed)),
        (2, 2)
    );
    let names: Vec<_> = done
        .finish
        .history
        .records
        .iter()
        .map(|record| &*done.plan.node(record.node).name)
        .collect();
    assert_eq!(names, ["turns", "first", "ask", "last", "first", "ask", "last"]);
}

fn fan_out() -> (Runner, Arc<AtomicU32>) {
    let (work, calls) = counted("work");
    let branch = |name: &'static str| Pipeline::from(work.clone()).then(Human::new(name));
    let split = Parallel::new("split")
        .branch("a", branch("ask a"))
        .branch("b", work.clone())
        .branch(
            "c",
            MapOver::new("each", branch("ask c"))
                .items(|_, _| Ok(vec![Value::from(0), Value::from(1)]))
                .max_concurrency(2),
        );
    (runner(split), calls)
}

#[tokio::test]
async fn several_questions_are_open_at_once_and_each_answer_finds_its_own_at_any_depth() {
    let (runner, calls) = fan_out();
    let done = start(&runner, 7).await;
    let pauses = paused(&done).pauses();
    let lanes: Vec<_> = pauses.iter().map(|pause| pause.lane.as_str()).collect();
    assert_eq!(lanes, ["split[a]", "split[c]/each[0]", "split[c]/each[1]"]);
    let finished = &done.finish.history.records[0].lanes()[1];
    assert_eq!(
        finished.output(),
        Some(&Value::from(7)),
        "finished siblings are kept"
    );

    let ids = ids(&done);
    let some = [
        (ids[2].clone(), Value::from("two")),
        (ids[0].clone(), Value::from("zero")),
    ];
    let done = runner.resume_with(paused(&done), some).expect("it goes on").await;
    assert_eq!(paused(&done).pauses().len(), 1);
    assert_eq!(paused(&done).pauses()[0].id, ids[1], "ids are stable");
    let done = answer(&runner, &done, "one").await;
    let output = done.output().expect("an output");
    assert_eq!(output.get("a"), Some(&Value::from("zero")));
    assert_eq!(output.get("b"), Some(&Value::from(7)));
    assert_eq!(
        output.get("c"),
        Some(&Value::list([Value::from("one"), Value::from("two")]))
    );
    assert_eq!(calls.load(Ordering::Relaxed), 4, "nothing runs again");
}

#[tokio::test]
async fn answers_that_cannot_be_given_are_refused_and_the_run_stays_paused() {
    let (runner, _) = fan_out();
    let done = start(&runner, 7).await;
    let (run, ids) = (paused(&done), ids(&done));
    let refused = |answers: Vec<(String, Value)>| runner.resume_with(run, answers).err();
    assert_eq!(
        runner.resume(run, Value::Null).err(),
        Some(ResumeError::Ambiguous { open: ids.clone() })
    );
    let unknown = ("nowhere#1".to_owned(), Value::Null);
    let error = refused(vec![(ids[0].clone(), Value::Null), unknown]).expect("it is refused");
    assert!(matches!(&error, ResumeError::UnknownPause { id, open } if id == "nowhere#1" && *open == ids));
    assert!(error.to_string().contains(&ids[1]), "{error}");
    assert_eq!(refused(vec![]), Some(ResumeError::NoAnswer { open: ids.clone() }));
    let twice = vec![(ids[0].clone(), Value::from(1)), (ids[0].clone(), Value::from(2))];
    assert_eq!(
        refused(twice),
        Some(ResumeError::AlreadyAnswered { id: ids[0].clone() })
    );
    let (other, _) = fan_out();
    assert!(matches!(
        other.resume(run, Value::Null).err(),
        Some(ResumeError::OtherRunner { .. })
    ));

    let next = runner
        .resume_with(run, [(ids[0].clone(), Value::from(1))])
        .expect("it goes on")
        .await;
    let again = runner.resume_with(run, [(ids[0].clone(), Value::from(2))]).err();
    assert_eq!(again, Some(ResumeError::AlreadyAnswered { id: ids[0].clone() }));
    let rest = ids[1..].iter().map(|id| (id.clone(), Value::from(3)));
    let done = runner.resume_with(paused(&next), rest).expect("it goes on").await;
    assert_eq!(
        done.output().and_then(|output| output.get("a")),
        Some(&Value::from(1))
    );
    assert!(matches!(
        runner.resume(paused(&next), Value::Null).err(),
        Some(ResumeError::AlreadyAnswered { .. })
    ));
    assert!(matches!(
        runner.cancel(paused(&next)).err(),
        Some(ResumeError::NotPaused { .. })
    ));
}

#[tokio::test]
async fn a_bad_answer_leaves_the_question_open_with_the_reason_and_writes_nothing() {
    let human = Human::new("how many")
        .accept(|answer, context| {
            context.set("seen", answer.clone());
            Ok(answer)
        })
        .validator(|answer, _| {
            answer
                .as_int()
                .map(drop)
                .ok_or_else(|| "a number is needed".to_owned())
        });
    let runner = runner(human);
    let first = start(&runner, "how many?").await;
    let second = answer(&runner, &first, "many").await;
    assert_eq!(ids(&first), ids(&second));
    let rejected = paused(&second).pauses()[0].rejected.clone().expect("a reason");
    assert!(rejected.contains("a number is needed"), "{rejected}");
    assert_eq!(second.finish.context.get("seen"), None);
    let done = answer(&runner, &second, 3).await;
    assert_eq!(done.output(), Some(&Value::from(3)));
}

#[tokio::test]
async fn a_paused_run_can_be_cancelled_and_its_history_is_kept() {
    let (runner, _) = fan_out();
    let done = start(&runner, 7).await;
    let ended = runner.cancel(paused(&done)).expect("it is paused").await;
    assert_eq!(ended.status(), "cancelled");
    let split = &ended.finish.history.records[0];
    assert_eq!(split.status, Status::Cancelled);
    assert_eq!(split.lanes()[1].output(), Some(&Value::from(7)));
    let lane = split.lanes()[0].finish.as_ref().expect("the lane's end");
    let statuses: Vec<_> = lane.history.records.iter().map(|record| record.status).collect();
    assert_eq!(statuses, [Status::Succeeded, Status::Cancelled]);
}

#[tokio::test]
async fn a_lane_that_stands_still_is_cancelled_when_a_sibling_fails() {
    let failing = Step::new(
        "fail",
        Handler::function(|_| async {
            tokio::task::yield_now().await;
            Err("broken".into())
        }),
    )
    .retries(0);
    let split = Parallel::new("split")
        .branch(
            "ask",
            Pipeline::new().then(MapOver::new("each", Human::new("ask"))),
        )
        .branch("work", failing);
    let done = start(&runner(split), list([1])).await;
    assert_eq!(done.status(), "failed");
    let asked = done.finish.history.records[0].lanes()[0]
        .finish
        .as_ref()
        .expect("the lane's end");
    assert!(matches!(asked.outcome, Outcome::Stopped(Stop::Cancelled)));
}

#[tokio::test(start_paused = true)]
async fn time_stands_still_while_the_run_is_paused_and_deadlines_keep_what_remained() {
    let slow = || {
        Step::new(
            "work",
            Handler::function(|input| async move {
                tokio::time::sleep(Duration::from_secs(4)).await;
                Ok(input)
            }),
        )
    };
    let pipeline = Pipeline::from(slow()).then(Human::new("ask")).then(slow());
    let within = |limit| {
        Runner::builder(pipeline.clone())
            .deadline(Duration::from_secs(limit))
            .build()
            .expect("it can run")
    };
    for (limit, status) in [(9, "completed"), (7, "failed")] {
        let runner = within(limit);
        let done = start(&runner, "?").await;
        tokio::time::advance(Duration::from_hours(5)).await;
        let done = answer(&runner, &done, "yes").await;
        assert_eq!(done.status(), status, "with a deadline of {limit} s");
        let ended = done
            .finish
            .history
            .records
            .iter()
            .map(|record| record.ended)
            .max();
        assert!(ended < Some(9_000_000_000), "{ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_nobody_answers_in_time_goes_on_with_its_default_or_fails() {
    let ask = |default: Option<&'static str>| {
        let human = Human::new("ask").timeout(Duration::from_mins(1));
        runner(match default {
            Some(answer) => human.default_answer(Value::from(answer)),
            None => human,
        })
    };
    let runner = ask(Some("nobody"));
    let done = start(&runner, "anybody?").await;
    assert!(runner.resume_with(paused(&done), [("x", Value::Null)]).is_err());
    tokio::time::advance(Duration::from_mins(2)).await;
    let id = ids(&done).remove(0);
    assert_eq!(
        runner.resume(paused(&done), Value::from("me")).err(),
        Some(ResumeError::Expired { id })
    );
    let none: [(&str, Value); 0] = [];
    let done = runner
        .resume_with(paused(&done), none)
        .expect("it has expired")
        .await;
    assert_eq!(done.output(), Some(&Value::from("nobody")));

    let runner = ask(None);
    let done = start(&runner, "anybody?").await;
    tokio::time::advance(Duration::from_mins(2)).await;
    let done = runner
        .resume_with(paused(&done), none_at_all())
        .expect("it has expired")
        .await;
    assert_eq!(done.status(), "failed");
}

fn none_at_all() -> [(&'static str, Value); 0] {
    []
}

struct Tokens(u64);

impl Agent for Tokens {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        let usage = Usage {
            tokens: self.0,
            ..Usage::ZERO
        };
        Box::pin(async move {
            Ok(AgentOutput {
                usage,
                ..request.input.into()
            })
        })
    }
}

#[tokio::test]
async fn a_paused_run_shows_its_exact_usage_and_goes_on_with_the_same_budget() {
    let spend = |name: &'static str| Step::agent(name, Arc::new(Tokens(10))).retries(0);
    let branch = |name: &'static str| {
        Pipeline::from(spend("before"))
            .then(Human::new(name))
            .then(spend("after"))
    };
    let split = Parallel::new("split")
        .branch("a", branch("ask a"))
        .branch("b", branch("ask b"));
    let pipeline = Pipeline::from(spend("first")).then(split);
    let limited = |tokens| {
        let limits = UsageLimits {
            tokens: Some(tokens),
            ..UsageLimits::default()
        };
        Runner::builder(pipeline.clone())
            .usage_limits(limits)
            .build()
            .expect("it can run")
    };
    for (limit, status, used) in [(50, "completed", 50), (40, "limit_exceeded", 50)] {
        let runner = limited(limit);
        let done = start(&runner, 1).await;
        assert_eq!(done.finish.usage.tokens, 30, "parked lanes included");
        assert_eq!(done.finish.history.records[1].usage.tokens, 20);
        let answers = ids(&done).into_iter().map(|id| (id, Value::from(1)));
        let done = runner
            .resume_with(paused(&done), answers)
            .expect("it goes on")
            .await;
        assert_eq!((done.status(), done.finish.usage.tokens), (status, used));
    }
}

#[tokio::test]
async fn a_resumed_run_that_never_begins_leaves_the_run_paused() {
    let runner = runner(Human::new("ask"));
    let done = start(&runner, "?").await;
    drop(
        runner
            .resume(paused(&done), Value::from("lost"))
            .expect("it could go on"),
    );
    let done = answer(&runner, &done, "kept").await;
    assert_eq!(done.output(), Some(&Value::from("kept")));
}

#[tokio::test]
async fn the_events_of_a_paused_run_end_with_its_pause_and_those_of_the_resumed_one_go_on() {
    let runner = runner(Pipeline::from(counted("before").0).then(Human::new("ask")));
    let mut run = runner.run(Value::from("?"), Context::new());
    let mut told = Vec::new();
    while let Some(event) = run.events().next().await {
        if let EventKind::Paused(pause) = &event.kind {
            assert_eq!(pause.message, "?");
        }
        told.push(event.kind.name());
    }
    let expected = [
        "run_started",
        "step_started",
        "attempt_started",
        "step_finished",
        "step_started",
        "paused",
        "run_finished",
    ];
    assert_eq!(told, expected);
    let done = run.await;
    let mut run = runner
        .resume(paused(&done), Value::from("yes"))
        .expect("it goes on");
    let mut told = Vec::new();
    while let Some(event) = run.events().next().await {
        told.push(event.kind.name());
    }
    assert_eq!(told, ["resumed", "step_finished", "run_finished"]);
    assert_eq!(run.await.output(), Some(&Value::from("yes")));
}

#[tokio::test]
async fn a_question_inside_a_retried_body_keeps_the_attempt_it_is_in() {
    let picky = Step::body("approve", Human::new("approve"))
        .retries(1)
        .validator(Handler::validator(|answer, _| match answer.as_str() {
            Some("yes") => Ok(()),
            _ => Err("ask again".into()),
        }));
    let runner = runner(picky);
    let done = start(&runner, "?").await;
    let done = answer(&runner, &done, "no").await;
    assert_eq!(paused(&done).pauses().len(), 1);
    let done = answer(&runner, &done, "yes").await;
    assert_eq!(done.output(), Some(&Value::from("yes")));
    assert_eq!(done.finish.history.records[0].attempts, 2);
}

#[tokio::test]
async fn a_thousand_items_that_ask_pause_once_and_all_go_on() {
    let runner = runner(MapOver::new("each", Human::new("ask")).max_concurrency(1_000));
    let done = start(&runner, list(0..1_000)).await;
    assert_eq!(paused(&done).pauses().len(), 1_000);
    let answers = ids(&done)
        .into_iter()
        .zip(0..)
        .map(|(id, number)| (id, Value::from(number)));
    let done = runner
        .resume_with(paused(&done), answers)
        .expect("it goes on")
        .await;
    assert_eq!(numbers(done.output()), (0..1_000).collect::<Vec<_>>());
}
