//! What contexts and their merge promise.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Context, CopyCounts, MergeRule, MergeStrategy, PathErrorKind};
use crate::value::Value;

fn ints(items: &[i64]) -> Value {
    Value::list(items.iter().map(|item| Value::from(*item)))
}

fn context(fields: &[(&str, Value)]) -> Context {
    fields
        .iter()
        .map(|(name, value)| (Arc::from(*name), value.clone()))
        .collect()
}

fn merge(base: &Context, branches: &[&Context], strategy: MergeStrategy) -> Result<Context, String> {
    let names = ["a", "b", "c"];
    let branches: Vec<_> = names
        .iter()
        .zip(branches)
        .map(|(name, branch)| (Arc::from(*name), *branch))
        .collect();
    base.merge(&branches, strategy)
        .map_err(|conflict| conflict.to_string())
}

fn writing(base: &Context, field: &str, value: Value) -> Context {
    let mut branch = base.clone();
    branch.set(field, value);
    branch
}

#[test]
fn a_write_to_a_fork_is_not_seen_by_its_origin() {
    let base = context(&[("x", Value::from(1))]);
    let fork = writing(&base, "x", Value::from(2));
    assert_eq!(base.get("x"), Some(&Value::from(1)));
    assert_eq!(fork.get("x"), Some(&Value::from(2)));
}

#[test]
fn disjoint_writes_combine_down_to_nested_paths() {
    let base = context(&[(
        "report",
        Value::map([("a", Value::from(0)), ("b", Value::from(0))]),
    )]);
    let (mut left, mut right) = (base.clone(), base.clone());
    left.set_path("report.a", Value::from(1)).unwrap();
    right.set_path("report.c", Value::from(3)).unwrap();
    let merged = merge(&base, &[&left, &right], MergeStrategy::ContextUpdate).unwrap();
    let expected = Value::map([
        ("a", Value::from(1)),
        ("b", Value::from(0)),
        ("c", Value::from(3)),
    ]);
    assert_eq!(merged.get("report"), Some(&expected));
}

#[test]
fn appends_to_one_list_follow_one_another_in_declared_order() {
    let base = context(&[("items", ints(&[1]))]);
    let left = writing(&base, "items", ints(&[1, 2]));
    let right = writing(&base, "items", ints(&[1, 3, 4]));
    let merged = merge(&base, &[&left, &right], MergeStrategy::ContextUpdate).unwrap();
    assert_eq!(merged.get("items"), Some(&ints(&[1, 2, 3, 4])));
}

#[test]
fn branches_that_append_the_same_to_a_list_have_both_appended_it() {
    let base = context(&[("items", ints(&[1]))]);
    let branch = writing(&base, "items", ints(&[1, 2]));
    let merged = merge(&base, &[&branch, &branch], MergeStrategy::ContextUpdate).unwrap();
    assert_eq!(merged.get("items"), Some(&ints(&[1, 2, 2])));
}

#[test]
fn equal_values_are_no_conflict_and_different_ones_name_path_branches_and_values() {
    let base = context(&[("x", Value::map([("y", Value::from(0))]))]);
    let of = |value: i64| writing(&base, "x", Value::map([("y", Value::from(value))]));
    let same = merge(&base, &[&of(5), &of(5)], MergeStrategy::ContextUpdate).unwrap();
    assert_eq!(same.get_path("x.y"), Some(&Value::from(5)));
    let conflict = merge(&base, &[&of(5), &of(3)], MergeStrategy::ContextUpdate).unwrap_err();
    assert!(conflict.contains("`x.y`: `a` wrote 5, `b` wrote 3"), "{conflict}");
}

#[test]
fn the_strategies_decide_by_declared_order_and_an_untouched_value_is_no_write() {
    for field in ["total", "counter", "score"] {
        let base = context(&[(field, Value::from(10))]);
        let (five, three) = (
            writing(&base, field, Value::from(5)),
            writing(&base, field, Value::from(3)),
        );
        let of = |strategy| {
            merge(&base, &[&five, &three, &base], strategy)
                .map(|merged| merged.get(field).and_then(Value::as_int).unwrap())
        };
        assert_eq!(of(MergeStrategy::Overwrite), Ok(3));
        assert_eq!(of(MergeStrategy::KeepFirst), Ok(5));
        assert_eq!(of(MergeStrategy::NoMerge), Ok(10));
        assert!(of(MergeStrategy::ErrorOnConflict).is_err());
        let alone = merge(&base, &[&base, &five], MergeStrategy::ContextUpdate).unwrap();
        assert_eq!(alone.get(field), Some(&Value::from(5)));
    }
}

#[test]
fn error_on_conflict_refuses_even_equal_writes() {
    let base = Context::new();
    let one = writing(&base, "x", Value::from(1));
    assert!(merge(&base, &[&one, &one.clone()], MergeStrategy::ErrorOnConflict).is_err());
}

#[test]
fn a_removed_field_stays_removed() {
    let base = context(&[("x", Value::from(1)), ("y", Value::from(1))]);
    let mut left = base.clone();
    left.remove("x");
    let right = writing(&base, "y", Value::from(2));
    let merged = merge(&base, &[&left, &right], MergeStrategy::ContextUpdate).unwrap();
    assert_eq!(merged, context(&[("y", Value::from(2))]));
}

