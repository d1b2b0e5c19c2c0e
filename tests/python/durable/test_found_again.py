"""What a kept run holds that lives in one process, and is found again in another: agents that plugins ask for, and
collections that are read item by item."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from flujo import Flujo, Pipeline, Step
from flujo.domain.plugins import PluginOutcome
from flujo.exceptions import UnsavableValueError
from flujo.state import InMemoryBackend


class Gate:
    """Whoever makes this call waits for ever, as long as it is closed."""

    def __init__(self, at: Any) -> None:
        self.at = at
        self.closed = True
        self.entered = asyncio.Event()
        self.calls: list[Any] = []

    async def go(self, call: Any) -> None:
        self.calls.append(call)
        if self.closed and call == self.at:
            self.entered.set()
            await asyncio.Event().wait()


async def begins_and_dies(runner: Flujo, data: Any, gate: Gate) -> None:
    await runner.start(data, run_id="the run")
    await gate.entered.wait()
    await runner.aclose(drain_s=0)
    gate.closed = False


class Expert:
    gate = Gate(None)

    async def run(self, x: str) -> str:
        await self.gate.go("expert")
        return f"expert {x}"


expert = Expert()


class Asks:
    """A plugin that lets an expert do what somebody else did."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    async def validate(self, data: dict[str, Any]) -> PluginOutcome:
        if str(data["output"]).startswith("expert"):
            return PluginOutcome(success=True)
        return PluginOutcome(success=False, redirect_to=self.agent)


async def draft(x: str) -> str:
    await Expert.gate.go("draft")
    return f"draft {x}"


def drafting(asked: Any) -> Step[Any, Any]:
    return Step("draft", draft, plugins=[(Asks(asked), 0)])


def of_a_module() -> Pipeline[Any, Any]:
    return Pipeline.from_step(drafting(expert))


def of_a_step() -> Pipeline[Any, Any]:
    agent = Expert()
    return drafting(agent) >> Step("review", agent)


def by_name() -> Pipeline[Any, Any]:
    return Pipeline.from_step(drafting(f"{__name__}:expert"))


@pytest.mark.parametrize("made", [of_a_module, of_a_step, by_name])
async def test_a_redirected_run_goes_on_with_the_same_agent(made: Any) -> None:
    Expert.gate = gate = Gate("expert")
    store = InMemoryBackend()
    await begins_and_dies(Flujo(made(), state_backend=store), "x", gate)
    assert gate.calls == ["draft", "expert"]
    result = await Flujo(made(), state_backend=store).run_async("x", run_id="the run")
    assert result.status == "completed", result.step_history
    assert str(result.output).startswith("expert")


async def test_an_agent_that_nobody_finds_again_is_refused_and_says_so() -> None:
    Expert.gate = Gate(None)
    runner = Flujo(drafting(Expert()), state_backend=InMemoryBackend())
    result = await runner.run_async("x", run_id="the run")
    assert result.status == "failed"
    refused = result.step_history[0].error
    assert isinstance(refused, UnsavableValueError)
    assert "must be found again" in str(refused)
    assert "draft" in (refused.path or "")


async def test_a_name_that_nothing_has_fails_the_step() -> None:
    Expert.gate = Gate(None)
    runner = Flujo(drafting("nobody"), state_backend=InMemoryBackend())
    result = await runner.run_async("x", run_id="the run")
    assert "nobody" in (result.step_history[0].feedback or "")


class Items:
    """Gives numbers, one by one, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.count = 6
        self.opened = 0

    async def asynchronous(self, _: Any) -> AsyncIterator[int]:
        self.opened += 1
        for number in range(self.count):
            yield number

    def plain(self, _: Any) -> Iterator[int]:
        self.opened += 1
        yield from range(self.count)


def mapped(items: Any, gate: Gate, at_once: int = 1) -> Any:
    async def work(x: int) -> int:
        await gate.go(x)
        return 10 * x

    return Step.map_over("each", Step("work", work), iterable_input=items, max_concurrency=at_once)


@pytest.mark.parametrize("kind", ["asynchronous", "plain"])
async def test_a_collection_that_is_read_item_by_item_is_read_on_past_what_was_taken(kind: str) -> None:
    items, gate, store = Items(), Gate(2), InMemoryBackend()
    given = getattr(items, kind)
    await begins_and_dies(Flujo(mapped(given, gate), state_backend=store), "x", gate)
    assert (items.opened, gate.calls) == (1, [0, 1, 2])
    result = await Flujo(mapped(given, gate), state_backend=store).run_async("x", run_id="the run")
    assert result.output == [0, 10, 20, 30, 40, 50]
    # What was under way is done again, from what was kept of it.
    assert (items.opened, gate.calls) == (2, [0, 1, 2, 2, 3, 4, 5])


async def test_items_that_were_taken_and_not_finished_are_kept() -> None:
    items, gate, store = Items(), Gate(2), InMemoryBackend()
    await begins_and_dies(Flujo(mapped(items.plain, gate, 3), state_backend=store), "x", gate)
    result = await Flujo(mapped(items.plain, gate, 3), state_backend=store).run_async("x", run_id="the run")
    assert result.output == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize("kind", ["asynchronous", "plain"])
async def test_a_collection_that_gives_fewer_items_the_next_time_fails_the_map(kind: str) -> None:
    items, gate, store = Items(), Gate(2), InMemoryBackend()
    given = getattr(items, kind)
    await begins_and_dies(Flujo(mapped(given, gate), state_backend=store), "x", gate)
    items.count = 1
    result = await Flujo(mapped(given, gate), state_backend=store).run_async("x", run_id="the run")
    assert result.status == "failed"
    assert "gave 1 items where 3 had been taken" in (result.step_history[0].feedback or "")
