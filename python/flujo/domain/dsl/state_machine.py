"""A state machine: pipelines that follow one another as transitions say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from flujo.domain.dsl import _checks
from flujo.domain.dsl._composable import Composable, InputT, OutputT
from flujo.domain.dsl._tracking import Check, TrackedDict, TrackedList
from flujo.domain.dsl.step import Step

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flujo.domain.dsl._step_fields import StepOptions
    from flujo.domain.dsl.pipeline import Pipeline

__all__ = ["StateMachineStep", "Transition"]


@dataclass(frozen=True)
class Transition:
    """From one state to the next.

    Args:
        from_state: The state that has ended; "*" for any.
        to: The state that follows.
        on: How it has ended: "success" or "failure".
        when: Takes the state's output (of a failed one the error) and the context; None always fits.
    """

    from_state: str
    to: str
    on: Literal["success", "failure"] = "success"
    when: Callable[..., object] | None = None


def _state(where: str, key: object, value: object) -> object:
    from flujo.domain.dsl.pipeline import as_pipeline

    _checks.name(f"{where}: key", key)
    return as_pipeline(f"{where}[{key!r}]", value)


_KEYS = ("from", "on", "to", "when")


def _transition(where: str, value: object) -> object:
    if isinstance(value, Transition):
        return value
    allowed = "a Transition or a mapping with 'from', 'to', and where wanted 'on' and 'when'"
    if not isinstance(value, Mapping):
        raise _checks.wrong_type(where, value, allowed)
    unknown = [key for key in value if key not in _KEYS]
    if unknown or "from" not in value or "to" not in value:
        raise _checks.wrong_value(where, dict(value), allowed)
    on, when = value.get("on", "success"), value.get("when")
    if on == "pause":
        raise ValueError(
            f"{where}: a state that waits for a human goes on with the answer, so it never ends with 'pause'; use "
            "on='success' or on='failure'"
        )
    if on not in ("success", "failure"):
        raise _checks.wrong_value(f"{where}.on", on, "'success' or 'failure'")
    if when is not None and not callable(when):
        raise _checks.wrong_type(
            f"{where}.when", when, "a callable of the state's output and the context, or None"
        )
    return Transition(
        str(_checks.name(f"{where}.from", value["from"])),
        str(_checks.name(f"{where}.to", value["to"])),
        on,
        when,
    )


class StateMachineStep(Step[InputT, OutputT]):
    """Runs one state's pipeline after the other, each on the output of the one before, until an end state.

    The transitions of the state that has ended are tried in order; the first that fits says what follows. Where
    none does, `context.next_state` does, if a step has set it; it is set back when it is used. A state that failed
    and has no transition fails the step, as does one that is no end state and leads nowhere.

    Args:
        name: Names the step.
        states: The states by name, each a step or a pipeline.
        start_state: Where it begins.
        end_states: Where it ends, after their pipelines; one that isn't among `states` does nothing.
        transitions: What follows what: `Transition`s, or mappings with "from", "to", "on" and "when".
        **options: The fields of every step, and those of its config.
    """

    kind: ClassVar[str] = "state_machine"
    _fields: ClassVar[tuple[str, ...]] = (*Step._fields, "states", "start_state", "end_states", "transitions")
    _checks: ClassVar[Mapping[str, Check]] = {
        **Step._checks,
        "states": _checks.mapping(
            _state, "a mapping of names to steps or pipelines", "a state machine needs at least one state"
        ),
        "start_state": _checks.name,
        "end_states": _checks.list_of(_checks.name, "a list of names of states"),
        "transitions": _checks.list_of(_transition, "a list of transitions"),
    }

    states: TrackedDict[str, Pipeline[Any, Any]]
    start_state: str
    end_states: TrackedList[str]
    transitions: TrackedList[Transition]

    def __init__(
        self,
        name: str,
        states: Mapping[str, Composable[Any, Any]],
        start_state: str,
        end_states: Iterable[str] = (),
        transitions: Iterable[Transition | Mapping[str, Any]] = (),
        **options: Unpack[StepOptions],
    ) -> None:
        self._fill(
            {
                **self._values(name, None, options),
                "states": states,
                "start_state": start_state,
                "end_states": end_states,
                "transitions": transitions,
            }
        )
        known = self.names()
        named = [("start_state", self.start_state)]
        for transition in self.transitions:
            if transition.from_state != "*":
                named.append(("transitions", transition.from_state))
            named.append(("transitions", transition.to))
        for field, state in named:
            if state not in known:
                raise ValueError(
                    f"StateMachineStep {name!r}: {field} names {state!r}, which is no state; the states are "
                    f"{', '.join(map(repr, known))}"
                )

    def names(self) -> list[str]:
        """Every state: those with a pipeline, then the end states without one."""
        return list(dict.fromkeys([*self.states, *self.end_states]))

    def _input_type(self, levels: int) -> Any:
        start = self.states.get(self.start_state)
        return Any if start is None else start._input_type(levels - 1)
