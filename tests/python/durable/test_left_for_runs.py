"""What is left for runs that other processes have: answers, and requests to stop."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from postgres_server import postgres_server
from pydantic import BaseModel, ValidationError

from flujo import Flujo, Step, step
from flujo.exceptions import (
    AlreadyAnsweredError,
    AmbiguousAnswerError,
    PauseNotFoundError,
    ResumeError,
    RunBusyError,
    RunCancelled,
    RunNotFoundError,
    UnsavableValueError,
)
from flujo.state import SQLiteBackend, StateBackend, backend_at

LOOKS_S = 0.3
"""A lease so short that who has a run looks for what was left for it ten times in a second."""


class Visit(BaseModel):
    day: date
    guests: int


@step
async def double(x: Any) -> Any:
    return x * 2


class Gate:
    """A step that waits until it is let through."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.ended: str | None = None

    async def run(self, x: Any) -> Any:
        self.entered.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        return x


def store(path: Path) -> StateBackend:
    return SQLiteBackend(path)


def asking(path: Path, schema: Any = int, **options: Any) -> Flujo[Any, Any]:
    ask = Step.human_in_the_loop("ask", "How many?", schema)
    return Flujo(
        double >> ask >> double, pipeline_name="asks", state_backend=store(path), lease_s=LOOKS_S, **options
    )


def half_asking(path: Path, gate: Gate | None = None, schema: Any = int) -> Flujo[Any, Any]:
    """A branch asks while another one works."""
    ask = Step.human_in_the_loop("ask", "How many?", schema)
    both = Step.parallel("both", {"asks": ask, "works": Step("gate", gate or Gate())})
    return Flujo(double >> both, pipeline_name="half", state_backend=store(path), lease_s=LOOKS_S)


async def until_asked(runner: Flujo[Any, Any], path: Path, run_id: str) -> str:
    """The id of the question of a run that another process has."""
    native = store(path)._opened()
    while not (open_ := await native.questions(run_id, event_loop=asyncio.get_running_loop())):
        await asyncio.sleep(0)
    id: str = open_[0][0]
    return id


# --- requests to stop


async def test_a_run_that_another_process_has_ends_when_it_is_cancelled_here(tmp_path: Path) -> None:
    gate = Gate()
    here, there = half_asking(tmp_path / "runs.db", gate), half_asking(tmp_path / "runs.db")
    handle = await there.start(1, run_id="other")
    run = asyncio.create_task(here.run_async(1, run_id="one"))
    await gate.entered.wait()
    cancelled = await there.cancel("one")
    assert (cancelled.status, gate.ended) == ("cancelled", "cancelled")
    with pytest.raises(RunCancelled) as raised:
        await run
    assert raised.value.result is not None and raised.value.result.status == "cancelled"
    assert await there.get("one").status() == "cancelled"
    assert (await there.cancel("one")).status == "cancelled"
    assert (await handle.cancel()).status == "cancelled"


async def test_whoever_waits_for_a_run_of_another_process_is_told_that_it_was_cancelled(
    tmp_path: Path,
) -> None:
    gate = Gate()
    here, there = half_asking(tmp_path / "runs.db", gate), half_asking(tmp_path / "runs.db")
    handle = await here.start(1, run_id="one")
    await gate.entered.wait()
    waiting = asyncio.create_task(there.get("one").result())
    assert (await half_asking(tmp_path / "runs.db").get("one").cancel()).status == "cancelled"
    with pytest.raises(RunCancelled):
        await waiting
    assert (await handle.result()).status == await handle.status() == "cancelled"


async def test_a_run_that_nobody_has_ends_without_anything_of_it_being_run(tmp_path: Path) -> None:
    gate = Gate()
    here = half_asking(tmp_path / "runs.db", gate)
    await here.start(1, run_id="one")
    await gate.entered.wait()
    await here.aclose()
    untouched = Gate()
    there = half_asking(tmp_path / "runs.db", untouched)
    assert (await there.cancel("one")).status == "cancelled"
    assert not untouched.entered.is_set()
    with pytest.raises(RunNotFoundError, match="never"):
        await there.cancel("never")


async def test_a_run_that_was_asked_to_stop_twice_can_go_on_afterwards(tmp_path: Path) -> None:
    gate = Gate()
    here, there = half_asking(tmp_path / "runs.db", gate), half_asking(tmp_path / "runs.db")
    await here.start(1, run_id="one")
    await gate.entered.wait()
    await asyncio.gather(there.cancel("one"), half_asking(tmp_path / "runs.db").cancel("one"))
    gate.open.set()
    again = await here.resume_async("one")
    assert again.status == "paused"


