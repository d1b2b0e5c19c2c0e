"""Paused runs cost what they hold, and go when nobody holds them."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref
from typing import Any

import pytest

from flujo import Flujo, PipelineContext, Step
from flujo.application._resuming import find
from flujo.exceptions import ResumeError


class Holder(PipelineContext):
    held: Any = None


class Thing:
    """Something that can be watched."""

    def __init__(self) -> None:
        self.around: Any = None


def fan(watched: list[weakref.ref[Thing]]) -> Flujo[Any, Any]:
    async def make(data: Any) -> Thing:
        thing = Thing()
        watched.append(weakref.ref(thing))
        return thing

    def ask(name: str) -> Any:
        return Step.human_in_the_loop(name, "Go on?")

    return Flujo(
        Step("make", make) >> Step.parallel("fan", {"a": ask("a"), "b": Step("thing", make) >> ask("b")})
    )


async def test_a_thousand_paused_and_dropped_runs_leave_no_tasks_and_no_memory() -> None:
    watched: list[weakref.ref[Thing]] = []
    runner = fan(watched)
    for _ in range(50):
        await runner.run_async(1)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(1000):
            paused = await runner.run_async(1)
            assert len(paused.pauses) == 2
            del watched[:-1]
        del paused
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert after - before < 200_000, "200 bytes a run would be a leak"
    assert [reference() for reference in watched] == [None] * len(watched)


async def test_runs_that_are_resumed_leave_nothing() -> None:
    watched: list[weakref.ref[Thing]] = []
    runner = fan(watched)
    for _ in range(100):
        paused = await runner.run_async(1, run_id="again")
        done = await runner.resume_async("again", answers={pause.id: 1 for pause in paused.pauses})
        assert done.status == "completed"
    del paused, done
    gc.collect()
    assert [reference() for reference in watched if reference() is not None] == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_collector_sees_through_a_paused_run() -> None:
    watched: list[weakref.ref[Thing]] = []
    runner = fan(watched)
    paused = await runner.run_async(1)
    for reference in watched:
        thing = reference()
        assert thing is not None
        thing.around = (paused, runner)
    del paused, runner, thing
    gc.collect()
    assert [reference() for reference in watched] == [None, None]


async def test_the_collector_sees_through_the_context_of_a_paused_run() -> None:
    thing = Thing()
    watched = weakref.ref(thing)

    async def keep(data: Any, *, context: Holder) -> str:
        context.held = data
        return "kept"

    runner = Flujo(Step("keep", keep) >> Step.human_in_the_loop("ask", "Go on?"), context_model=Holder)
    paused = await runner.run_async(thing)
    thing.around = paused
    del thing, paused
    gc.collect()
    assert watched() is None


async def test_a_runner_with_a_kept_run_goes_when_nobody_holds_it() -> None:
    runner = Flujo(Step.human_in_the_loop("ask", "Go on?"))
    await runner.run_async(1, run_id="kept")
    watched = weakref.ref(runner)
    del runner
    gc.collect()
    assert watched() is None


async def test_a_resumption_that_is_let_go_is_kept_no_longer() -> None:
    async def hang(data: Any) -> Any:
        await asyncio.Event().wait()

    runner = Flujo(Step.human_in_the_loop("ask", "Go on?") >> Step("hang", hang))
    paused = await runner.run_async(1, run_id="kept")
    held = weakref.ref(find(runner, paused))
    run = runner.resume_async("kept", 2)
    run.send(None)
    run.close()
    del run, paused
    gc.collect()
    assert held() is None
    with pytest.raises(ResumeError, match="knows no paused run 'kept'"):
        await runner.resume_async("kept", 2)


async def test_a_resumption_that_is_interrupted_is_kept_no_longer() -> None:
    def interrupted(data: Any) -> Any:
        raise KeyboardInterrupt

    runner = Flujo(Step.human_in_the_loop("ask") >> Step.from_callable(interrupted, inline=True))
    await runner.run_async(1, run_id="kept")
    run = runner.resume_async("kept", 2)
    with pytest.raises(KeyboardInterrupt):
        run.send(None)
    gc.collect()
    with pytest.raises(ResumeError, match="knows no paused run 'kept'"):
        await runner.resume_async("kept", 2)
