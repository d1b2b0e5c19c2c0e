//! Values of a run as the template engine sees them, and back. Maps and lists stay where they are and are looked into
//! on demand.

use std::fmt;
use std::sync::Arc;

use flujo_core::value::{Map, Opaque, Value};
use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, Output, State};

use super::host::{HostView, host_object};

/// Deeper data can't be read: printing it would cost call stack without end.
const DEEPEST: u8 = 128;

/// What happens to names with a leading underscore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Privacy {
    /// They can't be looked up; the whole value still prints and converts with them, so that data passes unharmed.
    Unreachable,
    /// They aren't there at all.
    Hidden,
}

/// How data is looked at: what is private, and how deep inside of it one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    privacy: Privacy,
    depth: u8,
}

impl Look {
    pub(super) fn new(privacy: Privacy) -> Self {
        Self { privacy, depth: 0 }
    }

    pub(super) fn deeper(self) -> Self {
        let depth = self.depth.saturating_add(1);
        Self { depth, ..self }
    }

    pub(super) fn is_deepest(self) -> bool {
        self.depth >= DEEPEST
    }

    /// Whether a name isn't there at all.
    pub(super) fn hides(self, name: &str) -> bool {
        self.privacy == Privacy::Hidden && is_private(name)
    }
}

/// What stands where data goes on too deep.
pub(super) fn too_deep() -> minijinja::Value {
    let reason = format!("the data is nested more than {DEEPEST} levels deep, or holds itself");
    Error::new(ErrorKind::InvalidOperation, reason).into()
}

pub(super) fn is_private(name: &str) -> bool {
    name.starts_with('_')
}

/// A value for the engine.
pub(super) fn to_engine(value: &Value, look: Look) -> minijinja::Value {
    match value {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Str(text) => minijinja::Value::from(Arc::clone(text)),
        Value::Bytes(bytes) => minijinja::Value::from_bytes(bytes.to_vec()),
        Value::List(_) | Value::Map(_) | Value::Opaque(_) if look.is_deepest() => too_deep(),
        Value::List(items) => minijinja::Value::from_object(ListView {
            items: Arc::clone(items),
            look,
            output: None,
        }),
        Value::Map(entries) => minijinja::Value::from_object(MapView {
            entries: Arc::clone(entries),
            look,
            output: None,
        }),
        Value::Opaque(object) => match object.codec().map(|codec| (codec.save)(object.as_any())) {
            Some(Ok(plain)) => to_engine(&plain, look.deeper()),
            _ => HostView::of(value, look, None)
                .unwrap_or_else(|| minijinja::Value::from_object(ObjectView(object.clone()))),
        },
    }
}

/// A step's output for the engine: itself, and under `.output` once more. Text, numbers and the like can't carry a
/// name, so they are wrapped only when `asked_for`.
pub(super) fn step_output(output: &Value, asked_for: bool) -> minijinja::Value {
    let look = Look::new(Privacy::Unreachable);
    let itself = to_engine(output, look);
    match output {
        Value::List(items) => minijinja::Value::from_object(ListView {
            items: Arc::clone(items),
            look,
            output: Some(itself),
        }),
        Value::Map(entries) => minijinja::Value::from_object(MapView {
            entries: Arc::clone(entries),
            look,
            output: Some(itself),
        }),
        object if host_object(object).is_some() => {
            HostView::of(object, look, Some(itself.clone())).unwrap_or(itself)
        }
        plain if asked_for => minijinja::Value::from_object(ScalarView(itself, plain.clone())),
        _ => itself,
    }
}

