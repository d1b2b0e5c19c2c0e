//! The one ordered stream of what happens in a run.

#![allow(clippy::expect_used)] // also in what the tests share: a panic is how a test fails

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::context::Context;
use flujo_core::usage::Usage;
use flujo_core::value::Value;
use flujo_tokio::{
    Event, EventKind, EventStream, Handler, Human, Loop, MapOver, Parallel, Pipeline, Runner, StateEnd,
    StateMachine, Step, Transition,
};
use futures_core::Stream;

async fn next(stream: &mut EventStream) -> Option<Event> {
    poll_fn(|poller| Pin::new(&mut *stream).poll_next(poller)).await
}

async fn all(pipeline: impl Into<Pipeline>, input: Value) -> Vec<Event> {
    let runner = Runner::builder(pipeline).build().expect("the pipeline can run");
    let mut stream = runner.run(input, Context::new()).into_events();
    let mut events = Vec::new();
    while let Some(event) = next(&mut stream).await {
        events.push(event);
    }
    events
}

fn told(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| {
            format!(
                "{} {} {} {}",
                event.kind.name(),
                event.place.step,
                event.place.attempt,
                event.place.iteration()
            )
        })
        .collect()
}

fn plus_one(name: &'static str) -> Step {
    let add = |input: &Value, _: &Context| Ok(Value::from(input.as_int().unwrap_or(0) + 1));
    Step::new(name, Handler::processor(add))
}

/// Streams numbers; the first attempt breaks off after two of them.
struct Streaming {
    broken: AtomicBool,
    chunks: i64,
    sent: Arc<AtomicU64>,
}

impl Streaming {
    fn new(chunks: i64, breaks: bool) -> Self {
        Self {
            broken: AtomicBool::new(!breaks),
            chunks,
            sent: Arc::default(),
        }
    }
}

impl Agent for Streaming {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            for chunk in 0..self.chunks {
                if chunk == 2 && !self.broken.swap(true, Ordering::Relaxed) {
                    return Err(AgentError::new("the connection broke"));
                }
                request.send_chunk(chunk).await;
                self.sent.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Value::from(self.chunks).into())
        })
    }
}

#[tokio::test]
async fn events_come_in_order_from_the_run_s_beginning_to_its_one_end() {
    let events = all(
        Loop::until("up", plus_one("add"), |output, _| Ok(output.as_int() == Some(2))),
        Value::from(0),
    )
    .await;
    assert_eq!(
        told(&events),
        [
            "run_started pipeline 0 0",
            "step_started up 0 0",
            "step_started add 0 1",
            "attempt_started add 1 1",
            "step_finished add 1 1",
            "step_started add 0 2",
            "attempt_started add 1 2",
            "step_finished add 1 2",
            "step_finished up 2 0",
            "run_finished pipeline 0 0",
        ]
    );
}

#[tokio::test]
async fn chunks_are_in_order_and_a_retry_after_chunks_announces_itself() {
    let step = Step::agent("say", Arc::new(Streaming::new(4, true))).retries(1);
    let events = all(Parallel::new("split").branch("a", step), Value::Null).await;
    let chunks: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Chunk(chunk) => Some((event.place.attempt, chunk.as_int(), event.place.lane.as_str())),
            _ => None,
        })
        .collect();
    let lane = "split[a]";
    let expected = [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3)];
    assert_eq!(
        chunks,
        expected.map(|(attempt, chunk)| (attempt, Some(chunk), lane))
    );
    let names: Vec<_> = events.iter().map(|event| event.kind.name()).collect();
    let broke = names
        .iter()
        .position(|name| *name == "attempt_failed")
        .expect("it is told");
    assert_eq!(
        (names[broke - 1], names[broke + 1], names[broke + 2]),
        ("chunk", "attempt_started", "chunk")
    );
}

#[tokio::test]
async fn a_slow_reader_holds_the_producer_and_nothing_is_lost() {
    let agent = Streaming::new(1_000, false);
    let sent = Arc::clone(&agent.sent);
    let runner = Runner::builder(Step::agent("say", Arc::new(agent)))
        .event_buffer(8)
        .build()
        .expect("it can run");
    let mut stream = runner.run(Value::Null, Context::new()).into_events();
    let mut read = 0;
    while let Some(event) = next(&mut stream).await {
        if let EventKind::Chunk(chunk) = &event.kind {
            assert_eq!(chunk.as_int(), Some(read));
            read += 1;
            let ahead = sent
                .load(Ordering::Relaxed)
                .saturating_sub(u64::try_from(read).expect("a count"));
            assert!(ahead <= 9, "{ahead} chunks are ahead of the reader");
        }
    }
    assert_eq!(read, 1_000);
    assert_eq!(stream.into_run().await.output(), Some(&Value::from(1_000)));
}

/// Notes that it is dropped.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn dropping_the_stream_half_way_cancels_the_run() {
    let dropped = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&dropped);
    let hang = Step::new(
        "hang",
        Handler::function(move |input| {
            let guard = Guard(Arc::clone(&noted));
            async move {
                std::future::pending::<()>().await;
                drop(guard);
                Ok(input)
            }
        }),
    );
    let runner = Runner::builder(hang).build().expect("it can run");
    let mut stream = runner.run(Value::Null, Context::new()).into_events();
    while !matches!(
        next(&mut stream).await.map(|event| event.kind),
        Some(EventKind::AttemptStarted)
    ) {}
    // Once more, so that the step begins; nothing more is told.
    poll_fn(|poller| {
        assert!(Pin::new(&mut stream).poll_next(poller).is_pending());
        Poll::Ready(())
    })
    .await;
    assert!(!dropped.load(Ordering::Relaxed));
    drop(stream);
    assert!(dropped.load(Ordering::Relaxed));
}

