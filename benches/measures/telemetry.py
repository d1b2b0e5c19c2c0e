"""Spans: what recording them for an exporter adds to a step, on the step's own thread."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from flujo import Flujo, OptimizationConfig, Pipeline, Step, Telemetry

from .bare import async_functions, in_turn
from .row import Row, added_cost
from .sampling import Effort, compare


def rows(effort: Effort) -> Iterator[Row]:
    """Flat lists of 100 steps with spans as JSON lines, by both twins; the exporter's own thread counts too."""
    pipeline = Pipeline(
        [Step(f"step {n}", function) for n, function in enumerate(in_turn(async_functions(), 100))]
    )
    silent = Flujo(pipeline)
    with tempfile.TemporaryDirectory() as folder:
        for name, optimized in (("optimized", True), ("plain", False)):
            telemetry = Telemetry(jsonl=Path(folder, name))
            config = OptimizationConfig(enable_telemetry_optimization=optimized)
            traced = Flujo(pipeline, telemetry=telemetry, optimization_config=config)
            pair = compare(
                lambda traced=traced: traced.run_async(0),
                lambda: silent.run_async(0),
                units=100,
                effort=effort,
            )
            yield added_cost(f"telemetry, {name}", pair, at_most=None, against="the same without telemetry")
            telemetry.shutdown()