#[test]
fn a_field_rule_combines_what_would_be_a_conflict() {
    let cases = [
        (
            MergeRule::Sum,
            Value::from(0),
            Value::from(1),
            Value::from(1),
            Value::from(2),
        ),
        (
            MergeRule::Sum,
            Value::from(0.5),
            Value::from(1.5),
            Value::from(0.0),
            Value::from(1.0),
        ),
        (
            MergeRule::Max,
            Value::from(0),
            Value::from(3),
            Value::from(7),
            Value::from(7),
        ),
        (
            MergeRule::Min,
            Value::from(9),
            Value::from(3),
            Value::from(7),
            Value::from(3),
        ),
        (
            MergeRule::Union,
            ints(&[1]),
            ints(&[1, 2]),
            ints(&[1, 2, 3]),
            ints(&[1, 2, 3]),
        ),
        (
            MergeRule::Append,
            Value::from("a"),
            Value::from("ab"),
            Value::from("ac"),
            Value::from("abc"),
        ),
        (
            MergeRule::First,
            Value::from(0),
            Value::from(3),
            Value::from(7),
            Value::from(3),
        ),
        (
            MergeRule::Last,
            Value::from(0),
            Value::from(3),
            Value::from(7),
            Value::from(7),
        ),
    ];
    for (rule, before, left, right, expected) in cases {
        let rules = [(Arc::from("x"), rule)]
            .into_iter()
            .collect::<super::MergeRules>();
        let base = context(&[("x", before)]).with_rules(rules);
        let (left, right) = (writing(&base, "x", left), writing(&base, "x", right));
        let merged = merge(&base, &[&left, &right], MergeStrategy::ContextUpdate).unwrap();
        assert_eq!(merged.get("x"), Some(&expected), "{rule:?}");
    }
}

#[test]
fn a_rule_that_does_not_fit_the_values_is_a_conflict() {
    let rules: super::MergeRules = [(Arc::from("x"), MergeRule::Sum)].into_iter().collect();
    let base = context(&[("x", Value::from(0))]).with_rules(rules);
    let (left, right) = (
        writing(&base, "x", Value::from("one")),
        writing(&base, "x", Value::from(1)),
    );
    assert!(merge(&base, &[&left, &right], MergeStrategy::ContextUpdate).is_err());
}

#[test]
fn a_path_through_something_else_than_a_map_is_refused_and_nothing_is_written() {
    let mut written = context(&[("x", Value::from(1))]);
    let error = written.set_path("x.y", Value::Null).unwrap_err();
    assert!(matches!(error.kind, PathErrorKind::NotAMap { .. }));
    assert_eq!(written, context(&[("x", Value::from(1))]));
    written.set_path("report.sub.title", Value::from("t")).unwrap();
    assert_eq!(written.get_path("report.sub.title"), Some(&Value::from("t")));
}

#[test]
fn a_context_that_is_isolated_by_copying_shares_nothing_with_its_fork_and_counts_what_it_copies() {
    let counts = Arc::new(CopyCounts::default());
    let mut context = Context::new().copying(Arc::clone(&counts));
    context.set("log", Value::list([Value::from("a"), Value::from("b")]));
    context.set("seen", Value::from(1));
    let mut fork = context.fork();
    assert_eq!(fork, context);
    assert!(!fork.same(&context));
    let lists = [&context, &fork].map(|context| match context.get("log") {
        Some(Value::List(items)) => Arc::as_ptr(items),
        other => panic!("{other:?}"),
    });
    assert_ne!(lists[0], lists[1]);
    fork.set("seen", Value::from(2));
    assert_eq!(context.get("seen"), Some(&Value::from(1)));
    assert_eq!(counts.fields(), 2);
    assert!(counts.bytes() > 2);
    // A fork of the fork copies too, and a merge by value is the same as by sharing.
    let again = fork.fork();
    assert_eq!(counts.fields(), 4);
    let merged = context
        .merge(
            &[("a".into(), &again), ("b".into(), &context.fork())],
            MergeStrategy::ErrorOnConflict,
        )
        .unwrap();
    assert_eq!(merged.get("seen"), Some(&Value::from(2)));
    assert!(!merged.fork().same(&merged), "what was merged copies as before");
}

proptest! {
    #[test]
    fn a_merge_is_the_same_whether_branches_were_copied_or_shared(
        fields in proptest::collection::vec((0..4_u8, 0..3_i64), 0..5),
        writes in proptest::collection::vec((0..2_usize, 0..4_u8, 0..3_i64), 0..6),
    ) {
        let base: Context = fields
            .iter()
            .map(|(name, value)| (Arc::from(name.to_string()), Value::list([Value::from(*value)])))
            .collect();
        let merged = |base: Context| {
            let mut branches = [base.fork(), base.fork()];
            for (branch, name, value) in &writes {
                branches[*branch].set(name.to_string(), Value::list([Value::from(*value)]));
            }
            let branches: Vec<_> = branches.iter().map(|branch| (Arc::from("branch"), branch)).collect();
            base.merge(&branches, MergeStrategy::ContextUpdate).map_err(|error| error.to_string())
        };
        prop_assert_eq!(merged(base.clone()), merged(base.copying(Arc::default())));
    }
}
