//! Settings of a chat agent, as data and as a builder.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::agent::Pricing;
use flujo_core::rate::RateLimit;
use flujo_core::value::Value;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::price::Rates;
use super::schema::Schema;
use super::tool::{AgentTool, Tool, offered};
use super::wire::RequestBody;
use super::{AGENT, Chat, Price};
use crate::config::{self, AgentConfig, ConfigError};
use crate::net::{self, Connection};
use crate::prices::Prices;
use crate::secret::Secret;

/// Settings of a [`Chat`] agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatConfig {
    /// The service's address up to and without `/chat/completions`.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// The environment variable with the address, instead of `base_url`; read when the agent is built.
    #[serde(default)]
    pub base_url_env: Option<String>,
    /// The model's name as the service knows it.
    #[serde(default)]
    pub model: String,
    /// The environment variable with the model's name, instead of `model`; read when the agent is built.
    #[serde(default)]
    pub model_env: Option<String>,
    /// The environment variable with the service's key; read when the agent is built. Local servers need none.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// The system prompt, a template.
    #[serde(default)]
    pub system: Option<String>,
    /// The user's message, a template. Without it the step's input is the message: text as it is, a list of maps with
    /// `role` and `content` as a conversation, everything else as JSON.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The sampling temperature; the service's own default without it.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// Nucleus sampling: the share of probability that tokens are drawn from.
    #[serde(default)]
    pub top_p: Option<f64>,
    /// The most tokens of one answer.
    #[serde(default)]
    pub max_tokens: Option<u64>,
    /// The JSON schema that the answer has to fit; the output is then the parsed value instead of text.
    #[serde(default)]
    pub output_schema: Option<Value>,
    /// Whether the service is to enforce the schema strictly, which only a part of JSON schema allows. The answer is
    /// checked here either way.
    #[serde(default)]
    pub strict_schema: bool,
    /// Agents that the model may call.
    #[serde(default)]
    pub tools: Vec<ToolConfig>,
    /// The most rounds of tool calls before the model has to have answered.
    #[serde(default = "max_tool_rounds")]
    pub max_tool_rounds: u32,
    /// Whose prices hold for the model in `flujo.toml`, such as `openai`; needed where several providers have a model
    /// of this name.
    #[serde(default)]
    pub provider: Option<String>,
    /// What the tokens cost, in place of what `flujo.toml` says. Without either the cost is unknown and reported as zero.
    #[serde(default)]
    pub price: Option<Price>,
    /// How often the service may be called, together with whatever else has the limit's name.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
    /// More fields for the body of the request, such as `seed` or `reasoning_effort`.
    #[serde(default)]
    pub extra: Value,
    /// The time limit of one request in seconds, answer included.
    #[serde(default = "timeout_s")]
    pub timeout_s: f64,
    /// The most bytes of one answer.
    #[serde(default = "max_response_bytes")]
    pub max_response_bytes: usize,
}

/// An agent that a model may call.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolConfig {
    /// The name that the model calls it by: letters, digits, `_` and `-`, at most 64.
    pub name: String,
    /// What it does and when to use it, for the model.
    pub description: String,
    /// The JSON schema of the arguments, which become the agent's input.
    pub parameters: Value,
    /// The agent.
    pub run: AgentConfig,
}

fn base_url() -> String {
    "https://api.openai.com/v1".to_owned()
}

fn max_tool_rounds() -> u32 {
    8
}

fn timeout_s() -> f64 {
    600.0
}

fn max_response_bytes() -> usize {
    16 * 1024 * 1024
}

impl ChatConfig {
    /// Default settings for `model` at the service under `base_url`.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            base_url_env: None,
            model: model.into(),
            model_env: None,
            api_key_env: None,
            system: None,
            prompt: None,
            temperature: None,
            top_p: None,
            max_tokens: None,
            output_schema: None,
            strict_schema: false,
            tools: Vec::new(),
            max_tool_rounds: max_tool_rounds(),
            provider: None,
            price: None,
            rate_limit: None,
            extra: Value::Null,
            timeout_s: timeout_s(),
            max_response_bytes: max_response_bytes(),
        }
    }

    /// Takes what the model and its tools cost from `prices`, where they have no price of their own.
    pub fn price_by(&mut self, prices: &Prices) {
        if self.price.is_none() {
            self.price = match &self.model_env {
                Some(variable) => std::env::var(variable)
                    .ok()
                    .and_then(|model| prices.of(self.provider.as_deref(), &model)),
                None => prices.of(self.provider.as_deref(), &self.model),
            };
        }
        for tool in &mut self.tools {
            tool.run.price_by(prices);
        }
    }

    /// Whether the cost of the model's tokens is known.
    pub fn pricing(&self) -> Pricing {
        if self.price.is_some() {
            Pricing::Known
        } else {
            Pricing::Unknown
        }
    }

    /// Checks the settings and makes the agent.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting that can't be used.
    pub fn build(&self) -> Result<Chat, ConfigError> {
        ChatBuilder {
            config: self.clone(),
            api_key: None,
            tools: Vec::new(),
            prices: None,
        }
        .build()
    }
}

