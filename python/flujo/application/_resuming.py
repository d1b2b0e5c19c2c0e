"""Going on with a paused run: which questions an answer is for, and whether it fits."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from flujo.application._checked import checked_limits, checked_traceparent
from flujo.application._human import Answer, answer_schema
from flujo.application._unanswered import NO_ANSWER
from flujo.domain.results import Pause, PipelineResult
from flujo.exceptions import (
    AlreadyAnsweredError,
    AmbiguousAnswerError,
    PauseNotFoundError,
    ResumeError,
    RunBusyError,
    UsageLimitExceededError,
)

if TYPE_CHECKING:
    from flujo._native import PausedRun, Run
    from flujo.application.runner import Flujo
    from flujo.domain.events import Event
    from flujo.domain.usage import UsageLimits


STOPPED = ("limit_exceeded", "cancelled")
STANDS_STILL = ("paused", *STOPPED)


async def look_up(runner: Flujo[Any, Any], of: PipelineResult[Any, Any] | str) -> Any:
    """Have a run that is in the runner's store stand still here, if it does so there; else its result, or None."""
    kept = runner._kept
    if kept is None or not isinstance(of, str):
        return None
    held: PausedRun | None = runner._engine.paused(of)
    if held is not None and held.status == "running":
        return None  # it goes on here
    from flujo.application._stored import details

    stored = await details(kept.store, of)
    if held is not None:
        if stored["status"] == held.status and stored["last_record"] == held.last_record:
            return None
        runner._engine.forget(held)
    try:
        return await runner._engine.stored(of)
    except UsageLimitExceededError as error:
        if stored["status"] != "limit_exceeded":
            raise  # it had been left half done, went on, and was stopped
        return error.result


def forget(runner: Flujo[Any, Any], of: PipelineResult[Any, Any] | str) -> None:
    """What is held of a run isn't how it stands any more."""
    held = (
        getattr(of, "__flujo_paused__", None) if isinstance(of, PipelineResult) else runner._engine.paused(of)
    )
    if held is not None:
        runner._engine.forget(held)


def going_on(
    runner: Flujo[Any, Any],
    of: PipelineResult[Any, Any] | str,
    human_input: Any,
    answers: Mapping[str, Any] | None,
    usage_limits: UsageLimits | None = None,
    traceparent: str | None = None,
) -> Run:
    """A paused run going on, once all answers are checked, or one that was stopped. See `Flujo.resume_async`."""
    parent = checked_traceparent(traceparent)
    paused = find(runner, of)
    limits = checked_limits(usage_limits)
    if paused.is_stopped and human_input is NO_ANSWER and answers is None:
        from flujo.application._lowering import amounts

        return runner._engine.resume_stopped(paused, None if limits is None else amounts(limits), parent)
    if limits is not None:
        raise ResumeError(
            f"the run is {paused.status}: its limits can't be changed now",
            suggestion="usage_limits= is for a run that a limit stopped, or that was cancelled",
        )
    given, expired = _addressed(paused, of, human_input, answers)
    return runner._engine.resume(paused, list(given.items()), expired, traceparent=parent)


class Left(NamedTuple):
    """Answers that were left for the process that has the run."""

    numbers: set[int]


async def take_up(
    runner: Flujo[Any, Any],
    of: PipelineResult[Any, Any] | str,
    human_input: Any,
    answers: Mapping[str, Any] | None,
    usage_limits: UsageLimits | None,
    begin: Callable[[PipelineResult[Any, Any] | str], Awaitable[Any]],
) -> Any:
    """Has `begin` go on with a run that stands still; else its result, or `Left`. See `Flujo.resume_async`."""
    asks = human_input is not NO_ANSWER or answers is not None
    while True:
        try:
            if isinstance(of, str) and runner._kept is not None and runner._runs.is_under_way(of):
                raise RunBusyError(
                    f"the run {of!r} is under way here",
                    owner="this process",
                    suggestion="await runner.result(…) for what comes of it",
                )
            stored = await look_up(runner, of)
            if stored is not None and not asks and stored.status not in STANDS_STILL:
                return stored
            return await begin(of if stored is None else stored)
        except PauseNotFoundError:
            if runner._kept is None or not isinstance(of, str) or answers is None:
                raise
            from flujo.application import _left

            raise await _left.not_open(runner, of, answers) from None
        except RunBusyError as error:
            forget(runner, of)  # somebody else has gone on with it: the next one looks it up again
            if not isinstance(of, str) or (
                error.owner is not None and (not asks or usage_limits is not None)
            ):
                raise
            if error.owner is None:
                continue
        from flujo.application import _left

        if (numbers := await _left.answer(runner, of, human_input, answers)) is not None:
            return Left(numbers)


async def resumed_events(
    runner: Flujo[Any, Any],
    of: PipelineResult[Any, Any] | str,
    human_input: Any,
    answers: Mapping[str, Any] | None,
    usage_limits: UsageLimits | None,
    traceparent: str | None,
) -> AsyncGenerator[Event]:
    """What happens in a paused run that goes on, or in one that was stopped. See `Flujo.resume_with_events`."""
    from contextlib import aclosing

    from flujo.application._stream import events

    if (stored := await look_up(runner, of)) is not None:
        of = stored
    happening = events(lambda: going_on(runner, of, human_input, answers, usage_limits, traceparent))
    async with aclosing(happening):
        try:
            async for event in happening:
                yield event
        except RunBusyError:
            forget(runner, of)
            raise


