"""Step, `@step` and `@blocking`: fields, construction, checks, and what a step isn't."""

import asyncio
import copy
import functools
import gc
import threading
import warnings
import weakref
from typing import Any

import pytest

from flujo.domain.dsl import Pipeline, Step, StepConfig, blocking, step
from flujo.domain.processors import AgentProcessors
from flujo.domain.usage import UsageLimits
from flujo.exceptions import ImproperStepInvocationError, MissingAgentError, StepInvocationError


class Agent:
    async def run(self, data: str, **kwargs: object) -> str:
        return data.upper()


class Plugin:
    async def validate(self, data: dict[str, Any]) -> None:
        return None


def test_a_step_has_the_documented_fields_and_defaults() -> None:
    agent = Agent()
    made = Step("shout", agent)
    assert made.name == "shout"
    assert made.agent is agent
    assert made.config == StepConfig()
    assert made.processors == AgentProcessors()
    for field in (
        "plugins",
        "validators",
        "input_keys",
        "output_keys",
        "failure_handlers",
        "static_invariants",
    ):
        assert getattr(made, field) == []
    assert made.meta == {}
    for field in ("fallback_step", "usage_limits", "input", "sink_to", "adapter_id", "adapter_allow"):
        assert getattr(made, field) is None
    assert made.persist_feedback_to_context is None
    assert made.persist_validation_results_to is None
    for field in ("updates_context", "validate_fields", "is_adapter", "inline"):
        assert getattr(made, field) is False


def test_a_step_is_made_by_keyword_or_from_a_mapping() -> None:
    fields: dict[str, Any] = {
        "name": "shout",
        "agent": Agent(),
        "config": {"max_retries": 4},
        "updates_context": True,
    }
    for made in (Step(**fields), Step.model_validate(fields)):
        assert (made.name, made.config.max_retries, made.updates_context) == ("shout", 4, True)


def test_config_fields_may_be_given_beside_the_steps_own() -> None:
    made = Step("shout", Agent(), max_retries=4, timeout_s=2, sink_to="answer.text")
    assert made.config == StepConfig(max_retries=4, timeout_s=2)
    assert made.sink_to == "answer.text"


