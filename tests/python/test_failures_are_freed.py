"""A failed run is freed with its result: the error's traceback leads to the frames that hold the result, and so in a
circle, which Python's garbage collector finds."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from flujo import Flujo, PipelineContext, Step, step
from flujo.domain.processors import AgentProcessors
from flujo.exceptions import PipelineAbortSignal


class Local:
    """Held by the frame that awaits a run."""


def breaks(*_: Any, **__: Any) -> Any:
    raise ValueError("as asked for")


async def same(x: Any) -> Any:
    return x


def body() -> Step[Any, Any]:
    return Step("same", same)


def inside() -> Any:
    return Step("inside", breaks, max_retries=0)


def looped(**options: Any) -> Any:
    return Step.loop_until("loop", body(), **{"exit_condition_callable": lambda *_: True, **options})


PIPELINES: dict[str, Callable[[], Any]] = {
    "a function": inside,
    "a function, tried again": lambda: Step("tried", breaks, max_retries=2),
    "inline": lambda: step(inline=True, max_retries=0)(lambda x: breaks(x)),
    "a fallback": lambda: Step("first", breaks, fallback_step=Step("second", breaks)),
    "a fallback that succeeds": lambda: Step("first", breaks, fallback_step=body()),
    "a condition": lambda: Step.branch_on("choice", breaks, {"a": body()}),
    "an exit condition": lambda: looped(exit_condition_callable=breaks),
    "an output mapper": lambda: looped(loop_output_mapper=breaks),
    "a validator": lambda: Step("validated", same, validators=[breaks]),
    "a processor": lambda: Step("cut", same, processors=AgentProcessors(output_processors=[breaks])),
    "a branch": lambda: Step.parallel("fan", {"left": inside(), "right": body()}),
    "a branch whose failure is ignored": lambda: Step.parallel(
        "fan", {"left": inside(), "right": body()}, on_branch_failure="ignore"
    ),
    "a sub-pipeline": lambda: (body() >> inside()).as_step("sub"),
    "an item": lambda: Step.map_over("each", inside(), iterable_input="items"),
}


class Items(PipelineContext):
    items: list[int] = [1, 2]


def nothing(result: Any) -> None:
    """Nobody looks."""


def everything(result: Any) -> None:
    """Reads all results, those of lanes among them, and leaves them where they are kept."""
    waiting = [*result.step_history]
    while waiting:
        one = waiting.pop()
        assert one.error is None or isinstance(one.error, Exception)
        waiting += [*one.step_history, *one.items]


async def locals_of_a_run(runner: Flujo[Any, Any], look: Callable[[Any], None]) -> weakref.ref[Local]:
    local = Local()
    result = await runner.run_async(1)
    look(result)
    return weakref.ref(local)


def assert_freed(pipeline: Any, look: Callable[[Any], None], status: str, **options: Any) -> None:
    runner: Flujo[Any, Any] = Flujo(pipeline, context_model=Items, sync_workers=1, **options)
    statuses: list[str] = []

    def looks(result: Any) -> None:
        statuses.append(result.status)
        look(result)

    local = asyncio.run(locals_of_a_run(runner, looks))
    # The one thread for functions is through with the run as soon as it has worked for another one.
    asyncio.run(locals_of_a_run(runner, nothing))
    gc.collect()
    assert local() is None
    assert statuses == [status]


@pytest.mark.parametrize("look", [nothing, everything])
@pytest.mark.parametrize("where", PIPELINES)
def test_what_awaited_a_run_that_failed_is_freed(where: str, look: Callable[[Any], None]) -> None:
    saved = where in ("a fallback that succeeds", "a branch whose failure is ignored")
    assert_freed(PIPELINES[where](), look, "completed" if saved else "failed")


def at_first() -> Any:
    tries: list[int] = []

    def work(x: Any) -> Any:
        tries.append(1)
        return breaks() if len(tries) == 1 else x

    return step(inline=True, max_retries=1)(work)


@pytest.mark.parametrize("look", [nothing, everything])
def test_what_awaited_a_run_that_asks_after_a_failed_attempt_is_freed(look: Callable[[Any], None]) -> None:
    assert_freed(at_first() >> Step.human_in_the_loop("ask", "Go on?", bool), look, "paused")


@pytest.mark.parametrize("look", [nothing, everything])
def test_what_awaited_a_run_that_was_stopped_after_a_failed_attempt_is_freed(
    look: Callable[[Any], None],
) -> None:
    def stops(x: Any) -> Any:
        raise PipelineAbortSignal("enough")

    assert_freed(at_first() >> Step("stops", stops), look, "cancelled")


def test_hooks_that_keep_what_they_are_told_of_a_failure_leave_nothing_behind() -> None:
    async def awaits() -> weakref.ref[Local]:
        local = Local()
        kept: list[Any] = []
        pipeline = Step.parallel("fan", {"left": PIPELINES["inline"](), "right": body()})
        result = await Flujo(pipeline, hooks=[kept.append]).run_async(1)
        assert (result.success, len(kept)) == (False, 8)
        return weakref.ref(local)

    local = asyncio.run(awaits())
    gc.collect()
    assert local() is None


def test_what_somebody_keeps_of_a_failed_run_stays_whole() -> None:
    async def awaits() -> list[Any]:
        told: list[Any] = []
        pipeline = Step.parallel("fan", {"left": PIPELINES["inline"](), "right": body()})
        result = await Flujo(pipeline, hooks=[told.append]).run_async(1)
        [fan] = result.step_history
        of_hooks = [payload.step_result for payload in told if getattr(payload, "step_result", None)]
        return [fan, *fan.step_history, *of_hooks, *(one for step in of_hooks for one in step.step_history)]

    kept = asyncio.run(awaits())
    gc.collect()
    failed = [one for one in kept if one.error is not None]
    assert len(failed) >= 4
    for one in failed:
        assert one.error.args == ("as asked for",)
        assert one.error.__traceback__ is not None
    assert {one.output for one in kept if one.name == "right"} == {1}
