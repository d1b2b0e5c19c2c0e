"""Branches that run at the same time on one input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from flujo.domain.dsl import _checks
from flujo.domain.dsl._composable import Composable, InputT, OutputT
from flujo.domain.dsl._merging import MergeFunction, MergeStrategy, merge_strategy
from flujo.domain.dsl._tracking import Check, TrackedDict, TrackedList
from flujo.domain.dsl.step import Step

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flujo.domain.dsl._step_fields import StepOptions
    from flujo.domain.dsl.pipeline import Pipeline

__all__ = ["BranchFailureStrategy", "MergeFunction", "MergeStrategy", "ParallelStep"]


class BranchFailureStrategy(Enum):
    """What a failing branch means."""

    PROPAGATE = "propagate"
    """The step fails; the other branches are cancelled and waited for."""
    IGNORE = "ignore"
    """The step succeeds if at least one branch does."""


def _branch(where: str, key: object, value: object) -> object:
    from flujo.domain.dsl.pipeline import as_pipeline

    _checks.name(f"{where}: key", key)
    return as_pipeline(f"{where}[{key!r}]", value)


def _fields_of_branch(where: str, key: object, value: object) -> object:
    _checks.text(f"{where}: key", key)
    return _names(f"{where}[{key!r}]", value)


_names = _checks.list_of(_checks.text, "a list of names of context fields")


class ParallelStep(Step[InputT, OutputT]):
    """Runs branches at the same time on one input, each with its own view of the context.

    The output is a dict of the branches' outputs in declared order, or what `reduce` makes of it.

    Args:
        name: Names the step.
        branches: The branches by name, each a step or a pipeline; at least one.
        context_include_keys: The context fields of which the branches' writes are kept; None for all. Branches see all
            fields, which costs nothing.
        merge_strategy: How the branches' writes are joined: a strategy, its name, or a function of the
            context and the branches' by name, which may be asynchronous.
        on_branch_failure: What a failing branch means.
        field_mapping: By branch, the context fields of which its writes are kept; all of a branch that isn't named.
        ignore_branch_names: No difference: the name of a branch is never part of what is merged.
        reduce: Makes the output from the dict of outputs (and the context).
        max_concurrency: How many branches run at once; None for all.
        **options: The fields of every step, and those of its config.
    """

    kind: ClassVar[str] = "parallel"
    _fields: ClassVar[tuple[str, ...]] = (
        *Step._fields,
        "branches",
        "context_include_keys",
        "merge_strategy",
        "on_branch_failure",
        "field_mapping",
        "ignore_branch_names",
        "reduce",
        "max_concurrency",
    )
    _checks: ClassVar[Mapping[str, Check]] = {
        **Step._checks,
        "branches": _checks.mapping(
            _branch, "a mapping of names to steps or pipelines", "a parallel step needs at least one branch"
        ),
        "context_include_keys": _checks.optional(_names),
        "merge_strategy": merge_strategy,
        "on_branch_failure": _checks.choice(
            BranchFailureStrategy, *(strategy.value for strategy in BranchFailureStrategy)
        ),
        "field_mapping": _checks.optional(
            _checks.mapping(_fields_of_branch, "a mapping of branch names to lists of context fields")
        ),
        "ignore_branch_names": _checks.boolean,
        "reduce": _checks.optional(
            _checks.predicate(callable, "a callable of the outputs by branch, or None")
        ),
        "max_concurrency": _checks.optional(_checks.count(1)),
    }

    branches: TrackedDict[str, Pipeline[Any, Any]]
    context_include_keys: TrackedList[str] | None
    merge_strategy: MergeStrategy | MergeFunction
    on_branch_failure: BranchFailureStrategy
    field_mapping: TrackedDict[str, TrackedList[str]] | None
    ignore_branch_names: bool
    reduce: Callable[..., Any] | None
    max_concurrency: int | None

    def __init__(
        self,
        name: str,
        branches: Mapping[str, Composable[Any, Any]],
        *,
        context_include_keys: Iterable[str] | None = None,
        merge_strategy: MergeStrategy | MergeFunction | str = MergeStrategy.CONTEXT_UPDATE,
        on_branch_failure: BranchFailureStrategy | str = BranchFailureStrategy.PROPAGATE,
        field_mapping: Mapping[str, Iterable[str]] | None = None,
        ignore_branch_names: bool = False,
        reduce: Callable[..., Any] | None = None,
        max_concurrency: int | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        self._fill(
            {
                **self._values(name, None, options),
                "branches": branches,
                "context_include_keys": context_include_keys,
                "merge_strategy": merge_strategy,
                "on_branch_failure": on_branch_failure,
                "field_mapping": field_mapping,
                "ignore_branch_names": ignore_branch_names,
                "reduce": reduce,
                "max_concurrency": max_concurrency,
            }
        )
        unknown = [key for key in self.field_mapping or () if key not in self.branches]
        if unknown:
            raise ValueError(
                f"ParallelStep {name!r}: field_mapping names {unknown[0]!r}, which is no branch; "
                f"branches: {', '.join(map(repr, self.branches))}"
            )

    def _input_type(self, levels: int) -> Any:
        from flujo.domain.dsl._types import common_type

        return common_type(branch._input_type(levels - 1) for branch in self.branches.values())

    def _output_type(self, levels: int) -> Any:
        from flujo.domain.dsl._signature import analyse_callable
        from flujo.domain.dsl._types import common_type

        if self.reduce is not None:
            return analyse_callable(self.reduce).output_type
        return dict[str, common_type(branch._output_type(levels - 1) for branch in self.branches.values())]  # type: ignore[misc]