/// A value from the engine. What was picked out of a scope comes back as it went in.
pub(super) fn from_engine(value: &minijinja::Value) -> Result<Value, String> {
    if let Some(map) = value.downcast_object_ref::<MapView>() {
        if map.look.privacy == Privacy::Unreachable {
            return Ok(Value::Map(Arc::clone(&map.entries)));
        }
    } else if let Some(list) = value.downcast_object_ref::<ListView>() {
        if list.look.privacy == Privacy::Unreachable {
            return Ok(Value::List(Arc::clone(&list.items)));
        }
    } else if let Some(scalar) = value.downcast_object_ref::<ScalarView>() {
        return Ok(scalar.1.clone());
    } else if let Some(object) = value.downcast_object_ref::<ObjectView>() {
        return Ok(Value::Opaque(object.0.clone()));
    } else if let Some(object) = value.downcast_object_ref::<HostView>() {
        return Ok(object.value.clone());
    }
    let failed = |error: Error| error.to_string();
    Ok(match value.kind() {
        ValueKind::None => Value::Null,
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number => match value.as_i64() {
            Some(number) if value.is_integer() => Value::Int(number),
            _ => Value::Float(f64::try_from(value.clone()).map_err(failed)?),
        },
        ValueKind::String => Value::from(value.as_str().unwrap_or_default()),
        ValueKind::Bytes => Value::Bytes(value.as_bytes().unwrap_or_default().into()),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().map_err(failed)?;
            Value::List(Arc::new(
                items.map(|item| from_engine(&item)).collect::<Result<_, _>>()?,
            ))
        }
        ValueKind::Map => {
            let mut entries = Vec::new();
            for key in value.try_iter().map_err(failed)? {
                let item = value.get_item(&key).map_err(failed)?;
                entries.push((key.to_string(), from_engine(&item)?));
            }
            Value::map(entries)
        }
        ValueKind::Undefined => return Err("the result holds an undefined value".to_owned()),
        kind => {
            return Err(format!(
                "the result is a {kind}, which can't be passed on as data"
            ));
        }
    })
}

/// Prints a value: text as it is, lists and maps as JSON, everything else as the language does.
pub(super) fn print(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &minijinja::Value,
) -> Result<(), Error> {
    if let Some(scalar) = value.downcast_object_ref::<ScalarView>() {
        return print(out, state, &scalar.0);
    }
    if let Some(object) = value.downcast_object_ref::<ObjectView>() {
        return Err(unprintable(object.0.type_name()));
    }
    if let Some(type_name) = value
        .downcast_object_ref::<HostView>()
        .and_then(HostView::unprintable)
    {
        return Err(unprintable(&type_name));
    }
    match value.kind() {
        ValueKind::Map | ValueKind::Seq | ValueKind::Iterable => {
            let json = serde_json::to_string(value).map_err(|error| {
                Error::new(
                    ErrorKind::BadSerialization,
                    format!("the value can't be printed as JSON: {error}"),
                )
            })?;
            out.write_str(&json).map_err(Error::from)
        }
        ValueKind::Bytes => match std::str::from_utf8(value.as_bytes().unwrap_or_default()) {
            Ok(text) => out.write_str(text).map_err(Error::from),
            Err(error) => Err(Error::new(
                ErrorKind::InvalidOperation,
                format!(
                    "bytes that aren't UTF-8 text can't be printed (first bad byte at {})",
                    error.valid_up_to()
                ),
            )),
        },
        _ => minijinja::escape_formatter(out, state, value),
    }
}

fn unprintable(type_name: &str) -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!("a value of type `{type_name}` can't be printed; turn it into text or data first"),
    )
}

/// A map with string keys.
struct MapView {
    entries: Arc<Map>,
    look: Look,
    output: Option<minijinja::Value>,
}

impl Object for MapView {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<minijinja::Value> {
        if key == "output" && self.output.is_some() {
            return self.output.clone();
        }
        if is_private(key) {
            return None;
        }
        let (_, value) = self.entries.iter().find(|(name, _)| &**name == key)?;
        Some(to_engine(value, self.look.deeper()))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        // Keys come with their values, since the engine would look each up again, where private ones can't be had.
        let map = Arc::clone(self);
        let shown: Vec<usize> = (0..map.entries.len())
            .filter(|&place| !map.look.hides(&map.entries[place].0))
            .collect();
        Enumerator::KeyValueIter(Box::new(shown.into_iter().map(move |place| {
            let (name, value) = &map.entries[place];
            (
                minijinja::Value::from(Arc::clone(name)),
                to_engine(value, map.look.deeper()),
            )
        })))
    }
}

/// A list.
struct ListView {
    items: Arc<Vec<Value>>,
    look: Look,
    output: Option<minijinja::Value>,
}

impl Object for ListView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        if key.as_str() == Some("output") {
            return self.output.clone();
        }
        self.items
            .get(key.as_usize()?)
            .map(|item| to_engine(item, self.look.deeper()))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.items.len())
    }
}

/// The output of a step that is neither list nor map, where a template asks for `.output`.
struct ScalarView(minijinja::Value, Value);

impl Object for ScalarView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        (key.as_str() == Some("output")).then(|| self.0.clone())
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.0.is_true()
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An object of the host's own language.
struct ObjectView(Opaque);

impl Object for ObjectView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

macro_rules! debug_without_content {
    ($($view:ident),*) => {$(
        impl fmt::Debug for $view {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($view))
            }
        }
    )*};
}

debug_without_content!(MapView, ListView, ScalarView, ObjectView);
