//! The agent that sends one HTTP request made from templates and returns the reply.

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::usage::Usage;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde::Deserialize;
use std::collections::BTreeMap;

use crate::config::{self, ConfigError};
use crate::net::{self, Connection};
use crate::payload;
pub use crate::payload::Format;
use crate::secret::Secret;
use crate::template::{self, Scope, Template};

const AGENT: &str = "http";

/// Settings of an [`Http`] agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// The method.
    #[serde(default = "get")]
    pub method: String,
    /// The address, a template. Pass values through `urlencode`: `https://host/items/{{ input | urlencode }}`.
    pub url: String,
    /// Headers; the values are templates.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body, a template. JSON is made with `{{ input | tojson }}`.
    #[serde(default)]
    pub body: Option<String>,
    /// What the reply is turned into.
    #[serde(default)]
    pub response: Format,
    /// The environment variable with the service's key.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// The header that carries the key as it is. Without this it is sent as `Authorization: Bearer <key>`.
    #[serde(default)]
    pub api_key_header: Option<String>,
    /// The header that carries a key by which the service recognises a repeated request, such as `Idempotency-Key`.
    #[serde(default)]
    pub idempotency_header: Option<String>,
    /// The time limit of the request in seconds, reply included.
    #[serde(default = "timeout_s")]
    pub timeout_s: f64,
    /// The most bytes that a reply may have.
    #[serde(default = "max_response_bytes")]
    pub max_response_bytes: usize,
}

fn get() -> String {
    "GET".to_owned()
}

fn timeout_s() -> f64 {
    60.0
}

fn max_response_bytes() -> usize {
    16 * 1024 * 1024
}

impl HttpConfig {
    /// A `GET` request to `url` with default limits.
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            method: get(),
            url: url.into(),
            headers: BTreeMap::new(),
            body: None,
            response: Format::Text,
            api_key_env: None,
            api_key_header: None,
            idempotency_header: None,
            timeout_s: timeout_s(),
            max_response_bytes: max_response_bytes(),
        }
    }

    /// Checks the settings and makes the agent.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting that can't be used.
    pub fn build(&self) -> Result<Http, ConfigError> {
        let method = Method::from_bytes(self.method.to_ascii_uppercase().as_bytes()).map_err(|_| {
            ConfigError::new(AGENT, "method", format!("`{}` isn't an HTTP method", self.method))
        })?;
        let url = config::template(AGENT, "url", &self.url)?;
        if url.is_constant() {
            net::parse_url(&self.url).map_err(|reason| ConfigError::new(AGENT, "url", reason))?;
        }
        let headers = self.headers.iter().map(|(name, value)| {
            let field = format!("headers.{name}");
            Ok((
                header_name(&field, name)?,
                config::template(AGENT, &field, value)?,
            ))
        });
        let key_header = match &self.api_key_header {
            Some(_) if self.api_key_env.is_none() => {
                return Err(ConfigError::new(
                    AGENT,
                    "api_key_header",
                    "needs `api_key_env` beside it",
                ));
            }
            Some(name) => Some(header_name("api_key_header", name)?),
            None => None,
        };
        let key = match &self.api_key_env {
            Some(variable) => Some(ApiKey::new(
                key_header,
                config::secret_from_env(AGENT, "api_key_env", variable)?,
            )?),
            None => None,
        };
        let timeout = config::seconds(AGENT, "timeout_s", self.timeout_s)?;
        let max_bytes = config::bound(AGENT, "max_response_bytes", self.max_response_bytes)?;
        Ok(Http {
            method,
            url,
            headers: headers.collect::<Result<_, _>>()?,
            body: self
                .body
                .as_ref()
                .map(|body| config::template(AGENT, "body", body))
                .transpose()?,
            response: self.response,
            key,
            idempotency_header: match &self.idempotency_header {
                Some(name) => Some(header_name("idempotency_header", name)?),
                None => None,
            },
            connection: Connection::new(AGENT, timeout, max_bytes)?,
        })
    }
}

