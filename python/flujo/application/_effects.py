"""What a step does to the context besides its own writes: `updates_context`, `sink_to`, persisted feedback."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any


class ApplyOutput:
    """Merges a step's output into the context.

    Args:
        step: The step's name, for messages.
        updates: Merge the output's entries, a dict's or a model's, into the fields of those names.
        sink_to: The dotted path that the whole output is written to.
    """

    def __init__(self, step: str, *, updates: bool, sink_to: str | None) -> None:
        self._step = step
        self._updates = updates
        self._sink_to = sink_to

    def __call__(self, output: Any, context: Any) -> None:
        """Write, checking types.

        Raises:
            ContextFieldError: the context has no such field, or the output isn't a mapping or model.
            ValidationError: a value doesn't fit its field.
        """
        if self._updates:
            for name, value in self._entries(output).items():
                _write(context, name, value)
        if self._sink_to is not None:
            write_path(context, self._sink_to, output)

    def _entries(self, output: Any) -> Mapping[str, Any]:
        if isinstance(output, Mapping):
            return output
        fields = getattr(type(output), "model_fields", None)
        if fields is not None:
            return {name: getattr(output, name) for name in fields}
        from flujo.exceptions import ContextFieldError

        raise ContextFieldError(
            f"step {self._step!r} has updates_context=True, but its output is a {type(output).__name__}",
            suggestion="return a dict or a model whose fields are named after the context's",
        )


def write_path(context: Any, path: str, value: Any) -> None:
    """Write to `a.b.c`: attributes of models, keys of mappings; a `context.` in front is left out."""
    names = path.removeprefix("context.").split(".")
    holder = context
    for name in names[:-1]:
        if isinstance(holder, MutableMapping):
            inner = holder.setdefault(name, {})
        else:
            inner = getattr(holder, name, None)
            if inner is None:
                inner = {}
                _write(holder, name, inner)
                inner = getattr(holder, name)
        holder = inner
    if isinstance(holder, MutableMapping):
        holder[names[-1]] = value
    else:
        _write(holder, names[-1], value)


def _write(holder: Any, name: str, value: Any) -> None:
    fields = getattr(type(holder), "model_fields", None)
    config = getattr(type(holder), "model_config", {})
    if fields is not None and name not in fields and config.get("extra") != "allow":
        from flujo.exceptions import ContextFieldError

        raise ContextFieldError(
            f"the context {type(holder).__name__} has no field {name!r}",
            suggestion=f"declare it, or write to one of: {', '.join(fields)}",
        )
    if fields is not None and name in fields and not config.get("validate_assignment"):
        value = _validated(type(holder), name, value)
    setattr(holder, name, value)


def _validated(model: Any, name: str, value: Any) -> Any:
    # Only the one field is checked: the others hold what earlier steps put there.
    from pydantic import TypeAdapter

    kept = model.__dict__.get("__flujo_field_adapters__")
    if kept is None:
        kept = {}
        type.__setattr__(model, "__flujo_field_adapters__", kept)
    adapter = kept.get(name)
    if adapter is None:
        adapter = kept[name] = TypeAdapter(model.model_fields[name].rebuild_annotation())
    return adapter.validate_python(value)


class PersistFeedback:
    """Writes the feedback of a failed step into the context: appended to a list, else in its place.

    Args:
        feedback_to: Where the feedback goes, as text.
        validation_to: Where it goes as a `ValidationResult`, beside those of the validators that accepted.
    """

    def __init__(self, feedback_to: str | None, validation_to: str | None) -> None:
        self._feedback_to = feedback_to
        self._validation_to = validation_to

    def __call__(self, feedback: str, context: Any) -> None:
        """Write it."""
        if self._feedback_to is not None:
            append_path(context, self._feedback_to, feedback)
        if self._validation_to is not None:
            from flujo.domain.validation import ValidationResult

            append_path(context, self._validation_to, ValidationResult(is_valid=False, feedback=feedback))


class PersistVerdict:
    """A validator whose verdicts are appended to a context field, those of the attempt that succeeds."""

    def __init__(self, name: str, validate: Callable[..., Any], path: str, *, takes_context: bool) -> None:
        self._name = name
        self._validate = validate
        self._path = path
        self._takes_context = takes_context

    async def __call__(self, output: Any, *, context: Any) -> Any:
        """The validator's verdict."""
        verdict = self._validate(output, context=context) if self._takes_context else self._validate(output)
        if isinstance(verdict, Awaitable):
            verdict = await verdict
        append_path(context, self._path, self._as_result(verdict))
        return verdict

    def _as_result(self, verdict: Any) -> Any:
        from flujo.domain.validation import ValidationResult

        if isinstance(verdict, bool):
            return ValidationResult(is_valid=verdict, validator_name=self._name)
        if isinstance(verdict, tuple):
            return ValidationResult(is_valid=bool(verdict[0]), feedback=verdict[1], validator_name=self._name)
        return verdict


def append_path(context: Any, path: str, value: Any) -> None:
    """Append to the list at a dotted path; where there is none, write in its place."""
    present = context
    for name in path.removeprefix("context.").split("."):
        present = present.get(name) if isinstance(present, Mapping) else getattr(present, name, None)
    if isinstance(present, list):
        present.append(value)
    else:
        write_path(context, path, value)


class TellHandlers:
    """Tells the failure handlers of a step, after its feedback was written into the context."""

    def __init__(
        self, handlers: tuple[Callable[..., Any], ...], persist: Callable[[str, Any], None] | None
    ) -> None:
        from flujo.domain.dsl._signature import analyse_callable

        self._persist = persist
        self._handlers = [(handler, analyse_callable(handler)) for handler in handlers]
        self.takes_context = persist is not None or any(facts.context_param for _, facts in self._handlers)
        """Whether it is to be called with the context."""

    async def __call__(self, failure: Any, context: Any = None) -> None:
        """Tell them in order. What one raises is logged; the step's failure stands in any case."""
        if self._persist is not None:
            self._persist(failure.feedback, context)
        for handler, facts in self._handlers:
            given = (failure,) if facts.accepts_input else ()
            named = {facts.context_param: context} if facts.context_param else {}
            try:
                told = handler(*given, **named)
                if isinstance(told, Awaitable):
                    await told
            except Exception as error:
                from flujo.application._hooks import report

                report("failure", error)
