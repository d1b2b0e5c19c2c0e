"""The scripts of a case as callables."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from flujo import RateLimit, current_step
from flujo.domain.agent_result import FlujoAgentResult
from flujo.domain.plugins import PluginOutcome
from flujo.domain.results import StepFailure
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

    cases = count()

    def __init__(self) -> None:
        self.case = next(self.cases)
        self.calls: dict[str, list[tuple[str, str, int, int]]] = defaultdict(list)
        self.counts: dict[tuple[str, str, str, int], int] = defaultdict(int)
        self.under_way: list[tuple[str, tuple[str, str, int, int]]] = []
        self.agent_rates: dict[int, RateLimit] = {}
        """The limits of agents that plugins ask for, by their identity."""

    def rate_limit(self, limit: Json) -> RateLimit:
        """A limit with a name of its own: what a process runs shares limits by name."""
        return RateLimit(**{**limit, "name": f"{limit['name']}, case {self.case}"})

    def add(self, role: str, step: str, index: int) -> int:
        """Notes a call; gives how many there were before it in this lane."""
        place = current_step()
        return self.note(place.lane, role, step, index, place.attempt)

    def note(self, lane: str, role: str, step: str, index: int, attempt: int) -> int:
        """Notes a call of this place."""
        self.calls[lane].append((role, step, index, attempt))
        key = (lane, role, step, index)
        self.counts[key] += 1
        return self.counts[key] - 1

    @contextmanager
    def taking_time(self) -> Iterator[None]:
        """The call that was noted last is under way."""
        lane = current_step().lane
        call = (lane, self.calls[lane][-1])
        self.under_way.append(call)
        try:
            yield
        finally:
            if call in self.under_way:
                self.under_way.remove(call)

    def break_off(self) -> None:
        """The calls under way never end: they will be made again."""
        for lane, (role, step, index, attempt) in self.under_way:
            calls = self.calls[lane]
            del calls[len(calls) - 1 - calls[::-1].index((role, step, index, attempt))]
            self.counts[(lane, role, step, index)] -= 1
        self.under_way = []


class Scripted:
    """A callable of a case."""

    def __init__(self, log: Log, role: str, step: str, script: list[Json], index: int = 0) -> None:
        self.log = log
        self.role = role
        self.step = step
        self.script = script
        self.index = index
        self.name = f"{step}.{role}{index}"

    def add(self) -> int:
        return self.log.add(self.role, self.step, self.index)

    def begin(self) -> tuple[Json, int]:
        nth = self.add()
        acts = self.script or [{"does": "natural", "takes": 0, "takes_per_unit": 0, "writes": []}]
        return acts[min(nth, len(acts) - 1)], nth


@dataclass(eq=False)
class FailedStep:
    """Equal to the name of the step that a handler is told of: the one with the handler, or in it the one that failed,
    which the simulation names. Steps hand it on in place of the failure, whose times and exceptions are of one lane
    alone: two lanes that write the same one don't contradict each other.
    """

    names: list[str]

    @classmethod
    def of(cls, failure: StepFailure) -> FailedStep:
        names = {failure.step}
        inside = list(failure.history)
        while inside:
            step = inside.pop()
            names.add(step.name)
            inside += [*step.step_history, *step.items]
        return cls(sorted(names))

    def __eq__(self, other: object) -> bool:
        return self.names == other.names if isinstance(other, FailedStep) else other in self.names


def _outcome(act: Json, nth: int, given: Any) -> Any:
    """What a script makes of an input."""
    does = act["does"]
    number = given if isinstance(given, int) else 0
    match does:
        case "natural":
            return FailedStep.of(given) if isinstance(given, StepFailure) else given
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
                error.retry_after = seconds(retry_after)
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
            with self.log.taking_time():
                await _take_time(act, given)
            _write(context, act)
            output = _outcome(act, nth, given)
        except (Exception, asyncio.CancelledError) as error:
            error.cost_usd, error.token_counts = cost, tokens
            raise
        return FlujoAgentResult(output, cost_usd=cost, token_counts=tokens)


class Processor(Scripted):
    """Works on a value, in its own time."""

    async def process(self, given: Any, context: Any) -> Any:
        act, nth = self.begin()
        with self.log.taking_time():
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


class Next(Scripted):
    """Names the state that follows: the first transition out of a state asks for it, the others look."""

    following: dict[str, str]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.said: dict[str, str | None] = {}

    def fits(self, state: str, on: str, to: str, *, is_first: bool) -> Callable[[Any], bool]:
        """The condition of one transition."""

        def condition(given: Any) -> bool:
            lane = current_step().lane
            if is_first:
                self.said[lane] = self._choose(self.following.get(state) if on == "success" else None)
            return self.said[lane] == to

        return condition

    def _choose(self, natural: str | None) -> str | None:
        act, nth = self.begin()
        match act["does"]:
            case "natural":
                return natural
            case {"choose": state}:
                return str(state)
        return str(_outcome(act, nth, None))


class Accept(Scripted):
    """Takes an answer or rejects it, before the run goes on."""

    def add(self) -> int:
        return self.log.note("", self.role, self.step, self.index, 0)

    def __call__(self, given: Any) -> Any:
        act, nth = self.begin()
        try:
            return _outcome(act, nth, given)
        except (ScriptedError, _PermanentError) as error:
            raise ValueError(str(error)) from error


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

    rate_limit: RateLimit | None = None

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
