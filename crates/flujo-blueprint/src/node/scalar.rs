//! What a scalar means: YAML 1.2's core schema, with the core tags.

use flujo_core::value::Value;
use granit_parser::{ScalarStyle, Tag};

/// The value of a scalar; `Err` when it doesn't fit its tag, or the tag is unknown.
pub(super) fn resolve(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    match tag.map(Tag::to_string).as_deref().map(core_name) {
        None if style == ScalarStyle::Plain => Ok(plain(text)),
        None | Some(Some("str")) => Ok(Value::from(text)),
        Some(Some("null")) if matches!(plain(text), Value::Null) => Ok(Value::Null),
        Some(Some("bool")) => match plain(text) {
            flag @ Value::Bool(_) => Ok(flag),
            _ => Err(format!("`{text}` isn't true or false, as its tag says")),
        },
        Some(Some("int")) => match plain(text) {
            number @ Value::Int(_) => Ok(number),
            _ => Err(format!("`{text}` isn't a whole number, as its tag says")),
        },
        Some(Some("float")) => match plain(text) {
            #[allow(clippy::cast_precision_loss)] // a float is asked for
            Value::Int(number) => Ok(Value::Float(number as f64)),
            number @ Value::Float(_) => Ok(number),
            _ => Err(format!("`{text}` isn't a number, as its tag says")),
        },
        Some(_) => Err("this tag isn't known here".to_owned()),
    }
}

/// The name of a tag of the core schema: `str` of `!!str`.
fn core_name(tag: &str) -> Option<&str> {
    tag.strip_prefix("tag:yaml.org,2002:")
        .or_else(|| tag.strip_prefix("!!"))
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    number(text).unwrap_or_else(|| Value::from(text))
}

fn number(text: &str) -> Option<Value> {
    let radix = |digits: &str, radix| i64::from_str_radix(digits, radix).ok().map(Value::Int);
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16).filter(|_| !digits.starts_with(['+', '-']));
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8).filter(|_| !digits.starts_with(['+', '-']));
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let only = |allowed: &str| digits.chars().all(|c| c.is_ascii_digit() || allowed.contains(c));
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        || !digits.contains(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    if only("") {
        // Beyond 64 bits it is a float, as in JSON.
        return text
            .parse()
            .map(Value::Int)
            .or_else(|_| text.parse().map(Value::Float))
            .ok();
    }
    only(".eE+-")
        .then(|| text.parse().ok().map(Value::Float))
        .flatten()
}
