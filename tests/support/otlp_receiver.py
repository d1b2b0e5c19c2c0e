"""An OTLP receiver for tests: HTTP and gRPC on free ports, decoded with the protocol's published classes."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

PATIENCE_S = 60.0
"""How long a test waits for what it knows must come before it gives up."""


@dataclass(frozen=True)
class Event:
    """Something that happened during a span."""

    name: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Span:
    """A span as it arrived; ids are lower-case hexadecimal, `parent_id` is empty for a root, times are in ns."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    status: str
    message: str
    start: int
    end: int
    attributes: dict[str, Any]
    events: tuple[Event, ...]
    links: tuple[tuple[str, str], ...]
    resource: dict[str, Any] = field(repr=False)
    scope: str = field(repr=False)

    def __hash__(self) -> int:
        return hash(self.span_id)


@dataclass
class Received:
    """What a receiver has got so far."""

    _changed: threading.Condition = field(default_factory=threading.Condition)
    _spans: list[Span] = field(default_factory=list)
    _bodies: list[bytes] = field(default_factory=list)
    _headers: list[dict[str, str]] = field(default_factory=list)

    def add(self, request: bytes, headers: dict[str, str]) -> None:
        """Takes in one export request, uncompressed."""
        decoded = trace_service_pb2.ExportTraceServiceRequest.FromString(request)
        spans = list(_spans(decoded.resource_spans))
        with self._changed:
            self._bodies.append(request)
            self._headers.append(headers)
            self._spans += spans
            self._changed.notify_all()

    @property
    def spans(self) -> list[Span]:
        """All spans, in the order of their arrival."""
        with self._changed:
            return list(self._spans)

    @property
    def bytes(self) -> bytes:
        """Every byte of every request and its headers."""
        with self._changed:
            headers = [f"{name}: {value}\n" for each in self._headers for name, value in each.items()]
            return b"\n".join([*self._bodies, "".join(headers).encode()])

    @property
    def bodies(self) -> bytes:
        """Every byte of every request, without headers: what a collector is sent to authenticate stands there."""
        with self._changed:
            return b"\n".join(self._bodies)

    @property
    def headers(self) -> list[dict[str, str]]:
        """The headers of each request, names in lower case."""
        with self._changed:
            return list(self._headers)

    @property
    def requests(self) -> int:
        """How many requests came."""
        with self._changed:
            return len(self._bodies)

    def wait_for(self, count: int) -> list[Span]:
        """The spans, as soon as there are so many."""
        return self.wait_until(lambda spans: len(spans) >= count, f"{count} spans")

    def wait_until(self, holds: Callable[[list[Span]], bool], what: str) -> list[Span]:
        """The spans, as soon as this holds for them."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: holds(self._spans), PATIENCE_S)
            names = [span.name for span in self._spans]
            assert arrived, f"waited {PATIENCE_S} s for {what}; what came: {names}"
            return list(self._spans)


@dataclass(frozen=True)
class Receiver:
    """A running receiver; `endpoint` is what an exporter is given."""

    endpoint: str
    received: Received


@contextmanager
def http_receiver(*, status: int = 200, hold: threading.Event | None = None) -> Iterator[Receiver]:
    """Receives OTLP over HTTP (binary protobuf).

    Args:
        status: What it answers; a request that it doesn't answer with 200 isn't taken in.
        hold: It answers nobody until this is set.
    """
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if hold is not None:
                hold.wait(PATIENCE_S)
            if status == 200:
                assert self.path == "/v1/traces", self.path
                assert self.headers["Content-Type"] == "application/x-protobuf"
                received.add(body, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            answer = trace_service_pb2.ExportTraceServiceResponse().SerializeToString()
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests read what a process writes: this writes nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that goes away while it is held up is what some tests are about."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield Receiver(f"http://127.0.0.1:{server.server_port}", received)
        finally:
            if hold is not None:
                hold.set()
            server.shutdown()
            thread.join()


@contextmanager
def grpc_receiver() -> Iterator[Receiver]:
    """Receives OTLP over gRPC."""
    received = Received()

    class Service(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            headers = {name: str(value) for name, value in context.invocation_metadata()}
            received.add(request.SerializeToString(), headers)
            return trace_service_pb2.ExportTraceServiceResponse()

    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield Receiver(f"http://127.0.0.1:{port}", received)
        finally:
            server.stop(None).wait()


def _spans(resources: Iterable[trace_pb2.ResourceSpans]) -> Iterator[Span]:
    for resource in resources:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    status=trace_pb2.Status.StatusCode.Name(span.status.code)
                    .removeprefix("STATUS_CODE_")
                    .lower(),
                    message=span.status.message,
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    attributes=_attributes(span.attributes),
                    events=tuple(Event(event.name, _attributes(event.attributes)) for event in span.events),
                    links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    resource=_attributes(resource.resource.attributes),
                    scope=scope.scope.name,
                )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind)


# --- trees


@dataclass(frozen=True)
class Tree:
    """A span with what is below it, in order of their beginning."""

    span: Span
    below: tuple[Tree, ...]

    def names(self) -> Any:
        """The tree as nested lists of names: `["run", ["step", ["attempt"]]]`."""
        return [self.span.name, *(tree.names() for tree in self.below)]

    def find(self, name: str) -> list[Tree]:
        """The trees of all spans of this name, outermost first."""
        found = [self] if self.span.name == name else []
        return found + [tree for below in self.below for tree in below.find(name)]


def trees(spans: Sequence[Span]) -> list[Tree]:
    """The spans as trees, one for each that has no parent among them."""
    children: dict[str, list[Span]] = {}
    known = {span.span_id for span in spans}
    assert len(known) == len(spans), "a span arrived twice"
    for span in spans:
        children.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)

    def tree(span: Span) -> Tree:
        below = sorted(children.get(span.span_id, []), key=lambda each: each.start)
        return Tree(span, tuple(tree(each) for each in below))

    return [tree(span) for span in sorted(children.get("", []), key=lambda each: each.start)]


def one_tree(spans: Sequence[Span]) -> Tree:
    """The spans as one tree of one trace, whose every span has ended and knows its parent."""
    found = trees(spans)
    assert len(found) == 1, f"{len(found)} trees: {[each.names() for each in found]}"
    assert len({span.trace_id for span in spans}) == 1
    assert all(0 < span.start <= span.end for span in spans)
    return found[0]
