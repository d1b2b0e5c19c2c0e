"""What can be known about a callable before it is called.

The compiler asks once per callable of a definition and keeps the answer beside the callable itself. Nothing
is remembered here: an answer found by an address could belong to another object.

How a callable gets its arguments is decided here, too: the input by position, `context`, `resources` and an
agent's settings by the names of its parameters. A plain function gets what it names; an agent whose `run`
takes `**kwargs` gets everything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import inspect

__all__ = ["CallableFacts", "agent_entry_point", "analyse_agent", "analyse_callable", "resolve_hints"]

INJECTED = ("context", "resources")
"""Parameters that the engine fills by name."""

SETTINGS = ("temperature", "top_k", "top_p")
"""Settings of a step that go to an agent by name, where it takes them."""


class CallableFacts(NamedTuple):
    """What is known about a callable."""

    call: Callable[..., Any]
    """What to call: the callable itself, or an agent's bound `run`."""
    name: str
    """A readable name for messages."""
    is_async: bool = False
    """Calling it gives an awaitable. A callable that isn't marked as such may still return one."""
    is_generator: bool = False
    is_async_generator: bool = False
    positional_count: int = 1
    """How many arguments it takes by position, the injected ones included, `*args` not."""
    accepts_varargs: bool = False
    accepts_input: bool = True
    """It has a place for the input: a positional parameter that isn't injected."""
    accepts_context: bool = False
    context_param: str | None = None
    """The keyword to give the context by; None where it takes none."""
    accepts_resources: bool = False
    resources_param: str | None = None
    accepts_temperature: bool = False
    accepts_top_k: bool = False
    accepts_top_p: bool = False
    accepts_deps: bool = False
    """It is called the way pydantic-ai agents are: resources go by the name `deps`."""
    accepts_model_settings: bool = False
    """Settings go as one mapping by the name `model_settings`."""
    accepts_any_keyword: bool = False
    unfilled: tuple[str, ...] = ()
    """Required parameters that nothing fills. A step with such a callable can't run."""
    input_type: Any = Any
    """The input's declared type; `Any` where none is declared or it can't be resolved."""
    output_type: Any = Any
    """The declared type of what it gives once awaited; `Any` where unknown."""
    inline: bool = False
    """A plain function that runs on the event loop's own thread."""
    blocking: bool = False
    """Marked by `@blocking`: it runs in a worker thread even where plain functions run inline."""


def agent_entry_point(agent: object) -> Callable[..., Any] | None:
    """What a step calls to run `agent`: its `run`, the agent itself, or its `stream`; None where it has none.

    A class isn't an agent; its `run` would lack an instance.
    """
    if not isinstance(agent, type):
        run = getattr(agent, "run", None)
        if callable(run):
            entry: Callable[..., Any] = run
            return entry
        stream = getattr(agent, "stream", None)
        if callable(stream) and not callable(agent):
            streams: Callable[..., Any] = stream
            return streams
    return agent if callable(agent) else None


def analyse_agent(agent: object, *, inline: bool = False) -> CallableFacts | None:
    """The facts of what `agent_entry_point` finds, or None."""
    call = agent_entry_point(agent)
    if call is None:
        return None
    if call is agent:
        return analyse_callable(call, inline=inline)
    facts = analyse_callable(call, inline=inline, is_agent=True)
    declared = getattr(agent, "output_type", None)
    if facts.output_type is Any and isinstance(declared, type):
        facts = facts._replace(output_type=declared)
    return facts._replace(
        name=f"{type(agent).__qualname__}.run",
        blocking=facts.blocking or _is_marked(agent, "__flujo_blocking__"),
    )


def analyse_callable(
    fn: Callable[..., Any], *, inline: bool = False, is_agent: bool = False
) -> CallableFacts:
    """Find out what `fn` takes and gives: a function, method, partial, callable object, class or builtin.

    Args:
        fn: What will be called.
        inline: Its holder says that it runs on the loop's own thread.
        is_agent: It is an agent's method, so that `**kwargs` takes context, resources and settings.
    """
    import inspect

    body = _unwrap_partial(fn)
    shell = CallableFacts(
        call=fn,
        name=_name_of(body),
        is_async=_is_async(body),
        is_generator=_has_kind(body, inspect.isgeneratorfunction),
        is_async_generator=_has_kind(body, inspect.isasyncgenfunction),
        inline=inline or _is_marked(body, "__flujo_inline__"),
        blocking=_is_marked(body, "__flujo_blocking__"),
    )
    try:
        parameters = inspect.signature(fn).parameters
    except (ValueError, TypeError):
        return shell  # builtins of C may have no signature: one positional argument, nothing by name
    return _with_parameters(shell, parameters, resolve_hints(body), is_agent=is_agent)