def test_keywords_win_over_a_given_config_and_a_warning_names_them() -> None:
    config = StepConfig(max_retries=4, timeout_s=2)
    with pytest.warns(UserWarning, match=r"both config= and max_retries; the keywords win") as caught:
        made = Step("shout", Agent(), config=config, max_retries=7)
    assert made.config == StepConfig(max_retries=7, timeout_s=2)
    assert config.max_retries == 4
    assert caught[0].filename == __file__

    with pytest.warns(UserWarning) as caught:

        @step(config=config, timeout_s=9)
        async def shout(text: str) -> str:
            return text

    assert caught[0].filename == __file__
    assert shout.config.timeout_s == 9


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"name": 3}, TypeError, r"Step\.name = 3: must be a text"),
        ({"name": "  "}, ValueError, r"Step\.name = '  '"),
        ({"agent": 3}, TypeError, r"Step\.agent = 3: must be an object with a run method"),
        ({"config": 3}, TypeError, r"Step\.config = 3: must be a StepConfig"),
        ({"plugins": Plugin()}, TypeError, r"Step\.plugins = .*must be a list of plugins"),
        ({"plugins": [3]}, TypeError, r"Step\.plugins\[…\] = 3"),
        ({"plugins": [(Plugin(), "high")]}, TypeError, r"whole number as the plugin's priority"),
        ({"validators": [3]}, TypeError, r"Step\.validators\[…\] = 3"),
        ({"processors": []}, TypeError, r"Step\.processors = .*AgentProcessors"),
        ({"fallback_step": Agent()}, TypeError, r"Step\.fallback_step = .*must be a Step or None"),
        ({"usage_limits": 3}, TypeError, r"Step\.usage_limits = 3"),
        ({"input": 3}, TypeError, r"Step\.input = 3"),
        ({"updates_context": "yes"}, TypeError, r"Step\.updates_context = 'yes': must be True or False"),
        ({"sink_to": "a..b"}, ValueError, r"Step\.sink_to = 'a\.\.b'"),
        ({"input_keys": "abc"}, TypeError, r"Step\.input_keys = 'abc'"),
        ({"meta": [1]}, TypeError, r"Step\.meta"),
        ({"timeout_s": -1}, ValueError, r"StepConfig\.timeout_s = -1"),
        ({"retries": 2}, TypeError, r"Step has no field 'retries'; did you mean 'max_retries'\?"),
    ],
)
def test_a_wrong_field_is_refused_with_its_name_value_and_cure(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Step(**{"name": "shout", "agent": Agent(), **options})


def test_fields_are_checked_at_assignment_and_unknown_ones_refused() -> None:
    made = Step("shout", Agent())
    with pytest.raises(TypeError, match=r"Step\.agent = 3"):
        made.agent = 3
    with pytest.raises(AttributeError, match="did you mean 'agent'"):
        made.agnt = Agent()
    made.config = {"max_retries": 3}
    assert made.config == StepConfig(max_retries=3)


def test_a_subclass_may_declare_fields_of_its_own() -> None:
    class Tagged(Step[Any, Any]):
        tag: str

    made = Tagged("tagged", Agent())
    made.tag = "blue"
    assert made.tag == "blue"


def test_plugins_are_kept_with_their_priority() -> None:
    first, second = Plugin(), Plugin()
    made = Step("shout", Agent(), plugins=[first, (second, 5)]).add_plugin(first, priority=-1)
    assert made.plugins == [(first, 0), (second, 5), (first, -1)]


def test_fallback_and_usage_limits_are_kept() -> None:
    other, limits = Step("other", Agent()), UsageLimits(total_tokens_limit=5)
    made = Step("shout", Agent(), usage_limits=limits)
    assert made.fallback(other) is made
    assert made.fallback_step is other
    assert made.usage_limits is limits


def test_processors_are_made_on_first_use_and_kept() -> None:
    made = Step("shout", Agent())
    made.processors.output_processors.append(lambda data, context: data)
    assert len(made.processors.output_processors) == 1
    given = AgentProcessors()
    assert Step("shout", Agent(), processors=given).processors is given


def test_a_step_is_not_an_agent() -> None:
    made = Step("shout", Agent())
    with pytest.raises(TypeError, match="a step isn't an agent"):
        Step("again", made)
    with pytest.raises(ImproperStepInvocationError, match=r"Flujo\(step\)\.run"):
        made("hi")
    for name in ("run", "stream"):
        with pytest.raises(StepInvocationError, match=f"has no .{name}"):
            getattr(made, name)
        assert not hasattr(Step, name)
        assert name not in dir(made)
    with pytest.raises(AttributeError):
        getattr(made, "rnu")  # noqa: B009


async def test_arun_calls_the_agent_directly() -> None:
    @step
    def count(text: str, context: dict[str, int]) -> int:
        return context["base"] + len(text)

    assert await Step("shout", Agent()).arun("hi") == "HI"
    assert await count.arun("hi", context={"base": 40}) == 42
    with pytest.raises(MissingAgentError, match="'empty' has no agent"):
        await Step("empty").arun("hi")


def test_steps_are_equal_by_identity_and_hashable() -> None:
    one, other = Step("shout", len), Step("shout", len)
    assert one == one
    assert one != other
    assert len({one, other}) == 2


def test_a_copy_shares_the_agent_and_a_deep_copy_has_its_own_definition() -> None:
    agent = Agent()
    made = Step("shout", agent, plugins=[Plugin()], meta={"tags": ["a"]})
    shallow = copy.copy(made)
    assert shallow.agent is agent
    deep = copy.deepcopy(made)
    deep.config.max_retries = 9
    deep.plugins.clear()
    deep.meta["tags"].append("b")
    assert made.config.max_retries == 1
    assert len(made.plugins) == 1
    assert made.meta["tags"] == ["a"]
    with pytest.raises(TypeError):
        deep.plugins.append(3)


def test_a_deep_copy_shares_what_can_not_be_copied() -> None:
    agent = Agent()
    agent.lock = threading.Lock()
    made = Step("shout", agent)
    assert copy.deepcopy(Pipeline([made])).steps[0].agent is agent


def test_a_deep_copy_of_a_circle_of_fallbacks_ends() -> None:
    one, other = Step("one", len), Step("other", len)
    one.fallback(other)
    other.fallback(one)
    deep = copy.deepcopy(one)
    assert deep.fallback_step is not other
    assert deep.fallback_step is not None and deep.fallback_step.fallback_step is deep
    assert "fallback_step='other'" in repr(one)


def test_a_step_can_be_dropped() -> None:
    def work(data: int) -> int:
        return data

    made = Step("work", work)
    made.facts()
    gone = weakref.ref(work)
    del work, made
    gc.collect()
    assert gone() is None


def test_repr_names_the_step_and_what_was_set() -> None:
    made = Step("shout", len, max_retries=3, sink_to="answer")
    assert repr(made) == "Step(name='shout', agent=len, config=StepConfig(max_retries=3), sink_to='answer')"


# --- @step


def test_the_decorator_takes_sync_and_async_functions() -> None:
    @step
    async def fetch(key: str) -> bytes:
        """Gets it."""
        return key.encode()

    @step(name="decode", inline=True, max_retries=0, sink_to="text")
    def decode_it(raw: bytes) -> str:
        return raw.decode()

    assert fetch.name == "fetch"
    assert fetch.__doc__ == "Gets it."
    assert (decode_it.name, decode_it.inline, decode_it.sink_to) == ("decode", True, "text")
    assert decode_it.config.max_retries == 0
    assert (fetch.input_type, fetch.output_type) == (str, bytes)


def test_the_decorator_takes_partials_callable_objects_and_builtins() -> None:
    class Scale:
        def __call__(self, number: int) -> float:
            return number / 2

    def add(number: int, more: int) -> int:
        return number + more

    assert step(Scale()).name == "Scale"
    assert step(functools.partial(add, more=3)).name == "add"
    assert step(len).name == "len"
    assert step(name="twice")(lambda number: number * 2).name == "twice"


async def test_a_decorated_method_is_a_step_of_each_instance() -> None:
    class Service:
        def __init__(self, base: int) -> None:
            self.base = base

        @step
        async def add(self, number: int) -> int:
            return self.base + number

    one, other = Service(1), Service(2)
    assert await one.add.arun(10) == 11
    assert await other.add.arun(10) == 12
    assert one.add is one.add
    assert one.add is not other.add
    assert one.add.input_type is int
    assert Service.add.name == "add"


def test_a_step_kept_by_a_class_is_not_taken_for_a_method() -> None:
    @step
    def work(data: int) -> int:
        return data

    class Holder:
        kept = work

    assert Holder().kept is work


def test_a_parameter_that_nothing_fills_is_refused() -> None:
    with pytest.raises(TypeError, match=r"step 'work': nothing fills the parameter 'factor'"):

        @step
        def work(data: int, factor: int) -> int:
            return data * factor


@pytest.mark.parametrize("wrong", [3, "name", None, staticmethod(len)])
def test_the_decorator_refuses_what_is_not_a_function(wrong: Any) -> None:
    with pytest.raises(TypeError, match="@step"):
        step(inline=True)(wrong)


def test_a_step_is_not_decorated_twice() -> None:
    with pytest.raises(TypeError, match="is a step already"):
        step(step(len))


def test_blocking_marks_functions_and_methods() -> None:
    @step(inline=True)
    @blocking
    def slow(data: int) -> int:
        return data

    facts = slow.facts()
    assert facts is not None and facts.blocking
    with pytest.raises(TypeError, match="wrap it in a function"):
        blocking(len)


def test_from_mapper_runs_inline_unless_it_is_async_or_blocking() -> None:
    @blocking
    def slow(data: int) -> int:
        return data

    async def later(data: int) -> int:
        return data

    assert Step.from_mapper(lambda data: data).inline
    assert not Step.from_mapper(slow).inline
    assert not Step.from_mapper(later).inline


def test_no_warning_without_a_conflict() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Step("shout", len, config=StepConfig(max_retries=2))
        Step("shout", len, max_retries=2)


def test_a_step_can_be_made_outside_of_and_inside_of_a_running_loop() -> None:
    async def make() -> str:
        return Step("shout", len).name

    assert asyncio.run(make()) == "shout"
