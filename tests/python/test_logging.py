"""What Flujo writes into Python's logging."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest
from canary import CANARY, leaks

from flujo import Flujo, Step


def failing_once() -> Callable[[int], Awaitable[int]]:
    calls = 0

    async def fails_once(x: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError(CANARY)
        return x

    return fails_once


async def fails(x: object) -> object:
    raise KeyError(CANARY)


async def test_what_happens_to_steps_is_written_with_its_place(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = Step.parallel("fan", {"a": Step("once", failing_once(), max_retries=1)}) >> Step(
        "last", fails, max_retries=0
    )
    with caplog.at_level(logging.DEBUG, "flujo.run"):
        await Flujo(pipeline).run_async(1, run_id="r1")
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [
        ("DEBUG", "step fan started"),
        ("DEBUG", "step fan/a/once started"),
        ("DEBUG", "attempt 1 at fan/a/once started"),
        ("DEBUG", "attempt 1 at fan/a/once failed: ValueError"),
        ("DEBUG", "attempt 2 at fan/a/once started"),
        ("DEBUG", "step fan/a/once finished"),
        ("DEBUG", "step fan finished"),
        ("DEBUG", "step last started"),
        ("DEBUG", "attempt 1 at last started"),
        ("DEBUG", "attempt 1 at last failed: KeyError"),
        ("WARNING", "step last failed: KeyError"),
    ]
    second = vars(caplog.records[4])
    assert {name: second[name] for name in ("run_id", "step", "lane", "attempt")} == {
        "run_id": "r1",
        "step": "fan/a/once",
        "lane": "fan[a]",
        "attempt": 2,
    }
    assert leaks({"log": caplog.text, "records": repr([vars(record) for record in caplog.records])}) == []


async def test_a_warning_from_inside_a_step_names_its_place(caplog: pytest.LogCaptureFixture) -> None:
    from flujo.application._logging import logger

    async def warns(x: int) -> int:
        logger("run").warning("so it is")
        return x

    await Flujo(Step("warns", warns)).run_async(1, run_id="r2")
    (record,) = caplog.records
    assert (vars(record)["run_id"], vars(record)["step"], vars(record)["attempt"]) == ("r2", "warns", 1)
    logger("run").warning("outside of a run")
    assert (vars(caplog.records[-1])["run_id"], vars(caplog.records[-1])["attempt"]) == ("", 0)


async def test_steps_are_not_written_about_unless_somebody_asks(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "flujo"):
        await Flujo(Step("last", fails, max_retries=0)).run_async(1)
    assert caplog.records == []


def test_a_program_without_logging_prints_nothing() -> None:
    code = (
        "from flujo import Flujo, Step\n"
        "import flujo.application._logging as own\n"
        "def fails(x): own.logger('run').error('one'); raise ValueError\n"
        "print(Flujo(Step('fails', fails)).run(1).status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("failed\n", "")
