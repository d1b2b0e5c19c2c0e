//! Large values are kept apart from what refers to them, once for a run, and are freed when nothing does.

use std::sync::Arc;

use flujo_core::context::Context;
use flujo_core::store::{PurgeQuery, RunQuery, RunStatus, RunStore};
use flujo_core::value::Value;
use flujo_durable::{LARGE, load};
use flujo_store::{Memory, Sqlite};
use flujo_tokio::{Handler, Human, Loop, Pipeline, Step};

use super::{memory, process};

const LENGTH: u64 = 1_000_000;
/// What a few steps take beside their values.
const BESIDE: u64 = 16_000;

fn large(letter: char) -> String {
    std::iter::repeat_n(letter, usize::try_from(LENGTH).expect("a length")).collect()
}

/// Two steps that give the same large text, and a question in between.
fn asking() -> Pipeline {
    let write = |name: &'static str| {
        let work = Handler::function(|_| async { Ok(Value::from(large('x'))) });
        Step::new(name, work)
    };
    Pipeline::from(write("first"))
        .then(write("second"))
        .then(Human::new("ask"))
}

async fn bytes(store: &Arc<dyn RunStore>) -> u64 {
    let info = store.info("the run".into()).await.expect("a store");
    info.expect("it is there").bytes
}

#[tokio::test]
async fn a_large_output_is_stored_once_however_often_it_is_referred_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let file: Arc<dyn RunStore> = Arc::new(Sqlite::open(folder.path().join("runs.db")).expect("a file"));
    for store in [memory(), file] {
        let runner = process(asking(), &store);
        let done = runner
            .run_named("the run", Value::from("go"), Context::new())
            .await;
        assert_eq!(done.status(), "paused");
        let stored = bytes(&store).await;
        assert!((LENGTH..LENGTH + BESIDE).contains(&stored), "{stored}");
        let raw = store.load("the run".into()).await.expect("it is there");
        assert!(raw.snapshot.len() < 16_000, "{}", raw.snapshot.len());
        let whole = load(Arc::clone(&store), "the run".into())
            .await
            .expect("it is there");
        // Whether a record has them or the snapshot that took its place.
        let records = whole.records.iter().map(|record| record.body.len() as u64);
        assert!(whole.snapshot.len() as u64 + records.sum::<u64>() > 2 * LENGTH);

        let elsewhere = process(asking(), &store);
        let found = elsewhere.stored("the run").await;
        for record in &found.finish.history.records[..2] {
            let output = record.output.as_ref().and_then(Value::as_str);
            assert_eq!(output, Some(&*large('x')));
        }
        let paused = found.paused.expect("it asks");
        let answered = elsewhere
            .resume(&paused, Value::from(large('y')))
            .expect("it goes on");
        assert_eq!(answered.await.output(), Some(&Value::from(large('y'))));
        assert!(bytes(&store).await < 2 * LENGTH + 2 * BESIDE);

        let purged = store.purge(PurgeQuery {
            run: Some("the run".into()),
            statuses: RunStatus::ALL.to_vec(),
            ..PurgeQuery::default()
        });
        assert_eq!(purged.await, Ok(1));
        assert_eq!(store.list(RunQuery::default()).await.expect("a list").runs, []);
    }
}

#[tokio::test]
async fn what_a_snapshot_doesn_t_refer_to_is_freed() {
    let store: Arc<dyn RunStore> = Arc::new(Memory::new());
    let write = Handler::function(|input: Value| async move {
        let last = input.as_str().and_then(|text| text.bytes().next());
        Ok(Value::from(large(char::from(last.map_or(b'a', |last| last + 1)))))
    });
    let forgets = Handler::function(|input: Value| async move {
        Ok(Value::from(
            input.as_str().map_or("", |text| &text[..1]).to_owned(),
        ))
    });
    let body = Pipeline::from(Step::new("write", write)).then(Step::new("forget", forgets));
    let turns = Loop::until("turns", body, |output, _| Ok(output.as_str() == Some("t"))).max_loops(30);
    let runner = process(turns.into(), &store);
    let done = runner.run_named("the run", Value::from(""), Context::new()).await;
    assert_eq!(
        done.output(),
        Some(&Value::from("t")),
        "{:?}",
        done.finish.outcome
    );
    // Each is in the history; none is there twice.
    let stored = bytes(&store).await;
    assert!(stored < 20 * LENGTH + 4 * BESIDE, "{stored}");
    assert!(LARGE as u64 > BESIDE);
}

#[tokio::test]
async fn a_run_begins_with_a_large_input_and_gives_a_large_output() {
    let store = memory();
    let same = || {
        Pipeline::from(Step::new(
            "same",
            Handler::function(|input| async move { Ok(input) }),
        ))
    };
    let runner = process(same(), &store);
    let input = Value::from(large('i'));
    let done = runner.run_named("the run", input.clone(), Context::new()).await;
    assert_eq!(done.output(), Some(&input));
    assert!(bytes(&store).await < LENGTH + BESIDE);
    assert_eq!(
        process(same(), &store).stored("the run").await.output(),
        Some(&input)
    );
}
