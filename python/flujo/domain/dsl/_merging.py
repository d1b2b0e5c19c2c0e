"""How the contexts of branches and of items that ran at the same time become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, EnumMeta
from typing import TYPE_CHECKING, Any

from flujo.domain.dsl import _checks

__all__ = ["MergeFunction", "MergeStrategy", "merge_strategy"]

MergeFunction = Callable[[Any, Mapping[str, Any]], object]
"""Takes the parent's context and the successful branches' contexts by name, in declared order.

It changes the parent's in place and returns None, or returns a context of the same class; it may be
asynchronous. A plain function runs in a worker thread.
"""


class _Names(EnumMeta):
    if not TYPE_CHECKING:  # static tools would take every unknown name for a strategy

        def __getattr__(cls, name: str) -> Any:
            if name == "MERGE_SCRATCHPAD":
                raise _no_scratchpad()
            raise AttributeError(f"there is no merge strategy {name}")


class MergeStrategy(Enum, metaclass=_Names):
    """How the branches' writes to the context are joined: by path, against the context at the fork."""

    NO_MERGE = "no_merge"
    """No branch's writes are kept."""
    OVERWRITE = "overwrite"
    """The last declared branch that wrote a path wins."""
    CONTEXT_UPDATE = "context_update"
    """Different paths combine, appends to a list follow in declared order, different values are an error."""
    ERROR_ON_CONFLICT = "error_on_conflict"
    """A path written by two branches is an error."""
    KEEP_FIRST = "keep_first"
    """The first declared branch that wrote a path wins."""

    @classmethod
    def _missing_(cls, value: object) -> Any:
        if isinstance(value, str) and value.lower() == "merge_scratchpad":
            raise _no_scratchpad()
        return None


def _no_scratchpad() -> Exception:
    from flujo.exceptions import ConfigurationError

    return ConfigurationError(
        "there is no merge strategy MERGE_SCRATCHPAD, since contexts have no scratchpad any more",
        suggestion="declare what branches share as typed fields of your context and use CONTEXT_UPDATE, with "
        "Annotated[..., flujo.merge.Union()] and the like where branches write one field",
    )


_strategies = _checks.choice(MergeStrategy, *(strategy.value for strategy in MergeStrategy))


def merge_strategy(where: str, value: object) -> object:
    """A strategy, its name in any case, or a function."""
    if callable(value):
        return value
    if isinstance(value, str) and value.lower() == "merge_scratchpad":
        raise _no_scratchpad()
    return _strategies(where, value)