def _with_parameters(
    facts: CallableFacts,
    parameters: Mapping[str, inspect.Parameter],
    hints: Mapping[str, Any],
    *,
    is_agent: bool,
) -> CallableFacts:
    import inspect

    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = {name for name, parameter in parameters.items() if parameter.kind in by_keyword}
    positional = [parameter for parameter in parameters.values() if parameter.kind in by_position]
    varargs = next((p for p in parameters.values() if p.kind is inspect.Parameter.VAR_POSITIONAL), None)
    any_keyword = any(_takes_any_keyword(p, hints) for p in parameters.values())

    def takes(name: str) -> bool:
        return name in named or (is_agent and any_keyword)

    # A partial turns what it fills by name, and all after it, into keyword-only parameters with a default.
    inputs = [p for p in positional if not (p.name in INJECTED and p.kind in by_keyword)]
    first = inputs[0] if inputs else varargs
    filled = {first.name} if first is not None else set()
    named -= filled  # what holds the input can't be given by name as well
    filled |= named & {*INJECTED, *SETTINGS, "deps", "model_settings"}
    unfilled = tuple(
        name
        for name, parameter in parameters.items()
        if name not in filled
        and parameter.default is inspect.Parameter.empty
        and parameter.kind in (*by_position, inspect.Parameter.KEYWORD_ONLY)
    )
    return facts._replace(
        positional_count=len(positional),
        accepts_varargs=varargs is not None,
        accepts_input=first is not None,
        accepts_context=takes("context"),
        context_param="context" if takes("context") else None,
        accepts_resources=takes("resources"),
        resources_param="resources" if takes("resources") else None,
        accepts_temperature=takes("temperature"),
        accepts_top_k=takes("top_k"),
        accepts_top_p=takes("top_p"),
        accepts_deps="deps" in named and "resources" not in named,
        accepts_model_settings="model_settings" in named,
        accepts_any_keyword=any_keyword,
        unfilled=unfilled,
        input_type=_known(hints.get(first.name, Any)) if first is not None else Any,
        output_type=_awaited(facts, hints),
    )


def resolve_hints(fn: object) -> dict[str, Any]:
    """The annotations of a callable as types, `return` among them. What can't be resolved is left out.

    A name may be unknown at run time (imported for type checkers only, or local to a function); the other
    annotations are resolved all the same.
    """
    import inspect
    import typing

    holder: Any = fn
    if isinstance(fn, type):
        holder = vars(fn).get("__init__", fn)
    elif not (inspect.isroutine(fn) or inspect.isfunction(fn)):
        holder = type(fn).__call__
    holder = inspect.unwrap(getattr(holder, "__func__", holder))
    try:
        hints = typing.get_type_hints(holder)
    except Exception:
        hints = _resolve_one_by_one(holder)
    if isinstance(fn, type):
        hints["return"] = fn
    return hints


def _resolve_one_by_one(holder: Any) -> dict[str, Any]:
    import typing

    hints: dict[str, Any] = {}
    names = getattr(holder, "__globals__", {})
    try:
        annotations: dict[str, Any] = dict(holder.__annotations__)
    except Exception:  # from 3.14 on annotations are evaluated when they're read
        return hints
    for name, annotation in annotations.items():
        single = typing.cast(Any, type("annotated", (), {"__annotations__": {name: annotation}}))
        try:
            hints.update(typing.get_type_hints(single, names))
        except Exception:
            continue
    return hints


def _awaited(facts: CallableFacts, hints: Mapping[str, Any]) -> Any:
    """The declared return type as a step sees it: awaited, and not that of a stream's iterator."""
    import typing
    from collections import abc

    declared = hints.get("return", Any)
    if facts.is_generator or facts.is_async_generator:
        return Any
    if typing.get_origin(declared) in (abc.Awaitable, abc.Coroutine):
        declared = typing.get_args(declared)[-1]
    return Any if _carries_output(declared) else _known(declared)


def _carries_output(declared: Any) -> bool:
    """Whether it's a wrapper around an output and its usage, of which a step takes the output alone."""
    import typing

    kind = typing.get_origin(declared) or declared
    if not isinstance(kind, type):
        return False

    def has(name: str) -> bool:
        return hasattr(kind, name) or any(
            name in vars(base).get("__annotations__", ()) for base in kind.__mro__
        )

    return has("output") and (has("usage") or (has("token_counts") and not has("step_history")))


def _known(declared: Any) -> Any:
    # A type with free type variables says nothing that could be checked.
    import typing

    if isinstance(declared, typing.TypeVar):
        return Any
    free = not isinstance(declared, type) and bool(getattr(declared, "__parameters__", None))
    return Any if free else declared


def _takes_any_keyword(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> bool:
    import inspect
    import typing

    if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
        return False
    # `**_deprecated: Never` is how some agents refuse unknown keywords.
    declared = hints.get(parameter.name, parameter.annotation)
    refuses = declared in (typing.Never, typing.NoReturn) or str(declared).rpartition(".")[2] in (
        "Never",
        "NoReturn",
    )
    return not refuses


def _unwrap_partial(fn: Any) -> Any:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def _is_async(body: Any) -> bool:
    import inspect
    import sys

    if _has_kind(body, inspect.iscoroutinefunction):
        return True
    # AsyncMock carries asyncio's own mark, which `inspect` doesn't know.
    coroutines = sys.modules.get("asyncio.coroutines")
    mark = getattr(coroutines, "_is_coroutine", None)
    return mark is not None and getattr(body, "_is_coroutine", None) is mark


def _has_kind(body: Any, is_kind: Callable[[Any], bool]) -> bool:
    """Whether a function, or the `__call__` of a callable object, is of a kind."""
    if is_kind(body):
        return True
    if isinstance(body, type):
        return False
    return is_kind(getattr(type(body), "__call__", None))  # noqa: B004 - the function itself is asked


def _is_marked(holder: Any, mark: str) -> bool:
    return getattr(holder, mark, False) is True


def _name_of(body: Any) -> str:
    name = getattr(body, "__qualname__", None)
    return name if isinstance(name, str) else type(body).__qualname__
