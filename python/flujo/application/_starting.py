"""A runner's part that starts runs now and looks at them later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, cast

from typing_extensions import TypeVar

if TYPE_CHECKING:
    from flujo.application._handles import RunHandle, Started
    from flujo.application._worker import Recovered, Worker
    from flujo.application.runner import Flujo

InputT = TypeVar("InputT", contravariant=True, default=Any)
OutputT = TypeVar("OutputT", covariant=True, default=Any)


class StartsRuns(Generic[InputT, OutputT]):
    """Starts runs that go on by themselves."""

    _starting: Started | None = None

    @property
    def _started(self) -> Started:
        if self._starting is None:
            from flujo.application._handles import Started

            self._starting = Started()
        return self._starting

    async def start(
        self,
        initial_input: InputT,
        *,
        run_id: str | None = None,
        initial_context_data: Mapping[str, Any] | None = None,
        traceparent: str | None = None,
    ) -> RunHandle[OutputT]:
        """Begin a run that goes on by itself in this event loop; see `run_async` for what it takes.

        Gives its handle: `.id`, `await .status()`, `await .result()`, `await .cancel()`, `await .answer(…)`,
        `.events(after=n)`. What the run raises is raised by `result`.
        """
        runner = cast("Flujo[InputT, OutputT]", self)
        return await self._started.start(runner, initial_input, run_id, initial_context_data, traceparent)

    def get(self, run_id: str) -> RunHandle[OutputT]:
        """The handle of a run of this runner, in whatever way it was begun."""
        return self._started.get(cast("Flujo[InputT, OutputT]", self), run_id)

    def worker(self, *, concurrency: int = 4, drain_s: float = 10.0) -> Worker:
        """What goes on with runs of this pipeline in the store that nobody runs: `async with runner.worker(): …`.

        Those are runs that a process left half done when it ended, also such as a worker gave back, those with a
        question whose time is over, and those for which an answer or a request to stop was left. Where the runner has
        a registry a run goes on with the version of the pipeline that it began with; one of a version that isn't
        registered is left alone.

        Args:
            concurrency: How many runs it goes on with at the same time.
            drain_s: How many seconds it waits at its end for what it has, and for what `start` began; the rest is given
                back.

        Raises:
            ConfigurationError: the runner has no store.
            ValueError: a number is out of its range.
        """
        from flujo.application._worker import Worker, kept_of

        kept_of(cast("Flujo[InputT, OutputT]", self))
        if concurrency < 1 or drain_s < 0:
            raise ValueError("a worker's concurrency is 1 or more, and its drain_s 0 seconds or more")
        return Worker(cast("Flujo[InputT, OutputT]", self), concurrency, drain_s)

    async def recover(self) -> Recovered:
        """Go on with all runs of this pipeline in the store that nobody runs, until they have ended or stand still.

        Raises:
            ConfigurationError: the runner has no store.
            StoreError: the store can't be read.
        """
        from flujo.application._worker import recover

        return await recover(cast("Flujo[InputT, OutputT]", self))

    async def _drain(self, drain_s: float) -> None:
        if self._starting is not None:
            await self._starting.end(drain_s, cast("Flujo[InputT, OutputT]", self)._kept)
