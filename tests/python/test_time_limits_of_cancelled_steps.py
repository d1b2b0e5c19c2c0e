"""A step that has been cancelled is still in its `finally` when its time limit is up: the cancellation stays one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import virtual_time

from flujo import Flujo, Step, StepConfig
from flujo.domain.backoff import Backoff
from flujo.exceptions import RunCancelled

LIMIT_S = 2.0
CLEANUP_S = 5.0
CONFIG = StepConfig(timeout_s=LIMIT_S, max_retries=3, backoff=Backoff.fixed(3600))


class Slow:
    """Waits for ever, and cleans up in several waits, each of which a time limit may cut short."""

    def __init__(self) -> None:
        self.calls = 0

    async def run(self, x: Any) -> Any:
        self.calls += 1
        try:
            await asyncio.Event().wait()
        finally:
            end = asyncio.get_running_loop().time() + CLEANUP_S
            while (left := end - asyncio.get_running_loop().time()) > 0:
                try:
                    await asyncio.sleep(left)
                except asyncio.CancelledError:
                    continue


def took() -> float:
    return asyncio.get_running_loop().time()


def test_of_a_cancelled_task() -> None:
    async def main() -> None:
        agent = Slow()
        task = asyncio.ensure_future(
            Flujo(Step("slow", agent, config=CONFIG), cancel_grace_s=60).run_async(1)
        )
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert (took(), agent.calls, task.cancelled()) == (1 + CLEANUP_S, 1, True)
        assert caught.value.flujo_result.status == "cancelled"

    virtual_time.run(main())


def test_of_a_cancelled_lane() -> None:
    async def fails(x: Any) -> Any:
        await asyncio.sleep(1)
        raise ValueError("no")

    async def main() -> None:
        agent = Slow()
        branches = {"slow": Step("slow", agent, config=CONFIG), "fails": Step("fails", fails, max_retries=0)}
        result = await Flujo(Step.parallel("fan", branches), cancel_grace_s=60).run_async(1)
        assert (took(), agent.calls, result.status) == (1 + CLEANUP_S, 1, "failed")
        lane = result.step_history[0].step_history[0]
        assert (lane.name, lane.feedback) == ("slow", "cancelled")

    virtual_time.run(main())


def test_of_a_run_that_is_cancelled_by_its_id() -> None:
    async def main() -> None:
        agent = Slow()
        runner = Flujo(Step("slow", agent, config=CONFIG), cancel_grace_s=60)
        run = asyncio.ensure_future(runner.run_async(1, run_id="r"))
        await asyncio.sleep(1)
        assert (await runner.cancel("r")).status == "cancelled"
        with pytest.raises(RunCancelled):
            await run
        assert (took(), agent.calls) == (1 + CLEANUP_S, 1)

    virtual_time.run(main())


def test_the_grace_holds_also_when_the_limit_is_up_in_it() -> None:
    async def main() -> None:
        agent = Slow()
        runner = Flujo(Step("slow", agent, config=CONFIG), cancel_grace_s=3)
        task = asyncio.ensure_future(runner.run_async(1))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (took(), agent.calls, task.cancelling()) == (4, 1, 1)

    virtual_time.run(main())


def test_the_grace_isn_t_renewed_by_each_wait_of_the_cleanup() -> None:
    async def main() -> None:
        async def drags(x: Any) -> Any:
            try:
                await asyncio.Event().wait()
            finally:
                for _ in range(100):
                    await asyncio.sleep(1)

        runner = Flujo(Step("drags", drags), cancel_grace_s=3)
        task = asyncio.ensure_future(runner.run_async(1))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert took() == 4

    virtual_time.run(main())


def test_a_limit_alone_is_a_timeout_also_in_a_task_that_was_cancelled_before() -> None:
    async def main() -> None:
        agent = Slow()
        runner = Flujo(Step("slow", agent, config=StepConfig(timeout_s=LIMIT_S, max_retries=1)))
        results: list[Any] = []

        async def ends() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                results.append(await runner.run_async(1))

        task = asyncio.ensure_future(ends())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (results[0].status, agent.calls, task.cancelling()) == ("failed", 2, 1)

    virtual_time.run(main())


def test_a_cancellation_after_the_limit_counts() -> None:
    async def main() -> None:
        agent = Slow()
        task = asyncio.ensure_future(
            Flujo(Step("slow", agent, config=CONFIG), cancel_grace_s=60).run_async(1)
        )
        await asyncio.sleep(LIMIT_S + 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (took(), agent.calls) == (LIMIT_S + CLEANUP_S, 1)

    virtual_time.run(main())


def test_timeouts_inside_the_cleanup_change_nothing() -> None:
    calls = 0

    async def cleans(x: Any) -> None:
        nonlocal calls
        calls += 1
        try:
            await asyncio.Event().wait()
        finally:
            while took() < 6:
                try:
                    async with asyncio.timeout(1):
                        await asyncio.Event().wait()
                except (asyncio.CancelledError, TimeoutError):
                    continue

    async def main() -> None:
        config = StepConfig(timeout_s=2.5, max_retries=3, backoff=Backoff.fixed(3600))
        task = asyncio.ensure_future(
            Flujo(Step("cleans", cleans, config=config), cancel_grace_s=60).run_async(1)
        )
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (calls, task.cancelling()) == (1, 1)
        assert 6 <= took() <= 7

    virtual_time.run(main())


def test_the_grace_of_a_run_that_is_cancelled_by_its_id_holds_after_a_timeout_that_was_taken_back() -> None:
    async def stubborn(x: Any) -> None:
        try:
            async with asyncio.timeout(1):
                await asyncio.Event().wait()
        except TimeoutError:
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    continue

    async def main() -> None:
        runner = Flujo(Step("stubborn", stubborn), cancel_grace_s=3)
        run = asyncio.ensure_future(runner.run_async(1, run_id="r"))
        await asyncio.sleep(2)
        assert (await runner.cancel("r")).status == "cancelled"
        with pytest.raises(RunCancelled):
            await run
        assert took() == 5

    virtual_time.run(main())


@pytest.mark.parametrize("first", ["limit", "task"])
def test_a_run_may_be_cancelled_by_its_id_while_its_step_cleans_up_already(first: str) -> None:
    async def main() -> None:
        agent = Slow()
        runner = Flujo(Step("slow", agent, config=CONFIG), cancel_grace_s=60)
        run = asyncio.ensure_future(runner.run_async(1, run_id="r"))
        await asyncio.sleep(1)
        if first == "task":
            run.cancel()
        await asyncio.sleep(LIMIT_S)
        assert (await runner.cancel("r")).status == "cancelled"
        with pytest.raises(RunCancelled if first == "limit" else asyncio.CancelledError):
            await run
        began = LIMIT_S if first == "limit" else 1
        assert (took(), agent.calls, run.cancelled()) == (began + CLEANUP_S, 1, first == "task")

    virtual_time.run(main())
