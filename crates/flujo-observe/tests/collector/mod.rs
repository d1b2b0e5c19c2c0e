//! A collector on this machine that decodes what it is sent and keeps every byte of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::runtime::Runtime;
use tonic::codegen::Service;

/// What arrived.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) requests: Vec<ExportTraceServiceRequest>,
    /// Everything, headers included, as it came.
    pub(crate) bytes: Vec<u8>,
    /// The headers of each request, as `name: value`.
    pub(crate) headers: Vec<Vec<String>>,
    pub(crate) paths: Vec<String>,
}

impl Arrived {
    pub(crate) fn spans(&self) -> Vec<Span> {
        let resources = self.requests.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    pub(crate) fn service(&self) -> String {
        let resource = self.requests[0].resource_spans[0].resource.clone().unwrap();
        text(
            resource
                .attributes
                .iter()
                .find(|attribute| attribute.key == "service.name")
                .unwrap()
                .value
                .clone(),
        )
    }
}

/// An attribute's value, as text.
pub(crate) fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    Some(text(found.value.clone()))
}

fn text(value: Option<opentelemetry_proto::tonic::common::v1::AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    }
}

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    arrived: Arc<Mutex<Arrived>>,
    _runtime: Runtime,
}

impl Collector {
    /// One that speaks HTTP and answers with this status.
    pub(crate) fn http(status: StatusCode) -> Self {
        Self::start(|listener, arrived| async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let arrived = Arc::clone(&arrived);
                let service = service_fn(move |request| take(request, Arc::clone(&arrived), status));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        })
    }

    /// One that takes connections and never answers.
    pub(crate) fn hanging() -> Self {
        Self::start(|listener, _| async move {
            let mut held = Vec::new();
            loop {
                held.push(listener.accept().await.unwrap());
            }
        })
    }

    /// One that speaks gRPC.
    pub(crate) fn grpc() -> Self {
        Self::start(|listener, arrived| async move {
            let traces = TraceServiceServer::new(Grpc(arrived));
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let traces = traces.clone();
                let service = service_fn(move |request| traces.clone().call(request));
                let connection = http2::Builder::new(TokioExecutor::new());
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        })
    }

    fn start<F>(serve: impl FnOnce(tokio::net::TcpListener, Arc<Mutex<Arrived>>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let (address, arrived) = (listener.local_addr().unwrap(), Arc::<Mutex<Arrived>>::default());
        runtime.spawn(serve(listener, Arc::clone(&arrived)));
        Self {
            address,
            arrived,
            _runtime: runtime,
        }
    }

    pub(crate) fn arrived(&self) -> std::sync::MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn take(
    request: Request<Incoming>,
    arrived: Arc<Mutex<Arrived>>,
    status: StatusCode,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut arrived = arrived.lock().unwrap();
    let headers = head
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    arrived.headers.push(headers.collect());
    arrived.paths.push(head.uri.path().to_owned());
    arrived
        .bytes
        .extend_from_slice(format!("{:?} {:?}", head.uri, head.headers).as_bytes());
    arrived.bytes.extend_from_slice(&body);
    arrived
        .requests
        .push(ExportTraceServiceRequest::decode(body).unwrap());
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    Ok(response)
}

struct Grpc(Arc<Mutex<Arrived>>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let mut arrived = self.0.lock().unwrap();
        let headers = request.metadata().clone().into_headers();
        let headers = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        arrived.headers.push(headers.collect());
        let request = request.into_inner();
        arrived.bytes.extend(request.encode_to_vec());
        arrived.requests.push(request);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}
