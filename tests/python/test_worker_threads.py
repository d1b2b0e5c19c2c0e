"""The threads that plain functions run in: as many as were asked for, also where some can't be stopped."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flujo import Flujo, Step

pytestmark = pytest.mark.asyncio


class Functions:
    """Functions that wait until they are let go, and how many of them run."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = self.most = 0
        self.threads: set[int] = set()
        self.go_on, self.proceed = threading.Event(), threading.Event()
        self.hangs, self.ended = threading.Semaphore(0), threading.Semaphore(0)
        self.began = threading.Semaphore(0)
        self.proceed.set()

    def hang(self, value: int) -> int:
        """Comes to an end once it is let go."""
        self.hangs.release()
        try:
            assert self.go_on.wait(60)
            return value
        finally:
            self.ended.release()

    def work(self, value: int) -> int:
        """Takes a moment, unless it is held up."""
        with self.lock:
            self.threads.add(threading.get_ident())
            self.running += 1
            self.most = max(self.most, self.running)
        self.began.release()
        assert self.proceed.wait(60)
        threading.Event().wait(0.002)
        with self.lock:
            self.running -= 1
        return value


async def came(what: threading.Semaphore) -> None:
    """Waits until a function has come so far."""
    assert await asyncio.to_thread(what.acquire, timeout=60)


async def given_up(run: asyncio.Task[Any], functions: Functions) -> None:
    """Cancels a run whose function hangs."""
    await came(functions.hangs)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


def runner(functions: Functions, work_s: float | None = None) -> Flujo[Any, Any]:
    """One worker thread, in which a number below 0 hangs and others take a moment, with a time limit up to 99."""
    steps = {
        "hang": Step("hang", functions.hang, max_retries=0),
        "hurry": Step("hurry", functions.work, max_retries=0, timeout_s=work_s),
        "work": Step("work", functions.work, max_retries=0),
    }

    def which(value: int, _: object) -> str:
        return "hang" if value < 0 else "hurry" if value < 100 else "work"

    branch = Step.branch_on("which", which, steps)
    return Flujo(branch, sync_workers=1)


async def test_what_waits_for_a_thread_gets_one_when_another_is_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    functions = Functions()
    runs = runner(functions)
    with caplog.at_level(logging.WARNING, "flujo.run"):
        stuck, *waiting = (asyncio.ensure_future(runs.run_async(value)) for value in (-1, 1, 2, 3))
        await given_up(stuck, functions)
        assert [(await run).output for run in waiting] == [1, 2, 3]
        assert not functions.ended.acquire(blocking=False)
    assert caplog.text.count("goes on in its thread") == 1
    assert functions.most == 1
    functions.go_on.set()


async def test_a_thread_that_was_given_up_and_ends_isnt_one_too_many() -> None:
    functions = Functions()
    runs = runner(functions)
    for value in (-1, -2, -3):
        await given_up(asyncio.ensure_future(runs.run_async(value)), functions)
    functions.proceed.clear()
    beside = asyncio.ensure_future(runs.run_async(1))
    await came(functions.began)
    functions.go_on.set()
    for _ in range(3):
        await came(functions.ended)
    functions.proceed.set()
    assert (await beside).success
    await asyncio.gather(*(runs.run_async(value) for value in range(20)))
    assert functions.most == 1


async def test_what_was_cancelled_before_it_began_runs_in_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    functions = Functions()
    runs = runner(functions, work_s=0.02)
    with caplog.at_level(logging.WARNING, "flujo.run"):
        stuck = asyncio.ensure_future(runs.run_async(-1))
        late = await asyncio.gather(*(runs.run_async(value) for value in range(3)))
    assert [result.success for result in late] == [False] * 3
    assert (functions.most, caplog.text) == (0, "")
    functions.go_on.set()
    assert (await stuck).output == -1
    await asyncio.gather(*(runs.run_async(value) for value in range(100, 120)))
    assert (functions.most, len(functions.threads)) == (1, 1)


async def test_what_an_executor_hasnt_begun_isnt_said_to_go_on(caplog: pytest.LogCaptureFixture) -> None:
    functions = Functions()
    with ThreadPoolExecutor(1) as executor, caplog.at_level(logging.WARNING, "flujo.run"):
        hanging: Flujo[Any, Any] = Flujo(Step("hang", functions.hang), executor=executor)
        stuck = asyncio.ensure_future(hanging.run_async(1))
        await came(functions.hangs)
        late = Step("late", functions.work, max_retries=0, timeout_s=0.02)
        assert not (await Flujo(late, executor=executor).run_async(1)).success
        functions.hangs.release()
        await given_up(stuck, functions)
        functions.go_on.set()
    assert functions.most == 0
    assert [record.getMessage().split(" ")[0] for record in caplog.records] == ["Functions.hang"]


async def test_what_an_executor_that_is_shut_down_drops_fails() -> None:
    functions = Functions()
    executor = ThreadPoolExecutor(1)
    steps = [Step("hang", functions.hang, max_retries=0), Step("late", functions.work, max_retries=0)]
    runners: list[Flujo[Any, Any]] = [Flujo(step, executor=executor) for step in steps]
    runs = [asyncio.ensure_future(runner.run_async(1)) for runner in runners]
    await came(functions.hangs)
    executor.shutdown(wait=False, cancel_futures=True)
    functions.go_on.set()
    begun, dropped = await asyncio.gather(*runs)
    assert begun.output == 1
    assert "the executor was shut down before it began" in (dropped.step_history[0].feedback or "")


async def test_without_room_for_a_thread_a_step_fails_or_waits_for_one_that_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    functions = Functions()
    runs: Flujo[Any, Any] = Flujo(Step("work", functions.work, max_retries=0), sync_workers=2)

    def no_room(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_room)
        failed = await runs.run_async(1)
    assert "can't start new thread" in (failed.step_history[0].feedback or "")
    assert (await runs.run_async(2)).output == 2
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_room)
        results = await asyncio.gather(*(runs.run_async(value) for value in range(5)))
    assert [result.output for result in results] == list(range(5))
    assert (functions.most, len(functions.threads)) == (1, 1)
    functions.proceed.clear()
    functions.began = threading.Semaphore(0)
    both = [asyncio.ensure_future(runs.run_async(value)) for value in range(2)]
    for _ in both:
        await came(functions.began)
    functions.proceed.set()
    assert all(result.success for result in await asyncio.gather(*both))
