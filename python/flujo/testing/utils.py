"""Everything for testing pipelines, at one path."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from flujo.domain.results import PipelineResult
from flujo.testing.agents import DummyPlugin, FailingStreamAgent, ReplayAgent, StubAgent
from flujo.testing.assertions import assert_context_updated, assert_pipeline_result, assert_validator_failed
from flujo.testing.backends import DummyRemoteBackend
from flujo.testing.replays import replay_test

__all__ = [
    "DummyPlugin",
    "DummyRemoteBackend",
    "FailingStreamAgent",
    "ReplayAgent",
    "StubAgent",
    "assert_context_updated",
    "assert_pipeline_result",
    "assert_validator_failed",
    "failing_part",
    "gather_result",
    "override_agent",
    "override_agent_direct",
    "replay_test",
]


async def gather_result(runner: Any, data: Any, **kwargs: Any) -> PipelineResult[Any, Any]:
    """Run a pipeline to its end, whether `runner.run_async` is to be awaited or iterated.

    Raises:
        TypeError: if what comes last isn't a PipelineResult.
    """
    run = runner.run_async(data, **kwargs)
    last: Any = None
    if isinstance(run, Awaitable):
        last = await run
    else:
        async for item in cast(AsyncIterable[Any], run):
            last = item
    if not isinstance(last, PipelineResult):
        raise TypeError(f"{type(runner).__name__}.run_async ended with {last!r}, not with a PipelineResult")
    return last


@contextmanager
def failing_part(runner: Any, part: str) -> Iterator[None]:
    """Within the block, let the optimised form of `part` fail in each run of `runner` that starts: a drill, to see that
    alerts arrive where they should, and that runs go on with the plain form.

    Args:
        runner: A `Flujo`.
        part: `context`, `analysis`, `telemetry`, `monitor`, `cache` or `usage`.

    Raises:
        ValueError: there is no such part, or it is `pool`, which has no optimised form on asyncio.
    """
    runner._engine.begin_drill(part)
    try:
        yield
    finally:
        runner._engine.end_drill(part)


@contextmanager
def override_agent(step: Any, agent: Any) -> Iterator[Any]:
    """Let `step` use `agent` within the block, and its own again afterwards."""
    own = step.agent
    step.agent = agent
    try:
        yield agent
    finally:
        step.agent = own


override_agent_direct = override_agent
"""The same; older versions had a second way for steps that couldn't be overridden by the first."""
