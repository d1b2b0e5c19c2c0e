"""A runner's part that looks back at stored runs: forks of them, replays, and those that failed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, cast
from uuid import uuid4

from typing_extensions import TypeVar

if TYPE_CHECKING:
    from flujo.application._handles import RunHandle
    from flujo.application.runner import Flujo
    from flujo.domain.replay import Replay
    from flujo.domain.results import PipelineResult
    from flujo.state.models import RunDetails

InputT = TypeVar("InputT", contravariant=True, default=Any)
OutputT = TypeVar("OutputT", covariant=True, default=Any)


class LooksBack(Generic[InputT, OutputT]):
    """Forks stored runs and plays them again."""

    async def fork(
        self, run_id: str, *, from_step: str, iteration: int | None = None, new_run_id: str | None = None
    ) -> RunHandle[OutputT]:
        """Begin another run with what a stored run was when one of its steps began; it goes on by itself.

        What had ended by then is part of the new run and isn't run again, with what it used. The stored run stays as
        it is.

        Args:
            run_id: The stored run.
            from_step: The step: its path, or its name where only one step has it.
            iteration: Which time it began: the iteration of the innermost loop or state machine around it, from 1; the
                first by default.
            new_run_id: The id of the new run; a new one by default.

        Raises:
            ConfigurationError: the runner has no store.
            RunNotFoundError: there is no such run.
            RunExistsError: there is a run of the new id.
            ForkError: there is no such step, or it has not begun in the run, or what was before it isn't kept.
            DefinitionChangedError: the pipeline has changed before that step.
        """
        from flujo.application._handles import RunHandle
        from flujo.application._worker import kept_of

        runner = cast("Flujo[InputT, OutputT]", self)
        kept_of(runner)
        new = new_run_id or uuid4().hex
        loop = asyncio.get_running_loop()
        await runner._engine.fork(run_id, from_step, iteration, new, event_loop=loop)
        told = runner._started.go_on(new, runner._engine.stored(new), None)
        return RunHandle(runner, new, told)

    async def replay(self, run_id: str) -> Replay:
        """Play a stored run that has ended again: what its agents answered and people said is told to the pipeline.

        No agent is called and no hook, nothing is kept and nobody waits; conditions, mappers, processors and validators
        run as they are now. Gives the result and, in `.differences`, what isn't as it was.

        Raises:
            ConfigurationError: the runner has no store.
            RunNotFoundError: there is no such run.
            ReplayError: the run hasn't ended, or its log isn't kept from its beginning on.
            CorruptRunError: what is stored can't be read.
        """
        from flujo.application._replaying import replay

        return await replay(cast("Flujo[InputT, OutputT]", self), run_id)

    async def replay_from_trace(self, run_id: str) -> PipelineResult[Any, OutputT]:
        """The result of `replay`, for a run in which agents are asked what they were asked.

        Raises:
            ReplayError: they are asked something else now.
        """
        replayed = await self.replay(run_id)
        if any(one.what in ("input", "call") for one in replayed.differences):
            from flujo.exceptions import ReplayError

            raise ReplayError(
                str(replayed), suggestion="runner.replay(run_id) gives the result and what differs"
            )
        return cast("PipelineResult[Any, OutputT]", replayed.result)

    # --- older names for runs that go on by themselves

    async def get_failed_background_tasks(self, limit: int = 100) -> list[RunDetails]:
        """The stored runs of this pipeline that failed, the newest first.

        Raises:
            ConfigurationError: the runner has no store.
        """
        from flujo.application._failed import failed

        return await failed(cast("Flujo[InputT, OutputT]", self), limit)

    async def resume_background_task(self, task_id: str) -> PipelineResult[Any, OutputT]:
        """Go on with a stored run: see `resume_async`. One that failed is forked at the step that failed.

        Raises:
            ConfigurationError: the runner has no store.
            RunNotFoundError: there is no such run.
        """
        from flujo.application._failed import go_on

        result = await go_on(cast("Flujo[InputT, OutputT]", self), task_id)
        return cast("PipelineResult[Any, OutputT]", result)

    async def retry_failed_background_tasks(self, limit: int = 100) -> list[PipelineResult[Any, OutputT]]:
        """Fork each stored run of this pipeline that failed at the step that failed, unless that was done before.

        Raises:
            ConfigurationError: the runner has no store.
        """
        from flujo.application._failed import retry

        results = await retry(cast("Flujo[InputT, OutputT]", self), limit)
        return cast("list[PipelineResult[Any, OutputT]]", results)

    async def cleanup_stale_background_tasks(self) -> int:
        """Go on with the stored runs of this pipeline whose process is gone: `recover`. Gives how many there were.

        Raises:
            ConfigurationError: the runner has no store.
        """
        report = await cast("Flujo[InputT, OutputT]", self).recover()
        return len(report.resumed) + len(report.failed)
