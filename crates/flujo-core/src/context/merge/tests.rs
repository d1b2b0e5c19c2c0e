//! What merging promises, whatever the branches wrote.

use std::convert::Infallible;
use std::sync::Arc;

use proptest::prelude::*;

use super::{MergeRule, MergeRules, MergeStrategy};
use crate::context::{Context, Edit, edits};
use crate::value::Value;

const ALL: [MergeStrategy; 5] = [
    MergeStrategy::ContextUpdate,
    MergeStrategy::Overwrite,
    MergeStrategy::KeepFirst,
    MergeStrategy::ErrorOnConflict,
    MergeStrategy::NoMerge,
];
const MERGING: [MergeStrategy; 4] = [ALL[0], ALL[1], ALL[2], ALL[3]];

fn ints(items: &[i64]) -> Value {
    Value::list(items.iter().map(|item| Value::from(*item)))
}

fn holding(value: Value) -> Context {
    [(Arc::from("x"), value)].into_iter().collect()
}

/// What becomes of a field that holds `base` when branches a, b, … leave `values` there.
fn merged(base: &Value, values: &[Value], strategy: MergeStrategy) -> Result<Value, String> {
    let base = holding(base.clone());
    let branches: Vec<Context> = values
        .iter()
        .map(|value| {
            let mut branch = base.clone();
            branch.set("x", value.clone());
            branch
        })
        .collect();
    let named: Vec<(Arc<str>, &Context)> = ["a", "b", "c", "d"]
        .into_iter()
        .map(Arc::from)
        .zip(&branches)
        .collect();
    match base.merge(&named, strategy) {
        Ok(merged) => Ok(merged.get("x").cloned().unwrap_or_default()),
        Err(conflict) => Err(conflict.to_string()),
    }
}

fn map(entries: &[(&str, Value)]) -> Value {
    Value::map(entries.iter().map(|(name, value)| (*name, value.clone())))
}

#[test]
fn a_branch_s_untouched_value_is_never_a_write() {
    let base = map(&[
        ("kept", Value::from(f64::NAN)),
        ("list", ints(&[1, 2])),
        ("deep", map(&[("n", Value::from(0)), ("m", Value::from(0))])),
    ]);
    let writing = |path: &str, value: Value| {
        let mut context = holding(base.clone());
        context.set_path(&format!("x.{path}"), value).unwrap();
        context.get("x").cloned().unwrap()
    };
    let first = writing("deep.n", Value::from(1));
    let second = writing("deep.m", Value::from(2));
    let third = writing("list", ints(&[9, 2]));
    let expected = map(&[("n", Value::from(1)), ("m", Value::from(2))]);
    for strategy in MERGING {
        let all = [first.clone(), base.clone(), second.clone(), third.clone()];
        let context = holding(merged(&base, &all, strategy).unwrap());
        assert_eq!(context.get_path("x.deep"), Some(&expected), "{strategy:?}");
        assert_eq!(context.get_path("x.list"), Some(&ints(&[9, 2])), "{strategy:?}");
        assert!(matches!(context.get_path("x.kept"), Some(Value::Float(kept)) if kept.is_nan()));
    }
}

#[test]
fn different_values_for_one_path_fail_naming_path_branches_and_values_numbers_too() {
    let of = |value: i64| map(&[("list", Value::list([map(&[("k", Value::from(value))])]))]);
    let conflict = merged(&of(0), &[of(7), of(0), of(8)], MergeStrategy::ContextUpdate).unwrap_err();
    for part in ["`x.list[0].k`", "`a` wrote 7", "`c` wrote 8"] {
        assert!(conflict.contains(part), "{conflict}");
    }
    assert!(!conflict.contains("`b`"), "{conflict}");
}

#[test]
fn what_branches_removed_is_written_too() {
    let base = map(&[("k", Value::from(1)), ("l", Value::from(1))]);
    let without = |name: &str| {
        let entries = base
            .as_map()
            .unwrap()
            .iter()
            .filter(|(known, _)| **known != *name);
        Value::Map(Arc::new(entries.cloned().collect()))
    };
    for strategy in MERGING {
        let both = merged(&base, &[without("k"), without("l")], strategy).unwrap();
        assert_eq!(both, map(&[]), "{strategy:?}");
    }
    let changed = map(&[("k", Value::from(2)), ("l", Value::from(1))]);
    let against = |strategy| merged(&base, &[without("k"), changed.clone()], strategy);
    assert!(
        against(MergeStrategy::ContextUpdate)
            .unwrap_err()
            .contains("`a` removed it")
    );
    assert_eq!(against(MergeStrategy::Overwrite).unwrap(), changed);
    assert_eq!(against(MergeStrategy::KeepFirst).unwrap(), without("k"));
    let twice = merged(
        &base,
        &[without("k"), without("k")],
        MergeStrategy::ErrorOnConflict,
    );
    assert!(twice.unwrap_err().contains("`x.k`"));
}

