"""From a definition to a plan: each node is described to the engine, children first.

Nesting is followed by generators on a list, not by calls, so that its depth costs no call stack.
"""

from __future__ import annotations

from collections.abc import Callable as AnyCallable
from collections.abc import Generator
from typing import Any, cast

from flujo._native import Callable, CompiledPlan, PlanBuilder
from flujo.application._stream import Collector, StreamingAgent
from flujo.application._templates import branch_key, input_template
from flujo.domain.dsl._signature import CallableFacts, analyse_agent, analyse_callable

_Lowering = Generator[Any, int, int]

_Around = dict[int, Any]
"""The steps whose fallback is being lowered, outermost first, by identity."""


def compile_pipeline(pipeline: Any, name: str) -> CompiledPlan:
    """The plan of a pipeline.

    Raises:
        MissingAgentError: a step has no agent.
        ConfigurationError: a fallback leads back to a step it belongs to, or a step can't run as it is.
        ValueError: the engine refuses the pipeline, for instance because it is empty.
    """
    builder = PlanBuilder()
    stack: list[_Lowering] = [_sequence(builder, pipeline, {})]
    answer: int | None = None
    while stack:
        try:
            child = stack[-1].send(answer)  # type: ignore[arg-type]
        except StopIteration as done:
            stack.pop()
            answer = done.value
        else:
            stack.append(child)
            answer = None
    assert answer is not None
    return builder.finish(name, answer)


def _sequence(builder: PlanBuilder, pipeline: Any, around: _Around) -> _Lowering:
    children = []
    for step in pipeline.steps:
        children.append((yield _node(builder, step, around)))
    return builder.sequence(children)


def _node(builder: PlanBuilder, step: Any, around: _Around) -> _Lowering:
    match step.kind:
        case "step":
            return _step(builder, step, around)
        case "conditional":
            return _conditional(builder, step, around)
        case "parallel":
            return _parallel(builder, step, around)
        case "map":
            return _map(builder, step, around)
        case "sub_pipeline":
            return _sub_pipeline(builder, step, around)
        case "runner":
            return _runner(builder, step, around)
        case other:
            raise TypeError(f"step {step.name!r} is of unknown kind {other!r}")


# --- steps


def _step(builder: PlanBuilder, step: Any, around: _Around) -> _Lowering:
    _refuse_what_is_to_come(step)
    config = step.config
    facts = _facts(step)
    if facts is None:
        from flujo.exceptions import MissingAgentError

        raise MissingAgentError(
            f"step {step.name!r} has no agent", suggestion="give it one: Step(name, agent) or @step"
        )
    settings = {
        key: value
        for key, value in (
            ("temperature", config.temperature),
            ("top_k", config.top_k),
            ("top_p", config.top_p),
        )
        if value is not None and getattr(facts, f"accepts_{key}")
    }
    retry_on = tuple(config.retry_on) if config.retry_on else None
    fallback = None
    if step.fallback_step is not None:
        led_back = step if id(step) in around else step.fallback_step
        around[id(step)] = step
        if led_back is step or id(led_back) in around:
            from flujo.exceptions import ConfigurationError

            names = " -> ".join(repr(member.name) for member in (*around.values(), led_back))
            raise ConfigurationError(
                f"the fallbacks lead back to where they began: {names}",
                suggestion="end the chain with a step that has no fallback",
            )
        fallback = yield _node(builder, step.fallback_step, around)
        del around[id(step)]
    processors = step.__dict__.get("processors")
    return builder.step(
        step.name,
        _agent(facts, settings, retry_on),
        object=step,
        prompt_processors=[
            *input_template(step.input, f"the input of step {step.name!r}"),
            *(_processor(p) for p in (processors.prompt_processors if processors else ())),
        ],
        output_processors=[_processor(p) for p in processors.output_processors] if processors else [],
        plugins=[_plugin(p) for p, _ in sorted(step.plugins, key=lambda pair: -pair[1])],
        validators=[_validator(v, step) for v in step.validators],
        apply=_apply(step),
        persist=_persist(step),
        max_retries=config.max_retries,
        timeout_s=config.timeout_s,
        deadline_s=config.deadline_s,
        backoff=_backoff(config.backoff),
        fallback=fallback,
        expected_cost_usd=config.expected_cost_usd,
        expected_tokens=config.expected_tokens,
        usage_limits=_limits(step.usage_limits),
    )


def _limits(limits: Any) -> tuple[Any, int | None, int | None] | None:
    if limits is None:
        return None
    return limits.total_cost_usd_limit, limits.total_tokens_limit, limits.total_requests_limit


