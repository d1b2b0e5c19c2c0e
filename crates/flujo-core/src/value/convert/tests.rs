//! Objects to data and back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{from_value, to_value};
use crate::value::{Map, Value};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(f64),
    Box { width: u32, height: u32 },
    Pair(i8, i8),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wrapper(u16);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    name: String,
    shapes: Vec<Shape>,
    by_number: BTreeMap<u32, bool>,
    wrapped: Wrapper,
    nothing: Option<u8>,
    something: Option<char>,
    unit: (),
}

#[test]
fn an_object_comes_back_from_its_value_unchanged() {
    let object = Everything {
        name: "n".into(),
        shapes: vec![
            Shape::Point,
            Shape::Circle(1.5),
            Shape::Box { width: 1, height: 2 },
            Shape::Pair(-1, 1),
        ],
        by_number: [(7, true)].into(),
        wrapped: Wrapper(3),
        nothing: None,
        something: Some('c'),
        unit: (),
    };
    let value = to_value(&object).unwrap();
    assert_eq!(value.get("name"), Some(&Value::from("n")));
    assert_eq!(from_value::<Everything>(value).unwrap(), object);
}

#[test]
fn an_integer_beyond_the_range_is_refused() {
    let error = to_value(&u64::MAX).unwrap_err();
    assert!(error.reason.contains("does not fit"), "{error}");
}

#[test]
fn data_that_does_not_fit_the_type_is_refused() {
    assert!(from_value::<u8>(Value::from(256)).is_err());
    assert!(from_value::<Vec<u8>>(Value::Map(Map::new().into())).is_err());
    assert!(from_value::<Shape>(Value::from("Square")).is_err());
}
