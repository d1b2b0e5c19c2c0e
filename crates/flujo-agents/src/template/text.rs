//! A text with placeholders, where one that is a single placeholder means the value itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use flujo_core::value::Value;

use super::{Expression, Scope, Template, TemplateError};

/// A text whose placeholders are filled in. One that is a single placeholder and nothing else gives the value itself, a
/// list as a list.
///
/// ```
/// use flujo_agents::template::{Scope, TextTemplate};
/// use flujo_core::value::Value;
///
/// let scope = Scope::new().input(Value::Int(3));
/// assert_eq!(TextTemplate::parse("{{ input }}")?.evaluate(&scope)?, Value::Int(3));
/// assert_eq!(TextTemplate::parse("{{ input }} files")?.evaluate(&scope)?, Value::from("3 files"));
/// # Ok::<(), flujo_agents::template::TemplateError>(())
/// ```
#[derive(Debug)]
pub struct TextTemplate(Box<Kind>);

#[derive(Debug)]
enum Kind {
    Constant(Arc<str>),
    Expression(Expression),
    Text(Template),
}

impl TextTemplate {
    /// Parses `source`.
    ///
    /// # Errors
    /// [`TemplateError`] of kind `Syntax`, with line and column.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let template = Template::parse(source)?;
        let kind = if template.is_constant() {
            Kind::Constant(Arc::from(source))
        } else if only_placeholder(source).is_some() {
            Kind::Expression(Expression::parse(source)?)
        } else {
            Kind::Text(template)
        };
        Ok(Self(Box::new(kind)))
    }

    /// The text, or the value of the only placeholder.
    ///
    /// # Errors
    /// [`TemplateError`] for an undefined name, or an operation that doesn't fit its values.
    pub fn evaluate(&self, scope: &Scope) -> Result<Value, TemplateError> {
        match &*self.0 {
            Kind::Constant(text) => Ok(Value::Str(Arc::clone(text))),
            Kind::Expression(expression) => expression.evaluate(scope),
            Kind::Text(template) => template.render(scope).map(Value::from),
        }
    }

    /// The names that it takes from its scope; see [`Template::variables`].
    pub fn variables(&self) -> &BTreeSet<String> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        match &*self.0 {
            Kind::Constant(_) => &NONE,
            Kind::Expression(expression) => expression.variables(),
            Kind::Text(template) => template.variables(),
        }
    }
}

/// What stands between the braces of a text that is `{{ … }}` as a whole, with no other mark in it.
pub fn only_placeholder(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    if ["{{", "}}", "{%", "{#"].iter().any(|mark| inner.contains(mark)) {
        return None;
    }
    // `{{-` and `-}}` trim the text around, of which there is none.
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    let inner = inner.strip_suffix(['-', '+']).unwrap_or(inner);
    Some(inner.trim())
}
