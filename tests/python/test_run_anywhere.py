"""A run is a coroutine like any other: it works wherever one does."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import inspect
import subprocess
import sys
import threading
import warnings
import weakref
from typing import Any

import pytest

from flujo import Flujo, Step, step


@step
async def double(x: int) -> int:
    await asyncio.sleep(0)
    return x * 2


runner: Flujo[int, int] = Flujo(double >> Step("plus", lambda x: x + 1))


async def test_create_task() -> None:
    assert (await asyncio.create_task(runner.run_async(3))).output == 7


async def test_task_group() -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(runner.run_async(n)) for n in range(3)]
    assert [task.result().output for task in tasks] == [1, 3, 5]


async def test_gather_and_wait_for() -> None:
    results = await asyncio.gather(*[runner.run_async(n) for n in range(3)])
    assert [result.output for result in results] == [1, 3, 5]
    assert (await asyncio.wait_for(runner.run_async(3), 10)).output == 7


def test_asyncio_run_twice_with_the_same_runner() -> None:
    assert asyncio.run(runner.run_async(3)).output == 7
    assert asyncio.run(runner.run_async(4)).output == 9


def test_run_reads_nothing_of_the_result_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: Any, record: Any) -> None:
        raise AssertionError("the whole result was read")

    monkeypatch.setattr("flujo.domain._record._fetch_all", refuse)
    assert runner.run(3).output == 7


def test_anyio() -> None:
    import anyio

    async def main() -> Any:
        with anyio.fail_after(10):
            return await runner.run_async(3)

    assert anyio.run(main).output == 7


def test_uvloop() -> None:
    import uvloop

    async def main() -> Any:
        return await runner.run_async(3)

    assert uvloop.run(main()).output == 7


def test_trio_gets_one_clear_error() -> None:
    import trio

    async def main() -> None:
        await runner.run_async(3)

    with pytest.raises(RuntimeError, match="asyncio event loop"):
        trio.run(main)


def test_a_fastapi_handler() -> None:
    import httpx
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/{number}")
    async def answer(number: int) -> dict[str, int]:
        return {"output": (await runner.run_async(number)).output}

    async def ask() -> object:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return (await client.get("/3")).json()

    assert asyncio.run(ask()) == {"output": 7}


def test_ipython_top_level_await() -> None:
    code = (
        "from flujo import Flujo, Step\n"
        "runner = Flujo(Step('plus', lambda x: x + 1))\n"
        "print('output:', (await runner.run_async(1)).output)\n"
        "try:\n    runner.run(1)\nexcept TypeError as error:\n    print('refused:', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "output: 2" in done.stdout, done.stdout + done.stderr
    assert "refused: run()" in done.stdout and "run_async" in done.stdout


async def test_run_inside_a_running_loop_names_the_cure() -> None:
    with pytest.raises(TypeError, match="run_async"):
        runner.run(3)


def test_run_works_after_a_closed_loop_twice_and_in_a_thread() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    assert [runner.run(3).output, runner.run(4).output] == [7, 9]
    outputs: list[int | None] = []
    thread = threading.Thread(target=lambda: outputs.append(runner.run(5).output))
    thread.start()
    thread.join()
    assert outputs == [11]


def test_tasks_that_a_run_started_are_over_when_run_returns() -> None:
    ended: list[str] = []

    async def leaves_a_task(x: int) -> int:
        async def background() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("background")

        task = asyncio.ensure_future(background())
        await asyncio.sleep(0)
        assert not task.done()
        return x

    assert Flujo(Step("leaves", leaves_a_task)).run(1).output == 1
    assert ended == ["background"]


async def test_it_is_a_coroutine_to_everyone_who_asks() -> None:
    run = runner.run_async(3)
    assert asyncio.iscoroutine(run)
    assert isinstance(run, collections.abc.Coroutine)
    assert inspect.isawaitable(run)
    assert (await run).output == 7
    with pytest.raises(RuntimeError, match="already awaited"):
        await run


async def test_it_is_also_an_async_iterator() -> None:
    items = [item async for item in runner.run_async(3)]
    assert [item.output for item in items] == [7]


def test_a_run_that_is_never_awaited_warns_like_a_coroutine() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runner.run_async(3)
        gc.collect()
    assert [str(warning.message) for warning in caught] == ["coroutine 'Flujo.run_async' was never awaited"]


async def test_a_closed_run_closes_the_coroutine_it_waits_for() -> None:
    cleaned: list[bool] = []

    async def hang(x: int) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)
        return x

    run = Flujo(Step("hang", hang)).run_async(1)
    run.send(None)
    run.close()
    assert cleaned == [True]


async def test_what_a_finished_run_held_can_be_collected() -> None:
    class Thing:
        pass

    seen: list[weakref.ref[Thing]] = []

    async def make(_: object) -> Thing:
        thing = Thing()
        seen.append(weakref.ref(thing))
        return thing

    async def drop(_: object) -> int:
        return 1

    result = await Flujo(Step("make", make) >> Step("drop", drop)).run_async(None)
    assert seen[0]() is result.step_history[0].output
    del result
    gc.collect()
    assert seen[0]() is None


async def test_a_cycle_through_a_run_under_way_is_collected() -> None:
    class Holder:
        run: Any = None

    holder = Holder()
    gone = weakref.ref(holder)

    async def hang(x: Holder) -> None:
        await asyncio.get_running_loop().create_future()

    run = Flujo(Step("hang", hang)).run_async(holder)
    run.send(None)
    holder.run = run
    del run, holder
    gc.collect()
    assert gone() is None
