"""A pipeline that runs once for each item."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from flujo.domain.dsl import _checks
from flujo.domain.dsl._composable import Composable, InputT, OutputT
from flujo.domain.dsl._merging import MergeFunction, MergeStrategy, merge_strategy
from flujo.domain.dsl._tracking import Check
from flujo.domain.dsl.step import Step

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flujo.domain.dsl._step_fields import StepOptions
    from flujo.domain.dsl.pipeline import Pipeline

__all__ = ["ItemFailure", "MapStep"]

ItemFailure = Literal["fail", "skip", "none"]
"""What a failing item means: the step fails, the item is left out, or None stands in its place."""


def _pipeline(where: str, value: object) -> object:
    from flujo.domain.dsl.pipeline import as_pipeline

    return as_pipeline(where, value)


def _iterable_input(where: str, value: object) -> object:
    if isinstance(value, str):
        return _checks.dotted_path(where, value)
    if not callable(value):
        raise _checks.wrong_type(
            where,
            value,
            "a context field's name, a callable of input and context, or None for the step's input",
        )
    return value


class MapStep(Step[InputT, OutputT]):
    """Runs a pipeline once for each item; the output is the list of their outputs in order of the items.

    Args:
        name: Names the step.
        pipeline: Runs for each item; a step or a pipeline.
        iterable_input: Where the items come from: a context field's name, a callable of the input and the
            context, or None for the step's own input. Lazy and async iterables are read as they're needed.
        max_concurrency: How many items run at once.
        merge_strategy: How the writes of items that run at once are joined: a strategy, its name, or a
            function of the context and the items' by place ("0", "1", …). One at a time, an item sees what
            those before it wrote.
        on_item_failure: "fail" fails the step with the record of every item, "skip" leaves the item out,
            "none" puts None in its place.
        **options: The fields of every step, and those of its config.
    """

    kind: ClassVar[str] = "map"
    _fields: ClassVar[tuple[str, ...]] = (
        *Step._fields,
        "pipeline",
        "iterable_input",
        "max_concurrency",
        "merge_strategy",
        "on_item_failure",
    )
    _checks: ClassVar[Mapping[str, Check]] = {
        **Step._checks,
        "pipeline": _pipeline,
        "iterable_input": _checks.optional(_iterable_input),
        "max_concurrency": _checks.count(1),
        "merge_strategy": merge_strategy,
        "on_item_failure": _checks.choice(None, "fail", "skip", "none"),
    }

    pipeline: Pipeline[Any, Any]
    iterable_input: str | Callable[..., Any] | None
    max_concurrency: int
    merge_strategy: MergeStrategy | MergeFunction
    on_item_failure: ItemFailure

    def __init__(
        self,
        name: str,
        pipeline: Composable[Any, Any],
        *,
        iterable_input: str | Callable[..., Any] | None = None,
        max_concurrency: int = 1,
        merge_strategy: MergeStrategy | MergeFunction | str = MergeStrategy.CONTEXT_UPDATE,
        on_item_failure: ItemFailure = "fail",
        **options: Unpack[StepOptions],
    ) -> None:
        self._fill(
            {
                **self._values(name, None, options),
                "pipeline": pipeline,
                "iterable_input": iterable_input,
                "max_concurrency": max_concurrency,
                "merge_strategy": merge_strategy,
                "on_item_failure": on_item_failure,
            }
        )

    def _input_type(self, levels: int) -> Any:
        from collections.abc import AsyncIterable

        if self.iterable_input is not None:
            return Any
        item = self.pipeline._input_type(levels - 1)
        return Iterable[item] | AsyncIterable[item]  # type: ignore[valid-type]

    def _output_type(self, levels: int) -> Any:
        item = self.pipeline._output_type(levels - 1)
        return list[Any] if self.on_item_failure == "none" else list[item]  # type: ignore[valid-type]
