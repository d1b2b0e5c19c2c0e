"""What is measured: one module a group, each with `rows(effort)`. A new group is a module and a line in `GROUPS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from . import (
    caching,
    cold_start,
    contexts,
    depth,
    durable,
    fan_out,
    life,
    linear,
    loops,
    many_runs,
    results,
    rust,
    streams,
    sync_functions,
    telemetry,
)
from .row import Row
from .sampling import Effort

GROUPS: dict[str, Callable[[Effort], Iterator[Row]]] = {
    "linear": linear.rows,
    "loops": loops.rows,
    "life": life.rows,
    "results": results.rows,
    "sync_functions": sync_functions.rows,
    "fan_out": fan_out.rows,
    "many_runs": many_runs.rows,
    "streams": streams.rows,
    "contexts": contexts.rows,
    "caching": caching.rows,
    "depth": depth.rows,
    "cold_start": cold_start.rows,
    "telemetry": telemetry.rows,
    "durable": durable.rows,
    "rust": rust.rows,
}
