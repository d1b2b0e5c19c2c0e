"""A pipeline as one step of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from flujo.domain.dsl import _checks
from flujo.domain.dsl._composable import Composable, InputT, OutputT
from flujo.domain.dsl._tracking import Check
from flujo.domain.dsl.step import Step

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flujo.domain.dsl._step_fields import StepOptions
    from flujo.domain.dsl.pipeline import Pipeline

__all__ = ["SubPipelineStep"]


def _pipeline(where: str, value: object) -> object:
    from flujo.domain.dsl.pipeline import as_pipeline

    return as_pipeline(where, value)


class SubPipelineStep(Step[InputT, OutputT]):
    """Runs a pipeline as one step; its totals, traces and pauses are part of the outer run's.

    Args:
        name: Names the step.
        pipeline: The pipeline.
        inherit_context: It starts with the context of the outer pipeline, and its writes go back.
        **options: The fields of every step, and those of its config.
    """

    kind: ClassVar[str] = "sub_pipeline"
    _fields: ClassVar[tuple[str, ...]] = (*Step._fields, "pipeline", "inherit_context")
    _checks: ClassVar[Mapping[str, Check]] = {
        **Step._checks,
        "pipeline": _pipeline,
        "inherit_context": _checks.boolean,
    }

    pipeline: Pipeline[Any, Any]
    inherit_context: bool

    def __init__(
        self,
        name: str,
        pipeline: Composable[InputT, OutputT],
        *,
        inherit_context: bool = True,
        **options: Unpack[StepOptions],
    ) -> None:
        self._fill(
            {**self._values(name, None, options), "pipeline": pipeline, "inherit_context": inherit_context}
        )

    def _input_type(self, levels: int) -> Any:
        return self.pipeline._input_type(levels - 1)

    def _output_type(self, levels: int) -> Any:
        return self.pipeline._output_type(levels - 1)
