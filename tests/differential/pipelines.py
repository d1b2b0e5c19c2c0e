"""A case's pipeline out of Flujo's own parts."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

from pydantic import BeforeValidator

from flujo import Pipeline, Step, StepConfig, UsageLimits
from flujo.domain.backoff import Backoff
from flujo.domain.dsl.conditional import ConditionalStep
from flujo.domain.dsl.human import HumanInTheLoopStep
from flujo.domain.dsl.loop import LoopStep
from flujo.domain.dsl.map import MapStep
from flujo.domain.dsl.parallel import ParallelStep
from flujo.domain.dsl.router import DynamicParallelRouterStep
from flujo.domain.dsl.state_machine import StateMachineStep, Transition

from .scripted import (
    Accept,
    Agent,
    Condition,
    Exit,
    Items,
    Log,
    Mapper,
    Next,
    NextInput,
    Plugin,
    Processor,
    Redirected,
    Scripted,
    Validator,
    dollars,
    seconds,
    value_of,
)

Json = Any


class InexpressibleError(Exception):
    """A case that has no counterpart in Python."""


def pipeline(spec: Json, log: Log) -> Pipeline[Any, Any]:
    """A part of a case as a pipeline."""
    if "sequence" in spec and len(spec["sequence"]) == 1:
        [spec] = spec["sequence"]
    if "guard" in spec:
        node = spec["guard"]
        return Pipeline(_steps(node["body"], log), on_failure=pipeline(node["handler"], log))
    return Pipeline(_steps(spec, log))


def _steps(spec: Json, log: Log) -> list[Any]:
    if "sequence" in spec:
        return [step for part in spec["sequence"] for step in _steps(part, log)]
    return [_part(spec, log)]


def _part(spec: Json, log: Log) -> Any:
    [(kind, node)] = spec.items()
    match kind:
        case "step":
            return _step(node, log)
        case "conditional":
            return _conditional(node, log)
        case "parallel":
            return _parallel(node, log)
        case "map":
            return _map(node, log)
        case "loop":
            return _loop(node, log)
        case "states":
            return _states(node, log)
        case "human":
            return _human(node, log)
        case "guard":
            return _guarded(node, log)
        case "group":
            return pipeline(node["body"], log).as_step(node["name"], **_deadline(node))
    raise AssertionError(kind)


def _deadline(node: Json) -> dict[str, Any]:
    return {} if node["deadline"] is None else {"deadline_s": seconds(node["deadline"])}


def _backoff(backoff: Json) -> Backoff:
    match backoff:
        case "none":
            return Backoff.none()
        case {"fixed": wait}:
            return Backoff.fixed(seconds(wait))
        case {"exponential": waits}:
            return Backoff.exponential(
                seconds(waits["initial"]), waits["factor"], seconds(waits["max"]), waits["jitter"]
            )
    raise AssertionError(backoff)


def _step(node: Json, log: Log) -> Any:
    name, policy, estimate = node["name"], node["policy"], node["estimate"]
    agents = {identity: Redirected(log, name, identity) for identity in (1, 2)}
    for identity, limit in log.agent_rates.items():
        agents[identity].rate_limit = limit
    plugins = []
    for index, script in enumerate(node["plugins"]):
        plugin = Plugin(log, "plugin", name, script, index)
        plugin.agents = agents
        plugins.append((plugin, -index))
    known = estimate["cost"] or estimate["tokens"]
    options: dict[str, Any] = {
        "plugins": plugins,
        "validators": [
            Validator(log, "validator", name, script, index)
            for index, script in enumerate(node["validators"])
        ],
        "config": StepConfig(
            max_retries=policy["max_retries"],
            timeout_s=None if policy["timeout"] is None else seconds(policy["timeout"]),
            backoff=_backoff(policy["backoff"]),
            expected_cost_usd=dollars(estimate["cost"]) if known else None,
            expected_tokens=estimate["tokens"] if known else None,
            rate_limit=next(map(log.rate_limit, node["rates"]), None),
            **_deadline(node),
        ),
        "sink_to": None if node["apply"] is None else name,
        "persist_feedback_to_context": None if node["persist"] is None else f"{name}_feedback",
        "fallback_step": None if node["fallback"] is None else _alone(node["fallback"], log),
    }
    step: Any
    if node["body"] is None:
        step = Step(name, Agent(log, "agent", name, node["agent"]), **options)
    else:
        # Limits, of whatever kind, give it a step's life where none of its own options does.
        step = pipeline(node["body"], log).as_step(name, usage_limits=UsageLimits(), **options)
    for index, script in enumerate(node["prompt"]):
        step.processors.prompt_processors.append(Processor(log, "prompt", name, script, index))
    for index, script in enumerate(node["output"]):
        step.processors.output_processors.append(Processor(log, "output", name, script, index))
    return step


def _alone(spec: Json, log: Log) -> Any:
    """A part that stands where one step does."""
    if "sequence" in spec:
        if len(spec["sequence"]) > 1:
            raise InexpressibleError("several parts in the place of one step")
        return _alone(spec["sequence"][0], log)
    return _part(spec, log)


def _guarded(node: Json, log: Log) -> Any:
    """A handler's part among others: it belongs to one step."""
    step = _alone(node["body"], log)
    if step.failure_route is not None:
        raise InexpressibleError("two handlers of one step")
    return step.on_failure(pipeline(node["handler"], log))


