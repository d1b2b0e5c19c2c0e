"""What must hold of the context after a step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from flujo.application._callables import required_count


class HoldInvariants:
    """Checks invariants on the context as the step leaves it.

    Args:
        step: The step's name, for messages.
        invariants: Callables of the context, or of the output and the context; what they give counts as true or false.
        after: What writes the step's output into the context before.
    """

    def __init__(
        self,
        step: str,
        invariants: tuple[Callable[..., Any], ...],
        *,
        after: Callable[[Any, Any], None] | None,
    ) -> None:
        self._step = step
        self._after = after
        self._invariants = [
            (_name_of(held, place), held, required_count(held) > 1) for place, held in enumerate(invariants)
        ]

    def __call__(self, output: Any, context: Any) -> Any:
        """Check them in order.

        Raises:
            InvariantViolatedError: one doesn't hold.
        """
        if self._after is not None:
            self._after(output, context)
        return self._check(0, output, context)

    def _check(self, first: int, output: Any, context: Any) -> Any:
        for place in range(first, len(self._invariants)):
            name, invariant, takes_output = self._invariants[place]
            verdict = invariant(output, context) if takes_output else invariant(context)
            if isinstance(verdict, Awaitable):
                return self._awaited(verdict, place, output, context)
            self._judge(name, verdict)
        return None

    async def _awaited(self, verdict: Awaitable[Any], place: int, output: Any, context: Any) -> None:
        self._judge(self._invariants[place][0], await verdict)
        rest = self._check(place + 1, output, context)
        if rest is not None:
            await rest

    def _judge(self, name: str, verdict: Any) -> None:
        if verdict:
            return
        from flujo.exceptions import InvariantViolatedError

        raise InvariantViolatedError(
            f"after step {self._step!r} the invariant {name} doesn't hold",
            suggestion="what the step wrote was dropped; correct the step, or the invariant",
        )


def _name_of(invariant: Any, place: int) -> str:
    name = getattr(invariant, "__name__", None)
    return f"number {place + 1}" if name in (None, "<lambda>") else repr(name)
