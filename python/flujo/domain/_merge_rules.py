"""The merge rules that a class declares for its fields: found once, and refused where they can't work."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from flujo import merge

__all__ = ["Rule", "check", "rules_of"]

_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, partial)
_SHIPPED = (merge.Append, merge.First, merge.Last, merge.Max, merge.Min, merge.Sum, merge.Union)


class Rule(NamedTuple):
    """How concurrent writes to one field combine."""

    combine: Callable[[Any, Sequence[Any]], Any]
    shown: str
    """How messages name it."""
    is_shipped: bool
    """It changes none of its arguments, takes no time, and keeps nothing."""


_known: WeakKeyDictionary[type, dict[str, Rule] | None] = WeakKeyDictionary()


def rules_of(kind: type) -> dict[str, Rule] | None:
    """The rules of a pydantic model's or dataclass's fields, by field; None where it has none.

    Raises:
        ConfigurationError: a rule doesn't fit its field's type, or is no rule.
    """
    if kind in _known:
        return _known[kind]
    rules = {
        field: rule
        for field, declared, notes in _fields(kind)
        if (rule := _rule_of(kind, field, declared, notes)) is not None
    }
    if getattr(kind, "__pydantic_complete__", True):
        _known[kind] = rules or None
    return rules or None


def check(kind: type) -> None:
    """Look at the rules of a class and of all classes that its fields hold.

    Raises:
        ConfigurationError: a rule doesn't fit its field's type, or is no rule.
    """
    seen: set[type] = set()
    pending = [kind]
    while pending:
        inspected = pending.pop()
        if inspected in seen:
            continue
        seen.add(inspected)
        rules_of(inspected)
        for _, declared, _ in _fields(inspected):
            pending += (part for part in _classes(declared) if part not in seen)


def _fields(kind: type) -> Iterator[tuple[str, Any, Sequence[Any]]]:
    """Names, types and notes of the fields."""
    fields = getattr(kind, "__pydantic_fields__", None)
    if isinstance(fields, dict):
        for name, field in fields.items():
            yield name, field.annotation, field.metadata
    elif dataclasses.is_dataclass(kind):
        try:
            hints = typing.get_type_hints(kind, include_extras=True)
        except Exception:  # a name that can't be looked up: such a class declares nothing that can be known
            return
        for of_class in dataclasses.fields(kind):
            yield of_class.name, hints.get(of_class.name, Any), ()


def _classes(declared: Any) -> Iterator[type]:
    parts = [declared]
    while parts:
        part = parts.pop()
        if isinstance(part, type) and (
            hasattr(part, "__pydantic_fields__") or dataclasses.is_dataclass(part)
        ):
            yield part
        arguments = typing.get_args(part)
        if arguments and typing.get_origin(part) is not typing.Literal:
            parts.extend(arguments)


def _rule_of(kind: type, field: str, declared: Any, notes: Sequence[Any]) -> Rule | None:
    where = f"{kind.__qualname__}.{field}"
    declared, inner = _without_notes(declared)
    found = [note for note in (*notes, *inner) if _is_meant_as_rule(note)]
    if not found:
        return None
    if len(found) > 1:
        raise _refused(
            f"{where} has {len(found)} merge rules: {', '.join(map(_shown, found))}", "keep one of them"
        )
    rule = found[0]
    if isinstance(rule, type):
        raise _refused(f"{where} has the class {rule.__qualname__} as its merge rule", "write it with ()")
    combine = rule if isinstance(rule, _FUNCTIONS) else rule.combine
    _refuse_uncallable(where, rule, combine)
    taken = _taken_by(rule)
    if taken is not None:
        fits, words = taken
        misfit = next((part for part in _members(declared) if not _may_fit(part, fits)), None)
        if misfit is not None:
            from flujo.domain.dsl._types import type_name

            raise _refused(
                f"{where} is declared {type_name(declared)}, which {_shown(rule)} can't combine",
                f"{_shown(rule)} takes {words}; choose another rule, or a function of your own",
            )
    return Rule(combine, _shown(rule), type(rule) in _SHIPPED)


def _refused(what: str, instead: str) -> Exception:
    from flujo.exceptions import ConfigurationError

    return ConfigurationError(what, suggestion=instead)


def _shown(rule: Any) -> str:
    if type(rule) in _SHIPPED:
        return f"merge.{type(rule).__name__}()"
    return getattr(rule, "__qualname__", None) or type(rule).__qualname__


def _is_meant_as_rule(note: Any) -> bool:
    return isinstance(note, _FUNCTIONS) or callable(getattr(note, "combine", None))


def _refuse_uncallable(where: str, rule: Any, combine: Callable[..., Any]) -> None:
    import inspect

    if inspect.iscoroutinefunction(combine):
        raise _refused(
            f"{where}: the merge rule {_shown(rule)} is asynchronous",
            "make it a plain function, or merge with a function "
            "of the whole context: Step.parallel(..., merge_strategy=function)",
        )
    try:
        signature = inspect.signature(combine)
    except (TypeError, ValueError):
        return  # some built-in functions don't tell
    try:
        signature.bind(None, ())
    except TypeError:
        raise _refused(
            f"{where}: the merge rule {_shown(rule)} can't be called with two arguments",
            "it gets the value at the fork and the list of what the branches wrote",
        ) from None


def _without_notes(declared: Any) -> tuple[Any, list[Any]]:
    """A type without its `Annotated`, and what stood in there, also in the members of a union."""
    if typing.get_origin(declared) is typing.Annotated:
        inner, *notes = typing.get_args(declared)
        bare, more = _without_notes(inner)
        return bare, [*notes, *more]
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        notes = [note for member in typing.get_args(declared) for note in _without_notes(member)[1]]
        return declared, notes
    return declared, []


def _members(declared: Any) -> Iterator[Any]:
    """What a value of the type may be, apart from None."""
    declared, _ = _without_notes(declared)
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        for member in typing.get_args(declared):
            yield from _members(member)
    elif isinstance(declared, typing.NewType):
        yield from _members(declared.__supertype__)
    elif typing.get_origin(declared) is typing.Literal:
        yield from {type(value) for value in typing.get_args(declared) if value is not None}
    elif declared not in (None, type(None)):
        yield declared


def _may_fit(declared: Any, fits: Callable[[type], bool]) -> bool:
    kind = typing.get_origin(declared) or declared
    # What is no class, or one that may be anything, shows at the merge.
    return not isinstance(kind, type) or kind in (object, Any) or fits(kind)


def _adds(kind: type) -> bool:
    return kind is not bool and hasattr(kind, "__add__") and hasattr(kind, "__sub__")


def _compares(kind: type) -> bool:
    if issubclass(kind, AbstractSet | Mapping | complex):
        return False
    return any(getattr(kind, name) is not getattr(object, name) for name in ("__lt__", "__gt__"))


def _unites(kind: type) -> bool:
    return issubclass(kind, AbstractSet | Mapping | list | tuple) or kind is Sequence


def _grows(kind: type) -> bool:
    return issubclass(kind, list | tuple | str | bytes | bytearray) or kind is Sequence


def _taken_by(rule: Any) -> tuple[Callable[[type], bool], str] | None:
    match rule:
        case merge.Sum():
            return _adds, "what can be added and subtracted, such as int, float, Decimal and timedelta"
        case merge.Max() | merge.Min():
            return _compares, "what has an order, such as numbers, texts and dates"
        case merge.Union():
            return _unites, "sets, dicts, lists and tuples"
        case merge.Append():
            return _grows, "lists, tuples and texts"
    return None
