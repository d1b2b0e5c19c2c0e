"""What passes between an imported pipeline's context and the one around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OF_THE_RUN = frozenset({"run_id", "initial_prompt", "status", "pause_message"})
"""Fields that an imported pipeline has of its own, whatever is shared."""

_CONVERSATION = "conversation_history"


class Import:
    """Makes the context of an imported pipeline, and takes back what is wanted of it."""

    def __init__(self, step: Any) -> None:
        self._step = step

    def inherit(self, given: Any, context: Any) -> Any:
        """The context that the imported pipeline begins with.

        Raises:
            ContextInheritanceError: the outer context's class can't be made without data, or has no place for
                the input.
        """
        from flujo._native import clone_value, context_plain

        step = self._step
        if step.inherit_context:
            made = context_plain(context)
            if not step.inherit_conversation and hasattr(made, _CONVERSATION):
                setattr(made, _CONVERSATION, [])
        else:
            made = self._fresh(type(context))
            if step.inherit_conversation and hasattr(context, _CONVERSATION):
                setattr(made, _CONVERSATION, clone_value(getattr(context, _CONVERSATION)))
        if step.input_to in ("initial_prompt", "both") and self._has(made, "initial_prompt"):
            made.initial_prompt = given if isinstance(given, str) else str(given)
        if step.input_to in ("import_artifacts", "both"):
            if not self._has(made, "import_artifacts"):
                raise self._error(
                    f"its context {type(made).__name__} has no import_artifacts for the input",
                    "derive it from PipelineContext, or use input_to='initial_prompt'",
                )
            more = given if isinstance(given, Mapping) else {"input": given}
            made.import_artifacts = {**(getattr(made, "import_artifacts", None) or {}), **more}
        return made

    def collect(self, result: Any, context: Any) -> Any:
        """Write into the outer context what is wanted, and give the imported pipeline's output.

        Raises:
            ContextFieldError: an output's path isn't there.
        """
        from flujo.application._effects import write_path

        step = self._step
        written = set(result.__flujo_record__.touched()) - _OF_THE_RUN
        made = result.final_pipeline_context
        names = written if step.outputs is None else written & {_CONVERSATION}
        if not step.inherit_conversation:
            names.discard(_CONVERSATION)
        for name in sorted(names):
            write_path(context, name, getattr(made, name, None))
        for output in step.outputs or ():
            write_path(context, output.parent, self._read(made, output.child))
        return result.output

    def _fresh(self, model: Any) -> Any:
        try:
            return model()
        except Exception as error:
            raise self._error(
                f"its context {model.__name__} can't be made without data: {error}",
                "use inherit_context=True, or give the fields defaults",
            ) from error

    def _read(self, made: Any, path: str) -> Any:
        found = made
        for name in path.removeprefix("context.").split("."):
            try:
                found = found[name] if isinstance(found, Mapping) else getattr(found, name)
            except (KeyError, AttributeError):
                from flujo.exceptions import ContextFieldError

                raise ContextFieldError(
                    f"step {self._step.name!r} takes back {path!r}, which the imported pipeline's context doesn't have",
                    suggestion="let a step of the imported pipeline write it, or leave the output out",
                ) from None
        return found

    @staticmethod
    def _has(made: Any, name: str) -> bool:
        return hasattr(made, name) or getattr(type(made), "model_config", {}).get("extra") == "allow"

    def _error(self, what: str, cure: str) -> Exception:
        from flujo.exceptions import ContextInheritanceError

        return ContextInheritanceError(f"step {self._step.name!r} can't begin: {what}", suggestion=cure)
