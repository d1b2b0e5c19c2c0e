"""Spans by OpenTelemetry's own SDK: the user's where there is one, else one that Flujo sets up as its plain twin.

Nothing here is imported before OpenTelemetry is. A span is passed around as the context in which it is current. No
token is kept: what is current is set to what it was, from whichever task or thread that happens in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flujo.application._logging import logger

_log = logger("telemetry")


class Spans:
    """The spans that one tracer makes. What OpenTelemetry raises is logged; the run goes on without that span.

    Args:
        tracer: Makes them.
    """

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def begin(
        self,
        name: str,
        parent: Context,
        attributes: Mapping[str, Any],
        link: trace.SpanContext | None = None,
    ) -> Context:
        """The context in which a new span below `parent`'s is current."""
        try:
            links = None if link is None else [trace.Link(link)]
            span = self._tracer.start_span(name, parent, attributes=attributes, links=links)
            return trace.set_span_in_context(span, parent)
        except Exception as error:
            _report(error)
            return parent

    def end(
        self, context: Context, attributes: Mapping[str, Any], error: str | None, message: str | None
    ) -> None:
        """End the span that is current there; `error` is the class name of what made it fail."""
        try:
            span = trace.get_current_span(context)
            span.set_attributes(attributes)
            if error is not None:
                span.set_attribute("error.type", error)
                span.set_status(trace.StatusCode.ERROR, message or error)
            span.end()
        except Exception as raised:
            _report(raised)

    def event(self, context: Context, name: str) -> None:
        """Say that something happened in the span that is current there."""
        try:
            trace.get_current_span(context).add_event(name)
        except Exception as raised:
            _report(raised)


def _report(error: Exception) -> None:
    _log.warning("OpenTelemetry raised %s; the run goes on without the span", type(error).__name__)


_of_user: tuple[object, Spans | None] | None = None


def spans_of_user() -> Spans | None:
    """Those of the user's own SDK; None where only the API is installed, or no SDK has been set up."""
    global _of_user
    provider = trace.get_tracer_provider()
    known = _of_user
    if known is None or known[0] is not provider:
        is_none = isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider))
        known = _of_user = (provider, None if is_none else Spans(_tracer_of(provider)))
    return known[1]


def _tracer_of(provider: trace.TracerProvider) -> trace.Tracer:
    from flujo import __version__

    return provider.get_tracer("flujo", __version__)


_propagator = TraceContextTextMapPropagator()


def context_of(traceparent: str) -> Context:
    """The current context with a span of another process as the current one."""
    return _propagator.extract({"traceparent": traceparent}, get_current())


def traceparent() -> str | None:
    """The current span in the form in which other processes are told of it; None where there is none."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent")


def span_context(context: Context) -> trace.SpanContext:
    """What identifies the span that is current there."""
    return trace.get_current_span(context).get_span_context()


def enter(context: Context) -> None:
    """Make the context the current one."""
    attach(context)


def leave(context: Context, outside: Context) -> None:
    """Make `outside` the current one again, if `context` still is."""
    if get_current() is context:
        attach(outside)
