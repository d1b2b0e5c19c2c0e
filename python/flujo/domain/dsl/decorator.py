"""`@step`, which makes a step of a function, and `@blocking`, which marks one that takes long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from flujo.domain.dsl._tracking import shown
from flujo.domain.dsl.step import Step, name_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flujo.domain.dsl._protocols import AsyncMethod, Method, TakesBoth, TakesContext, TakesResources
    from flujo.domain.dsl._step_fields import NamedStepOptions

__all__ = ["StepDecorator", "adapter_step", "blocking", "step"]

In = TypeVar("In")
Out = TypeVar("Out")
P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., object])


class StepDecorator(Protocol):
    """What `@step(...)` with keywords returns."""

    @overload
    def __call__(self, function: Callable[[In], Awaitable[Out]], /) -> Step[In, Out]: ...
    @overload
    def __call__(self, function: Callable[[In], Out], /) -> Step[In, Out]: ...
    @overload
    def __call__(self, function: TakesContext[In, Awaitable[Out]], /) -> Step[In, Out]: ...
    @overload
    def __call__(self, function: TakesContext[In, Out], /) -> Step[In, Out]: ...
    @overload
    def __call__(self, function: TakesResources[In, Awaitable[Out]], /) -> Step[In, Out]: ...
    @overload
    def __call__(self, function: TakesResources[In, Out], /) -> Step[In, Out]: ...
    @overload
    def __call__(self, function: TakesBoth[In, Awaitable[Out]], /) -> Step[In, Out]: ...
    @overload
    def __call__(self, function: TakesBoth[In, Out], /) -> Step[In, Out]: ...
    @overload
    def __call__(self, function: AsyncMethod[In, P, Out], /) -> Step[In, Out]: ...
    @overload
    def __call__(self, function: Method[In, P, Out], /) -> Step[In, Out]: ...


@overload
def step(function: Callable[[In], Awaitable[Out]], /) -> Step[In, Out]: ...
@overload
def step(function: Callable[[In], Out], /) -> Step[In, Out]: ...
@overload
def step(function: TakesContext[In, Awaitable[Out]], /) -> Step[In, Out]: ...
@overload
def step(function: TakesContext[In, Out], /) -> Step[In, Out]: ...
@overload
def step(function: TakesResources[In, Awaitable[Out]], /) -> Step[In, Out]: ...
@overload
def step(function: TakesResources[In, Out], /) -> Step[In, Out]: ...
@overload
def step(function: TakesBoth[In, Awaitable[Out]], /) -> Step[In, Out]: ...
@overload
def step(function: TakesBoth[In, Out], /) -> Step[In, Out]: ...
@overload
def step(function: AsyncMethod[In, P, Out], /) -> Step[In, Out]: ...
@overload
def step(function: Method[In, P, Out], /) -> Step[In, Out]: ...
@overload
def step(function: None = None, /, **options: Unpack[NamedStepOptions]) -> StepDecorator: ...
def step(function: Any = None, /, **options: Any) -> Any:
    """Make a step of a function, method or other callable, sync or async: `@step` or `@step(timeout_s=5)`.

    Its first parameter is the input. Parameters named `context` and `resources` are filled with the run's
    context and the runner's resources. A plain function runs in a worker thread, or with `inline=True` on
    the event loop's own thread, which suits short work that never blocks.

    The keywords are the fields of `Step` (`name` defaults to the function's) and those of its `StepConfig`.
    Given both `config=` and fields of it, the latter win, with a warning.

    Raises:
        TypeError: there's no such keyword, a value has a wrong type, or the function has a parameter that
            nothing fills.
        ValueError: a value isn't allowed.
    """
    if function is None:

        def decorate(decorated: Callable[..., Any], /) -> Step[Any, Any]:
            return _step_of(decorated, options)

        return decorate
    return _step_of(function, options)


def adapter_step(function: Any = None, /, *, adapter_id: str, adapter_allow: str, **options: Any) -> Any:
    """`@step` for a function that only converts; `adapter_id` and `adapter_allow` name its purpose."""
    return step(function, is_adapter=True, adapter_id=adapter_id, adapter_allow=adapter_allow, **options)


def blocking(function: F) -> F:
    """Mark a plain function that waits or computes for long, so that it runs in a worker thread.

    Conditions, mappers, validators, processors and hooks otherwise run on the event loop's own thread, as
    does a step with `inline=True`.
    """
    if not callable(function):
        raise TypeError(f"@blocking marks a callable, not {shown(function)}")
    body: object = getattr(function, "__func__", function)
    try:
        setattr(body, "__flujo_blocking__", True)  # noqa: B010 - the attribute isn't declared on functions
    except AttributeError:
        raise TypeError(
            f"@blocking can't mark {shown(function)}, which takes no attributes; wrap it in a function"
        ) from None
    return function


def _step_of(function: Any, options: dict[str, Any]) -> Step[Any, Any]:
    if isinstance(function, str):
        raise TypeError(f"@step({function!r}): give the name by keyword, @step(name={function!r})")
    if isinstance(function, Step):
        raise TypeError(f"{function!r} is a step already; give the keywords where it was made")
    if isinstance(function, staticmethod | classmethod) or not callable(function):
        order = "; put it above @step, not below" if isinstance(function, staticmethod | classmethod) else ""
        raise TypeError(f"@step takes a function or another callable, not {shown(function)}{order}")
    given = dict(options)
    name = given.pop("name", None)
    made = DecoratedStep(name if name is not None else name_of(function), function, **given)
    made.__dict__.update(
        __wrapped__=function,
        __doc__=getattr(function, "__doc__", None),
        __module__=getattr(function, "__module__", None),
    )
    made.check_parameters()
    return made


class DecoratedStep(Step[Any, Any]):
    """A step made by `@step`. In the body of a class it is a method: each instance has its own step of it."""

    _method_of: type | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        # A step that was made elsewhere and is only kept by a class isn't a method of it.
        if (
            getattr(self.agent, "__qualname__", None)
            == f"{owner.__qualname__}.{getattr(self.agent, '__name__', '')}"
        ):
            self.__dict__["_method_of"] = owner
            self.__dict__["_bound_name"] = name

    def __get__(self, instance: object, owner: type | None = None) -> DecoratedStep:
        if instance is None or self._method_of is None:
            return self
        bound = self.model_copy()
        bound.__dict__.update(agent=self.agent.__get__(instance, owner), _method_of=None)
        own = getattr(instance, "__dict__", None)
        if isinstance(own, dict):
            # Kept as functools.cached_property does, so that `self.a` is one step however often it's asked
            # for.
            own[self.__dict__["_bound_name"]] = bound
        return bound

    def check_parameters(self) -> None:
        """Refuse a function with a parameter that nothing fills.

        Raises:
            TypeError: there is one.
        """
        facts = self.facts()
        if facts is None or not facts.unfilled:
            return
        if facts.positional_count > 1 and "." in facts.name.rpartition("<locals>.")[2]:
            return  # `self` comes first: a method of a class whose body is being run
        raise TypeError(
            f"step {self.name!r}: nothing fills the parameter {facts.unfilled[0]!r} of {facts.name}; "
            "a step function takes its input first, then context and resources by these names; "
            "give other parameters a default or bind them with functools.partial"
        )