async def test_a_run_that_is_under_way_here_is_known_by_its_id_whatever_else_was_tried_with_it(
    tmp_path: Path,
) -> None:
    gate = Gate()
    here = half_asking(tmp_path / "runs.db", gate)
    handle = await here.start(1, run_id="one")
    await gate.entered.wait()
    for refused in (here.run_async(1, run_id="one"), here.resume_async("one"), handle.answer()):
        with pytest.raises(RunBusyError):
            await refused
    await until_asked(here, tmp_path / "runs.db", "one")
    await handle.answer(5)
    with pytest.raises(AlreadyAnsweredError):
        await here.resume_async("one", 6)
    gate.open.set()
    assert (await handle.result()).output == {"asks": 5, "works": 2}
    gate.entered.clear()
    gate.open.clear()
    again = await here.start(1, run_id="two")
    with pytest.raises(RunBusyError):
        await here.run_async(1, run_id="two")
    await gate.entered.wait()
    assert (await again.cancel()).status == gate.ended == "cancelled"


# --- answers


async def test_an_answer_reaches_a_run_of_another_process_which_goes_on_without_standing_still(
    tmp_path: Path,
) -> None:
    gate = Gate()
    here, there = half_asking(tmp_path / "runs.db", gate), half_asking(tmp_path / "runs.db")
    run = asyncio.create_task(here.run_async(1, run_id="one"))
    await gate.entered.wait()
    await until_asked(there, tmp_path / "runs.db", "one")
    await there.get("one").answer(5)
    with pytest.raises(AlreadyAnsweredError, match="faster"):
        await half_asking(tmp_path / "runs.db").get("one").answer(6)
    following = asyncio.create_task(there.get("one").result())
    gate.open.set()
    assert (await run).output == (await following).output == {"asks": 5, "works": 2}


async def test_whoever_resumes_a_run_of_another_process_gets_what_comes_of_it(tmp_path: Path) -> None:
    gate = Gate()
    here, there = (
        half_asking(tmp_path / "runs.db", gate, Visit),
        half_asking(tmp_path / "runs.db", None, Visit),
    )
    run = asyncio.create_task(here.run_async(1, run_id="one"))
    await gate.entered.wait()
    pause = await until_asked(there, tmp_path / "runs.db", "one")
    visit = Visit(day=date(2026, 7, 1), guests=3)
    resumed = asyncio.create_task(there.resume_async("one", answers={pause: visit}))
    kept = there._kept
    assert kept is not None
    while not await kept.left(asyncio.get_running_loop(), "one"):
        await asyncio.sleep(0)
    gate.open.set()
    assert (await run).output == (await resumed).output == {"asks": visit, "works": 2}


async def test_an_answer_that_doesnt_fit_is_refused_where_it_is_given_and_nothing_is_left(
    tmp_path: Path,
) -> None:
    gate = Gate()
    here, there = half_asking(tmp_path / "runs.db", gate), half_asking(tmp_path / "runs.db")
    run = asyncio.create_task(here.run_async(1, run_id="one"))
    await gate.entered.wait()
    pause = await until_asked(there, tmp_path / "runs.db", "one")
    other = there.get("one")
    with pytest.raises(ValidationError):
        await other.answer("many")
    with pytest.raises(PauseNotFoundError, match=pause):
        await other.answer(answers={"ask#77": 5})
    with pytest.raises(RunBusyError):
        await other.answer()
    await other.answer(answers={pause: 5})
    with pytest.raises(AlreadyAnsweredError):
        await other.answer(answers={pause: 5})
    gate.open.set()
    assert (await run).output == {"asks": 5, "works": 2}
    with pytest.raises(ResumeError, match="completed"):
        await other.answer(6)


async def test_an_answer_without_a_schema_must_be_what_json_knows(tmp_path: Path) -> None:
    gate = Gate()
    here, there = half_asking(tmp_path / "runs.db", gate, None), half_asking(tmp_path / "runs.db", None, None)
    run = asyncio.create_task(here.run_async(1, run_id="one"))
    await gate.entered.wait()
    await until_asked(there, tmp_path / "runs.db", "one")
    for answer in (object(), (1, 2), {1: 2}, float("nan")):
        with pytest.raises(UnsavableValueError, match="can't be left"):
            await there.get("one").answer(answer)
    await there.get("one").answer({"by": ["Ada"]})
    gate.open.set()
    assert (await run).output["asks"] == {"by": ["Ada"]}


