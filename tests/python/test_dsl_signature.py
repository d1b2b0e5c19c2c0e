"""What the analysis of a callable says, and that the engine can rely on it."""

import functools
import gc
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar
from unittest.mock import AsyncMock, MagicMock

import pytest

from flujo.domain.dsl import Step, blocking
from flujo.domain.dsl._signature import CallableFacts, analyse_agent, analyse_callable
from flujo.domain.dsl._types import fits

if TYPE_CHECKING:
    from decimal import Decimal

T = TypeVar("T")


def plain(data: int) -> str:
    return str(data)


async def asynchronous(data: int) -> str:
    return str(data)


def with_context(data: int, context: Any) -> str:
    return str(data)


def with_both(data: int, *, context: Any, resources: Any) -> str:
    return str(data)


def only_context(context: Any) -> str:
    return ""


def nothing() -> str:
    return ""


def several(*data: int) -> int:
    return len(data)


def keywords(data: int, **rest: Any) -> int:
    return data


def positional_only(data: int, context: Any, /) -> int:
    return data


def generate(data: int) -> Iterator[str]:
    yield str(data)


async def stream(data: int) -> AsyncIterator[str]:
    yield str(data)


def returns_awaitable(data: int) -> Awaitable[str]:
    return asynchronous(data)


def with_settings(data: int, temperature: float, top_p: float = 1.0) -> int:
    return data


def unfilled(data: int, factor: int, *, base: int) -> int:
    return data


class Sync:
    def run(self, data: int) -> str:
        return str(data)

    def __call__(self, data: str) -> int:
        return int(data)


class Async:
    async def run(self, data: int, **kwargs: Any) -> str:
        return str(data)

    async def __call__(self, data: str) -> int:
        return int(data)

    def method(self, data: bytes, context: Any) -> None: ...

    @classmethod
    def of_class(cls, data: bytes) -> None: ...

    @staticmethod
    def static(data: bytes) -> None: ...


class Refusing:
    """Takes no keyword but its own, as agents of pydantic-ai."""

    async def run(
        self, prompt: str | None = None, *, deps: Any = None, model_settings: Any = None, **_old: Never
    ) -> str:
        return ""


CASES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "function": (plain, {"input_type": int, "output_type": str, "positional_count": 1, "is_async": False}),
    "async function": (asynchronous, {"is_async": True, "input_type": int, "output_type": str}),
    "context": (with_context, {"accepts_context": True, "context_param": "context", "positional_count": 2}),
    "both": (with_both, {"accepts_context": True, "accepts_resources": True, "positional_count": 1}),
    "only context": (only_context, {"accepts_input": False, "accepts_context": True, "unfilled": ()}),
    "no parameters": (nothing, {"accepts_input": False, "positional_count": 0, "unfilled": ()}),
    "varargs": (
        several,
        {"accepts_input": True, "accepts_varargs": True, "positional_count": 0, "input_type": int},
    ),
    "keywords of a function": (keywords, {"accepts_context": False, "accepts_temperature": False}),
    "positional only": (
        positional_only,
        {"accepts_context": False, "positional_count": 2, "unfilled": ("context",)},
    ),
    "generator": (generate, {"is_generator": True, "is_async": False, "output_type": Any}),
    "async generator": (stream, {"is_async_generator": True, "is_async": False, "output_type": Any}),
    "returns an awaitable": (returns_awaitable, {"is_async": False, "output_type": str}),
    "settings": (with_settings, {"accepts_temperature": True, "accepts_top_k": False, "accepts_top_p": True}),
    "unfilled": (unfilled, {"unfilled": ("factor", "base")}),
    "lambda": (lambda out, context: out, {"positional_count": 2, "accepts_context": True, "input_type": Any}),
    "partial": (functools.partial(unfilled, factor=2, base=3), {"input_type": int, "unfilled": ()}),
    "partial by position": (
        functools.partial(with_context, 3),
        {"accepts_input": False, "accepts_context": True},
    ),
    "partial of async": (functools.partial(asynchronous), {"is_async": True, "output_type": str}),
    "callable object": (Sync(), {"is_async": False, "input_type": str, "output_type": int}),
    "async callable object": (Async(), {"is_async": True, "input_type": str, "output_type": int}),
    "method": (Async().method, {"positional_count": 2, "accepts_context": True, "input_type": bytes}),
    "class method": (Async.of_class, {"positional_count": 1, "input_type": bytes, "unfilled": ()}),
    "static method": (Async.static, {"positional_count": 1, "input_type": bytes}),
    "class": (Sync, {"accepts_input": False, "output_type": Sync, "is_async": False}),
    "builtin": (len, {"positional_count": 1, "accepts_input": True, "input_type": Any}),
    "builtin without a signature": (min, {"accepts_input": True, "accepts_context": False}),
    "AsyncMock": (AsyncMock(), {"is_async": True}),
    "MagicMock": (MagicMock(), {"is_async": False}),
}


