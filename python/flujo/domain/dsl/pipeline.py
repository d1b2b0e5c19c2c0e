"""A pipeline: steps in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import TypeVar

from flujo.domain.dsl import _checks
from flujo.domain.dsl._composable import Composable, InputT, OutputT
from flujo.domain.dsl._tracking import Check, TrackedList, shown
from flujo.domain.dsl.step import Step

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flujo._native import OptimizationConfig
    from flujo.domain.dsl._step_fields import StepOptions
    from flujo.domain.dsl.sub_pipeline import SubPipelineStep
    from flujo.domain.validation import ValidationReport

__all__ = ["Pipeline", "as_pipeline", "join"]

In = TypeVar("In")
Out = TypeVar("Out")


def _steps(where: str, value: object) -> object:
    steps: TrackedList[Step[Any, Any]] = _list_of_steps(where, value)  # type: ignore[assignment]
    _check_joints(list(steps), where)
    return steps


def _step(where: str, value: object) -> object:
    if isinstance(value, Step):
        return value
    allowed = "a Step"
    if isinstance(value, Pipeline):
        allowed += "; join pipelines with >>, or nest one with pipeline.as_step(name)"
    elif callable(value):
        allowed += "; decorate the function with @step, or wrap it with Step.from_callable(...)"
    raise _checks.wrong_type(where, value, allowed)


def _callable(where: str, value: object) -> object:
    if not callable(value):
        raise _checks.wrong_type(where, value, "a callable")
    return value


_list_of_steps = _checks.list_of(_step, "a list of steps")
_callables = _checks.list_of(_callable, "a list of callables")


class Pipeline(Composable[InputT, OutputT]):
    """Steps in order, each fed with the output of the one before.

    Args:
        steps: The steps. One step may stand in several places; two different ones need different names.
        name: Names the pipeline in results, records and errors.
        hooks: Called with the events of each run.
        on_finish: Called when a run is over.
        on_failure: Runs when a step has failed and nothing at that step has dealt with it: a step or pipeline
            that gets a `StepFailure`. How it ends is how the pipeline ends.
        static_invariants: Must hold of the context (or of output and context) after each step; one that doesn't
            fails the step.
        optimization: Which optimisations the pipeline uses; None means the runner's.

    Raises:
        TypeError: something has a wrong type.
        ValueError: two steps share a name, or one's declared output can't be the next one's input.
    """

    kind: ClassVar[str] = "sequence"

    _fields: ClassVar[tuple[str, ...]] = (
        "steps",
        "name",
        "hooks",
        "on_finish",
        "on_failure",
        "static_invariants",
        "optimization",
    )
    _checks: ClassVar[Mapping[str, Check]] = {
        "steps": _steps,
        "name": _checks.optional(_checks.name),
        "hooks": _callables,
        "on_finish": _callables,
        "on_failure": _checks.optional(lambda where, value: as_pipeline(where, value)),
        "static_invariants": _callables,
        "optimization": _checks.optional(_checks.optimization),
    }

    steps: TrackedList[Step[Any, Any]]
    name: str | None
    hooks: TrackedList[Callable[..., object]]
    on_finish: TrackedList[Callable[..., object]]
    on_failure: Pipeline[Any, Any] | None
    static_invariants: TrackedList[Callable[..., object]]
    optimization: OptimizationConfig | None

    def __init__(
        self,
        steps: Iterable[Step[Any, Any]] = (),
        *,
        name: str | None = None,
        hooks: Iterable[Callable[..., object]] | None = None,
        on_finish: Iterable[Callable[..., object]] | None = None,
        on_failure: Composable[Any, Any] | None = None,
        static_invariants: Iterable[Callable[..., object]] | None = None,
        optimization: OptimizationConfig | None = None,
    ) -> None:
        self._fill(
            {
                "steps": steps,
                "name": name,
                "hooks": hooks,
                "on_finish": on_finish,
                "on_failure": on_failure,
                "static_invariants": static_invariants,
                "optimization": optimization,
            }
        )

    @classmethod
    def from_step(cls, step: Step[In, Out]) -> Pipeline[In, Out]:
        """A pipeline of one step."""
        return Pipeline([step])

    def iter_steps(self) -> Iterator[Step[Any, Any]]:
        """The steps in order; what is inside of parallel, conditional and other constructs isn't visited."""
        return iter(self.steps)

    def _input_type(self, levels: int) -> Any:
        return self.steps[0]._input_type(levels) if self.steps and levels > 0 else Any

    def _output_type(self, levels: int) -> Any:
        return self.steps[-1]._output_type(levels) if self.steps and levels > 0 else Any

    def as_step(
        self, name: str, inherit_context: bool = True, **options: Unpack[StepOptions]
    ) -> SubPipelineStep[InputT, OutputT]:
        """This pipeline as one step of another. Totals, traces and pauses pass through.

        Args:
            name: Names the step.
            inherit_context: The nested pipeline starts with the context of the outer one, and its writes go
            back. **options: The fields of every step, and those of its config.
        """
        from flujo.domain.dsl.sub_pipeline import SubPipelineStep

        return SubPipelineStep(name, self, inherit_context=inherit_context, **options)

    def validate_graph(self, raise_on_error: bool = False) -> ValidationReport:
        """Look for what can't work, without running anything.

        Raises:
            ConfigurationError: something was found and `raise_on_error` is set.
        """
        from flujo.domain.dsl._graph_rules import validate

        return validate(self, raise_on_error=raise_on_error)

    def to_mermaid(self) -> str:
        """The pipeline as a mermaid flowchart."""
        from flujo.domain.dsl._mermaid import flowchart

        return flowchart(self)

    def __repr__(self) -> str:
        named = "" if self.name is None else f"{self.name!r}: "
        return f"Pipeline({named}{' >> '.join(step.name for step in self.steps) or 'empty'})"


