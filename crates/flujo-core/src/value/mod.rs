//! Data between steps: JSON-like values that are cheap to clone, and objects of the host's own language.
//!
//! A step hands its output to the next one as it is: values are shared, never serialised on the way. What must be
//! saved goes through the value's [`TypeCodec`].

mod canonical;
mod codec;
mod convert;
mod json;
mod patch;
mod stored;

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

pub use canonical::Unhashable;
pub use codec::{CodecError, TypeCodec, with_codecs};
pub use convert::{from_value, to_value};
pub use patch::Patch;

/// An ordered map with string keys; insertion order is kept.
pub type Map = Vec<(Arc<str>, Value)>;

/// A value that passes between steps. Cloning copies at most a pointer.
#[derive(Clone, Default)]
#[repr(u64)] // whole words: a value is moved without stitching a short tag and its padding together
pub enum Value {
    /// No value. It passes between steps like any other.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A 64-bit float.
    Float(f64),
    /// Text.
    Str(Arc<str>),
    /// Raw bytes.
    Bytes(Arc<[u8]>),
    /// An ordered list.
    List(Arc<Vec<Value>>),
    /// An ordered map with string keys.
    Map(Arc<Map>),
    /// An object of the host's own language, passed on untouched.
    Opaque(Opaque),
}

/// A typed Rust object together with what is needed to save it, if it can be saved. One shared pointer, so that values
/// stay small.
#[derive(Clone)]
pub struct Opaque(Arc<dyn Object>);

/// An object of some type behind the pointer.
trait Object: Any + Send + Sync {
    fn object(&self) -> &(dyn Any + Send + Sync);
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    fn type_name(&self) -> &'static str;
    fn codec(&self) -> Option<&'static TypeCodec>;
    fn isolated(&self) -> Option<Opaque>;
}

struct Held<T, K> {
    codec: Option<&'static TypeCodec>,
    object: T,
    kind: PhantomData<fn() -> K>,
}

/// Whether objects of a type can be cloned.
trait Kind<T>: Any + Sized {
    fn isolated(held: &Held<T, Self>) -> Option<Opaque>;
}

struct Shared;

struct Cloned;

impl<T: Any + Send + Sync> Kind<T> for Shared {
    /// By way of its plain form, when it has one.
    fn isolated(held: &Held<T, Self>) -> Option<Opaque> {
        let codec = held.codec?;
        (codec.load)((codec.save)(&held.object).ok()?, codec.schema_version).ok()
    }
}

impl<T: Any + Send + Sync + Clone> Kind<T> for Cloned {
    fn isolated(held: &Held<T, Self>) -> Option<Opaque> {
        Some(Opaque::hold::<T, Self>(held.object.clone(), held.codec))
    }
}

impl<T: Any + Send + Sync, K: Kind<T>> Object for Held<T, K> {
    fn object(&self) -> &(dyn Any + Send + Sync) {
        &self.object
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn type_name(&self) -> &'static str {
        self.codec
            .map_or_else(std::any::type_name::<T>, |codec| codec.type_name)
    }

    fn codec(&self) -> Option<&'static TypeCodec> {
        self.codec
    }

    fn isolated(&self) -> Option<Opaque> {
        K::isolated(self)
    }
}

impl Opaque {
    fn hold<T: Any + Send + Sync, K: Kind<T>>(object: T, codec: Option<&'static TypeCodec>) -> Self {
        let kind = PhantomData::<fn() -> K>;
        Self(Arc::new(Held { codec, object, kind }))
    }

    /// Wraps an object without a way to save it.
    pub fn new<T: Any + Send + Sync>(object: T) -> Self {
        Self::hold::<T, Shared>(object, None)
    }

    /// Wraps an object that `codec` can save and load.
    pub fn with_codec<T: Any + Send + Sync>(object: T, codec: &'static TypeCodec) -> Self {
        Self::hold::<T, Shared>(object, Some(codec))
    }

    /// Wraps an object that can be cloned, with a codec if it has one.
    pub fn cloneable<T: Any + Send + Sync + Clone>(object: T, codec: Option<&'static TypeCodec>) -> Self {
        Self::hold::<T, Cloned>(object, codec)
    }

    /// An object equal to this one, which what is done to either doesn't reach: a clone, or what the codec makes of its
    /// plain form. `None` when there is no way to make one.
    pub fn isolated(&self) -> Option<Self> {
        self.0.isolated()
    }

    /// The object, when it is a `T`.
    pub fn downcast_ref<T: Any>(&self) -> Option<&T> {
        self.as_any().downcast_ref()
    }

    /// The object by value when nobody else holds it, else a clone of it; `Err` gives the wrapper back when it is
    /// not a `T`.
    ///
    /// # Errors
    /// The wrapper itself, unchanged, when the object has another type.
    pub fn take<T: Any + Send + Sync + Clone>(self) -> Result<T, Self> {
        if !self.as_any().is::<T>() {
            return Err(self);
        }
        let shared = Self(Arc::clone(&self.0));
        let owned = match self.0.into_any().downcast::<Held<T, Cloned>>() {
            Ok(held) => {
                drop(shared);
                return Ok(own(held));
            }
            Err(other) => other.downcast::<Held<T, Shared>>(),
        };
        match owned {
            Ok(held) => {
                drop(shared);
                Ok(own(held))
            }
            Err(_) => Err(shared),
        }
    }

