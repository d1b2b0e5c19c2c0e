"""A step's whole life on the asyncio host: what surrounds an agent, in order."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import pytest
from pydantic import BaseModel

from flujo import AppResources, Flujo, Pipeline, PipelineContext, Step, StepConfig, current_step, step
from flujo.domain.events import (
    OnStepFailurePayload,
    PostRunPayload,
    PostStepPayload,
    PreRunPayload,
    PreStepPayload,
)
from flujo.domain.plugins import PluginOutcome
from flujo.domain.validation import ValidationResult
from flujo.exceptions import (
    ConfigurationError,
    ContextInheritanceError,
    InfiniteRedirectError,
    MissingAgentError,
    NonRetryableError,
    PipelineContextInitializationError,
)
from flujo.testing.utils import FailingStreamAgent, StubAgent


class Suffix:
    """A processor that notes its turn."""

    def __init__(self, name: str, order: list[str]) -> None:
        self.name = name
        self.order = order

    async def process(self, data: Any, context: Any) -> str:
        self.order.append(self.name)
        return f"{data}{self.name}"


class Check:
    """A plugin or validator with prepared verdicts."""

    def __init__(self, name: str, order: list[str], verdicts: list[Any]) -> None:
        self.name = name
        self.order = order
        self.verdicts = verdicts

    async def validate(self, data: Any, **kwargs: Any) -> Any:
        self.order.append(self.name)
        return self.verdicts.pop(0)


async def test_processors_agent_plugins_and_validators_run_in_order() -> None:
    order: list[str] = []

    async def agent(x: str) -> str:
        order.append("agent")
        return f"<{x}>"

    low = Check("low", order, [PluginOutcome(success=True)])
    high = Check("high", order, [PluginOutcome(success=True)])
    valid = Check("valid", order, [ValidationResult(is_valid=True)])
    whole = Step("s", agent, plugins=[(low, 1), (high, 5)], validators=[valid])
    whole.processors.prompt_processors.append(Suffix("P", order))
    whole.processors.output_processors.append(Suffix("O", order))
    result = await Flujo(whole).run_async("x")
    assert result.output == "<xP>O"
    assert order == ["P", "agent", "O", "high", "low", "valid"]


async def test_a_rejecting_validator_and_plugin_are_retried_and_feedback_says_so() -> None:
    order: list[str] = []
    valid = Check("strict", order, [ValidationResult(is_valid=False, feedback="too short"), (True, None)])
    result = await Flujo(Step("s", StubAgent(["a", "ab"]), validators=[valid])).run_async("x")
    assert (result.output, result.step_history[0].attempts) == ("ab", 2)
    assert "too short" in result.step_history[0].metadata["attempt_failures"][0]

    plugin = Check(
        "plugin", order, [PluginOutcome(success=False, feedback="no"), PluginOutcome(success=True)]
    )
    result = await Flujo(Step("s", StubAgent(["a", "b"]), plugins=[(plugin, 0)])).run_async("x")
    assert (result.output, result.step_history[0].attempts) == ("b", 2)


async def test_when_validators_reject_for_good_the_output_is_kept_with_every_reason() -> None:
    one = Check("one", [], [(False, "first reason"), (False, "first reason")])
    two = Check("two", [], [(False, "second reason"), (False, "second reason")])
    result = await Flujo(Step("s", StubAgent(["a", "b"]), validators=[one, two])).run_async("x")
    record = result.step_history[0]
    assert not result.success and record.output == "b"
    assert "first reason" in (record.feedback or "") and "second reason" in (record.feedback or "")
    assert "attempt 2" in (record.feedback or "")


async def test_a_plugin_may_replace_the_output_or_ask_for_another_agent() -> None:
    plugin = Check("plugin", [], [PluginOutcome(success=True, new_solution="NEW")])
    assert (await Flujo(Step("s", StubAgent(["old"]), plugins=[(plugin, 0)])).run_async("x")).output == "NEW"

    other = StubAgent(["from the other"])
    verdicts = [PluginOutcome(success=False, redirect_to=other), PluginOutcome(success=True)]
    redirecting = Step("s", StubAgent(["first"]), plugins=[(Check("plugin", [], verdicts), 0)])
    assert (await Flujo(redirecting).run_async("x")).output == "from the other"


async def test_agents_that_redirect_to_one_another_for_ever_end_the_run_with_a_clear_error() -> None:
    other = StubAgent(["a", "b", "c"])
    verdicts = [PluginOutcome(success=False, redirect_to=other)] * 3
    fallback = StubAgent(["never"])
    looping = Step(
        "s", StubAgent(["x"]), plugins=[(Check("p", [], verdicts), 0)], fallback_step=Step("f", fallback)
    )
    with pytest.raises(InfiniteRedirectError, match="already run"):
        await Flujo(looping).run_async("x")
    assert fallback.inputs == []


async def test_two_agents_of_one_class_are_no_cycle() -> None:
    first, second = StubAgent(["one"]), StubAgent(["two"])
    verdicts = [
        PluginOutcome(success=False, redirect_to=first),
        PluginOutcome(success=False, redirect_to=second),
        PluginOutcome(success=True),
    ]
    result = await Flujo(Step("s", StubAgent(["x"]), plugins=[(Check("p", [], verdicts), 0)])).run_async("x")
    assert result.output == "two"


async def test_a_failing_prompt_processor_is_not_retried() -> None:
    class Broken:
        calls = 0

        async def process(self, data: Any, context: Any) -> Any:
            Broken.calls += 1
            raise ValueError("no prompt")

    agent = StubAgent(["never"])
    broken = Step("s", agent, max_retries=3)
    broken.processors.prompt_processors.append(Broken())
    result = await Flujo(broken).run_async("x")
    assert (Broken.calls, agent.inputs, result.success) == (1, [], False)


async def test_errors_that_are_not_worth_it_are_not_retried() -> None:
    calls = 0

    async def refuses(x: int) -> int:
        nonlocal calls
        calls += 1
        raise NonRetryableError("bad key") if calls == 1 else KeyError("other")

    assert (await Flujo(Step("s", refuses, max_retries=3)).run_async(1)).step_history[0].attempts == 1
    only_values = StepConfig(max_retries=3, retry_on=(ValueError,))
    assert (await Flujo(Step("s", refuses, config=only_values)).run_async(1)).step_history[0].attempts == 1


async def test_none_passes_between_steps() -> None:
    async def nothing(x: Any) -> None:
        return None

    async def receives(x: Any) -> str:
        return f"got {x}"

    assert (
        await Flujo(Step("nothing", nothing) >> Step("receives", receives)).run_async(1)
    ).output == "got None"


class Context(PipelineContext):
    count: int = 0
    summary: str = ""
    notes: list[str] = []
    deep: dict[str, Any] = {}


async def test_outputs_go_into_the_context_as_asked_and_with_checks() -> None:
    async def gives(x: Any) -> dict[str, Any]:
        return {"count": 3, "summary": "done"}

    async def text(x: Any) -> str:
        return "hello"

    pipeline = Step("gives", gives, updates_context=True) >> Step("text", text, sink_to="deep.greeting")
    result = await Flujo(pipeline, context_model=Context).run_async(1)
    final = result.final_pipeline_context
    assert (final.count, final.summary, final.deep) == (3, "done", {"greeting": "hello"})

    async def wrong(x: Any) -> dict[str, Any]:
        return {"count": "not a number"}

    wronged = Step("wrong", wrong, updates_context=True)
    failed = await Flujo(wronged, context_model=Context).run_async(1)
    assert not failed.success and "count" in (failed.step_history[0].feedback or "")
    assert failed.step_history[0].attempts == 1
    assert failed.final_pipeline_context.count == 0


async def test_updates_context_works_inside_branches_and_maps() -> None:
    async def first(x: Any) -> dict[str, Any]:
        return {"count": 1}

    async def second(x: Any) -> dict[str, Any]:
        return {"summary": "two"}

    fan = Step.parallel(
        "fan",
        {"a": Step("a", first, updates_context=True), "b": Step("b", second, updates_context=True)},
    )
    final = (await Flujo(fan, context_model=Context).run_async(1)).final_pipeline_context
    assert (final.count, final.summary) == (1, "two")


async def test_feedback_of_a_failed_step_is_persisted() -> None:
    async def fails(x: Any) -> Any:
        raise ValueError("why not")

    failing = Step("s", fails, persist_feedback_to_context="notes")
    final = (await Flujo(failing, context_model=Context).run_async(1)).final_pipeline_context
    assert len(final.notes) == 1 and "why not" in final.notes[0]


async def test_verdicts_of_validators_are_persisted_whether_they_accept_or_reject() -> None:
    class Verdicts(PipelineContext):
        verdicts: list[ValidationResult] = []

    accepts = Check("accepts", [], [(True, None)])
    kept = Step("s", StubAgent(["x"]), validators=[accepts], persist_validation_results_to="verdicts")
    final = (await Flujo(kept, context_model=Verdicts).run_async(1)).final_pipeline_context
    assert [verdict.is_valid for verdict in final.verdicts] == [True]

    rejects = Check("rejects", [], [(False, "wrong"), (False, "wrong")])
    kept = Step("s", StubAgent(["x", "y"]), validators=[rejects], persist_validation_results_to="verdicts")
    final = (await Flujo(kept, context_model=Verdicts).run_async(1)).final_pipeline_context
    assert [verdict.is_valid for verdict in final.verdicts] == [False]
    assert "wrong" in (final.verdicts[0].feedback or "")


async def test_a_saved_step_keeps_its_primary_s_error_where_it_is_asked_to() -> None:
    async def fails(x: int) -> int:
        raise ValueError("primary broke")

    def saved(*, keeps: bool) -> Flujo[Any, Any]:
        config = StepConfig(max_retries=0, preserve_fallback_diagnostics=keeps)
        return Flujo(Step("s", fails, config=config, fallback_step=Step("f", StubAgent(["ok"]))))

    assert (await saved(keeps=False).run_async(1)).step_history[0].feedback is None
    assert "primary broke" in ((await saved(keeps=True).run_async(1)).step_history[0].feedback or "")


async def test_a_pipeline_s_on_finish_gets_the_result_of_each_run() -> None:
    results: list[Any] = []
    pipeline = Pipeline([Step("s", StubAgent(["x"]))], on_finish=[results.append])
    result = await Flujo(pipeline).run_async(1)
    assert [finished.output for finished in results] == [result.output]


async def test_what_is_not_there_yet_is_refused_not_ignored() -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)background.*await runner\.start"):
        await Flujo(Step("s", StubAgent(["x"]), execution_mode="background")).run_async(1)


async def test_resources_reach_the_steps_that_name_them() -> None:
    class Resources(AppResources):
        url: str

    async def uses(x: int, *, resources: Resources) -> str:
        return f"{resources.url}/{x}"

    assert (await Flujo(Step("s", uses), resources=Resources(url="u")).run_async(1)).output == "u/1"


async def test_hooks_are_told_in_order_and_their_errors_are_contained(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []

    async def everything(payload: Any) -> None:
        told.append(payload.event_name)

    async def failures(payload: OnStepFailurePayload) -> None:
        told.append(f"failed {payload.step_result.name}")

    async def breaks(payload: PreStepPayload) -> None:
        raise RuntimeError("hook broke")

    def plain(payload: PostStepPayload) -> None:
        told.append(f"plain {payload.step_result.output}")

    async def ends(payload: PostRunPayload) -> None:
        told.append(f"run {payload.pipeline_result.status}")

    async def begins(payload: PreRunPayload) -> None:
        told.append(f"run of {payload.pipeline_name}")

    async def fails(x: Any) -> Any:
        raise ValueError

    pipeline = Pipeline([Step("a", StubAgent(["A"])), Step("b", fails, max_retries=0)], name="p")
    result = await Flujo(pipeline, hooks=[everything, failures, breaks, plain, ends, begins]).run_async(1)
    assert not result.success
    assert told == [
        "pre_run",
        "run of p",
        "pre_step",
        "post_step",
        "plain A",
        "pre_step",
        "on_step_failure",
        "failed b",
        "post_run",
        "run failed",
    ]
    assert "hook broke" in caplog.text


async def test_results_behave_as_pydantic_models() -> None:
    result = await Flujo(Step("s", StubAgent([{"a": 1}]))).run_async(1)
    record = result.step_history[0]
    assert isinstance(result, BaseModel) and isinstance(record, BaseModel)
    assert record.model_dump()["output"] == {"a": 1}
    assert copy.deepcopy(record) == record
    assert pickle.loads(pickle.dumps(record)) == record
    assert result.unwrap() == {"a": 1} and result.raise_for_failure() is result


async def test_a_step_without_agent_is_an_error_that_names_it() -> None:
    with pytest.raises(MissingAgentError, match="'empty'"):
        await Flujo(Step("empty")).run_async(1)


async def test_fallbacks_that_lead_back_are_an_error_that_names_the_way() -> None:
    first, second = Step("first", StubAgent(["x"])), Step("second", StubAgent(["x"]))
    first.fallback(second)
    second.fallback(first)
    with pytest.raises(ConfigurationError, match="'first' -> 'second' -> 'first'"):
        await Flujo(first).run_async(1)


async def test_a_context_that_cannot_be_made_is_an_error_before_the_first_step() -> None:
    class Needs(PipelineContext):
        customer: str

    agent = StubAgent(["never"])
    with pytest.raises(PipelineContextInitializationError, match="customer"):
        await Flujo(Step("s", agent), context_model=Needs).run_async(1)
    assert agent.inputs == []


async def test_a_runner_as_a_step_shares_what_both_contexts_have() -> None:
    async def inner(x: int, *, context: Context) -> int:
        assert context.count == 5
        context.count += 1
        return x + 1

    async def before(x: int, *, context: Context) -> int:
        context.count = 5
        return x

    nested = Flujo(Step("inner", inner), context_model=Context)
    outer = Flujo(Step("before", before) >> nested.as_step("nested"), context_model=Context)
    result = await outer.run_async(1)
    assert result.output.output == 2
    assert result.final_pipeline_context.count == 6
    assert [record.name for record in result.step_history[1].step_history] == ["inner"]

    class Other(PipelineContext):
        needed: str

    lacking = Flujo(Flujo(Step("s", StubAgent(["x"])), context_model=Other).as_step("nested"))
    failed = await lacking.run_async(1)
    assert isinstance(failed.step_history[0].error, ContextInheritanceError)
    assert "needed" in (failed.step_history[0].feedback or "")


async def test_a_pipeline_as_a_step_is_one_entry_with_its_steps_inside() -> None:
    inner = Step("a", StubAgent(["x"])) >> Step("b", StubAgent(["y"]))
    result = await Flujo(inner.as_step("both") >> Step("c", StubAgent(["z"]))).run_async(1)
    assert [record.name for record in result.step_history] == ["both", "c"]
    assert [record.name for record in result.step_history[0].step_history] == ["a", "b"]


async def test_a_condition_without_a_branch_names_the_key_and_the_known_ones() -> None:
    chooses = Step.branch_on(
        "c", lambda x, ctx: "z", {"a": Step("a", StubAgent([1])), "b": Step("b", StubAgent([2]))}
    )
    feedback = (await Flujo(chooses).run_async(1)).step_history[0].feedback or ""
    assert all(part in feedback for part in ("'z'", "'a'", "'b'"))


async def test_keys_of_branches_may_be_anything_hashable() -> None:
    chooses = Step.branch_on(
        "c",
        lambda x: x > 3,
        {True: Step("big", StubAgent(["big"])), False: Step("small", StubAgent(["small"]))},
    )
    assert (await Flujo(chooses).run_async(5)).output == "big"


async def test_mapping_over_something_that_is_no_collection_is_a_clear_failure() -> None:
    mapped = Flujo(Step.map_over("m", Step("s", StubAgent([1]))))
    for wrong in ("text", 5):
        feedback = (await mapped.run_async(wrong)).step_history[0].feedback or ""
        assert "step 'm'" in feedback and type(wrong).__name__ in feedback


async def test_code_in_a_step_knows_where_it_is() -> None:
    seen: list[tuple[Any, ...]] = []

    @step(max_retries=1)
    async def where(x: int) -> int:
        async def inner() -> None:
            place = current_step()
            seen.append((place.step, place.lane, place.attempt, place.run_id))

        await asyncio.ensure_future(inner())
        if current_step().attempt == 1:
            raise ValueError
        return x

    await Flujo(Step.parallel("fan", {"a": where})).run_async(1, run_id="r1")
    assert seen == [("where", "fan[a]", 1, "r1"), ("where", "fan[a]", 2, "r1")]
    with pytest.raises(RuntimeError, match="outside of a step"):
        current_step()


class Streams:
    """An agent that streams."""

    def __init__(self) -> None:
        self.closed = False

    async def stream(self, data: Any) -> Any:
        try:
            for part in ("a", "b", "c"):
                yield part
        finally:
            self.closed = True


async def test_the_last_step_s_chunks_are_streamed_then_the_result() -> None:
    runner = Flujo(Step("before", StubAgent(["x"])) >> Step("streams", Streams()))
    items = [item async for item in runner.stream_async(1)]
    assert items[:3] == ["a", "b", "c"]
    assert items[3].output == "abc"
    assert (await runner_of_streams().run_async(1)).output == "abc"
    not_streaming = [item async for item in Flujo(Step("plain", StubAgent(["x"]))).stream_async(1)]
    assert [item.output for item in not_streaming] == ["x"]


def runner_of_streams() -> Flujo[Any, Any]:
    return Flujo(Step("streams", Streams()))


async def test_leaving_a_stream_early_cancels_the_run() -> None:
    agent = Streams()
    stream = Flujo(Step("streams", agent)).stream_async(1)
    async for _ in stream:
        break
    await stream.aclose()
    assert agent.closed
    assert len(asyncio.all_tasks()) == 1


async def test_a_stream_that_breaks_off_is_a_failed_step() -> None:
    runner = Flujo(Step("breaks", FailingStreamAgent(["a"], ValueError("cut")), max_retries=0))
    items = [item async for item in runner.stream_async(1)]
    assert items[0] == "a" and items[-1].status == "failed"


async def test_ten_thousand_steps_and_ten_thousand_deep_nesting_neither_abort() -> None:
    async def inc(x: int) -> int:
        return x + 1

    long = Pipeline([Step(f"s{n}", inc) for n in range(10_000)])
    assert (await Flujo(long).run_async(0)).output == 10_000
    deep: Any = Pipeline([Step("leaf", inc)])
    for n in range(10_000):
        deep = Pipeline([deep.as_step(f"d{n}")])
    assert (await Flujo(deep).run_async(0)).output == 1
