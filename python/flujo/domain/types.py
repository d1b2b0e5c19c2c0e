"""Types of callables, at the path where they're documented."""

from flujo.domain.events import HookCallable

__all__ = ["HookCallable"]
