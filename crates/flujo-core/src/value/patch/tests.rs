//! Patches: whatever became of a value, they make the same of it.

use proptest::prelude::*;

use super::*;

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (0..4_i64).prop_map(Value::Int),
        prop_oneof![Just(0.0), Just(-0.0), Just(1.0), Just(f64::NAN)].prop_map(Value::Float),
        "[aäß]{0,80}".prop_map(|text| Value::Str(text.into())),
        proptest::collection::vec(any::<u8>(), 0..3).prop_map(|bytes| Value::Bytes(bytes.into())),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::list),
            proptest::collection::vec(("[a-d]", inner), 0..5).prop_map(|entries| Value::Map(Arc::new(
                entries.into_iter().map(|(k, v)| (k.into(), v)).collect()
            ))),
        ]
    })
}

proptest! {
    /// Whatever became of a value, the patch makes the same of it, with types, order and bits.
    #[test]
    fn a_patch_makes_the_new_value_of_the_old_one(old in values(), new in values()) {
        let made = match Patch::between(&old, &new) {
            Some(patch) => patch.apply(&old).unwrap(),
            None => old.clone(),
        };
        prop_assert_eq!(made.to_bytes().unwrap(), new.to_bytes().unwrap());
    }

    /// A patch that is put on another value says so, or makes something, and never panics.
    #[test]
    fn a_patch_of_another_value_is_refused_or_harmless(old in values(), new in values(), other in values()) {
        if let Some(patch) = Patch::between(&old, &new) {
            let _ = patch.apply(&other);
        }
    }
}

#[test]
fn what_is_appended_is_all_that_is_said() {
    let old = Value::list((0..1_000).map(|number| Value::from(format!("message {number}"))));
    let Value::List(items) = &old else { unreachable!() };
    let mut items = Vec::clone(items);
    items.push(Value::from("one more"));
    let new = Value::list(items);
    let patch = Patch::between(&old, &new);
    let middle = vec![Patch::Whole(Value::from("one more"))];
    let expected = Patch::List {
        front: 1_000,
        back: 0,
        middle,
    };
    assert_eq!(patch, Some(expected));
}

#[test]
fn a_change_deep_inside_is_all_that_is_said() {
    let nested = |number: i64| {
        let large = Value::from("x".repeat(10_000));
        Value::map([
            ("large", large),
            (
                "inner",
                Value::list([Value::map([("count", Value::Int(number))])]),
            ),
        ])
    };
    let patch = Patch::between(&nested(1), &nested(2)).unwrap();
    assert!(format!("{patch:?}").len() < 300, "{patch:?}");
}

#[test]
fn the_end_of_a_long_text_is_all_that_is_said() {
    let old = Value::from("ä".repeat(1_000));
    let new = Value::from(format!("{}ö", "ä".repeat(1_000)));
    let expected = Patch::Text {
        front: 2_000,
        back: 0,
        middle: "ö".into(),
    };
    assert_eq!(Patch::between(&old, &new), Some(expected));
}