def as_pipeline(where: str, value: object) -> Pipeline[Any, Any]:
    """A branch or body, given as a step or a pipeline, as a pipeline."""
    if isinstance(value, Pipeline):
        return value
    if isinstance(value, Step):
        return Pipeline([value])
    allowed = "a Step or a Pipeline"
    if callable(value):
        allowed += "; decorate the function with @step, or wrap it with Step.from_callable(...)"
    raise _checks.wrong_type(where, value, allowed)


def join(left: Composable[Any, Any], right: object) -> Any:
    """`left >> right`, flat: a pipeline, or NotImplemented where `right` is nothing that could be joined.

    Raises:
        ValueError: two steps share a name, or the types at the joint can't fit.
    """
    if not isinstance(right, Step | Pipeline):
        if callable(right):
            raise TypeError(
                f"{left!r} >> {shown(right)}: the right side must be a Step or a Pipeline; "
                "decorate the function with @step, or wrap it with Step.from_callable(...)"
            )
        return NotImplemented
    if isinstance(left, Step) and isinstance(right, Step):
        return Pipeline([left, right])
    sides = (as_pipeline("left", left), as_pipeline("right", right))
    if any(side.on_failure is not None for side in sides):
        raise ValueError(
            f"{left!r} >> {right!r}: a pipeline with on_failure can't be joined flat, as its handler would then "
            "be for other steps too; nest it with pipeline.as_step(name)"
        )
    return Pipeline(
        [step for side in sides for step in side.steps],
        name=next((side.name for side in sides if side.name is not None), None),
        hooks=[hook for side in sides for hook in side.hooks],
        on_finish=[hook for side in sides for hook in side.on_finish],
        static_invariants=[invariant for side in sides for invariant in side.static_invariants],
        optimization=next((side.optimization for side in sides if side.optimization is not None), None),
    )


def _check_joints(steps: list[Step[Any, Any]], where: str) -> None:
    """Refuse two steps of one name, and neighbours whose declared types can't fit."""
    from flujo.domain.dsl._types import fits, type_name

    by_name: dict[str, Step[Any, Any]] = {}
    for step in steps:
        if by_name.setdefault(step.name, step) is not step:
            raise ValueError(
                f"{where}: two different steps are named {step.name!r}; results are found by name, "
                "so rename one of them"
            )
    for before, after in pairwise(steps):
        given, taken = before.output_type, after.input_type
        if not fits(given, taken):
            raise ValueError(
                f"{where}: step {before.name!r} gives {type_name(given)}, but the next step {after.name!r} "
                f"takes {type_name(taken)}; change an annotation, or put a step between that converts"
            )
