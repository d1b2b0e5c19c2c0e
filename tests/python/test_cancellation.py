"""Cancelling a run reaches every coroutine it awaits, keeps what was done, and leaves nothing running."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from flujo import Flujo, Pipeline, Step, StepConfig, step
from flujo.domain.backoff import Backoff


def _left() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


@step
async def first(x: int) -> int:
    return x + 1


class Hanging:
    """An agent that waits for ever, and tells when it began and when its `finally` ran."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cleaned = False
        self.calls = 0

    async def run(self, x: int) -> int:
        self.calls += 1
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cleaned = True
        return x


async def _cancelled(runner: Flujo[Any, Any], began: asyncio.Event) -> Any:
    task = asyncio.ensure_future(runner.run_async(1))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value.flujo_result


async def test_a_cancelled_step_cleans_up_and_is_not_retried_and_history_is_kept() -> None:
    agent = Hanging()
    fallback = Hanging()
    pipeline = first >> Step("hang", agent, max_retries=3, fallback_step=Step("saver", fallback))
    result = await _cancelled(Flujo(pipeline), agent.began)
    assert agent.cleaned
    assert (agent.calls, fallback.calls) == (1, 0)
    assert result.status == "cancelled"
    assert [record.name for record in result.step_history] == ["first", "hang"]
    assert [record.success for record in result.step_history] == [True, False]
    assert _left() == set()


async def test_a_run_cancelled_in_backoff_makes_no_further_attempt() -> None:
    failed = asyncio.Event()
    calls = 0

    async def fail(x: int) -> int:
        nonlocal calls
        calls += 1
        failed.set()
        raise ValueError("no")

    config = StepConfig(max_retries=5, backoff=Backoff.fixed(3600))
    result = await _cancelled(Flujo(Step("fail", fail, config=config)), failed)
    assert calls == 1
    assert result.status == "cancelled"
    assert _left() == set()


async def test_cancelling_reaches_every_branch_of_nested_parallel_steps() -> None:
    agents = [Hanging() for _ in range(4)]
    inner = {f"i{place}": Step(f"i{place}", agent) for place, agent in enumerate(agents[:2])}
    outer: dict[str, Any] = {"nested": Step.parallel("inner", inner)}
    outer |= {f"o{place}": Step(f"o{place}", agent) for place, agent in enumerate(agents[2:])}
    everyone = asyncio.Event()

    async def watch() -> None:
        for agent in agents:
            await agent.began.wait()
        everyone.set()

    watcher = asyncio.ensure_future(watch())
    result = await _cancelled(Flujo(Step.parallel("outer", outer)), everyone)
    await watcher
    assert [agent.cleaned for agent in agents] == [True] * 4
    assert result.status == "cancelled"
    assert _left() == set()


async def test_the_very_exception_that_came_in_goes_out() -> None:
    agent = Hanging()

    async def outer() -> None:
        try:
            async with asyncio.timeout(0.01):
                await Flujo(Step("hang", agent)).run_async(1)
        except TimeoutError as error:
            cancelled = error.__context__  # Python 3.11.2 doesn't make it the cause
            assert isinstance(cancelled, asyncio.CancelledError)
            assert cancelled.flujo_result.status == "cancelled"
            raise

    with pytest.raises(TimeoutError):
        await outer()
    assert agent.cleaned


async def test_a_step_s_own_timeout_is_its_own_matter() -> None:
    async def careful(x: int) -> str:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "gave up"
        return "never"

    result = await Flujo(Step("careful", careful) >> Step("after", _same)).run_async(1)
    assert (result.status, result.output) == ("completed", "gave up")


async def _same(x: Any) -> Any:
    return x


async def test_a_step_that_swallows_the_cancellation_does_not_save_the_run() -> None:
    began = asyncio.Event()
    later: list[int] = []

    async def stubborn(x: int) -> int:
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return x

    async def never(x: int) -> int:
        later.append(x)
        return x

    result = await _cancelled(Flujo(Step("stubborn", stubborn) >> Step("never", never)), began)
    assert result.status == "cancelled"
    assert later == []


