//! Long, deep and many: nothing aborts, nothing grows faster than it must.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flujo::{BoxError, Flujo, Pipeline, Stage, parallel, step};
use tokio::runtime::Handle;

fn increment() -> Pipeline<u32, u32> {
    step("increment", |n: u32| async move { Ok::<_, BoxError>(n + 1) }).into_pipeline()
}

#[tokio::test]
async fn ten_thousand_steps_in_a_row() {
    let p = (1..10_000).fold(increment(), |p, _| p >> increment());
    let done = Flujo::new(p).run(0).await.unwrap();
    assert_eq!((done.output, done.steps.len()), (10_000, 10_000));
}

#[tokio::test]
async fn ten_thousand_pipelines_inside_one_another() {
    let p = (0..10_000).fold(increment(), |p, _| p.as_step("nested"));
    let done = Flujo::new(p).run(0).await.unwrap();
    assert_eq!((done.output, done.steps.len()), (1, 10_001));
    drop(done);
}

#[tokio::test]
async fn ten_thousand_branches_inside_one_another() {
    let unwrap = || {
        step("unwrap", |v: Vec<(String, u32)>| async move {
            Ok::<_, BoxError>(v[0].1)
        })
    };
    let p = (0..10_000).fold(increment(), |p, _| parallel("nested", [("only", p)]) >> unwrap());
    let done = Flujo::new(p).run(0).await.unwrap();
    assert_eq!(done.output, 1);
    drop(done);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn cancelling_branches_nested_a_thousand_deep_ends_all_of_them() {
    let hang = step("hang", |n: u32| async move {
        tokio::time::sleep(Duration::from_hours(1)).await;
        Ok::<_, BoxError>(n)
    });
    let unwrap = || {
        step("unwrap", |v: Vec<(String, u32)>| async move {
            Ok::<_, BoxError>(v[0].1)
        })
    };
    let p = (0..1_000).fold(hang.into_pipeline(), |p, _| {
        parallel("nested", [("only", p)]) >> unwrap()
    });
    let flujo = Flujo::new(p);
    let run = flujo.start(0);
    let canceller = run.canceller().unwrap();
    let run = tokio::spawn(run);
    tokio::time::sleep(Duration::from_secs(1)).await;
    canceller.cancel();
    assert!(run.await.unwrap().is_err());
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_runs_at_the_same_time() {
    let flujo = Flujo::new((0..4).fold(increment(), |p, _| p >> increment()));
    let mut runs = tokio::task::JoinSet::new();
    for n in 0..1_000 {
        let flujo = flujo.clone();
        runs.spawn(async move { flujo.run(n).await.map(|run| run.output - n) });
    }
    while let Some(run) = runs.join_next().await {
        assert_eq!(run.unwrap().unwrap(), 5);
    }
    assert_eq!(flujo.performance_statistics().unwrap().execution_count, 1_000);
}

#[tokio::test]
async fn a_long_run_lets_other_tasks_have_their_turn() {
    let p = (1..5_000).fold(increment(), |p, _| p >> increment());
    let flujo = Flujo::new(p);
    let ended = Arc::new(AtomicBool::new(false));
    let run = {
        let ended = Arc::clone(&ended);
        tokio::spawn(async move {
            let run = flujo.run(0).await;
            ended.store(true, Ordering::SeqCst);
            run.map(|run| run.output)
        })
    };
    let other = tokio::spawn(async move { ended.load(Ordering::SeqCst) });
    assert!(
        !other.await.unwrap(),
        "the run had ended when the other task had its first turn"
    );
    assert_eq!(run.await.unwrap().unwrap(), 5_000);
}
