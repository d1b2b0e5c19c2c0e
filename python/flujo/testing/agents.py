"""Agents and plugins that do what a test tells them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flujo.domain.plugins import PluginOutcome

if TYPE_CHECKING:
    from typing import Self

    from flujo.domain.results import PipelineResult, StepResult

__all__ = ["DummyPlugin", "FailingStreamAgent", "ReplayAgent", "StubAgent"]


class StubAgent:
    """Gives its outputs one after the other. An exception among them is raised.

    `inputs` holds what it was asked so far, `call_count` how often.
    """

    def __init__(self, outputs: Iterable[Any]) -> None:
        self.outputs = list(outputs)
        self.inputs: list[Any] = []

    @property
    def call_count(self) -> int:
        """How often it was asked."""
        return len(self.inputs)

    async def run(self, data: Any = None, **kwargs: Any) -> Any:
        """The next output.

        Raises:
            IndexError: when there are no more.
        """
        self.inputs.append(data)
        if self.call_count > len(self.outputs):
            raise IndexError("No more outputs available")
        output = self.outputs[self.call_count - 1]
        if isinstance(output, BaseException):
            raise output
        return output


class DummyPlugin:
    """Gives its outcomes one after the other, and the last one from then on.

    `inputs` holds the data it was shown so far, `call_count` how often.
    """

    def __init__(self, outcomes: Iterable[PluginOutcome]) -> None:
        self.outcomes = list(outcomes)
        if not self.outcomes:
            raise ValueError("DummyPlugin needs at least one outcome")
        self.inputs: list[Any] = []

    @property
    def call_count(self) -> int:
        """How often it was asked."""
        return len(self.inputs)

    async def validate(self, data: dict[str, Any]) -> PluginOutcome:
        """The next outcome."""
        self.inputs.append(data)
        return self.outcomes[min(self.call_count, len(self.outcomes)) - 1]


class FailingStreamAgent:
    """Streams its chunks and raises `error` after `fail_after` of them; after all, by default."""

    def __init__(
        self, chunks: Iterable[Any], error: BaseException | None = None, fail_after: int | None = None
    ) -> None:
        self.chunks = list(chunks)
        self.error = RuntimeError("the stream broke off") if error is None else error
        self.fail_after = len(self.chunks) if fail_after is None else fail_after

    async def stream(self, data: Any = None, **kwargs: Any) -> AsyncIterator[Any]:
        """The chunks, then the error."""
        for chunk in self.chunks[: self.fail_after]:
            yield chunk
        raise self.error


class ReplayAgent:
    """Gives what a step gave in an earlier run, in the same order, and refuses any call beyond that.

    agent = ReplayAgent.of(result, "draft")
    with override_agent(draft, agent):
        ...
    """

    def __init__(self, outputs: Iterable[Any], step_name: str = "") -> None:
        self.outputs = list(outputs)
        self.step_name = step_name
        self.call_count = 0

    @classmethod
    def of(cls, result: PipelineResult[Any, Any], step_name: str) -> Self:
        """An agent that repeats what the step named `step_name` gave in `result`, at any depth.

        Raises:
            ReplayError: if the result has no such step.
        """
        outputs = [step.output for step in all_steps(result.step_history) if step.name == step_name]
        if not outputs:
            from flujo.exceptions import ReplayError

            names = sorted({step.name for step in all_steps(result.step_history)})
            raise ReplayError(
                f"the result has no step named {step_name!r}",
                suggestion=f"its steps are {', '.join(map(repr, names))}" if names else None,
            )
        return cls(outputs, step_name)

    async def run(self, data: Any = None, **kwargs: Any) -> Any:
        """The next recorded output.

        Raises:
            ReplayError: when the step is called more often than it was then.
        """
        self.call_count += 1
        if self.call_count > len(self.outputs):
            from flujo.exceptions import ReplayError

            name = f"step {self.step_name!r}" if self.step_name else "the step"
            raise ReplayError(
                f"{name} was called {self.call_count} times, but only {len(self.outputs)} calls are recorded"
            )
        return self.outputs[self.call_count - 1]


def all_steps(history: Iterable[StepResult]) -> Iterator[StepResult]:
    """The steps of a history, each before those inside it. Deep nesting costs no call stack."""
    waiting = list(history)[::-1]
    while waiting:
        step = waiting.pop()
        yield step
        waiting.extend(reversed(step.step_history or step.items))
