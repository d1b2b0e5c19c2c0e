//! Objects of a host's own language in templates: what may be read of them, and nothing else.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use flujo_core::value::{Opaque, Value};
use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Error, ErrorKind};

use super::bridge::{Look, is_private, to_engine, too_deep};

/// How an object behaves in a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// It has named entries.
    Map,
    /// It has items in order.
    List,
    /// It is one thing, such as a date.
    Plain,
}

/// An object of a host's own language. Templates read it where it lies; an expression that picks it out gives it back.
///
/// Reading runs no code of the object's own but what the host allows, and changes nothing. An `Err` says why something
/// that is there can't be read.
pub trait HostObject: Send + Sync + 'static {
    /// How it behaves.
    fn shape(&self) -> Shape;

    /// The name of its type, for messages.
    fn type_name(&self) -> String;

    /// The number of entries or items.
    fn len(&self) -> usize;

    /// Whether there are no entries or items.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry of this name, also of a plain object with fields.
    fn entry(&self, name: &str) -> Option<Result<Value, String>>;

    /// The item at this place, or the entry under this number.
    fn at(&self, index: i64) -> Option<Result<Value, String>>;

    /// The entries in order; their names are text for most.
    fn entries(&self) -> Vec<(Value, Result<Value, String>)>;

    /// A plain object as text; `None` where it has no text that means something.
    fn text(&self) -> Option<String>;

    /// Whether it counts as true.
    fn is_true(&self) -> bool;

    /// Whether it is the same object as another one of its host.
    fn is(&self, other: &dyn HostObject) -> bool;

    /// The object, for the host that made it.
    fn as_any(&self) -> &dyn Any;
}

struct Host(Arc<dyn HostObject>);

/// A value that stands for an object of the host.
pub fn host_value(object: impl HostObject) -> Value {
    Value::Opaque(Opaque::new(Host(Arc::new(object))))
}

/// The object of the host that a value stands for.
pub fn host_object(value: &Value) -> Option<&Arc<dyn HostObject>> {
    match value {
        Value::Opaque(object) => object.downcast_ref::<Host>().map(|host| &host.0),
        _ => None,
    }
}

/// An object as the engine sees it.
pub(super) struct HostView {
    object: Arc<dyn HostObject>,
    /// The value it came in.
    pub(super) value: Value,
    look: Look,
    /// Itself once more, where it is a step's output.
    output: Option<minijinja::Value>,
    /// The objects around it, so that one that holds itself is found out.
    around: Option<Arc<Around>>,
}

struct Around {
    object: Arc<dyn HostObject>,
    next: Option<Arc<Around>>,
}

impl HostView {
    /// The engine's value of an object; `None` when `value` isn't one.
    pub(super) fn of(
        value: &Value,
        look: Look,
        output: Option<minijinja::Value>,
    ) -> Option<minijinja::Value> {
        let object = Arc::clone(host_object(value)?);
        Some(minijinja::Value::from_object(Self {
            object,
            value: value.clone(),
            look,
            output,
            around: None,
        }))
    }

    /// Why it can't be printed; `None` when it can.
    pub(super) fn unprintable(&self) -> Option<String> {
        (self.object.shape() == Shape::Plain && self.object.text().is_none()).then(|| self.object.type_name())
    }

    fn child(&self, found: Result<Value, String>) -> minijinja::Value {
        let value = match found {
            Ok(value) => value,
            Err(reason) => return Error::new(ErrorKind::InvalidOperation, reason).into(),
        };
        let Some(object) = host_object(&value) else {
            return to_engine(&value, self.look.deeper());
        };
        let mut around = Some(Arc::new(Around {
            object: Arc::clone(&self.object),
            next: self.around.clone(),
        }));
        if object.shape() == Shape::Plain {
            around = None;
        }
        let mut next = around.as_ref();
        while let Some(known) = next {
            if known.object.is(&**object) {
                return too_deep();
            }
            next = known.next.as_ref();
        }
        if self.look.is_deepest() {
            return too_deep();
        }
        minijinja::Value::from_object(Self {
            object: Arc::clone(object),
            look: self.look.deeper(),
            output: None,
            around,
            value,
        })
    }
}

impl Object for HostView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.object.shape() {
            Shape::Map => ObjectRepr::Map,
            Shape::List => ObjectRepr::Seq,
            Shape::Plain => ObjectRepr::Plain,
        }
    }

    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        match key.as_str() {
            Some(name) => self.get_value_by_str(name),
            None => self.object.at(key.as_i64()?).map(|found| self.child(found)),
        }
    }

    fn get_value_by_str(self: &Arc<Self>, name: &str) -> Option<minijinja::Value> {
        if name == "output" && self.output.is_some() {
            return self.output.clone();
        }
        if is_private(name) {
            return None;
        }
        self.object.entry(name).map(|found| self.child(found))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.object.shape() {
            Shape::Plain => Enumerator::NonEnumerable,
            Shape::List => Enumerator::Seq(self.object.len()),
            Shape::Map => {
                // Private entries are part of the whole, though they can't be looked up.
                let look = self.look;
                let shown = self.object.entries().into_iter();
                let shown =
                    shown.filter(move |(name, _)| !name.as_str().is_some_and(|name| look.hides(name)));
                let view = Arc::clone(self);
                Enumerator::KeyValueIter(Box::new(
                    shown.map(move |(name, found)| (to_engine(&name, look), view.child(found))),
                ))
            }
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        (self.object.shape() != Shape::Plain).then(|| self.object.len())
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.object.is_true()
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.object.shape() {
            Shape::Plain => match self.object.text() {
                Some(text) => f.write_str(&text),
                None => write!(f, "<{}>", self.object.type_name()),
            },
            // As a whole it prints as everywhere else.
            _ => match serde_json::to_string(&minijinja::Value::from_dyn_object(Arc::clone(self))) {
                Ok(json) => f.write_str(&json),
                Err(_) => write!(f, "<{}>", self.object.type_name()),
            },
        }
    }
}

impl fmt::Debug for HostView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostView")
    }
}
