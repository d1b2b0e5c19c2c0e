"""How concurrent writes to one field of the context combine.

A field's annotation says it; without one, branches that write different values to a field conflict.

    class Counters(PipelineContext):
        seen: Annotated[int, merge.Sum()] = 0
        best: Annotated[float, merge.Max()] = 0.0

Where several branches wrote the field, the rule is asked with the value at the fork and what they left there,
in declared order; a field that one branch alone wrote takes its value. Rules hold in nested models and
dataclasses too, whatever the merge strategy, and for the items of a map that run at the same time. A rule that
doesn't fit its field's type is an error when the context is first used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

__all__ = ["Append", "First", "Last", "Max", "MergeRule", "Min", "Sum", "Union"]


@runtime_checkable
class MergeRule(Protocol):
    """Anything with this method can stand in an annotation; so can a function of the same two arguments."""

    def combine(self, base: Any, values: Sequence[Any], /) -> Any:
        """The merged value.

        Args:
            base: the value at the fork. It mustn't be changed.
            values: what the branches that wrote the field left there, in declared order; at least one.

        Raises:
            ValueError: if the values don't combine.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sum:
    """The value at the fork plus each branch's difference from it: two branches adding 1 to 0 give 2."""

    def combine(self, base: Any, values: Sequence[Any], /) -> Any:
        """`base + (first - base) + (second - base) + …`; a base of None counts as nothing."""
        if base is None:
            total = values[0]
            for value in values[1:]:
                total = total + value
            return total
        total = base
        for value in values:
            total = total + (value - base)
        return total


@dataclass(frozen=True, slots=True)
class Max:
    """The greatest of the value at the fork and the branches' values."""

    def combine(self, base: Any, values: Sequence[Any], /) -> Any:
        """The greatest; None at any place is left out."""
        return max(_present(base, values), default=None)


@dataclass(frozen=True, slots=True)
class Min:
    """The least of the value at the fork and the branches' values."""

    def combine(self, base: Any, values: Sequence[Any], /) -> Any:
        """The least; None at any place is left out."""
        return min(_present(base, values), default=None)


def _present(base: Any, values: Sequence[Any]) -> list[Any]:
    return [value for value in (base, *values) if value is not None]


@dataclass(frozen=True, slots=True)
class Union:
    """Sets: everything that any branch holds. Dicts: all keys, a later branch winning over an earlier one.

    Lists: the items of the value at the fork, then each branch's items that aren't there yet. Nothing is
    removed.
    """

    def combine(self, base: Any, values: Sequence[Any], /) -> Any:
        """The union, of the type of `base`, or of the first value where `base` is None."""
        parts = _present(base, values)
        if not parts:
            return None
        kind = type(parts[0])
        if all(isinstance(part, AbstractSet) for part in parts):
            return kind(item for part in parts for item in part)
        if all(isinstance(part, Mapping) for part in parts):
            return self._of_dicts(base, [value for value in values if value is not None])
        if all(isinstance(part, list | tuple) for part in parts):
            items: list[Any] = list(parts[0])
            for part in parts[1:]:
                items.extend(item for item in part if item not in items)
            return kind(items)
        raise ValueError(f"merge.Union combines sets, dicts or lists, not {', '.join(map(_kind, parts))}")

    def _of_dicts(
        self, base: Mapping[Any, Any] | None, values: Sequence[Mapping[Any, Any]]
    ) -> dict[Any, Any]:
        base = base or {}
        merged = dict(base)
        for value in values:
            # An entry that a branch left as it was is no write, or else it would undo another branch's.
            merged.update((key, item) for key, item in value.items() if key not in base or item != base[key])
        return merged


@dataclass(frozen=True, slots=True)
class Append:
    """Lists or texts: the value at the fork, then what each branch appended to it."""

    def combine(self, base: Any, values: Sequence[Any], /) -> Any:
        """The concatenation.

        Raises:
            ValueError: if a branch changed or removed what was there at the fork.
        """
        if base is None:
            merged = values[0]
            for value in values[1:]:
                merged = merged + value
            return merged
        length = len(base)
        merged = base[:]
        for value in values:
            if value is None or value[:length] != base:
                raise ValueError(
                    "merge.Append: a branch changed or removed what was there; it may only append"
                )
            merged = merged + value[length:]
        return merged


@dataclass(frozen=True, slots=True)
class First:
    """The value of the first declared branch that wrote the field."""

    def combine(self, base: Any, values: Sequence[Any], /) -> Any:
        """The first of `values`."""
        return values[0]


@dataclass(frozen=True, slots=True)
class Last:
    """The value of the last declared branch that wrote the field."""

    def combine(self, base: Any, values: Sequence[Any], /) -> Any:
        """The last of `values`."""
        return values[-1]


def _kind(value: Any) -> str:
    return type(value).__name__
