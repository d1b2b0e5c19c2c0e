//! Typed objects inside values: a step's output goes to the next step as it is, behind a shared pointer.

use std::any::{Any, TypeId};

use flujo_core::value::{Opaque, TypeCodec, Value};
use flujo_tokio::Raised;

/// What passes between steps. Every type that is `Clone + Send + Sync + 'static` is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't pass between steps",
    label = "not `Clone + Send + Sync + 'static`",
    note = "retries, fallbacks and parallel branches need a step's input again: derive `Clone`, or pass an `Arc`"
)]
pub trait Payload: Clone + Send + Sync + 'static {}

impl<T: Clone + Send + Sync + 'static> Payload for T {}

/// An object as a value: a [`Value`] is itself, `()` is null, all else is opaque.
#[inline]
pub(crate) fn wrap<T: Payload>(object: T, codec: Option<&'static TypeCodec>) -> Value {
    let mut slot = Some(object);
    let any: &mut dyn Any = &mut slot;
    if let Some(value) = any.downcast_mut::<Option<Value>>() {
        return value.take().unwrap_or_default();
    }
    if any.is::<Option<()>>() {
        return Value::Null;
    }
    slot.map_or(Value::Null, |object| {
        Value::Opaque(Opaque::cloneable(object, codec))
    })
}

/// Whether objects of a type are data as they are.
pub(crate) fn is_plain<T: Payload>() -> bool {
    [TypeId::of::<Value>(), TypeId::of::<()>()].contains(&TypeId::of::<T>())
}

/// The object inside a value.
#[inline]
pub(crate) fn unwrap<T: Payload>(value: Value) -> Result<T, Raised> {
    let mut slot: Option<T> = None;
    let any: &mut dyn Any = &mut slot;
    if let Some(place) = any.downcast_mut::<Option<Value>>() {
        *place = Some(value);
    } else if let Some(place) = any.downcast_mut::<Option<()>>() {
        *place = Some(());
    } else {
        match value {
            Value::Opaque(object) => match object.take::<T>() {
                Ok(object) => return Ok(object),
                Err(object) => return Err(mismatch::<T>(object.type_name())),
            },
            other => return Err(mismatch::<T>(other.kind())),
        }
    }
    slot.ok_or_else(|| mismatch::<T>("nothing"))
}

/// A reference to the object inside a value.
pub(crate) fn look<T: Payload>(value: &Value) -> Result<&T, Raised> {
    let any: &dyn Any = value;
    if let Some(value) = any.downcast_ref::<T>() {
        return Ok(value);
    }
    let unit: &dyn Any = &();
    if let Some(unit) = unit.downcast_ref::<T>() {
        return Ok(unit);
    }
    match value {
        Value::Opaque(object) => object
            .downcast_ref::<T>()
            .ok_or_else(|| mismatch::<T>(object.type_name())),
        other => Err(mismatch::<T>(other.kind())),
    }
}

fn mismatch<T>(found: &str) -> Raised {
    Raised::new(format!(
        "the value here is a `{found}` where a `{}` is expected: an untyped part of the pipeline gave another type",
        std::any::type_name::<T>()
    ))
}
