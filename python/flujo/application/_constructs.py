"""Constructs as nodes of a plan. One that was given a step's options is the work of a step of its name: the two are one
to whoever looks.
"""

from __future__ import annotations

from collections.abc import Callable as AnyCallable
from typing import Any

from flujo._native import Callable, PlanBuilder
from flujo.application._callables import called, describe_facts, required_count
from flujo.application._kept_fields import MergeKept, by_strategy, kept_fields
from flujo.application._lowering import Around, Lowering, life_of, sequence


def construct(builder: PlanBuilder, step: Any, around: Around) -> Lowering:
    """The node of a construct, in a step's life where it was given one."""
    lower = _KINDS.get(step.kind)
    if lower is None:
        raise TypeError(f"step {step.name!r} is of unknown kind {step.kind!r}")
    _refuse_what_only_agents_have(step)
    made = yield lower(builder, step, around)
    if not _has_a_life(step, around):
        return made
    life = yield life_of(builder, step, around)
    if step.kind == "import" and step.failure_mode != "abort":
        life["fallback"] = _default_of_import(builder, step)
    return builder.step(step.name, body=made, max_retries=_retries(step), **life)


def _retries(step: Any) -> int:
    """A construct is retried only when its user said so."""
    retries: int = step.config.given().get("max_retries", 0)
    return retries


def _has_a_life(step: Any, around: Around) -> bool:
    processors = step.__dict__.get("processors")
    return bool(
        step.plugins
        or step.validators
        or step.fallback_step is not None
        or step.usage_limits is not None
        or around.policy(step) is not None
        or step.updates_context
        or step.sink_to is not None
        or step.input is not None
        or step.persist_feedback_to_context is not None
        or step.persist_validation_results_to is not None
        or step.failure_handlers
        or step.static_invariants
        or around.invariants
        or (processors and (processors.prompt_processors or processors.output_processors))
        or step.config.timeout_s is not None
        or _retries(step)
        or getattr(step, "failure_mode", "abort") != "abort"
    )


def _refuse_what_only_agents_have(step: Any) -> None:
    """Refuse what a construct can't have, rather than ignore it."""
    for given, what in (
        (step.config.retry_on, "retry_on"),
        (step.config.execution_mode == "background", "execution_mode='background'"),
        (step.config.rate_limit is not None, "a rate_limit"),
    ):
        if given:
            from flujo.exceptions import ConfigurationError

            raise ConfigurationError(
                f"{type(step).__name__} {step.name!r} has {what}, which only a step with an agent can have",
                suggestion="put it on the steps inside, or on a step before",
            )


def _deadline(step: Any, around: Around) -> float | None:
    """The construct's own deadline; in a step's life it is the step's."""
    deadline: float | None = None if _has_a_life(step, around) else step.config.deadline_s
    return deadline


def _conditional(builder: PlanBuilder, step: Any, around: Around) -> Lowering:
    branches = []
    keys = {}
    for place, (key, branch) in enumerate(step.branches.items()):
        branches.append((str(key), (yield sequence(builder, branch, around))))
        keys[key] = place
    default = None
    if step.default_branch_pipeline is not None:
        default = yield sequence(builder, step.default_branch_pipeline, around)
    mapper = _optional_mapper(step, keys)
    output_mapper = step.branch_output_mapper
    with_key = output_mapper is not None and required_count(output_mapper) > 2
    return builder.conditional(
        step.name,
        _condition(step, keys),
        branches,
        object=step,
        default=default,
        input_mapper=mapper("branch_input_mapper"),
        output_mapper=mapper("branch_output_mapper", *(("input", "key", "context") if with_key else ())),
        deadline_s=_deadline(step, around),
    )


def _condition(step: Any, keys: dict[Any, int]) -> Callable:
    name = f"the condition of {step.name!r}"
    if step.condition_expression is None:
        return called(step.condition_callable, "condition", name, keys=keys)
    from flujo.application._templates import branch_key

    return branch_key(step.condition_expression, name, keys)


def _optional_mapper(step: Any, keys: dict[Any, int] | None = None) -> AnyCallable[..., Callable | None]:
    def mapper(field: str, *arguments: str) -> Callable | None:
        target = getattr(step, field)
        if target is None:
            return None
        wanted = arguments or ("input", "context")
        name = f"the {field} of {step.name!r}"
        return called(target, "value", name, keys=keys, arguments=wanted, declared=True)

    return mapper