async def test_of_two_open_questions_an_answer_must_say_which_one_it_is_for(tmp_path: Path) -> None:
    gate = Gate()

    def runner() -> Flujo[Any, Any]:
        ask = Step.human_in_the_loop
        branches = {"a": ask("a", "A?", int), "b": ask("b", "B?", int), "c": Step("gate", gate)}
        pipeline = double >> Step.parallel("all", branches)
        return Flujo(pipeline, state_backend=store(tmp_path / "runs.db"), lease_s=LOOKS_S)

    here, there = runner(), runner()
    run = asyncio.create_task(here.run_async(1, run_id="one"))
    await gate.entered.wait()
    native = store(tmp_path / "runs.db")._opened()
    while len(open_ := await native.questions("one", event_loop=asyncio.get_running_loop())) < 2:
        await asyncio.sleep(0)
    with pytest.raises(AmbiguousAnswerError, match="2 answers"):
        await there.get("one").answer(5)
    ids = {path.rpartition(".")[2]: id for id, path in open_}
    await there.get("one").answer(answers={id: number for number, id in enumerate(ids.values())})
    gate.open.set()
    assert sorted((await run).output.values()) == [0, 1, 2]


async def test_of_two_answers_at_once_one_wins_and_the_other_is_told(tmp_path: Path) -> None:
    here, there = asking(tmp_path / "runs.db"), asking(tmp_path / "runs.db")
    for number in range(20):
        id = str(number)
        await here.run_async(1, run_id=id)
        answers = [runner.get(id).answer(value) for value, runner in ((3, here), (4, there))]
        came = await asyncio.gather(*answers, return_exceptions=True)
        refused = [error for error in came if error is not None]
        assert len(refused) == 1 and isinstance(refused[0], ResumeError), came
        won = 3 if came[0] is None else 4
        assert (await here.get(id).result()).output == (await there.get(id).result()).output == 2 * won


async def test_an_old_answer_is_told_from_one_that_is_for_nothing(tmp_path: Path) -> None:
    def runner() -> Flujo[Any, Any]:
        ask = Step.human_in_the_loop("ask", "More?", int)
        loop = Step.loop_until("loop", ask, lambda out, context: out > 2, max_loops=5)
        return Flujo(double >> loop, state_backend=store(tmp_path / "runs.db"))

    here, there = runner(), runner()
    first = (await here.run_async(1, run_id="one")).pauses[0].id
    second = (await there.resume_async("one", answers={first: 1})).pauses[0].id
    for other in (here, there, runner()):
        with pytest.raises(AlreadyAnsweredError, match=first):
            await other.resume_async("one", answers={first: 5})
        with pytest.raises(PauseNotFoundError, match=second):
            await other.resume_async("one", answers={"loop.body#99": 5})
        with pytest.raises(ValidationError):
            await other.get("one").answer("many")
    assert (await here.resume_async("one", answers={second: 5})).output == 5


async def test_the_answer_is_in_the_store_when_its_handle_says_so(tmp_path: Path) -> None:
    gate = Gate()
    path = tmp_path / "runs.db"
    ask = Step.human_in_the_loop("ask", "How many?", int)
    here: Flujo[Any, Any] = Flujo(ask >> Step("gate", gate), state_backend=store(path))
    await here.run_async(1, run_id="one")
    await here.get("one").answer(5)
    [asked, *_] = await store(path).list_run_steps("one")
    assert (asked["status"], asked["output"]) == ("completed", 5)
    assert [run["run_id"] for run in await store(path).list_runs("running")] == ["one"]
    gate.open.set()
    assert (await here.get("one").result()).output == 5


ANSWERS = """
import asyncio, sys
from flujo import Flujo, Step
from flujo.exceptions import ResumeError
from flujo.state import SQLiteBackend

async def double(x):
    return x * 2

async def main(path, value):
    ask = Step.human_in_the_loop("ask", "How many?", int)
    pipeline = Step("double", double) >> ask >> Step("again", double)
    runner = Flujo(pipeline, pipeline_name="asked", state_backend=SQLiteBackend(path), lease_s=0.3)
    for number in range(10):
        handle = runner.get(str(number))
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            await handle.answer(value)
            print("won", flush=True)
        except ResumeError:
            print("refused", flush=True)
        assert (await handle.result()).status == "completed"

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_of_two_processes_that_answer_at_once_one_wins_and_the_other_is_told(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    ask = Step.human_in_the_loop("ask", "How many?", int)
    pipeline = Step("double", lambda x: x * 2) >> ask >> Step("again", lambda x: x * 2)
    here: Flujo[Any, Any] = Flujo(pipeline, pipeline_name="asked", state_backend=store(path))
    for number in range(10):
        assert (await here.run_async(1, run_id=str(number))).status == "paused"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [
        subprocess.Popen([sys.executable, "-c", ANSWERS, str(path), value], text=True, **pipes)
        for value in ("3", "4")
    ]
    for number in range(10):
        assert [await says(process) for process in processes] == ["ready", "ready"]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [await says(process) for process in processes]
        assert sorted(told) == ["refused", "won"]
        assert (await here.result(str(number))).output == (6 if told[0] == "won" else 8)
    for process in processes:
        assert await asyncio.to_thread(process.communicate) == ("", None)
        assert process.returncode == 0


async def says(process: subprocess.Popen[str]) -> str:
    return (await asyncio.to_thread(process.stdout.readline)).strip() if process.stdout else ""


# --- from the command line

CHILD = """
import asyncio, sys
from flujo import Flujo, Step
from flujo.exceptions import RunCancelled
from flujo.state import backend_at

