//! The forms of Python's values, byte by byte as `flujo-python` writes them.

use flujo_core::value::Value;

use super::super::RawValue;
use super::*;

fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut all = (bytes.len() as u64).to_le_bytes().to_vec();
    all.extend_from_slice(bytes);
    all
}

fn tagged(tag: u8, rest: &[u8]) -> Vec<u8> {
    [&[tag], rest].concat()
}

fn text(text: &str) -> Vec<u8> {
    tagged(6, &sized(text.as_bytes()))
}

fn class(module: &str, name: &str) -> Vec<u8> {
    tagged(30, &[sized(module.as_bytes()), sized(name.as_bytes())].concat())
}

fn count(count: u64) -> Vec<u8> {
    count.to_le_bytes().to_vec()
}

fn json(bytes: &[u8]) -> String {
    serde_json::to_string(&RawValue::Bytes(bytes.into())).unwrap()
}

#[test]
fn plain_data_is_shown_as_it_is() {
    let dict = [
        tagged(12, &count(1)),
        text("a"),
        tagged(11, &count(2)),
        tagged(3, &count(5)),
        tagged(2, &[]),
    ];
    assert_eq!(json(&dict.concat()), r#"{"a":[5,true]}"#);
    assert_eq!(json(&text("Grüße")), r#""Grüße""#);
    assert_eq!(json(&tagged(5, &1.5_f64.to_le_bytes())), "1.5");
    assert_eq!(
        json(&tagged(4, &sized(&[0, 0, 0, 0, 0, 0, 0, 0, 1]))),
        r#""18446744073709551616""#
    );
    assert_eq!(json(&tagged(10, &[count(1), vec![0]].concat())), "[null]");
}

#[test]
fn models_are_shown_by_their_fields_and_others_by_their_texts() {
    let model = [
        tagged(22, &class("shop", "Order")),
        count(1),
        text("item"),
        text("tea"),
        vec![0],
        vec![0],
        tagged(13, &count(0)),
    ];
    assert_eq!(json(&model.concat()), r#"{"item":"tea"}"#);
    let path = [tagged(26, &class("pathlib", "PurePath")), text("a/b")];
    assert_eq!(json(&path.concat()), r#""a/b""#);
    let moment = [
        tagged(27, &text("2026-01-02T03:04:05")),
        tagged(3, &count(0)),
        tagged(32, &text("Europe/Berlin")),
    ];
    assert_eq!(json(&moment.concat()), r#""2026-01-02T03:04:05 Europe/Berlin""#);
    let queue = [
        tagged(34, &class("collections", "deque")),
        vec![0],
        tagged(11, &count(0)),
    ];
    assert_eq!(json(&queue.concat()), "[]");
}

#[test]
fn what_is_no_value_is_shown_by_its_size_and_never_panics() {
    assert_eq!(json(&[99, 1, 2]), r#""<3 bytes>""#);
    for tag in 0..=40 {
        for length in 0..24 {
            let _ = shown(&tagged(tag, &vec![tag; length]));
            let _ = shown(&tagged(tag, &vec![0; length]));
        }
    }
    let deep = tagged(11, &count(1)).repeat(100_000);
    assert_eq!(shown(&deep), None::<Value>);
}
