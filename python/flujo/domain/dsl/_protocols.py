"""What users may hand to a step, as types.

Sync and async forms are apart, and the async one is asked first: type checkers can't tell `Awaitable[T] | T`
apart inside of a larger union. A context's class is the run's and unknown to a step, so it's `Any` here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

__all__ = [
    "AsyncAgent",
    "AsyncMethod",
    "Condition",
    "Method",
    "SyncAgent",
    "TakesBoth",
    "TakesContext",
    "TakesResources",
    "WrappingAgent",
]

I_contra = TypeVar("I_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)
In = TypeVar("In")
Out = TypeVar("Out")
Key = TypeVar("Key")
P = ParamSpec("P")


class TakesContext(Protocol[I_contra, O_co]):
    """A callable that asks for the run's context by name."""

    def __call__(self, data: I_contra, /, *, context: Any) -> O_co:
        """Do the work."""
        ...


class TakesResources(Protocol[I_contra, O_co]):
    """A callable that asks for the runner's resources by name."""

    def __call__(self, data: I_contra, /, *, resources: Any) -> O_co:
        """Do the work."""
        ...


class TakesBoth(Protocol[I_contra, O_co]):
    """A callable that asks for context and resources by name."""

    def __call__(self, data: I_contra, /, *, context: Any, resources: Any) -> O_co:
        """Do the work."""
        ...


class HasRun(Protocol[I_contra, O_co]):
    """An agent as an object: `run` takes the input by position, the rest by keyword where it names it."""

    def run(self, data: I_contra, /) -> O_co:
        """Do the work."""
        ...


class HasOutput(Protocol[O_co]):
    """A wrapper around an output and its usage, as agents of pydantic-ai return; the output alone goes on."""

    @property
    def output(self) -> O_co:
        """What the wrapper holds."""
        ...

    @property
    def usage(self) -> object:
        """What it took, or a method that says so."""
        ...


Method = Callable[Concatenate[Any, In, P], Out]
"""A function in the body of a class."""

AsyncMethod = Callable[Concatenate[Any, In, P], Awaitable[Out]]

SyncAgent = Callable[[In], Out] | HasRun[In, Out]
"""A callable of the input, or an object with `run`."""

AsyncAgent = Callable[[In], Awaitable[Out]] | HasRun[In, Awaitable[Out]]

WrappingAgent = HasRun[In, Awaitable[HasOutput[Out]]] | HasRun[In, HasOutput[Out]]
"""An agent that returns its output in a wrapper."""

Condition = Callable[[In, Any], Key | Awaitable[Key]] | Callable[[In], Key | Awaitable[Key]]
"""A function of the last output and the context (or of the output alone)."""