class Gate:
    async def run(self, x):
        print("entered", flush=True)
        # A line lets it through.
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        return x

async def main(uri):
    ask = Step.human_in_the_loop("ask", "How many?", int)
    both = Step.parallel("both", {"asks": ask, "works": Step("gate", Gate())})
    runner = Flujo(both, pipeline_name="half", state_backend=backend_at(uri), lease_s=0.3)
    try:
        print((await runner.run_async(2, run_id="one")).output, flush=True)
    except RunCancelled as error:
        print("cancelled", error.run_id, flush=True)

asyncio.run(main(sys.argv[1]))
"""


@contextmanager
def child(uri: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has the run, at its gate."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", CHILD, uri], text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "entered\n"
        try:
            yield process
        finally:
            process.kill()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flujo", "runs", *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_line_stops_a_run_of_a_python_process(tmp_path: Path) -> None:
    path = str(tmp_path / "runs.db")
    with child(path) as process:
        asked = command("cancel", "one", "--store", path)
        assert asked.returncode == 0, asked.stderr
        assert process.stdout is not None and process.stdout.readline() == "cancelled one\n"


async def test_a_process_answers_and_stops_the_runs_of_another_one(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    here: Flujo[Any, Any] = Flujo(
        half_asking(path).pipeline.steps[1], pipeline_name="half", state_backend=store(path)
    )
    with child(str(path)) as process:
        await until_asked(here, path, "one")
        await here.get("one").answer(5)
        out, _ = await asyncio.to_thread(process.communicate, "go on\n")
        assert out == "{'asks': 5, 'works': 2}\n"
    assert (await here.get("one").result()).output == {"asks": 5, "works": 2}
    await store(path).delete_state("one")
    with child(str(path)) as process:
        assert (await here.cancel("one")).status == "cancelled"
        assert process.stdout is not None and process.stdout.readline() == "cancelled one\n"


async def test_what_the_command_line_leaves_is_taken_by_a_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "runs.db"
    here, there = asking(path), asking(path)
    for run_id in ("answered", "refused", "stopped"):
        assert (await here.run_async(1, run_id=run_id)).status == "paused"
    for arguments in (("answer", "answered", "5"), ("answer", "refused", "many"), ("cancel", "stopped")):
        left = command(*arguments, "--store", str(path))
        assert left.returncode == 0, left.stderr
    with caplog.at_level(logging.WARNING, "flujo.store"):
        async with there.worker():
            assert (await here.get("answered").result()).output == 10
            *_, last = [event async for event in there.get("stopped").events()]
            assert last.data.status == "cancelled"
            while "refused" not in caplog.text:
                await asyncio.sleep(0)
    assert "doesn't fit the schema" in caplog.text and "many" not in caplog.text
    assert await here.get("refused").status() == "paused"
    assert (await here.resume_async("refused", 6)).output == 12


async def test_what_was_left_for_a_run_that_stands_still_here_goes_before_what_is_held_of_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"
    here = asking(path)
    paused = await here.run_async(1, run_id="one")
    left = command("answer", "one", "5", "--store", str(path))
    assert left.returncode == 0, left.stderr
    with pytest.raises(ResumeError, match="completed"):
        await here.resume_async("one", answers={paused.pauses[0].id: 6})
    assert (await here.result("one")).output == 10


# --- on a server


async def test_runs_on_a_server_are_answered_and_stopped_by_other_processes(tmp_path: Path) -> None:
    with postgres_server() as server:
        pipeline = half_asking(tmp_path / "unused.db").pipeline.steps[1]
        here: Flujo[Any, Any] = Flujo(pipeline, pipeline_name="half", state_backend=backend_at(server.url))
        with child(server.url) as process:
            native = backend_at(server.url)._opened()
            while not await native.questions("one", event_loop=asyncio.get_running_loop()):
                await asyncio.sleep(0)
            await here.get("one").answer(5)
            out, _ = await asyncio.to_thread(process.communicate, "go on\n")
            assert out == "{'asks': 5, 'works': 2}\n"
        await backend_at(server.url).delete_state("one")
        with child(server.url) as process:
            assert (await here.cancel("one")).status == "cancelled"
