"""The result that a hook is told of a step is that of the final result, with everything inside it."""

from __future__ import annotations

from typing import Any

from flujo import Flujo, Pipeline, Step
from flujo.domain.events import OnStepFailurePayload, PostStepPayload


async def _more(x: int) -> int:
    return x + 1


async def _fails(x: Any) -> Any:
    raise ValueError("no")


def _shape(result: Any) -> Any:
    """What there is to see of a result, at every depth."""
    return (
        result.name,
        result.success,
        result.output if isinstance(result.output, int) else None,
        result.attempts,
        result.latency_s,
        result.feedback,
        result.metadata,
        [_shape(inside) for inside in result.step_history],
        [_shape(item) for item in result.items],
    )


async def _told(pipeline: Any) -> tuple[dict[str, list[Any]], Any]:
    told: dict[str, list[Any]] = {}

    async def hook(payload: PostStepPayload | OnStepFailurePayload) -> None:
        told.setdefault(payload.step_result.name, []).append(payload.step_result)

    return told, await Flujo(pipeline, hooks=[hook]).run_async(1)


def _each(results: list[Any]) -> Any:
    for result in results:
        yield result
        yield from _each(result.step_history)
        yield from _each(result.items)


async def test_composite_steps_hold_the_same_history_as_in_the_end() -> None:
    saved = Step("saved", _fails, max_retries=1, fallback_step=Step("saver", _more))
    inner = Pipeline([Step("i1", _more), saved, Step("i2", _more)])
    pipeline = Pipeline(
        [
            Step("first", _more),
            Step.branch_on("choice", lambda x, _: "a", {"a": inner}),
            Pipeline(
                [Step("s1", _more), Step.branch_on("nested", lambda x, _: "a", {"a": Step("n", _more)})]
            ).as_step("sub"),
            Flujo(Step("r1", _more) >> Step("r2", _more)).as_step("runner"),
            Step("back", _to_int),
            Step.parallel("fan", {"l": Step("l1", _more) >> Step("l2", _more), "r": Step("r", _more)}),
            Step("items", _items),
            Step.map_over("each", Step("m1", _more) >> Step("m2", _more)),
        ]
    )
    told, result = await _told(pipeline)
    assert result.success, result.step_history[-1].feedback
    names = ["first", "choice", "sub", "runner", "fan", "each"]
    final = {step.name: step for step in result.step_history}
    for name in names:
        assert [_shape(given) for given in told[name]] == [_shape(final[name])], name
    assert [step.name for step in told["choice"][0].step_history] == ["i1", "saver", "i2"]
    # A step that its fallback saved is told of under the fallback's name, after the fallback itself.
    assert [len(given.step_history) for given in told["saver"]] == [0, 1]
    assert [step.name for step in told["sub"][0].step_history] == ["s1", "nested"]


async def test_a_construct_that_failed_holds_what_was_done_inside_it() -> None:
    broken = Step("broken", _fails, max_retries=0)
    for step in (
        Step.branch_on("outer", lambda x, _: "a", {"a": Step("a1", _more) >> broken}),
        (Step("a1", _more) >> broken).as_step("outer"),
        Step.parallel("outer", {"a": Step("a1", _more) >> broken, "b": Step("b", _more)}),
    ):
        told, result = await _told(step)
        assert not result.success
        assert [_shape(given) for given in told["outer"]] == [_shape(result.step_history[0])]
        assert [given.name for given in _each(told["outer"])][:2] != ["outer"]


async def _to_int(x: Any) -> int:
    return 1


async def _items(x: Any) -> list[int]:
    return [1, 2, 3]
