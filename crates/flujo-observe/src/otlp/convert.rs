//! Spans in OpenTelemetry's own form.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flujo_core::telemetry::{Attribute, Span, SpanKind as Kind};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

pub(super) fn spans(spans: &[Span]) -> Vec<SpanData> {
    let scope = InstrumentationScope::builder("flujo")
        .with_version(env!("CARGO_PKG_VERSION"))
        .build();
    spans.iter().map(|span| converted(span, &scope)).collect()
}

fn converted(span: &Span, scope: &InstrumentationScope) -> SpanData {
    let id = |id: flujo_core::telemetry::SpanId| SpanId::from_bytes(id.to_bytes());
    let is_chat = span.attribute("gen_ai.request.model").is_some();
    SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes(span.context.trace.to_bytes()),
            id(span.context.span),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: span.parent.map_or(SpanId::INVALID, id),
        parent_span_is_remote: span.parent_is_foreign,
        // A model is another service; everything else happens here.
        span_kind: if span.kind == Kind::Call && is_chat {
            SpanKind::Client
        } else {
            SpanKind::Internal
        },
        name: Cow::Owned(span.name.clone()),
        start_time: time(span.started),
        end_time: time(span.ended),
        attributes: span.attributes.iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: if span.status.is_error() {
            Status::error("")
        } else {
            Status::Unset
        },
        instrumentation_scope: scope.clone(),
    }
}

fn time(nanos: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_nanos(nanos))
        .unwrap_or(UNIX_EPOCH)
}

fn attribute((name, value): &(&'static str, Attribute)) -> KeyValue {
    let value = match value {
        Attribute::Text(text) => Value::from(text.to_string()),
        Attribute::Count(count) => Value::I64(i64::try_from(*count).unwrap_or(i64::MAX)),
        Attribute::Number(number) => Value::F64(*number),
        Attribute::Flag(flag) => Value::Bool(*flag),
    };
    KeyValue::new(*name, value)
}