#[test]
fn lists_keep_removals_replacements_and_insertions_of_all_branches() {
    let base = ints(&[1, 2, 3, 4]);
    let of = |lists: &[&[i64]], strategy| {
        let lists: Vec<Value> = lists.iter().map(|list| ints(list)).collect();
        merged(&base, &lists, strategy)
    };
    let apart: &[&[i64]] = &[&[1, 3, 4], &[0, 1, 2, 3, 4], &[1, 2, 3, 9]];
    for strategy in MERGING {
        assert_eq!(of(apart, strategy), Ok(ints(&[0, 1, 3, 9])), "{strategy:?}");
    }
    let appended: &[&[i64]] = &[&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 6, 7]];
    let update = of(appended, MergeStrategy::ContextUpdate);
    assert_eq!(update, Ok(ints(&[1, 2, 3, 4, 5, 6, 7])));
    let last = of(appended, MergeStrategy::Overwrite);
    assert_eq!(last, Ok(ints(&[1, 2, 3, 4, 6, 7])));
    let first = of(appended, MergeStrategy::KeepFirst);
    assert_eq!(first, Ok(ints(&[1, 2, 3, 4, 5])));
    let refused = of(appended, MergeStrategy::ErrorOnConflict).unwrap_err();
    assert!(
        refused.contains("`x`: `a` wrote [5], `b` wrote [6, 7]"),
        "{refused}"
    );
    // Containers that were all edited in place are still the same list, also where one was added.
    let rows = |rows: &[&[(&'static str, Value)]]| Value::list(rows.iter().map(|row| map(row)));
    let edited = |first: i64, second: i64| rows(&[&[("k", first.into()), ("l", second.into())]]);
    let mut longer = edited(1, 6).as_list().unwrap_or_default().to_vec();
    longer.push(map(&[]));
    let both = merged(
        &edited(1, 1),
        &[edited(5, 1), Value::list(longer)],
        MergeStrategy::ContextUpdate,
    );
    assert_eq!(both, Ok(rows(&[&[("k", 5.into()), ("l", 6.into())], &[]])));
    // Lists that have nothing in common with what was there don't mix, neither with one another nor with an append.
    for other in [&[9][..], &[1, 2, 3, 4, 5]] {
        let rewritten = |strategy| of(&[&[7, 8], other], strategy);
        let refused = rewritten(MergeStrategy::ContextUpdate).unwrap_err();
        assert!(refused.contains("`x`"), "{refused}");
        assert_eq!(rewritten(MergeStrategy::Overwrite), Ok(ints(other)));
        assert_eq!(rewritten(MergeStrategy::KeepFirst), Ok(ints(&[7, 8])));
    }
}

#[test]
fn long_lists_that_both_lose_items_at_both_ends_lose_just_these() {
    let numbers: Vec<i64> = (0..3_000).collect();
    let without = |gone: [i64; 2]| {
        let kept: Vec<i64> = numbers.iter().copied().filter(|n| !gone.contains(n)).collect();
        ints(&kept)
    };
    let both = merged(
        &ints(&numbers),
        &[without([0, 2_999]), without([1, 2_998])],
        MergeStrategy::ContextUpdate,
    );
    assert_eq!(both, Ok(ints(&numbers[2..2_998])));
}

#[test]
fn a_function_decides_a_field_and_one_that_refuses_says_why() {
    let rules = |function| -> MergeRules {
        [(Arc::from("x"), MergeRule::With(function))]
            .into_iter()
            .collect()
    };
    let longest = rules(|base, values| {
        let texts = base.into_iter().chain(values.iter().copied());
        let longest = texts.max_by_key(|text| text.as_str().map_or(0, str::len));
        longest.cloned().ok_or_else(|| "nothing was there".to_owned())
    });
    let refusing = rules(|_, values| Err(format!("{} branches wrote", values.len())));
    let of = |rules: &MergeRules| {
        let base = holding(Value::from("ab")).with_rules(rules.clone());
        let branch = |text: &str| {
            let mut branch = base.clone();
            branch.set("x", Value::from(text));
            branch
        };
        let (left, right) = (branch("abcd"), branch("c"));
        base.merge(
            &[(Arc::from("a"), &left), (Arc::from("b"), &right)],
            MergeStrategy::ErrorOnConflict,
        )
    };
    assert_eq!(of(&longest).unwrap().get("x"), Some(&Value::from("abcd")));
    let refused = of(&refusing).unwrap_err();
    assert_eq!(
        (refused.path.as_str(), &*refused.reason),
        ("x", "2 branches wrote")
    );
}

#[test]
fn a_merged_value_that_the_field_cannot_hold_is_a_conflict() {
    let check = |field: &str, value: &Value| match value.as_list() {
        Some(list) if list.len() > 2 => Err(format!("`{field}` holds two items at most")),
        _ => Ok(()),
    };
    let base = holding(ints(&[1])).with_rules(MergeRules::new().with_check(check));
    let branch = |items: &[i64]| {
        let mut branch = base.clone();
        branch.set("x", ints(items));
        branch
    };
    let (left, right) = (branch(&[1, 2]), branch(&[1, 3]));
    let named = |context| (Arc::from("a"), context);
    let refused = base.merge(&[named(&left), named(&right)], MergeStrategy::ContextUpdate);
    assert_eq!(refused.unwrap_err().reason, "`x` holds two items at most");
    assert!(
        base.merge(&[named(&left), named(&base)], MergeStrategy::ContextUpdate)
            .is_ok()
    );
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3_i64..3).prop_map(Value::Int),
        prop_oneof![Just(f64::NAN), Just(0.5)].prop_map(Value::Float),
        "[ab]{0,2}".prop_map(|text| Value::from(text.as_str())),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::list),
            proptest::collection::btree_map("[kl]{1,2}", inner, 0..4).prop_map(|entries| Value::Map(
                Arc::new(
                    entries
                        .into_iter()
                        .map(|(name, value)| (Arc::from(name), value))
                        .collect()
                )
            )),
        ]
    })
}

