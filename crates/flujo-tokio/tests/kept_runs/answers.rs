//! Answers are for a question that waits, or they are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use flujo_core::context::Context;
use flujo_core::store::{RunQuery, RunStore};
use flujo_core::value::Value;
use flujo_durable::{DurableError, Posted};
use flujo_tokio::{Handler, Human, Parallel, Pipeline, Runner, Step};
use tokio::sync::Notify;

use super::{World, ends, memory, process};

/// A run that asks in two branches.
async fn asking(store: &Arc<dyn RunStore>) -> Runner {
    let both = || {
        let both = Parallel::new("both");
        let branch = |name: &'static str| Pipeline::from(Human::new(name));
        Pipeline::from(
            both.branch("left", branch("ask left"))
                .branch("right", branch("ask right")),
        )
    };
    let runner = process(both(), store);
    let done = runner.run_named("the run", Value::from(1), Context::new()).await;
    assert_eq!(done.paused.expect("it asks").pauses().len(), 2);
    runner
}

async fn left(store: &Arc<dyn RunStore>) -> usize {
    let with_messages = RunQuery {
        with_messages: true,
        ..RunQuery::default()
    };
    store.list(with_messages).await.expect("a list").runs.len()
}

#[tokio::test]
async fn an_answer_for_a_question_that_nobody_asks_is_refused_and_names_those_that_wait() {
    let store = memory();
    let runner = asking(&store).await;
    let run = runner.get("the run");
    let wrong = run
        .answer(Some("both/left/ask#99".to_owned()), serde_json::json!(1))
        .await;
    let Err(error @ DurableError::UnknownPause { open, .. }) = &wrong else {
        panic!("{wrong:?}");
    };
    assert_eq!((open.len(), error.name()), (2, "PauseNotFoundError"));
    let text = error.to_string();
    assert!(
        text.contains("`both/left/ask#99`") && text.contains("ask left") && text.contains("ask right"),
        "{text}"
    );
    let bare = run.answer(None, serde_json::json!(1)).await;
    assert!(
        matches!(&bare, Err(error @ DurableError::AmbiguousAnswer { open, .. }) if open.len() == 2 && error.name() == "AmbiguousAnswerError"),
        "{bare:?}"
    );
    assert_eq!(left(&store).await, 0, "nothing was left");
}

#[tokio::test]
async fn an_answer_is_addressed_by_the_question_s_id_or_by_the_path_or_name_of_its_step() {
    let store = memory();
    let runner = asking(&store).await;
    let run = runner.get("the run");
    let paused = run.result().await.paused.expect("it asks");
    let [one, other] = paused.pauses() else {
        panic!("{paused:?}");
    };
    for answer in [one.id.clone(), other.path.to_string()] {
        run.answer(Some(answer), serde_json::json!(5))
            .await
            .expect("it is left");
    }
    let worker = runner.worker(1).expect("it has a store");
    let done = run.result().await;
    assert_eq!(done.status(), "completed", "{:?}", done.finish.outcome);
    ends(worker).await;

    let runner = process(World::default().asking(), &store);
    runner.run_named("another", Value::from(1), Context::new()).await;
    let run = runner.get("another");
    let by_name = run.answer(Some("ask".to_owned()), serde_json::json!(3)).await;
    by_name.expect("it is left");
    let done = runner.stored("another").await;
    assert_eq!(done.output(), Some(&Value::from(4)));
}

#[tokio::test]
async fn a_run_that_has_ended_takes_no_answer() {
    let (world, store) = (World::default(), memory());
    let runner = process(world.step("one").into(), &store);
    runner.run_named("the run", Value::from(1), Context::new()).await;
    let late = runner.get("the run").answer(None, serde_json::json!(1)).await;
    assert!(
        matches!(&late, Err(error) if error.to_string().contains("has ended")),
        "{late:?}"
    );
}

#[tokio::test]
async fn a_request_to_stop_that_comes_as_the_run_stops_is_done_with_when_it_goes_on() {
    let (store, begun, calls) = (memory(), Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
    let work = {
        let (begun, calls) = (Arc::clone(&begun), Arc::clone(&calls));
        Handler::function(move |input| {
            let (begun, first) = (Arc::clone(&begun), calls.fetch_add(1, Ordering::Relaxed) == 0);
            async move {
                if first {
                    begun.notify_one();
                    std::future::pending::<()>().await;
                }
                Ok(input)
            }
        })
    };
    let runner = process(Pipeline::from(Step::new("work", work)), &store);
    let run = runner.run_named("the run", Value::from(1), Context::new());
    let cancel = run.canceller();
    let (done, ()) = tokio::join!(run, async {
        begun.notified().await;
        cancel.cancel();
    });
    assert_eq!(done.status(), "cancelled");
    let posted = store.post("the run".into(), Posted::Cancel.to_bytes()).await;
    posted.expect("the run is there");
    let stopped = done.stopped.expect("it can go on");
    let done = runner.resume_stopped(&stopped, None).expect("it goes on").await;
    assert_eq!(done.status(), "completed");
    assert_eq!(left(&store).await, 0);
}
