"""A runner's part that gives runs as streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

if TYPE_CHECKING:
    from flujo._native import Run
    from flujo.domain.dsl.pipeline import Pipeline
    from flujo.domain.events import Event
    from flujo.domain.outcomes import StepOutcome

InputT = TypeVar("InputT", contravariant=True, default=Any)
OutputT = TypeVar("OutputT", covariant=True, default=Any)


class StreamsRuns(Generic[InputT, OutputT]):
    """Runs a pipeline and yields what comes of it. Leaving a stream early cancels its run and waits for its end."""

    if TYPE_CHECKING:
        pipeline: Pipeline[Any, Any]

        def _run(
            self,
            initial_input: Any,
            run_id: str | None,
            data: Mapping[str, Any] | None,
            traceparent: str | None,
        ) -> Run: ...

    def stream_async(
        self,
        initial_input: InputT,
        *,
        run_id: str | None = None,
        initial_context_data: Mapping[str, Any] | None = None,
        traceparent: str | None = None,
    ) -> AsyncGenerator[Any]:
        """Run the pipeline and yield the chunks of its last step, where its agent streams, then the result."""
        from flujo.application._stream import chunks

        steps = self.pipeline.steps
        last = steps[-1].name if steps else ""
        return chunks(lambda: self._run(initial_input, run_id, initial_context_data, traceparent), only=last)

    def run_stream(
        self,
        initial_input: InputT,
        *,
        run_id: str | None = None,
        initial_context_data: Mapping[str, Any] | None = None,
        traceparent: str | None = None,
    ) -> AsyncGenerator[Any]:
        """Run the pipeline and yield the chunks of every step whose agent streams, then the result.

        Chunks come in order. When the reader falls behind, the agents wait.
        """
        from flujo.application._stream import chunks

        return chunks(lambda: self._run(initial_input, run_id, initial_context_data, traceparent))

    def run_with_events(
        self,
        initial_input: InputT,
        *,
        run_id: str | None = None,
        initial_context_data: Mapping[str, Any] | None = None,
        traceparent: str | None = None,
    ) -> AsyncGenerator[Event]:
        """Run the pipeline and yield what happens, in order; the last is `run_finished` with the result.

        What the run raises is raised after that.
        """
        from flujo.application._stream import events

        return events(lambda: self._run(initial_input, run_id, initial_context_data, traceparent))

    def run_outcomes(
        self,
        initial_input: InputT,
        *,
        run_id: str | None = None,
        initial_context_data: Mapping[str, Any] | None = None,
        traceparent: str | None = None,
    ) -> AsyncGenerator[StepOutcome]:
        """Run the pipeline and yield `Chunk`s, then one `Success`, `Failure`, `Paused` or `Aborted`."""
        from flujo.application._stream import outcomes

        return outcomes(lambda: self._run(initial_input, run_id, initial_context_data, traceparent))

    run_outcomes_async = run_outcomes