def _facts(step: Any) -> CallableFacts | None:
    facts: CallableFacts | None = step.facts()
    generate = getattr(step.agent, "stream", None)
    if not callable(generate) or isinstance(step.agent, type):
        return facts
    if facts is None or facts.is_async_generator:
        run, known = None, analyse_callable(generate, is_agent=True)
    else:
        run, known = facts.call, facts
    return known._replace(
        call=StreamingAgent(step, run, generate), is_async=True, is_generator=False, is_async_generator=False
    )


def _backoff(backoff: Any) -> tuple[float, float, float, float] | None:
    if backoff is None or backoff.initial_s == 0:
        return None
    return backoff.initial_s, backoff.factor, backoff.max_s, backoff.jitter


def _refuse_what_is_to_come(step: Any) -> None:
    """Refuse what this version doesn't do yet, rather than leave it undone without a word."""
    for given, what, instead in (
        (step.failure_handlers, "failure_handlers", "give it a fallback, or a hook for OnStepFailurePayload"),
        (step.static_invariants, "static_invariants", "check them in a validator"),
        (step.config.execution_mode == "background", "execution_mode='background'", "run it as its own run"),
    ):
        if given:
            from flujo.exceptions import ConfigurationError

            raise ConfigurationError(
                f"step {step.name!r} has {what}, which this version can't do yet", suggestion=instead
            )


def describe_agent(agent: object) -> Callable:
    """How an agent is called that isn't part of a plan."""
    facts = analyse_agent(agent)
    if facts is None:
        raise TypeError(f"{type(agent).__name__} is no agent: it has no run and can't be called")
    return _agent(facts, {}, None)


def _agent(facts: CallableFacts, settings: dict[str, Any], retry_on: tuple[Any, ...] | None) -> Callable:
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
    )


def _called(
    target: AnyCallable[..., Any], protocol: str, name: str, *, keys: dict[Any, int] | None = None
) -> Callable:
    """A callable of `(value, context)` or `(value)`, inline unless it is marked as blocking."""
    facts = analyse_callable(target)
    by_position = _takes_context_second(target)
    return Callable(
        target,
        protocol,
        name=name,
        worker=facts.blocking,
        takes_input=facts.accepts_input or by_position,
        context_by_position=by_position,
        context_keyword=None if by_position else facts.context_param,
        resources_keyword=facts.resources_param,
        keys=keys,
    )


def _takes_context_second(target: AnyCallable[..., Any]) -> bool:
    """Whether the second argument by position is the context: required, or named so."""
    import inspect

    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (ValueError, TypeError):
        return False
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return True
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    second = [parameter for parameter in parameters if parameter.kind in by_position][1:2]
    return any(
        parameter.default is inspect.Parameter.empty or parameter.name in ("context", "ctx")
        for parameter in second
    )


def _method(holder: Any, method: str) -> AnyCallable[..., Any]:
    found: Any = getattr(holder, method, None)
    return cast("AnyCallable[..., Any]", found if callable(found) else holder)


def _named(holder: Any) -> str:
    return getattr(holder, "name", None) or getattr(holder, "__name__", None) or type(holder).__name__


def _processor(processor: Any) -> Callable:
    return _called(_method(processor, "process"), "value", _named(processor))


def _plugin(plugin: Any) -> Callable:
    return _by_keyword(_method(plugin, "validate"), "plugin", _named(plugin))


def _validator(validator: Any, step: Any) -> Callable:
    lenient = step.meta.get("is_validation_step") and not step.meta.get("strict_validation")
    path = step.persist_validation_results_to
    if path is not None and not lenient:
        from flujo.application._effects import PersistVerdict

        target = _method(validator, "validate")
        takes_context = analyse_callable(target).accepts_context
        recorded = PersistVerdict(_named(validator), target, path, takes_context=takes_context)
        return Callable(recorded, "validator", name=_named(validator), context_keyword="context")
    return _by_keyword(
        _method(validator, "validate"), "effect" if lenient else "validator", _named(validator)
    )


def _by_keyword(target: AnyCallable[..., Any], protocol: str, name: str) -> Callable:
    facts = analyse_callable(target)
    return Callable(
        target,
        protocol,
        name=name,
        worker=facts.blocking,
        context_keyword=facts.context_param,
        resources_keyword=facts.resources_param,
    )


def _apply(step: Any) -> Callable | None:
    if not step.updates_context and step.sink_to is None:
        return None
    from flujo.application._effects import ApplyOutput

    effect = ApplyOutput(step.name, updates=step.updates_context, sink_to=step.sink_to)
    return Callable(effect, "effect", name=f"{step.name}: context update", context_by_position=True)


def _persist(step: Any) -> Callable | None:
    feedback_to, validation_to = step.persist_feedback_to_context, step.persist_validation_results_to
    if feedback_to is None and validation_to is None:
        return None
    from flujo.application._effects import PersistFeedback

    effect = PersistFeedback(feedback_to, validation_to)
    return Callable(effect, "effect", name=f"{step.name}: feedback", context_by_position=True)


