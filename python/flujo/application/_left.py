"""What is left for runs that other processes have: answers, and requests to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flujo.application._human import Answer, answer_schema
from flujo.application._logging import logger
from flujo.application._stored import LATEST, SOONEST, details
from flujo.application._unanswered import NO_ANSWER
from flujo.exceptions import (
    AlreadyAnsweredError,
    AmbiguousAnswerError,
    PauseNotFoundError,
    ResumeError,
    RunBusyError,
    RunCancelled,
    StoreError,
    UsageLimitExceededError,
)

if TYPE_CHECKING:
    from flujo._native import CompiledPlan, KeptRuns
    from flujo.application.runner import Flujo
    from flujo.domain.results import Pause

ENDED = ("completed", "failed", "cancelled", "limit_exceeded")

_log = logger("store")


def fitting(
    run_id: str, open_: list[tuple[Pause, Any]], pause_id: str | None, text: str
) -> tuple[str, Answer] | None:
    """The question that an answer is for which was left as JSON, and the answer as the question takes it.

    One that fits nothing is told of in the log, without what it says: None.
    """
    from pydantic import ValidationError

    now = datetime.now(UTC)
    meant = [
        (pause, step)
        for pause, step in open_
        if pause_id in (None, pause.id) and (pause.expires_at is None or pause.expires_at > now)
    ]
    if len(meant) != 1:
        which = "names no question" if pause_id is None else f"is for {pause_id!r}"
        _log.warning("an answer left for the run %r %s and fits none that is open", run_id, which)
        return None
    [(pause, step)] = meant
    try:
        value = answer_schema(step.input_schema, f"step {step.name!r}").read(text)
    except ValidationError as error:
        _log.warning(
            "an answer left for the run %r doesn't fit the schema of %r: %d errors",
            run_id,
            pause.id,
            error.error_count(),
        )
        return None
    return pause.id, Answer(pause.message, value)


async def answer(
    runner: Flujo[Any, Any], run_id: str, human_input: Any, answers: Mapping[str, Any] | None
) -> set[int] | None:
    """Leave answers for the process that has a run, and give their numbers; None where none has it any more.

    The owner takes them when the run waits for nothing else.

    Raises:
        PauseNotFoundError: the run has no such pause.
        AmbiguousAnswerError: several pauses wait, and `human_input` doesn't say which it is for.
        AlreadyAnsweredError: the pause has an answer, or somebody was faster.
        ResumeError: the run waits for no answer.
        ValidationError: an answer doesn't fit `input_schema`; none was left.
        StoreError: the store can't be used.
    """
    kept, loop, pause_s = _kept(runner), asyncio.get_running_loop(), SOONEST
    while True:
        run = await details(kept.store, run_id)
        if run["owner"] is None or run["status"] in ENDED:
            return None
        if run["status"] != "paused":
            break
        # It stood still, and somebody is going on with it at this moment.
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LATEST)
    open_: dict[str, str] = dict(await kept.store.questions(run_id, event_loop=loop))
    given = _addressed(run_id, open_, human_input, answers)
    if any(id not in open_ for id in given):
        raise await not_open(runner, run_id, given)
    plan = await _plan(runner, run_id)
    texts: dict[str, str] = {}
    for id, value in given.items():
        step = plan.step_at(open_[id])
        schema = answer_schema(getattr(step, "input_schema", None), f"step {open_[id]!r}")
        texts[id] = schema.write(value)
    waiting = {pause for _, pause in await kept.left(loop, run_id)}
    for id in texts:
        if id in waiting or (None in waiting and len(open_) == 1):
            raise _faster(id)
    numbers = {id: await kept.post(loop, run_id, pause=id, answer=text) for id, text in texts.items()}
    left = await kept.left(loop, run_id)
    for id, number in numbers.items():
        if any(pause == id and other < number for other, pause in left):
            raise _faster(id)
    return set(numbers.values())


async def see_to(runner: Flujo[Any, Any], run_id: str, numbers: set[int]) -> None:
    """Has a run go on here for which something was left when its owner has let it go without that."""
    kept, loop, pause_s = _kept(runner), asyncio.get_running_loop(), SOONEST
    while numbers & {number for number, _ in await kept.left(loop, run_id)}:
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LATEST)
    run = await details(kept.store, run_id)
    if run["owner"] is None and run["status"] not in ENDED:
        runner._started.go_on(run_id, runner._engine.stored(run_id), None)


def _addressed(
    run_id: str, open_: Mapping[str, str], human_input: Any, answers: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    if answers is not None:
        if human_input is not NO_ANSWER:
            raise TypeError("give either one human_input, or answers={pause_id: value}; not both")
        return answers
    if not open_:
        raise ResumeError(f"the run {run_id!r} is running: it waits for no answer now")
    if len(open_) > 1:
        raise AmbiguousAnswerError(
            f"the run waits for {len(open_)} answers: {', '.join(map(repr, open_))}",
            suggestion="say which one it is for: answers={pause_id: value}",
        )
    return {next(iter(open_)): human_input}


def _faster(id: str) -> AlreadyAnsweredError:
    return AlreadyAnsweredError(f"the pause {id!r} has been answered already: somebody else was faster")


async def not_open(runner: Flujo[Any, Any], run_id: str, answers: Mapping[str, Any]) -> ResumeError:
    """Why a question of a stored run can't be answered."""
    store, loop = _kept(runner).store, asyncio.get_running_loop()
    open_ = [id for id, _ in await store.questions(run_id, event_loop=loop)]
    steps = await store.steps(run_id, event_loop=loop)
    id = next((id for id in answers if id not in open_), "")
    path, _, number = id.rpartition("#")
    asked_since = [other.rpartition("#")[2] for other in open_ if other.rpartition("#")[0] == path]
    ended = any(step["path"] == path and step["status"] == "completed" for step in steps)
    if ended and all(_is_before(number, other) for other in asked_since):
        return AlreadyAnsweredError(f"the pause {id!r} has been answered already")
    waiting = ", ".join(map(repr, open_)) or "none"
    return PauseNotFoundError(f"the run has no pause {id!r}; it waits for: {waiting}")


