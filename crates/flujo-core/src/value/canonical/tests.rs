//! The typed canonical form of values.

use super::super::{CodecError, TypeCodec};
use super::*;

fn written(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    value
        .canonical(&mut |piece| bytes.extend_from_slice(piece))
        .unwrap();
    bytes
}

#[test]
fn values_of_other_types_or_contents_are_written_differently() {
    let one = Value::Int(1);
    let values = [
        Value::Null,
        Value::Bool(false),
        Value::Bool(true),
        one.clone(),
        Value::Int(0),
        Value::Int(-1),
        Value::Float(1.0),
        Value::Float(0.0),
        Value::Float(-0.0),
        Value::Float(f64::NAN),
        Value::Float(f64::INFINITY),
        Value::from("1"),
        Value::from(""),
        Value::Bytes(Arc::from(*b"1")),
        Value::list([one.clone()]),
        Value::list([Value::list([one.clone()])]),
        Value::list([]),
        Value::list([one.clone(), one.clone()]),
        Value::list([Value::from("a"), Value::from("b")]),
        Value::list([Value::from("ab"), Value::from("")]),
        Value::map([("a", one.clone())]),
        Value::map([("b", one.clone())]),
        Value::map::<&str>([]),
        Value::map([("a", Value::list([one.clone(), Value::map([("b", one.clone())])]))]),
        Value::map([("a", Value::list([one.clone()])), ("b", one)]),
    ];
    let mut forms: Vec<_> = values.iter().map(written).collect();
    forms.sort();
    forms.dedup();
    assert_eq!(forms.len(), values.len());
}

#[test]
fn a_number_takes_as_many_bytes_as_it_needs() {
    let of = |number| written(&Value::Int(number));
    assert_eq!(of(0), [3, 0]);
    assert_eq!(of(-64), [3, 127]);
    assert_eq!(of(64), [3, 0x80, 1]);
    assert_eq!(of(-8_192), [3, 0xff, 0x7f]);
    assert_eq!(of(8_192), [3, 0x80, 0x80, 1]);
    assert_eq!(
        of(i64::MIN),
        [3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]
    );
}

#[test]
fn what_follows_something_nested_is_written_after_it() {
    let (one, two) = (Value::Int(1), Value::Int(2));
    let inner = Value::list([one.clone(), Value::map([("b", two.clone()), ("a", one)])]);
    let value = Value::list([inner, Value::list([]), two]);
    assert_eq!(
        written(&value),
        [
            7, 3, 7, 2, 3, 2, 8, 2, 5, 1, b'a', 3, 2, 5, 1, b'b', 3, 4, 7, 0, 3, 4
        ]
    );
}

#[test]
fn the_order_of_a_map_and_the_bits_of_what_is_no_number_say_nothing() {
    let (one, two) = (Value::Int(1), Value::Int(2));
    let forth = Value::map([("a", one.clone()), ("b", two.clone())]);
    let back = Value::map([("b", two), ("a", one)]);
    assert_eq!(written(&forth), written(&back));
    assert_eq!(
        written(&Value::Float(f64::NAN)),
        written(&Value::Float(-f64::NAN))
    );
}

#[test]
fn depth_costs_no_call_stack() {
    let mut deep = Value::Null;
    for _ in 0..100_000 {
        deep = Value::list([deep]);
    }
    assert_eq!(written(&deep).len(), 2 * 100_000 + 1);
    while let Value::List(items) = deep {
        deep = Arc::into_inner(items).unwrap().pop().unwrap(); // taken apart in a loop too
    }
}

#[test]
fn an_object_is_known_by_its_type_version_and_plain_form() {
    #[allow(clippy::unnecessary_wraps)] // as a codec has it
    fn save(object: &(dyn std::any::Any + Send + Sync)) -> Result<Value, CodecError> {
        Ok(Value::Int(*object.downcast_ref::<i64>().unwrap()))
    }
    const fn codec(type_name: &'static str, schema_version: u32) -> TypeCodec {
        TypeCodec {
            type_name,
            schema_version,
            save,
            load: |_, _| unreachable!(),
            eq: |_, _| false,
        }
    }
    static ONE: TypeCodec = codec("one", 1);
    static LATER: TypeCodec = codec("one", 2);
    static OTHER: TypeCodec = codec("other", 1);
    let object = |number: i64, codec| Value::Opaque(Opaque::with_codec(number, codec));
    assert_eq!(written(&object(5, &ONE)), written(&object(5, &ONE)));
    let others = [
        object(6, &ONE),
        object(5, &LATER),
        object(5, &OTHER),
        Value::Int(5),
    ];
    assert!(
        others
            .iter()
            .all(|other| written(other) != written(&object(5, &ONE)))
    );
    let bare = Value::list([Value::opaque(5_i64)])
        .canonical(&mut |_| ())
        .unwrap_err();
    assert_eq!(
        bare.to_string(),
        "a value of type `i64` has no plain form: it can't be part of a cache key"
    );
}
