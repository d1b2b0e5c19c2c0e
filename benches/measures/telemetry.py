"""Spans: what recording them for an exporter adds to a step, on the step's own thread."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from flujo import Flujo, OptimizationConfig, Pipeline, Step, Telemetry

from .bare import async_functions, in_turn
from .row import Row, added_cost
from .sampling import Effort, compare

OPTIMIZED = (True, "optimized", 1.0)
PLAIN = (False, "plain", None)


class _Collector(BaseHTTPRequestHandler):
    """Takes everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def _collector() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def rows(effort: Effort) -> Iterator[Row]:
    """Flat lists of 100 steps with an exporter, by both twins, in CPU time of the step's own thread."""
    pipeline = Pipeline(
        [Step(f"step {n}", function) for n, function in enumerate(in_turn(async_functions(), 100))]
    )
    silent = Flujo(pipeline)
    with tempfile.TemporaryDirectory() as folder, _collector() as address:
        ways = {
            "OTLP": lambda twin: Telemetry(otlp=address),
            "JSON lines": lambda twin: Telemetry(jsonl=Path(folder, twin)),
        }
        for where, exporting in ways.items():
            for optimized, twin, at_most in (OPTIMIZED, PLAIN):
                telemetry = exporting(twin)
                config = OptimizationConfig(enable_telemetry_optimization=optimized)
                traced = Flujo(pipeline, telemetry=telemetry, optimization_config=config)
                pair = compare(
                    lambda traced=traced: traced.run_async(0),
                    lambda: silent.run_async(0),
                    units=100,
                    effort=effort,
                    clock=time.thread_time,
                )
                name, against = f"telemetry, {where}, {twin}", "the same without telemetry"
                yield added_cost(name, pair, at_most=at_most, against=against)
                telemetry.shutdown()