/// Builds a [`Chat`] agent step by step.
#[must_use]
pub struct ChatBuilder {
    config: ChatConfig,
    api_key: Option<Secret>,
    tools: Vec<Arc<dyn Tool>>,
    prices: Option<Prices>,
}

impl fmt::Debug for ChatBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl ChatBuilder {
    pub(super) fn new(base_url: String, model: String) -> Self {
        Self {
            config: ChatConfig::new(base_url, model),
            api_key: None,
            tools: Vec::new(),
            prices: None,
        }
    }

    /// The service's key.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(Secret::new(key));
        self
    }

    /// The system prompt, a template.
    pub fn system(mut self, template: impl Into<String>) -> Self {
        self.config.system = Some(template.into());
        self
    }

    /// The user's message, a template; see [`ChatConfig::prompt`].
    pub fn prompt(mut self, template: impl Into<String>) -> Self {
        self.config.prompt = Some(template.into());
        self
    }

    /// The sampling temperature.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.config.temperature = Some(temperature);
        self
    }

    /// Nucleus sampling: the share of probability that tokens are drawn from.
    pub fn top_p(mut self, share: f64) -> Self {
        self.config.top_p = Some(share);
        self
    }

    /// The most tokens of one answer.
    pub fn max_tokens(mut self, tokens: u64) -> Self {
        self.config.max_tokens = Some(tokens);
        self
    }

    /// The JSON schema that the answer has to fit; the output is then the parsed value instead of text.
    pub fn output_schema(mut self, schema: Value) -> Self {
        self.config.output_schema = Some(schema);
        self
    }

    /// Has the service enforce the schema too, which only a part of JSON schema allows.
    pub fn strict_schema(mut self) -> Self {
        self.config.strict_schema = true;
        self
    }

    /// A tool that the model may call.
    pub fn tool(mut self, tool: impl Tool) -> Self {
        self.tools.push(Arc::new(tool));
        self
    }

    /// The most rounds of tool calls before the model has to have answered.
    pub fn max_tool_rounds(mut self, rounds: u32) -> Self {
        self.config.max_tool_rounds = rounds;
        self
    }

    /// Whose prices hold for the model.
    pub fn provider(mut self, provider: impl Into<String>) -> Self {
        self.config.provider = Some(provider.into());
        self
    }

    /// What the tokens cost by this table, where the model has no price of its own.
    pub fn prices(mut self, prices: &Prices) -> Self {
        self.prices = Some(prices.clone());
        self
    }

    /// What the tokens cost.
    pub fn price(mut self, price: Price) -> Self {
        self.config.price = Some(price);
        self
    }

    /// How often the service may be called.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.config.rate_limit = Some(limit);
        self
    }

    /// More fields for the body of the request, as a map.
    pub fn extra(mut self, fields: Value) -> Self {
        self.config.extra = fields;
        self
    }

    /// The time limit of one request, answer included.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.config.timeout_s = limit.as_secs_f64();
        self
    }

    /// The most bytes of one answer.
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.config.max_response_bytes = bytes;
        self
    }

    /// Checks the settings and makes the agent.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting that can't be used.
    pub fn build(self) -> Result<Chat, ConfigError> {
        let Self {
            mut config,
            api_key,
            mut tools,
            prices,
        } = self;
        if let Some(prices) = prices {
            config.price_by(&prices);
        }
        let refused = |field: &str, reason: String| ConfigError::new(AGENT, field, reason);
        let model = match &config.model_env {
            Some(variable) => config::from_env(AGENT, "model_env", variable, "model's name")?,
            None => config.model.clone(),
        };
        if model.trim().is_empty() {
            return Err(refused(
                "model",
                "is empty; give the model's name as the service knows it, or `model_env`".to_owned(),
            ));
        }
        let base_url = match &config.base_url_env {
            Some(variable) => config::from_env(AGENT, "base_url_env", variable, "service's address")?,
            None => config.base_url.clone(),
        };
        let mut url = net::parse_url(&base_url).map_err(|reason| refused("base_url", reason))?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["chat", "completions"]);
        }
        let key = match (api_key, &config.api_key_env) {
            (Some(key), _) => Some(key),
            (None, Some(variable)) => Some(config::secret_from_env(AGENT, "api_key_env", variable)?),
            (None, None) => None,
        };
        let authorization = key.as_ref().map(authorization).transpose()?;
        in_range("temperature", config.temperature, 0.0..=2.0)?;
        in_range("top_p", config.top_p, 0.0..=1.0)?;
        if config.max_tokens == Some(0) {
            return Err(refused("max_tokens", "must be at least 1".to_owned()));
        }
        let schema = match &config.output_schema {
            Some(source) => Some(Schema::compile(source).map_err(|reason| refused("output_schema", reason))?),
            None => None,
        };
        for tool in &config.tools {
            tools.push(Arc::new(AgentTool {
                name: tool.name.clone(),
                description: tool.description.clone(),
                parameters: tool.parameters.clone(),
                agent: tool.run.build()?,
            }));
        }
        let template = |field: &str, source: &Option<String>| {
            source
                .as_ref()
                .map(|source| config::template(AGENT, field, source))
                .transpose()
        };
        let timeout = config::seconds(AGENT, "timeout_s", config.timeout_s)?;
        let max_bytes = config::bound(AGENT, "max_response_bytes", config.max_response_bytes)?;
        Ok(Chat {
            url,
            model: model.into(),
            key,
            authorization,
            system: template("system", &config.system)?,
            prompt: template("prompt", &config.prompt)?,
            temperature: config.temperature,
            top_p: config.top_p,
            max_tokens: config.max_tokens,
            response_format: schema
                .as_ref()
                .map(|schema| response_format(schema, config.strict_schema)),
            schema,
            tools: offered(tools)?,
            max_tool_rounds: config.max_tool_rounds,
            rates: match config.price {
                Some(price) => Some(Rates::new(price).map_err(|error| refused("price", error.to_string()))?),
                None => None,
            },
            rate_limit: config::rate_limit(AGENT, config.rate_limit)?,
            extra: extra(config.extra)?,
            connection: Connection::new(AGENT, timeout, max_bytes)?,
        })
    }
}

