"""Values of the context in the prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["AddContextVariables", "value_at"]

_MISSING = object()


class AddContextVariables:
    """Puts fields of the context in front of a prompt, one a line, as `name: value`.

    A name may be a dotted path. A prompt that isn't a text passes unchanged.
    """

    name = "AddContextVariables"

    def __init__(self, vars: Iterable[str]) -> None:
        self.vars = [vars] if isinstance(vars, str) else list(vars)

    async def process(self, data: Any, context: Any) -> Any:
        """The prompt with the values in front.

        Raises:
            ValueError: if the context has no such field.
        """
        if not isinstance(data, str) or not self.vars:
            return data
        lines = [f"{path}: {value_at(context, path)}" for path in self.vars]
        return "\n".join(["Context:", *lines, "", data])


def value_at(context: Any, path: str) -> Any:
    """What stands at the dotted `path` of the context."""
    value: Any = context
    for part in path.split("."):
        is_mapping = isinstance(value, Mapping)
        value = value.get(part, _MISSING) if is_mapping else getattr(value, part, _MISSING)
        if value is _MISSING:
            raise ValueError(
                f"the context ({type(context).__name__}) has nothing at {path!r}; "
                "name a field that exists, or give the context model that field"
            )
    return value
