"""A runner as one step of another pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from flujo.domain.dsl.sub_pipeline import SubPipelineStep

if TYPE_CHECKING:
    from pydantic import BaseModel


class RunnerStep(SubPipelineStep[Any, Any]):
    """Runs a runner's pipeline as one step; its output is the nested run's `PipelineResult`."""

    kind: ClassVar[str] = "runner"
    _fields: ClassVar[tuple[str, ...]] = (*SubPipelineStep._fields, "context_model", "initial_context_data")

    context_model: type[BaseModel] | None
    initial_context_data: Mapping[str, Any] | None

    def __init__(
        self,
        name: str,
        pipeline: Any,
        *,
        inherit_context: bool,
        context_model: type[BaseModel] | None,
        initial_context_data: Mapping[str, Any] | None,
        **options: Any,
    ) -> None:
        self._fill(
            {
                **self._values(name, None, options),
                "pipeline": pipeline,
                "inherit_context": inherit_context,
                "context_model": context_model,
                "initial_context_data": initial_context_data,
            }
        )

    def inherit(self, given: Any, context: Any) -> Any:
        """The context of the nested run: its model's fields, filled with copies from the outer context."""
        from flujo.application._context import default_context

        data = {**(self.initial_context_data or {})}
        if self.inherit_context:
            data |= _fields(context)
        if self.context_model is None:
            return default_context(given, data, None)
        known = self.context_model.model_fields
        if self.context_model.model_config.get("extra") != "allow":
            data = {name: value for name, value in data.items() if name in known}
        from copy import deepcopy

        try:
            return self.context_model(**deepcopy(data))
        except Exception as error:
            from flujo.exceptions import ContextInheritanceError

            missing = [name for name, field in known.items() if field.is_required() and name not in data]
            what = f"it lacks {', '.join(missing)}" if missing else str(error)
            raise ContextInheritanceError(
                f"step {self.name!r} can't make its context {self.context_model.__name__} from the outer one: {what}",
                suggestion="add the fields to the outer context, or to the nested runner's initial_context_data",
            ) from error

    def collect(self, result: Any, context: Any) -> Any:
        """Write the nested context's fields back, and give the nested result as output."""
        if self.inherit_context and result.success:
            own = getattr(type(context), "model_fields", {})
            takes_any = getattr(type(context), "model_config", {}).get("extra") == "allow"
            for name, value in _fields(result.final_pipeline_context).items():
                if value is not None and (name in own or takes_any):
                    setattr(context, name, value)
        return result


def _fields(context: Any) -> dict[str, Any]:
    fields = getattr(type(context), "model_fields", {})
    values = {name: getattr(context, name) for name in fields}
    values |= getattr(context, "__pydantic_extra__", None) or {}
    values.pop("run_id", None)
    values.pop("initial_prompt", None)
    return values
