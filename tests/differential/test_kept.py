"""Random pipelines end alike when their runs are kept in a store: also those that are broken off and go on from there
with another runner, and those whose result is looked up.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from pydantic import ValidationError, create_model
from virtual_time import run

from flujo import Flujo, UsageLimits
from flujo.exceptions import InfiniteRedirectError, UsageLimitExceededError
from flujo.state import InMemoryBackend

from .pipelines import answers, pipeline
from .results import difference, expected_end, seen_end
from .scripted import Log, dollars, feedback_field, value_of
from .test_differential import simulation

SEED = 11
CASES = int(os.environ.get("FLUJO_DIFFERENTIAL_KEPT", "1200"))
CONSTRUCTS = "loops,states,routers,guards,bodies,humans"

Json = Any


class BrokenOffError(Exception):
    """The run was let go on its way, as a process that ends does it."""


class BreakingOff:
    """Awaits a run until the loop's clock passes a time."""

    def __init__(self, run: Any, at: float, log: Log) -> None:
        self.run = run
        self.at = at
        self.log = log

    def __await__(self) -> Generator[Any, Any, Any]:
        loop = asyncio.get_running_loop()
        steps = self.run.__await__()
        while True:
            try:
                waits_for = next(steps)
            except StopIteration as ended:
                return ended.value
            yield waits_for
            if loop.time() > self.at:
                self.log.break_off()
                self.run.close()
                raise BrokenOffError


class Case:
    """A case whose runs are kept."""

    def __init__(self, case: Json) -> None:
        self.case = case
        self.log = Log()
        self.backend = InMemoryBackend()
        self.known = answers(case["pipeline"])
        self.asked: Counter[str] = Counter()
        self.fields = {feedback_field(field): value_of(value) for field, value in case["context"].items()}
        self.model: Any = create_model("CaseContext", **{field: (Any, ...) for field in self.fields})

    def runner(self) -> Any:
        limits = self.case["limits"]
        return Flujo(
            pipeline(self.case["pipeline"], self.log),
            context_model=self.model,
            initial_context_data=self.fields,
            usage_limits=UsageLimits(
                total_cost_usd_limit=None if limits["cost"] is None else dollars(limits["cost"]),
                total_tokens_limit=limits["tokens"],
            ),
            rate_limits=map(self.log.rate_limit, self.case["rates"]),
            state_backend=self.backend,
            lease_s=3600,  # no beat comes between: its thread has no part in virtual time
        )

    async def carry_out(self, breaks: list[float]) -> Any:
        """The result of the run; it is broken off after each of these times, and another runner goes on."""
        waiting = list(breaks)
        loop = asyncio.get_running_loop()
        while True:
            runner = self.runner()
            try:
                result = await self.drive(runner, loop.time() + waiting.pop(0) if waiting else None)
            except BrokenOffError:
                await asyncio.sleep(0)  # lanes that were let go end
                continue
            except UsageLimitExceededError as error:
                result = error.result
            except InfiniteRedirectError as error:
                return getattr(error, "result", None)
            return result

    async def drive(self, runner: Any, until: float | None) -> Any:
        given = value_of(self.case["input"])
        result = await self.awaited(runner.run_async(given, run_id="kept"), until)
        while result.status == "paused":
            [pause] = result.pauses
            replies = self.known[pause.step]
            reply = replies[min(self.asked[pause.id], len(replies) - 1)]
            self.asked[pause.id] += 1
            with suppress(ValidationError):
                result = await runner.resume_async(result if self.asked[pause.id] % 2 else "kept", reply)
        return result

    async def awaited(self, run: Any, until: float | None) -> Any:
        return await (run if until is None else BreakingOff(run, until, self.log))

    async def looked_up(self) -> Any:
        """The result as a runner finds it in the store."""
        try:
            return await self.runner().run_async(None, run_id="kept")
        except UsageLimitExceededError as error:
            return error.result


def tells_time(case: Json) -> bool:
    """Whether what happens depends on how long calls take: then a call that is made again makes a difference."""
    text = json.dumps(case["pipeline"])
    parts = ('"parallel"', '"map"', '"router"')
    limited = re.search(r'"(timeout|deadline)": (?!null)', text) is not None
    return limited or any(part in text for part in parts)


def tells_attempts(part: Json) -> bool:
    """Whether a prompt processor does something else the next time: the attempt under way begins again with it."""
    if isinstance(part, dict):
        return any(len(script) > 1 for script in part.get("prompt", ())) or any(
            map(tells_attempts, part.values())
        )
    return isinstance(part, list) and any(map(tells_attempts, part))


def stays_whole(case: Json) -> bool:
    """Whether it would make a difference that a run is broken off."""
    return tells_time(case) or tells_attempts(case["pipeline"])


def disagreement(expectation: Json, index: int) -> str | None:
    case = Case(expectation["case"])
    breaks = [] if stays_whole(case.case) else [10.0 + 7.0 * (index % 13), 20.0, 30.0 + index % 5]

    async def both() -> tuple[Any, Any]:
        result = await case.carry_out(breaks)
        return result, None if result is None else await case.looked_up()

    result, again = run(both())
    if result is None:
        return None
    expected = expected_end(expectation["view"]["end"])
    found = difference("result", expected, seen_end(result))
    return found or difference("looked up", expected, seen_end(again))


def test_random_pipelines_end_alike_when_their_runs_are_kept_and_broken_off() -> None:
    compared = broken = 0
    for index, expectation in enumerate(simulation(str(SEED), str(CASES), CONSTRUCTS)):
        case = expectation["case"]
        if case["schedule"]["cancel_at"] is not None or case["deadline"] is not None:
            continue
        if '"redirect"' in json.dumps(case):
            continue  # the agents that plugins ask for can't be kept
        if stays_whole(case) and index > CASES / 3:
            continue  # most are: those that can be broken off are looked for
        compared += 1
        broken += not stays_whole(case)
        found = disagreement(expectation, index)
        assert found is None, f"case {index} of seed {SEED}: {found}\n{json.dumps(case)}"
    print(f"{compared} cases of seed {SEED}, {broken} of them to be broken off")
    assert compared > CASES / 8
    assert broken > CASES / 30
