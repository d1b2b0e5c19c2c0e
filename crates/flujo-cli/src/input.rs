//! What a run starts with: its input and the fields of its context, as the command line gives them.

use std::io::Read;
use std::path::Path;

use flujo_blueprint::{Rule, parse_value};
use flujo_core::context::Context;
use flujo_core::value::Value;

use crate::outcome::Failure;

/// The most bytes of an input.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// The input that `--input` names; null without one.
pub(crate) fn read(argument: Option<&str>) -> Result<Value, Failure> {
    let Some(argument) = argument else {
        return Ok(Value::Null);
    };
    if argument == "-" {
        return text(std::io::stdin().lock(), "standard input").map(Value::from);
    }
    if let Some(path) = argument.strip_prefix('@') {
        return text_of(Path::new(path)).map(Value::from);
    }
    let path = Path::new(argument);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => {
            let text = text_of(path)?;
            serde_json::from_str(&text).map_err(|error| refuse(&format!("`{argument}` isn't JSON: {error}")))
        }
        Some("yaml" | "yml") => {
            let text = text_of(path)?;
            parse_value(&text)
                .map_err(|reason| refuse(&format!("`{argument}` can't be read as YAML: {reason}")))
        }
        _ => Ok(Value::from(argument)),
    }
}

/// A context with the fields that `--set` names.
pub(crate) fn context(fields: &[String]) -> Result<Context, Failure> {
    let mut context = Context::new();
    for field in fields {
        let Some((key, written)) = field.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Failure::usage(
                Rule::BadInput,
                format!("`--set {field}` has no value"),
                "write `--set key=value`; the value is read as YAML",
            ));
        };
        let value = parse_value(written).map_err(|reason| {
            Failure::usage(
                Rule::BadInput,
                format!("the value of `--set {key}=…` isn't YAML: {reason}"),
                "put texts with special characters into quotes",
            )
        })?;
        context.set_path(key, value).map_err(|error| {
            Failure::usage(
                Rule::BadInput,
                format!("`--set {key}` can't be set: {error}"),
                "write a dotted path such as `options.title`",
            )
        })?;
    }
    Ok(context)
}

fn text_of(path: &Path) -> Result<String, Failure> {
    let file = std::fs::File::open(path)
        .map_err(|error| refuse(&format!("the input `{}` can't be read: {error}", path.display())))?;
    text(file, &format!("`{}`", path.display()))
}

fn text(reader: impl Read, name: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(&format!("{name} can't be read: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(refuse(&format!("{name} has more than {MAX_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        refuse(&format!(
            "{name} isn't UTF-8 text: byte {} can't be read",
            error.utf8_error().valid_up_to() + 1
        ))
    })
}

fn refuse(message: &str) -> Failure {
    Failure::usage(
        Rule::BadInput,
        message,
        "`--input` takes text, `-`, a .json or .yaml file, or `@FILE` for the text of a file",
    )
}
