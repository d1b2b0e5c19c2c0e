//! Branches, attempts and runs never see one another's writes.

use std::time::Duration;

use flujo::{BoxError, Context, Flujo, MergeStrategy, RunError, Scope, parallel, step};
use tokio::time::sleep;

#[derive(Debug, Clone, Default, PartialEq, Context)]
struct State {
    items: Vec<Vec<i64>>,
    tags: std::collections::BTreeMap<String, Vec<String>>,
    seen_by_b: Vec<Vec<i64>>,
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn begin() -> State {
    State {
        items: vec![vec![1]],
        tags: [("sub".to_owned(), vec!["a".to_owned()])].into(),
        seen_by_b: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_branch_sees_neither_nested_writes_of_another_nor_those_of_one_that_failed() {
    let a = step("append", |(): (), s: Scope<State>| async move {
        s.context().update(|c| {
            c.items[0].push(2);
            c.tags.entry("sub".into()).or_default().push("b".into());
        });
        Ok::<_, BoxError>(())
    });
    let b = step("look", |(): (), s: Scope<State>| async move {
        sleep(ms(50)).await;
        s.context().update(|c| c.seen_by_b = c.items.clone());
        Ok::<_, BoxError>(())
    });
    let c = step("fail", |(): (), s: Scope<State>| async move {
        s.context().update(|c| c.items.clear());
        Err::<(), BoxError>("broken".into())
    })
    .retries(0);
    let p = parallel("split", vec![("a", a), ("b", b), ("c", c)]).tolerate_failures();
    let before = begin();
    let done = Flujo::new(p).run_with((), &before).await.unwrap();
    assert_eq!(before, begin());
    assert_eq!(done.context.seen_by_b, [[1]]);
    assert_eq!(done.context.items, [[1, 2]]);
    assert_eq!(done.context.tags["sub"], ["a", "b"]);
    let (name, failed) = &done.output[2];
    assert_eq!(name, "c");
    assert!(failed.as_ref().unwrap_err().to_string().contains("broken"));
}

#[tokio::test]
async fn a_failed_attempt_leaves_no_trace_in_the_context() {
    let p = step("second time lucky", |(): (), s: Scope<State>| async move {
        s.context()
            .update(|c| c.items.push(vec![i64::from(s.current().attempt)]));
        if s.current().attempt == 1 {
            return Err(BoxError::from("not yet"));
        }
        Ok(())
    });
    let done = Flujo::new(p).run(()).await.unwrap();
    assert_eq!(done.context.items, [[2]]);
}

#[derive(Debug, Default, Context)]
struct Request {
    counter: u32,
    ids: Vec<u32>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_runs_of_one_runner_share_nothing() {
    let p = step("count", |id: u32, s: Scope<Request>| async move {
        tokio::task::yield_now().await;
        s.context().update(|c| {
            c.counter += 1;
            c.ids.push(id);
        });
        Ok::<_, BoxError>(id)
    });
    let flujo = Flujo::new(p);
    let mut runs = tokio::task::JoinSet::new();
    for id in 0..200 {
        let flujo = flujo.clone();
        runs.spawn(async move { (id, flujo.run(id).await) });
    }
    while let Some(run) = runs.join_next().await {
        let (id, run) = run.unwrap();
        let run = run.unwrap();
        assert_eq!((run.context.counter, run.context.ids), (1, vec![id]));
    }
}

#[derive(Debug, Default, PartialEq, Context)]
struct Scores {
    total: i64,
    counter: i64,
    #[merge(sum)]
    seen: u32,
    #[merge(max)]
    best: i64,
    #[merge(append)]
    log: Vec<String>,
}

/// Branch `a` writes 5 after 50 ms, `b` writes 3 after 10 ms.
fn two_writers(strategy: MergeStrategy) -> Flujo<(), Vec<(String, ())>, Scores> {
    let writer = |name: &'static str, wait: u64, value: i64| {
        let work = step(name, move |(): (), s: Scope<Scores>| async move {
            sleep(ms(wait)).await;
            s.context().update(|c| c.total = value);
            Ok::<_, BoxError>(())
        });
        (name, work)
    };
    Flujo::new(parallel("split", [writer("a", 50, 5), writer("b", 10, 3)]).merge(strategy))
}

#[tokio::test(start_paused = true)]
async fn the_last_declared_branch_wins_under_overwrite_whatever_the_timing() {
    let before = Scores {
        total: 10,
        ..Scores::default()
    };
    for _ in 0..100 {
        let done = two_writers(MergeStrategy::Overwrite)
            .run_with((), &before)
            .await
            .unwrap();
        assert_eq!(done.context.total, 3);
        let done = two_writers(MergeStrategy::KeepFirst)
            .run_with((), &before)
            .await
            .unwrap();
        assert_eq!(done.context.total, 5);
    }
}

#[tokio::test(start_paused = true)]
async fn different_values_for_one_field_fail_naming_field_branches_and_values() {
    let error = two_writers(MergeStrategy::ContextUpdate)
        .run(())
        .await
        .unwrap_err();
    assert!(matches!(error, RunError::Failed { .. }));
    let text = error.to_string();
    for part in ["`total`", "`a` wrote 5", "`b` wrote 3"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn fields_with_a_merge_rule_combine_concurrent_writes() {
    let writer = |name: &'static str, value: i64| {
        let work = step(name, move |(): (), s: Scope<Scores>| async move {
            s.context().update(|c| {
                c.seen += 1;
                c.best = value;
                c.log.push(name.to_owned());
            });
            Ok::<_, BoxError>(())
        });
        (name, work)
    };
    let p = parallel("split", [writer("a", 7), writer("b", 4)]);
    let done = Flujo::new(p).run(()).await.unwrap();
    assert_eq!((done.context.seen, done.context.best), (2, 7));
    assert_eq!(done.context.log, ["a", "b"]);
}

#[tokio::test]
async fn a_pipeline_without_a_context_goes_with_one_that_has_it() {
    let plain = step("plain", |n: u32| async move { Ok::<_, BoxError>(n + 1) });
    let counting = step("counting", |n: u32, s: Scope<Request>| async move {
        s.context().update(|c| c.counter += n);
        Ok::<_, BoxError>(n)
    });
    let after = step("after", |n: u32| async move { Ok::<_, BoxError>(n * 2) });
    let done = Flujo::new(plain >> counting >> after).run(1).await.unwrap();
    assert_eq!((done.output, done.context.counter), (4, 2));
}
