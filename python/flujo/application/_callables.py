"""How the callables of a definition are called, as the engine is told."""

from __future__ import annotations

from collections.abc import Callable as AnyCallable
from collections.abc import Sequence
from typing import Any, cast

from flujo._native import Callable
from flujo.application._stream import Collector
from flujo.domain.dsl._signature import CallableFacts, analyse_agent, analyse_callable


def describe_agent(agent: object) -> Callable:
    """How an agent is called that isn't part of a plan."""
    facts = analyse_agent(agent)
    if facts is None:
        raise TypeError(f"{type(agent).__name__} is no agent: it has no run and can't be called")
    return describe_facts(facts, {}, None, agent)


def describe_facts(
    facts: CallableFacts, settings: dict[str, Any], retry_on: tuple[Any, ...] | None, agent: object = None
) -> Callable:
    target = facts.call
    if facts.unfilled:
        from flujo.exceptions import ConfigurationError

        raise ConfigurationError(
            f"{facts.name} needs {', '.join(facts.unfilled)}, which nothing gives it",
            suggestion="give these parameters defaults, or bind them with functools.partial",
        )
    if facts.is_async_generator or facts.is_generator:
        target = Collector(target, is_async=facts.is_async_generator)
    worker = not (facts.is_async or facts.is_async_generator or facts.inline)
    resources = facts.resources_param or ("deps" if facts.accepts_deps else None)
    return Callable(
        target,
        "agent",
        name=facts.name,
        worker=worker,
        takes_input=facts.accepts_input,
        context_keyword=facts.context_param,
        resources_keyword=resources,
        constants=settings or None,
        retry_on=retry_on,
        agent=agent,
    )


def called(
    target: AnyCallable[..., Any],
    protocol: str,
    name: str,
    *,
    keys: dict[Any, int] | None = None,
    arguments: Sequence[str] = ("input", "context"),
    declared: bool = False,
) -> Callable:
    """A callable of `(value, context)` or `(value)`, inline unless it is marked as blocking.

    Args:
        target: What is called.
        protocol: What its result means.
        name: Names it in errors.
        keys: The places of branches or states by key.
        arguments: What it may take by position; it is given as many of them as it requires.
        declared: Its result must be of the class that it is declared to give.
    """
    facts = analyse_callable(target)
    given = arguments[: _taken(target, arguments)]
    if not given and facts.accepts_input:
        given = arguments[:1]
    return Callable(
        target,
        protocol,
        name=name,
        worker=facts.blocking,
        arguments=list(given),
        context_keyword=None if "context" in given else facts.context_param,
        resources_keyword=facts.resources_param,
        keys=keys,
        returns=declared_class(facts.output_type) if declared else None,
    )


_USUAL_NAMES = {
    "context": ("context", "ctx"),
    "index": ("index", "iteration", "i"),
    "key": ("key", "branch_key"),
}


def _taken(target: AnyCallable[..., Any], arguments: Sequence[str]) -> int:
    """How many of the arguments a callable wants by position: those it requires, or names as is usual."""
    import inspect

    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (ValueError, TypeError):
        return 1
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return len(arguments)
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [parameter for parameter in parameters if parameter.kind in by_position]
    if len(positional) == 1 and not analyse_callable(target).accepts_input:
        return 0  # it takes the context alone, by its name
    taken = 0
    for place, (parameter, argument) in enumerate(zip(positional, arguments, strict=False)):
        required = parameter.default is inspect.Parameter.empty
        if place == 0 or required or parameter.name in _USUAL_NAMES.get(argument, ()):
            taken = place + 1
    return taken


def required_count(target: AnyCallable[..., Any]) -> int:
    """How many arguments a callable requires by position."""
    import inspect

    try:
        parameters = inspect.signature(target).parameters.values()
    except (ValueError, TypeError):
        return 1
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(
        parameter.kind in by_position and parameter.default is inspect.Parameter.empty
        for parameter in parameters
    )


def declared_class(declared: Any) -> type | None:
    """A declared type as a class that results can be held against; None where it says nothing of the kind."""
    import typing

    if not isinstance(declared, type) or declared in (Any, object) or typing.get_origin(declared) is not None:
        return None
    if typing.is_typeddict(declared) or getattr(declared, "_is_protocol", False):
        return None
    return declared


def method_of(holder: Any, method: str) -> AnyCallable[..., Any]:
    found: Any = getattr(holder, method, None)
    return cast("AnyCallable[..., Any]", found if callable(found) else holder)


def name_of(holder: Any) -> str:
    return getattr(holder, "name", None) or getattr(holder, "__name__", None) or type(holder).__name__


def called_by_keyword(target: AnyCallable[..., Any], protocol: str, name: str) -> Callable:
    facts = analyse_callable(target)
    return Callable(
        target,
        protocol,
        name=name,
        worker=facts.blocking,
        context_keyword=facts.context_param,
        resources_keyword=facts.resources_param,
    )
