//! Branches and items: order, failure, joining.

#![allow(clippy::unwrap_used)] // also in what the tests share: a panic is how a test fails

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use flujo::{BoxError, Cost, Flujo, Pipeline, RunError, Scope, Stage, Status, Usage, parallel, step};
use tokio::runtime::Handle;
use tokio::time::sleep;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn one_dollar() -> Usage {
    Usage::new(Cost::from_dollars(1.0).unwrap(), 0)
}

/// A ends after 10 ms at a cost of a dollar, B fails after 50 ms, C sets the marker after 300 ms.
fn a_b_c(marker: &Arc<AtomicBool>) -> Vec<(&'static str, flujo::Step<(), &'static str, ()>)> {
    let marker = Arc::clone(marker);
    let branch = move |name: &'static str, wait: u64| {
        let marker = Arc::clone(&marker);
        let work = step(name, move |(): (), s: Scope<()>| {
            let marker = Arc::clone(&marker);
            async move {
                sleep(ms(wait)).await;
                match name {
                    "a" => s.add_usage(one_dollar()),
                    "b" => return Err(BoxError::from("b broke")),
                    _ => marker.store(true, Ordering::SeqCst),
                }
                Ok(name)
            }
        });
        (name, work.retries(0))
    };
    vec![branch("a", 10), branch("b", 50), branch("c", 300)]
}

#[tokio::test(start_paused = true)]
async fn a_failing_branch_cancels_and_awaits_the_others_and_keeps_what_they_did() {
    let marker = Arc::new(AtomicBool::new(false));
    let error = Flujo::new(parallel("split", a_b_c(&marker)))
        .run(())
        .await
        .unwrap_err();
    assert!(matches!(error, RunError::Failed { .. }));
    assert_eq!(
        std::error::Error::source(&error)
            .map(ToString::to_string)
            .as_deref(),
        Some("b broke")
    );
    let partial = error.partial().unwrap();
    assert_eq!(partial.usage, one_dollar());
    let split = partial.steps.get("split").unwrap();
    let lanes: Vec<_> = split.lanes().collect();
    assert_eq!(lanes[0].output::<&str>(), Some(&"a"));
    assert_eq!(lanes[2].error().as_deref(), Some("cancelled"));
    assert_eq!(lanes[2].steps().next().unwrap().status(), Status::Cancelled);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    sleep(ms(1000)).await;
    assert!(!marker.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn tolerated_failures_are_explicit_entries_and_the_others_go_on() {
    let marker = Arc::new(AtomicBool::new(false));
    let p = parallel("split", a_b_c(&marker)).tolerate_failures();
    let done = Flujo::new(p).run(()).await.unwrap();
    assert!(marker.load(Ordering::SeqCst));
    let names: Vec<&str> = done.output.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(done.output[1].1.is_err());
    assert_eq!(done.output[2].1, Ok("c"));
}

#[tokio::test(start_paused = true)]
async fn outputs_come_in_the_order_of_the_items_and_at_most_five_are_worked_on() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let work = {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        step("double", move |n: u64| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(ms(200 - 10 * n)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, BoxError>(n * 2)
            }
        })
    };
    let done = Flujo::new(work.map_over(5)).run((0..20).collect()).await.unwrap();
    assert_eq!(done.output, (0..20).map(|n| n * 2).collect::<Vec<_>>());
    assert_eq!(most.load(Ordering::SeqCst), 5);
    let map = done.steps.get("map").unwrap();
    let names: Vec<String> = map.lanes().map(|lane| lane.name().to_owned()).collect();
    assert_eq!(names, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_failed_item_fails_the_map_or_is_skipped_or_none() {
    let odd = || {
        step("odd", |n: u32| async move {
            if n.is_multiple_of(2) {
                Err(BoxError::from("even"))
            } else {
                Ok(n)
            }
        })
        .retries(0)
    };
    let items = vec![1, 2, 3];
    let error = Flujo::new(odd().map_over(2))
        .run(items.clone())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("item '1'"), "{error}");
    let skipped = Flujo::new(odd().map_over(2).skip_failures())
        .run(items.clone())
        .await
        .unwrap();
    assert_eq!(skipped.output, [1, 3]);
    let kept = Flujo::new(odd().map_over(2).keep_failures())
        .run(items)
        .await
        .unwrap();
    assert_eq!(kept.output, [Some(1), None, Some(3)]);
}

fn number(name: &'static str, wait: u64) -> Pipeline<u64, u64> {
    step(name, move |n: u64| async move {
        sleep(ms(wait * (n % 7))).await;
        Ok::<_, BoxError>(n)
    })
    .into_pipeline()
}

#[tokio::test(start_paused = true)]
async fn a_join_runs_once_with_all_parts_whatever_fans_out_before_it() {
    for (n, slow_map) in [
        (0, true),
        (1, true),
        (50, true),
        (0, false),
        (1, false),
        (50, false),
    ] {
        let joins = Arc::new(AtomicUsize::new(0));
        let (map_wait, plain_wait) = if slow_map { (5, 1) } else { (1, 50) };
        let items = step("items", |n: u64| async move {
            Ok::<_, BoxError>((0..n).collect::<Vec<_>>())
        });
        let sum = step("sum", |v: Vec<u64>| async move {
            Ok::<_, BoxError>(v.iter().sum::<u64>())
        });
        let counted = items >> number("item", map_wait).map_over(4) >> sum;
        let join = {
            let joins = Arc::clone(&joins);
            step("join", move |(a, b): (u64, u64)| {
                joins.fetch_add(1, Ordering::SeqCst);
                async move { Ok::<_, BoxError>(a + b) }
            })
        };
        let p = parallel("split", (("a", counted), ("b", number("plain", plain_wait)))) >> join;
        let done = Flujo::new(p).run(n).await.unwrap();
        let sum = (0..n).sum::<u64>();
        assert_eq!(done.output, sum + n);
        assert_eq!(joins.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_map_in_a_map_and_two_joins_in_a_chain_keep_every_part() {
    let inner = number("inner", 3).map_over(3);
    let outer = inner.map_over(2);
    let flat = step(
        "flat",
        |v: Vec<Vec<u64>>| async move { Ok::<_, BoxError>(v.concat()) },
    );
    let once = || {
        step("sum", |v: Vec<u64>| async move {
            Ok::<_, BoxError>(v.iter().sum::<u64>())
        })
    };
    let twice = parallel("again", [("x", number("x", 2)), ("y", number("y", 1))]);
    let p = outer
        >> flat
        >> parallel("split", [("a", once()), ("b", once())])
        >> step("add", |v: Vec<(String, u64)>| async move {
            Ok::<_, BoxError>(v[0].1 + v[1].1)
        })
        >> twice
        >> step("add", |v: Vec<(String, u64)>| async move {
            Ok::<_, BoxError>(v[0].1 + v[1].1)
        });
    let done = Flujo::new(p)
        .run(vec![vec![1, 2], vec![], vec![3]])
        .await
        .unwrap();
    assert_eq!(done.output, 24);
}
