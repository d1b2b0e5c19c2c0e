"""One of several branches, chosen by a condition."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from flujo.domain.dsl import _checks
from flujo.domain.dsl._composable import Composable, InputT, OutputT
from flujo.domain.dsl._tracking import Check, TrackedDict
from flujo.domain.dsl.step import Step

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flujo.domain.dsl._step_fields import StepOptions
    from flujo.domain.dsl.pipeline import Pipeline

__all__ = ["BranchKey", "ConditionalStep"]

BranchKey = Hashable
"""What a condition gives and a branch is found by: most often a text, a bool or an enum member."""


def _branch(where: str, key: object, value: object) -> object:
    from flujo.domain.dsl.pipeline import as_pipeline

    return as_pipeline(f"{where}[{key!r}]", value)


def _default(where: str, value: object) -> object:
    from flujo.domain.dsl.pipeline import as_pipeline

    return as_pipeline(where, value)


_mapper = _checks.optional(_checks.predicate(callable, "a callable of the value and the context, or None"))


class ConditionalStep(Step[InputT, OutputT]):
    """Runs the branch whose key the condition gives.

    Args:
        name: Names the step.
        condition_callable: Takes the last output and the context, and gives a branch's key.
        condition_expression: Instead of it, an expression that gives the key, such as
            `"previous_step.score > 0.5"`; truth values find the keys True and False, or "true" and "false".
        branches: The branches by key, each a step or a pipeline; at least one.
        default_branch_pipeline: Runs where no branch has the key; without it such a key fails the step.
        branch_input_mapper: Makes the branch's input from the last output and the context.
        branch_output_mapper: Makes the output from the branch's output, its key and the context.
        **options: The fields of every step, and those of its config.
    """

    kind: ClassVar[str] = "conditional"
    _fields: ClassVar[tuple[str, ...]] = (
        *Step._fields,
        "condition_callable",
        "branches",
        "default_branch_pipeline",
        "branch_input_mapper",
        "branch_output_mapper",
        "condition_expression",
    )
    _checks: ClassVar[Mapping[str, Check]] = {
        **Step._checks,
        "condition_callable": _checks.optional(
            _checks.predicate(
                callable, "a callable of the last output and the context that gives a branch's key"
            )
        ),
        "branches": _checks.mapping(
            _branch, "a mapping of keys to steps or pipelines", "a conditional step needs at least one branch"
        ),
        "default_branch_pipeline": _checks.optional(_default),
        "branch_input_mapper": _mapper,
        "branch_output_mapper": _mapper,
        "condition_expression": _checks.optional(_checks.text),
    }

    condition_callable: Callable[..., Any] | None
    branches: TrackedDict[Hashable, Pipeline[Any, Any]]
    default_branch_pipeline: Pipeline[Any, Any] | None
    branch_input_mapper: Callable[..., Any] | None
    branch_output_mapper: Callable[..., Any] | None
    condition_expression: str | None

    def __init__(
        self,
        name: str,
        condition_callable: Callable[..., Any] | None = None,
        branches: Mapping[Any, Composable[Any, Any]] | None = None,
        default_branch_pipeline: Composable[Any, Any] | None = None,
        branch_input_mapper: Callable[..., Any] | None = None,
        branch_output_mapper: Callable[..., Any] | None = None,
        *,
        condition_expression: str | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        if (condition_callable is None) == (condition_expression is None):
            raise TypeError(
                f"ConditionalStep {name!r}: give either condition_callable or condition_expression"
            )
        self._fill(
            {
                **self._values(name, None, options),
                "condition_callable": condition_callable,
                "branches": branches,
                "default_branch_pipeline": default_branch_pipeline,
                "branch_input_mapper": branch_input_mapper,
                "branch_output_mapper": branch_output_mapper,
                "condition_expression": condition_expression,
            }
        )

    def _every_branch(self) -> list[Pipeline[Any, Any]]:
        default = self.default_branch_pipeline
        return [*self.branches.values(), *([] if default is None else [default])]

    def _input_type(self, levels: int) -> Any:
        from flujo.domain.dsl._types import common_type

        if self.branch_input_mapper is not None:
            return Any
        return common_type(branch._input_type(levels - 1) for branch in self._every_branch())

    def _output_type(self, levels: int) -> Any:
        from flujo.domain.dsl._types import common_type

        if self.branch_output_mapper is not None:
            return Any
        return common_type(branch._output_type(levels - 1) for branch in self._every_branch())
