//! How the contexts of branches and items become one, typed.

#![allow(clippy::panic)] // what only tests call may fail like a test

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use flujo::{
    BoxError, Context, FailureKind, Flujo, MergeStrategy, PartialRun, RunError, Scope, Step, parallel, step,
};
use tokio::time::sleep;

#[derive(Debug, Clone, Default, PartialEq, Context)]
struct State {
    total: i64,
    names: Vec<String>,
    by_name: BTreeMap<String, i64>,
    #[merge(sum)]
    seen: u32,
    #[merge(max)]
    best: Option<i64>,
    #[merge(union)]
    tags: BTreeSet<String>,
    #[merge(with = longest)]
    title: String,
    choice: Choice,
}

#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
enum Choice {
    #[default]
    Open,
    Left(i64),
    Right {
        why: String,
    },
    Other(i64),
}

fn longest(base: String, values: Vec<String>) -> String {
    let longest = values.into_iter().max_by_key(String::len).unwrap_or_default();
    if longest.len() > base.len() { longest } else { base }
}

type Write = fn(&mut State);

fn writer(name: &'static str, wait: u64, write: Write) -> (&'static str, Step<(), (), State>) {
    let work = step(name, move |(): (), s: Scope<State>| async move {
        sleep(Duration::from_millis(wait)).await;
        s.context().update(write);
        Ok::<_, BoxError>(())
    });
    (name, work)
}

async fn merged(
    strategy: MergeStrategy,
    begin: &State,
    left: Write,
    right: Write,
) -> Result<State, RunError> {
    let branches = [writer("a", 50, left), writer("b", 10, right)];
    let p = parallel("split", branches).merge(strategy);
    Ok(Flujo::new(p).run_with((), begin).await?.context)
}

fn failed_at_the_merge(error: &RunError) -> &PartialRun {
    let RunError::Failed { failure, partial } = error else {
        panic!("{error}")
    };
    assert_eq!(failure.kind, FailureKind::Merge);
    partial
}

const MERGING: [MergeStrategy; 4] = [
    MergeStrategy::ContextUpdate,
    MergeStrategy::Overwrite,
    MergeStrategy::KeepFirst,
    MergeStrategy::ErrorOnConflict,
];

#[tokio::test(start_paused = true)]
async fn a_branch_s_untouched_value_is_never_a_write() {
    let begin = State {
        names: vec!["q".into(), "r".into()],
        by_name: [("k".to_owned(), 1), ("l".to_owned(), 1)].into(),
        ..State::default()
    };
    for strategy in MERGING {
        let context = merged(
            strategy,
            &begin,
            |c| {
                c.total = 5;
                c.names.remove(0);
                c.by_name.remove("k");
            },
            |c| {
                c.names.push("b".into());
                c.by_name.insert("l".into(), 2);
            },
        );
        let context = context.await.unwrap();
        assert_eq!(context.total, 5, "{strategy:?}");
        assert_eq!(context.names, ["r", "b"], "{strategy:?}");
        assert_eq!(context.by_name, [("l".to_owned(), 2)].into(), "{strategy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn different_values_for_one_path_fail_naming_path_branches_and_values_numbers_too() {
    let left: Write = |c| c.by_name.extend([("k".to_owned(), 7)]);
    let right: Write = |c| c.by_name.extend([("k".to_owned(), 8)]);
    for strategy in [MergeStrategy::ContextUpdate, MergeStrategy::ErrorOnConflict] {
        let error = merged(strategy, &State::default(), left, right)
            .await
            .unwrap_err();
        failed_at_the_merge(&error);
        let text = error.to_string();
        for part in ["`by_name.k`", "`a` wrote 7", "`b` wrote 8"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn error_on_conflict_refuses_any_path_written_twice_and_names_it_and_the_branches() {
    let write: Write = |c| c.total = 5;
    let error = merged(MergeStrategy::ErrorOnConflict, &State::default(), write, write).await;
    let text = error.unwrap_err().to_string();
    for part in ["`total`", "`a` wrote 5", "`b` wrote 5"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_merge_drops_what_branches_wrote() {
    let write: Write = |c| c.total = 5;
    let context = merged(MergeStrategy::NoMerge, &State::default(), write, write).await;
    assert_eq!(context.unwrap(), State::default());
}

#[tokio::test(start_paused = true)]
async fn a_rule_decides_a_field_whatever_the_strategy() {
    let begin = State {
        seen: 10,
        best: None,
        ..State::default()
    };
    for strategy in MERGING {
        let context = merged(
            strategy,
            &begin,
            |c| {
                c.seen += 1;
                c.best = Some(3);
                c.tags.insert("left".into());
                c.title = "a long title".into();
            },
            |c| {
                c.seen += 1;
                c.best = Some(9);
                c.tags.insert("right".into());
                c.title = "short".into();
            },
        );
        let context = context.await.unwrap();
        assert_eq!((context.seen, context.best), (12, Some(9)), "{strategy:?}");
        assert_eq!(context.tags, ["left".to_owned(), "right".to_owned()].into());
        assert_eq!(context.title, "a long title");
    }
}

#[tokio::test(start_paused = true)]
async fn rules_hold_for_items_that_run_at_the_same_time() {
    let count = step("count", |n: u32, s: Scope<State>| async move {
        s.context().update(|c| c.seen += n);
        Ok::<_, BoxError>(n)
    });
    let p = flujo::Stage::into_pipeline(count).map_over(4);
    let done = Flujo::new(p).run((1..=10).collect()).await.unwrap();
    assert_eq!(done.context.seen, 55);
}

#[tokio::test(start_paused = true)]
async fn what_a_field_cannot_hold_is_a_conflict_that_names_it_and_changes_nothing() {
    let begin = State {
        choice: Choice::Left(1),
        ..State::default()
    };
    let left: Write = |c| c.choice = Choice::Other(3);
    let right: Write = |c| c.choice = Choice::Right { why: "so".into() };
    let error = merged(MergeStrategy::ContextUpdate, &begin, left, right)
        .await
        .unwrap_err();
    failed_at_the_merge(&error);
    assert!(error.to_string().contains("`choice`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_function_merges_and_when_it_fails_or_panics_the_step_fails_and_nothing_is_changed() {
    let fan = || {
        parallel(
            "split",
            [writer("a", 50, |c| c.total = 5), writer("b", 10, |c| c.total = 3)],
        )
    };
    let summing = fan().merge_with(|context: &mut State, branches: &[(Arc<str>, State)]| {
        context.total = branches.iter().map(|(_, branch)| branch.total).sum();
        context.names = branches.iter().map(|(name, _)| name.to_string()).collect();
        Ok(())
    });
    let done = Flujo::new(summing).run(()).await.unwrap();
    assert_eq!(
        (done.context.total, done.context.names),
        (8, vec!["a".to_owned(), "b".to_owned()])
    );

    let refusing = fan().merge_with(|context, _| {
        context.total = 99;
        Err("no".into())
    });
    let panicking = fan().merge_with(|_, _| panic!("broken"));
    for (p, text) in [(refusing, "no"), (panicking, "broken")] {
        let error = Flujo::new(p).run(()).await.unwrap_err();
        let partial = failed_at_the_merge(&error);
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(State::load(&partial.context).unwrap(), State::default());
        let record = partial.steps.iter().next().unwrap();
        assert_eq!(record.lanes().count(), 2);
    }
}
