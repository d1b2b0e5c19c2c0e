//! JSON that has to fit a schema. Messages name the place and the rule, never the values.

use std::fmt;
use std::sync::Arc;

use flujo_core::value::Value;
use jsonschema::Validator;

use crate::extract::find_json;

/// A compiled JSON schema.
#[derive(Clone)]
pub struct Schema {
    source: Value,
    validator: Arc<Validator>,
}

impl Schema {
    /// Compiles `source`. References to other documents aren't followed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(source: &Value) -> Result<Self, String> {
        if !matches!(source, Value::Map(_)) {
            return Err(format!(
                "a JSON schema is a map, not a value of kind `{}`",
                source.kind()
            ));
        }
        let json = serde_json::to_value(source).map_err(|error| error.to_string())?;
        let validator = jsonschema::validator_for(&json)
            .map_err(|error| format!("isn't a valid JSON schema: {error}"))?;
        Ok(Self {
            source: source.clone(),
            validator: Arc::new(validator),
        })
    }

    pub(super) fn source(&self) -> &Value {
        &self.source
    }

    /// The JSON value in `text`, when it fits the schema; else what doesn't fit and where.
    pub(super) fn read(&self, text: &str) -> Result<Value, String> {
        let value = find_json(text)?;
        self.check(&value)?;
        Ok(value)
    }

    /// Where `value` doesn't fit, as a JSON pointer (RFC 6901), and what is wrong there; empty when it fits.
    ///
    /// # Errors
    /// Why the value can't be JSON.
    pub fn mismatches(&self, value: &Value) -> Result<Vec<(String, String)>, String> {
        let json = serde_json::to_value(value).map_err(|error| error.to_string())?;
        let errors = self.validator.iter_errors(&json);
        Ok(errors
            .map(|error| (error.instance_path().to_string(), error.masked().to_string()))
            .collect())
    }

    /// Whether `value` fits; else the first few places where it doesn't.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        const MOST_ERRORS: usize = 3;
        let json = serde_json::to_value(value).map_err(|error| error.to_string())?;
        let errors: Vec<String> = self
            .validator
            .iter_errors(&json)
            .take(MOST_ERRORS)
            .map(|error| {
                let place = error.instance_path().to_string();
                let place = if place.is_empty() {
                    "the top".to_owned()
                } else {
                    format!("`{place}`")
                };
                format!("at {place}: {}", error.masked())
            })
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors.join("; "))
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.source).finish()
    }
}
