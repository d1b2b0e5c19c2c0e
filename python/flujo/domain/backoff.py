"""How long to wait before another attempt."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NoReturn

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Backoff"]

BackoffKind = Literal["none", "fixed", "exponential"]


class Backoff:
    """The waits between a step's attempts. Immutable; made by `none()`, `fixed()` or `exponential()`.

    A wait never passes the step's or the run's deadline. Where an error advises a wait (`retry_after`, in
    seconds) the longer of the two is taken, and never more than `max_s`.

        StepConfig(max_retries=4, backoff=Backoff.exponential(initial_s=0.5, max_s=10))
    """

    __slots__ = ("factor", "initial_s", "jitter", "kind", "max_s")

    kind: BackoffKind
    initial_s: float
    """The wait before the second attempt, in seconds."""
    factor: float
    """What each wait is multiplied by to get the next."""
    max_s: float | None
    """The longest wait, in seconds; None where the engine's own cap on advised waits holds (`none()`)."""
    jitter: float
    """The share of a wait, from 0 to 1, by which it's made longer or shorter: the same for the same run, step
    and attempt."""

    def __init__(
        self, kind: BackoffKind, initial_s: float, factor: float, max_s: float | None, jitter: float
    ) -> None:
        store = object.__setattr__
        store(self, "kind", kind)
        store(self, "initial_s", initial_s)
        store(self, "factor", factor)
        store(self, "max_s", max_s)
        store(self, "jitter", jitter)

    @classmethod
    def none(cls) -> Self:
        """The next attempt starts at once. The default."""
        return cls("none", 0.0, 1.0, None, 0.0)

    @classmethod
    def fixed(cls, s: float) -> Self:
        """Always `s` seconds.

        Raises:
            TypeError: if `s` isn't a number.
            ValueError: if it's negative or not finite.
        """
        wait = _number("Backoff.fixed", "s", s, least=0.0)
        return cls("fixed", wait, 1.0, wait, 0.0)

    @classmethod
    def exponential(
        cls, initial_s: float = 0.1, factor: float = 2.0, max_s: float | None = None, jitter: float = 0.1
    ) -> Self:
        """`initial_s`, then `factor` times as long at each further attempt, up to `max_s` seconds.

        `max_s` is 30 by default, or `initial_s` where that is longer.

        Raises:
            TypeError: if an argument isn't a number.
            ValueError: if one is out of its range: `initial_s` ≥ 0, `factor` ≥ 1, `max_s` ≥ `initial_s`,
                `jitter` from 0 to 1.
        """
        name = "Backoff.exponential"
        initial_s = _number(name, "initial_s", initial_s, least=0.0)
        factor = _number(name, "factor", factor, least=1.0)
        max_s = max(30.0, initial_s) if max_s is None else _number(name, "max_s", max_s, least=initial_s)
        jitter = _number(name, "jitter", jitter, least=0.0, most=1.0)
        return cls("exponential", initial_s, factor, max_s, jitter)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Backoff is immutable; make another one in place of setting {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Backoff is immutable")

    def _fields(self) -> tuple[Any, ...]:
        return self.kind, self.initial_s, self.factor, self.max_s, self.jitter

    def __eq__(self, other: object) -> bool:
        return self._fields() == other._fields() if isinstance(other, Backoff) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        if self.kind == "none":
            return "Backoff.none()"
        if self.kind == "fixed":
            return f"Backoff.fixed({self.initial_s!r})"
        return (
            f"Backoff.exponential(initial_s={self.initial_s!r}, factor={self.factor!r}, "
            f"max_s={self.max_s!r}, jitter={self.jitter!r})"
        )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._fields()


def _number(owner: str, name: str, value: object, *, least: float, most: float | None = None) -> float:
    allowed = f"a finite number ≥ {least:g}" if most is None else f"a number from {least:g} to {most:g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{owner}({name}=…) must be {allowed}, not {value!r}")
    if not math.isfinite(value) or value < least or (most is not None and value > most):
        raise ValueError(f"{owner}({name}=…) must be {allowed}, not {value!r}")
    return float(value)