@pytest.mark.parametrize(("call", "expected"), CASES.values(), ids=CASES)
def test_the_facts_of_a_callable(call: Callable[..., Any], expected: dict[str, Any]) -> None:
    facts = analyse_callable(call)
    assert {name: getattr(facts, name) for name in expected} == expected
    assert facts.call is call
    assert facts.name


def test_an_agent_is_called_by_its_run_and_a_callable_by_itself() -> None:
    agent = Sync()
    facts = analyse_agent(agent)
    assert facts is not None
    assert facts.call == agent.run
    assert facts.input_type is int
    by_itself = analyse_agent(plain)
    assert by_itself is not None and by_itself.call is plain
    of_class = analyse_agent(Sync)
    assert of_class is not None and of_class.call is Sync
    assert analyse_agent(3) is None


def test_an_agent_whose_run_takes_any_keyword_gets_everything() -> None:
    facts = analyse_agent(Async())
    assert facts is not None
    assert facts.accepts_context and facts.accepts_resources and facts.accepts_temperature


def test_an_agent_that_refuses_keywords_gets_only_what_it_names() -> None:
    facts = analyse_agent(Refusing())
    assert facts is not None
    assert not facts.accepts_context and not facts.accepts_any_keyword and not facts.accepts_temperature
    assert facts.accepts_deps and facts.accepts_model_settings
    assert facts.input_type == str | None


def test_a_pydantic_ai_agent_is_an_agent() -> None:
    models = pytest.importorskip("pydantic_ai.models.test")
    from pydantic_ai import Agent

    facts = analyse_agent(Agent(models.TestModel(), output_type=int))
    assert facts is not None
    assert facts.is_async and facts.accepts_deps and facts.accepts_model_settings
    assert not facts.accepts_context and not facts.unfilled
    assert facts.output_type is int
    assert fits(str, facts.input_type)


def test_a_decorated_function_has_the_parameters_of_what_it_wraps_but_its_own_colour() -> None:
    def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs)

        return wrapper

    facts = analyse_callable(logged(with_context))
    assert facts.accepts_context and facts.input_type is int and facts.output_type is str
    # The wrapper may await inside, as adapters from async to sync do: its own colour says how to call it.
    assert not analyse_callable(logged(asynchronous)).is_async


def test_marks_are_seen_through_partials_and_methods() -> None:
    class Slow:
        @blocking
        def work(self, data: int) -> int:
            return data

    @blocking
    def slow(data: int) -> int:
        return data

    for call in (slow, functools.partial(slow), Slow().work):
        assert analyse_callable(call).blocking
    assert not analyse_callable(MagicMock()).blocking
    assert analyse_callable(plain, inline=True).inline


def test_an_annotation_that_can_not_be_resolved_leaves_the_others_known() -> None:
    def priced(data: "Decimal") -> "int":
        return int(data)

    facts = analyse_callable(priced)
    assert facts.input_type is Any
    assert facts.output_type is int