def _merge(step: Any) -> Callable | None:
    strategy = step.merge_strategy
    name = f"the merge of {step.name!r}"
    keeps = kept_fields(step)
    if callable(strategy):
        from flujo.domain.dsl._signature import analyse_callable

        facts = analyse_callable(strategy)
        merge = strategy if keeps is None else MergeKept(strategy, keeps)
        worker = not (facts.is_async or facts.inline)
        return Callable(merge, "merge", name=name, worker=worker, context_by_position=True)
    if strategy.value == "no_merge":
        return None
    if keeps is None:
        return Callable(strategy.value, "merge", name=name)
    return Callable(
        MergeKept(by_strategy(strategy.value), keeps), "merge", name=name, context_by_position=True
    )


def _parallel(builder: PlanBuilder, step: Any, around: Around) -> Lowering:
    branches = []
    for name, branch in step.branches.items():
        branches.append((name, (yield sequence(builder, branch, around))))
    router = select = None
    if step.kind == "router":
        router = yield _router(builder, step.router_agent, around)
        keys = {name: place for place, name in enumerate(step.branches)}
        select = Callable(_same, "selection", name=f"the router of {step.name!r}", keys=keys)
    collect = (
        Callable("branches", "lanes", name=f"the outputs of {step.name!r}")
        if step.reduce is None
        else called(step.reduce, "lanes", f"the reduce of {step.name!r}")
    )
    return builder.parallel(
        step.name,
        branches,
        collect,
        object=step,
        router=router,
        select=select,
        on_failure=step.on_branch_failure.value,
        max_concurrency=step.max_concurrency,
        merge=_merge(step),
        deadline_s=_deadline(step, around),
    )


def _router(builder: PlanBuilder, agent: Any, around: Around) -> Lowering:
    from flujo.domain.dsl.pipeline import Pipeline
    from flujo.domain.dsl.step import Step

    if isinstance(agent, Step | Pipeline):
        steps = Pipeline([agent]) if isinstance(agent, Step) else agent
    else:
        steps = Pipeline([Step("router", agent)])
    return (yield sequence(builder, steps, around))


_ON_ITEM_FAILURE = {
    "fail": ("propagate", "items"),
    "skip": ("tolerate", "items"),
    "none": ("tolerate", "items_or_none"),
}


def _map(builder: PlanBuilder, step: Any, around: Around) -> Lowering:
    body = yield sequence(builder, step.pipeline, around)
    on_failure, shape = _ON_ITEM_FAILURE[step.on_item_failure]
    return builder.map(
        step.name,
        body,
        _items(step),
        Callable(shape, "lanes", name=f"the outputs of {step.name!r}"),
        object=step,
        on_failure=on_failure,
        max_concurrency=step.max_concurrency,
        merge=_merge(step),
        deadline_s=_deadline(step, around),
    )


async def next_past(items: Any, past: int) -> Any:
    """The next item of an asynchronous iterator past so many, which had been taken from the collection before."""
    for taken in range(past):
        try:
            await anext(items)
        except StopAsyncIteration:
            raise ValueError(
                f"the collection gave {taken} items where {past} had been taken from it before: one that is read "
                "item by item must give the same items when it is read again"
            ) from None
    return await anext(items)


def _items(step: Any) -> Callable:
    name = f"step {step.name!r}"
    source = step.iterable_input
    if source is None:
        return Callable(_same, "items", name=name)
    if callable(source):
        return called(source, "items", name)
    return Callable(_Field(source), "items", name=name, context_by_position=True)


def _same(value: Any) -> Any:
    return value


