"""A step that asks a human and stands still until the answer comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from flujo.domain.dsl import _checks
from flujo.domain.dsl._tracking import Check
from flujo.domain.dsl.step import Step

if TYPE_CHECKING:
    from flujo.application._human import AnswerSchema

__all__ = ["NO_DEFAULT", "HumanInTheLoopStep", "checked_default"]


class _NoDefault:
    def __repr__(self) -> str:
        return "NO_DEFAULT"

    def __bool__(self) -> bool:
        return False


NO_DEFAULT: Final = _NoDefault()
"""A question without a default answer: None is an answer like any other."""


def checked_default(where: str, value: object, schema: AnswerSchema) -> Any:
    """A default answer as it is taken.

    Raises:
        ConfigurationError: no answer could be this.
    """
    from pydantic import ValidationError

    try:
        return schema.check(value)
    except ValidationError as error:
        from flujo.exceptions import ConfigurationError

        raise ConfigurationError(
            f"{where}: default = {value!r} doesn't fit input_schema: {error}",
            suggestion="give a default that a human could answer, or let input_schema allow it",
        ) from error


def _schema(where: str, value: object) -> object:
    from flujo.application._human import answer_schema

    answer_schema(value, where)
    return value


class HumanInTheLoopStep(Step[Any, Any]):
    """Pauses the run until a human answers; the answer is the step's output.

    The rest of the run goes on as far as it can without the answer. `runner.resume_async(result, answer)` goes on from
    this very point.

    Args:
        name: Names the step.
        message_for_user: The question, a template such as `"Publish {{ previous_step }}?"`; the step's input as text
            by default.
        input_schema: What an answer must fit: a pydantic model's class or another type, or a JSON schema. Anything
            will do by default.
        sink_to: The dotted path in the context that the answer is written to.
        timeout_s: Seconds that the question is open, counted by the clock on the wall. After that the next resume goes
            on with `default`, or lets the step fail where there is none.
        default: The answer when none came in time; it must fit `input_schema`.
        **options: The fields of every step but those of work: `static_invariants`, `meta`, `deadline_s`.

    Raises:
        ConfigurationError: the default doesn't fit `input_schema`.
    """

    kind: ClassVar[str] = "human"
    _fields: ClassVar[tuple[str, ...]] = (
        *Step._fields,
        "message_for_user",
        "input_schema",
        "timeout_s",
        "default",
    )
    _checks: ClassVar[Mapping[str, Check]] = {
        **Step._checks,
        "message_for_user": _checks.optional(_checks.text),
        "input_schema": _checks.optional(_schema),
        "timeout_s": _checks.optional(
            _checks.number("a number of seconds above 0, or None", lambda s: s > 0)
        ),
        "default": lambda where, value: value,
    }

    message_for_user: str | None
    input_schema: Any
    timeout_s: float | None
    default: Any

    def __init__(
        self,
        name: str,
        message_for_user: str | None = None,
        input_schema: Any = None,
        sink_to: str | None = None,
        *,
        timeout_s: float | None = None,
        default: Any = NO_DEFAULT,
        **options: Any,
    ) -> None:
        given = {**options, "sink_to": sink_to}
        self._fill(
            {
                **self._values(name, None, given),
                "message_for_user": message_for_user,
                "input_schema": input_schema,
                "timeout_s": timeout_s,
                "default": default,
            }
        )
        if default is not NO_DEFAULT and input_schema is not None:
            from flujo.application._human import answer_schema

            where = f"HumanInTheLoopStep {name!r}"
            checked_default(where, default, answer_schema(input_schema, where))

    def _input_type(self, levels: int) -> Any:
        return Any

    def _output_type(self, levels: int) -> Any:
        return self.input_schema if isinstance(self.input_schema, type) else Any
