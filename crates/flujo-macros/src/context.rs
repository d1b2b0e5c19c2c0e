//! `#[derive(Context)]`.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::ParseStream;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Fields, Path, Result, Token, Type};

const RULES: [(&str, &str); 7] = [
    ("sum", "Sum"),
    ("max", "Max"),
    ("min", "Min"),
    ("union", "Union"),
    ("append", "Append"),
    ("first", "First"),
    ("last", "Last"),
];

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let fields = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => fields.named.iter().collect::<Vec<_>>(),
            Fields::Unit => Vec::new(),
            Fields::Unnamed(fields) => {
                return Err(Error::new_spanned(
                    fields,
                    "a context needs fields with names, since they are found and merged by name",
                ));
            }
        },
        _ => {
            return Err(Error::new_spanned(
                &input.ident,
                "a context is a struct: its fields are the fields of the run's state",
            ));
        }
    };
    let mut reads = Vec::new();
    let mut writes = Vec::new();
    let mut rules = Vec::new();
    let mut checks = Vec::new();
    for field in fields {
        let Some(ident) = &field.ident else { continue };
        let key = ident.to_string();
        let key = key.trim_start_matches("r#");
        reads.push(quote!(#ident: ::flujo::context::read(fields, #key)?));
        writes.push(quote!(::flujo::context::write(fields, #key, &self.#ident)?;));
        let kind = &field.ty;
        checks.push(quote!(#key => ::flujo::rules::holds::<#kind>(value),));
        if let Some(rule) = merge_rule(field)? {
            rules.push(quote!((::std::sync::Arc::from(#key), #rule)));
        }
    }
    let name = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        impl #generics ::flujo::Context for #name #arguments #bounds {
            fn merge_rules() -> ::flujo::MergeRules {
                let rules: ::flujo::MergeRules = ::std::iter::IntoIterator::into_iter([#(#rules),*]).collect();
                rules.with_check(|field, value| {
                    let _ = value; // of a context without fields nothing else uses it
                    match field {
                        #(#checks)*
                        _ => ::std::result::Result::Ok(()),
                    }
                })
            }

            fn load(fields: &::flujo::Fields) -> ::std::result::Result<Self, ::flujo::ContextError> {
                let _ = fields;
                ::std::result::Result::Ok(Self { #(#reads),* })
            }

            fn store(&self, fields: &mut ::flujo::Fields) -> ::std::result::Result<(), ::flujo::ContextError> {
                let _ = &fields;
                #(#writes)*
                ::std::result::Result::Ok(())
            }
        }

        impl #generics ::flujo::Unify<#name #arguments> for #name #arguments #bounds {
            type Output = Self;
        }

        impl #generics ::flujo::Unify<()> for #name #arguments #bounds {
            type Output = Self;
        }

        impl #generics ::flujo::Unify<#name #arguments> for () #bounds {
            type Output = #name #arguments;
        }
    })
}

/// The rule that `#[merge(...)]` names, as an expression that compiles only where the rule fits the field.
fn merge_rule(field: &Field) -> Result<Option<TokenStream>> {
    let mut found = None;
    for attribute in field
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("merge"))
    {
        let rule = attribute.parse_args_with(|input: ParseStream<'_>| rule(input, &field.ty))?;
        if found.replace(rule).is_some() {
            return Err(Error::new_spanned(
                attribute,
                "a field has at most one merge rule",
            ));
        }
    }
    Ok(found)
}

fn rule(input: ParseStream<'_>, kind: &Type) -> Result<TokenStream> {
    let rule: Ident = input.parse()?;
    if rule == "with" {
        input.parse::<Token![=]>()?;
        let function: Path = input.parse()?;
        return Ok(quote_spanned! {function.span()=>
            ::flujo::MergeRule::With(|base, values| ::flujo::rules::combine::<#kind>(#function, base, values))
        });
    }
    let known = RULES.iter().find(|(name, _)| rule == name);
    let Some((_, variant)) = known else {
        let names: Vec<&str> = RULES.iter().map(|(name, _)| *name).collect();
        let message = format!(
            "there is no merge rule `{rule}`; the rules are {}, and `with = function`",
            names.join(", ")
        );
        return Err(Error::new_spanned(rule, message));
    };
    let variant = Ident::new(variant, rule.span());
    let fits = quote_spanned!(kind.span()=> ::flujo::rules::#rule::<#kind>());
    Ok(quote!({ #fits; ::flujo::MergeRule::#variant }))
}
