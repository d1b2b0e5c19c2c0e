"""A pipeline that runs again and again: until a condition holds, or until a critic is content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from flujo.domain.dsl import _checks
from flujo.domain.dsl._composable import Composable, InputT, OutputT
from flujo.domain.dsl._tracking import Check
from flujo.domain.dsl.step import Step

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flujo.domain.candidates import RefinementCheck
    from flujo.domain.dsl._step_fields import StepOptions
    from flujo.domain.dsl.pipeline import Pipeline

__all__ = ["BodyFailure", "LoopStep", "RefineStep"]

BodyFailure = Literal["stop", "continue"]
"""What a failing iteration means: the loop fails, or it goes on with the last good output."""


def _pipeline(where: str, value: object) -> object:
    from flujo.domain.dsl.pipeline import as_pipeline

    return as_pipeline(where, value)


def _mapper(arguments: str) -> Check:
    return _checks.optional(_checks.predicate(callable, f"a callable of {arguments}, or None"))


class LoopStep(Step[InputT, OutputT]):
    """Runs a pipeline again and again, each time on the output of the time before, until a condition holds.

    The body runs at least once. After each iteration the condition sees its output and the context with what the
    iteration wrote. A loop that has not done after `max_loops` iterations fails and keeps its last output.

    Args:
        name: Names the step.
        loop_body_pipeline: The body, a step or a pipeline.
        exit_condition_callable: Takes the body's output and the context (or the output alone), sync or async; the
            loop ends when what it gives counts as true.
        max_loops: How many iterations there are at most, 1 or more.
        initial_input_to_loop_body_mapper: Makes the first iteration's input from the step's input and the context.
        iteration_input_mapper: Makes the next iteration's input from the last output, the context and how many
            iterations have been made: 1, 2, …
        loop_output_mapper: Makes the step's output from the last output and the context.
        on_body_failure: "stop" fails the step when an iteration fails; "continue" drops what that iteration wrote and
            goes on with the last good output.
        **options: The fields of every step, and those of its config.
    """

    kind: ClassVar[str] = "loop"
    _fields: ClassVar[tuple[str, ...]] = (
        *Step._fields,
        "loop_body_pipeline",
        "exit_condition_callable",
        "max_loops",
        "initial_input_to_loop_body_mapper",
        "iteration_input_mapper",
        "loop_output_mapper",
        "on_body_failure",
    )
    _checks: ClassVar[Mapping[str, Check]] = {
        **Step._checks,
        "loop_body_pipeline": _pipeline,
        "exit_condition_callable": _checks.predicate(
            callable, "a callable of the last output and the context"
        ),
        "max_loops": _checks.count(1),
        "initial_input_to_loop_body_mapper": _mapper("the input and the context"),
        "iteration_input_mapper": _mapper("the last output, the context and the number of iterations"),
        "loop_output_mapper": _mapper("the last output and the context"),
        "on_body_failure": _checks.choice(None, "stop", "continue"),
    }

    loop_body_pipeline: Pipeline[Any, Any]
    exit_condition_callable: Callable[..., object]
    max_loops: int
    initial_input_to_loop_body_mapper: Callable[..., Any] | None
    iteration_input_mapper: Callable[..., Any] | None
    loop_output_mapper: Callable[..., Any] | None
    on_body_failure: BodyFailure

    def __init__(
        self,
        name: str,
        loop_body_pipeline: Composable[Any, Any],
        exit_condition_callable: Callable[..., object],
        max_loops: int = 5,
        initial_input_to_loop_body_mapper: Callable[..., Any] | None = None,
        iteration_input_mapper: Callable[..., Any] | None = None,
        loop_output_mapper: Callable[..., Any] | None = None,
        on_body_failure: BodyFailure = "stop",
        **options: Unpack[StepOptions],
    ) -> None:
        self._fill(
            {
                **self._values(name, None, options),
                "loop_body_pipeline": loop_body_pipeline,
                "exit_condition_callable": exit_condition_callable,
                "max_loops": max_loops,
                "initial_input_to_loop_body_mapper": initial_input_to_loop_body_mapper,
                "iteration_input_mapper": iteration_input_mapper,
                "loop_output_mapper": loop_output_mapper,
                "on_body_failure": on_body_failure,
            }
        )
        self._check_mappers()

    def _check_mappers(self) -> None:
        """Refuse a mapper whose declared result can't be the body's input."""
        from flujo.domain.dsl._signature import analyse_callable
        from flujo.domain.dsl._types import fits, type_name

        taken = self.loop_body_pipeline.input_type
        for field in ("initial_input_to_loop_body_mapper", "iteration_input_mapper"):
            mapper = getattr(self, field)
            given = Any if mapper is None else analyse_callable(mapper).output_type
            if not fits(given, taken):
                raise ValueError(
                    f"LoopStep {self.name!r}: {field} gives {type_name(given)}, but the body takes {type_name(taken)}; "
                    "change one of the annotations"
                )

    def _input_type(self, levels: int) -> Any:
        if self.initial_input_to_loop_body_mapper is not None:
            return Any
        return self.loop_body_pipeline._input_type(levels - 1)

    def _output_type(self, levels: int) -> Any:
        from flujo.domain.dsl._signature import analyse_callable

        if self.loop_output_mapper is not None:
            return analyse_callable(self.loop_output_mapper).output_type
        return self.loop_body_pipeline._output_type(levels - 1)


class RefineStep(Step[InputT, OutputT]):
    """Makes something and has it checked, again and again, until the critic is content.

    The generator gets `{"original_input": …, "feedback": …}`, at first without feedback; the critic gets what the
    generator made and gives a `RefinementCheck`. The output is what the generator made last. When the critic is never
    content, the step fails and keeps the last check as output.

    Args:
        name: Names the step.
        generator_pipeline: Makes the artifact; a step or a pipeline.
        critic_pipeline: Checks it and gives a `RefinementCheck`; a step or a pipeline.
        max_refinements: How many times the generator runs at most, 1 or more.
        feedback_mapper: Makes the generator's next input from the step's input and the check.
        **options: The fields of every step, and those of its config.
    """

    kind: ClassVar[str] = "refine"
    _fields: ClassVar[tuple[str, ...]] = (
        *Step._fields,
        "generator_pipeline",
        "critic_pipeline",
        "max_refinements",
        "feedback_mapper",
    )
    _checks: ClassVar[Mapping[str, Check]] = {
        **Step._checks,
        "generator_pipeline": _pipeline,
        "critic_pipeline": _pipeline,
        "max_refinements": _checks.count(1),
        "feedback_mapper": _mapper("the step's input and the RefinementCheck"),
    }

    generator_pipeline: Pipeline[Any, Any]
    critic_pipeline: Pipeline[Any, Any]
    max_refinements: int
    feedback_mapper: Callable[[Any, RefinementCheck], Any] | None

    def __init__(
        self,
        name: str,
        generator_pipeline: Composable[Any, Any],
        critic_pipeline: Composable[Any, Any],
        max_refinements: int = 5,
        feedback_mapper: Callable[[Any, RefinementCheck], Any] | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        self._fill(
            {
                **self._values(name, None, options),
                "generator_pipeline": generator_pipeline,
                "critic_pipeline": critic_pipeline,
                "max_refinements": max_refinements,
                "feedback_mapper": feedback_mapper,
            }
        )

    def _output_type(self, levels: int) -> Any:
        return self.generator_pipeline._output_type(levels - 1)
