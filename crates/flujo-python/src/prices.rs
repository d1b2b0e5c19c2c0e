//! What calls cost that tell their tokens and their model: by the prices of the nearest `flujo.toml`.

use flujo_agents::Prices;
use flujo_agents::chat::Price;
use flujo_core::usage::Cost;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// The prices that hold in this process's folder.
///
/// # Errors
/// `SettingsError` when the file holds something that can't be used.
pub(crate) fn here(py: Python<'_>) -> PyResult<Prices> {
    let folder = std::env::current_dir().unwrap_or_default();
    Prices::nearest(&folder).map_err(|error| {
        let made = py
            .import("flujo.exceptions")
            .and_then(|module| module.call_method1("SettingsError", (error.to_string(),)));
        made.map_or_else(|other| other, PyErr::from_value)
    })
}

/// What tokens cost that a call of an agent tells of.
#[derive(Clone, Copy)]
pub(crate) struct Tariff<'a, 'py> {
    pub(crate) prices: &'a Prices,
    /// The agent, where it is known; it names its model where the call doesn't.
    pub(crate) agent: Option<&'a Bound<'py, PyAny>>,
}

/// What a call names: its provider, where it is told, and its model.
type Named = (Option<String>, String);

impl<'py> Tariff<'_, 'py> {
    /// The cost of so many tokens of the prompt and of the completion; None where the model has no price.
    pub(crate) fn cost(self, told_by: &Bound<'py, PyAny>, prompt: u64, completion: u64) -> Option<Cost> {
        if self.prices.is_empty() {
            return None;
        }
        let price = self.price(told_by)?;
        price.cost(prompt, completion).ok()
    }

    fn price(self, told_by: &Bound<'py, PyAny>) -> Option<Price> {
        let mut named = models_of(told_by)
            .into_iter()
            .chain(self.agent.map_or_else(Vec::new, models_of));
        named.find_map(|(provider, model)| self.prices.of(provider.as_deref(), &model))
    }

    /// Whether a call without a price is to be refused; the error that says so.
    pub(crate) fn refusal(self, told_by: &Bound<'py, PyAny>) -> Option<PyErr> {
        if !self.prices.is_strict() {
            return None;
        }
        let mut named = models_of(told_by)
            .into_iter()
            .chain(self.agent.map_or_else(Vec::new, models_of));
        Some(refusal(told_by.py(), named.next()).unwrap_or_else(|error| error))
    }
}

fn refusal(py: Python<'_>, named: Option<Named>) -> PyResult<PyErr> {
    let (provider, model) = named.map_or((None, None), |(provider, model)| (provider, Some(model)));
    let class = py
        .import("flujo.exceptions")?
        .getattr("PricingNotConfiguredError")?;
    let arguments = pyo3::types::PyDict::new(py);
    let name = model.as_deref().unwrap_or("the model in use");
    arguments.set_item(
        "message",
        format!("no price is configured for {name}, and `flujo.toml` says `strict = true` under `[cost]`"),
    )?;
    let section = format!(
        "add [cost.providers.{}.{}] with prompt_tokens_per_1k and completion_tokens_per_1k to flujo.toml",
        provider.as_deref().unwrap_or("<provider>"),
        model.as_deref().unwrap_or("<model>")
    );
    arguments.set_item("suggestion", section)?;
    Ok(PyErr::from_value(
        class.call((provider, model), Some(&arguments))?,
    ))
}

/// The models that an object says it is of, as model clients name them: `model` (a name, or an object with one),
/// `model_id`, `model_name`, or those of its `response`.
fn models_of(object: &Bound<'_, PyAny>) -> Vec<Named> {
    let py = object.py();
    let mut found = Vec::new();
    // A property that raises names nothing.
    let get = |object: &Bound<'_, PyAny>, name: &Bound<'_, PyString>| {
        object.getattr_opt(name).ok().flatten().map(Bound::unbind)
    };
    let text = |object: &Bound<'_, PyAny>, name: &Bound<'_, PyString>| {
        get(object, name).and_then(|value| value.extract::<String>(py).ok())
    };
    let of_names = |object: &Bound<'_, PyAny>| {
        let provider =
            text(object, intern!(py, "provider_name")).or_else(|| text(object, intern!(py, "system")));
        text(object, intern!(py, "model_name")).map(|model| (provider, model))
    };
    found.extend(of_names(object));
    if let Some(response) = get(object, intern!(py, "response")) {
        found.extend(of_names(response.bind(py)));
    }
    found.extend(text(object, intern!(py, "model_id")).map(|model| (None, model)));
    if let Some(model) = get(object, intern!(py, "model")) {
        match model.extract::<String>(py) {
            Ok(model) => found.push((None, model)),
            Err(_) => found.extend(of_names(model.bind(py))),
        }
    }
    found
}

/// Whether an agent's model has a price.
pub(crate) fn has_price_in(prices: &Prices, agent: &Bound<'_, PyAny>) -> bool {
    Tariff { prices, agent: None }.price(agent).is_some()
}

/// Whether the nearest `flujo.toml` has a price for an agent's model.
#[pyfunction]
fn has_price(agent: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(has_price_in(&here(agent.py())?, agent))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(has_price, module)?)
}
