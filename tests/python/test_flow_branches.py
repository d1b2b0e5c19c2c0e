"""Routers, gathers, conditionals, maps and state machines on the asyncio host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from flujo import Flujo, Pipeline, PipelineContext, Step, current_step
from flujo.domain.dsl import DynamicParallelRouterStep, StateMachineStep, Transition, TreeSearchStep
from flujo.exceptions import ConfigurationError


class Notes(PipelineContext):
    notes: list[Any] = []
    left: str = ""
    right: str = ""
    next_state: str | None = None


async def same(x: Any) -> Any:
    return x


async def fails(x: Any) -> Any:
    raise ValueError("broken")


def named(name: str, **options: Any) -> Step[Any, Any]:
    async def work(x: Any) -> str:
        return f"{name}({x})"

    return Step(name, work, **options)


# --- branches


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts the futures that are made on it."""

    futures = 0

    def create_future(self) -> asyncio.Future[Any]:
        self.futures += 1
        return super().create_future()


def test_a_parallel_step_is_woken_once_when_the_last_of_its_branches_has_completed() -> None:
    loop = CountingLoop()

    async def main() -> None:
        gates = [asyncio.Event() for _ in range(5)]
        waiting = 0

        def branch(number: int) -> Step[Any, Any]:
            async def waits(x: int) -> int:
                nonlocal waiting
                waiting += 1
                await gates[number].wait()
                return x + number

            return Step(f"step {number}", waits)

        fan = Step.parallel("fan", {str(number): branch(number) for number in range(5)})
        run = asyncio.ensure_future(Flujo(fan).run_async(10))
        while waiting < 5:
            await asyncio.sleep(0)
        made = loop.futures
        for gate in reversed(gates):
            gate.set()
            for _ in range(5):
                await asyncio.sleep(0)
        result = await run
        assert loop.futures == made, "it waits for all of them with one future"
        assert result.output == {str(number): 10 + number for number in range(5)}

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


# --- routers


def router(choice: Any, **options: Any) -> DynamicParallelRouterStep[Any, Any]:
    async def choose(given: Any) -> Any:
        return choice

    return Step.dynamic_parallel_branch(
        "route", choose, {"a": named("one"), "b": named("two"), "c": named("three")}, **options
    )


async def test_a_router_runs_what_it_names_in_declared_order() -> None:
    result = await Flujo(router(["c", "a", "c"])).run_async("x")
    [whole] = result.step_history
    assert result.output == {"a": "one(x)", "c": "three(x)"}
    assert list(result.output) == ["a", "c"]
    assert whole.metadata_["executed_branches"] == ["a", "c"]
    assert [one.name for one in whole.step_history] == ["router", "a", "c"]


@pytest.mark.parametrize("nothing", [[], None, ()])
async def test_a_router_that_names_nothing_gives_an_empty_dict(nothing: Any) -> None:
    result = await Flujo(router(nothing)).run_async("x")
    assert result.success and result.output == {}
    assert result.step_history[0].metadata_["executed_branches"] == []


async def test_a_name_that_no_branch_has_fails_naming_it_and_the_branches() -> None:
    result = await Flujo(Step("before", same) >> router(["a", "z"])).run_async("x")
    assert not result.success and result.step_history[0].success
    feedback = result.step_history[1].feedback
    assert feedback == "the router chose 'z', which is no branch; the branches are 'a', 'b', 'c'"


async def test_a_router_that_gives_no_names_is_blamed() -> None:
    result = await Flujo(router(7)).run_async("x")
    assert "the router of 'route' must give the names of branches" in (result.step_history[0].feedback or "")


async def test_one_name_as_text_is_one_branch() -> None:
    assert (await Flujo(router("b")).run_async("x")).output == {"b": "two(x)"}


async def test_a_routers_usage_and_failure_are_the_steps() -> None:
    class Costly:
        output, cost_usd, token_counts = ["a"], 0.25, 3

    async def choose(x: Any) -> Costly:
        return Costly()

    result = await Flujo(Step.dynamic_parallel_branch("route", choose, {"a": named("one")})).run_async("x")
    assert (result.total_cost_usd, result.step_history[0].token_counts) == (0.25, 3)
    result = await Flujo(Step.dynamic_parallel_branch("route", fails, {"a": named("one")})).run_async("x")
    assert not result.success
    assert "broken" in (result.step_history[0].feedback or "")


async def test_a_router_may_be_a_step_with_options_and_sees_the_context() -> None:
    async def choose(x: Any, context: Notes) -> list[str]:
        context.notes.append(x)
        return context.left.split()

    whole = Step.dynamic_parallel_branch("route", Step("pick", choose, timeout_s=5.0), {"a": named("one")})
    runner = Flujo(whole, context_model=Notes, initial_context_data={"left": "a"})
    result = await runner.run_async("x")
    assert result.output == {"a": "one(x)"}
    assert result.final_pipeline_context.notes == ["x"]
    assert result.step_history[0].step_history[0].name == "pick"


