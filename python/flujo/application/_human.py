"""Questions to humans: how they are put, and what an answer does."""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from json import dumps as to_json
from json import loads as from_json
from typing import TYPE_CHECKING, Any, NamedTuple

from flujo._native import Callable, PlanBuilder, Template
from flujo.application._invariants import HoldInvariants
from flujo.domain.results import Pause

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from flujo.application._lowering import Around

_OF_WORK = (
    "agent",
    "plugins",
    "validators",
    "fallback_step",
    "updates_context",
    "input",
    "usage_limits",
    "failure_handlers",
    "persist_feedback_to_context",
    "persist_validation_results_to",
)


def lower_human(builder: PlanBuilder, step: Any, around: Around) -> Generator[Any, int, int]:
    """Describe a step that asks a human to the engine.

    Raises:
        ConfigurationError: it has fields of a step that works by itself, or a default that no answer could be.
    """
    from flujo.domain.dsl.human import NO_DEFAULT, checked_default

    yield from ()  # it has no children
    name = step.name
    _refuse_what_is_of_work(step)
    schema = answer_schema(step.input_schema, f"step {name!r}")
    message = step.message_for_user
    render = None if message is None else Template(message, f"the message of step {name!r}")
    default = None
    if step.default is not NO_DEFAULT:
        value = checked_default(f"step {name!r}", step.default, schema)
        default = Callable(DefaultAnswer(value), "value", name=f"the default of {name!r}")
    reads_context = render is not None and render.reads_context
    question = AskHuman(render, schema.json, step.timeout_s)
    invariants = (*step.static_invariants, *around.invariants)
    answer = TakeAnswer(step.sink_to, HoldInvariants(name, invariants, after=None) if invariants else None)
    return builder.human(
        name,
        Callable(question, "value", name=f"the question of {name!r}", context_by_position=reads_context),
        Callable(answer, "value", name=f"the answer to {name!r}", context_by_position=True),
        object=step,
        timeout_s=step.timeout_s,
        default=default,
        deadline_s=step.config.deadline_s,
    )


def _refuse_what_is_of_work(step: Any) -> None:
    processors = step.__dict__.get("processors")
    given = [field for field in _OF_WORK if getattr(step, field)]
    if processors and (processors.prompt_processors or processors.output_processors):
        given.append("processors")
    given += [setting for setting in step.config.given() if setting not in ("deadline_s", "optimization")]
    if given:
        from flujo.exceptions import ConfigurationError

        raise ConfigurationError(
            f"step {step.name!r} asks a human and has {', '.join(given)}, which it can't have",
            suggestion="check answers by input_schema, let it fail into on_failure, or put it on a step that follows",
        )


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it was put: the machine keeps it until it is answered."""

    message: str
    input_schema: dict[str, Any] | None
    created_at: datetime
    expires_at: datetime | None

    def pause(self, id: str, step: str, path: str) -> Pause:
        """What people are shown of it."""
        return Pause(
            id=id,
            step=step,
            path=path,
            message=self.message,
            input_schema=self.input_schema,
            created_at=self.created_at,
            expires_at=self.expires_at,
        )


class Answer(NamedTuple):
    """An answer that fits, with the question it belongs to."""

    message: str
    value: Any


class AskHuman:
    """Makes the question of a step from the step's input.

    Args:
        render: The template of the message; the input as text without it.
        input_schema: The JSON schema that the answer must fit.
        timeout_s: Seconds that the question is open.
    """

    def __init__(
        self, render: Template | None, input_schema: dict[str, Any] | None, timeout_s: float | None
    ) -> None:
        self._render = render
        self._input_schema = input_schema
        self._timeout = None if timeout_s is None else timedelta(seconds=timeout_s)

    def __call__(self, given: Any, context: Any = None) -> Question:
        """The question."""
        message = str(given) if self._render is None else self._render.render(given, context)
        now = datetime.now(UTC)
        expires = None if self._timeout is None else now + self._timeout
        return Question(message, self._input_schema, now, expires)


class DefaultAnswer:
    """The answer of a question that nobody answered in time."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __call__(self, question: Question) -> Answer:
        """The answer."""
        return Answer(question.message, self._value)


