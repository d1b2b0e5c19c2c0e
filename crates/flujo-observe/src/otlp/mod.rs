//! Spans over OTLP, the protocol of OpenTelemetry collectors, over HTTP or gRPC.

mod client;
mod convert;
mod target;

use std::time::Duration;

use flujo_core::telemetry::Span;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::runtime::Runtime;

use crate::export::{ExportError, Exporter};
use client::Client;
pub use target::Protocol;
use target::{Headers, Target};

/// Sends spans to an OpenTelemetry collector, with the attributes that `docs/telemetry.md` lists.
///
/// What isn't said is taken from the environment, as OpenTelemetry's specification has it:
/// `OTEL_EXPORTER_OTLP_ENDPOINT`, `…_HEADERS`, `…_TIMEOUT`, `…_PROTOCOL`, each also as `OTEL_EXPORTER_OTLP_TRACES_…`, and
/// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`. Headers and credentials in addresses are sent and told nobody else.
pub struct Otlp {
    exporter: SpanExporter,
    runtime: Runtime,
    timeout: Duration,
}

/// An OTLP exporter under construction.
#[derive(Default)]
#[must_use]
pub struct OtlpBuilder {
    endpoint: Option<String>,
    headers: Vec<(String, String)>,
    timeout: Option<Duration>,
    protocol: Option<Protocol>,
    service: Option<String>,
}

/// Why an OTLP exporter can't be made. Shows neither headers nor credentials.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The address is none.
    #[error(
        "the OTLP endpoint {shown:?} is no address of a collector: {reason}; an example is http://localhost:4318"
    )]
    Endpoint {
        /// The address without credentials.
        shown: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A header can't be sent.
    #[error("the OTLP header {0:?} has a name or value that a header can't carry, such as a line break")]
    Header(String),
    /// A protocol that isn't spoken.
    #[error(
        "OTLP over {0:?} is not known here: use `http/protobuf`, or `grpc` where it is built in (feature `otlp-grpc`)"
    )]
    Protocol(String),
    /// A time limit that is none.
    #[error("the OTLP time limit {0:?} (from the environment) is no number of milliseconds above 0")]
    Timeout(String),
    /// The exporter could not start.
    #[error("the OTLP exporter can't start: {0}")]
    Start(String),
}

impl OtlpBuilder {
    /// The collector's address, such as `http://localhost:4318`; over HTTP, `/v1/traces` is added to one without a path.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// A header to be sent along, such as one with a key.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How long the collector may take to take spans in; 10 seconds without this.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Over what; HTTP without this.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// The service's name, in the attribute `service.name`; `flujo` without this.
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.service = Some(name.into());
        self
    }

    /// The exporter. Nothing is sent yet.
    ///
    /// # Errors
    /// [`OtlpError`] when something that was said, or stands in the environment, can't be used.
    pub fn build(self) -> Result<Otlp, OtlpError> {
        let protocol = Protocol::resolve(self.protocol)?;
        let target = Target::resolve(self.endpoint, protocol)?;
        let timeout = target::timeout(self.timeout)?;
        let headers = Headers::new(self.headers, target.authorization)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| OtlpError::Start(error.to_string()))?;
        let mut exporter = {
            let _entered = runtime.enter();
            match protocol {
                Protocol::Http => {
                    let client = Client::new(headers, timeout)?;
                    let builder = SpanExporter::builder().with_http().with_http_client(client);
                    builder
                        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                        .with_endpoint(target.url)
                        .with_timeout(timeout)
                        .build()
                }
                #[cfg(feature = "otlp-grpc")]
                Protocol::Grpc => client::grpc(target.url, headers, timeout),
            }
        }
        .map_err(|error| OtlpError::Start(error.to_string()))?;
        exporter.set_resource(&resource(self.service));
        Ok(Otlp {
            exporter,
            runtime,
            timeout,
        })
    }
}

/// Who sends: what the environment says, and a name in any case.
fn resource(service: Option<String>) -> Resource {
    let found = Resource::builder().build();
    let name = found.get(&"service.name".into()).map(|name| name.to_string());
    let unnamed = name.is_none_or(|name| name.starts_with("unknown_service"));
    match service.or(unnamed.then(|| "flujo".to_owned())) {
        Some(name) => Resource::builder().with_service_name(name).build(),
        None => found,
    }
}

impl Otlp {
    /// An exporter that is told by the environment, unless it is told otherwise.
    pub fn builder() -> OtlpBuilder {
        OtlpBuilder::default()
    }
}

impl Exporter for Otlp {
    fn name(&self) -> &'static str {
        "otlp"
    }

    fn export(&mut self, spans: &[Span]) -> Result<(), ExportError> {
        let spans = convert::spans(spans);
        let sent = self.exporter.export(spans);
        let limit = self.timeout;
        let sent = self
            .runtime
            .block_on(async { tokio::time::timeout(limit, sent).await });
        match sent {
            Err(_) | Ok(Err(OTelSdkError::Timeout(_))) => Err(ExportError::TimedOut(limit)),
            Ok(Err(error)) => Err(ExportError::Refused(client::reason(&error))),
            Ok(Ok(())) => Ok(()),
        }
    }
}