async def cancel(runner: Flujo[Any, Any], of: PipelineResult[Any, Any] | str) -> Any:
    """End a paused run, or one that is stored, whoever has it. See `Flujo.cancel`."""
    if runner._kept is None:
        return await _cancel_here(runner, of)
    held: PausedRun | None = (
        runner._engine.paused(of) if isinstance(of, str) else getattr(of, "__flujo_paused__", None)
    )
    if held is not None and held.status == "paused":
        try:
            return await _cancel_here(runner, of)
        except RunBusyError:
            forget(runner, of)  # somebody else has gone on with it
    elif not isinstance(of, str):
        return await _cancel_here(runner, of)
    from flujo.application import _left

    return await _left.cancel(runner, of if isinstance(of, str) else str(held and held.run_id))


async def _cancel_here(runner: Flujo[Any, Any], of: PipelineResult[Any, Any] | str) -> Any:
    paused = find(runner, of)
    if paused.status != "paused":
        raise ResumeError(
            f"run {paused.run_id!r} is {paused.status}, not paused",
            suggestion="cancel the task that awaits a run which is under way",
        )
    return await runner._engine.resume(paused, [], [], cancel=True)


def find(runner: Flujo[Any, Any], of: PipelineResult[Any, Any] | str) -> PausedRun:
    """The paused run that a result or run id speaks of."""
    if isinstance(of, str):
        found: PausedRun | None = runner._engine.paused(of)
        if found is None:
            raise ResumeError(
                f"this runner knows no paused run {of!r}",
                suggestion="keep the paused result, or give the run an id: runner.run_async(..., run_id=…)",
            )
        return found
    if not isinstance(of, PipelineResult):
        raise TypeError(f"resume takes a paused result or a run id, not {type(of).__name__}")
    if of.status not in ("paused", *STOPPED):
        raise ResumeError(f"the run is {of.status}, not paused: there is nothing to resume")
    held: PausedRun | None = getattr(of, "__flujo_paused__", None)
    if held is None:
        run_id = getattr(of.final_pipeline_context, "run_id", None)
        held = None if run_id is None else runner._engine.paused(run_id)
    if held is None and of.status in STOPPED:
        raise ResumeError(
            f"the run is {of.status}, and nothing was kept of it to go on from",
            suggestion="what a hook or the limit of a step ended has to be run again",
        )
    if held is None:
        raise ResumeError(
            "this result was copied or loaded, and its run is no longer in this process",
            suggestion="resume with the very result that the run gave, or with the id the run was given",
        )
    if held.fingerprint != runner.plan().fingerprint and runner._engine.paused(held.run_id) is not held:
        raise ResumeError(
            f"run {held.run_id!r} was paused in another pipeline",
            suggestion="resume it with a runner of the pipeline that it belongs to",
        )
    return held


def _addressed(
    paused: PausedRun, of: PipelineResult[Any, Any] | str, human_input: Any, answers: Mapping[str, Any] | None
) -> tuple[dict[str, Answer], list[str]]:
    """The answers by question, checked, and the questions whose time is up."""
    if answers is not None and human_input is not NO_ANSWER:
        raise TypeError("give either one human_input, or answers={pause_id: value}; not both")
    open_ = {pause.id: (pause, step) for pause, step in paused.open()}
    now = datetime.now(UTC)
    expired = [
        id for id, (pause, _) in open_.items() if pause.expires_at is not None and pause.expires_at <= now
    ]
    waiting = [pause for id, (pause, _) in open_.items() if id not in expired]
    if answers is None:
        answers = {} if human_input is NO_ANSWER else {_only(paused, of, waiting, expired): human_input}
    if not isinstance(answers, Mapping):
        raise TypeError(f"answers must be a mapping of pause ids to values, not {type(answers).__name__}")
    checked = {}
    for id, value in answers.items():
        if id not in open_:
            raise _not_open(paused, id, [pause.id for pause, _ in open_.values()])
        pause, step = open_[id]
        if id in expired:
            raise ResumeError(
                f"the pause {id!r} had to be answered until {pause.expires_at}",
                suggestion="resume without an answer to it: the run goes on as it is to when none came in time",
            )
        schema = answer_schema(step.input_schema, f"step {step.name!r}")
        checked[id] = Answer(pause.message, schema.check(value))
    if not checked and not expired:
        if paused.status != "paused":
            raise ResumeError(f"the run is {paused.status}: it waits for no answer now")
        raise ResumeError(
            f"the run waits for an answer to {_names(waiting)}",
            suggestion="give it as human_input, or by answers=",
        )
    return checked, expired


def _only(
    paused: PausedRun, of: PipelineResult[Any, Any] | str, waiting: list[Pause], expired: list[str]
) -> str:
    if isinstance(of, PipelineResult) and len(of.pauses) == 1 and paused.was_answered(of.pauses[0].id):
        raise _not_open(paused, of.pauses[0].id, [pause.id for pause in waiting])
    if len(waiting) == 1:
        return waiting[0].id
    if waiting:
        raise AmbiguousAnswerError(
            f"the run waits for {len(waiting)} answers: {_names(waiting)}",
            suggestion="say which one it is for: answers={pause_id: value}",
        )
    if expired:
        raise ResumeError(
            "the time for an answer is over",
            suggestion="resume without an answer: the run goes on as it is to when none came in time",
        )
    raise ResumeError(f"the run is {paused.status}: it waits for no answer now")


def _not_open(paused: PausedRun, id: str, known: list[str]) -> ResumeError:
    if paused.status == "running":
        return ResumeError(
            f"the run is going on with other answers right now; the pause {id!r} can't be answered meanwhile",
            suggestion="await that resume first",
        )
    if paused.was_answered(id):
        return AlreadyAnsweredError(f"the pause {id!r} has been answered already")
    waiting = ", ".join(map(repr, known)) or "none"
    return PauseNotFoundError(f"the run has no pause {id!r}; it waits for: {waiting}")


def _names(pauses: list[Pause]) -> str:
    return ", ".join(f"{pause.id!r}" for pause in pauses)
