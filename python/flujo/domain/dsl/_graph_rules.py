"""The rules that a pipeline's definition is checked by, without running anything.

Each finding has a rule's id, the place, what is wrong, and the cure. Walks with a stack of its own, so that
no depth of nesting is too much, and visits a pipeline that stands in several places once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from flujo.domain.dsl._composable import Composable
from flujo.domain.dsl._types import fits, type_name

if TYPE_CHECKING:
    from flujo.domain.dsl.conditional import ConditionalStep
    from flujo.domain.dsl.pipeline import Pipeline
    from flujo.domain.dsl.step import Step
    from flujo.domain.validation import ValidationReport

__all__ = ["bodies", "validate"]

Visit: TypeAlias = "tuple[Composable[Any, Any], _Place | None, Any, bool]"
"""A pipeline or a fallback, its place, its input's type, and whether the walk enters or leaves it."""


def validate(pipeline: Pipeline[Any, Any], *, raise_on_error: bool = False) -> ValidationReport:
    """Everything that is wrong, or looks wrong, in a pipeline's definition.

    Raises:
        ConfigurationError: there are errors and `raise_on_error` is set.
    """
    from flujo.domain.validation import ValidationReport

    report = ValidationReport()
    _Walk(report).run(pipeline)
    if raise_on_error and report.errors:
        from flujo.exceptions import ConfigurationError

        named = "the pipeline" if pipeline.name is None else f"pipeline {pipeline.name!r}"
        found = "\n".join(f"  {finding}" for finding in report.errors)
        raise ConfigurationError(f"{named} can't run:\n{found}")
    return report


def bodies(step: Step[Any, Any]) -> Iterator[tuple[str, Pipeline[Any, Any]]]:
    """The pipelines inside of a step, each with what tells it from the others: a branch's key, or nothing."""
    branches = getattr(step, "branches", None)
    if branches is not None:
        yield from ((str(key), branch) for key, branch in branches.items())
    default = getattr(step, "default_branch_pipeline", None)
    if default is not None:
        yield "default", default
    for field, title in _BODIES.items():
        body = getattr(step, field, None)
        if body is not None:
            yield title, body
    states = getattr(step, "states", None)
    if states is not None:
        yield from states.items()
    router = getattr(step, "router_agent", None)
    if step.kind == "router" and isinstance(router, Composable):
        from flujo.domain.dsl.pipeline import as_pipeline

        yield "router", as_pipeline("router_agent", router)


_BODIES = {
    "pipeline": "",
    "loop_body_pipeline": "",
    "generator_pipeline": "generator",
    "critic_pipeline": "critic",
    "failure_route": "on_failure",
}

_MAKES_OWN_INPUTS = frozenset({"map", "refine", "state_machine"})
"""Kinds of constructs whose bodies don't get what the construct is given."""

_MAPPED_INPUTS = ("branch_input_mapper", "initial_input_to_loop_body_mapper")


class _Place(NamedTuple):
    """A place in the definition. Spelled out for findings only, as a deep one is long."""

    outer: _Place | None
    name: str

    def __str__(self) -> str:
        names: list[str] = []
        place: _Place | None = self
        while place is not None:
            names.append(place.name)
            place = place.outer
        return "/".join(reversed(names))