fn authorization(key: &Secret) -> Result<HeaderValue, ConfigError> {
    if key.is_empty() {
        return Err(ConfigError::new(
            AGENT,
            "api_key",
            "the key is empty; leave it out if the service needs none",
        ));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose())).map_err(|_| {
        ConfigError::new(
            AGENT,
            "api_key",
            "the key has characters that a header can't carry",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn in_range(
    field: &str,
    value: Option<f64>,
    range: std::ops::RangeInclusive<f64>,
) -> Result<(), ConfigError> {
    match value {
        Some(value) if !range.contains(&value) => Err(ConfigError::new(
            AGENT,
            field,
            format!(
                "must be between {} and {}, but is {value}",
                range.start(),
                range.end()
            ),
        )),
        _ => Ok(()),
    }
}

fn extra(extra: Value) -> Result<Value, ConfigError> {
    let Value::Map(entries) = &extra else {
        return match extra {
            Value::Null => Ok(Value::map::<&str>([])),
            other => Err(ConfigError::new(
                AGENT,
                "extra",
                format!("must be a map, but is of kind `{}`", other.kind()),
            )),
        };
    };
    match entries
        .iter()
        .find(|(name, _)| RequestBody::OWN_FIELDS.contains(&&**name))
    {
        Some((name, _)) => Err(ConfigError::new(
            AGENT,
            format!("extra.{name}"),
            "is a field that the agent sets itself; use the setting that stands for it",
        )),
        None => Ok(extra),
    }
}

/// The `response_format` that asks for JSON of this schema.
fn response_format(schema: &Schema, strict: bool) -> Value {
    let title = schema
        .source()
        .get("title")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let name: String = title
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        .take(64)
        .collect();
    Value::map([
        ("type", Value::from("json_schema")),
        (
            "json_schema",
            Value::map([
                (
                    "name",
                    Value::from(if name.is_empty() {
                        "output".to_owned()
                    } else {
                        name
                    }),
                ),
                ("strict", Value::from(strict)),
                ("schema", schema.source().clone()),
            ]),
        ),
    ])
}
