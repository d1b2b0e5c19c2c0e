"""Stored runs played again: what agents answered and people said is told to the pipeline as it is now."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from flujo.application._differences import context_differences, usage_differences
from flujo.application._worker import kept_of
from flujo.domain.replay import Difference, Replay
from flujo.domain.results import Pause, PipelineResult
from flujo.exceptions import ReplayError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from flujo._native import Engine, PausedRun, RecordedRun
    from flujo.agents import AgentUsage
    from flujo.application.runner import Flujo

_STUCK_S = 10.0
"""How long a call waits to be cancelled as it was, before it is said that nobody does so now."""


class _Playing:
    """A run that is being played."""

    def __init__(self, recorded: RecordedRun) -> None:
        self._stops = recorded.stops
        self.task: asyncio.Task[Any] | None = None
        self._held = 0
        self.called_off = False

    @property
    def is_cancelled_next(self) -> bool:
        """Whether the run was cancelled where it stopped next."""
        return self._stops[0][0]

    def hold(self) -> None:
        """A call is under way that was cancelled then. The last of them has the run cancelled, if it was."""
        self._held += 1
        if self._stops[0] == (True, self._held):
            assert self.task is not None
            self.called_off = True
            self.task.cancel()

    def goes_on(self) -> bool:
        """Whether the run went on after it had stopped here."""
        if len(self._stops) == 1:
            return False
        del self._stops[0]
        self.called_off = False
        return True


_PLAYING: ContextVar[_Playing] = ContextVar("flujo_playing")


class _Cancelled(asyncio.CancelledError):
    """A cancellation that tells what the call had used by then."""

    def __init__(self, usage: AgentUsage) -> None:
        super().__init__()
        self.usage = usage


async def until_cancelled(used: dict[str, Any]) -> None:
    """Stands for a call that was cancelled, and had used this by then.

    Raises:
        ReplayError: nobody cancels it now.
    """
    try:
        async with asyncio.timeout(_STUCK_S):
            _PLAYING.get().hold()
            await asyncio.get_running_loop().create_future()
    except TimeoutError:
        raise ReplayError("this call was cancelled, and nobody cancels it now") from None
    except asyncio.CancelledError as cancelled:
        from flujo.agents import AgentUsage

        cost = None if used["unpriced"] else used["cost_usd"]
        raise _Cancelled(AgentUsage(cost, used["tokens"], used["requests"])) from cancelled


async def replay(runner: Flujo[Any, Any], run_id: str) -> Replay:
    """See `Flujo.replay`."""
    loop = asyncio.get_running_loop()
    recorded = await kept_of(runner).recorded(run_id, loop)
    result = await loop.create_task(_played(_player(runner, recorded), recorded, run_id))
    differences = [Difference(*one) for one in recorded.differences()]
    if result.status != recorded.status:
        differences.append(Difference("", "", 0, "status", recorded.status, result.status))
    elif result.status == "completed" and not recorded.gave(result.output):
        differences.append(Difference("", "", 0, "output", recorded.output, result.output))
    differences += context_differences(recorded.context, result.final_pipeline_context)
    record = result.__flujo_record__
    assert record is not None  # nobody has looked at the whole result yet
    differences += usage_differences(recorded.usage, record.field("usage"))
    return Replay(run_id, result, differences)


def _player(runner: Flujo[Any, Any], recorded: RecordedRun) -> Engine:
    """Plays a stored run again: it keeps nothing, and is told of to nobody."""
    from flujo._native import Engine
    from flujo.application._runs import Runs

    alone: dict[str, Any] = {
        "telemetry": None,
        "on_alert": None,
        "traces": False,
        "rate_limits": [],
        "player": recorded,
    }
    return Engine(runner._compile, runs=Runs(), **{**runner._made_of, **alone})


async def _played(player: Engine, recorded: RecordedRun, run_id: str) -> PipelineResult[Any, Any]:
    """Plays a run through the questions that were answered."""
    playing = _Playing(recorded)
    playing.task = asyncio.current_task()
    _PLAYING.set(playing)
    answers = _Answers(recorded.answers)
    result = await _ended(player.stored(run_id), playing)
    while True:
        stopped: PausedRun | None = getattr(result, "__flujo_paused__", None)
        if stopped is None:
            return result
        known = [(pause.id, *found) for pause in result.pauses if (found := answers.to(pause)) is not None]
        if result.status != "paused":
            if not playing.goes_on():
                return result
            run = player.resume_stopped(stopped, (None, None, None))  # with whatever limits it went on
        elif known:
            given = [(id, answer) for id, answer in known if answer is not None]
            run = player.resume(stopped, given, [id for id, answer in known if answer is None])
        elif playing.is_cancelled_next:
            run = player.resume(stopped, [], [], cancel=True)
        else:
            return result
        result = await _ended(run, playing)


class _Answers:
    """What people answered, in order."""

    def __init__(self, answers: list[tuple[str, str, Any]]) -> None:
        self._left = answers

    def to(self, pause: Pause) -> tuple[Any] | None:
        """The first answer to a question that is left; to one of the same step where the question has another number
        now.
        """
        for place in (0, 1):
            for number, answer in enumerate(self._left):
                if answer[place] == (pause.id, pause.path)[place]:
                    del self._left[number]
                    return (answer[2],)
        return None


async def _ended(run: Awaitable[Any], playing: _Playing) -> PipelineResult[Any, Any]:
    """The result of a run, in whatever way it ends."""
    try:
        result: Any = await run
    except asyncio.CancelledError as cancelled:
        result = getattr(cancelled, "flujo_result", None)
        if not playing.called_off or result is None:
            raise
        assert playing.task is not None
        playing.task.uncancel()
    except Exception as error:
        result = getattr(error, "result", None)
        if not isinstance(result, PipelineResult):
            raise
    assert isinstance(result, PipelineResult)
    return result
