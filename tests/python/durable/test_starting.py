"""Runs that are started now and looked at later."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from flujo import Flujo, Pipeline, PipelineContext, Step, step
from flujo.exceptions import (
    AmbiguousAnswerError,
    PipelineContextInitializationError,
    ResumeError,
    RunCancelled,
    RunNotFoundError,
)


@step
async def double(x: int) -> int:
    return x * 2


class Strict(PipelineContext):
    needed: int


class Gate:
    """A step that waits until it is let through."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    async def run(self, x: Any) -> Any:
        self.entered.set()
        await self.open.wait()
        return x


def gated() -> tuple[Flujo, Gate]:
    gate = Gate()
    return Flujo(double >> Step("gate", gate) >> double), gate


async def test_a_started_run_goes_on_by_itself_and_is_looked_at_later() -> None:
    runner, gate = gated()
    handle = await runner.start(1, run_id="order 7")
    assert handle.id == "order 7"
    assert await handle.status() == "running"
    await gate.entered.wait()
    gate.open.set()
    result = await handle.result()
    assert (result.output, result.status) == (4, "completed")
    assert await handle.status() == "completed"
    assert (await runner.get("order 7").result()) is result


async def test_a_run_without_an_id_gets_one_of_its_own() -> None:
    runner = Flujo(double)
    first, second = await runner.start(1), await runner.start(2)
    assert first.id != second.id
    assert (await first.result()).output == 2
    assert (await second.result()).output == 4


async def test_a_run_goes_on_when_nobody_holds_its_handle() -> None:
    runner, gate = gated()
    await runner.start(1, run_id="held by nobody")
    gc.collect()
    await gate.entered.wait()
    handle = runner.get("held by nobody")
    gate.open.set()
    assert (await handle.result()).output == 4


async def test_events_are_told_from_the_beginning_and_from_where_somebody_left_off() -> None:
    runner, gate = gated()
    handle = await runner.start(1)
    seen = []
    async for event in handle.events():
        seen.append(event)
        if event.kind == "step_started" and event.step == "gate":
            break
    gate.open.set()
    async for event in runner.get(handle.id).events(after=len(seen)):
        seen.append(event)
    kinds = [(event.kind, event.step) for event in seen if event.kind.startswith(("run", "step"))]
    assert kinds == [
        ("run_started", ""),
        ("step_started", "double"),
        ("step_finished", "double"),
        ("step_started", "gate"),
        ("step_finished", "gate"),
        ("step_started", "double"),
        ("step_finished", "double"),
        ("run_finished", ""),
    ]
    again = [event async for event in handle.events()]
    assert again == seen
    assert seen[-1].data is await handle.result()


async def test_a_started_run_is_cancelled_and_whoever_waits_is_told() -> None:
    runner, gate = gated()
    handle = await runner.start(1)
    await gate.entered.wait()
    waiting = asyncio.create_task(handle.result())
    cancelled = await handle.cancel()
    assert cancelled.status == await handle.status() == "cancelled"
    with pytest.raises(RunCancelled):
        await waiting


async def test_what_a_run_raises_is_raised_by_its_result() -> None:
    runner = Flujo(double, context_model=Strict)
    handle = await runner.start(1)
    with pytest.raises(PipelineContextInitializationError):
        await handle.result()
    assert await handle.status() == "failed"


async def test_a_failed_run_has_a_result() -> None:
    @step
    async def breaks(x: int) -> int:
        raise ValueError("no")

    handle = await Flujo(breaks).start(1)
    assert (await handle.result()).status == await handle.status() == "failed"


async def test_an_answer_lets_a_started_run_go_on_and_what_happens_comes_behind() -> None:
    pipeline = double >> Step.human_in_the_loop("ask", "How many?", int) >> double
    runner: Flujo[Any, Any] = Flujo(pipeline)
    handle = await runner.start(1)
    paused = await handle.result()
    assert paused.status == await handle.status() == "paused"
    before = [event async for event in handle.events()]
    with pytest.raises(ResumeError):
        await handle.answer()
    await handle.answer(5)
    assert (await handle.result()).output == 10
    after = [event async for event in handle.events(after=len(before))]
    assert after[0].kind == "resumed"
    assert after[-1].data.output == 10


async def test_an_answer_that_fits_no_question_leaves_the_run_as_it_is() -> None:
    ask = Step.human_in_the_loop
    fan = Step.parallel("fan", {"a": ask("a", "A?", int), "b": ask("b", "B?", int)})
    runner: Flujo[Any, Any] = Flujo(Pipeline([fan]))
    handle = await runner.start(1)
    await handle.result()
    with pytest.raises(AmbiguousAnswerError):
        await handle.answer(1)
    assert await handle.status() == "paused"


async def test_a_runner_that_closes_waits_for_started_runs_and_cancels_what_is_late() -> None:
    runner, gate = gated()
    ends = await runner.start(1)
    await gate.entered.wait()
    gate.open.set()
    await runner.aclose(drain_s=60)
    assert await ends.status() == "completed"

    runner, gate = gated()
    late = await runner.start(1)
    await gate.entered.wait()
    await runner.aclose()
    with pytest.raises(RunCancelled):
        await late.result()


def test_a_handle_is_used_from_another_loop() -> None:
    started = threading.Event()
    handles: list[Any] = []

    async def here() -> None:
        runner, gate = gated()
        handle = await runner.start(1)
        await gate.entered.wait()
        handles.append((handle, gate, asyncio.get_running_loop()))
        started.set()
        assert (await handle.result()).output == 4

    thread = threading.Thread(target=asyncio.run, args=(here(),))
    thread.start()
    started.wait()
    handle, gate, loop = handles[0]

    async def there() -> None:
        waiting = asyncio.create_task(handle.result())
        loop.call_soon_threadsafe(gate.open.set)
        assert (await waiting).output == 4
        assert [event.kind async for event in handle.events()][-1] == "run_finished"

    asyncio.run(there())
    thread.join()


async def test_a_run_that_isnt_known_is_told_so() -> None:
    handle = Flujo(double).get("never")
    for asked in (handle.status(), handle.result()):
        with pytest.raises(RunNotFoundError, match="never"):
            await asked
    with pytest.raises(RunNotFoundError, match="never"):
        [event async for event in handle.events()]
