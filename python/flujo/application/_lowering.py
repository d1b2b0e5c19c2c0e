"""From a definition to a plan: each node is described to the engine, children first.

Nesting is followed by generators on a list, not by calls, so that its depth costs no call stack.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

from flujo._native import Callable, CompiledPlan, PlanBuilder, has_price
from flujo.application._callables import called, called_by_keyword, describe_facts, method_of, name_of
from flujo.application._stream import StreamingAgent
from flujo.application._templates import input_template
from flujo.domain.dsl._signature import CallableFacts, analyse_callable

Lowering = Generator[Any, Any, Any]


class Around(NamedTuple):
    """What is around the place that is being lowered."""

    fallbacks: dict[int, Any]
    """The steps whose fallback it is, outermost first, by identity."""
    pipelines: dict[int, Any]
    """The pipelines it is in, by identity."""
    cached: dict[int, Any]
    """How results of steps that a `CacheStep` holds are kept, by the step's identity."""
    invariants: tuple[Any, ...] = ()
    """Those of the pipeline it is in."""

    def policy(self, step: Any) -> Any:
        """How the results of a step are kept; None where they aren't."""
        return self.cached.get(id(step), step.cache) if self.cached else step.cache


def compile_pipeline(pipeline: Any, name: str) -> CompiledPlan:
    """The plan of a pipeline.

    Raises:
        MissingAgentError: a step has no agent.
        ConfigurationError: a fallback leads back to a step it belongs to, or a step can't run as it is.
        ValueError: the engine refuses the pipeline, for instance because it is empty.
    """
    builder = PlanBuilder()
    stack: list[Lowering] = [sequence(builder, pipeline, Around({}, {}, {}))]
    answer: Any = None
    while stack:
        try:
            child = stack[-1].send(answer)
        except StopIteration as done:
            stack.pop()
            answer = done.value
        else:
            stack.append(child)
            answer = None
    return builder.finish(name, answer)


def sequence(builder: PlanBuilder, pipeline: Any, around: Around) -> Lowering:
    """The node of a pipeline."""
    if id(pipeline) in around.pipelines:
        from flujo.exceptions import ConfigurationError

        named = "a pipeline" if pipeline.name is None else f"pipeline {pipeline.name!r}"
        raise ConfigurationError(
            f"{named} contains itself and would never end", suggestion="remove the inner occurrence"
        )
    around.pipelines[id(pipeline)] = pipeline
    children = []
    inside = around._replace(invariants=tuple(pipeline.static_invariants))
    for step in pipeline.steps:
        if step.kind == "step" and step.fallback_step is None and step.failure_route is None:
            children.append(
                _with_config(builder, step, _leaf(builder, step, inside))
            )  # most are, and need no turn
        else:
            children.append((yield _node(builder, step, inside)))
    del around.pipelines[id(pipeline)]
    made = builder.sequence(children)
    if pipeline.on_failure is not None:
        made = yield _guarded(builder, made, pipeline.on_failure, around)
    if pipeline.optimization is not None:
        builder.optimize(made, pipeline.optimization)
    return made


def _node(builder: PlanBuilder, step: Any, around: Around) -> Lowering:
    if step.kind == "cache":
        around.cached[id(step.wrapped_step)] = step.cache
        made = yield _node(builder, step.wrapped_step, around)
        around.cached.pop(id(step.wrapped_step), None)
    elif step.kind == "step":
        made = yield _step(builder, step, around)
    elif step.kind == "human":
        from flujo.application._human import lower_human

        _refuse_cached_answers(step, around)

        made = yield lower_human(builder, step, around)
    else:
        from flujo.application._constructs import construct

        made = yield construct(builder, step, around)
    if step.failure_route is not None:
        made = yield _guarded(builder, made, step.failure_route, around)
    return _with_config(builder, step, made)


def _with_config(builder: PlanBuilder, step: Any, made: int) -> int:
    if step.config.optimization is not None:
        builder.optimize(made, step.config.optimization)
    return made


def _guarded(builder: PlanBuilder, body: int, handler: Any, around: Around) -> Lowering:
    handled = yield sequence(builder, handler, around)
    return builder.guard(body, Callable(_same, "route", name="what failed"), handled)


def _same(value: Any) -> Any:
    return value


# --- steps