# --- constructs


def _only_construct(step: Any) -> None:
    """Refuse fields of a plain step that the constructs don't have yet, rather than ignore them."""
    given = [
        field
        for field in (
            "plugins",
            "validators",
            "fallback_step",
            "updates_context",
            "sink_to",
            "input",
            "usage_limits",
        )
        if getattr(step, field)
    ]
    if given:
        from flujo.exceptions import ConfigurationError

        raise ConfigurationError(
            f"{type(step).__name__} {step.name!r} has {', '.join(given)}, which only plain steps can have yet",
            suggestion="put it on the steps inside, or on a step that follows",
        )


def _conditional(builder: PlanBuilder, step: Any, around: _Around) -> _Lowering:
    _only_construct(step)
    branches = []
    keys = {}
    for place, (key, branch) in enumerate(step.branches.items()):
        branches.append((str(key), (yield _sequence(builder, branch, around))))
        keys[key] = place
    default = None
    if step.default_branch_pipeline is not None:
        default = yield _sequence(builder, step.default_branch_pipeline, around)
    mapper = _optional_mapper(step)
    return builder.conditional(
        step.name,
        _condition(step, keys),
        branches,
        object=step,
        default=default,
        input_mapper=mapper("branch_input_mapper"),
        output_mapper=mapper("branch_output_mapper"),
        deadline_s=step.config.deadline_s,
    )


def _condition(step: Any, keys: dict[Any, int]) -> Callable:
    name = f"the condition of {step.name!r}"
    if step.condition_expression is None:
        return _called(step.condition_callable, "condition", name, keys=keys)
    return branch_key(step.condition_expression, name, keys)


def _optional_mapper(step: Any) -> AnyCallable[[str], Callable | None]:
    def mapper(field: str) -> Callable | None:
        target = getattr(step, field)
        return None if target is None else _called(target, "value", f"the {field} of {step.name!r}")

    return mapper


def _merge(strategy: Any, name: str) -> Callable | None:
    if callable(strategy):
        return Callable(strategy, "merge", name=f"the merge of {name!r}", context_by_position=True)
    if strategy.value == "no_merge":
        return None
    return Callable(strategy.value, "merge", name=f"the merge of {name!r}")


def _parallel(builder: PlanBuilder, step: Any, around: _Around) -> _Lowering:
    _only_construct(step)
    branches = []
    for name, branch in step.branches.items():
        branches.append((name, (yield _sequence(builder, branch, around))))
    collect = (
        Callable("branches", "lanes", name=f"the outputs of {step.name!r}")
        if step.reduce is None
        else _called(step.reduce, "lanes", f"the reduce of {step.name!r}")
    )
    return builder.parallel(
        step.name,
        branches,
        collect,
        object=step,
        on_failure=step.on_branch_failure.value,
        max_concurrency=step.max_concurrency,
        merge=_merge(step.merge_strategy, step.name),
        deadline_s=step.config.deadline_s,
    )


_ON_ITEM_FAILURE = {
    "fail": ("propagate", "items"),
    "skip": ("tolerate", "items"),
    "none": ("tolerate", "items_or_none"),
}


def _map(builder: PlanBuilder, step: Any, around: _Around) -> _Lowering:
    _only_construct(step)
    body = yield _sequence(builder, step.pipeline, around)
    on_failure, shape = _ON_ITEM_FAILURE[step.on_item_failure]
    return builder.map(
        step.name,
        body,
        _items(step),
        Callable(shape, "lanes", name=f"the outputs of {step.name!r}"),
        object=step,
        on_failure=on_failure,
        max_concurrency=step.max_concurrency,
        merge=Callable("context_update", "merge", name=f"the merge of {step.name!r}"),
        deadline_s=step.config.deadline_s,
    )


def _items(step: Any) -> Callable:
    name = f"step {step.name!r}"
    source = step.iterable_input
    if source is None:
        return Callable(_same, "items", name=name)
    if callable(source):
        return _called(source, "items", name)
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


def _sub_pipeline(builder: PlanBuilder, step: Any, around: _Around) -> _Lowering:
    _only_construct(step)
    body = yield _sequence(builder, step.pipeline, around)
    inherit = None
    if not step.inherit_context:
        inherit = Callable(_fresh_context, "inherit", name=f"the context of {step.name!r}")
    return builder.group(step.name, body, object=step, inherit=inherit, deadline_s=step.config.deadline_s)


def _fresh_context(value: Any) -> Any:
    from flujo.application._context import default_context

    return default_context(value, None, None)


def _runner(builder: PlanBuilder, step: Any, around: _Around) -> _Lowering:
    body = yield _sequence(builder, step.pipeline, around)
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
        deadline_s=step.config.deadline_s,
    )
