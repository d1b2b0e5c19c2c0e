"""Pydantic models whose fields come from a native record when they're first read.

A run makes a result per step, and most of them are never looked at. An instance made by `_from_record` holds
only the record: reading one field fetches that field; whatever needs the whole (`__dict__`, and so dumping,
comparing, copying, pickling, iterating, assigning) first fetches all of them, and from then on it's an
ordinary model.
"""

from __future__ import annotations

import os
from _thread import RLock
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from pydantic import BaseModel

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Record", "RecordField", "RecordModel", "on_record"]


class Record(Protocol):
    """What the engine remembers of a step or a run."""

    def field(self, name: str, /) -> Any:
        """The value of the model's field `name`. It may be asked for twice when two threads read at once."""
        ...


_real_dict: Any = BaseModel.__dict__["__dict__"]
_read_dict: Callable[[BaseModel], dict[str, Any]] = _real_dict.__get__
_PYDANTIC_SLOTS = frozenset({"__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"})
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})

# Held only while a complete dict takes the place of a partial one. A lock of its own for each instance would
# cost more than all the rest; reentrant, because a finaliser may run at any time and look at a result.
_exchange = RLock()


def _renew_lock() -> None:
    global _exchange
    _exchange = RLock()


os.register_at_fork(after_in_child=_renew_lock)  # another thread may have held it


class RecordModel(BaseModel):
    """A pydantic model that can stand on a native record."""

    __slots__ = ("__flujo_paused__", "__flujo_record__")

    if TYPE_CHECKING:
        # Not a class variable in truth, but anything else would be a parameter of the constructor.
        __flujo_record__: ClassVar[Record | None]
        __flujo_paused__: ClassVar[Any]

    @classmethod
    def _from_record(cls, record: Record) -> Self:
        """An instance whose fields are `record.field(name)`."""
        model = cls.__new__(cls)
        object.__setattr__(model, "__flujo_record__", record)
        return model

    if not TYPE_CHECKING:  # static tools would take every unknown attribute for a valid one

        @property
        def __dict__(self) -> dict[str, Any]:
            record = self.__flujo_record__
            if record is not None:
                _fetch_all(self, record)
            return _read_dict(self)

        @__dict__.setter
        def __dict__(self, values: dict[str, Any]) -> None:
            _real_dict.__set__(self, values)
            object.__setattr__(self, "__flujo_record__", None)

        def __getattr__(self, name: str) -> Any:
            if name == "__flujo_record__":  # never set: pydantic made this instance
                return None
            record = self.__flujo_record__
            # The slots of pydantic, and the fields of a subclass that `on_record` hasn't seen.
            if record is not None and (name in _PYDANTIC_SLOTS or name in type(self).__pydantic_fields__):
                _fetch_all(self, record)
                return object.__getattribute__(self, name)
            return super().__getattr__(name)

        def __delattr__(self, name: str) -> None:
            _ = self.__dict__  # or else the record would bring the field back
            super().__delattr__(name)


class RecordField:
    """Fetches one field of a `RecordModel` from its record.

    Not a data descriptor, so that it's asked only for what the instance's dict doesn't hold yet. On the class
    it behaves as if it weren't there: pydantic would take it for the field's default.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, model: RecordModel | None, owner: type[RecordModel] | None = None) -> Any:
        name = self.name
        if model is None:
            raise AttributeError(name)
        record = model.__flujo_record__
        if record is None:
            values = _read_dict(model)
            if name in values:  # another thread has fetched everything meanwhile
                return values[name]
            raise AttributeError(name)
        value = record.field(name)
        if (
            type(value) in _PLAIN
        ):  # any equal object will do, and making the dict costs more than fetching again
            return value
        return _read_dict(model).setdefault(name, value)


ModelT = TypeVar("ModelT", bound=type[RecordModel])


def on_record(model: ModelT, field: Callable[[str], Any] = RecordField) -> ModelT:
    """Let the fields of `model` be fetched one by one, by descriptors that `field(name)` makes."""
    for name in model.__pydantic_fields__:
        type.__setattr__(model, name, field(name))
    return model


def _fetch_all(model: RecordModel, record: Record) -> None:
    values = _read_dict(model)
    names = type(model).__pydantic_fields__
    for name in names:
        if name not in values:
            values.setdefault(name, record.field(name))
    # Dumps and `repr` follow the order of the dict: declared order, whatever was read first. Every thread
    # that comes here finds the same objects in `values`, so it doesn't matter whose copy stays.
    ordered = {name: values[name] for name in names}
    fields_set = set(names)
    with _exchange:
        if model.__flujo_record__ is None:
            return
        object.__setattr__(model, "__pydantic_fields_set__", fields_set)
        object.__setattr__(model, "__pydantic_extra__", None)
        object.__setattr__(model, "__pydantic_private__", None)
        _real_dict.__set__(model, ordered)
        object.__setattr__(model, "__flujo_record__", None)
    if type(model).__pydantic_post_init__:
        model.model_post_init(None)