class _Walk:
    """One pass over a definition. Steps and pipelines are told apart by the held object."""

    def __init__(self, report: ValidationReport) -> None:
        self.report = report
        self.active: set[int] = set()
        """The pipelines that enclose the place the walk is at."""
        self.done: dict[int, object] = {}
        """What was visited; holds the objects, so that their ids stay theirs."""
        self.followed: dict[int, object] = {}
        """The steps whose fallbacks were followed."""

    def run(self, pipeline: Pipeline[Any, Any]) -> None:
        from flujo.domain.dsl.pipeline import Pipeline
        from flujo.domain.dsl.step import Step

        todo: list[Visit] = [(pipeline, None, Any, True)]
        while todo:
            node, path, given, entering = todo.pop()
            if not entering:
                self.active.discard(id(node))
            elif isinstance(node, Pipeline):
                if id(node) in self.active:
                    self._contains_itself(node, path)
                elif id(node) not in self.done:
                    self.done[id(node)] = node
                    self.active.add(id(node))
                    todo.append((node, path, None, False))
                    todo.extend(reversed(self._sequence(node, path, given)))
            elif isinstance(node, Step) and id(node) not in self.done:
                todo.extend(reversed(self._step(node, path, given)))

    def _sequence(self, pipeline: Pipeline[Any, Any], path: _Place | None, given: Any) -> list[Visit]:
        if not pipeline.steps:
            self._warn(
                "V-B2",
                path,
                None,
                "the pipeline has no steps",
                "its output is its input; add a step if more is meant",
            )
        found: list[Visit] = []
        if pipeline.on_failure is not None:
            found.append((pipeline.on_failure, _Place(path, "on_failure"), Any, True))
        by_name: dict[str, Step[Any, Any]] = {}
        before: Step[Any, Any] | None = None
        for step in pipeline.steps:
            place = _Place(path, step.name)
            if by_name.setdefault(step.name, step) is not step:
                self._error("V-N1", place, step, "two different steps have this name", "rename one of them")
            taken = step.input_type
            if step.kind in ("step", "map") and not fits(given, taken):
                source = "the input" if before is None else f"step {before.name!r}"
                self._error(
                    "V-A2",
                    place,
                    step,
                    f"{source} gives {type_name(given)}, but the step takes {type_name(taken)}",
                    "change one of the annotations, or put a step between them that converts",
                )
            if id(step) not in self.done:
                found.extend(self._step(step, place, given))
            before, given = step, step.output_type
        return found

    def _step(self, step: Step[Any, Any], place: _Place | None, given: Any) -> list[Visit]:
        self.done[id(step)] = step
        if step.kind == "step":
            self._agent(step, place)
        if step.kind in ("parallel", "router", "conditional") and not getattr(step, "branches", True):
            self._error("V-B1", place, step, "the step has no branches", "give it at least one branch")
        if step.kind == "conditional":
            self._reach(step, place)  # type: ignore[arg-type]
        self._settings(step, place)
        found: list[Visit] = []
        mapped = any(getattr(step, field, None) is not None for field in _MAPPED_INPUTS)
        passed = Any if mapped or step.kind in _MAKES_OWN_INPUTS else given
        for title, body in bodies(step):
            takes = Any if body is step.failure_route else passed
            found.append((body, _Place(place, title) if title else place, takes, True))
        if step.fallback_step is not None:
            self._fallbacks(step, place)
            found.append((step.fallback_step, _Place(place, "fallback"), Any, True))
        return found

    def _agent(self, step: Step[Any, Any], place: _Place | None) -> None:
        if step.agent is None:
            self._error("V-A1", place, step, "the step has no agent", "give it one: Step(name, agent)")
            return
        facts = step.facts()
        if facts is not None and facts.unfilled:
            self._error(
                "V-A3",
                place,
                step,
                f"nothing fills the parameter {facts.unfilled[0]!r} of {facts.name}",
                "give it a default, or bind it with functools.partial",
            )

    def _fallbacks(self, step: Step[Any, Any], place: _Place | None) -> None:
        chain: dict[int, Step[Any, Any]] = {}
        following: Step[Any, Any] | None = step
        while following is not None and id(following) not in chain and id(following) not in self.followed:
            chain[id(following)] = following
            following = following.fallback_step
        self.followed.update(chain)
        if following is not None and id(following) in chain:
            names = " -> ".join(repr(one.name) for one in [*chain.values(), following])
            self._error(
                "V-F1", place, step, f"its fallbacks go round in a circle: {names}", "take one of them away"
            )

    def _reach(self, step: ConditionalStep[Any, Any], place: _Place | None) -> None:
        """Compare the branches with the values that the condition is declared to give."""
        from flujo.domain.dsl._signature import analyse_callable
        from flujo.domain.dsl._types import every_value

        if step.condition_callable is None:
            return
        values = every_value(analyse_callable(step.condition_callable).output_type)
        if values is None:
            return
        for key in step.branches:
            if key not in values:
                self._warn(
                    "V-R1",
                    place,
                    step,
                    f"branch {key!r} can't be reached: the condition gives {_listed(values)}",
                    "remove the branch, or correct its key or the condition's annotation",
                )
        missing = [value for value in values if value not in step.branches]
        if missing and step.default_branch_pipeline is None:
            self._warn(
                "V-R2",
                place,
                step,
                f"no branch for {_listed(missing)}, which the condition may give, and no default",
                "add the branch, or default_branch_pipeline=",
            )

    def _settings(self, step: Step[Any, Any], place: _Place | None) -> None:
        config = step.config
        if (
            config.timeout_s is not None
            and config.deadline_s is not None
            and config.timeout_s > config.deadline_s
        ):
            self._warn(
                "V-T1",
                place,
                step,
                f"timeout_s={config.timeout_s} of one attempt exceeds deadline_s={config.deadline_s} of all",
                "shorten timeout_s, or raise deadline_s",
            )
        if config.max_retries == 0 and (config.retry_on is not None or config.backoff is not None):
            self._warn(
                "V-T2",
                place,
                step,
                "retry_on and backoff have no effect with max_retries=0",
                "raise max_retries, or leave them out",
            )
        if step.updates_context and not _may_update(step.output_type):
            self._warn(
                "V-C1",
                place,
                step,
                f"updates_context needs a dict or a model, but the step gives {type_name(step.output_type)}",
                "return a dict of context fields, or use sink_to= for a single value",
            )

    def _contains_itself(self, pipeline: Pipeline[Any, Any], path: _Place | None) -> None:
        named = "a pipeline" if pipeline.name is None else f"pipeline {pipeline.name!r}"
        self._error(
            "V-S1", path, None, f"{named} contains itself and would never end", "remove the inner occurrence"
        )

    def _error(
        self, rule: str, path: _Place | None, step: Step[Any, Any] | None, message: str, cure: str
    ) -> None:
        self._note("error", rule, path, step, message, cure)

    def _warn(
        self, rule: str, path: _Place | None, step: Step[Any, Any] | None, message: str, cure: str
    ) -> None:
        self._note("warning", rule, path, step, message, cure)

    def _note(
        self,
        severity: Literal["error", "warning"],
        rule: str,
        path: _Place | None,
        step: Step[Any, Any] | None,
        message: str,
        cure: str,
    ) -> None:
        from flujo.domain.validation import ValidationFinding

        found = self.report.errors if severity == "error" else self.report.warnings
        name = None if step is None else step.name
        found.append(ValidationFinding(rule, severity, message, name, cure, location_path=path and str(path)))


def _may_update(declared: Any) -> bool:
    from collections.abc import Mapping

    from pydantic import BaseModel

    return fits(declared, Mapping) or fits(declared, BaseModel)


def _listed(values: list[Any]) -> str:
    return ", ".join(map(repr, values))