class TakeAnswer:
    """Writes an answer into the context: `hitl_history`, where the context has one, and `sink_to`.

    Args:
        sink_to: The dotted path that the answer is written to.
        hold: Checks what must hold of the context then; an answer that breaks it isn't taken.
    """

    def __init__(self, sink_to: str | None, hold: HoldInvariants | None) -> None:
        self._sink_to = sink_to
        self._hold = hold

    def __call__(self, answer: Answer, context: Any) -> Any:
        """The step's output."""
        from flujo.application._effects import write_path
        from flujo.domain.context import HumanInteraction

        if "hitl_history" in _fields_of(context):
            said = HumanInteraction(message_to_human=answer.message, human_response=answer.value)
            context.hitl_history.append(said)
        if self._sink_to is not None:
            write_path(context, self._sink_to, answer.value)
        held = None if self._hold is None else self._hold(answer.value, context)
        return answer.value if held is None else self._taken(answer.value, held)

    async def _taken(self, value: Any, held: Awaitable[Any]) -> Any:
        await held
        return value


def _fields_of(context: Any) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(type(context), "model_fields", {})
    return fields


def mark_paused(context: Any, pauses: Iterable[Pause]) -> Any:
    """The context that a paused result shows, where it has the fields for that."""
    fields = _fields_of(context)
    if "status" in fields:
        context.status = "paused"
    if "pause_message" in fields:
        context.pause_message = next((pause.message for pause in pauses), None)
    return context


class AnswerSchema:
    """What an answer must fit.

    Args:
        json: Its JSON schema, None where anything fits.
        check: Gives the answer as it is taken, or raises pydantic's ValidationError.
        adapter: The type that it must be of, where it isn't told by a JSON schema.
    """

    __slots__ = ("_adapter", "check", "json")

    def __init__(
        self, json: dict[str, Any] | None, check: Any, adapter: TypeAdapter[Any] | None = None
    ) -> None:
        self.json = json
        self.check = check
        self._adapter = adapter

    def read(self, text: str) -> Any:
        """An answer that is given as JSON, as it is taken.

        Raises:
            ValidationError: it doesn't fit.
        """
        return self.check(from_json(text)) if self._adapter is None else self._adapter.validate_json(text)

    def write(self, value: Any) -> str:
        """An answer as JSON, for another process to take.

        Raises:
            ValidationError: it doesn't fit.
            UnsavableValueError: JSON can't hold it as it is.
        """
        checked = self.check(value)
        try:
            if self._adapter is not None:
                return self._adapter.dump_json(checked).decode()
            text = to_json(checked, allow_nan=False)
            if from_json(text) == checked:
                return text
            why = "it would come back as something else"
        except (TypeError, ValueError) as error:
            why = str(error)
        from flujo.exceptions import UnsavableValueError

        raise UnsavableValueError(
            f"an answer of type {type(value).__name__} can't be left for another process: {why}",
            path="the answer",
            suggestion="give it as what JSON knows, or give the step an input_schema",
        )


_ANYTHING = AnswerSchema(None, lambda value: value)


def answer_schema(schema: Any, where: str) -> AnswerSchema:
    """How answers to a step with this `input_schema` are checked.

    Raises:
        TypeError: it is neither a type nor a JSON schema.
        ValueError: the JSON schema can't be used.
    """
    if schema is None:
        return _ANYTHING
    if isinstance(schema, Mapping):
        from flujo.application._json_schema import JsonSchemaCheck

        json = dict(schema)
        return AnswerSchema(json, JsonSchemaCheck(json, where))
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

    shown: dict[str, Any] = {}
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(schema)
        with suppress(PydanticInvalidForJsonSchema):
            shown = adapter.json_schema()
    except (PydanticUserError, TypeError) as error:
        raise TypeError(
            f"{where} = {schema!r}: must be a pydantic model's class or another type that pydantic knows, a JSON "
            "schema as a mapping, or None"
        ) from error
    return AnswerSchema(shown, adapter.validate_python, adapter)
