"""A run as a tree, in its result and on the console."""

from __future__ import annotations

import asyncio
import io
import json
import re
from typing import Any

import pytest
from canary import CANARY, leaks

from flujo import Flujo, Step
from flujo.infra.console_tracer import ConsoleTracer


async def plus(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


class Flaky:
    def __init__(self) -> None:
        self.left = 1

    async def run(self, x: object) -> object:
        self.left -= 1
        if self.left >= 0:
            raise ValueError(CANARY)
        return x


async def fails(x: object) -> object:
    raise KeyError(CANARY)


def pipeline() -> Any:
    fan = Step.parallel("fan", {"a": Step("one", plus), "b": Step("flaky", Flaky(), max_retries=1)})
    return fan >> Step("last", fails, max_retries=0)


def without_times(text: str) -> str:
    return re.sub(r"[\d.]+ (µs|ms|s)\b", "TIME", text)


TREE = """\
run demo  error  TIME  KeyError
├─ fan  ok  TIME
│  ├─ lane a  ok  TIME
│  │  └─ one  ok  TIME
│  └─ lane b  ok  TIME
│     └─ flaky  ok  TIME  2 attempts
│        ├─ attempt 1  error  TIME  ValueError
│        └─ attempt 2  ok  TIME
└─ last  error  TIME  KeyError"""


async def test_a_tree_shows_what_happened_and_no_content() -> None:
    result = await Flujo(pipeline(), pipeline_name="demo").run_async(1)
    tree = result.trace_tree
    assert without_times(str(tree)) == TREE
    assert tree.find("flaky").attributes["flujo.step.path"] == "fan/b/flaky"
    assert tree.find("nothing") is None
    assert tree.find("fan").duration_s >= tree.find("flaky").duration_s
    assert leaks({"tree": str(tree), "json": json.dumps(result.model_dump(mode="json")["trace_tree"])}) == []


async def test_a_run_so_far_has_a_tree_too() -> None:
    asks = Step.human_in_the_loop("ask", message_for_user="well?")
    paused = await Flujo(Step("one", plus) >> asks, pipeline_name="demo").run_async(1)
    assert without_times(str(paused.trace_tree)).splitlines()[0] == "run demo  paused  TIME"
    assert paused.trace_tree.find("one").status == "ok"


async def test_the_console_gets_the_tree_when_a_run_has_ended() -> None:
    printed = io.StringIO()
    runner = Flujo(pipeline(), pipeline_name="demo", local_tracer=ConsoleTracer(file=printed))
    await runner.run_async(1)
    assert without_times(printed.getvalue()) == TREE + "\n"


async def test_in_detail_it_gets_steps_as_they_happen_and_content_when_asked() -> None:
    def tracer(**options: bool) -> tuple[ConsoleTracer, io.StringIO]:
        printed = io.StringIO()
        return ConsoleTracer(level="debug", file=printed, **options), printed

    quiet, printed = tracer()
    await Flujo(Step("one", plus) >> Step("last", fails, max_retries=0), hooks=[quiet.hook]).run_async(1)
    lines = without_times(printed.getvalue()).splitlines()
    assert lines[:5] == [
        "run unnamed begins",
        "step one begins",
        "step one finished in TIME",
        "step last begins",
        "step last failed in TIME",
    ]
    assert leaks({"console": printed.getvalue()}) == []
    told, printed = tracer(log_inputs=True, log_outputs=True)
    await Flujo(Step("one", plus), local_tracer=told).run_async(41)
    assert "step one begins: 41" in printed.getvalue()
    assert "step one finished in TIME: 42" in without_times(printed.getvalue())


async def test_colours_are_for_terminals_or_as_one_likes(capsys: pytest.CaptureFixture[str]) -> None:
    await Flujo(Step("one", plus), local_tracer="default").run_async(1)
    out, err = capsys.readouterr()
    assert (out, "\x1b[" in err, err.count("\n")) == ("", False, 2)
    await Flujo(Step("one", plus), local_tracer=ConsoleTracer(colorized=True)).run_async(1)
    assert "\x1b[32mok\x1b[0m" in capsys.readouterr().err


def test_what_a_tracer_can_t_do_is_refused() -> None:
    with pytest.raises(ValueError, match="level must be 'info' or 'debug', not 'loud'"):
        ConsoleTracer(level="loud")
    with pytest.raises(TypeError, match="local_tracer must be a ConsoleTracer or 'default'"):
        Flujo(Step("one", plus), local_tracer="loud")