async def test_the_class_drops_the_branches_writes_and_the_factory_joins_them() -> None:
    async def choose(x: Any) -> list[str]:
        return ["a"]

    async def writes(x: Any, context: Notes) -> Any:
        context.left = "written"
        return x

    branches = {"a": Step("writes", writes)}
    for whole, left in (
        (DynamicParallelRouterStep("route", choose, branches), ""),
        (Step.dynamic_parallel_branch("route", choose, branches), "written"),
    ):
        result = await Flujo(whole, context_model=Notes).run_async("x")
        assert result.final_pipeline_context.left == left


async def test_p34_a_router_in_a_loop_runs_every_time() -> None:
    runs: list[Any] = []

    async def branch(x: int) -> int:
        runs.append(x)
        return x + 1

    async def choose(x: int) -> list[str]:
        return ["a"]

    route = Step.dynamic_parallel_branch(
        "route", choose, {"a": Step("branch", branch)}, reduce=lambda lanes: lanes[0].output
    )
    result = await Flujo(Step.loop_until("loop", route, lambda out: out == 4)).run_async(0)
    assert result.output == 4 and runs == [0, 1, 2, 3]


# --- gather


async def test_gather_takes_the_named_outputs_of_a_parallel_step() -> None:
    fan = Step.parallel("fan", {"a": named("one"), "b": named("two"), "c": named("three")})
    result = await Flujo(fan >> Step.gather("both", wait_for=["c", "a"])).run_async("x")
    assert result.output == {"c": "three(x)", "a": "one(x)"}
    assert list(result.output) == ["c", "a"]


async def test_gather_names_what_is_missing() -> None:
    fan = Step.parallel("fan", {"a": named("one"), "b": named("two")})
    result = await Flujo(fan >> Step.gather("both", ["a", "z"], max_retries=0)).run_async("x")
    assert "has no output of 'z'; it has those of 'a', 'b'" in (result.step_history[1].feedback or "")
    result = await Flujo(Step("same", same) >> Step.gather("both", ["a"], max_retries=0)).run_async("x")
    assert "put it right after the parallel step" in (result.step_history[1].feedback or "")


@pytest.mark.parametrize("names", ["a", [], [1], None])
def test_gather_needs_names(names: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="wait_for"):
        Step.gather("both", names)


# --- conditionals and maps: bad input


async def test_a_key_without_a_branch_names_the_branches_and_keeps_what_was_done() -> None:
    whole = Step.branch_on("pick", lambda out, ctx: "z", {"a": named("one"), "b": named("two")})
    result = await Flujo(Step("before", same) >> whole).run_async("x")
    assert result.step_history[0].output == "x"
    feedback = result.step_history[1].feedback or ""
    assert "No branch found for key 'z'" in feedback and "'a', 'b'" in feedback


@pytest.mark.parametrize("make", [Step.branch_on, Step.dynamic_parallel_branch])
def test_empty_branches_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="at least one branch"):
        make("empty", same, {})
    with pytest.raises(ValueError, match="at least one branch"):
        Step.parallel("empty", {})


async def test_a_branchs_output_mapper_may_ask_for_the_key() -> None:
    def mapper(out: Any, key: Any, context: Any) -> Any:
        return (key, out)

    whole = Step.branch_on(
        "pick", lambda out, ctx: out, {7: Step("a", same), True: Step("b", same)}, branch_output_mapper=mapper
    )
    assert (await Flujo(whole).run_async(7)).output == (7, 7)
    assert (await Flujo(whole).run_async(True)).output == (True, True)
    whole.default_branch_pipeline = Pipeline([Step("c", same)])
    assert (await Flujo(whole).run_async(9)).output == ("9", 9)


@pytest.mark.parametrize("items", [7, "text", b"bytes", None])
async def test_mapping_over_something_that_is_no_collection_fails_clearly(items: Any) -> None:
    result = await Flujo(Step("before", same) >> Step.map_over("map", Step("a", same))).run_async(items)
    assert [one.success for one in result.step_history] == [True, False]
    assert "step 'map' maps over items" in (result.step_history[1].feedback or "")


async def test_an_endless_async_iterable_is_read_only_as_far_as_it_is_worked_on() -> None:
    read = 0

    async def endless() -> AsyncIterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    async def until_ten(x: int) -> int:
        await asyncio.sleep(0)
        if x == 10:
            raise ValueError("enough")
        return x

    body = Step("until ten", until_ten, max_retries=0)
    whole = Step.map_over("map", body, iterable_input=lambda _: endless(), max_concurrency=3)
    result = await Flujo(whole).run_async(None)
    assert not result.success
    assert read <= 14
    assert [one.output for one in result.step_history[0].items][:9] == list(range(1, 10))


# --- state machines


def machine(**options: Any) -> StateMachineStep[Any, Any]:
    states = {"draft": named("draft"), "review": named("review"), "done": named("done")}
    transitions = [{"from": "draft", "to": "review"}, {"from": "review", "to": "done"}]
    given: dict[str, Any] = {"end_states": ["done"], "transitions": transitions, **options}
    return StateMachineStep("machine", states, "draft", **given)


