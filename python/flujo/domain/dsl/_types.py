"""Whether a value of one declared type can be given where another is declared.

Only what surely can't fit is refused: an annotation says less than a value, and a step that declares a base
class may well give the subclass that the next one takes. Type checkers are stricter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["common_type", "fits", "type_name"]


def fits(given: Any, taken: Any) -> bool:
    """Whether some value of type `given` may be one of type `taken`."""
    import types
    import typing

    given, taken = _plain(given), _plain(taken)
    if given is taken or Any in (given, taken) or object in (given, taken):
        return True
    for side, other in ((given, taken), (taken, given)):
        if typing.get_origin(side) in (typing.Union, types.UnionType):
            members = typing.get_args(side)
            return any(fits(one, other) if side is given else fits(other, one) for one in members)
    given_class, taken_class = typing.get_origin(given) or given, typing.get_origin(taken) or taken
    if not (isinstance(given_class, type) and isinstance(taken_class, type)):
        return True  # nothing is known about it at run time
    if not _classes_fit(given_class, taken_class):
        return False
    return _arguments_fit(given_class, typing.get_args(given), taken_class, typing.get_args(taken))


def common_type(declared: Iterable[Any]) -> Any:
    """The one type that all declare, or `Any`."""
    kinds = list(declared)
    return kinds[0] if kinds and all(kind == kinds[0] for kind in kinds) else Any


def type_name(declared: Any) -> str:
    """A type as its user wrote it."""
    import typing

    if isinstance(declared, type) and not typing.get_args(declared):
        return "None" if declared is type(None) else declared.__qualname__
    return str(declared).replace("typing.", "").replace("collections.abc.", "")


def _plain(declared: Any) -> Any:
    """A type without `Annotated`, `NewType` and `Literal`; what can't be checked becomes `Any`."""
    import typing

    if declared is None:
        return type(None)
    if typing.get_origin(declared) is typing.Annotated:
        return _plain(typing.get_args(declared)[0])
    if isinstance(declared, typing.NewType):
        return _plain(declared.__supertype__)
    if typing.get_origin(declared) is typing.Literal:
        kinds = {type(value) for value in typing.get_args(declared)}
        return kinds.pop() if len(kinds) == 1 else Any
    if typing.is_typeddict(declared):
        return dict
    if isinstance(declared, typing.TypeVar | str | typing.ForwardRef) or getattr(
        declared, "_is_protocol", False
    ):
        return Any
    return declared


_NUMBERS: dict[type, tuple[type, ...]] = {int: (float, complex), float: (complex,)}


def _classes_fit(given: type, taken: type) -> bool:
    if taken in _NUMBERS.get(given, ()):
        return True
    try:
        # A base class where a subclass is taken may hold one. Not so for numbers: no float is an int.
        return issubclass(given, taken) or issubclass(taken, given)
    except TypeError:
        return True  # a class that can't be asked, such as a protocol with attributes


def _arguments_fit(
    given: type, given_args: tuple[Any, ...], taken: type, taken_args: tuple[Any, ...]
) -> bool:
    """Compare what containers hold, where both say it in the same way."""
    if not (given_args and taken_args):
        return True
    if given is tuple and taken is tuple:
        if Ellipsis in given_args or Ellipsis in taken_args:
            return fits(given_args[0], taken_args[0])
        return len(given_args) == len(taken_args) and all(map(fits, given_args, taken_args))
    if not (
        issubclass(given, Iterable) and issubclass(taken, Iterable) and len(given_args) == len(taken_args)
    ):
        return True
    return all(map(fits, given_args, taken_args))


def every_value(declared: Any) -> list[Any] | None:
    """Every value of a type that has only a few: bool, an enum, `Literal`; None for any other type."""
    import enum
    import typing

    if typing.get_origin(declared) is typing.Literal:
        return list(typing.get_args(declared))
    if declared is bool:
        return [True, False]
    if isinstance(declared, type) and issubclass(declared, enum.Enum) and not issubclass(declared, enum.Flag):
        return list(declared)
    return None
