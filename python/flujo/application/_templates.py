"""Templates and expressions of a definition, as callables of the plan."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from flujo._native import Callable, Expression, Template


def input_template(source: str | None, name: str) -> list[Callable]:
    """The prompt processor that makes a step's input; none without a template.

    Raises:
        TemplateResolutionError: `source` isn't a template.
    """
    if source is None:
        return []
    template = Template(source, name)
    return [Callable(template, "value", name=name, context_by_position=template.reads_context)]


def branch_key(source: str, name: str, keys: dict[Any, int]) -> Callable:
    """The condition that gives the key of a branch.

    Raises:
        TemplateResolutionError: `source` isn't an expression.
    """
    expression = Expression(source, name)
    return Callable(
        _BranchKey(expression, keys, name),
        "condition",
        name=name,
        context_by_position=expression.reads_context,
        keys=keys,
    )


class _BranchKey:
    """The key that an expression gives; a truth value also finds a branch called "true" or "false"."""

    def __init__(self, expression: Expression, keys: Mapping[Any, int], name: str) -> None:
        self._expression = expression
        self._keys = keys
        self._name = name

    def __call__(self, value: Any, context: Any = None) -> Any:
        key = self._expression(value, context, output=value)
        if not isinstance(key, Hashable):
            raise TypeError(
                f"{self._name}, {self._expression.source!r}, must give the key of a branch, "
                f"not a {type(key).__name__}"
            )
        if isinstance(key, bool) and key not in self._keys:
            return str(key).lower()
        return key
