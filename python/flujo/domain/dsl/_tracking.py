"""How a definition tells the engine that it changed.

A pipeline is compiled once and its plan is used until the definition changes. So that a run needn't compare
the whole definition, every change to a step, a pipeline, a configuration, or a list or dict that one of them
holds, raises one global counter in the engine (`definition_changed`): as long as it stands still, every plan
is valid. Beside it each object carries `_revision`, by which the engine finds out which objects changed.

Revisions are drawn from one sequence of the process, so that two states never share one, not even by way of a
copy. Writing through `obj.__dict__` or `list.append(steps, …)` goes past all this and isn't supported.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, SupportsIndex, TypeVar

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Definition", "Tracked", "TrackedDict", "TrackedList", "definition_changed", "next_revision"]

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

Check = Callable[[str, object], object]
"""Takes `Class.field` and the value, and returns the value to store, or raises TypeError or ValueError."""

next_revision: Callable[[], int] = count(1).__next__
"""The next number of the process's sequence. Thread-safe: one call into C."""

_tell_engine: Callable[[], object] | None = None


def definition_changed() -> None:
    """Tell the engine that some definition changed. Costs one increment."""
    global _tell_engine
    if _tell_engine is None:
        _tell_engine = _find_engine()
    _tell_engine()


def _find_engine() -> Callable[[], object]:
    # Deferred, so that a definition can be written, read and checked without loading the engine.
    from importlib import import_module

    try:
        native = import_module("flujo._native")
    except ImportError:
        return next_revision  # no engine, so no plan that could be out of date
    tell: Callable[[], object] = native.definition_changed
    return tell


class Tracked:
    """An object each of whose attribute writes is a change of the definition."""

    _revision: int = 0

    def _changed(self) -> None:
        object.__setattr__(self, "_revision", next_revision())
        definition_changed()

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        self._changed()

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._changed()


class Definition(Tracked):
    """A tracked object whose fields are checked, at construction and at each assignment.

    A subclass lists its fields in `_fields`, in the order in which they're shown, and the checks of those
    that have one in `_checks`. Both are inherited.
    """

    _fields: ClassVar[tuple[str, ...]] = ()
    _checks: ClassVar[Mapping[str, Check]] = {}

    def _fill(self, values: Mapping[str, object]) -> None:
        """Set checked fields of a new object, of which no plan can know yet, without telling the engine."""
        checks = self._checks
        owner = type(self).__name__
        stored = self.__dict__
        for name, value in values.items():
            check = checks.get(name)
            stored[name] = value if check is None else check(f"{owner}.{name}", value)
        stored["_revision"] = next_revision()

    def __setattr__(self, name: str, value: object) -> None:
        check = self._checks.get(name)
        if check is not None:
            value = check(f"{type(self).__name__}.{name}", value)
        elif name not in self._fields and not name.startswith("_") and not _is_declared(type(self), name):
            refuse_unknown(type(self).__name__, name, self._fields, AttributeError)
        super().__setattr__(name, value)

    @classmethod
    def model_validate(cls, obj: object) -> Self:
        """Make one from a mapping of its fields. An object that is one already is returned as it is.

        Raises:
            TypeError: `obj` is neither, or a field has a wrong type or is unknown.
            ValueError: a field has a value that isn't allowed.
        """
        if isinstance(obj, cls):
            return obj
        if not isinstance(obj, Mapping):
            raise TypeError(
                f"{cls.__name__}.model_validate() takes a mapping of fields or a {cls.__name__}, "
                f"not {shown(obj)}; known fields: {', '.join(cls._fields)}"
            )
        return cls(**obj)

    def model_copy(self, *, update: Mapping[str, object] | None = None, deep: bool = False) -> Self:
        """A copy, shallow unless `deep`, with the fields of `update` set and checked."""
        new = copy.deepcopy(self) if deep else copy.copy(self)
        for name, value in (update or {}).items():
            setattr(new, name, value)
        return new

    def __copy__(self) -> Self:
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.__dict__["_revision"] = next_revision()
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the whole definition. What can't be copied (a client, a lock) is shared with the original."""
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        for name, value in self.__dict__.items():
            try:
                new.__dict__[name] = copy.deepcopy(value, memo)
            except (TypeError, NotImplementedError, copy.Error):
                new.__dict__[name] = value
        new.__dict__["_revision"] = next_revision()
        return new


def _is_declared(cls: type, name: str) -> bool:
    # Class attributes and annotations of a user's subclass count as fields.
    return hasattr(cls, name) or any(name in vars(base).get("__annotations__", ()) for base in cls.__mro__)


def refuse_unknown(owner: str, name: str, known: Iterable[str], error: type[Exception]) -> NoReturn:
    from difflib import get_close_matches

    known = list(known)
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(known)}"
    raise error(f"{owner} has no field {name!r}; {hint}")


def shown(value: object) -> str:
    """A value for an error text: short, with its type where the value alone doesn't tell it."""
    try:
        text = repr(value)
    except Exception:
        text = "…"
    if len(text) > 80:
        text = text[:77] + "..."
    if value is None or isinstance(value, bool | int | float | str | type):
        return text
    return f"{text} ({type(value).__name__})"


