"""Pydantic models whose fields come from a native record when they're first read.

A run makes a result per step, and most of them are never looked at. An instance made by `_from_record` holds only
the record: reading one field fetches that field; whatever needs the whole (`__dict__`, and so dumping, comparing,
copying, pickling, iterating, assigning) first fetches all of them, and from then on it's an ordinary model.
"""

from __future__ import annotations

import os
from _thread import RLock
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Record", "RecordModel"]


class Record(Protocol):
    """What the engine remembers of a step or a run."""

    def field(self, name: str, /) -> Any:
        """The value of the model's field `name`. It may be asked for twice when two threads read at once."""
        ...


_REAL_DICT: Any = BaseModel.__dict__["__dict__"]
_PYDANTIC_SLOTS = frozenset({"__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"})

# Held only while a fetched dict takes the place of a partial one. A lock of its own for each instance would cost
# more than all the rest; reentrant, because a finaliser may run at any time and look at a result.
_exchange = RLock()
os.register_at_fork(after_in_child=_exchange._at_fork_reinit)


class RecordModel(BaseModel):
    """A pydantic model that can stand on a native record."""

    __slots__ = ("__flujo_record__",)

    @classmethod
    def _from_record(cls, record: Record) -> Self:
        """An instance whose fields are `record.field(name)`."""
        model = cls.__new__(cls)
        _write_record(model, record)
        return model

    if not TYPE_CHECKING:  # static tools would see every unknown attribute as valid

        @property
        def __dict__(self) -> dict[str, Any]:
            try:
                record = _read_record(self)
            except AttributeError:  # made by pydantic itself
                _write_record(self, None)
            else:
                if record is not None:
                    _fetch_all(self, record)
            return _read_dict(self)

        @__dict__.setter
        def __dict__(self, values: dict[str, Any]) -> None:
            _write_dict(self, values)
            _write_record(self, None)

        def __getattr__(self, name: str) -> Any:
            try:
                record = _read_record(self)
            except AttributeError:
                record = None
            if record is not None:
                if name in type(self).__pydantic_fields__:
                    values = _read_dict(self)
                    if name in values:  # another thread was quicker
                        return values[name]
                    return values.setdefault(name, record.field(name))
                if name in _PYDANTIC_SLOTS:
                    _fetch_all(self, record)
                    return object.__getattribute__(self, name)
            elif name in (values := _read_dict(self)):
                return values[name]
            return super().__getattr__(name)

        def __delattr__(self, name: str) -> None:
            _ = self.__dict__  # or else the record would bring the field back
            super().__delattr__(name)


# `__flujo_record__` is unset on instances that pydantic makes; reading it through the descriptor raises there, and
# doesn't fall into `__getattr__`.
_slot: Any = RecordModel.__dict__["__flujo_record__"]
_read_record: Callable[[RecordModel], Record | None] = _slot.__get__
_write_record: Callable[[RecordModel, Record | None], None] = _slot.__set__
_read_dict: Callable[[RecordModel], dict[str, Any]] = _REAL_DICT.__get__
_write_dict: Callable[[RecordModel, dict[str, Any]], None] = _REAL_DICT.__set__


def _fetch_all(model: RecordModel, record: Record) -> None:
    values = _read_dict(model)
    names = type(model).__pydantic_fields__
    for name in names:
        if name not in values:
            values.setdefault(name, record.field(name))
    # Dumps and `repr` follow the order of the dict: declared order, whatever was read first. Every thread that
    # comes here finds the same objects in `values`, so it doesn't matter whose copy stays.
    ordered = {name: values[name] for name in names}
    fields_set = set(names)
    with _exchange:
        if _read_record(model) is None:
            return
        object.__setattr__(model, "__pydantic_fields_set__", fields_set)
        object.__setattr__(model, "__pydantic_extra__", None)
        object.__setattr__(model, "__pydantic_private__", None)
        _write_dict(model, ordered)
        _write_record(model, None)
    if type(model).__pydantic_post_init__:
        model.model_post_init(None)
