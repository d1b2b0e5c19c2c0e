"""A case's pipeline out of Flujo's own parts, its scripts as callables."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from typing import Any

from flujo import Pipeline, Step, StepConfig, current_step
from flujo.domain.agent_result import FlujoAgentResult
from flujo.domain.backoff import Backoff
from flujo.domain.dsl.conditional import ConditionalStep
from flujo.domain.dsl.loop import LoopStep
from flujo.domain.dsl.map import MapStep
from flujo.domain.dsl.parallel import ParallelStep
from flujo.domain.plugins import PluginOutcome
from flujo.exceptions import NonRetryableError

Json = Any


class ScriptedError(Exception):
    """What scripts raise; carries what the failed call used."""


class _PermanentError(NonRetryableError):
    pass


_PermanentError.__name__ = "ScriptedError"  # the other hosts tell the two apart by a flag only

_CONFLICT = re.compile(
    r"conflicting writes to context path .*?declare on the field how its writes combine", re.S
)


def plain(text: str) -> str:
    """A text as every host would say it."""
    return _CONFLICT.sub("conflicting writes", text)


def value_of(tagged: Json) -> Any:
    """A value of the simulation (`{"int": 1}`) as Python has it."""
    if tagged == "null":
        return None
    [(kind, content)] = tagged.items()
    match kind:
        case "list":
            return [value_of(item) for item in content]
        case "record":
            return {name: value_of(item) for name, item in content}
        case _:
            return content


def seconds(duration: Json) -> float:
    """A duration, in nanoseconds or as seconds and nanoseconds."""
    if isinstance(duration, int):
        return duration / 1e9
    return (duration["secs"] * 10**9 + duration["nanos"]) / 1e9


def dollars(nanos: int) -> float:
    return nanos / 1e9


def feedback_field(field: str) -> str:
    """A context field as Python can name it."""
    return field.replace(".", "_")


class Log:
    """What was called, by lane, and how often each callable was."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[str, str, int, int]]] = defaultdict(list)
        self.counts: dict[tuple[str, str, str, int], int] = defaultdict(int)

    def add(self, role: str, step: str, index: int) -> int:
        """Notes a call; gives how many there were before it in this lane."""
        place = current_step()
        self.calls[place.lane].append((role, step, index, place.attempt))
        key = (place.lane, role, step, index)
        self.counts[key] += 1
        return self.counts[key] - 1


class Scripted:
    """A callable of a case."""

    def __init__(self, log: Log, role: str, step: str, script: list[Json], index: int = 0) -> None:
        self.log = log
        self.role = role
        self.step = step
        self.script = script
        self.index = index
        self.name = f"{step}.{role}{index}"

    def begin(self) -> tuple[Json, int]:
        nth = self.log.add(self.role, self.step, self.index)
        acts = self.script or [{"does": "natural", "takes": 0, "takes_per_unit": 0, "writes": []}]
        return acts[min(nth, len(acts) - 1)], nth


def _outcome(act: Json, nth: int, given: Any) -> Any:
    """What a script makes of an input."""
    does = act["does"]
    number = given if isinstance(given, int) else 0
    match does:
        case "natural":
            return given
        case "fail_odd":
            if number % 2:
                raise ScriptedError(f"call {nth + 1} fails as written")
            return given
        case {"return": value}:
            return value_of(value)
        case {"add": more}:
            return number + more
        case {"fail": {"permanent": permanent, "retry_after": retry_after}}:
            error = (_PermanentError if permanent else ScriptedError)(f"call {nth + 1} fails as written")
            if retry_after is not None:
                error.retry_after = seconds(retry_after)  # type: ignore[union-attr]
            raise error
    raise AssertionError(f"{does} is not for this role")


def _write(context: Any, act: Json) -> None:
    for field, write in act["writes"]:
        [(how, what)] = write.items()
        match how:
            case "set":
                setattr(context, field, value_of(what))
            case "add":
                setattr(context, field, getattr(context, field) + what)
            case _:
                getattr(context, field).append(value_of(what))


async def _take_time(act: Json, given: Any) -> None:
    units = given if isinstance(given, int) and given > 0 else 0
    takes = act["takes"] + act["takes_per_unit"] * units
    if takes:
        await asyncio.sleep(seconds(takes))


class Agent(Scripted):
    """Takes its time, and reports what it used however it ends."""

    async def run(self, given: Any, *, context: Any) -> Any:
        act, nth = self.begin()
        cost, tokens = dollars(act["usage"]["cost"]), act["usage"]["tokens"]
        try:
            await _take_time(act, given)
            _write(context, act)
            output = _outcome(act, nth, given)
        except (Exception, asyncio.CancelledError) as error:
            error.cost_usd, error.token_counts = cost, tokens  # type: ignore[union-attr]
            raise
        return FlujoAgentResult(output, cost_usd=cost, token_counts=tokens)