def _step(builder: PlanBuilder, step: Any, around: Around) -> Lowering:
    fallback = None
    if step.fallback_step is not None:
        fallback = yield _fallback(builder, step, around)
    return _leaf(builder, step, around, fallback)


def _leaf(builder: PlanBuilder, step: Any, around: Around, fallback: int | None = None) -> int:
    """A step that an agent works for. Only what differs from the defaults is told, since most steps are plain."""
    config = step.config
    if config.execution_mode == "background":
        from flujo.exceptions import ConfigurationError

        raise ConfigurationError(
            f"step {step.name!r} has execution_mode='background', which this version doesn't have",
            suggestion="give the step to a runner of its own and start that: await runner.start(x)",
        )
    facts = _facts(step)
    if facts is None:
        from flujo.exceptions import MissingAgentError

        raise MissingAgentError(
            f"step {step.name!r} has no agent", suggestion="give it one: Step(name, agent) or @step"
        )
    settings: dict[str, Any] = {}
    if config.temperature is not None and facts.accepts_temperature:
        settings["temperature"] = config.temperature
    if config.top_k is not None and facts.accepts_top_k:
        settings["top_k"] = config.top_k
    if config.top_p is not None and facts.accepts_top_p:
        settings["top_p"] = config.top_p
    life = _life(step, around, fallback)
    if getattr(step.agent, "pricing", None) == "unknown" and not has_price(step.agent):
        life["unpriced"] = True
    if limits := _rate_limits(step):
        life["rate_limits"] = limits
    retry_on = tuple(config.retry_on) if config.retry_on else None
    agent = describe_facts(facts, settings, retry_on, step.agent)
    return builder.step(step.name, agent, max_retries=config.max_retries, **life)


def _rate_limits(step: Any) -> list[Any]:
    """The limits of a step and of its agent."""
    own, agents = step.config.rate_limit, getattr(step.agent, "rate_limit", None)
    if own is None and agents is None:
        return []
    return [limit for limit in (own, agents) if limit is not None and hasattr(limit, "requests_per_minute")]


def life_of(builder: PlanBuilder, step: Any, around: Around) -> Lowering:
    """What surrounds a step's work, as keywords of `PlanBuilder.step`."""
    fallback = None
    if step.fallback_step is not None:
        fallback = yield _fallback(builder, step, around)
    return _life(step, around, fallback)


def _fallback(builder: PlanBuilder, step: Any, around: Around) -> Lowering:
    outer = around.fallbacks
    led_back = step if id(step) in outer else step.fallback_step
    outer[id(step)] = step
    if led_back is step or id(led_back) in outer:
        from flujo.exceptions import ConfigurationError

        names = " -> ".join(repr(member.name) for member in (*outer.values(), led_back))
        raise ConfigurationError(
            f"the fallbacks lead back to where they began: {names}",
            suggestion="end the chain with a step that has no fallback",
        )
    made = yield _node(builder, step.fallback_step, around)
    del outer[id(step)]
    return made


def _life(step: Any, around: Around, fallback: int | None) -> dict[str, Any]:
    life: dict[str, Any] = {"object": step}
    config, processors = step.config, step.__dict__.get("processors")
    # Of a construct: of each call of an agent that its plugins ask for.
    if config.expected_cost_usd is not None:
        life["expected_cost_usd"] = config.expected_cost_usd
    if config.expected_tokens is not None:
        life["expected_tokens"] = config.expected_tokens
    if step.input is not None or (processors is not None and processors.prompt_processors):
        life["prompt_processors"] = [
            *input_template(step.input, f"the input of step {step.name!r}"),
            *(_processor(p) for p in (processors.prompt_processors if processors else ())),
        ]
    if processors is not None and processors.output_processors:
        life["output_processors"] = [_processor(p) for p in processors.output_processors]
    if step.plugins:
        life["plugins"] = [_plugin(p) for p, _ in sorted(step.plugins, key=lambda pair: -pair[1])]
    if step.validators:
        life["validators"] = [_validator(v, step) for v in step.validators]
    invariants = step.static_invariants or around.invariants
    if invariants or step.updates_context or step.sink_to is not None:
        life["apply"] = _apply(step, (*step.static_invariants, *around.invariants))
    persist = _persist(step)
    if persist is not None:
        life["persist"] = persist
    if config.timeout_s is not None:
        life["timeout_s"] = config.timeout_s
    if config.deadline_s is not None:
        life["deadline_s"] = config.deadline_s
    if config.backoff is not None:
        life["backoff"] = _backoff(config.backoff)
    if fallback is not None:
        life["fallback"] = fallback
    if step.usage_limits is not None:
        life["usage_limits"] = amounts(step.usage_limits)
    if step.meta:
        life["on_rejection"] = _on_rejection(step)
    policy = around.policy(step)
    if policy is not None:
        from flujo.application._caching import caching

        life.update(caching(step, policy))
    return life


