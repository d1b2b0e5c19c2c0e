"""A pipeline as one step, with a context of its own and a say in what passes between the two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from flujo.domain.dsl import _checks
from flujo.domain.dsl._composable import Composable, InputT, OutputT
from flujo.domain.dsl._tracking import Check, TrackedList
from flujo.domain.dsl.step import Step

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flujo.domain.dsl._step_fields import StepOptions
    from flujo.domain.dsl.pipeline import Pipeline

__all__ = ["ImportFailure", "ImportInput", "ImportStep", "OutputMapping"]

ImportInput = Literal["initial_prompt", "import_artifacts", "both"]
"""Where in the imported pipeline's context the step's input is put."""

ImportFailure = Literal["abort", "skip", "continue_with_default"]
"""What a failing import means: the step fails, its input passes on, or the default output does."""


@dataclass(frozen=True)
class OutputMapping:
    """One value that goes back: from a path in the imported pipeline's context to one in the outer context."""

    child: str
    parent: str


def _pipeline(where: str, value: object) -> object:
    from flujo.domain.dsl.pipeline import as_pipeline

    return as_pipeline(where, value)


def _output(where: str, value: object) -> object:
    if isinstance(value, OutputMapping):
        child, parent = value.child, value.parent
    elif isinstance(value, Mapping) and set(value) == {"child", "parent"}:
        child, parent = value["child"], value["parent"]
    elif isinstance(value, tuple) and len(value) == 2:
        child, parent = value
    else:
        raise _checks.wrong_type(where, value, "an OutputMapping(child=…, parent=…)")
    _checks.dotted_path(f"{where}.child", child)
    _checks.dotted_path(f"{where}.parent", parent)
    return OutputMapping(child, parent)


class ImportStep(Step[InputT, OutputT]):
    """Runs a pipeline in a context of its own; totals, traces and pauses are part of the outer run's.

    Args:
        name: Names the step.
        pipeline: The pipeline.
        inherit_context: Its context begins with copies of the outer one's fields; else with the defaults of that class.
        input_to: Where in its context the step's input is put; its first step gets the input in any case.
        outputs: What goes back into the outer context when it succeeds. None: all that it wrote; an empty list:
            nothing.
        inherit_conversation: It continues the outer context's `conversation_history`, and what it adds goes back.
        propagate_hitl: Its questions to humans pause the outer run, which is the only way there is: False is refused.
        on_failure: What a failing import means. Either way its record is kept, and the metadata say
            `fallback_triggered` and `original_error` where the step goes on.
        default_output: The output with `on_failure="continue_with_default"`.
        **options: The fields of every step, and those of its config.
    """

    kind: ClassVar[str] = "import"
    _fields: ClassVar[tuple[str, ...]] = (
        *Step._fields,
        "pipeline",
        "inherit_context",
        "input_to",
        "outputs",
        "inherit_conversation",
        "failure_mode",
        "default_output",
    )
    _checks: ClassVar[Mapping[str, Check]] = {
        **Step._checks,
        "pipeline": _pipeline,
        "inherit_context": _checks.boolean,
        "input_to": _checks.choice(None, "initial_prompt", "import_artifacts", "both"),
        "outputs": _checks.optional(_checks.list_of(_output, "a list of OutputMapping, or None for all")),
        "inherit_conversation": _checks.boolean,
        "failure_mode": _checks.choice(None, "abort", "skip", "continue_with_default"),
    }

    pipeline: Pipeline[Any, Any]
    inherit_context: bool
    input_to: ImportInput
    outputs: TrackedList[OutputMapping] | None
    inherit_conversation: bool
    failure_mode: ImportFailure
    """What `on_failure=` was; the method of that name belongs to every step."""
    default_output: Any

    def __init__(
        self,
        name: str,
        pipeline: Composable[InputT, OutputT],
        *,
        inherit_context: bool = False,
        input_to: ImportInput = "initial_prompt",
        outputs: Iterable[OutputMapping | Mapping[str, str] | tuple[str, str]] | None = None,
        inherit_conversation: bool = True,
        propagate_hitl: bool = True,
        on_failure: ImportFailure = "abort",
        default_output: Any = None,
        **options: Unpack[StepOptions],
    ) -> None:
        self._fill(
            {
                **self._values(name, None, options),
                "pipeline": pipeline,
                "inherit_context": inherit_context,
                "input_to": input_to,
                "outputs": outputs,
                "inherit_conversation": inherit_conversation,
                "failure_mode": on_failure,
                "default_output": default_output,
            }
        )
        if _checks.boolean("ImportStep.propagate_hitl", propagate_hitl) is False:
            raise ValueError(
                f"ImportStep {name!r}: propagate_hitl=False would leave a question unanswered for ever; "
                "let it pause the run, or take the question out of the imported pipeline"
            )
        if self.failure_mode != "abort" and self.fallback_step is not None:
            raise ValueError(
                f"ImportStep {name!r} has both a fallback and on_failure={self.failure_mode!r}; choose one of them"
            )

    def _input_type(self, levels: int) -> Any:
        return self.pipeline._input_type(levels - 1)

    def _output_type(self, levels: int) -> Any:
        return self.pipeline._output_type(levels - 1) if self.failure_mode == "abort" else Any
