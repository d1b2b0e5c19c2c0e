"""The user's own OpenTelemetry SDK, set up as a program does it, for the length of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once
from otlp_receiver import Event, Span


class Ended:
    """The spans that have ended, and how many were begun."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        self._exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> list[Span]:
        """Those that have ended, in the order of their ends."""
        return [_span(span) for span in self._exporter.get_finished_spans()]

    def clear(self) -> None:
        """Forget what has come so far."""
        self._exporter.clear()


@contextmanager
def user_sdk() -> Iterator[Ended]:
    """The process's tracer provider is this one; afterwards it is what it was."""
    before = trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE
    trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE = None, Once()
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    try:
        yield Ended(provider)
    finally:
        provider.shutdown()
        trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE = before


def _span(span: ReadableSpan) -> Span:
    context, parent = span.context, span.parent
    return Span(
        name=span.name,
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_id="" if parent is None else f"{parent.span_id:016x}",
        kind=span.kind.name.lower(),
        status=span.status.status_code.name.lower(),
        message=span.status.description or "",
        start=span.start_time or 0,
        end=span.end_time or 0,
        attributes=_plain(span.attributes),
        events=tuple(Event(event.name, _plain(event.attributes)) for event in span.events),
        links=tuple((f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") for link in span.links),
        resource=_plain(span.resource.attributes),
        scope="" if span.instrumentation_scope is None else span.instrumentation_scope.name,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    pairs = (attributes or {}).items()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in pairs}