def _on_rejection(step: Any) -> str:
    if not step.meta.get("is_validation_step"):
        return "fail"
    return "discard" if step.meta.get("strict_validation") else "pass_on"


def amounts(limits: Any) -> tuple[Any, int | None, int | None]:
    """Usage limits as the engine takes them."""
    return limits.total_cost_usd_limit, limits.total_tokens_limit, limits.total_requests_limit


def _facts(step: Any) -> CallableFacts | None:
    facts: CallableFacts | None = step.facts()
    generate = getattr(step.agent, "stream", None)
    if not callable(generate) or isinstance(step.agent, type):
        return facts
    has_run = callable(step.agent) or callable(getattr(step.agent, "run", None))
    if facts is None or not has_run or facts.is_generator or facts.is_async_generator:
        run, known = None, analyse_callable(generate, inline=step.inline, is_agent=True)
        if known.is_generator:
            return known  # a worker thread runs it from beginning to end
    else:
        run, known = facts.call, facts
    streaming = StreamingAgent(known.name, run, generate, blocks=not (known.is_async or known.inline))
    return known._replace(call=streaming, is_async=True, is_generator=False, is_async_generator=False)


def _backoff(backoff: Any) -> tuple[float, float, float, float] | None:
    if backoff is None or backoff.initial_s == 0:
        return None
    return backoff.initial_s, backoff.factor, backoff.max_s, backoff.jitter


def _refuse_cached_answers(step: Any, around: Around) -> None:
    if around.policy(step) is not None:
        from flujo.exceptions import ConfigurationError

        raise ConfigurationError(
            f"step {step.name!r} asks somebody, and answers are never cached",
            suggestion="leave the question out of what is cached",
        )


def _processor(processor: Any) -> Callable:
    return called(method_of(processor, "process"), "value", name_of(processor))


def _plugin(plugin: Any) -> Callable:
    return called_by_keyword(method_of(plugin, "validate"), "plugin", name_of(plugin))


def _validator(validator: Any, step: Any) -> Callable:
    path = step.persist_validation_results_to
    target, name = method_of(validator, "validate"), name_of(validator)
    if path is not None:
        from flujo.application._effects import PersistVerdict

        takes_context = analyse_callable(target).accepts_context
        recorded = PersistVerdict(name, target, path, takes_context=takes_context)
        return Callable(recorded, "validator", name=name, context_keyword="context")
    return called_by_keyword(target, "validator", name)


def _apply(step: Any, invariants: tuple[Any, ...]) -> Callable:
    effect: Any = None
    if step.updates_context or step.sink_to is not None:
        from flujo.application._effects import ApplyOutput

        effect = ApplyOutput(step.name, updates=step.updates_context, sink_to=step.sink_to)
    if invariants:
        from flujo.application._invariants import HoldInvariants

        effect = HoldInvariants(step.name, invariants, after=effect)
    return Callable(effect, "effect", name=f"{step.name}: context update", context_by_position=True)


def _persist(step: Any) -> Callable | None:
    feedback_to, validation_to = step.persist_feedback_to_context, step.persist_validation_results_to
    if feedback_to is None and validation_to is None and not step.failure_handlers:
        return None
    effect: Any = None
    if feedback_to is not None or validation_to is not None:
        from flujo.application._effects import PersistFeedback

        effect = PersistFeedback(feedback_to, validation_to)
    name = f"{step.name}: feedback"
    if step.failure_handlers:
        from flujo.application._effects import TellHandlers

        told = TellHandlers(tuple(step.failure_handlers), effect)
        return Callable(told, "told", name=name, context_by_position=told.takes_context)
    return Callable(effect, "effect", name=name, context_by_position=True)
