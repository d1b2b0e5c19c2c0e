"""Runs that one process began and others look at, answer, and go on with."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flujo import Flujo, PipelineContext, Step, step
from flujo.exceptions import (
    AlreadyAnsweredError,
    ConfigurationError,
    DefinitionChangedError,
    RecordedError,
    ResumeError,
    RunBusyError,
    RunNotFoundError,
    UnsavableValueError,
)
from flujo.state import SQLiteBackend


class Count(PipelineContext):
    calls: int = 0


@step
async def double(x: int) -> int:
    return x * 2


class Gate:
    """A step that waits until it is let through."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    async def run(self, x: Any) -> Any:
        self.entered.set()
        await self.open.wait()
        return x


def runner_of(path: Path, gate: Gate | None = None, **options: Any) -> Flujo[Any, Any]:
    middle = gate or Gate()
    if gate is None:
        middle.open.set()
    pipeline = double >> Step("gate", middle) >> double
    return Flujo(pipeline, pipeline_name="doubles", state_backend=SQLiteBackend(path), **options)


def asking(path: Path, **options: Any) -> Flujo[Any, Any]:
    ask = Step.human_in_the_loop("ask", "How many?", int, **options)
    return Flujo(double >> ask >> double, pipeline_name="asks", state_backend=SQLiteBackend(path))


async def test_d20_running_a_completed_id_again_gives_its_result_and_runs_nothing(tmp_path: Path) -> None:
    calls: list[int] = []

    async def work(x: int) -> int:
        calls.append(x)
        return x + 1

    def runner() -> Flujo[Any, Any]:
        return Flujo(Step("work", work), state_backend=SQLiteBackend(tmp_path / "runs.db"))

    first = await runner().run_async(1, run_id="one")
    again = await runner().run_async(7, run_id="one")
    assert (first.output, again.output, calls) == (2, 2, [1])


async def test_d21_nothing_is_stored_unless_a_store_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLUJO_STATE_URI", raising=False)
    assert (await Flujo(double).run_async(1, run_id="one")).output == 2
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("FLUJO_STATE_URI", "sqlite:///kept.db")
    assert (await Flujo(double).run_async(1, run_id="one")).output == 2
    assert [run["run_id"] for run in await SQLiteBackend(tmp_path / "kept.db").list_runs()] == ["one"]


async def test_a_started_run_is_in_the_store_and_seen_from_another_process(tmp_path: Path) -> None:
    gate = Gate()
    here, there = runner_of(tmp_path / "runs.db", gate), runner_of(tmp_path / "runs.db")
    handle = await here.start(1, run_id="one")
    other = there.get("one")
    assert await other.status() == "running"
    await gate.entered.wait()
    waiting = asyncio.create_task(other.result())
    gate.open.set()
    assert (await handle.result()).output == (await waiting).output == 4
    assert await other.status() == "completed"


async def test_events_have_the_same_numbers_in_every_process(tmp_path: Path) -> None:
    gate = Gate()
    here, there = runner_of(tmp_path / "runs.db", gate), runner_of(tmp_path / "runs.db")
    handle = await here.start(1, run_id="one")
    seen = []
    async for event in handle.events():
        seen.append(event)
        if (event.kind, event.step) == ("step_started", "gate"):
            break
    gate.open.set()
    async for event in there.get("one").events(after=len(seen)):
        seen.append(event)
    assert [(event.kind, event.step) for event in seen] == [
        ("run_started", ""),
        ("step_started", "double"),
        ("step_finished", "double"),
        ("step_started", "gate"),
        ("step_finished", "gate"),
        ("step_started", "double"),
        ("step_finished", "double"),
        ("run_finished", ""),
    ]
    assert seen[2].data.output == 2
    assert seen[-1].data.output == 4


async def test_an_id_under_way_elsewhere_is_refused_and_its_owner_named(tmp_path: Path) -> None:
    gate = Gate()
    here, there = runner_of(tmp_path / "runs.db", gate), runner_of(tmp_path / "runs.db")
    handle = await here.start(1, run_id="one")
    await gate.entered.wait()
    for refused in (there.run_async(1, run_id="one"), there.start(1, run_id="one")):
        with pytest.raises(RunBusyError, match=str(os.getpid())) as raised:
            await refused
        assert raised.value.owner is not None and str(os.getpid()) in raised.value.owner
        assert raised.value.expires_at is not None
    gate.open.set()
    assert (await handle.result()).output == 4


