"""Faults that people met, in runs that are kept in a store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from flujo import Flujo, PipelineContext, Step, UsageLimits
from flujo.exceptions import RunCancelled, UnsavableValueError, UsageLimitExceededError
from flujo.state import SQLiteBackend


def test_p22_asyncio_run_twice_with_one_runner_and_its_store_works(tmp_path: Path) -> None:
    async def work(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    runner: Flujo[Any, Any] = Flujo(Step("work", work), state_backend=SQLiteBackend(tmp_path / "runs.db"))
    for number in range(3):
        assert asyncio.run(runner.run_async(number, run_id=f"run {number}")).output == number + 1
        assert runner.run(number, run_id=f"own loop {number}").output == number + 1
    assert len(asyncio.run(SQLiteBackend(tmp_path / "runs.db").list_runs("completed"))) == 6


class Locked(PipelineContext):
    lock: Any = None


async def test_p18_a_context_that_cant_be_saved_is_refused_before_the_first_step(tmp_path: Path) -> None:
    calls: list[Any] = []
    runner: Flujo[Any, Any] = Flujo(
        Step("never", calls.append),
        context_model=Locked,
        state_backend=SQLiteBackend(tmp_path / "runs.db"),
    )
    with pytest.raises(UnsavableValueError, match="lock") as raised:
        await runner.run_async(1, initial_context_data={"lock": threading.Lock()})
    assert raised.value.path.endswith(".lock")
    assert calls == []
    assert await SQLiteBackend(tmp_path / "runs.db").list_runs() == []


class Costly:
    """What a step gives that used ten tokens."""

    def __init__(self, output: int) -> None:
        self.output, self.cost_usd, self.token_counts = output, 0.0, 10


async def test_p35_a_run_that_a_limit_stopped_goes_on_in_another_process(tmp_path: Path) -> None:
    calls: list[str] = []

    def work(name: str) -> Step[Any, Any]:
        async def run(x: int) -> Any:
            calls.append(name)
            return Costly(x + 1)

        return Step(name, run)

    def runner(limit: int) -> Flujo[Any, Any]:
        return Flujo(
            work("a") >> work("b") >> work("c"),
            pipeline_name="costly",
            usage_limits=UsageLimits(total_tokens_limit=limit),
            state_backend=SQLiteBackend(tmp_path / "runs.db"),
        )

    with pytest.raises(UsageLimitExceededError) as raised:
        await runner(15).run_async(0, run_id="one")
    assert raised.value.result is not None and len(raised.value.result.step_history) == 2
    done = await runner(15).resume_async("one", usage_limits=UsageLimits(total_tokens_limit=100))
    assert (done.status, done.output, done.total_tokens) == ("completed", 3, 30)
    assert calls == ["a", "b", "c"]


class Abandoned:
    """Awaits a run until something has happened, and then leaves it where it is."""

    def __init__(self, run: Coroutine[Any, Any, Any], until: asyncio.Event) -> None:
        self.run, self.until = run, until

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self.run.__await__()
        while True:
            waits_for = next(steps)
            if self.until.is_set():
                break
            yield waits_for
        steps.close()


@pytest.mark.parametrize("asks", [False, True])
async def test_p35_a_raised_limit_holds_in_the_next_process(tmp_path: Path, asks: bool) -> None:
    calls: list[str] = []
    entered, opened = asyncio.Event(), asyncio.Event()

    def work(name: str) -> Step[Any, Any]:
        async def run(x: int) -> Any:
            calls.append(name)
            if name == "b" and not asks:
                entered.set()
                await opened.wait()
            return Costly(x + 1)

        return Step(name, run)

    def runner() -> Flujo[Any, Any]:
        between = Step.human_in_the_loop("ask") if asks else work("b")
        return Flujo(
            work("a") >> between >> work("c") >> work("d"),
            pipeline_name="costly",
            usage_limits=UsageLimits(total_tokens_limit=5),
            state_backend=SQLiteBackend(tmp_path / "runs.db"),
        )

    here = runner()
    with pytest.raises(UsageLimitExceededError):
        await here.run_async(0, run_id="one")
    going_on = here.resume_async("one", usage_limits=UsageLimits(total_tokens_limit=25))
    if asks:
        assert (await going_on).status == "paused"
        there = runner().resume_async("one", human_input=1)
    else:
        await Abandoned(going_on, entered)
        opened.set()
        there = runner().resume_async("one")
    with pytest.raises(UsageLimitExceededError) as raised:
        await there
    assert raised.value.result is not None and raised.value.result.total_tokens == 30
    assert calls == (["a", "c", "d"] if asks else ["a", "b", "b", "c"])


async def test_p19_a_cancelled_run_goes_on_in_another_process(tmp_path: Path) -> None:
    calls: list[str] = []
    entered, opened = asyncio.Event(), asyncio.Event()

    def work(name: str, gate: asyncio.Event | None = None) -> Step[Any, Any]:
        async def run(x: int) -> int:
            calls.append(name)
            if gate is not None:
                entered.set()
                await gate.wait()
            return x + 1

        return Step(name, run)

    def runner() -> Flujo[Any, Any]:
        return Flujo(
            work("a") >> work("b", opened) >> work("c"),
            pipeline_name="cancelled",
            state_backend=SQLiteBackend(tmp_path / "runs.db"),
        )

    here = runner()
    run = asyncio.create_task(here.run_async(0, run_id="one"))
    await entered.wait()
    assert (await here.cancel("one")).status == "cancelled"
    with pytest.raises(RunCancelled):
        await run
    opened.set()
    done = await runner().resume_async("one")
    assert (done.status, done.output) == ("completed", 3)
    assert calls == ["a", "b", "b", "c"], "what was under way is done again, and nothing else"


async def test_p20_what_an_abandoned_function_does_later_reaches_no_store(tmp_path: Path) -> None:
    entered, let_go, over = threading.Event(), threading.Event(), threading.Event()

    class Kept(PipelineContext):
        late: str = ""

    def slow(x: Any, *, context: Kept) -> str:
        entered.set()
        let_go.wait()
        context.late = "written too late"
        over.set()
        return "written too late"

    backend = SQLiteBackend(tmp_path / "runs.db")
    runner: Flujo[Any, Any] = Flujo(
        Step("slow", slow, timeout_s=0.05), context_model=Kept, state_backend=backend
    )
    failed = await runner.run_async(1, run_id="one")
    assert failed.status == "failed"
    let_go.set()
    over.wait()
    await backend.shutdown()
    assert b"too late" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