def _conditional(node: Json, log: Log) -> Any:
    name = node["name"]
    condition = Condition(log, "condition", name, node["condition"])
    condition.first = node["branches"][0][0]

    def mapper(field: str, role: str) -> Mapper | None:
        return None if node[field] is None else Mapper(log, role, name, node[field])

    return ConditionalStep(
        name,
        condition_callable=condition,
        branches={key: pipeline(body, log) for key, body in node["branches"]},
        default_branch_pipeline=None if node["default"] is None else pipeline(node["default"], log),
        branch_input_mapper=mapper("input_mapper", "branch_input"),
        branch_output_mapper=mapper("output_mapper", "branch_output"),
        **_deadline(node),
    )


def _loop(node: Json, log: Log) -> Any:
    name = node["name"]

    def mapper(field: str, role: str, kind: type[Scripted] = Mapper) -> Any:
        return None if node[field] is None else kind(log, role, name, node[field])

    return LoopStep(
        name,
        pipeline(node["body"], log),
        exit_condition_callable=Exit(log, "exit", name, node["exit"]),
        max_loops=node["max_loops"],
        initial_input_to_loop_body_mapper=mapper("first_input", "loop_input"),
        iteration_input_mapper=mapper("next_input", "next_input", NextInput),
        loop_output_mapper=mapper("output", "loop_output"),
        on_body_failure=node["on_failure"],
        **_deadline(node),
    )


def _states(node: Json, log: Log) -> Any:
    name, states = node["name"], node["states"]
    names = [state for state, _ in states]
    following = Next(log, "transition", name, node["next"])
    following.following = dict(pairwise(names))
    step: Any = StateMachineStep(
        name,
        {state: pipeline(body, log) for state, body in states if body is not None},
        start_state=names[0],
        end_states=[names[-1]],
        **_deadline(node),
    )
    # A transition that is added later may lead nowhere, which shows when it is taken.
    step.transitions.extend(
        Transition(state, to, on, following.fits(state, on, to, is_first=place == 0))
        for state in names
        for on in ("success", "failure")
        for place, to in enumerate([*names, "nowhere"])
    )
    return step


def _human(node: Json, log: Log) -> Any:
    name = node["name"]
    schema: Any = None
    if node["accept"] is not None:
        schema = Annotated[Any, BeforeValidator(Accept(log, "accept", name, node["accept"]))]
    return HumanInTheLoopStep(name, input_schema=schema, **_deadline(node))


def answers(spec: Json) -> dict[str, list[Any]]:
    """What is answered by step, each time its question is asked; the last one again and again."""
    found: dict[str, list[Any]] = {}
    parts = [spec]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts.extend(part)
        elif isinstance(part, dict):
            if "human" in part:
                node = part["human"]
                replies = node["question"][0]["replies"]
                found[node["name"]] = [value_of(reply["answer"]) for reply in replies]
            parts.extend(part.values())
    return found


def _parallel(node: Json, log: Log) -> Any:
    options: dict[str, Any] = {
        "on_branch_failure": node["on_failure"],
        "max_concurrency": node["max_concurrency"],
        "merge_strategy": "no_merge" if node["merge"] is None else "context_update",
        **_deadline(node),
    }
    branches = {key: pipeline(body, log) for key, body in node["branches"]}
    if node["router"] is None:
        return ParallelStep(node["name"], branches, **options)
    body, _ = node["router"]
    return DynamicParallelRouterStep(node["name"], pipeline(body, log), branches, **options)


def _map(node: Json, log: Log) -> Any:
    name = node["name"]
    return MapStep(
        name,
        pipeline(node["body"], log),
        iterable_input=Items(log, "items", name, node["items"]),
        max_concurrency=node["max_concurrency"],
        on_item_failure="fail" if node["on_failure"] == "propagate" else "none",
        **_deadline(node),
    )