def _is_before(number: str, other: str) -> bool:
    """Whether a step put the question of the one number before that of the other, in the same branches and items."""
    (lanes, _, own), (other_lanes, _, others) = number.rpartition("/"), other.rpartition("/")
    return lanes == other_lanes and own.isdecimal() and others.isdecimal() and int(own) < int(others)


async def _plan(runner: Flujo[Any, Any], run_id: str) -> CompiledPlan:
    """What the run goes on with."""
    if runner._versions is None:
        return runner.plan()
    version = await _kept(runner).store.version(run_id, event_loop=asyncio.get_running_loop())
    return runner.plan() if version is None else runner._versions(version)


async def cancel(runner: Flujo[Any, Any], run_id: str) -> Any:
    """End a stored run, whoever has it, and wait for that; one that has ended stays as it is.

    A process that runs it hears of it when it next shows that it lives (3 seconds).

    Raises:
        RunNotFoundError: there is no such run.
        StoreError: the store can't be used.
    """
    kept, posted, pause_s = _kept(runner), False, SOONEST
    while True:
        run = await details(kept.store, run_id)
        if run["status"] not in ENDED and not posted:
            try:
                await kept.post(asyncio.get_running_loop(), run_id)
                posted = True
            except StoreError:
                if (await details(kept.store, run_id))["status"] not in ENDED:
                    raise
        try:
            return await runner._engine.stored(run_id)  # where nobody has it, it ends here
        except (RunCancelled, UsageLimitExceededError) as error:
            return error.result
        except RunBusyError:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LATEST)


async def follow(runner: Flujo[Any, Any], run_id: str) -> Any:
    """The result of a run that another process has, as soon as it stands still; it goes on here when nobody has it."""
    pause_s = SOONEST
    while True:
        if runner._runs.is_under_way(run_id):
            ended = await runner._runs.result(run_id)
            if ended.status != "paused":
                return ended
        try:
            return await runner._engine.stored(run_id)
        except RunBusyError:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LATEST)


def _kept(runner: Flujo[Any, Any]) -> KeptRuns:
    kept = runner._kept
    assert kept is not None
    return kept
