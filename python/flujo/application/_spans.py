"""Spans by OpenTelemetry's own SDK: the user's where there is one, else one that Flujo sets up as its plain twin.

Nothing here is imported before OpenTelemetry is. A span is passed around as the context in which it is current. No
token is kept: what is current is set to what it was, from whichever task or thread that happens in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flujo.application._logging import logger

if TYPE_CHECKING:
    from flujo._native import Place

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
        self, context: Context, attributes: Mapping[str, Any], error: bool, error_type: str | None
    ) -> None:
        """End the span that is current there.

        Args:
            context: Where it is.
            attributes: What is known of it only now.
            error: Whether it ended with an error.
            error_type: The class name of the error, where there is one.
        """
        try:
            span = trace.get_current_span(context)
            span.set_attributes(attributes)
            if error_type is not None:
                span.set_attribute("error.type", error_type)
            if error:
                span.set_status(trace.StatusCode.ERROR, error_type or attributes["flujo.status"])
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


def traceparent(context: Context | None = None) -> str | None:
    """The span that is current there, or here, in the form in which other processes are told of it; None where there is
    none.
    """
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, context)
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


class _Followed(trace.NonRecordingSpan):
    """The span of the step that a run is at, recorded by Flujo's own exporter: other libraries send it along, and their
    spans are below it.

    Args:
        place: Where the run is.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(trace.INVALID_SPAN_CONTEXT)
        self._place = place

    def get_span_context(self) -> trace.SpanContext:
        """What identifies the span of the step that is being worked on now."""
        traceparent = self._place.traceparent
        if traceparent is None:
            return trace.INVALID_SPAN_CONTEXT
        _, trace_id, span_id, flags = traceparent.split("-")
        return trace.SpanContext(
            int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=trace.TraceFlags(int(flags, 16))
        )


def follow(place: Place) -> Context:
    """Make the span of whatever step the run is at the current one; gives the context in which it is."""
    context = trace.set_span_in_context(_Followed(place))
    attach(context)
    return context
