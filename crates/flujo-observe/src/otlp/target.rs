//! Where spans are sent and how, from what was said and from the environment.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::OtlpError;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// What OTLP is spoken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP with bodies in protobuf; collectors listen at port 4318.
    Http,
    /// gRPC; collectors listen at port 4317.
    #[cfg(feature = "otlp-grpc")]
    Grpc,
}

/// A variable for spans, else the one for everything; one that is empty counts as unset.
fn variable(name: &str) -> Option<(String, bool)> {
    let read = |name: String| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let own = read(format!("OTEL_EXPORTER_OTLP_TRACES_{name}")).map(|value| (value, true));
    own.or_else(|| read(format!("OTEL_EXPORTER_OTLP_{name}")).map(|value| (value, false)))
}

impl Protocol {
    pub(super) fn resolve(said: Option<Self>) -> Result<Self, OtlpError> {
        if let Some(said) = said {
            return Ok(said);
        }
        match variable("PROTOCOL") {
            None => Ok(Self::Http),
            Some((name, _)) => match name.trim() {
                "http/protobuf" => Ok(Self::Http),
                #[cfg(feature = "otlp-grpc")]
                "grpc" => Ok(Self::Grpc),
                other => Err(OtlpError::Protocol(other.to_owned())),
            },
        }
    }

    fn default_endpoint(self) -> &'static str {
        match self {
            Self::Http => "http://localhost:4318",
            #[cfg(feature = "otlp-grpc")]
            Self::Grpc => "http://localhost:4317",
        }
    }
}

/// An address without credentials, and the header that they became.
pub(super) struct Target {
    pub(super) url: String,
    pub(super) authorization: Option<HeaderValue>,
}

impl Target {
    pub(super) fn resolve(said: Option<String>, protocol: Protocol) -> Result<Self, OtlpError> {
        let (text, is_whole) = match said {
            // A path that was said is the path; else the usual one is added.
            Some(text) => (text, false),
            None => variable("ENDPOINT").unwrap_or_else(|| (protocol.default_endpoint().to_owned(), false)),
        };
        let refuse = |shown: &str, reason: &str| OtlpError::Endpoint {
            shown: shown.to_owned(),
            reason: reason.to_owned(),
        };
        // What can't be read can't be shown without its credentials either.
        let mut url = Url::parse(text.trim()).map_err(|error| refuse("…", &error.to_string()))?;
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                let pair = format!("{}:{}", decoded(user), decoded(password.unwrap_or_default()));
                HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).ok()
            }
        };
        let hidden = url.set_username("").is_ok() && url.set_password(None).is_ok();
        if !hidden || !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(refuse(
                &format!("{}:…", url.scheme()),
                "it is neither http:// nor https://",
            ));
        }
        if protocol == Protocol::Http && !is_whole {
            let path = url.path().trim_end_matches('/');
            if !path.ends_with("/v1/traces") {
                let path = format!("{path}/v1/traces");
                url.set_path(&path);
            }
        }
        Ok(Self {
            url: url.to_string(),
            authorization,
        })
    }
}

/// A part of an address as it was before it was escaped.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *first == b'%');
        let escaped = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The time limit of an export.
pub(super) fn timeout(said: Option<Duration>) -> Result<Duration, OtlpError> {
    match (said, variable("TIMEOUT")) {
        (Some(said), _) => Ok(said),
        (None, None) => Ok(DEFAULT_TIMEOUT),
        (None, Some((text, _))) => match text.trim().parse() {
            Ok(millis) if millis > 0 => Ok(Duration::from_millis(millis)),
            _ => Err(OtlpError::Timeout(text)),
        },
    }
}

/// Headers that were said. They win over those of the environment, and are never shown.
#[derive(Clone)]
pub(super) struct Headers(pub(super) HeaderMap);

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Headers(…)")
    }
}

impl Headers {
    pub(super) fn new(
        said: Vec<(String, String)>,
        authorization: Option<HeaderValue>,
    ) -> Result<Self, OtlpError> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value);
        }
        for (name, value) in said {
            let parsed = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(&value));
            let (Ok(key), Ok(value)) = parsed else {
                return Err(OtlpError::Header(name));
            };
            headers.insert(key, value);
        }
        headers.values_mut().for_each(|value| value.set_sensitive(true));
        Ok(Self(headers))
    }
}
