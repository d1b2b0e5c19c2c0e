"""The context a run begins with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel


def new_run_id() -> str:
    """A run id nobody else has."""
    return f"run_{os.urandom(16).hex()}"


def default_context(initial_prompt: object, data: Mapping[str, Any] | None, run_id: str | None) -> Any:
    """The context of a run for which no model is given: the input as text, extra data as attributes."""
    from flujo._native import clone_value
    from flujo.domain.context import PipelineContext

    fields: dict[str, Any] = {} if run_id is None else {"run_id": run_id}
    context = PipelineContext(initial_prompt=str(initial_prompt), **fields)
    for name, value in (data or {}).items():
        setattr(context, name, clone_value(value))
    return context


def context_factory(
    model: type[BaseModel], initial_data: Mapping[str, Any] | None
) -> Callable[[Mapping[str, Any] | None, str | None], BaseModel]:
    """What makes each run's context: the model filled with copies of the data, the call's over the runner's."""
    from flujo._native import clone_value

    def make(data: Mapping[str, Any] | None, run_id: str | None) -> BaseModel:
        fields = {
            name: clone_value(value) for name, value in {**(initial_data or {}), **(data or {})}.items()
        }
        if run_id is not None and "run_id" in model.model_fields:
            fields.setdefault("run_id", run_id)
        try:
            return model(**fields)
        except Exception as error:
            from flujo.exceptions import PipelineContextInitializationError

            raise PipelineContextInitializationError(
                f"the context {model.__name__} can't be made from initial_context_data: {error}",
                suggestion="give every field that has no default, with a value of its type",
            ) from error

    return make
