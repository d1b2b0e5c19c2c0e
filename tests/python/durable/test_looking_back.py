"""Stored runs that are forked, played again, carried over to a pipeline that has changed, and tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from flujo import Flujo, PipelineContext, Step, UsageLimits
from flujo.domain.dsl import Pipeline
from flujo.exceptions import (
    ConfigurationError,
    DefinitionChangedError,
    ForkError,
    ReplayError,
    RunExistsError,
    RunNotFoundError,
    UsageLimitExceededError,
)
from flujo.state import InMemoryBackend, SQLiteBackend
from flujo.testing import replay_test


class Notes(PipelineContext):
    log: list[str] = Field(default_factory=list)


def noting(name: str, calls: list[str], gives: Callable[[Any], Any] = lambda x: x) -> Step[Any, Any]:
    async def work(x: Any, context: Notes) -> Any:
        calls.append(name)
        context.log.append(f"{name} {x}")
        return gives(x)

    return Step(name, work)


def whole(calls: list[str], last: Callable[[Any], Any] = lambda x: x) -> Pipeline[Any, Any]:
    turns = Step.loop_until(
        "turns", noting("turn", calls, lambda x: x + 1), lambda out, context: out >= 3, max_loops=9
    )
    fan = Step.parallel("fan", {"left": noting("left", calls), "right": noting("right", calls)})
    return (
        noting("first", calls)
        >> turns
        >> Step.human_in_the_loop("ask", "go on?")
        >> fan
        >> noting("last", calls, last)
    )


async def ended(runner: Flujo[Any, Any], run_id: str) -> Any:
    paused = await runner.run_async(0, run_id=run_id)
    assert paused.status == "paused"
    return await runner.resume_async(run_id, "yes")


# --- forks


async def test_a_fork_begins_where_a_step_began_and_runs_nothing_before_it_again(tmp_path: Path) -> None:
    calls: list[str] = []
    runner = Flujo(whole(calls), context_model=Notes, state_backend=SQLiteBackend(tmp_path / "runs.db"))
    result = await ended(runner, "one")
    calls.clear()

    handle = await runner.fork("one", from_step="last", new_run_id="two")
    forked = await handle.result()
    assert (handle.id, calls) == ("two", ["last"])
    assert forked.output == result.output
    assert forked.final_pipeline_context.log == result.final_pipeline_context.log
    details = await SQLiteBackend(tmp_path / "runs.db").get_run_details("two")
    assert details is not None
    assert details["forked_from"] == "one"

    calls.clear()
    again = await (await runner.fork("one", from_step="turn", iteration=3)).result()
    assert (again.status, calls) == ("paused", ["turn"])
    calls.clear()
    # What people answered before that step is part of the new run.
    assert (await (await runner.fork("one", from_step="left")).result()).status == "completed"
    assert sorted(calls) == ["last", "left", "right"]
    # The run itself stays as it is.
    assert (await runner.run_async(0, run_id="one")).output == result.output


async def test_what_cannot_be_forked_says_why() -> None:
    calls: list[str] = []
    runner = Flujo(whole(calls), context_model=Notes, state_backend=InMemoryBackend())
    await runner.run_async(0, run_id="one")
    with pytest.raises(ForkError, match="no step `lost`; its steps are"):
        await runner.fork("one", from_step="lost")
    with pytest.raises(ForkError, match="step `last` never began"):
        await runner.fork("one", from_step="last")
    with pytest.raises(RunNotFoundError):
        await runner.fork("two", from_step="first")
    with pytest.raises(RunExistsError, match="give the new one another id"):
        await runner.fork("one", from_step="first", new_run_id="one")
    with pytest.raises(ConfigurationError, match="state_backend"):
        await Flujo(whole(calls), context_model=Notes).fork("one", from_step="first")


# --- pipelines that have changed


async def test_a_run_goes_on_where_its_steps_have_been_renamed_when_the_runner_is_told_so() -> None:
    calls: list[str] = []
    backend = InMemoryBackend()

    def pipeline(first: str) -> Pipeline[Any, Any]:
        return noting(first, calls) >> Step.human_in_the_loop("ask", "go on?") >> noting("last", calls)

    old = Flujo(pipeline("first"), context_model=Notes, state_backend=backend, pipeline_name="same")
    await old.run_async(0, run_id="one")
    assert calls == ["first"]

    new: dict[str, Any] = {"context_model": Notes, "state_backend": backend, "pipeline_name": "same"}
    with pytest.raises(DefinitionChangedError, match="`first`"):
        await Flujo(pipeline("begin"), **new).resume_async("one", "yes")

    told: list[Any] = []

    def renamed(run: Any) -> None:
        told.append((run.steps, run.differences))
        run.rename("first", "begin")

    def refused(run: Any) -> None:
        raise ValueError("runs of last year stay where they are")

    with pytest.raises(DefinitionChangedError, match="ValueError: runs of last year stay where they are"):
        await Flujo(pipeline("begin"), **new, migrate=refused).resume_async("one", "yes")
    result = await Flujo(pipeline("begin"), **new, migrate=renamed).resume_async("one", "yes")
    assert (result.output, calls) == ("yes", ["first", "last"])
    assert result.final_pipeline_context.log == ["first 0", "last yes"]
    steps, differences = told[0]
    assert steps == ["first", "ask", "last"]
    assert any("`first`" in one for one in differences)
    with pytest.raises(TypeError, match="migrate must be a function, not int"):
        Flujo(pipeline("begin"), migrate=1, **new)


# --- replays


async def test_a_run_is_played_again_without_a_call_of_agents_hooks_or_people(tmp_path: Path) -> None:
    calls: list[str] = []

    async def hook(payload: Any) -> None:
        calls.append(payload.event_name)

    made: dict[str, Any] = {"context_model": Notes, "hooks": [hook]}
    backend = SQLiteBackend(tmp_path / "runs.db")
    runner = Flujo(whole(calls), state_backend=backend, **made)
    result = await ended(runner, "one")
    calls.clear()
    replayed = await runner.replay("one")
    assert calls == []
    assert replayed.equal, str(replayed)
    assert str(replayed) == "run 'one': the same"
    assert replayed.result.output == result.output
    assert replayed.result.final_pipeline_context.log == result.final_pipeline_context.log
    names = [step.name for step in result.step_history]
    assert [step.name for step in replayed.result.step_history] == names
    assert (await runner.replay_from_trace("one")).output == result.output
    # What is stored, and what the runner knows of the run, stays as it was.
    assert (await runner.run_async(0, run_id="one")).output == result.output
    assert [run["run_id"] for run in await backend.list_runs()] == ["one"]


async def test_a_replay_says_what_is_not_as_it_was() -> None:
    calls: list[str] = []
    backend = InMemoryBackend()
    await ended(Flujo(whole(calls), context_model=Notes, state_backend=backend, pipeline_name="p"), "one")

    changed = (
        noting("first", calls)
        >> Step.loop_until(
            "turns", noting("turn", calls), lambda out, context: out >= 2, max_loops=9
        )  # one turn less
        >> Step.human_in_the_loop("ask", "go on?")
        >> noting("extra", calls)
    )
    calls.clear()
    runner = Flujo(changed, context_model=Notes, state_backend=backend, pipeline_name="p")
    replayed = await runner.replay("one")
    assert calls == []
    found = [(one.path, one.lane, one.what, one.recorded, one.now) for one in replayed.differences]
    assert ("extra", "", "call", None, "yes") in found
    assert ("turns/turn", "", "call", 2, None) in found
    assert ("fan/left/left", "fan[left]", "call", "yes", None) in found
    assert ("", "", "status", "completed", "failed") in found
    assert "extra, attempt 1: call is new, with the input 'yes'" in str(replayed)
    with pytest.raises(ReplayError, match="extra, attempt 1: call is new"):
        await runner.replay_from_trace("one")


async def test_runs_that_failed_were_stopped_or_cancelled_are_played_again_alike() -> None:
    backend = InMemoryBackend()
    begun = asyncio.Event()

    async def failing(x: Any) -> Any:
        raise ValueError("no")

    async def lasting(x: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    async def costly(x: Any) -> Any:
        from flujo.agents import AgentResult, AgentUsage

        return AgentResult("paid", usage=AgentUsage(cost_usd=1.0))

    branches: dict[str, Any] = {"bad": Step("bad", failing), "slow": Step("slow", lasting)}
    fails = Flujo(Step.parallel("fan", branches), state_backend=backend, pipeline_name="fails")
    assert (await fails.run_async(1, run_id="fails")).status == "failed"

    limits = UsageLimits(total_cost_usd_limit=1.5)
    pays = Step("one", costly) >> Step("two", costly) >> Step("three", costly)
    stops = Flujo(pays, state_backend=backend, pipeline_name="stops", usage_limits=limits)
    with pytest.raises(UsageLimitExceededError):
        await stops.run_async(1, run_id="stops")

    begun.clear()
    ends = Flujo(
        Step("quick", lambda x: x) >> Step("slow", lasting), state_backend=backend, pipeline_name="c"
    )
    run = asyncio.ensure_future(ends.run_async(1, run_id="cancelled"))
    await begun.wait()
    run.cancel()
    await asyncio.wait([run])

    asks = Flujo(whole([]), context_model=Notes, state_backend=backend, pipeline_name="asks")
    await asks.run_async(0, run_id="asks")
    await asks.cancel("asks")

    for runner, run_id, status in (
        (fails, "fails", "failed"),
        (stops, "stops", "limit_exceeded"),
        (ends, "cancelled", "cancelled"),
        (asks, "asks", "cancelled"),
    ):
        replayed = await runner.replay(run_id)
        assert replayed.equal, str(replayed)
        assert replayed.result.status == status


async def test_a_call_that_nobody_cancels_any_more_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from flujo import BranchFailureStrategy
    from flujo.application import _replaying

    async def failing(x: Any) -> Any:
        raise ValueError("no")

    async def lasting(x: Any) -> Any:
        await asyncio.Event().wait()

    backend = InMemoryBackend()
    branches: dict[str, Any] = {"bad": Step("bad", failing), "slow": Step("slow", lasting)}
    then = Flujo(Step.parallel("fan", branches), state_backend=backend, pipeline_name="p")
    assert (await then.run_async(1, run_id="one")).status == "failed"
    tolerant = Step.parallel("fan", branches, on_branch_failure=BranchFailureStrategy.IGNORE)
    now = Flujo(tolerant, state_backend=backend, pipeline_name="p")
    monkeypatch.setattr(_replaying, "_STUCK_S", 0.01)
    replayed = await now.replay("one")
    assert "fan/slow/slow in fan[slow], attempt 2: call is new" in str(replayed)


async def test_runs_that_went_on_after_a_stop_or_in_another_process_are_played_again_alike(
    tmp_path: Path,
) -> None:
    from flujo.agents import AgentResult, AgentUsage

    begun: list[str] = []
    waits = asyncio.Event()

    def paying(name: str, lasts: bool = False) -> Step[Any, Any]:
        async def pay(x: Any) -> Any:
            begun.append(name)
            if lasts and begun.count(name) < 3:
                waits.set()
                await asyncio.Event().wait()
            return AgentResult(x + 1, usage=AgentUsage(cost_usd=1.0))

        return Step(name, pay)

    pipeline = paying("one") >> paying("two") >> paying("three", lasts=True)
    runner = Flujo(
        pipeline,
        state_backend=SQLiteBackend(tmp_path / "runs.db"),
        usage_limits=UsageLimits(total_cost_usd_limit=1.5),
    )
    with pytest.raises(UsageLimitExceededError):
        await runner.run_async(1, run_id="one")
    run = asyncio.ensure_future(runner.resume_async("one", usage_limits=UsageLimits(total_cost_usd_limit=9)))
    await waits.wait()
    run.cancel()
    await asyncio.wait([run])
    waits.clear()
    more = UsageLimits(total_cost_usd_limit=9)
    run = asyncio.ensure_future(runner.resume_async("one", usage_limits=more))
    await waits.wait()
    await asyncio.sleep(0)
    run.cancel()
    await asyncio.wait([run])
    done = await runner.resume_async("one", usage_limits=more)
    assert (done.output, begun) == (4, ["one", "two", "three", "three", "three"])
    replayed = await runner.replay("one")
    assert replayed.equal, str(replayed)
    assert (replayed.result.output, replayed.result.total_cost_usd) == (4, done.total_cost_usd)

    waits.clear()
    begun.clear()
    other = Flujo(pipeline, state_backend=SQLiteBackend(tmp_path / "runs.db"), pipeline_name="other")
    await other.start(1, run_id="two")
    await waits.wait()
    await other.aclose()
    begun.append("three")
    assert (await other.run_async(1, run_id="two")).output == 4
    replayed = await other.replay("two")
    assert replayed.equal, str(replayed)


async def test_retries_with_backoff_and_cached_results_are_played_without_a_wait_or_a_look() -> None:
    from flujo import Backoff, StepConfig

    calls: list[int] = []

    async def shaky(x: Any) -> Any:
        calls.append(x)
        if len(calls) == 1:
            raise ConnectionError("down")
        return len(calls)

    config = StepConfig(max_retries=2, backoff=Backoff.fixed(0.01))
    cached = Step.cached(Step("shaky", shaky, config=config))
    backend = InMemoryBackend()
    runner = Flujo(cached >> Step("same", lambda x: x), state_backend=backend)
    first, second = await runner.run_async(7, run_id="one"), await runner.run_async(7, run_id="two")
    assert (first.output, second.output, second.step_history[0].cache_hit) == (2, 2, True)
    for run_id, attempts in (("one", 2), ("two", 0)):
        replayed = await runner.replay(run_id)
        assert replayed.equal, str(replayed)
        assert replayed.result.step_history[0].attempts == attempts
    assert calls == [7, 7]


async def test_a_run_that_cannot_be_played_again_says_why() -> None:
    runner = Flujo(whole([]), context_model=Notes, state_backend=InMemoryBackend())
    await runner.run_async(0, run_id="one")
    with pytest.raises(ReplayError, match="run `one` can't be replayed: it hasn't ended"):
        await runner.replay("one")
    with pytest.raises(RunNotFoundError):
        await runner.replay("two")
    steps = Step("long", lambda x: "x" * 600_000) >> Step("short", len)
    long = Flujo(steps, state_backend=InMemoryBackend())
    await long.run_async(0, run_id="long")
    with pytest.raises(ReplayError, match="its log isn't kept from the beginning on"):
        await long.replay("long")


def test_a_stored_run_is_a_test_of_its_pipeline(tmp_path: Path) -> None:
    path, calls = tmp_path / "runs.db", list[str]()
    backend = SQLiteBackend(path)
    runner = Flujo(noting("a", calls) >> noting("b", calls), state_backend=backend, context_model=Notes)
    runner.run(1, run_id="order 7")

    test = replay_test("order 7", runner)
    assert test.__name__ == "test_replay_of_order_7"
    test()
    replay_test("order 7", lambda: runner)()
    plain = Step("a", lambda x: x) >> Step("b", lambda x: x)
    Flujo(plain, state_backend=backend, pipeline_name="plain").run(1, run_id="plain")
    backend.close()
    replay_test("plain", plain, state_backend=path)()
    other = Step("a", lambda x: x) >> Step("c", lambda x: x)
    with pytest.raises(AssertionError, match="c, attempt 1: call is new, with the input 1"):
        replay_test("plain", other, state_backend=str(path))()
    with pytest.raises(TypeError, match="needs state_backend="):
        replay_test("plain", plain)
    with pytest.raises(TypeError, match="a runner has a store"):
        replay_test("plain", Flujo(plain), state_backend=path)


# --- older names


async def test_runs_that_failed_are_tried_again_where_they_failed() -> None:
    calls: list[str] = []

    async def shaky(x: Any) -> Any:
        calls.append("shaky")
        if calls.count("shaky") < 3:
            raise ConnectionError("down")
        return x

    pipeline = Step("first", lambda x: x + 1) >> Step("shaky", shaky, max_retries=0)
    backend = InMemoryBackend()
    runner = Flujo(pipeline, state_backend=backend, pipeline_name="tasks")
    for run_id in ("a", "b"):
        await (await runner.start(1, run_id=run_id)).result()
    assert [run["run_id"] for run in await runner.get_failed_background_tasks()] == ["b", "a"]
    assert (await runner.resume_background_task("b")).output == 2
    assert [result.output for result in await runner.retry_failed_background_tasks()] == [2]
    assert await runner.retry_failed_background_tasks() == []
    assert calls == ["shaky"] * 4
    assert await runner.cleanup_stale_background_tasks() == 0


async def test_events_of_a_paused_run_that_another_process_left_are_told_where_it_goes_on() -> None:
    backend = InMemoryBackend()
    made: dict[str, Any] = {"context_model": Notes, "state_backend": backend, "pipeline_name": "p"}
    await Flujo(whole([]), **made).run_async(0, run_id="one")
    other = Flujo(whole([]), **made)
    events = [event async for event in other.resume_with_events("one", "yes")]
    assert events[-1].kind == "run_finished"
    assert events[-1].data.status == "completed"
    assert [event.step for event in events if event.kind == "resumed"] == ["ask"]