class Processor(Scripted):
    """Works on a value, in its own time."""

    async def process(self, given: Any, context: Any) -> Any:
        act, nth = self.begin()
        await _take_time(act, given)
        _write(context, act)
        return _outcome(act, nth, given)


class Mapper(Scripted):
    """Works on a value at once."""

    def __call__(self, given: Any) -> Any:
        act, nth = self.begin()
        return _outcome(act, nth, given)


class Condition(Scripted):
    """Chooses a branch."""

    first: str

    def __call__(self, given: Any) -> str:
        act, nth = self.begin()
        match act["does"]:
            case "natural":
                return self.first
            case {"choose": key}:
                return str(key)
        return str(_outcome(act, nth, given))


class NextInput(Scripted):
    """Makes the input of a loop's next iteration."""

    def __call__(self, given: Any, context: Any, iterations: int) -> Any:
        act, nth = self.begin()
        return _outcome(act, nth, given)


class Exit(Scripted):
    """Tells whether a loop has done."""

    def __call__(self, given: Any) -> bool:
        act, nth = self.begin()
        match act["does"]:
            case "natural":
                return True
            case {"exit": done}:
                return bool(done)
            case {"exit_at": least}:
                return isinstance(given, int) and given >= least
        return bool(_outcome(act, nth, given))


class Items(Scripted):
    """Gives the items of a map."""

    def __call__(self, given: Any) -> Any:
        act, nth = self.begin()
        match act["does"]:
            case {"items": items}:
                return [value_of(item) for item in items]
        return _outcome(act, nth, given)


class Redirected:
    """The agent of an identity that a plugin asks for: it gives back who it is and what it was given."""

    def __init__(self, log: Log, step: str, identity: int) -> None:
        self.log = log
        self.step = step
        self.identity = identity

    async def run(self, given: Any) -> Any:
        self.log.add("redirect", self.step, 0)
        return [self.identity, given]


class Plugin(Scripted):
    """Accepts, rejects, replaces or redirects."""

    agents: dict[int, Redirected]

    def validate(self, data: Any, *, context: Any) -> PluginOutcome:
        act, nth = self.begin()
        _write(context, act)
        match act["does"]:
            case "natural":
                return PluginOutcome(success=True)
            case "reject":
                return PluginOutcome(success=False, feedback=f"call {nth + 1} rejects as written")
            case {"redirect": identity}:
                return PluginOutcome(success=False, redirect_to=self.agents[identity])
        return PluginOutcome(success=True, new_solution=_outcome(act, nth, None))


class Validator(Scripted):
    """Accepts or rejects."""

    def validate(self, output: Any, *, context: Any) -> tuple[bool, str | None]:
        act, nth = self.begin()
        _write(context, act)
        match act["does"]:
            case "natural":
                return True, None
            case "reject":
                return False, f"call {nth + 1} rejects as written"
        _outcome(act, nth, output)
        raise AssertionError(act["does"])


def pipeline(spec: Json, log: Log) -> Pipeline[Any, Any]:
    """A part of a case as a pipeline."""
    if "sequence" in spec:
        steps: list[Any] = []
        for part in spec["sequence"]:
            steps.extend(pipeline(part, log).steps if "sequence" in part else [_part(part, log)])
        return Pipeline(steps)
    return Pipeline([_part(spec, log)])


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
    plugins = []
    for index, script in enumerate(node["plugins"]):
        plugin = Plugin(log, "plugin", name, script, index)
        plugin.agents = agents
        plugins.append((plugin, -index))
    known = estimate["cost"] or estimate["tokens"]
    step: Any = Step(
        name,
        Agent(log, "agent", name, node["agent"]),
        plugins=plugins,
        validators=[
            Validator(log, "validator", name, script, index)
            for index, script in enumerate(node["validators"])
        ],
        config=StepConfig(
            max_retries=policy["max_retries"],
            timeout_s=None if policy["timeout"] is None else seconds(policy["timeout"]),
            backoff=_backoff(policy["backoff"]),
            expected_cost_usd=dollars(estimate["cost"]) if known else None,
            expected_tokens=estimate["tokens"] if known else None,
            **_deadline(node),
        ),
        sink_to=None if node["apply"] is None else name,
        persist_feedback_to_context=None if node["persist"] is None else f"{name}_feedback",
        fallback_step=None if node["fallback"] is None else _part(node["fallback"], log),
    )
    for index, script in enumerate(node["prompt"]):
        step.processors.prompt_processors.append(Processor(log, "prompt", name, script, index))
    for index, script in enumerate(node["output"]):
        step.processors.output_processors.append(Processor(log, "output", name, script, index))
    return step


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


def _parallel(node: Json, log: Log) -> Any:
    return ParallelStep(
        node["name"],
        {key: pipeline(body, log) for key, body in node["branches"]},
        on_branch_failure=node["on_failure"],
        max_concurrency=node["max_concurrency"],
        merge_strategy="no_merge" if node["merge"] is None else "context_update",
        **_deadline(node),
    )


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
