//! Templates and expressions over the data of a run.
//!
//! The language is Jinja's (by `minijinja`), *semi-strict*: printing a name that doesn't exist is an error that lists
//! the names that do, testing one for truth is allowed, as in `{{ context.title or 'untitled' }}`. Known names are
//! `input` and `previous_step` (the same value), `context`, `steps`, and whatever else the caller adds to the
//! [`Scope`]. Names with a leading underscore are private and can't be reached. Lists and maps print as JSON.
//!
//! `steps.read` and `steps.read.output` are both the output of the step `read`. A template that uses `.output` of a
//! step whose output is a number has to use it wherever it calculates with that output.
//!
//! A template reads values where they lie; nothing is copied into the engine. It touches no file and no network, calls
//! no method of an object, and can't go on for ever: work, nesting and output are bounded.

mod agent;
mod bridge;
mod error;
mod host;
mod old;
mod scope;
mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use flujo_core::value::Value;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior};

pub(crate) use agent::render;
pub use agent::{TemplateAgent, TemplateConfig};
pub use error::{TemplateError, TemplateErrorKind};
pub use host::{HostObject, Shape, host_object, host_value};
pub use scope::Scope;
pub use text::{TextTemplate, only_placeholder};

use scope::StepNames;

/// The most work of one rendering, in the engine's measure: one for an instruction, for 64 bytes of text or for two
/// items that are visited. This bounds memory, too.
const MOST_WORK: u64 = 4_000_000;

/// The longest text that a template may give, in bytes.
const MOST_OUTPUT: usize = 64 << 20;

/// How deep loops may call themselves.
const MOST_RECURSION: usize = 50;

/// The engine with its settings, shared by all expressions and copied for each template.
static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    engine.set_debug(true); // positions and names of undefined expressions; costs only when an error is made
    engine.set_syntax(
        SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .build()
            .unwrap_or_default(),
    );
    engine.set_formatter(bridge::print);
    engine.set_fuel(Some(MOST_WORK));
    engine.set_recursion_limit(MOST_RECURSION);
    // It would nest data without end, and taking that apart costs call stack.
    engine.remove_global("namespace");
    // Python's spelling of common methods (`.get`, `.upper`, `.items`), as templates of Python tools have it.
    engine.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    engine.add_function("len", minijinja::filters::length);
    engine
});

const NAME: &str = "template";

/// A parsed template.
///
/// ```
/// use flujo_agents::template::{Scope, Template};
/// use flujo_core::value::Value;
///
/// let greeting = Template::parse("Hello {{ input.name or 'you' }}!")?;
/// let scope = Scope::new().input(Value::map([("name", Value::from("Ada"))]));
/// assert_eq!(greeting.render(&scope)?, "Hello Ada!");
/// # Ok::<(), flujo_agents::template::TemplateError>(())
/// ```
#[derive(Clone)]
pub struct Template {
    source: String,
    engine: Environment<'static>,
    variables: BTreeSet<String>,
    steps: StepNames,
}

impl Template {
    /// Parses `source`.
    ///
    /// # Errors
    /// [`TemplateError`] of kind `Syntax`, with line and column.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let mut engine = ENGINE.clone();
        engine
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| TemplateError::from_engine(&error, source, None))?;
        let variables: BTreeSet<String> = engine
            .get_template(NAME)
            .map_err(|error| TemplateError::from_engine(&error, source, None))?
            .undeclared_variables(true)
            .into_iter()
            .collect();
        let steps = StepNames::mentioned_in(&variables);
        Ok(Self {
            source: source.to_owned(),
            engine,
            variables,
            steps,
        })
    }

    /// Renders the template with the names of `scope`.
    ///
    /// # Errors
    /// [`TemplateError`] for an undefined name that is printed, or an operation that doesn't fit its values.
    pub fn render(&self, scope: &Scope) -> Result<String, TemplateError> {
        self.engine
            .get_template(NAME)
            .and_then(|template| template.render(scope.root(&self.steps)))
            .map_err(|error| TemplateError::from_engine(&error, &self.source, Some(scope)))
            .and_then(|text| match text.len() {
                0..=MOST_OUTPUT => Ok(text),
                _ => Err(TemplateError::too_much(None, None)),
            })
    }

    /// What the template was parsed from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the template has no placeholder, so that it renders to the same text every time.
    pub fn is_constant(&self) -> bool {
        !["{{", "{%", "{#"].iter().any(|mark| self.source.contains(mark))
    }

    /// The names that the template takes from its scope, with the path as far as it is known without running it:
    /// `input`, `context.title`, `steps.read.output`. For checks before a run.
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.source).finish()
    }
}

/// A parsed expression: what stands between `{{` and `}}`, with a value as its result.
///
/// ```
/// use flujo_agents::template::{Expression, Scope};
/// use flujo_core::value::Value;
///
/// let long = Expression::parse("input | length > 3")?;
/// assert_eq!(long.evaluate(&Scope::new().input(Value::from("text")))?, Value::Bool(true));
/// # Ok::<(), flujo_agents::template::TemplateError>(())
/// ```
pub struct Expression {
    source: String,
    compiled: minijinja::Expression<'static, 'static>,
    variables: BTreeSet<String>,
    steps: StepNames,
}

impl Expression {
    /// Parses `source`. One pair of braces around the whole of it may be there or not.
    ///
    /// # Errors
    /// [`TemplateError`] of kind `Syntax`, with line and column, or `OldForm`, with the rewrite.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let source = without_braces(source).to_owned();
        if let Some((form, rewrite)) = old::old_form(&source) {
            return Err(TemplateError::old(form.trim(), rewrite));
        }
        let compiled = ENGINE
            .compile_expression_owned(source.clone())
            .map_err(|error| TemplateError::from_engine(&error, &source, None))?;
        let variables: BTreeSet<String> = compiled.undeclared_variables(true).into_iter().collect();
        let steps = StepNames::mentioned_in(&variables);
        Ok(Self {
            source,
            compiled,
            variables,
            steps,
        })
    }

    /// The value of the expression. A value of the scope that is picked out comes back as it is, uncopied.
    ///
    /// # Errors
    /// [`TemplateError`] when the result is undefined, or an operation doesn't fit its values.
    pub fn evaluate(&self, scope: &Scope) -> Result<Value, TemplateError> {
        let result = self.result(scope)?;
        if result.is_undefined() {
            return Err(TemplateError::undefined(&self.source, scope));
        }
        bridge::from_engine(&result).map_err(|message| TemplateError::evaluation(&message, &self.source))
    }

    /// Whether the expression is true: not false, zero, empty, null or undefined.
    ///
    /// # Errors
    /// [`TemplateError`] when an operation doesn't fit its values.
    pub fn is_true(&self, scope: &Scope) -> Result<bool, TemplateError> {
        self.result(scope).map(|result| result.is_true())
    }

    /// What the expression was parsed from, without braces.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The names that the expression takes from its scope; see [`Template::variables`].
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    fn result(&self, scope: &Scope) -> Result<minijinja::Value, TemplateError> {
        self.compiled
            .eval(scope.root(&self.steps))
            .map_err(|error| TemplateError::from_engine(&error, &self.source, Some(scope)))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

fn without_braces(source: &str) -> &str {
    let trimmed = source.trim();
    match text::only_placeholder(trimmed) {
        Some(inner) => inner,
        None => trimmed,
    }
}
