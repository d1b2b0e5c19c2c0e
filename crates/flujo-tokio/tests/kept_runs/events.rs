//! What happens in a kept run has the same numbers in every process.

use std::time::Duration;

use flujo_core::context::Context;
use flujo_core::store::RunStatus;
use flujo_core::value::Value;
use flujo_durable::DurableError;
use flujo_tokio::{Handler, Human, KeptEvent, KeptEventKind, Parallel, Pipeline, Raised, Runner, Step};

use super::{World, memory, process};

async fn all(runner: &Runner, after: u64) -> Vec<KeptEvent> {
    let (mut events, mut told) = (runner.get("the run").events(after), Vec::new());
    while let Some(event) = events.next().await.expect("a store") {
        told.push(event);
    }
    told
}

fn lines(events: &[KeptEvent]) -> Vec<String> {
    let line = |event: &KeptEvent| format!("{} {} {}", event.number, event.kind.name(), event.step);
    events.iter().map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn whoever_looks_is_told_the_same_from_the_place_that_it_names() {
    let (world, store) = (World::default(), memory());
    let fails = Step::new("last", Handler::function(|_| async { Err(Raised::new("no")) }));
    let pipeline = || {
        let both = Parallel::new("both")
            .branch("left", world.step("one"))
            .branch("right", world.step("two"));
        Pipeline::from(world.step("first")).then(both).then(fails.clone())
    };
    let here = process(pipeline(), &store);
    here.run_named("the run", Value::from(1), Context::new()).await;
    let told = all(&here, 0).await;
    assert_eq!(all(&process(pipeline(), &store), 0).await, told);
    assert_eq!(all(&here, 3).await, told[3..]);
    assert_eq!(all(&here, 99).await, []);
    let lines = lines(&told);
    assert_eq!(
        (&*lines[0], &*lines[1], &*lines[2]),
        ("1 run_started ", "2 step_started first", "3 step_finished first")
    );
    assert_eq!(lines.len(), 2 + 2 * 5, "{lines:?}");
    let failed = &told[told.len() - 2];
    assert!(
        matches!(&failed.kind, KeptEventKind::StepFailed { error: Some(error), .. } if error.contains("no")),
        "{failed}"
    );
    let last = &told[told.len() - 1].kind;
    assert!(
        matches!(
            last,
            KeptEventKind::RunFinished {
                status: RunStatus::Failed,
                ..
            }
        ),
        "{last:?}"
    );
    let inside = told
        .iter()
        .find(|event| &*event.step == "one")
        .expect("it is told of");
    assert_eq!(&*inside.lane, "both[left]");
}

#[tokio::test(start_paused = true)]
async fn a_run_under_way_is_followed_to_its_end() {
    let (world, store) = (World::default(), memory());
    let pipeline = || Pipeline::from(world.step("one")).then(world.step("two"));
    let here = process(pipeline(), &store);
    world.hang_in("two");
    let mut run = Box::pin(here.run_named("the run", Value::from(1), Context::new()));
    tokio::select! {
        done = &mut run => panic!("it ended as {}", done.status()),
        () = world.0.hanging.notified() => {}
    }
    let mut events = process(pipeline(), &store).get("the run").events(0);
    let mut told = Vec::new();
    for _ in 0..3 {
        told.extend(events.next().await.expect("a store"));
    }
    assert_eq!(
        lines(&told),
        ["1 run_started ", "2 step_started one", "3 step_finished one"]
    );
    drop(run);
    store.flush().await.expect("a store");
    world.hang(false);
    let ends = here.stored("the run");
    let (done, ()) = tokio::join!(ends, async {
        while let Some(event) = events.next().await.expect("a store") {
            told.push(event);
        }
    });
    assert_eq!(done.status(), "completed");
    assert_eq!(told, all(&here, 0).await);
}

#[tokio::test(start_paused = true)]
async fn a_question_is_told_of_behind_the_beginning_of_its_step_also_once_it_has_been_answered() {
    let (world, store) = (World::default(), memory());
    let pipeline = || Pipeline::from(Human::new("ask")).then(world.step("last"));
    let here = process(pipeline(), &store);
    let late = process(pipeline(), &store);
    let done = here.run_named("the run", Value::from(1), Context::new()).await;
    let mut events = late.get("the run").events(0);
    let mut told = Vec::new();
    for _ in 0..3 {
        told.extend(events.next().await.expect("a store"));
    }
    assert_eq!(
        lines(&told),
        ["1 run_started ", "2 step_started ask", "3 paused ask"]
    );
    let paused = done.paused.expect("it asks");
    here.resume(&paused, Value::from(5)).expect("it goes on").await;
    // Whoever asks with less patience than the pause between two looks is told all the same.
    for _ in 0..5_000 {
        if let Ok(event) = tokio::time::timeout(Duration::from_millis(1), events.next()).await {
            told.extend(event.expect("a store"));
        }
    }
    assert_eq!(
        lines(&told)[3..],
        [
            "4 step_finished ask",
            "5 step_started last",
            "6 step_finished last",
            "7 run_finished "
        ]
    );
    assert_eq!(told, all(&here, 0).await);
}

#[tokio::test]
async fn of_a_run_that_isn_t_there_nothing_is_told() {
    let store = memory();
    let runner = process(World::default().step("one").into(), &store);
    let told = runner.get("nobody").events(0).next().await;
    assert!(matches!(told, Err(DurableError::Store(_))), "{told:?}");
}