fn header_name(field: &str, name: &str) -> Result<HeaderName, ConfigError> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| ConfigError::new(AGENT, field, format!("`{name}` can't be the name of a header")))
}

#[derive(Debug, Clone)]
struct ApiKey {
    header: HeaderName,
    value: HeaderValue,
    secret: Secret,
}

impl ApiKey {
    fn new(header: Option<HeaderName>, secret: Secret) -> Result<Self, ConfigError> {
        let text = match header {
            Some(_) => secret.expose().to_owned(),
            None => format!("Bearer {}", secret.expose()),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            ConfigError::new(
                AGENT,
                "api_key_env",
                "the key has characters that a header can't carry",
            )
        })?;
        value.set_sensitive(true);
        Ok(Self {
            header: header.unwrap_or(AUTHORIZATION),
            value,
            secret,
        })
    }
}

/// An agent that sends one HTTP request per call.
///
/// A reply with a status outside 2xx is an error: 408, 409, 425, 429 and 5xx may be tried again, after the time that
/// the server asks for if it does; the rest may not.
#[derive(Debug, Clone)]
pub struct Http {
    method: Method,
    url: Template,
    headers: Vec<(HeaderName, Template)>,
    body: Option<Template>,
    response: Format,
    key: Option<ApiKey>,
    idempotency_header: Option<HeaderName>,
    connection: Connection,
}

impl Http {
    fn request(&self, request: &AgentRequest) -> Result<reqwest::Request, AgentError> {
        let scope = Scope::from(request);
        let url = net::parse_url(template::render(&self.url, "url", &scope)?.trim()).map_err(|reason| {
            AgentError::permanent(format!("the address made by the template in `url` {reason}"))
        })?;
        let mut builder = self.connection.client().request(self.method.clone(), url);
        for (name, template) in &self.headers {
            let field = format!("headers.{name}");
            let value = template::render(template, &field, &scope)?;
            builder = builder.header(name, header_value(&field, &value)?);
        }
        if let Some(key) = &self.key {
            builder = builder.header(&key.header, key.value.clone());
        }
        if let Some(name) = &self.idempotency_header {
            builder = builder.header(
                name,
                header_value("idempotency_header", &request.idempotency_key)?,
            );
        }
        let own = self.headers.iter().any(|(name, _)| name == net::TRACEPARENT);
        if let Some(span) = request.span.filter(|_| !own) {
            builder = builder.header(net::TRACEPARENT, span.to_string());
        }
        if let Some(body) = &self.body {
            builder = builder.body(template::render(body, "body", &scope)?);
        }
        builder.build().map_err(|error| {
            AgentError::permanent(format!("the request can't be made: {}", error.without_url()))
        })
    }

    async fn exchange(&self, request: AgentRequest) -> Result<AgentOutput, AgentError> {
        let reply = self.connection.send(self.request(&request)?).await?;
        let usage = Usage {
            requests: 1,
            ..Usage::ZERO
        };
        let counted = |error: AgentError| AgentError { usage, ..error };
        if !reply.response().status().is_success() {
            let secret = self.key.as_ref().map(|key| &key.secret);
            return Err(counted(net::refused(reply, secret).await));
        }
        let source = format!("the reply of {}", reply.place());
        let body = reply.body().await.map_err(counted)?;
        let value = payload::from_bytes(body, self.response, &source).map_err(counted)?;
        Ok(AgentOutput {
            value,
            usage,
            model: None,
            tokens: None,
        })
    }
}

fn header_value(field: &str, text: &str) -> Result<HeaderValue, AgentError> {
    HeaderValue::from_str(text).map_err(|_| {
        AgentError::permanent(format!(
            "`{field}` has characters that a header can't carry, such as a line break"
        ))
    })
}

impl Agent for Http {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(self.exchange(request))
    }
}