class _Field:
    """Reads the items from a field of the context."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, value: Any, context: Any) -> Any:
        del value
        found = context
        for name in self._path.split("."):
            try:
                found = found[name] if isinstance(found, dict) else getattr(found, name)
            except (KeyError, AttributeError):
                from flujo.exceptions import ContextFieldError

                raise ContextFieldError(
                    f"the map reads its items from context.{self._path}, which the context doesn't have",
                    suggestion="name a field of the context, or leave iterable_input out to map over the input",
                ) from None
        return found


def _loop(builder: PlanBuilder, step: Any, around: Around) -> Lowering:
    body = yield sequence(builder, step.loop_body_pipeline, around)
    mapper = _optional_mapper(step)
    return builder.repeat(
        step.name,
        body,
        called(step.exit_condition_callable, "decision", f"the exit condition of {step.name!r}"),
        object=step,
        first_input=mapper("initial_input_to_loop_body_mapper"),
        next_input=mapper("iteration_input_mapper", "input", "context", "index"),
        output=mapper("loop_output_mapper"),
        max_loops=step.max_loops,
        go_on=step.on_body_failure == "continue",
        deadline_s=_deadline(step, around),
    )


def _refine(builder: PlanBuilder, step: Any, around: Around) -> Lowering:
    from flujo.application._refinement import feedback, first_input, is_content

    generator = yield sequence(builder, step.generator_pipeline, around)
    critic = yield sequence(builder, step.critic_pipeline, around)
    return builder.repeat(
        step.name,
        generator,
        Callable(is_content(step), "decision", name=f"the critic of {step.name!r}"),
        object=step,
        judge=critic,
        first_input=Callable(first_input, "value", name=f"the input of {step.name!r}"),
        next_input=Callable(
            feedback(step),
            "value",
            name=f"the feedback_mapper of {step.name!r}",
            arguments=["start", "input"],
        ),
        max_loops=step.max_refinements,
        deadline_s=_deadline(step, around),
    )


def _state_machine(builder: PlanBuilder, step: Any, around: Around) -> Lowering:
    from flujo.application._transitions import Transitions

    names = step.names()
    states = []
    for name in names:
        pipeline = step.states.get(name)
        body = None if pipeline is None else (yield sequence(builder, pipeline, around))
        states.append((name, body, name in step.end_states))
    return builder.states(
        step.name,
        states,
        names.index(step.start_state),
        Callable(
            Transitions(step),
            "transition",
            name=f"the transitions of {step.name!r}",
            arguments=["input", "context", "key", "index"],
            keys={name: place for place, name in enumerate(names)},
        ),
        object=step,
        deadline_s=_deadline(step, around),
    )


def _sub_pipeline(builder: PlanBuilder, step: Any, around: Around) -> Lowering:
    body = yield sequence(builder, step.pipeline, around)
    inherit = None
    if not step.inherit_context:
        inherit = Callable(_fresh_context, "inherit", name=f"the context of {step.name!r}")
    return builder.group(step.name, body, object=step, inherit=inherit, deadline_s=_deadline(step, around))


def _fresh_context(value: Any) -> Any:
    from flujo.application._context import default_context

    return default_context(value, None, None)


def _runner(builder: PlanBuilder, step: Any, around: Around) -> Lowering:
    body = yield sequence(builder, step.pipeline, around)
    return builder.group(
        step.name,
        body,
        object=step,
        inherit=Callable(
            step.inherit, "inherit", name=f"the context of {step.name!r}", context_by_position=True
        ),
        collect=Callable(
            step.collect, "lanes", name=f"the result of {step.name!r}", context_by_position=True
        ),
        deadline_s=_deadline(step, around),
    )


def _import(builder: PlanBuilder, step: Any, around: Around) -> Lowering:
    from flujo.application._import import Import

    body = yield sequence(builder, step.pipeline, around)
    between = Import(step)
    return builder.group(
        step.name,
        body,
        object=step,
        inherit=Callable(
            between.inherit, "inherit", name=f"the context of {step.name!r}", context_by_position=True
        ),
        collect=Callable(
            between.collect, "lanes", name=f"the outputs of {step.name!r}", context_by_position=True
        ),
        deadline_s=_deadline(step, around),
    )


def _default_of_import(builder: PlanBuilder, step: Any) -> int:
    """What takes the place of an import that failed."""
    from flujo.domain.dsl._signature import analyse_callable

    default = step.default_output
    passed_on = _same if step.failure_mode == "skip" else lambda _given: default
    facts = analyse_callable(passed_on, inline=True)
    return builder.step(step.name, describe_facts(facts, {}, None), object=step, max_retries=0)


_KINDS: dict[str, AnyCallable[[PlanBuilder, Any, Around], Lowering]] = {
    "conditional": _conditional,
    "parallel": _parallel,
    "router": _parallel,
    "map": _map,
    "loop": _loop,
    "refine": _refine,
    "state_machine": _state_machine,
    "sub_pipeline": _sub_pipeline,
    "runner": _runner,
    "import": _import,
}
