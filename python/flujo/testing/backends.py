"""A backend that behaves as if it were on another machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter

from flujo.domain.backends import StepExecutionRequest
from flujo.domain.results import StepResult

__all__ = ["DummyRemoteBackend", "through_json"]

T = TypeVar("T")


class DummyRemoteBackend:
    """Runs each step on what comes out of JSON again, and sends its result back the same way.

    A step that relies on sharing an object with its caller, or on a value that JSON can't hold, shows up
    here. Resources stay on the side where the step runs, so they are handed over as they are.

    `call_counter` says how many steps it has run.
    """

    def __init__(self) -> None:
        self.call_counter = 0

    async def execute_step(self, request: StepExecutionRequest) -> StepResult:
        """Run the step on the far side. Its failure is in the result.

        Raises:
            ValueError: if the input, the context or the result can't go through JSON.
        """
        from flujo.application.runner import Flujo
        from flujo.domain.dsl import Pipeline

        self.call_counter += 1
        context = through_json(request.context, "the context")
        given: dict[str, Any] = {}
        if context is not None:
            given = {"context_model": type(context), "initial_context_data": dict(context)}
        runner: Any = Flujo(
            Pipeline.from_step(request.step),
            resources=request.resources,
            usage_limits=request.usage_limits,
            **given,
        )
        result = await runner.run_async(through_json(request.input_data, "the input"))
        step: StepResult = result.step_history[-1]
        sent = through_json(step, "the result")
        returned = step.branch_context if step.branch_context is not None else result.final_pipeline_context
        sent.branch_context = through_json(returned, "the context")
        return sent


def through_json(value: T, what: str = "the value") -> T:
    """What `value` becomes by way of JSON; the models and containers in it keep their classes.

    Raises:
        ValueError: if it can't go through JSON. The text says what and why.
    """
    try:
        sent: T = _through_json(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{what} ({type(value).__name__}) can't be sent as JSON: {error}") from error
    return sent


def _through_json(value: Any) -> Any:
    kind: Any = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if isinstance(value, BaseModel):
        back = kind.model_validate_json(value.model_dump_json())
        # A field declared as Any comes back as plain data, unless its own class is asked.
        for name, item in value:
            field = kind.model_fields.get(name)
            if field is not None and field.annotation is Any and not _is_plain(item):
                object.__setattr__(back, name, _through_json(item))
        return back
    if isinstance(value, Mapping):
        return kind({key: _through_json(item) for key, item in value.items()})
    if kind in (list, tuple, set, frozenset):
        return kind(_through_json(item) for item in value)
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    return adapter.validate_json(adapter.dump_json(value))


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
