"""Plain functions run in worker threads, so that the loop goes on; what can't be stopped reaches nothing afterwards."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from flujo import Flujo, PipelineContext, Step, blocking, step
from flujo.domain.validation import validator
from flujo.exceptions import PipelineAbortSignal

variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


async def test_a_blocking_step_leaves_the_loop_free() -> None:
    release = threading.Event()
    ticks = 0

    def blocks(x: int) -> int:
        assert release.wait(10)
        return x

    async def heartbeat() -> None:
        nonlocal ticks
        while ticks < 5:
            ticks += 1
            await asyncio.sleep(0)
        release.set()

    beat = asyncio.ensure_future(heartbeat())
    assert (await Flujo(Step("blocks", blocks)).run_async(1)).output == 1
    await beat
    assert ticks == 5


async def test_blocking_branches_run_at_the_same_time() -> None:
    meeting = threading.Barrier(4, timeout=10)

    def meets(x: int) -> int:
        meeting.wait()
        return x

    fan = Step.parallel("fan", {f"b{n}": Step(f"b{n}", meets) for n in range(4)})
    assert (await Flujo(fan).run_async(1)).output == {f"b{n}": 1 for n in range(4)}


async def test_inline_runs_on_the_loop_s_own_thread() -> None:
    @step(inline=True)
    def where(_: object) -> int:
        return threading.get_ident()

    @step
    def elsewhere(_: object) -> int:
        return threading.get_ident()

    assert (await Flujo(where).run_async(0)).output == threading.get_ident()
    assert (await Flujo(elsewhere).run_async(0)).output != threading.get_ident()


class Context(PipelineContext):
    x: int = 0


async def test_late_writes_of_an_abandoned_function_reach_nothing(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()
    ended = threading.Semaphore(0)
    calls = 0

    def slow(value: int, *, context: Context) -> int:
        nonlocal calls
        calls += 1
        release.wait(10)
        context.x = 99
        ended.release()
        return value

    runner = Flujo(Step("slow", slow, timeout_s=0.02, max_retries=2), context_model=Context)
    with caplog.at_level(logging.WARNING, "flujo.run"):
        result = await runner.run_async(1)
    assert calls == result.step_history[0].attempts == 3
    assert result.status == "failed"
    release.set()
    for _ in range(3):
        assert await asyncio.to_thread(ended.acquire, True, 10)
    assert result.final_pipeline_context.x == 0
    assert "slow" in caplog.text and "can't be stopped" in caplog.text


async def test_context_variables_of_the_caller_are_seen_everywhere() -> None:
    seen: dict[str, int] = {}

    def note(where: str) -> Any:
        seen[where] = variable.get()

    async def in_async(x: int) -> int:
        note("async step")
        return x

    def in_thread(x: int) -> int:
        note("thread")
        return x

    async def in_branch(x: int) -> int:
        note("branch")
        variable.set(8)
        return x

    async def in_sibling(x: int) -> int:
        await asyncio.sleep(0)
        note("sibling")
        return x

    @validator
    def in_validator(output: Any) -> bool:
        note("validator")
        return True

    async def hook(payload: Any) -> None:
        note("hook")

    async def fails(x: int) -> int:
        raise ValueError

    async def in_fallback(x: int) -> int:
        note("fallback")
        return x

    def first(output: dict[str, int]) -> int:
        return output["a"]

    pipeline = (
        Step("async", in_async, validators=[in_validator])
        >> Step("thread", in_thread)
        >> Step.parallel("fan", {"a": Step("a", in_branch), "b": Step("b", in_sibling)})
        >> Step("first", first)
        >> Step("fails", fails, max_retries=0, fallback_step=Step("fallback", in_fallback))
    )
    variable.set(7)
    result = await Flujo(pipeline, hooks=[hook]).run_async(1)
    assert result.success
    assert seen == dict.fromkeys(
        ["async step", "thread", "branch", "sibling", "validator", "hook", "fallback"], 7
    )
    assert variable.get() == 7


async def test_a_function_that_returns_a_coroutine_is_awaited_on_the_loop() -> None:
    async def inner(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    assert (await Flujo(Step("outer", lambda x: inner(x))).run_async(1)).output == 2


async def test_what_a_function_raises_is_the_step_s_error() -> None:
    def broken(x: int) -> int:
        raise KeyError("missing")

    result = await Flujo(Step("broken", broken, max_retries=0)).run_async(1)
    assert isinstance(result.step_history[0].error, KeyError)
    assert "KeyError" in (result.step_history[0].feedback or "")


def test_an_abandoned_thread_delays_neither_run_nor_exit() -> None:
    import subprocess
    import sys

    code = (
        "import threading\n"
        "from flujo import Flujo, Step\n"
        "def hang(x):\n    threading.Event().wait()\n"
        "result = Flujo(Step('hang', hang, timeout_s=0.05, max_retries=0)).run(1)\n"
        "print(result.status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "failed"), done.stderr


async def test_the_user_s_own_executor_runs_plain_functions_with_the_caller_s_context_variables() -> None:
    def where(x: int) -> tuple[str, int]:
        return threading.current_thread().name, variable.get()

    variable.set(5)
    with ThreadPoolExecutor(1, thread_name_prefix="own") as executor:
        runner = Flujo(Step("where", where), executor=executor)
        assert (await runner.run_async(1)).output == ("own_0", 5)

        def broken(x: int) -> int:
            raise KeyError("missing")

        result = await Flujo(Step("broken", broken, max_retries=0), executor=executor).run_async(1)
        assert isinstance(result.step_history[0].error, KeyError)
    refused = (await runner.run_async(1)).step_history[0]
    assert "shutdown" in (refused.feedback or "")


async def test_as_many_functions_run_at_once_as_there_are_workers() -> None:
    active, most = 0, 0
    lock = threading.Lock()

    def work(x: int) -> int:
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        threading.Event().wait(0.002)
        with lock:
            active -= 1
        return x

    fan = Step.parallel("fan", {f"b{n}": Step(f"b{n}", work) for n in range(6)})
    assert (await Flujo(fan, sync_workers=2).run_async(1)).success
    assert most <= 2


def test_workers_and_executors_that_can_t_work_are_refused() -> None:
    def work(x: int) -> int:
        return x

    step = Step("work", work)
    with pytest.raises(ValueError, match="at least 1"):
        Flujo(step, sync_workers=0)
    for workers in (True, 1.5, "2"):
        with pytest.raises(TypeError, match="sync_workers"):
            Flujo(step, sync_workers=workers)
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="not both"):
        Flujo(step, sync_workers=1, executor=executor)
    with ProcessPoolExecutor(1) as processes, pytest.raises(TypeError, match="threads of this process"):
        Flujo(step, executor=processes)
    with pytest.raises(TypeError, match="executor"):
        Flujo(step, executor="threads")


async def test_blocking_sends_a_mapper_to_a_thread_where_plain_ones_run_inline() -> None:
    @blocking
    def elsewhere(x: int) -> int:
        return threading.get_ident()

    def here(x: int) -> int:
        return threading.get_ident()

    assert (await Flujo(Step.from_mapper(elsewhere)).run_async(1)).output != threading.get_ident()
    assert (await Flujo(Step.from_mapper(here)).run_async(1)).output == threading.get_ident()


@pytest.mark.parametrize("raised", [PipelineAbortSignal("enough"), asyncio.CancelledError()])
async def test_a_function_that_ends_the_run_itself_isnt_given_up(
    raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()
    threads: set[int] = set()

    def work(value: int) -> int:
        threads.add(threading.get_ident())
        if value == 0:
            raise raised
        assert release.wait(10)
        return value

    runner: Flujo[Any, Any] = Flujo(Step("work", work, max_retries=0), sync_workers=1)
    with caplog.at_level(logging.WARNING, "flujo.run"):
        assert not (await runner.run_async(0)).success
    assert caplog.text == ""
    runs = [asyncio.ensure_future(runner.run_async(value)) for value in (1, 2, 3)]
    for _ in range(10):
        await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*runs)
    assert len(threads) == 1