#[tokio::test]
async fn iterations_are_counted_in_lanes_nested_loops_and_states_and_no_two_calls_share_a_key() {
    let keys = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&keys);
    let work = Step::new(
        "work",
        Handler::scoped(move |input, scope| {
            let place = scope.place();
            let key = place.idempotency_key();
            noted.lock().expect("no panic").push((place.iterations, key));
            async move { Ok(input) }
        }),
    );
    let each = MapOver::new("each", work)
        .items(|_, _| Ok(vec![Value::from(0), Value::from(1)]))
        .max_concurrency(2);
    // Each run of the machine goes through its state twice.
    let turn = Step::new("turn", Handler::processor(|input, _| Ok(input.clone()))).apply(Handler::apply(
        |_, context| {
            let first = context.get("again") != Some(&Value::from(true));
            context.set("again", Value::from(first));
            Ok(())
        },
    ));
    let again = |_: StateEnd<'_>, context: &Context| Ok(context.get("again") == Some(&Value::from(true)));
    let machine = StateMachine::new("machine", "one")
        .state("one", Pipeline::from(turn).then(each))
        .end("done")
        .transition(Transition::new("one", "one").when(again))
        .transition(Transition::new("one", "done"));
    all(
        Loop::until("outer", machine, |_, _| Ok(false)).max_loops(2),
        Value::Null,
    )
    .await;
    let keys = keys.lock().expect("no panic");
    let rounds: HashSet<_> = keys.iter().map(|(rounds, _)| rounds.clone()).collect();
    assert_eq!(
        rounds,
        HashSet::from([vec![1, 1], vec![1, 2], vec![2, 1], vec![2, 2]])
    );
    let distinct: HashSet<_> = keys.iter().map(|(_, key)| key).collect();
    assert_eq!((keys.len(), distinct.len()), (8, 8));
}

/// Answers with its prompt, for ten tokens.
struct Tokens;

impl Agent for Tokens {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            let usage = Usage {
                tokens: 10,
                ..Usage::ZERO
            };
            Ok(AgentOutput {
                usage,
                ..request.input.into()
            })
        })
    }
}

#[tokio::test]
async fn the_last_event_of_a_run_that_pauses_counts_what_its_lanes_used_at_any_depth() {
    let spend = || Pipeline::from(Step::agent("spend", Arc::new(Tokens)));
    let asks = spend().then(Human::new("ask"));
    let inner = Parallel::new("inner").branch("a", asks.clone()).branch("b", asks);
    let outer = Parallel::new("outer")
        .branch("c", spend().then(inner))
        .branch("d", spend());
    let runner = Runner::builder(spend().then(outer)).build().expect("it can run");
    let mut run = runner.run(Value::from("x"), Context::new());
    let mut last = None;
    while let Some(event) = run.events().next().await {
        last = Some(event.kind);
    }
    let Some(EventKind::RunFinished { status, usage }) = last else {
        panic!("{last:?}");
    };
    assert_eq!((status, usage.tokens), ("paused", 50));
    assert_eq!(run.await.finish.usage, usage);
}

#[tokio::test]
async fn a_run_that_has_told_of_its_pause_is_not_cancelled_after_it() {
    let runner = Runner::builder(Human::new("ask")).event_buffer(1);
    let runner = runner.build().expect("it can run");
    let mut run = runner.run(Value::from("?"), Context::new());
    let mut ends = Vec::new();
    while let Some(event) = run.events().next().await {
        match event.kind {
            // There was no room for the event after this one until now.
            EventKind::Paused(_) => run.cancel(),
            EventKind::RunFinished { status, .. } => ends.push(status),
            _ => {}
        }
    }
    assert_eq!(ends, ["paused"]);
    assert_eq!(run.await.status(), "paused");
}

#[tokio::test]
async fn a_step_in_a_step_of_its_name_tells_its_own_attempts() {
    let tried = AtomicBool::new(false);
    let flaky = Handler::processor(move |input, _| {
        if tried.swap(true, Ordering::Relaxed) {
            Ok(input.clone())
        } else {
            Err("not yet".into())
        }
    });
    let step = Step::body("s", Step::new("s", flaky).retries(1));
    let told = told(&all(step, Value::Null).await);
    let failed: Vec<_> = told
        .iter()
        .filter(|line| line.starts_with("attempt_failed s 1"))
        .collect();
    assert_eq!(failed.len(), 1, "{told:?}");

    let tried = Step::body(
        "s",
        Step::body("s", Parallel::new("s").branch("a", plus_one("a"))),
    );
    let runner = Runner::builder(tried).build().expect("it can run");
    let done = runner.run(Value::Int(1), Context::new()).await;
    let history = &done.finish.history;
    let [(inner, _)] = done.plan.below(history, 0).collect::<Vec<_>>()[..] else {
        panic!("{history:?}");
    };
    let construct = done.plan.construct(history, inner);
    assert_eq!(construct.map(|(_, record)| record.lanes().len()), Some(1));
}
