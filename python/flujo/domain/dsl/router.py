"""Branches that a router chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from flujo.domain.dsl import _checks
from flujo.domain.dsl._composable import Composable, InputT, OutputT
from flujo.domain.dsl._tracking import Check
from flujo.domain.dsl.parallel import BranchFailureStrategy, MergeFunction, MergeStrategy, ParallelStep

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flujo.domain.dsl._step_fields import StepOptions

__all__ = ["DynamicParallelRouterStep"]


def _router(where: str, value: object) -> object:
    from flujo.domain.dsl._signature import agent_entry_point

    if not isinstance(value, Composable) and (value is None or agent_entry_point(value) is None):
        allowed = "what gives the names of branches: an agent, a callable, a Step or a Pipeline"
        raise _checks.wrong_type(where, value, allowed)
    return value


class DynamicParallelRouterStep(ParallelStep[InputT, OutputT]):
    """Runs the branches that a router names, at the same time on one input.

    The router runs first, on the same input, and gives the names of branches: a list of texts, or one text. A name that
    no branch has fails the step; no name at all gives an empty dict. The router's own result stands first in the step's
    `step_history`.

    Args:
        name: Names the step.
        router_agent: Gives the names of the branches to run.
        branches: The branches by name, each a step or a pipeline; at least one.
        **rest: As for `ParallelStep`; the branches' writes to the context are dropped unless a
            `merge_strategy` is given.
    """

    kind: ClassVar[str] = "router"
    _fields: ClassVar[tuple[str, ...]] = (*ParallelStep._fields, "router_agent")
    _checks: ClassVar[Mapping[str, Check]] = {**ParallelStep._checks, "router_agent": _router}

    router_agent: Any

    def __init__(
        self,
        name: str,
        router_agent: object,
        branches: Mapping[str, Composable[Any, Any]],
        *,
        context_include_keys: Iterable[str] | None = None,
        merge_strategy: MergeStrategy | MergeFunction | str = MergeStrategy.NO_MERGE,
        on_branch_failure: BranchFailureStrategy | str = BranchFailureStrategy.PROPAGATE,
        field_mapping: Mapping[str, Iterable[str]] | None = None,
        ignore_branch_names: bool = False,
        reduce: Callable[..., Any] | None = None,
        max_concurrency: int | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        super().__init__(
            name,
            branches,
            context_include_keys=context_include_keys,
            merge_strategy=merge_strategy,
            on_branch_failure=on_branch_failure,
            field_mapping=field_mapping,
            ignore_branch_names=ignore_branch_names,
            reduce=reduce,
            max_concurrency=max_concurrency,
            **options,
        )
        self._fill({"router_agent": router_agent})