fn contexts() -> impl Strategy<Value = Context> {
    proptest::collection::btree_map("[a-f]", values(), 0..6).prop_map(|fields| {
        fields
            .into_iter()
            .map(|(name, value)| (Arc::from(name), value))
            .collect()
    })
}

fn shown(context: &Context) -> String {
    format!("{context:?}")
}

proptest! {
    #[test]
    fn merging_with_no_writes_is_the_identity(base in contexts(), branches in 0_usize..4) {
        // Copies that share nothing with the fork, as from a store.
        let copies: Vec<Context> = (0..branches)
            .map(|_| base.iter().map(|(name, value)| (Arc::clone(name), value.clone())).collect())
            .collect();
        for strategy in ALL {
            let named: Vec<(Arc<str>, &Context)> = copies.iter().map(|copy| (Arc::from("b"), copy)).collect();
            prop_assert_eq!(shown(&base.merge(&named, strategy).unwrap()), shown(&base));
        }
    }

    #[test]
    fn who_wrote_alone_is_right_wherever_it_was_declared(
        base in contexts(), writer in contexts(), place in 0_usize..3,
    ) {
        for strategy in MERGING {
            let mut named: Vec<(Arc<str>, &Context)> = vec![(Arc::from("idle"), &base); 2];
            named.insert(place, (Arc::from("writer"), &writer));
            prop_assert_eq!(shown(&base.merge(&named, strategy).unwrap()), shown(&writer));
        }
    }

    #[test]
    fn writes_to_different_fields_give_the_same_in_any_order(
        base in contexts(), left in values(), right in values(),
    ) {
        let (mut a, mut b) = (base.clone(), base.clone());
        a.set("a", left);
        b.set("b", right);
        let mut both = a.clone();
        if let Some(value) = b.get("b") {
            both.set("b", value.clone());
        }
        for strategy in MERGING {
            let (a, b) = ((Arc::from("a"), &a), (Arc::from("b"), &b));
            for order in [[a.clone(), b.clone()], [b.clone(), a.clone()]] {
                prop_assert_eq!(shown(&base.merge(&order, strategy).unwrap()), shown(&both));
            }
        }
    }

    #[test]
    fn appends_are_never_lost_or_doubled(
        before in proptest::collection::vec(0_i64..3, 0..6),
        first in proptest::collection::vec(0_i64..3, 0..4),
        second in proptest::collection::vec(0_i64..3, 0..4),
    ) {
        let longer = |tail: &[i64]| ints(&[before.as_slice(), tail].concat());
        let both = merged(&ints(&before), &[longer(&first), longer(&second)], MergeStrategy::ContextUpdate);
        prop_assert_eq!(both, Ok(ints(&[before.as_slice(), &first, &second].concat())));
    }

    #[test]
    fn edits_lead_from_one_list_to_the_other(
        before in proptest::collection::vec(0_u8..4, 0..12), after in proptest::collection::vec(0_u8..4, 0..12),
    ) {
        let alike = |old: usize, new: usize| Ok::<_, Infallible>(before[old] == after[new]);
        let Some(edited) = edits(before.len(), after.len(), 0, alike, |_| Ok(false)).unwrap() else {
            prop_assert!(!before.iter().any(|item| after.contains(item)));
            return Ok(());
        };
        let mut made: Vec<Vec<u8>> = before.iter().map(|item| vec![*item]).collect();
        made.push(Vec::new());
        for (place, edit) in edited.changed {
            made[place] = match edit {
                Edit::Remove => Vec::new(),
                Edit::Replace(new) => vec![after[new]],
            };
        }
        for (place, items) in edited.inserted {
            made[place].splice(0..0, after[items].iter().copied());
        }
        prop_assert_eq!(made.concat(), after);
    }
}