async def test_states_follow_one_another_until_an_end_state() -> None:
    result = await Flujo(machine()).run_async("x")
    [whole] = result.step_history
    assert result.output == "done(review(draft(x)))"
    assert [one.name for one in whole.step_history] == ["draft", "review", "done"]
    assert whole.metadata_ == {"final_state": "done"}
    assert whole.attempts == 3


async def test_the_first_transition_that_fits_counts_and_when_sees_output_and_context() -> None:
    async def enough(output: str, context: Notes) -> bool:
        context.notes.append(output)
        return len(context.notes) > 2

    whole = machine(
        transitions=[
            Transition("draft", "review"),
            Transition("review", "done", when=enough),
            {"from": "*", "to": "draft", "when": lambda output: True},
        ]
    )
    result = await Flujo(whole, context_model=Notes).run_async("x")
    assert result.success
    assert result.step_history[0].attempts == 7
    assert len(result.final_pipeline_context.notes) == 3


async def test_each_visit_of_a_state_has_a_place_of_its_own_also_in_its_lanes() -> None:
    seen: list[Any] = []

    async def look(x: int) -> int:
        here = current_step()
        seen.append((here.iteration, here.lane, here.idempotency_key.rpartition(":")[2]))
        return x + 1

    fan = Step.parallel("fan", {"a": Step("look", look)}, reduce=lambda lanes: lanes[0].output)
    states = {"again": Step("look", look) >> fan, "done": named("done")}
    transitions = [Transition("again", "done", when=lambda x: x > 3), Transition("again", "again")]
    whole = StateMachineStep("machine", states, "again", ["done"], transitions)
    await Flujo(whole).run_async(0)
    assert seen == [(1, "", "1"), (1, "fan[a]", "1"), (2, "", "2"), (2, "fan[a]", "2")]


async def test_a_failed_state_may_lead_on_and_else_fails_the_machine() -> None:
    seen: list[Any] = []

    def look(error: Any) -> bool:
        seen.append(error)
        return True

    states = {"try": Step("try", fails, max_retries=0), "repair": named("repair")}
    whole = StateMachineStep(
        "machine",
        states,
        "try",
        ["repair"],
        [Transition("try", "repair", on="failure", when=look)],
    )
    result = await Flujo(whole).run_async("x")
    assert result.output == "repair(x)"
    assert isinstance(seen[0], ValueError)
    whole.transitions.clear()
    result = await Flujo(whole).run_async("x")
    assert not result.success and "broken" in (result.step_history[0].feedback or "")


async def test_the_context_may_say_which_state_follows_once() -> None:
    async def asks(x: Any, context: Notes) -> Any:
        context.next_state = "done"
        return x

    states = {"draft": Step("asks", asks), "done": named("done")}
    whole = StateMachineStep("machine", states, "draft", ["done"])
    result = await Flujo(whole, context_model=Notes).run_async("x")
    assert result.output == "done(x)"
    assert result.final_pipeline_context.next_state is None


async def test_an_unknown_state_fails_naming_the_states() -> None:
    async def asks(x: Any, context: Notes) -> Any:
        context.next_state = "nowhere"
        return x

    whole = StateMachineStep("machine", {"draft": Step("asks", asks)}, "draft", ["end"])
    result = await Flujo(whole, context_model=Notes).run_async("x")
    assert result.step_history[0].feedback == "No state named 'nowhere'; the states are 'draft', 'end'"
    assert result.step_history[0].step_history[0].success


async def test_a_state_that_leads_nowhere_fails_clearly() -> None:
    result = await Flujo(machine(transitions=[])).run_async("x")
    assert "state 'draft' has ended, no transition leaves it" in (result.step_history[0].feedback or "")


async def test_an_end_state_without_a_pipeline_does_nothing() -> None:
    whole = StateMachineStep("m", {"a": named("a")}, "a", ["end"], [Transition("a", "end")])
    result = await Flujo(whole).run_async("x")
    assert result.output == "a(x)"
    assert result.step_history[0].metadata_["final_state"] == "end"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"transitions": [{"from": "draft", "to": "nowhere"}]}, "'nowhere', which is no state"),
        ({"transitions": [{"from": "nowhere", "to": "draft"}]}, "'nowhere', which is no state"),
        ({"transitions": [{"from": "draft"}]}, "'from', 'to'"),
        ({"transitions": [{"from": "draft", "to": "done", "on": "pause"}]}, "never ends with 'pause'"),
        ({"transitions": [{"from": "draft", "to": "done", "on": "later"}]}, "'success' or 'failure'"),
        ({"transitions": [{"from": "draft", "to": "done", "when": "x > 1"}]}, "a callable"),
    ],
)
def test_bad_transitions_are_refused(options: Any, match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        machine(**options)


def test_an_unknown_start_state_is_refused() -> None:
    with pytest.raises(ValueError, match="start_state names 'z', which is no state; the states are 'a'"):
        StateMachineStep("m", {"a": named("a")}, "z")


def test_tree_search_names_what_to_use_instead() -> None:
    with pytest.raises(ConfigurationError, match="refine_until"):
        TreeSearchStep("search")
