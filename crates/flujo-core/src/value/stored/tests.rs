//! Values as bytes.

use proptest::prelude::*;

use super::*;

#[test]
fn every_type_and_the_order_of_maps_is_kept() {
    let value = Value::map([
        (
            "z",
            Value::list([Value::Null, Value::Bool(true), Value::Bool(false), Value::Int(-1)]),
        ),
        ("a", Value::Bytes(Arc::from(*b"\x00\xff"))),
        (
            "floats",
            Value::list([Value::Float(1.0), Value::Float(-0.0), Value::Float(f64::INFINITY)]),
        ),
        ("", Value::from("Grüße")),
    ]);
    let read = Value::from_bytes(&value.to_bytes().unwrap(), &[]).unwrap();
    assert_eq!(format!("{read:?}"), format!("{value:?}"));
    assert_eq!(read, value);
}

#[test]
fn an_object_of_unknown_type_is_shown_and_not_loaded() {
    static CODEC: TypeCodec = TypeCodec {
        type_name: "point",
        schema_version: 1,
        save: |_| Ok(Value::list([Value::Int(1), Value::Int(2)])),
        load: |_, _| Ok(Opaque::new(())),
        eq: |_, _| true,
    };
    let bytes = Value::Opaque(Opaque::with_codec((1, 2), &CODEC))
        .to_bytes()
        .unwrap();
    assert_eq!(Value::from_bytes(&bytes, &[]), None);
    let shown = Value::shown_from_bytes(&bytes).unwrap();
    let point = Value::list([Value::Int(1), Value::Int(2)]);
    assert_eq!(
        shown,
        Value::map([("type", Value::from("point")), ("value", point)])
    );
}

#[test]
fn what_is_too_deep_or_has_no_codec_is_refused() {
    let mut deep = Value::Null;
    for _ in 0..=DEEPEST {
        deep = Value::list([deep]);
    }
    assert!(deep.to_bytes().unwrap_err().to_string().contains("nested deeper"));
    assert!(
        Value::opaque(1_u8)
            .to_bytes()
            .unwrap_err()
            .to_string()
            .contains("no codec")
    );
}

proptest! {
    /// Bytes of anybody's making are a value or nothing, and never a panic.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(0..12_u8, 0..60)) {
        if let Some(value) = Value::from_bytes(&bytes, &[]) {
            prop_assert!(value.to_bytes().is_ok());
        }
    }
}