    /// The object itself, for a codec.
    pub fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self.0.object()
    }

    /// The type's name, for messages.
    pub fn type_name(&self) -> &'static str {
        self.0.type_name()
    }

    /// How to save the object, if it can be saved.
    pub fn codec(&self) -> Option<&'static TypeCodec> {
        self.0.codec()
    }

    /// Whether both wrap the very same object.
    pub fn same_object(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

fn own<T: Clone, K>(held: Arc<Held<T, K>>) -> T {
    Arc::try_unwrap(held).map_or_else(|held| held.object.clone(), |held| held.object)
}

impl Value {
    /// A value equal to this one that shares no object with it; plain data can't be changed and is shared. `None` when
    /// an object can't be [isolated](Opaque::isolated).
    pub fn isolated(&self) -> Option<Self> {
        Some(match self {
            Self::Opaque(object) => Self::Opaque(object.isolated()?),
            Self::List(items) if items.iter().any(Self::holds_objects) => {
                let items: Option<Vec<_>> = items.iter().map(Self::isolated).collect();
                Self::List(Arc::new(items?))
            }
            Self::Map(entries) if entries.iter().any(|(_, value)| value.holds_objects()) => {
                let isolated = |(key, value): &(Arc<str>, Self)| Some((Arc::clone(key), value.isolated()?));
                let entries: Option<Map> = entries.iter().map(isolated).collect();
                Self::Map(Arc::new(entries?))
            }
            plain => plain.clone(),
        })
    }

    /// A copy that shares nothing with this value but its objects: what plain twins do where others share. Adds to `bytes`
    /// what was copied, about: text, bytes, and a machine word or two for each value.
    #[must_use]
    pub fn copied(&self, bytes: &mut usize) -> Self {
        *bytes += size_of::<Self>();
        match self {
            Self::Str(text) => {
                *bytes += text.len();
                Self::Str(Arc::from(&**text))
            }
            Self::Bytes(data) => {
                *bytes += data.len();
                Self::Bytes(Arc::from(&**data))
            }
            Self::List(items) => {
                let copied = items.iter().map(|item| item.copied(bytes));
                Self::List(Arc::new(copied.collect()))
            }
            Self::Map(entries) => {
                let entries = entries.iter();
                let copied = entries.map(|(name, value)| (Arc::clone(name), value.copied(bytes)));
                Self::Map(Arc::new(copied.collect()))
            }
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Opaque(_) => self.clone(),
        }
    }

    /// Whether it is an object or holds one anywhere: what doesn't is plain data, which can't be changed.
    pub fn holds_objects(&self) -> bool {
        match self {
            Self::Opaque(_) => true,
            Self::List(items) => items.iter().any(Self::holds_objects),
            Self::Map(entries) => entries.iter().any(|(_, value)| value.holds_objects()),
            _ => false,
        }
    }

    /// Text.
    pub fn str(text: impl Into<Arc<str>>) -> Self {
        Self::Str(text.into())
    }

    /// A list.
    pub fn list(items: impl IntoIterator<Item = Value>) -> Self {
        Self::List(Arc::new(items.into_iter().collect()))
    }

    /// A map from names to values, in the given order; a later equal name replaces the earlier value in its place.
    pub fn map<K: Into<Arc<str>>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        let mut map = Map::new();
        let mut places = std::collections::HashMap::new();
        for (key, value) in entries {
            let key: Arc<str> = key.into();
            match places.entry(Arc::clone(&key)) {
                std::collections::hash_map::Entry::Occupied(place) => {
                    let place: &usize = place.get();
                    map[*place].1 = value;
                }
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(map.len());
                    map.push((key, value));
                }
            }
        }
        Self::Map(Arc::new(map))
    }

    /// A typed Rust object.
    pub fn opaque<T: Any + Send + Sync>(object: T) -> Self {
        Self::Opaque(Opaque::new(object))
    }

    /// The text, when the value is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, when the value is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The items, when the value is a list.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries, when the value is a map.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under `key`, when the value is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?
            .iter()
            .find(|(name, _)| &**name == key)
            .map(|(_, value)| value)
    }

    /// What kind of value this is, for messages: `null`, `bool`, `int`, `float`, `str`, `bytes`, `list`, `map` or the
    /// Rust type's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Opaque(object) => object.type_name(),
        }
    }
}

impl PartialEq for Value {
    /// Values are equal when kind and content are: `1` and `1.0` differ. Opaque objects compare with their codec's
    /// `eq`, without one by identity.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits() || a == b,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Map(a), Self::Map(b)) => {
                Arc::ptr_eq(a, b)
                    || (a.len() == b.len()
                        && a.iter()
                            .all(|(key, value)| other.get(key).is_some_and(|theirs| theirs == value)))
            }
            (Self::Opaque(a), Self::Opaque(b)) => {
                a.same_object(b)
                    || match (a.codec(), b.codec()) {
                        (Some(codec), Some(theirs)) if std::ptr::eq(codec, theirs) => {
                            (codec.eq)(a.as_any(), b.as_any())
                        }
                        _ => false,
                    }
            }
            _ => false,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Str(value) => value.fmt(f),
            Self::Bytes(value) => write!(f, "bytes({})", value.len()),
            Self::List(items) => f.debug_list().entries(items.iter()).finish(),
            Self::Map(entries) => f
                .debug_map()
                .entries(entries.iter().map(|(k, v)| (k, v)))
                .finish(),
            Self::Opaque(object) => write!(f, "<{}>", object.type_name()),
        }
    }
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Self::Null
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Str(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Str(value.into())
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::List(Arc::new(items))
    }
}

#[cfg(test)]
mod tests;
