"""Random pipelines of pure steps give equal results with and without caching, whichever steps are cached."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flujo import Flujo, InMemoryCache, Pipeline, PipelineContext, Step


class Numbers(PipelineContext):
    by: int = 1
    other: int = 0
    last: int = 0


async def add(x: int, *, context: Numbers) -> int:
    return x + context.by


async def add_some(x: int, *, context: Numbers) -> int:
    return x + (context.other if context.by > 1 else 0)


async def double(x: int) -> int:
    return 2 * x


async def fail_on_odd(x: int) -> int:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


async def say(x: int) -> dict[str, int]:
    return {"last": x, "by": x % 3 + 1}


def take(said: Any) -> Any:
    return said["last"] if isinstance(said, dict) else said


Shape = Any
leaf = st.sampled_from(["add", "add_some", "double", "fail_on_odd", "say"])
shapes = st.recursive(
    st.tuples(leaf, st.booleans()),
    lambda inner: (
        st.tuples(st.just("fan"), st.lists(inner, min_size=1, max_size=3), st.booleans())
        | st.tuples(st.just("nested"), st.lists(inner, min_size=1, max_size=3), st.booleans())
        | st.tuples(st.just("loop"), st.lists(inner, min_size=1, max_size=2), st.booleans())
    ),
    max_leaves=6,
)


def may_fail(shape: Shape) -> bool:
    kind, *rest = shape
    if kind in ("fan", "nested"):
        return any(map(may_fail, rest[0]))
    return kind in ("fail_on_odd", "loop")


class Maker:
    """Makes steps of a shape; with a cache those that are marked are cached."""

    def __init__(self, cache: InMemoryCache | None) -> None:
        self._cache = cache
        self._made = 0

    def pipeline(self, shapes: list[Shape]) -> Pipeline[Any, Any]:
        steps: list[Step[Any, Any]] = []
        for shape in shapes:
            steps.append(self.step(shape))
            steps.append(Step(self._name("take"), take, inline=True))
        return Pipeline(steps)

    def _name(self, kind: str) -> str:
        self._made += 1
        return f"{kind}{self._made}"

    def step(self, shape: Shape) -> Step[Any, Any]:
        kind, *rest = shape
        name = self._name(kind)
        made: Step[Any, Any]
        if kind == "fan":
            branches = {f"b{place}": self.pipeline([inner]) for place, inner in enumerate(rest[0])}
            # Of two that fail, the first one counts: that is the faster one, which one that is cached may become.
            alone = sum(map(may_fail, rest[0])) > 1
            made = Step.parallel(
                name,
                branches,
                merge_strategy="overwrite",
                reduce=_total,
                max_concurrency=1 if alone else None,
            )
        elif kind == "nested":
            made = self.pipeline(rest[0]).as_step(name)
        elif kind == "loop":
            body = self.pipeline(rest[0])
            made = Step.loop_until(name, body, lambda out, _context: take(out) > 20, max_loops=3)
        elif kind == "say":
            made = Step(name, say, updates_context=True)
        else:
            functions: Any = {"add": add, "add_some": add_some, "double": double, "fail_on_odd": fail_on_odd}
            made = Step(name, functions[kind], max_retries=0)
        cached: bool = rest[-1]
        return Step.cached(made, self._cache) if cached and self._cache is not None else made


def _total(results: Any) -> int:
    return sum(take(result.output) for result in results)


def told(result: Any) -> Any:
    context = result.final_pipeline_context
    # A construct that is cached has a step's life: when it fails, what was written inside is dropped.
    written = (context.by, context.other, context.last) if result.success else ()
    return (
        *(result.status, result.output, written),
        # What is found in the cache is the output, not how it came about.
        [
            (found.name, found.success, found.output, None if found.success else found.feedback)
            for found in result.step_history
        ],
    )


inputs = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=5)


@given(st.lists(shapes, min_size=1, max_size=3), inputs)
def test_caching_changes_no_result(shapes: list[Shape], inputs: list[tuple[int, int, int]]) -> None:
    async def main() -> None:
        plain = Flujo(Maker(None).pipeline(shapes), context_model=Numbers)
        cached = Flujo(Maker(InMemoryCache()).pipeline(shapes), context_model=Numbers)

        async def run(runner: Flujo[Any, Any], x: int, by: int, other: int) -> Any:
            return told(await runner.run_async(x, initial_context_data={"by": by, "other": other}))

        for given_now in inputs * 2:
            assert await run(cached, *given_now) == await run(plain, *given_now)
        expected = [await run(plain, *given_now) for given_now in inputs]
        assert await asyncio.gather(*(run(cached, *given_now) for given_now in inputs)) == expected

    asyncio.run(main())
