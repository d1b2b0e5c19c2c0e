//! The transports, with the headers that were said on top of those of the environment.

use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_sdk::error::OTelSdkError;

use super::OtlpError;
use super::target::Headers;

/// An HTTP client that sends certain headers with everything.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    headers: Headers,
}

impl Client {
    pub(super) fn new(headers: Headers, timeout: Duration) -> Result<Self, OtlpError> {
        let http = reqwest::Client::builder()
            .timeout(timeout)
            // A redirect would carry keys to another place.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| OtlpError::Start(error.without_url().to_string()))?;
        Ok(Self { http, headers })
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        for (name, value) in &self.headers.0 {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        self.http.send_bytes(request).await
    }
}

/// What an export failed for. OpenTelemetry's HTTP exporter tells the status and nothing of the answer; of gRPC, whose
/// errors may repeat what the server said, only the code is kept.
pub(super) fn reason(error: &OTelSdkError) -> String {
    let text = error.to_string();
    match text.find("HTTP export failed") {
        Some(at) => text[at..].to_owned(),
        None => "the collector could not be reached, or refused the spans".to_owned(),
    }
}

#[cfg(feature = "otlp-grpc")]
pub(super) fn grpc(
    url: String,
    headers: Headers,
    timeout: Duration,
) -> Result<opentelemetry_otlp::SpanExporter, opentelemetry_otlp::ExporterBuildError> {
    use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
    use tonic::metadata::MetadataMap;

    let secure = url.starts_with("https://");
    let said = move |mut request: tonic::Request<()>| {
        let mut all = std::mem::take(request.metadata_mut()).into_headers();
        for (name, value) in &headers.0 {
            all.insert(name.clone(), value.clone());
        }
        *request.metadata_mut() = MetadataMap::from_headers(all);
        Ok(request)
    };
    let mut builder = SpanExporter::builder()
        .with_tonic()
        .with_protocol(opentelemetry_otlp::Protocol::Grpc)
        .with_endpoint(url)
        .with_timeout(timeout)
        .with_interceptor(said);
    if secure {
        builder = builder.with_tls_config(tonic::transport::ClientTlsConfig::new().with_native_roots());
    }
    builder.build()
}