async def test_a_cancelled_error_of_somebody_else_s_task_is_a_failure_of_the_step() -> None:
    async def waits_for_a_cancelled_task(x: int) -> int:
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task
        return x

    result = await Flujo(Step("waits", waits_for_a_cancelled_task, max_retries=0)).run_async(1)
    assert result.status == "failed"
    assert isinstance(result.step_history[0].error, asyncio.CancelledError)


async def test_after_a_cancelled_run_the_same_runner_works() -> None:
    agent = Hanging()
    hangs = True

    async def maybe(x: int) -> int:
        return await agent.run(x) if hangs else x

    runner = Flujo(Step("maybe", maybe))
    await _cancelled(runner, agent.began)
    hangs = False
    assert (await runner.run_async(7)).output == 7


async def test_a_task_cancelled_before_it_began_calls_nothing() -> None:
    agent = Hanging()
    task = asyncio.ensure_future(Flujo(Step("hang", agent)).run_async(1))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert agent.calls == 0


async def test_a_branch_that_fails_cancels_and_awaits_its_siblings() -> None:
    slow = Hanging()

    async def cheap(x: int) -> Any:
        return Costly(x)

    async def fail(x: int) -> int:
        await slow.began.wait()
        raise ValueError("broken")

    fan = Step.parallel(
        "fan", {"a": Step("a", cheap), "b": Step("b", fail, max_retries=0), "c": Step("c", slow)}
    )
    result = await Flujo(fan).run_async(1)
    assert slow.cleaned
    assert result.status == "failed"
    record = result.step_history[0]
    assert "branch 'b' failed" in (record.feedback or "")
    assert [(branch.name, branch.success) for branch in record.step_history] == [
        ("a", True),
        ("b", False),
        ("c", False),
    ]
    assert record.cost_usd == result.total_cost_usd == 1.0
    assert _left() == set()


class Costly:
    """An output that says what it cost."""

    def __init__(self, output: object) -> None:
        self.output = output
        self.cost_usd = 1.0
        self.token_counts = 10


async def test_with_ignore_every_branch_completes_and_a_failed_one_has_an_explicit_entry() -> None:
    async def fail(x: int) -> int:
        raise ValueError("broken")

    fan = Step.parallel(
        "fan",
        {"a": Step("a", _same), "b": Step("b", fail, max_retries=0), "c": Step("c", _same)},
        on_branch_failure="ignore",
    )
    result = await Flujo(fan).run_async(1)
    assert result.success
    assert list(result.output) == ["a", "b", "c"]
    assert result.output["a"] == result.output["c"] == 1
    assert result.output["b"].success is False
    assert "broken" in result.output["b"].feedback


async def test_timeout_retries_and_then_fails_within_its_attempts() -> None:
    calls = 0

    async def slow(x: int) -> int:
        nonlocal calls
        calls += 1
        await asyncio.Event().wait()
        return x

    result = await Flujo(Step("slow", slow, timeout_s=0.01, max_retries=2)).run_async(1)
    assert calls == 3
    assert result.status == "failed"
    assert result.step_history[0].attempts == 3
    assert "time limit" in (result.step_history[0].feedback or "")
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0


async def test_a_deadline_holds_for_the_step_with_its_retries() -> None:
    async def slow(x: int) -> int:
        await asyncio.Event().wait()
        return x

    result = await Flujo(Step("slow", slow, deadline_s=0.02, max_retries=50)).run_async(1)
    assert result.status == "failed"
    assert result.step_history[0].attempts == 1
    assert "deadline" in (result.step_history[0].feedback or "")


async def test_a_deadline_of_the_run_ends_parallel_branches() -> None:
    agents = [Hanging(), Hanging()]
    fan = Step.parallel("fan", {"a": Step("a", agents[0]), "b": Step("b", agents[1])})
    result = await Flujo(Pipeline([fan]), deadline_s=0.02).run_async(1)
    assert result.status == "failed"
    assert [agent.cleaned for agent in agents] == [True, True]
    assert _left() == set()


async def test_what_a_cancelled_call_says_it_had_used_is_counted() -> None:
    began = asyncio.Event()

    async def agent(x: int) -> int:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            error.token_counts = 7
            raise
        return x

    result = await _cancelled(Flujo(Step("s", agent, max_retries=3)), began)
    assert (result.status, result.total_tokens) == ("cancelled", 7)
    assert result.step_history[0].token_counts == 7