class TrackedList(list[T]):
    """A list each of whose changes is a change of the definition that holds it.

    `check`, where given, sees every item that comes in, and returns what to store or raises.
    """

    __slots__ = ("_check", "_revision")

    _check: Callable[[object], T] | None
    _revision: int

    def __init__(self, items: Iterable[Any] = (), check: Callable[[object], T] | None = None) -> None:
        super().__init__(items if check is None else map(check, items))
        self._check = check
        self._revision = next_revision()

    def _changed(self) -> None:
        self._revision = next_revision()
        definition_changed()

    def _admit(self, item: Any) -> T:
        check = self._check
        admitted: T = item if check is None else check(item)
        return admitted

    def append(self, item: T, /) -> None:
        super().append(self._admit(item))
        self._changed()

    def extend(self, items: Iterable[T], /) -> None:
        super().extend([self._admit(item) for item in items])
        self._changed()

    def insert(self, index: SupportsIndex, item: T, /) -> None:
        super().insert(index, self._admit(item))
        self._changed()

    def remove(self, item: T, /) -> None:
        super().remove(item)
        self._changed()

    def pop(self, index: SupportsIndex = -1, /) -> T:
        item = super().pop(index)
        self._changed()
        return item

    def clear(self) -> None:
        super().clear()
        self._changed()

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        super().sort(key=key, reverse=reverse)
        self._changed()

    def reverse(self) -> None:
        super().reverse()
        self._changed()

    def __setitem__(self, index: Any, value: Any, /) -> None:
        if isinstance(index, slice):
            super().__setitem__(index, [self._admit(item) for item in value])
        else:
            super().__setitem__(index, self._admit(value))
        self._changed()

    def __delitem__(self, index: SupportsIndex | slice, /) -> None:
        super().__delitem__(index)
        self._changed()

    def __iadd__(self, items: Iterable[T], /) -> Self:  # type: ignore[override, misc]
        self.extend(items)
        return self

    def __imul__(self, times: SupportsIndex, /) -> Self:
        super().__imul__(times)
        self._changed()
        return self

    def __copy__(self) -> TrackedList[T]:
        return self._like(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> TrackedList[T]:
        new = self._like(())
        memo[id(self)] = new
        for item in self:
            list.append(new, _deepcopy_or_share(item, memo))
        return new

    def _like(self, items: Iterable[T]) -> TrackedList[T]:
        new: TrackedList[T] = type(self)(items)
        new._check = self._check
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        # The check is a closure, which can't be pickled: a list read back from bytes takes any item.
        return type(self), (list(self),)


class TrackedDict(dict[K, V]):
    """A dict each of whose changes is a change of the definition that holds it.

    `check`, where given, sees every key and value that come in, and returns the value to store or raises.
    """

    __slots__ = ("_check", "_revision")

    _check: Callable[[object, object], V] | None
    _revision: int

    def __init__(
        self,
        items: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (),
        check: Callable[[object, object], V] | None = None,
    ) -> None:
        super().__init__()
        self._check = check
        for key, value in dict(items).items():
            super().__setitem__(key, self._admit(key, value))
        self._revision = next_revision()

    def _changed(self) -> None:
        self._revision = next_revision()
        definition_changed()

    def _admit(self, key: Any, value: Any) -> V:
        check = self._check
        admitted: V = value if check is None else check(key, value)
        return admitted

    def __setitem__(self, key: K, value: V, /) -> None:
        super().__setitem__(key, self._admit(key, value))
        self._changed()

    def __delitem__(self, key: K, /) -> None:
        super().__delitem__(key)
        self._changed()

    def clear(self) -> None:
        super().clear()
        self._changed()

    def pop(self, key: K, /, *default: Any) -> Any:
        value = super().pop(key, *default)
        self._changed()
        return value

    def popitem(self) -> tuple[K, V]:
        item = super().popitem()
        self._changed()
        return item

    def setdefault(self, key: K, default: Any = None, /) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args: Any, **kwargs: Any) -> None:
        new: dict[Any, Any] = dict(*args, **kwargs)
        super().update({key: self._admit(key, value) for key, value in new.items()})
        self._changed()

    def __ior__(self, other: Any, /) -> Self:  # type: ignore[override, misc]
        self.update(other)
        return self

    def __copy__(self) -> TrackedDict[K, V]:
        return self._like(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> TrackedDict[K, V]:
        new = self._like({})
        memo[id(self)] = new
        for key, value in self.items():
            dict.__setitem__(new, key, _deepcopy_or_share(value, memo))
        return new

    def _like(self, items: Mapping[K, V]) -> TrackedDict[K, V]:
        new: TrackedDict[K, V] = type(self)(items)
        new._check = self._check
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


def _deepcopy_or_share(value: T, memo: dict[int, Any]) -> T:
    try:
        return copy.deepcopy(value, memo)
    except (TypeError, NotImplementedError, copy.Error):
        return value
