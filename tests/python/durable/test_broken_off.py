"""Runs that end in the middle of something, a write to their store included, go on from there and end alike."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from flujo import Flujo, Pipeline, PipelineContext, Step, step
from flujo.state import InMemoryBackend, SQLiteBackend

FIRST = 3


class Notes(PipelineContext):
    log: list[str] = Field(default_factory=list)
    items: list[int] = Field(default_factory=lambda: [3, 1, 2])
    messages: list[Any] = Field(default_factory=list)


class Raising:
    """Awaits a run and throws something into it where it waits for the nth time, or cancels the task there."""

    def __init__(self, run: Any, nth: int, error: BaseException) -> None:
        self.run = run
        self.left = nth
        self.error = error

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.run.__await__()
        error: BaseException | None = None
        while True:
            try:
                waits_for = next(steps) if error is None else steps.throw(error)
            except StopIteration as ended:
                return ended.value
            self.left -= 1
            error = None
            if self.left == 0 and isinstance(self.error, asyncio.CancelledError):
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            elif self.left == 0:
                error = self.error
            try:
                yield waits_for
            except BaseException as thrown:
                error = thrown


def note(name: str, calls: list[str]) -> Step[Any, Any]:
    async def work(value: Any, context: Notes) -> Any:
        await asyncio.sleep(0)
        calls.append(name)
        context.log.append(f"{name} {value}")
        return value

    return step(name=name)(work)


def mixed(calls: list[str]) -> Pipeline[Any, Any]:
    def name(output: dict[str, Any]) -> str:
        return "+".join(output)

    return (
        note("first", calls)
        >> Step.parallel("fan", {"left": note("left", calls), "right": note("right", calls)})
        >> Step.from_callable(name, name="name")
        >> Step.map_over("each", Pipeline.from_step(note("item", calls)), iterable_input="items")
        >> Step.loop_until(
            "loop",
            Pipeline.from_step(note("turn", calls)),
            lambda _, context: context.log[-2:].count("x") == 2,
            2,
        )
    )


def shown(result: Any) -> Any:
    steps = [(one.name, one.success, one.attempts, one.output) for one in result.step_history]
    return result.status, result.output, steps, result.final_pipeline_context.log


async def awaited(run: Any) -> Any:
    return await run


async def waits(run: Any) -> int:
    counting = Raising(run, -1, RuntimeError())
    await counting
    return -1 - counting.left


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt])
async def test_a_run_ended_where_it_waits_for_its_store_goes_on_and_ends_alike(
    tmp_path: Path, error: type[BaseException]
) -> None:
    calls: list[str] = []
    whole = await Flujo(mixed(calls), context_model=Notes).run_async("x")
    once = sorted(calls)
    backend = SQLiteBackend(tmp_path / "runs.db")
    runner = Flujo(mixed(calls), context_model=Notes, state_backend=backend)
    most = await waits(runner.run_async("x", run_id="counted"))
    assert most >= FIRST
    # Everywhere it waits: for its place in the store, before steps, inside them, for branches, at its end.
    broken = 0
    for nth in range(1, most + 1):
        calls.clear()
        run_id = f"run {nth}"
        runner = Flujo(mixed(calls), context_model=Notes, state_backend=backend)
        run = awaited(Raising(runner.run_async("x", run_id=run_id), nth, error()))
        try:
            result = await (asyncio.ensure_future(run) if error is asyncio.CancelledError else run)
        except error:
            broken += 1
        else:
            # How often it waits for its store depends on how quick that is.
            assert shown(result) == shown(whole)
            continue
        await asyncio.sleep(0)
        status = await backend.get_run_details(run_id)
        other = Flujo(mixed(calls), context_model=Notes, state_backend=backend)
        if status is not None and status["status"] == "cancelled":
            result = await other.resume_async(run_id)
        else:
            result = await other.run_async("x", run_id=run_id)
        assert shown(result) == shown(whole), (nth, error)
        # What was under way may have been made twice, nothing else.
        assert len(calls) <= len(once) + 2, (nth, calls)
        assert set(calls) == set(once)
    assert broken >= FIRST


async def test_what_is_stored_of_an_output_stays_when_a_later_step_changes_the_very_object() -> None:
    backend = InMemoryBackend()
    fails = True

    async def make(_: str) -> list[int]:
        return [1]

    async def change(given: list[int]) -> list[int]:
        given.append(2)
        if fails:
            raise KeyboardInterrupt
        return given

    def runner() -> Flujo[Any, Any]:
        return Flujo(Step("make", make) >> Step("change", change), state_backend=backend)

    with pytest.raises(KeyboardInterrupt):
        await runner().run_async("x", run_id="changed")
    fails = False
    result = await runner().run_async("x", run_id="changed")
    assert result.step_history[1].output == [1, 2]


def test_branches_and_items_are_in_declared_order_after_going_on() -> None:
    backend = InMemoryBackend()
    fails = True

    async def work(value: Any) -> Any:
        for _ in range(3 if value == 1 else 0):
            await asyncio.sleep(0)
        if fails and value == 1:
            raise KeyboardInterrupt
        return value

    def runner() -> Flujo[Any, Any]:
        items = Step.map_over(
            "items", Pipeline.from_step(Step("item", work)), iterable_input="items", max_concurrency=3
        )
        return Flujo(items, context_model=Notes, state_backend=backend)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(awaited(runner().run_async("x", run_id="ordered")))
    fails = False
    result = runner().resume("ordered")  # asyncio cancels what an interrupt has left
    assert result.output == [3, 1, 2]
    assert [item.output for item in result.step_history[0].items] == [3, 1, 2]


@pytest.mark.parametrize("nested", [False, True])
async def test_what_is_written_grows_with_what_is_new_and_not_with_what_there_is(
    tmp_path: Path, nested: bool
) -> None:
    turns, size = 300, 1000
    backend = SQLiteBackend(tmp_path / "runs.db")
    sizes: list[int] = []

    async def add(value: int, context: Notes) -> int:
        text = f"{value:04}" + "x" * size
        context.messages.append({"role": "user", "parts": [text]} if nested else text)
        wal = tmp_path / "runs.db-wal"
        sizes.append(os.path.getsize(wal) if wal.exists() else 0)
        return value + 1

    loop = Step.loop_until("loop", Pipeline.from_step(Step("add", add)), lambda value: value >= turns, turns)
    result = await Flujo(loop, context_model=Notes, state_backend=backend).run_async(0, run_id="long")
    assert result.success
    assert len(result.final_pipeline_context.messages) == turns
    backend.close()
    assert os.path.getsize(tmp_path / "runs.db") <= 3 * turns * size