async def test_a_question_is_answered_in_another_process(tmp_path: Path) -> None:
    here, there = asking(tmp_path / "runs.db"), asking(tmp_path / "runs.db")
    handle = await here.start(1, run_id="one")
    assert (await handle.result()).status == "paused"
    other = there.get("one")
    assert await other.status() == "paused"
    await other.answer(5)
    assert (await other.result()).output == 10
    assert await handle.status() == "completed"
    assert (await handle.result()).output == 10


async def test_a_paused_run_is_cancelled_in_another_process(tmp_path: Path) -> None:
    here, there = asking(tmp_path / "runs.db"), asking(tmp_path / "runs.db")
    await here.run_async(1, run_id="one")
    assert (await there.cancel("one")).status == "cancelled"
    assert await here.get("one").status() == "cancelled"


async def test_a_question_whose_time_is_over_is_gone_on_with_by_a_worker(tmp_path: Path) -> None:
    runner = asking(tmp_path / "runs.db", timeout_s=0.05, default=3)
    assert (await runner.run_async(1, run_id="one")).status == "paused"
    other = asking(tmp_path / "runs.db", timeout_s=0.05, default=3)
    async with other.worker():
        async for event in other.get("one").events():
            if event.kind == "run_finished":
                assert event.data.output == 6


async def test_a_worker_that_is_left_gives_back_what_it_has_and_another_goes_on_at_once(
    tmp_path: Path,
) -> None:
    gate = Gate()
    here, there = runner_of(tmp_path / "runs.db", gate), runner_of(tmp_path / "runs.db")
    async with here.worker(drain_s=0):
        await here.start(1, run_id="one")
        await gate.entered.wait()
    assert await there.get("one").status() == "running"
    report = await there.recover()
    assert (report.resumed, report.failed, report.skipped) == (["one"], {}, {})
    done = await there.result("one")
    assert (done.output, [result.name for result in done.step_history]) == (4, ["double", "gate", "double"])


async def test_recovering_tells_what_failed_and_what_cant_go_on(tmp_path: Path) -> None:
    gate = Gate()
    here = runner_of(tmp_path / "runs.db", gate)
    await here.start(1, run_id="one")
    await gate.entered.wait()
    await here.aclose()

    async def breaks(x: Any) -> Any:
        raise ValueError("it broke")

    def other(middle: Any, first: Any = double) -> Flujo[Any, Any]:
        return Flujo(
            first >> middle >> double,
            pipeline_name="doubles",
            state_backend=SQLiteBackend(tmp_path / "runs.db"),
        )

    # What had ended must be as it was.
    changed = other(Step("gate", breaks), first=Step("another", breaks))
    report = await changed.recover()
    assert list(report.skipped) == ["one"] and "another" in report.skipped["one"]
    with pytest.raises(DefinitionChangedError) as raised:
        await changed.run_async(1, run_id="one")
    assert any("another" in difference for difference in raised.value.differences)
    report = await other(Step("gate", breaks)).recover()
    assert list(report.failed) == ["one"] and "it broke" in report.failed["one"]


async def test_what_needs_a_store_says_so(tmp_path: Path) -> None:
    runner = Flujo(double)
    with pytest.raises(ConfigurationError, match="keeps no runs"):
        runner.worker()
    with pytest.raises(ConfigurationError, match="keeps no runs"):
        await runner.recover()
    with pytest.raises(ValueError, match="concurrency"):
        runner_of(tmp_path / "runs.db").worker(concurrency=0)
    for asked in (runner_of(tmp_path / "runs.db").get("never"),):
        with pytest.raises(RunNotFoundError, match="never"):
            await asked.status()
        with pytest.raises(RunNotFoundError, match="never"):
            await asked.result()


async def test_a_run_that_cant_be_stored_isnt_started(tmp_path: Path) -> None:
    with pytest.raises(UnsavableValueError):
        await runner_of(tmp_path / "runs.db").start(object())


