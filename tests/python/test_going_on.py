"""Runs that a limit stopped, or that were cancelled, and go on in this process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flujo import Flujo, Step, StepConfig
from flujo.domain.agent_result import FlujoAgentResult
from flujo.domain.usage import UsageLimits
from flujo.exceptions import ResumeError, RunCancelled, UsageLimitExceededError

MORE = UsageLimits(total_cost_usd_limit=1.0)


class Work:
    """Four steps of a cent each, the fourth of which can be held up."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.begun = asyncio.Event()
        self.held = False

    def step(self, name: str, **config: Any) -> Step[Any, Any]:
        async def agent(x: int) -> FlujoAgentResult[int]:
            self.calls.append(name)
            if name == "d" and self.held:
                self.begun.set()
                await asyncio.Event().wait()
            return FlujoAgentResult(x + 1, cost_usd=0.01, token_counts=10)

        return Step(name, agent, config=StepConfig(expected_cost_usd=0.01, max_retries=0, **config))

    def pipeline(self, **config: Any) -> Any:
        return self.step("a") >> self.step("b") >> self.step("c") >> self.step("d", **config)


def partial(result: Any, status: str, last: str) -> None:
    """The history of three steps and a record of the fourth, with the cost of three."""
    assert (result.status, result.success, result.total_cost_usd, result.total_tokens) == (
        status,
        False,
        0.03,
        30,
    )
    assert [step.name for step in result.step_history] == ["a", "b", "c", "d"]
    assert [step.success for step in result.step_history] == [True, True, True, False]
    assert [step.output for step in result.step_history] == [1, 2, 3, None]
    assert result.step_history[-1].name == last


def whole(result: Any) -> None:
    assert (result.status, result.output, result.total_cost_usd, result.total_tokens) == (
        "completed",
        4,
        0.04,
        40,
    )
    assert [step.name for step in result.step_history] == ["a", "b", "c", "d"]
    assert sum(step.cost_usd for step in result.step_history) == pytest.approx(0.04)


async def test_p35_a_run_that_a_limit_stopped_goes_on_with_a_raised_one_by_its_id() -> None:
    work = Work()
    runner = Flujo(work.pipeline(), usage_limits=UsageLimits(total_cost_usd_limit=0.03))
    with pytest.raises(UsageLimitExceededError) as caught:
        await runner.run_async(0, run_id="r")
    partial(caught.value.result, "limit_exceeded", "d")
    assert work.calls == ["a", "b", "c"]
    del caught
    whole(await runner.resume_async("r", usage_limits=MORE))
    assert work.calls == ["a", "b", "c", "d"]
    by_step = runner.get_performance_statistics()["execution_time_stats"]["by_step"]
    assert [by_step[name]["count"] for name in "abc"] == [1, 1, 1]
    with pytest.raises(ResumeError, match=r"nothing to go on from|knows no paused run"):
        await runner.resume_async("r", usage_limits=MORE)


async def test_p35_a_limit_that_is_still_passed_is_refused_and_the_run_stays_as_it_was() -> None:
    work = Work()
    runner = Flujo(work.pipeline(), usage_limits=UsageLimits(total_tokens_limit=25))
    with pytest.raises(UsageLimitExceededError) as caught:
        await runner.run_async(0)
    stopped = caught.value.result
    assert stopped is not None and (stopped.status, stopped.total_tokens) == ("limit_exceeded", 30)
    for limits in (None, UsageLimits(total_tokens_limit=29)):
        with pytest.raises(ResumeError, match=r"has used \$0.03 and 30 tokens"):
            await runner.resume_async(stopped, usage_limits=limits)
    with pytest.raises(UsageLimitExceededError) as again:
        await runner.resume_async(stopped, usage_limits=UsageLimits(total_tokens_limit=35))
    assert again.value.result is not None
    assert again.value.result.total_tokens == 40
    whole(await runner.resume_async(again.value.result, usage_limits=UsageLimits(total_tokens_limit=40)))
    assert work.calls == ["a", "b", "c", "d"]


