//! What makes keys differ, and what does not.

use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

#[test]
fn keys_are_the_same_in_every_process() {
    let value = Value::map([
        ("prompt", Value::from("Grüße")),
        (
            "numbers",
            Value::list([Value::Int(1), Value::Float(1.0), Value::Bool(true), Value::Null]),
        ),
    ]);
    assert_eq!(
        CacheKey::of(&value).unwrap().to_string(),
        "9bafec0bcacf3c4c90c00daaee599ddc"
    );
}

#[test]
fn what_is_added_in_other_pieces_makes_another_key() {
    let key = |texts: &[&str]| {
        let mut key = KeyBuilder::new("test");
        for text in texts {
            key.text(text).number(0);
        }
        key.finish()
    };
    let keys = [
        key(&[]),
        key(&["ab"]),
        key(&["a", "b"]),
        key(&["", "ab"]),
        key(&["b", "a"]),
    ];
    assert_eq!(HashSet::from(keys).len(), keys.len());
}

#[test]
fn what_else_is_made_before_or_meanwhile_makes_no_difference() {
    let large = Value::from("x".repeat(40_000));
    let key = |beside: &dyn Fn()| {
        let mut key = KeyBuilder::new("test");
        beside();
        key.text("a").number(1);
        beside();
        key.value(&large).unwrap().text("b");
        key.finish()
    };
    let alone = std::thread::scope(|scope| scope.spawn(|| key(&|| ())).join().unwrap());
    let beside = || {
        CacheKey::of(&large).unwrap();
        drop(KeyBuilder::new("given up"));
    };
    beside();
    assert_eq!(key(&beside), alone);
}

#[test]
fn large_values_are_told_apart_wherever_they_differ() {
    let text = |place: usize| {
        let mut bytes = vec![0_u8; 5_000];
        bytes[place] = 1;
        Value::list([
            Value::from("head"),
            Value::Bytes(bytes.into()),
            Value::from("tail"),
        ])
    };
    let keys: HashSet<_> = (0..5_000)
        .map(|place| CacheKey::of(&text(place)).unwrap())
        .collect();
    assert_eq!(keys.len(), 5_000);
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-2..3_i64).prop_map(Value::Int),
        (-2..3_i32).prop_map(|number| Value::Float(f64::from(number))),
        "[a-c]{0,3}".prop_map(Value::from),
        proptest::collection::vec(0..3_u8, 0..3).prop_map(|bytes| Value::Bytes(Arc::from(bytes))),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::list),
            proptest::collection::vec(("[a-c]{0,2}", inner), 0..3).prop_map(Value::map),
        ]
    })
}

proptest! {
    /// Values of one digest are equal, and equal values have one digest.
    #[test]
    fn digests_are_equal_as_values_are(one in value(), other in value()) {
        let digests = CacheKey::of(&one).unwrap() == CacheKey::of(&other).unwrap();
        prop_assert_eq!(digests, one == other);
    }
}