def test_free_type_variables_say_nothing() -> None:
    class Box(Generic[T]):
        def run(self, data: T) -> list[T]:
            return [data]

    facts = analyse_agent(Box())
    assert facts is not None
    assert facts.input_type is Any and facts.output_type is Any


def test_a_coroutine_annotation_is_what_it_gives_when_awaited() -> None:
    async def really(data: int) -> bytes:
        return bytes(data)

    def later(data: int) -> Coroutine[Any, Any, bytes]:
        return really(data)

    assert analyse_callable(later).output_type is bytes


def test_a_wrapper_of_output_and_usage_says_nothing_of_the_output() -> None:
    @dataclass
    class Answer:
        output: int
        token_counts: int

    @dataclass
    class Report:
        output: int

    async def answer(data: str) -> Answer:
        return Answer(1, 2)

    async def report(data: str) -> Report:
        return Report(1)

    assert analyse_callable(answer).output_type is Any
    assert analyse_callable(report).output_type is Report


def test_an_input_named_like_a_setting_is_the_input() -> None:
    def heat(temperature: float) -> float:
        return temperature

    facts = analyse_callable(heat)
    assert facts.accepts_input and not facts.accepts_temperature


def test_facts_belong_to_the_step_that_holds_the_agent() -> None:
    step = Step("work", plain)
    first = step.facts()
    assert step.facts() is first
    step.agent = asynchronous
    second = step.facts()
    assert isinstance(second, CallableFacts) and second.is_async
    step.inline = True
    third = step.facts()
    assert third is not None and third.inline


def test_short_lived_callables_never_get_the_facts_of_another() -> None:
    for number in range(2_000):
        if number % 2:

            def work(data: int) -> int:
                return data
        else:

            async def work(data: int, context: Any) -> int:
                return data

        facts = Step("work", work).facts()
        assert facts is not None
        assert (facts.is_async, facts.accepts_context) == (not number % 2, not number % 2)


def test_the_analysis_keeps_nothing_alive() -> None:
    def work(data: int) -> int:
        return data

    analyse_callable(work)
    gone = weakref.ref(work)
    del work
    gc.collect()
    assert gone() is None


def test_loading_the_definitions_does_not_load_the_engine_or_the_results() -> None:
    import subprocess

    code = (
        "import sys\n"
        "from flujo.domain.dsl import Pipeline, Step, step\n"
        "step(name='a')(len) >> Step('b', print)\n"
        "for name in ('flujo._native', 'flujo.domain.results', 'flujo.domain.context', 'asyncio'):\n"
        "    assert name not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


# --- which types fit


@pytest.mark.parametrize(
    ("given", "taken", "fitting"),
    [
        (int, int, True),
        (int, str, False),
        (int, float, True),
        (float, int, False),
        (bool, int, True),
        (Any, str, True),
        (int, object, True),
        (object, int, True),
        (None, str, False),
        (None, str | None, True),
        (str | None, str, True),
        (int | float, str, False),
        (int, str | bytes, False),
        (list[int], list[int], True),
        (list[int], list[str], False),
        (list[int], list, True),
        (list[int], Iterator[str], False),
        (list[Any], list[str], True),
        (dict[str, int], dict[str, str], False),
        (tuple[int, str], tuple[int, str], True),
        (tuple[int, str], tuple[int], False),
        (tuple[int, ...], tuple[int, int], True),
        (dict, Sync, False),
        (Sync, Async, False),
        (Exception, ValueError, True),
        (ValueError, Exception, True),
        (T, str, True),
        ("Unknown", str, True),
        (Callable[[int], str], int, False),
        (type[int], type, True),
    ],
)
def test_only_what_surely_can_not_fit_is_refused(given: Any, taken: Any, fitting: bool) -> None:
    assert fits(given, taken) is fitting
