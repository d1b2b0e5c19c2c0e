"""What users may hand to a step, as types."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

__all__ = ["AgentLike", "Condition", "HasOutput", "Runnable"]

I_contra = TypeVar("I_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)
In = TypeVar("In")
Out = TypeVar("Out")
Key = TypeVar("Key")


class HasOutput(Protocol[O_co]):
    """A wrapper around an output, as agents of pydantic-ai return; the step's output is what it holds."""

    @property
    def output(self) -> O_co:
        """What the wrapper holds."""
        ...


class Runnable(Protocol[I_contra, O_co]):
    """An agent as an object. `run` takes the input by position, the rest by keyword where it names them."""

    def run(self, data: I_contra, /) -> Awaitable[O_co] | O_co:
        """Do the work."""
        ...


class TakesContext(Protocol[I_contra, O_co]):
    """A callable that asks for the run's context by name; its class is the run's, unknown to a step."""

    def __call__(self, data: I_contra, /, *, context: Any) -> Awaitable[O_co] | O_co:
        """Do the work."""
        ...


class TakesResources(Protocol[I_contra, O_co]):
    """A callable that asks for the runner's resources by name."""

    def __call__(self, data: I_contra, /, *, resources: Any) -> Awaitable[O_co] | O_co:
        """Do the work."""
        ...


class TakesBoth(Protocol[I_contra, O_co]):
    """A callable that asks for context and resources by name."""

    def __call__(self, data: I_contra, /, *, context: Any, resources: Any) -> Awaitable[O_co] | O_co:
        """Do the work."""
        ...


AgentLike = (
    Callable[[In], Awaitable[Out] | Out]
    | TakesContext[In, Out]
    | TakesResources[In, Out]
    | TakesBoth[In, Out]
    | Runnable[In, Out]
)
"""A callable, or an object with `run`, sync or async."""

Condition = Callable[[In, Any], Key | Awaitable[Key]] | Callable[[In], Key | Awaitable[Key]]
"""A function of the last output and the context (or of the output alone)."""

Function = (
    Callable[[In], Awaitable[Out] | Out]
    | TakesContext[In, Out]
    | TakesResources[In, Out]
    | TakesBoth[In, Out]
)
"""What `@step` takes: a function of the input, which may ask for context and resources by name."""

Method = Callable[[Any, In], Awaitable[Out] | Out]
"""A function in the body of a class."""
