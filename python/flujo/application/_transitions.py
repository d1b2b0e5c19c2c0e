"""Which state follows, from how one ended."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import Any

from flujo.application._callables import required_count


class Transitions:
    """Finds the first transition that fits, else asks the context."""

    def __init__(self, step: Any) -> None:
        self._transitions = [
            (transition, transition.when is not None and required_count(transition.when) > 1)
            for transition in step.transitions
        ]

    def __call__(self, value: Any, context: Any, state: str, failed: int) -> Any:
        """The name of the next state; None where nothing says so."""
        on = "failure" if failed else "success"
        fitting = iter(
            [
                (transition, takes_context)
                for transition, takes_context in self._transitions
                if transition.from_state in (state, "*") and transition.on == on
            ]
        )
        return self._first(fitting, value, context, failed)

    def _first(self, fitting: Iterator[Any], value: Any, context: Any, failed: int) -> Any:
        for transition, takes_context in fitting:
            if transition.when is None:
                return transition.to
            verdict = transition.when(value, context) if takes_context else transition.when(value)
            if isinstance(verdict, Awaitable):
                return self._awaited(verdict, transition.to, fitting, value, context, failed)
            if verdict:
                return transition.to
        return None if failed else _asked_for(context)

    async def _awaited(
        self, verdict: Awaitable[Any], to: str, fitting: Iterator[Any], value: Any, context: Any, failed: int
    ) -> Any:
        if await verdict:
            return to
        found = self._first(fitting, value, context, failed)
        return await found if isinstance(found, Awaitable) else found


def _asked_for(context: Any) -> Any:
    """What a step has put into `context.next_state`, which is good for one transition."""
    state = getattr(context, "next_state", None)
    if state is not None:
        context.next_state = None
    return state
