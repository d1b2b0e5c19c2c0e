//! What values promise.

use super::Value;

#[test]
fn a_later_equal_key_replaces_the_value_and_keeps_the_place() {
    let map = Value::map([("a", Value::Int(1)), ("b", Value::Int(2)), ("a", Value::Int(3))]);
    assert_eq!(format!("{map:?}"), r#"{"a": 3, "b": 2}"#);
}

#[test]
fn an_integer_and_a_float_of_the_same_size_differ() {
    assert_ne!(Value::Int(1), Value::Float(1.0));
}

#[test]
fn maps_are_equal_whatever_their_order() {
    let one = Value::map([("a", Value::Int(1)), ("b", Value::Int(2))]);
    let other = Value::map([("b", Value::Int(2)), ("a", Value::Int(1))]);
    assert_eq!(one, other);
}