async def test_p35_a_run_that_the_runner_cancelled_goes_on() -> None:
    work = Work()
    work.held = True
    runner = Flujo(work.pipeline())
    running = asyncio.ensure_future(runner.run_async(0, run_id="r"))
    await work.begun.wait()
    stopped = await runner.cancel("r")
    with pytest.raises(RunCancelled):
        await running
    partial(stopped, "cancelled", "d")
    work.held = False
    whole(await runner.resume_async(stopped))
    assert work.calls == ["a", "b", "c", "d", "d"]


async def test_p35_a_run_whose_awaiting_task_was_cancelled_or_ran_out_of_time_goes_on() -> None:
    work = Work()
    work.held = True
    runner = Flujo(work.pipeline())

    async def in_time() -> None:
        async with asyncio.timeout(None) as limit:
            running = runner.run_async(0)
            asyncio.get_running_loop().call_soon(asyncio.ensure_future, expire(limit))
            try:
                await running
            except asyncio.CancelledError as error:
                results.append(vars(error)["flujo_result"])
                raise

    async def expire(limit: asyncio.Timeout) -> None:
        await work.begun.wait()
        limit.reschedule(asyncio.get_running_loop().time())

    results: list[Any] = []
    with pytest.raises(TimeoutError):
        await in_time()
    partial(results[0], "cancelled", "d")
    work.held = False
    whole(await runner.resume_async(results[0], usage_limits=MORE))
    assert work.calls == ["a", "b", "c", "d", "d"]


async def test_p35_a_step_that_ran_out_of_time_keeps_the_history_and_the_totals() -> None:
    work = Work()
    work.held = True
    result = await Flujo(work.pipeline(timeout_s=0.01)).run_async(0)
    partial(result, "failed", "d")
    with pytest.raises(ResumeError, match="the run is failed"):
        await Flujo(work.pipeline()).resume_async(result, usage_limits=MORE)


async def test_p35_branches_that_had_ended_are_not_run_again() -> None:
    calls: list[str] = []

    def branch(name: str) -> Step[Any, Any]:
        async def agent(x: int) -> FlujoAgentResult[str]:
            calls.append(name)
            await asyncio.sleep(0)
            return FlujoAgentResult(name, token_counts=10)

        return Step(name, agent, config=StepConfig(expected_tokens=10))

    fan = Step.parallel("fan", {name: branch(name) for name in "abcde"}, max_concurrency=2)
    runner = Flujo(
        Step("first", branch("first").agent) >> fan, usage_limits=UsageLimits(total_tokens_limit=35)
    )
    with pytest.raises(UsageLimitExceededError) as caught:
        await runner.run_async(0)
    stopped = caught.value.result
    assert stopped is not None
    before = stopped.total_tokens
    assert 10 < before <= 35
    result = await runner.resume_async(stopped, usage_limits=UsageLimits(total_tokens_limit=100))
    assert result.output == {name: name for name in "abcde"}
    assert result.total_tokens == 60 + 10 * (len(calls) - 6)
    assert calls.count("first") == 1
    finished = [step.name for step in stopped.step_history[1].step_history if step.success]
    assert all(calls.count(name) == 1 for name in finished)


async def test_what_the_limit_of_a_step_stopped_has_to_be_run_again() -> None:
    work = Work()
    step = work.step("a")
    step.usage_limits = UsageLimits(total_tokens_limit=5)
    runner = Flujo(step)
    with pytest.raises(UsageLimitExceededError) as caught:
        await runner.run_async(0)
    with pytest.raises(ResumeError, match="nothing was kept of it"):
        await runner.resume_async(caught.value.result, usage_limits=MORE)


async def test_limits_of_a_paused_run_can_t_be_changed_and_a_cancelled_one_asks_again() -> None:
    from flujo.domain.dsl import HumanInTheLoopStep

    runner = Flujo(HumanInTheLoopStep("ask", message_for_user="ok?"))
    paused = await runner.run_async(0)
    with pytest.raises(ResumeError, match="can't be changed"):
        await runner.resume_async(paused, "yes", usage_limits=MORE)
    cancelled = await runner.cancel(paused)
    assert cancelled.status == "cancelled"
    again = await runner.resume_async(cancelled)
    assert again.status == "paused"
    assert (await runner.resume_async(again, "yes")).output == "yes"
