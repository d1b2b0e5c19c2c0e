"""Cancelling a run by its id, looking at its result, and how long a cancelled step may take to end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
from typing import Any

import pytest
import virtual_time

from flujo import Flujo, Step, current_step
from flujo.exceptions import ResumeError, RunCancelled, RunNotFoundError


class Hanging:
    """An agent that waits for ever, then cleans up in so many seconds."""

    def __init__(self, cleans_up_s: float = 0, *, stubborn: bool = False) -> None:
        self.began = asyncio.Event()
        self.cleaned = False
        self.told_at: list[float] = []
        self._cleans_up_s = cleans_up_s
        self._stubborn = stubborn

    async def run(self, x: int) -> int:
        self.began.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.told_at.append(asyncio.get_running_loop().time())
                if self._stubborn:
                    continue
                await asyncio.sleep(self._cleans_up_s)
                self.cleaned = True
                raise


async def _first(x: int) -> int:
    return x + 1


def _left() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


# --- cancel and result


async def test_cancel_ends_the_run_and_whoever_awaits_it_gets_run_cancelled_with_what_was_done() -> None:
    agent = Hanging()
    runner = Flujo(Step("first", _first) >> Step("hang", agent, max_retries=3))
    run = asyncio.ensure_future(runner.run_async(1, run_id="r"))
    await agent.began.wait()
    begin = asyncio.get_running_loop().time()
    result = await runner.cancel("r")
    assert agent.cleaned and agent.told_at[0] - begin < 0.1
    assert result.status == "cancelled"
    assert [(step.name, step.success) for step in result.step_history] == [("first", True), ("hang", False)]
    with pytest.raises(RunCancelled) as caught:
        await run
    assert caught.value.run_id == "r"
    assert caught.value.result is result and caught.value.flujo_result is result
    assert not run.cancelled()
    assert await runner.result("r") is result
    assert await runner.cancel("r") is result
    assert _left() == set()


async def test_the_task_that_awaited_the_run_goes_on_uncancelled() -> None:
    agent = Hanging()
    runner = Flujo(Step("hang", agent))

    async def waits() -> str:
        async with asyncio.timeout(60):
            try:
                await runner.run_async(1, run_id="r")
            except RunCancelled:
                await asyncio.sleep(0)
                task = asyncio.current_task()
                assert task is not None and task.cancelling() == 0
                return "went on"
        return "never"

    task = asyncio.ensure_future(waits())
    await agent.began.wait()
    await runner.cancel("r")
    assert await task == "went on"


async def test_result_waits_for_the_end_and_tells_others_that_it_was_cancelled() -> None:
    agent = Hanging()
    runner = Flujo(Step("hang", agent))
    run = asyncio.ensure_future(runner.run_async(1, run_id="r"))
    await agent.began.wait()
    waiting = [asyncio.ensure_future(runner.result("r")) for _ in range(2)]
    gone = asyncio.ensure_future(runner.result("r"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await runner.cancel("r")
    for ended in await asyncio.gather(run, *waiting, return_exceptions=True):
        assert isinstance(ended, RunCancelled)

    runner = Flujo(Step("first", _first))
    assert await runner.run_async(1, run_id="a") is await runner.result("a")


async def test_an_id_that_nobody_gave_can_be_asked_for_inside_and_cancelled() -> None:
    ids: asyncio.Queue[str] = asyncio.Queue()
    agent = Hanging()

    async def tells(x: int) -> int:
        ids.put_nowait(current_step().run_id)
        return await agent.run(x)

    fan = Step.parallel("fan", {"a": Step("a", tells), "b": Step("b", Hanging())})
    runner = Flujo(fan)
    run = asyncio.ensure_future(runner.run_async(1))
    result = await runner.cancel(await ids.get())
    assert (result.status, agent.cleaned) == ("cancelled", True)
    with pytest.raises(RunCancelled):
        await run
    assert _left() == set()


async def test_a_step_can_cancel_its_own_run() -> None:
    later: list[int] = []

    async def ends(x: int) -> int:
        await runner.cancel("r")
        return x

    async def never(x: int) -> int:
        later.append(x)
        return x

    runner = Flujo(Step("ends", ends) >> Step("never", never))
    with pytest.raises(RunCancelled):
        await runner.run_async(1, run_id="r")
    assert later == []


async def test_a_step_that_only_yields_is_cancelled_and_closed_like_one_that_waits() -> None:
    began = asyncio.Event()

    async def spins(x: int) -> int:
        began.set()
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                while True:
                    await asyncio.sleep(0)

    runner = Flujo(Step("spins", spins), cancel_grace_s=0.02)
    run = asyncio.ensure_future(runner.run_async(1, run_id="r"))
    await began.wait()
    assert (await runner.cancel("r")).status == "cancelled"
    with pytest.raises(RunCancelled):
        await run


async def test_a_run_in_another_thread_is_cancelled_from_here() -> None:
    began = threading.Event()

    async def hang(x: int) -> int:
        began.set()
        await asyncio.Event().wait()
        return x

    runner = Flujo(Step("hang", hang))
    raised: list[BaseException] = []

    def work() -> None:
        try:
            runner.run(1, run_id="r")
        except RunCancelled as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert await asyncio.to_thread(began.wait, 10)
    assert (await runner.cancel("r")).status == "cancelled"
    await asyncio.to_thread(thread.join, 10)
    assert len(raised) == 1


async def test_a_run_that_stands_still_before_it_sees_the_request_is_cancelled_all_the_same() -> None:
    began, asked = threading.Event(), threading.Event()

    class Asking(asyncio.SelectorEventLoop):
        """Tells that something from another thread is to be done, which it does when the step has ended."""

        def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> Any:
            handle = super().call_soon_threadsafe(*args, **kwargs)
            asked.set()
            return handle

    async def work(x: int) -> int:
        began.set()
        assert asked.wait(10)
        return x

    runner = Flujo(Step("work", work) >> Step.human_in_the_loop("ask"))
    paused: list[Any] = []

    def run() -> None:
        with asyncio.Runner(loop_factory=Asking) as loop:
            paused.append(loop.run(runner.run_async(1, run_id="r")))

    thread = threading.Thread(target=run)
    thread.start()
    assert await asyncio.to_thread(began.wait, 10)
    result = await runner.cancel("r")
    await asyncio.to_thread(thread.join, 10)
    assert (result.status, [step.name for step in result.step_history]) == ("cancelled", ["work", "ask"])
    assert paused[0].status == "paused"
    assert await runner.cancel("r") is result
    with pytest.raises(ResumeError, match="cancelled"):
        await runner.resume_async(paused[0], "yes")


async def test_a_cancellation_of_the_task_itself_stays_a_cancelled_error() -> None:
    agent = Hanging()
    runner = Flujo(Step("hang", agent))
    run = asyncio.ensure_future(runner.run_async(1, run_id="r"))
    await agent.began.wait()
    waiting = asyncio.ensure_future(runner.result("r"))
    await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await run
    assert caught.value.flujo_result is await waiting
    assert (await runner.result("r")).status == "cancelled"


async def test_a_run_cancelled_in_its_backoff_makes_no_further_attempt() -> None:
    from flujo import StepConfig
    from flujo.domain.backoff import Backoff

    failed = asyncio.Event()
    calls = 0

    async def fails(x: int) -> int:
        nonlocal calls
        calls += 1
        failed.set()
        raise ValueError("no")

    runner = Flujo(Step("fails", fails, config=StepConfig(max_retries=5, backoff=Backoff.fixed(3600))))
    run = asyncio.ensure_future(runner.run_async(1, run_id="r"))
    await failed.wait()
    assert (await runner.cancel("r")).status == "cancelled"
    with pytest.raises(RunCancelled):
        await run
    assert calls == 1


async def test_an_unknown_id_is_named_with_the_cure() -> None:
    runner = Flujo(Step("first", _first))
    with pytest.raises(RunNotFoundError, match=r"(?s)'nobody'.*run_id="):
        await runner.result("nobody")
    with pytest.raises(ResumeError, match=r"(?s)'nobody'.*run_id="):
        await runner.cancel("nobody")


async def test_a_run_that_is_let_go_is_forgotten_and_so_is_a_result_that_nobody_holds() -> None:
    agent = Hanging()
    runner = Flujo(Step("hang", agent))
    run: Any = runner.run_async(1, run_id="r")
    run.send(None)
    waiting = asyncio.ensure_future(runner.result("r"))
    await asyncio.sleep(0)
    run.close()
    del run
    gc.collect()
    with pytest.raises(RunNotFoundError, match="let go"):
        await waiting

    runner = Flujo(Step("first", _first))
    held = await runner.run_async(1, run_id="held")
    await runner.run_async(1, run_id="dropped")
    gc.collect()
    assert await runner.result("held") is held
    with pytest.raises(RunNotFoundError, match="nobody holds"):
        await runner.result("dropped")


# --- how long a cancelled step may take


async def _cancelled(runner: Flujo[Any, Any], began: asyncio.Event) -> tuple[Any, float]:
    run = asyncio.ensure_future(runner.run_async(1))
    await began.wait()
    begin = asyncio.get_running_loop().time()
    run.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await run
    result = caught.value.flujo_result
    return result, asyncio.get_running_loop().time() - begin


async def test_a_finally_block_that_ends_in_time_is_waited_for() -> None:
    agent = Hanging(cleans_up_s=0.05)
    result, took = await _cancelled(Flujo(Step("hang", agent)), agent.began)
    assert agent.cleaned and took >= 0.05
    assert result.status == "cancelled"


async def test_after_the_grace_the_coroutine_is_closed_and_a_warning_names_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for agent in (Hanging(stubborn=True), Hanging(cleans_up_s=3600)):
        runner = Flujo(Step("first", _first) >> Step("hang", agent), cancel_grace_s=0.05)
        with caplog.at_level(logging.WARNING, "flujo.run"):
            result, _ = await _cancelled(runner, agent.began)
        assert not agent.cleaned
        assert result.status == "cancelled"
        assert [step.name for step in result.step_history] == ["first", "hang"]
        assert _left() == set()
    assert "did not end within 0.05 s of being cancelled" in caplog.text


async def test_branches_that_don_t_end_are_closed_too() -> None:
    agents = [Hanging(stubborn=True), Hanging(stubborn=True), Hanging()]
    inner = Step.parallel("inner", {"a": Step("a", agents[0]), "b": Step("b", agents[1])})
    fan = Step.parallel("outer", {"inner": inner, "c": Step("c", agents[2])})
    runner = Flujo(fan, cancel_grace_s=0.05)
    run = asyncio.ensure_future(runner.run_async(1, run_id="r"))
    for agent in agents:
        await agent.began.wait()
    assert (await runner.cancel("r")).status == "cancelled"
    with pytest.raises(RunCancelled):
        await run
    assert _left() == set()


def test_a_timeout_that_a_step_takes_back_itself_is_no_reason_to_close_it() -> None:
    async def careful(x: int) -> int:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            await asyncio.sleep(60)
        return x + 1

    async def main() -> Any:
        return await Flujo(Step("careful", careful), cancel_grace_s=0.01).run_async(1)

    assert virtual_time.run(main()).output == 2


def test_a_time_limit_waits_for_the_step_s_finally_however_long_it_takes() -> None:
    async def main() -> None:
        agent = Hanging(cleans_up_s=60)
        runner = Flujo(Step("hang", agent, timeout_s=0.01, max_retries=0), cancel_grace_s=0.01)
        assert (await runner.run_async(1)).status == "failed"
        assert agent.cleaned

    virtual_time.run(main())


@pytest.mark.parametrize("wrong", [-1, float("nan")])
def test_an_impossible_grace_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="cancel_grace_s"):
        Flujo(Step("first", _first), cancel_grace_s=wrong)
    with pytest.raises(TypeError, match="cancel_grace_s"):
        Flujo(Step("first", _first), cancel_grace_s="5")
