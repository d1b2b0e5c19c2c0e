"""A place in the context for something too large to travel with it."""

from __future__ import annotations

from typing import Any, ClassVar, Generic

from pydantic import BaseModel, ConfigDict, PrivateAttr
from typing_extensions import TypeVar

__all__ = ["ContextReference"]

T = TypeVar("T", default=Any)


class ContextReference(BaseModel, Generic[T]):
    """Names a value that a state provider keeps. Only the two names are dumped and saved; the value isn't."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, defer_build=True)

    provider_id: str
    key: str
    _value: list[T] = PrivateAttr(default_factory=list)

    def set(self, value: T) -> None:
        """Put the value in."""
        self._value[:] = [value]

    def get(self) -> T:
        """The value.

        Raises:
            ValueError: if nobody has put it in yet.
        """
        if not self._value:
            raise ValueError(
                f"the value of ContextReference(provider_id={self.provider_id!r}, key={self.key!r}) "
                "isn't loaded; load it from its provider and call set(value)"
            )
        return self._value[0]

    @property
    def is_loaded(self) -> bool:
        """Whether `get()` has a value to give."""
        return bool(self._value)
