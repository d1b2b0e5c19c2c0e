//! The derive macro of the `flujo` crate. Use it from there: `use flujo::Context;`.

mod context;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct the context of a run: each field is one field of the run's state, under its name.
///
/// `#[merge(...)]` on a field says how concurrent writes to it combine: `sum`, `max`, `min`, `union`, `append`,
/// `first` or `last`, or `with = function` for a `fn(T, Vec<T>) -> T` of the value at the fork and those that branches
/// wrote, in declared order. Without it, different concurrent writes are a conflict. A rule that doesn't fit the field's
/// type doesn't compile.
///
/// The fields must be `serde::Serialize` and `serde::de::DeserializeOwned`; the struct itself need not be.
#[proc_macro_derive(Context, attributes(merge))]
pub fn derive_context(input: TokenStream) -> TokenStream {
    context::derive(&parse_macro_input!(input as DeriveInput))
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
