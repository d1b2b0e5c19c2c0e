"""Parts of a step that are done once, however often the step begins anew."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from flujo import Flujo, Step, current_step
from flujo.exceptions import RunCancelled, UnsavableValueError
from flujo.state import InMemoryBackend, SQLiteBackend


async def test_a_part_is_done_once_over_all_attempts_with_and_without_a_store() -> None:
    for backend in (None, InMemoryBackend()):
        calls: list[str] = []

        async def charge(calls: list[str] = calls) -> dict[str, int]:
            calls.append("charge")
            return {"paid": 7}

        def stamp(calls: list[str] = calls) -> datetime:
            calls.append("stamp")
            return datetime(2026, 1, 2, tzinfo=UTC)

        async def order(x: Any, charge: Any = charge, stamp: Any = stamp) -> Any:
            step = current_step()
            receipt = await step.once("charge", charge)
            at = await step.once("stamp", stamp)
            receipt["paid"] += 1  # what an attempt does to its own reaches no other
            if step.attempt < 3:
                raise ConnectionError("down")
            return receipt, at

        result = await Flujo(Step("order", order, max_retries=2), state_backend=backend).run_async(1)
        assert result.output == ({"paid": 8}, datetime(2026, 1, 2, tzinfo=UTC))
        assert calls == ["charge", "stamp"]


async def test_who_asks_for_a_part_that_is_being_done_waits_for_it_and_one_that_failed_is_done_anew() -> None:
    calls: list[int] = []

    async def work() -> int:
        calls.append(len(calls))
        await asyncio.sleep(0)
        if len(calls) == 1:
            raise ValueError("the first one fails")
        return len(calls)

    async def ask(x: Any) -> Any:
        step = current_step()
        return await asyncio.gather(*(step.once("part", work) for _ in range(5)), return_exceptions=True)

    result = await Flujo(Step("ask", ask), state_backend=InMemoryBackend()).run_async(1)
    failed, *others = result.output
    assert repr(failed) == "ValueError('the first one fails')"
    assert others == [2] * 4
    assert calls == [0, 1]


async def test_a_waiter_that_is_cancelled_leaves_the_part_to_the_others() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    calls: list[int] = []

    async def work() -> str:
        calls.append(1)
        begun.set()
        await go_on.wait()
        return "done"

    async def ask(x: Any) -> Any:
        step = current_step()
        first = asyncio.ensure_future(step.once("part", work))
        await begun.wait()
        second, third = (asyncio.ensure_future(step.once("part", work)) for _ in range(2))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        go_on.set()
        return await first, second.cancelled(), await third

    result = await Flujo(Step("ask", ask), state_backend=InMemoryBackend()).run_async(1)
    assert result.output == ("done", True, "done")
    assert calls == [1]


async def test_each_step_branch_and_iteration_has_parts_of_its_own() -> None:
    calls: list[str] = []

    def work(name: str) -> Step[Any, Any]:
        async def run(x: Any) -> Any:
            def part() -> str:
                calls.append(name)
                return name

            await current_step().once("part", part)
            return x

        return Step(name, run)

    turns: list[int] = []

    def done(x: Any, context: Any) -> bool:
        turns.append(1)
        return len(turns) == 3

    pipeline = (
        work("first")
        >> work("second")
        >> Step.loop_until("loop", work("body"), done, max_loops=5)
        >> Step.parallel("fan", {"left": work("left"), "right": work("right")})
    )
    result = await Flujo(pipeline, state_backend=InMemoryBackend()).run_async(1)
    assert result.success
    assert sorted(calls) == ["body", "body", "body", "first", "left", "right", "second"]


@pytest.mark.parametrize("where", ["here", "elsewhere"])
@pytest.mark.parametrize("kept", [True, False])
async def test_a_cancelled_run_that_goes_on_does_no_part_again(where: str, kept: bool) -> None:
    calls: list[str] = []
    stops_before = ["before 1", "left 1", "left 2", "left 2", None]
    reached = asyncio.Event()

    def work(name: str) -> Step[Any, Any]:
        async def run(x: Any) -> Any:
            for number in range(3):
                part = f"{name} {number}"

                def do(part: str = part) -> str:
                    calls.append(part)
                    return part

                if stops_before[0] == part:
                    reached.set()
                    await asyncio.Event().wait()
                if part == "right 2" and stops_before[0] is not None:
                    await asyncio.Event().wait()
                assert await current_step().once(part, do) == part
            return x

        return Step(name, run)

    backend = InMemoryBackend() if kept else None
    steps = work("before") >> Step.parallel("fan", {"left": work("left"), "right": work("right")})
    runner = Flujo(steps, state_backend=backend)
    run = asyncio.ensure_future(runner.run_async(1, run_id="r"))
    while stops_before[0] is not None:
        await reached.wait()
        reached.clear()
        assert (await runner.cancel("r")).status == "cancelled"
        with pytest.raises(RunCancelled) as stopped:
            await run
        stops_before.pop(0)
        going_on: Any = stopped.value.result
        if kept and where == "elsewhere":
            runner, going_on = Flujo(steps, state_backend=backend), "r"
        run = asyncio.ensure_future(runner.resume_async(going_on))
    result = await run
    assert result.success, result.step_history
    assert sorted(calls) == [f"{name} {part}" for name in ("before", "left", "right") for part in range(3)]


async def test_what_cannot_be_saved_names_the_step_and_the_part() -> None:
    async def ask(x: Any) -> Any:
        with pytest.raises(UnsavableValueError, match="step `ask` did once as `lock`") as raised:
            await current_step().once("lock", lambda: {"held": asyncio.Lock()})
        return raised.value.path

    result = await Flujo(Step("ask", ask), state_backend=InMemoryBackend()).run_async(1)
    assert result.output == "what step `ask` did once as `lock`['held']"
    plain = Flujo(Step("ask", lambda x: asyncio.run(current_step().once("lock", asyncio.Lock))))
    assert isinstance((await plain.run_async(1)).output, asyncio.Lock)


async def test_a_part_that_asks_for_itself_and_what_is_no_function_are_refused() -> None:
    async def ask(x: Any) -> Any:
        step = current_step()
        with pytest.raises(TypeError, match="once takes a function, not int"):
            step.once("part", cast(Any, 1))
        with pytest.raises(RuntimeError, match="'part' asks for itself"):
            await step.once("part", lambda: step.once("part", lambda: 1))
        return await step.once("part", lambda: step.once("inner", lambda: 1))

    assert (await Flujo(Step("ask", ask)).run_async(1)).output == 1


KILLED = """
import asyncio, os, signal, sys
from decimal import Decimal
from pathlib import Path
from flujo import Flujo, Step, current_step
from flujo.state import SQLiteBackend

