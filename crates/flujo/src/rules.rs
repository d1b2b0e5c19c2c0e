//! Which merge rules fit which types of fields, checked by the compiler where `#[derive(Context)]` finds
//! `#[merge(...)]`; and merging by functions of the user's own types.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use flujo_core::value::{Value, from_value, to_value};
use flujo_tokio::{BoxError, Merge, Raised};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Context;
use crate::context::ContextError;

/// Types whose concurrent changes add up.
#[diagnostic::on_unimplemented(
    message = "the merge rule `sum` doesn't fit a field of type `{Self}`",
    label = "this field holds no number",
    note = "`sum` takes integers and floats; implement `flujo::rules::Summed` for a type that is saved as one"
)]
pub trait Summed {}

/// Types with a largest and a smallest of several values.
#[diagnostic::on_unimplemented(
    message = "the merge rules `max` and `min` don't fit a field of type `{Self}`",
    label = "this field holds no number",
    note = "they take integers and floats; implement `flujo::rules::Ordered` for a type that is saved as one"
)]
pub trait Ordered {}

/// Collections of which all items can be kept.
#[diagnostic::on_unimplemented(
    message = "the merge rule `union` doesn't fit a field of type `{Self}`",
    label = "this field holds no collection",
    note = "`union` takes sets, maps and lists; implement `flujo::rules::United` for a type that is saved as one"
)]
pub trait United {}

/// Lists and texts that grow at their end.
#[diagnostic::on_unimplemented(
    message = "the merge rule `append` doesn't fit a field of type `{Self}`",
    label = "this field holds neither a list nor a text",
    note = "`append` takes lists and texts; implement `flujo::rules::Appended` for a type that is saved as one"
)]
pub trait Appended {}

macro_rules! fits {
    ($($rule:ident: $($kind:ty),*;)*) => { $($(impl $rule for $kind {})*)* };
}

fits! {
    Summed: i8, i16, i32, i64, isize, u8, u16, u32, u64, usize, f32, f64;
    Ordered: i8, i16, i32, i64, isize, u8, u16, u32, u64, usize, f32, f64;
    Appended: String;
}

impl<T: Summed> Summed for Option<T> {}
impl<T: Ordered> Ordered for Option<T> {}
impl<T> Appended for Vec<T> {}
impl<T> Appended for VecDeque<T> {}
impl<T> United for Vec<T> {}
impl<T> United for BTreeSet<T> {}
impl<T, S> United for HashSet<T, S> {}
impl<K, V> United for BTreeMap<K, V> {}
impl<K, V, S> United for HashMap<K, V, S> {}

/// For `#[derive(Context)]`: compiles where `sum` fits.
pub fn sum<T: Summed>() {}
/// For `#[derive(Context)]`: compiles where `max` fits.
pub fn max<T: Ordered>() {}
/// For `#[derive(Context)]`: compiles where `min` fits.
pub fn min<T: Ordered>() {}
/// For `#[derive(Context)]`: compiles where `union` fits.
pub fn union<T: United>() {}
/// For `#[derive(Context)]`: compiles where `append` fits.
pub fn append<T: Appended>() {}
/// For `#[derive(Context)]`: `first` fits everything.
pub fn first<T>() {}
/// For `#[derive(Context)]`: `last` fits everything.
pub fn last<T>() {}

/// For `#[derive(Context)]`: whether a field of type `T` can hold a merged value.
///
/// # Errors
/// Says why not.
pub fn holds<T: DeserializeOwned>(value: &Value) -> Result<(), String> {
    match from_value::<T>(value.clone()) {
        Ok(_) => Ok(()),
        Err(reason) => Err(format!("together they make what the field can't hold: {reason}")),
    }
}

/// For `#[derive(Context)]`: asks the function of `#[merge(with = ...)]`.
///
/// # Errors
/// Says which value isn't of the field's type.
pub fn combine<T: Serialize + DeserializeOwned>(
    function: fn(T, Vec<T>) -> T,
    base: Option<&Value>,
    values: &[&Value],
) -> Result<Value, String> {
    let read = |value: &Value| from_value(value.clone()).map_err(|reason| reason.to_string());
    let base = base.ok_or("the field was not there when the branches began")?;
    let values: Result<Vec<T>, String> = values.iter().map(|value| read(value)).collect();
    to_value(&function(read(base)?, values?)).map_err(|reason| reason.to_string())
}

/// The merge that a function of typed contexts makes.
pub(crate) fn merge_with<C, F>(function: F) -> Merge
where
    C: Context,
    F: Fn(&mut C, &[(Arc<str>, C)]) -> Result<(), BoxError> + Send + Sync + 'static,
{
    Merge::with(move |fields, lanes| {
        let mut context = C::load(fields)?;
        let lanes: Result<Vec<(Arc<str>, C)>, ContextError> = lanes
            .iter()
            .map(|(name, fields)| Ok((Arc::clone(name), C::load(fields)?)))
            .collect();
        function(&mut context, &lanes?).map_err(Raised::new)?;
        Ok(context.store(fields)?)
    })
}