async def test_the_steps_of_a_run_are_read_without_its_pipeline(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "runs.db")
    gate = Gate()
    runner = runner_of(tmp_path / "runs.db", gate)
    handle = await runner.start(1, run_id="one")
    await gate.entered.wait()
    steps = await backend.list_run_steps("one")
    assert [(s["step_name"], s["status"], s["output"]) for s in steps] == [
        ("double", "completed", 2),
        ("gate", "running", None),
    ]
    gate.open.set()
    await handle.result()
    steps = await backend.list_run_steps("one")
    assert [(s["step_name"], s["status"], s["output"]) for s in steps] == [
        ("double", "completed", 2),
        ("gate", "completed", 2),
        ("double", "completed", 4),
    ]
    state = await backend.load_state("one")
    assert state is not None
    assert (state["status"], state["current_step_index"], state["last_step_output"]) == ("completed", 3, 4)
    assert await backend.load_state("never") is None
    with pytest.raises(RunNotFoundError):
        await backend.list_run_steps("never")


async def test_a_run_under_way_isnt_deleted_and_one_that_ended_is(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "runs.db")
    gate = Gate()
    runner = runner_of(tmp_path / "runs.db", gate)
    handle = await runner.start(1, run_id="one")
    await gate.entered.wait()
    with pytest.raises(RunBusyError, match="under way"):
        await backend.delete_state("one")
    gate.open.set()
    await handle.result()
    assert await backend.purge(older_than=timedelta(days=1)) == 0
    await backend.delete_state("one")
    assert await backend.list_runs() == []


BEGINS = """
import asyncio, sys
from flujo import Flujo, Step
from flujo.state import SQLiteBackend

async def double(x):
    return x * 2

class Gate:
    async def run(self, x):
        print("entered", flush=True)
        await asyncio.Event().wait()

double = Step("double", double)
runner = Flujo(
    double >> Step("gate", Gate()) >> double,
    pipeline_name="doubles",
    state_backend=SQLiteBackend(sys.argv[1]),
)
asyncio.run(runner.run_async(1, run_id="one"))
"""


async def test_p27_a_worker_takes_over_the_run_of_a_process_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    process = subprocess.Popen([sys.executable, "-c", BEGINS, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "entered\n"
    runner = runner_of(path)
    async with runner.worker():
        assert await runner.get("one").status() == "running"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        done = await runner.get("one").result()
    assert (done.output, [result.name for result in done.step_history]) == (4, ["double", "gate", "double"])


class Refused(Exception):
    pass


async def test_a_failing_step_is_retried_and_what_it_raised_is_told_after_a_restart(tmp_path: Path) -> None:
    async def breaks(x: Any) -> Any:
        raise Refused("no tea")

    def runner() -> Flujo[Any, Any]:
        step = Step("breaks", breaks, max_retries=2)
        return Flujo(step, state_backend=SQLiteBackend(tmp_path / "runs.db"))

    failed = await runner().run_async(1, run_id="one")
    [result] = failed.step_history
    assert (result.attempts, type(result.error)) == (3, Refused)
    [again] = (await runner().result("one")).step_history
    assert isinstance(again.error, RecordedError)
    assert again.error.type_name.endswith("Refused") and again.error.message == "no tea"
    assert "in breaks" in (again.error.formatted_traceback or "")
    assert (again.attempts, again.feedback) == (result.attempts, result.feedback)
    [details] = await SQLiteBackend(tmp_path / "runs.db").list_run_steps("one")
    assert (details["status"], details["error_message"]) == ("failed", "no tea")


async def test_what_others_have_answered_since_isnt_answered_from_what_is_held_here(tmp_path: Path) -> None:
    ask = Step.human_in_the_loop

    def runner() -> Flujo[Any, Any]:
        pipeline = ask("first", "First?", int) >> ask("second", "Second?", int) >> double
        return Flujo(pipeline, pipeline_name="asks", state_backend=SQLiteBackend(tmp_path / "runs.db"))

    here, there = runner(), runner()
    held = await here.run_async(1, run_id="one")
    assert held.status == "paused"
    assert (await there.resume_async("one", 5)).status == "paused"
    for _ in range(2):
        with pytest.raises(RunBusyError, match="went on in another process"):
            await here.resume_async(held, 7)
    with pytest.raises(AlreadyAnsweredError, match=held.pauses[0].id):
        await here.resume_async("one", answers={held.pauses[0].id: 7})
    done = await here.resume_async("one", 7)
    assert [result.output for result in done.step_history] == [5, 7, 14]
    with pytest.raises(ResumeError, match="completed"):
        await there.resume_async("one", 8)
    assert (await there.resume_async("one")).output == 14