path, calls, at = sys.argv[1], Path(sys.argv[2]), sys.argv[3]

def part(name, size):
    def work():
        with calls.open("a") as file:
            file.write(f"{name}\\n")
            file.flush()
            os.fsync(file.fileno())
        return Decimal("1.5"), "x" * size
    return work

async def order(x):
    step = current_step()
    if step.attempt == 2 and at == "attempt 2":
        os.kill(os.getpid(), signal.SIGKILL)
    got = []
    for number, size in enumerate((1, 400_000, 1)):
        value, text = await step.once(f"part {number}", part(f"part {number}", size))
        got.append(value)
        if at == f"part {number}":
            os.kill(os.getpid(), signal.SIGKILL)
    if step.attempt == 1:
        raise ConnectionError("down")
    return got

step = Step("order", order, max_retries=1)
runner = Flujo(step, state_backend=SQLiteBackend(path))
result = asyncio.run(runner.run_async(0, run_id="one"))
print(result.status, result.output, result.step_history[0].attempts)
"""


def test_parts_that_were_recorded_when_the_process_died_are_not_done_again(tmp_path: Path) -> None:
    script, calls = tmp_path / "killed.py", tmp_path / "calls"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(tmp_path / "runs.db"), str(calls)]
    # The last of them also when a snapshot has taken the place of the log, which has outgrown 256 KB.
    for moment in ("part 0", "part 1", "part 2", "attempt 2"):
        killed = subprocess.run([*command, moment], capture_output=True, text=True, timeout=60, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = subprocess.run([*command, ""], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"completed {[Decimal('1.5')] * 3} 2"
    assert calls.read_text().splitlines() == ["part 0", "part 1", "part 2"]


async def test_a_part_outlives_a_run_that_is_given_back(tmp_path: Path) -> None:
    calls: list[str] = []
    begun = asyncio.Event()

    def part() -> str:
        calls.append("part")
        return "value"

    async def order(x: Any) -> Any:
        value = await current_step().once("part", part)
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        return value

    runner = Flujo(Step("order", order), state_backend=SQLiteBackend(tmp_path / "runs.db"))
    await runner.start(1, run_id="one")
    await begun.wait()
    await runner.aclose()
    assert (await runner.run_async(1, run_id="one")).output == "value"
    assert calls == ["part"]
