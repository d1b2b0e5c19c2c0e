"""The checks of the fields of definitions: each returns the value to store, or raises one clear error.

A wrong type is a TypeError, a value that isn't allowed a ValueError. The text names the field, the value and
what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import isfinite
from typing import Any, Literal

from flujo.domain.dsl._tracking import Check, TrackedDict, TrackedList, shown

__all__ = [
    "boolean",
    "choice",
    "count",
    "dotted_path",
    "exception_types",
    "instance_of",
    "list_of",
    "mapping",
    "money",
    "name",
    "number",
    "optimization",
    "optional",
    "predicate",
    "rate_limit",
    "text",
]


def wrong_type(where: str, value: object, allowed: str) -> TypeError:
    """The error for a value of a wrong type."""
    return TypeError(f"{where} = {shown(value)}: must be {allowed}")


def wrong_value(where: str, value: object, allowed: str) -> ValueError:
    """The error for a value of the right type that isn't allowed."""
    return ValueError(f"{where} = {shown(value)}: must be {allowed}")


def optional(check: Check) -> Check:
    """None, or what `check` lets through."""

    def checked(where: str, value: object) -> object:
        return None if value is None else check(where, value)

    return checked


def boolean(where: str, value: object) -> object:
    """True or False."""
    if not isinstance(value, bool):
        raise wrong_type(where, value, "True or False")
    return value


def name(where: str, value: object) -> object:
    """A name: text that isn't blank."""
    if not isinstance(value, str):
        raise wrong_type(where, value, "a text, such as 'summarise'")
    if not value.strip():
        raise wrong_value(
            where, value, "a text that isn't blank; results, records and errors name steps by it"
        )
    return value


def text(where: str, value: object) -> object:
    """Any text."""
    if not isinstance(value, str):
        raise wrong_type(where, value, "a text")
    return value


def dotted_path(where: str, value: object) -> object:
    """A dotted path of identifiers into the context."""
    if not isinstance(value, str):
        raise wrong_type(where, value, "a dotted path into the context, such as 'report.title'")
    if not all(part.isidentifier() for part in value.split(".")):
        raise wrong_value(where, value, "a dotted path into the context, such as 'report.title'")
    return value


def count(least: int) -> Check:
    """A whole number that is at least `least`."""

    def checked(where: str, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(where, value, f"a whole number, {least} or more")
        if value < least:
            raise wrong_value(where, value, f"a whole number, {least} or more")
        return value

    return checked


def number(allowed: str, fits: Callable[[float], bool]) -> Check:
    """A finite number that `fits`; `allowed` says so in words."""

    def checked(where: str, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(where, value, allowed)
        if not isfinite(value) or not fits(value):
            raise wrong_value(where, value, allowed)
        return value

    return checked


def money(where: str, value: object) -> object:
    """An amount in dollars, 0 or more: float, Decimal, int, or text that spells a number."""
    from decimal import Decimal, InvalidOperation

    allowed = "an amount in dollars, 0 or more (float, Decimal, int or text such as '0.02')"
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise wrong_type(where, value, allowed)
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise wrong_value(where, value, allowed) from None
    if not amount.is_finite() or amount < 0:
        raise wrong_value(where, value, allowed)
    return value


def exception_types(where: str, value: object) -> object:
    """One exception class or several, as a tuple."""
    allowed = "an exception class or several, such as (TimeoutError, ConnectionError)"
    given: tuple[object, ...]
    if isinstance(value, type):
        given = (value,)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        given = tuple(value)
    else:
        raise wrong_type(where, value, allowed)
    for kind in given:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            # Cancellation and interpreter exit derive from BaseException only: no retry may swallow them.
            raise wrong_type(where, kind, allowed + "; each a subclass of Exception")
    return given


def choice(kind: Callable[[Any], object] | None, *allowed: str) -> Check:
    """One of the texts `allowed`, turned into `kind` (an enum) where that is given."""
    words = "one of " + ", ".join(map(repr, allowed))

    def checked(where: str, value: object) -> object:
        plain = getattr(value, "value", value)
        if not isinstance(plain, str):
            raise wrong_type(where, value, words)
        if plain.lower() not in allowed:
            raise wrong_value(where, value, words)
        return plain.lower() if kind is None else kind(plain.lower())

    return checked


def instance_of(find: Callable[[], type], allowed: str) -> Check:
    """An instance of the class that `find` imports when it's first needed."""

    def checked(where: str, value: object) -> object:
        if not isinstance(value, find()):
            raise wrong_type(where, value, allowed)
        return value

    return checked


def optimization(where: str, value: object) -> object:
    """An OptimizationConfig, known by a field of it, so that the engine needn't be loaded for this."""
    if not hasattr(value, "enable_object_pooling"):
        raise wrong_type(where, value, "an OptimizationConfig, or None for the one around it")
    return value


def rate_limit(where: str, value: object) -> object:
    """A RateLimit, known by a field of it, so that the engine needn't be loaded for this."""
    if not hasattr(value, "requests_per_minute"):
        raise wrong_type(where, value, "a RateLimit, or None for none")
    return value


def predicate(fits: Callable[[object], bool], allowed: str) -> Check:
    """A value that `fits`; `allowed` says so in words."""

    def checked(where: str, value: object) -> object:
        if not fits(value):
            raise wrong_type(where, value, allowed)
        return value

    return checked


def list_of(item: Check | None, allowed: str) -> Check:
    """A list whose changes are tracked, each of whose items passes `item`."""

    def checked(where: str, value: object) -> object:
        if value is None:
            value = ()
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise wrong_type(where, value, allowed)
        return TrackedList[object](value, item and partial(item, f"{where}[…]"))

    return checked


def mapping(
    item: Callable[[str, object, object], object] | None,
    allowed: str,
    empty: Literal["allowed"] | str = "allowed",
) -> Check:
    """A dict whose changes are tracked. `empty` says why it may not be empty."""

    def checked(where: str, value: object) -> object:
        if value is None and empty == "allowed":
            value = {}
        if not isinstance(value, Mapping):
            raise wrong_type(where, value, allowed)
        if not value and empty != "allowed":
            raise ValueError(f"{where} is empty: {empty}")
        return TrackedDict[object, object](value, item and partial(item, where))

    return checked
