"""Questions to humans: a run stands still at that very point, and goes on from there."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import pytest
import virtual_time
from pydantic import BaseModel, ValidationError

from flujo import Flujo, Pipeline, PipelineContext, Step, UsageLimits, step
from flujo.domain.dsl import HumanInTheLoopStep
from flujo.domain.events import (
    OnPauseRequestedPayload,
    OnStepFailurePayload,
    PostRunPayload,
    PostStepPayload,
)
from flujo.exceptions import (
    AlreadyAnsweredError,
    AmbiguousAnswerError,
    ConfigurationError,
    PauseNotFoundError,
    PipelineAbortSignal,
    ResumeError,
)
from flujo.testing.agents import StubAgent


class Approval(BaseModel):
    approved: bool
    note: str = ""


class Slots(PipelineContext):
    seen: list[str] = []
    approval: Any = None
    topic: str = "tea"


class Priced:
    """An output that tells what it cost."""

    def __init__(self, output: Any, cost_usd: float, token_counts: int = 0) -> None:
        self.output = output
        self.cost_usd = cost_usd
        self.token_counts = token_counts


def counting(calls: list[Any], *, cost: float = 0.0) -> Any:
    async def run(data: Any) -> Any:
        calls.append(data)
        return Priced(f"{data}!", cost)

    return run


def ask(
    name: str = "ask", message: str | None = None, schema: Any = None, **options: Any
) -> HumanInTheLoopStep:
    return Step.human_in_the_loop(name, message, schema, **options)


# --- one question


async def test_a_run_stops_at_the_question_and_goes_on_with_the_answer() -> None:
    before: list[Any] = []
    after: list[Any] = []
    runner = Flujo(
        Step("before", counting(before)) >> ask(message="Go on?") >> Step("after", counting(after))
    )
    began = datetime.now(UTC)
    paused = await runner.run_async("x")
    assert (paused.status, paused.success) == ("paused", False)
    assert [result.name for result in paused.step_history] == ["before"]
    assert paused.output == "x!"
    context = paused.final_pipeline_context
    assert (context.status, context.pause_message) == ("paused", "Go on?")
    [pause] = paused.pauses
    assert (pause.step, pause.path, pause.message, pause.input_schema) == ("ask", "ask", "Go on?", None)
    assert pause.created_at is not None
    assert began <= pause.created_at <= datetime.now(UTC)
    assert pause.expires_at is None
    done = await runner.resume_async(paused, "yes")
    assert (done.status, done.success, done.output) == ("completed", True, "yes!")
    assert [result.name for result in done.step_history] == ["before", "ask", "after"]
    assert done.step_history[1].output == "yes"
    assert (before, after) == (["x"], ["yes"])
    [said] = done.final_pipeline_context.hitl_history
    assert (said.message_to_human, said.human_response) == ("Go on?", "yes")
    assert done.final_pipeline_context.status != "paused"
    assert paused.status == "paused", "the earlier result stays what it was"


def test_the_question_is_the_step_s_input_where_no_message_is_given() -> None:
    paused = Flujo(Step("before", StubAgent(["Publish?"])) >> ask()).run(1)
    assert paused.pauses[0].message == "Publish?"


def test_the_message_is_a_template() -> None:
    text = "Publish {{ previous_step }} about {{ context.topic }}?"
    paused = Flujo(Step("draft", StubAgent(["it"])) >> ask(message=text), context_model=Slots).run(1)
    assert paused.pauses[0].message == "Publish it about tea?"


async def test_an_answer_is_validated_and_a_bad_one_leaves_the_run_paused() -> None:
    runner = Flujo(ask(schema=Approval) >> Step("after", StubAgent(["done"])))
    paused = await runner.run_async("?")
    assert paused.pauses[0].input_schema == Approval.model_json_schema()
    for _ in range(2):
        with pytest.raises(ValidationError):
            await runner.resume_async(paused, {"approved": "perhaps"})
    done = await runner.resume_async(paused, {"approved": True})
    assert done.output == "done"
    assert done.step_history[0].output == Approval(approved=True)


async def test_an_answer_can_be_held_to_a_json_schema() -> None:
    schema = {
        "type": "object",
        "properties": {"lines": {"type": "array", "items": {"type": "integer", "minimum": 1}}},
        "required": ["lines"],
    }
    runner = Flujo(ask(schema=schema))
    paused = await runner.run_async("?")
    assert paused.pauses[0].input_schema == schema
    with pytest.raises(ValidationError) as wrong:
        await runner.resume_async(paused, {"lines": [1, 0]})
    assert wrong.value.errors()[0]["loc"] == ("lines", 1)
    assert (await runner.resume_async(paused, {"lines": [1]})).output == {"lines": [1]}
    with pytest.raises(ValueError, match="input_schema"):
        ask(schema={"type": "no such type"})


async def test_none_and_false_are_answers() -> None:
    runner = Flujo(ask())
    assert (await runner.resume_async(await runner.run_async("?"), None)).output is None
    assert (await runner.resume_async(await runner.run_async("?"), False)).output is False


async def test_the_answer_goes_where_sink_to_says() -> None:
    runner = Flujo(ask(sink_to="approval") >> Step("after", StubAgent(["done"])), context_model=Slots)
    done = await runner.resume_async(await runner.run_async("?"), "yes")
    assert done.final_pipeline_context.approval == "yes"


class Strict(BaseModel):
    count: int = 0


async def test_an_answer_that_the_context_refuses_leaves_the_run_paused() -> None:
    runner = Flujo(ask(sink_to="count"), context_model=Strict)
    paused = await runner.run_async("?")
    with pytest.raises(ValidationError):
        await runner.resume_async(paused, "many")
    done = await runner.resume_async(paused, 3)
    assert done.final_pipeline_context.count == 3


# --- refusals


async def test_a_second_answer_is_refused() -> None:
    runner = Flujo(ask())
    paused = await runner.run_async("?")
    done = await runner.resume_async(paused, "yes")
    with pytest.raises(AlreadyAnsweredError):
        await runner.resume_async(paused, "no")
    with pytest.raises(AlreadyAnsweredError):
        await runner.resume_async(paused, answers={paused.pauses[0].id: "no"})
    with pytest.raises(ResumeError, match="completed"):
        await runner.resume_async(done, "again")


async def test_an_answer_to_no_pause_of_the_run_is_refused() -> None:
    runner = Flujo(ask())
    paused = await runner.run_async("?")
    with pytest.raises(PauseNotFoundError, match="ask"):
        await runner.resume_async(paused, answers={"other": 1})
    with pytest.raises(ResumeError, match="waits for an answer"):
        await runner.resume_async(paused)
    with pytest.raises(TypeError, match="not both"):
        await runner.resume_async(paused, 1, answers={})
    with pytest.raises(ResumeError, match="no paused run"):
        await runner.resume_async("nobody", 1)
    with pytest.raises(ResumeError, match="another pipeline"):
        await Flujo(Step("other", StubAgent([1]))).resume_async(paused, 1)


async def test_another_runner_of_the_same_pipeline_may_resume() -> None:
    pipeline = ask() >> Step("after", counting([]))
    paused = await Flujo(pipeline).run_async("?")
    assert (await Flujo(pipeline).resume_async(paused, "yes")).output == "yes!"


async def test_the_result_can_be_printed_and_copied_before_it_is_resumed() -> None:
    runner = Flujo(ask())
    paused = await runner.run_async("?")
    assert "paused" in repr(paused)
    assert paused.model_dump()["status"] == "paused"
    assert (await runner.resume_async(paused.model_copy(), 1)).output == 1


async def test_what_a_reader_does_to_a_paused_result_does_not_reach_the_run() -> None:
    runner = Flujo(ask() >> Step("after", counting([])), context_model=Slots)
    paused = await runner.run_async("?")
    paused.final_pipeline_context.seen.append("mine")
    done = await runner.resume_async(paused, 1)
    assert done.final_pipeline_context.seen == []


def test_what_a_question_cannot_have_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="fallback_step"):
        Flujo(ask(fallback_step=Step("x", StubAgent([1])))).run(1)
    with pytest.raises(TypeError, match="timeout_s"):
        ask(timeout_s="soon")
    with pytest.raises(TypeError, match="input_schema"):
        ask(schema="text")


# --- several questions


def fan() -> Pipeline[Any, Any]:
    return Pipeline(
        [
            Step.parallel(
                "fan",
                {
                    "quick": Step("quick", counting([], cost=0.25)),
                    "one": Step("paid", counting([], cost=0.5)) >> ask("one"),
                    "two": ask("two") >> Step("then", counting([])),
                },
            )
        ]
    )


async def test_questions_in_branches_wait_at_once_and_finished_siblings_are_kept() -> None:
    runner = Flujo(fan())
    paused = await runner.run_async("x")
    assert [(pause.step, pause.path) for pause in paused.pauses] == [
        ("one", "fan/one/one"),
        ("two", "fan/two/two"),
    ]
    assert paused.total_cost_usd == pytest.approx(0.75)
    [fan_so_far] = paused.step_history
    assert (fan_so_far.name, fan_so_far.success, fan_so_far.feedback) == ("fan", False, "paused")
    assert fan_so_far.cost_usd == pytest.approx(0.75)
    assert [lane.name for lane in fan_so_far.step_history] == ["quick", "one", "two"]
    with pytest.raises(AmbiguousAnswerError, match="2 answers"):
        await runner.resume_async(paused, "which?")
    one, two = (pause.id for pause in paused.pauses)
    still = await runner.resume_async(paused, answers={two: "b"})
    assert (still.status, still.success) == ("paused", False)
    assert [pause.id for pause in still.pauses] == [one]
    assert still.pauses[0] == paused.pauses[0]
    with pytest.raises(AlreadyAnsweredError):
        await runner.resume_async(still, answers={two: "c", one: "a"})
    done = await runner.resume_async(still, "a")
    assert done.output == {"quick": "x!", "one": "a", "two": "b!"}
    assert done.total_cost_usd == pytest.approx(0.75)
    said = [entry.human_response for entry in done.final_pipeline_context.hitl_history]
    assert said == ["a", "b"]


async def test_all_answers_are_checked_before_any_is_taken() -> None:
    both = Step.parallel("fan", {"a": ask("a", schema=int), "b": ask("b", schema=int)})
    runner = Flujo(both)
    paused = await runner.run_async("?")
    a, b = (pause.id for pause in paused.pauses)
    with pytest.raises(ValidationError):
        await runner.resume_async(paused, answers={a: 1, b: "no number"})
    done = await runner.resume_async(paused, answers={a: 1, b: 2})
    assert done.output == {"a": 1, "b": 2}


async def test_items_of_a_map_are_asked_at_once_and_may_be_answered_in_any_order() -> None:
    each = Step.map_over("each", ask("ask", "ok {{ previous_step }}?"), max_concurrency=3)
    runner = Flujo(Pipeline([each]))
    paused = await runner.run_async(["a", "b", "c"])
    assert [pause.message for pause in paused.pauses] == ["ok a?", "ok b?", "ok c?"]
    ids = [pause.id for pause in paused.pauses]
    assert len(set(ids)) == 3
    for place in (2, 0):
        paused = await runner.resume_async(paused, answers={ids[place]: place})
        assert paused.status == "paused"
    assert (await runner.resume_async(paused, 1)).output == [0, 1, 2]


async def test_ids_of_pauses_are_the_same_in_every_run() -> None:
    runner = Flujo(fan())
    first, second = [await runner.run_async("x") for _ in range(2)]
    assert [pause.id for pause in first.pauses] == [pause.id for pause in second.pauses]


async def test_a_question_in_a_nested_runner_pauses_the_outer_run() -> None:
    inner = Flujo(Step("inside", counting([])) >> ask("inner"))
    outer = Flujo(Step("first", counting([])) >> inner.as_step("nested") >> Step("last", lambda r: r.output))
    paused = await outer.run_async("x")
    assert [pause.path for pause in paused.pauses] == ["nested/inner"]
    done = await outer.resume_async(paused, "yes")
    assert done.output == "yes"


async def test_questions_many_levels_deep_are_asked_and_answered() -> None:
    body: Any = ask("deep")
    for level in range(60):
        body = Step.parallel(f"level {level}", {"only": body})
    runner = Flujo(body)
    paused = await runner.run_async("?")
    assert len(paused.pauses) == 1
    done = await runner.resume_async(paused, 7)
    output = done.output
    while isinstance(output, dict):
        output = output["only"]
    assert output == 7


async def test_a_branch_that_fails_takes_back_its_sibling_s_question() -> None:
    failed = asyncio.Event()

    async def fails(data: Any) -> Any:
        await failed.wait()
        raise ValueError("no")

    both = Step.parallel("fan", {"ask": ask(), "fails": Step("fails", fails, max_retries=0)})
    task = asyncio.create_task(_await(Flujo(both).run_async("?")))
    for _ in range(5):
        await asyncio.sleep(0)
    failed.set()
    result = await task
    assert result.status == "failed"
    assert result.pauses == []


async def _await(run: Any) -> Any:
    return await run


# --- time


async def test_a_question_that_nobody_answers_in_time_takes_its_default() -> None:
    runner = Flujo(ask(timeout_s=1e-9, default="default") >> Step("after", counting([])))
    paused = await runner.run_async("?")
    assert paused.pauses[0].expires_at is not None
    with pytest.raises(ResumeError, match="time"):
        await runner.resume_async(paused, "late")
    done = await runner.resume_async(paused)
    assert done.output == "default!"
    assert done.final_pipeline_context.hitl_history[0].human_response == "default"


async def test_a_question_without_a_default_fails_when_its_time_is_up() -> None:
    runner = Flujo(ask(timeout_s=1e-9))
    done = await runner.resume_async(await runner.run_async("?"))
    assert done.status == "failed"
    assert "within" in str(done.step_history[0].feedback)


@pytest.mark.parametrize(("deadline_s", "status"), [(9.0, "completed"), (7.0, "failed")])
def test_a_deadline_stands_still_while_the_run_does(deadline_s: float, status: str) -> None:
    async def slow(x: Any) -> Any:
        await asyncio.sleep(4)
        return x

    async def main() -> None:
        runner = Flujo(Step("before", slow) >> ask() >> Step("after", slow), deadline_s=deadline_s)
        paused = await runner.run_async("?")
        await asyncio.sleep(3600)
        assert (await runner.resume_async(paused, "yes")).status == status

    virtual_time.run(main())


# --- where and by whom a run is resumed


def test_a_run_is_resumed_in_another_loop_and_another_thread() -> None:
    runner = Flujo(ask("one") >> Step.parallel("fan", {"a": ask("a"), "b": Step("b", counting([]))}))
    first = asyncio.run(_await(runner.run_async("?")))
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(runner.resume(first, "x")))
    thread.start()
    thread.join()
    [second] = results
    assert second.status == "paused"
    assert asyncio.run(_await(runner.resume_async(second, "y"))).output == {"a": "y", "b": "x!"}


asker: ContextVar[str] = ContextVar("asker", default="nobody")


async def test_p21_a_resumed_step_sees_the_variables_of_who_resumed_it() -> None:
    seen = []

    @step
    async def look(data: Any) -> Any:
        seen.append(asker.get())
        return data

    runner = Flujo(ask() >> look >> Step.parallel("fan", {"a": look.model_copy(update={"name": "in a"})}))
    asker.set("caller")
    paused = await runner.run_async("?")
    asker.set("resumer")
    await runner.resume_async(paused, 1)
    assert seen == ["resumer", "resumer"]


async def test_a_run_with_an_id_is_kept_until_it_is_over_and_others_as_long_as_somebody_holds_them() -> None:
    runner = Flujo(ask())
    await runner.run_async("?", run_id="mine")
    assert (await runner.resume_async("mine", 1)).output == 1
    with pytest.raises(ResumeError):
        await runner.resume_async("mine", 1)
    held = await runner.run_async("?")
    run_id = held.final_pipeline_context.run_id
    assert (await runner.resume_async(run_id, 2)).output == 2
    dropped = (await runner.run_async("?")).final_pipeline_context.run_id
    with pytest.raises(ResumeError, match="no paused run"):
        await runner.resume_async(dropped, 3)
    await runner.run_async("?", run_id="closed")
    await runner.aclose()
    with pytest.raises(ResumeError):
        await runner.resume_async("closed", 1)


async def test_a_paused_run_is_cancelled() -> None:
    cleaned = []
    runner = Flujo(Pipeline([Step("before", counting(cleaned, cost=0.5))]) >> fan())
    paused = await runner.run_async("x")
    gone = await runner.cancel(paused)
    assert (gone.status, gone.success, gone.pauses) == ("cancelled", False, [])
    assert gone.total_cost_usd == pytest.approx(1.25)
    assert gone.step_history[0].name == "before"
    with pytest.raises(ResumeError):
        await runner.resume_async(paused, answers={paused.pauses[0].id: 1})
    with pytest.raises(ResumeError):
        await runner.cancel(paused)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancelling_the_task_that_resumes_ends_the_run_as_cancelled() -> None:
    reached = asyncio.Event()

    async def waits(data: Any) -> Any:
        reached.set()
        await asyncio.Event().wait()

    runner = Flujo(ask() >> Step("waits", waits))
    paused = await runner.run_async("?")
    task = asyncio.create_task(_await(runner.resume_async(paused, 1)))
    await reached.wait()
    with pytest.raises(ResumeError, match="going on"):
        await runner.resume_async(paused, answers={"x": 1})
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await task
    assert cancelled.value.flujo_result.status == "cancelled"


async def test_one_of_two_answers_given_at_once_is_taken() -> None:
    runner = Flujo(ask() >> Step("after", counting([])))
    paused = await runner.run_async("?")
    results = await asyncio.gather(
        *(runner.resume_async(paused, answer) for answer in ("a", "b")), return_exceptions=True
    )
    taken = [result for result in results if not isinstance(result, BaseException)]
    assert [result.output for result in taken] == ["a!"]
    assert isinstance(results[1], ResumeError)


# --- control flow


async def test_p02_a_pause_is_no_failure_that_retries_fallbacks_plugins_or_hooks_could_take() -> None:
    told: list[str] = []
    calls: list[Any] = []

    async def hook(payload: Any) -> None:
        told.append(payload.event_name)
        if isinstance(payload, OnPauseRequestedPayload):
            assert payload.pause.message == "Go on?"
            raise ValueError("a hook's error is no failure")

    inner = Flujo(Step("work", counting(calls), max_retries=3) >> ask(message="Go on?"))
    runner = Flujo(inner.as_step("nested"), hooks=[hook])
    paused = await runner.run_async("x")
    assert paused.status == "paused"
    assert calls == ["x"]
    assert told.count("on_pause_requested") == 1
    assert "on_step_failure" not in told
    assert "post_run" not in told
    assert (await runner.resume_async(paused, 1)).status == "completed"
    assert told[-1] == "post_run"
    assert told.count("on_pause_requested") == 1


async def test_a_hook_hears_of_a_pause_with_the_very_pause_of_the_result() -> None:
    told: list[Any] = []

    async def on_pause(payload: OnPauseRequestedPayload) -> None:
        told.append(payload.pause)

    async def others(payload: PostStepPayload | OnStepFailurePayload | PostRunPayload) -> None:
        told.append(payload.event_name)

    paused = await Flujo(ask(), hooks=[on_pause, others]).run_async("?")
    assert told == paused.pauses


async def test_a_hook_may_abort_at_a_pause() -> None:
    async def on_pause(payload: OnPauseRequestedPayload) -> None:
        raise PipelineAbortSignal("not now")

    result = await Flujo(ask(), hooks=[on_pause]).run_async("?")
    assert result.status == "cancelled"


async def test_a_limit_counts_across_a_pause() -> None:
    runner = Flujo(
        Step("one", counting([], cost=0.6)) >> ask() >> Step("two", counting([], cost=0.6)),
        usage_limits=UsageLimits(total_cost_usd_limit=1.0),
    )
    paused = await runner.run_async("x")
    from flujo.exceptions import UsageLimitExceededError

    with pytest.raises(UsageLimitExceededError) as passed:
        await runner.resume_async(paused, 1)
    assert passed.value.result is not None
    assert passed.value.result.total_cost_usd == pytest.approx(1.2)


async def test_p05_paused_runs_of_one_runner_share_nothing() -> None:
    @step
    async def note(data: Any, *, context: Slots) -> Any:
        context.seen.append(str(data))
        return data

    runner = Flujo(note >> ask(sink_to="approval"), context_model=Slots)
    paused = await asyncio.gather(*(_await(runner.run_async(n)) for n in range(200)))
    done = await asyncio.gather(*(runner.resume_async(result, n) for n, result in enumerate(paused)))
    for n, result in enumerate(done):
        context = result.final_pipeline_context
        assert (context.seen, context.approval) == ([str(n)], n)
