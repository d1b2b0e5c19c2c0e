"""Where agents that stream run: what may block has a thread, one of the runner's own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flujo import Flujo, PipelineContext, Step


def here() -> str:
    return threading.current_thread().name


class Generates:
    def stream(self, data: Any) -> Iterator[str]:
        yield here()


class Iterates:
    """Its `stream` is a plain function."""

    def stream(self, data: Any) -> Iterator[str]:
        return (here() for _ in range(1))


class Both:
    """Blocks in its `run`."""

    def run(self, data: Any) -> str:
        return here()

    def stream(self, data: Any) -> Iterator[str]:
        yield here()


class Called:
    """Is called itself, and gives a coroutine from its thread."""

    def __call__(self, data: Any) -> Any:
        name = here()

        async def later() -> str:
            return name

        return later()

    def stream(self, data: Any) -> Iterator[str]:
        yield here()


@pytest.mark.parametrize("agent", [Generates(), Iterates(), Both(), Called()])
async def test_what_may_block_runs_in_the_runner_s_executor(agent: Any) -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="own") as executor:
        runner = Flujo(Step("s", agent), executor=executor)
        assert (await runner.run_async(1)).output == "own_0"
        *chunks, result = [item async for item in runner.run_stream(1)]
        assert (chunks, result.output) == (["own_0"], "own_0")


async def test_inline_stays_on_the_loop_s_thread() -> None:
    assert (await Flujo(Step("s", Both(), inline=True)).run_async(1)).output == here()


async def test_context_and_settings_reach_run_and_stream() -> None:
    class Agent:
        def run(self, data: Any, *, context: Any, temperature: float) -> str:
            context.initial_prompt = "run"
            return f"{data} {temperature}"

        def stream(self, data: Any, *, context: Any, temperature: float) -> Iterator[str]:
            context.initial_prompt = "stream"
            yield f"{data} {temperature}"

    class Streams:
        def stream(self, data: Any, *, context: Any, temperature: float) -> Iterator[str]:
            context.initial_prompt = "stream"
            yield f"{data} {temperature}"

    for agent, by in ((Agent(), "run"), (Streams(), "stream")):
        runner = Flujo(Step("s", agent, temperature=0.5), context_model=PipelineContext)
        result = await runner.run_async(1)
        assert (result.output, result.final_pipeline_context.initial_prompt) == ("1 0.5", by)


class Stuck:
    """Blocks its thread until it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.ended = threading.Semaphore(0)

    def wait(self) -> str:
        self.release.wait(10)
        self.ended.release()
        return "late"


class StuckRun(Stuck):
    def run(self, data: Any) -> str:
        return self.wait()

    def stream(self, data: Any) -> Iterator[str]:
        yield self.wait()


class StuckStream(Stuck):
    def stream(self, data: Any) -> Iterator[str]:
        yield self.wait()


class StuckIterator(Stuck):
    def stream(self, data: Any) -> Iterator[str]:
        return (self.wait() for _ in range(1))


@pytest.mark.parametrize("kind", [StuckRun, StuckStream, StuckIterator])
async def test_a_thread_that_is_given_up_is_named_and_another_takes_its_place(
    kind: type[Stuck], caplog: pytest.LogCaptureFixture
) -> None:
    agent: Any = kind()
    runner = Flujo(Step("s", agent, timeout_s=0.02, max_retries=1), sync_workers=1)
    with caplog.at_level(logging.WARNING, "flujo.run"):
        result = await runner.run_async(1)
    assert (result.status, result.step_history[0].attempts) == ("failed", 2)
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2 and all(kind.__name__ in warning for warning in warnings)
    agent.release.set()
    for _ in range(2):
        assert await asyncio.to_thread(agent.ended.acquire, True, 10)
