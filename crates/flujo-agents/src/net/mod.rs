//! One HTTP exchange with bounds: a time limit, a size limit, and errors that name the address without credentials.

mod status;

use std::error::Error;
use std::time::Duration;

use flujo_core::agent::AgentError;
use flujo_core::usage::Usage;
use reqwest::{Client, Request, Response, Url};

pub(crate) use status::refused;

use crate::config::ConfigError;

/// How long a connection may take to open, when the time limit of the request isn't shorter.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// The header that makes the spans of a service part of the caller's trace.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The most redirects that are followed.
const MOST_REDIRECTS: usize = 5;

/// A client with its limits.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    client: Client,
    /// The time limit of one request, reply included.
    pub(crate) timeout: Duration,
    /// The most bytes of a reply.
    pub(crate) max_response_bytes: usize,
}

impl Connection {
    pub(crate) fn new(
        agent: &'static str,
        timeout: Duration,
        max_response_bytes: usize,
    ) -> Result<Self, ConfigError> {
        let client = Client::builder()
            .user_agent(concat!("flujo/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_LIMIT.min(timeout))
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::custom(follow))
            .build()
            .map_err(|error| {
                ConfigError::new(
                    agent,
                    "type",
                    format!("the HTTP client can't start: {}", causes(&error)),
                )
            })?;
        Ok(Self {
            client,
            timeout,
            max_response_bytes,
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request and waits for the head of the reply.
    ///
    /// # Errors
    /// One whose usage counts the request, unless it never left.
    pub(crate) async fn send(&self, request: Request) -> Result<Reply, AgentError> {
        let url = request.url().clone();
        match self.client.execute(request).await {
            Ok(response) => Ok(Reply {
                response,
                max_bytes: self.max_response_bytes,
                timeout: self.timeout,
                url,
            }),
            Err(error) => {
                let left = !error.is_connect() && !error.is_builder();
                let usage = Usage {
                    requests: u64::from(left),
                    ..Usage::ZERO
                };
                Err(AgentError {
                    usage,
                    ..broken(error, &url, self.timeout)
                })
            }
        }
    }
}

/// Follows a redirect on the same host only: a key in a header must not travel to another one.
fn follow(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    let Some(from) = attempt.previous().last() else {
        return attempt.stop();
    };
    let to = attempt.url();
    let same_port = from.port_or_known_default() == to.port_or_known_default();
    let made_secure = from.scheme() == "http" && to.scheme() == "https";
    if from.host() != to.host() || !(made_secure || (from.scheme() == to.scheme() && same_port)) {
        attempt.stop()
    } else if attempt.previous().len() > MOST_REDIRECTS {
        attempt.error("too many redirects")
    } else {
        attempt.follow()
    }
}

/// A reply whose body hasn't been read.
pub(crate) struct Reply {
    response: Response,
    max_bytes: usize,
    timeout: Duration,
    url: Url,
}

impl Reply {
    pub(crate) fn response(&self) -> &Response {
        &self.response
    }

    /// Where the request went, without credentials.
    pub(crate) fn place(&self) -> String {
        place(&self.url)
    }

    /// The next piece of the body, `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, AgentError> {
        self.response
            .chunk()
            .await
            .map_err(|error| broken(error, &self.url, self.timeout))
    }

    /// The whole body.
    pub(crate) async fn body(mut self) -> Result<Vec<u8>, AgentError> {
        let announced = self
            .response
            .content_length()
            .and_then(|length| usize::try_from(length).ok());
        if announced.is_some_and(|length| length > self.max_bytes) {
            return Err(self.too_large());
        }
        let mut body = Vec::with_capacity(announced.unwrap_or_default());
        while let Some(chunk) = self.chunk().await? {
            let chunk = chunk.as_ref();
            if body.len() + chunk.len() > self.max_bytes {
                return Err(self.too_large());
            }
            body.extend_from_slice(chunk);
        }
        Ok(body)
    }

    /// As much of the start of the body as an error text needs, with anything unreadable left out.
    pub(crate) async fn start_of_body(&mut self) -> Vec<u8> {
        const ENOUGH: usize = 64 * 1024;
        let mut body = Vec::new();
        while body.len() < ENOUGH {
            match self.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(chunk.as_ref()),
                _ => break,
            }
        }
        body
    }

    /// The error of a reply that is larger than allowed.
    pub(crate) fn too_large(&self) -> AgentError {
        AgentError::permanent(format!(
            "the reply of {} is larger than {} bytes; raise `max_response_bytes` if that much is expected",
            self.place(),
            self.max_bytes
        ))
    }
}

/// An address for messages: scheme, host, port and path. User, password, query and fragment may hold secrets.
pub(crate) fn place(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!(
        "{}://{}{port}{}",
        url.scheme(),
        url.host_str().unwrap_or_default(),
        url.path()
    )
}

/// An address that a request can go to.
pub(crate) fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("isn't a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "must start with `http://` or `https://`, not `{}:`",
            url.scheme()
        ));
    }
    Ok(url)
}

/// The error of an exchange that broke off.
fn broken(error: reqwest::Error, url: &Url, timeout: Duration) -> AgentError {
    let place = place(url);
    let error = error.without_url();
    let reason = causes(&error);
    let failure = if error.is_timeout() {
        AgentError::new(format!(
            "no complete reply from {place} within {} s; raise `timeout_s`, or look at the load of the server",
            timeout.as_secs_f64()
        ))
    } else if error.is_connect() {
        AgentError::new(format!(
            "can't connect to {place}: {reason}; check that the server runs and that the address is right"
        ))
    } else if error.is_redirect() {
        AgentError::permanent(format!(
            "{place} redirects too often or in a circle: {reason}; check the address"
        ))
    } else if error.is_builder() {
        AgentError::permanent(format!("the request to {place} can't be made: {reason}"))
    } else {
        AgentError::new(format!("the exchange with {place} broke off: {reason}"))
    };
    failure.because(error)
}

/// An error with its causes on one line, each only once.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
