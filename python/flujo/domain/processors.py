"""Processors change what goes into an agent and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from flujo.domain.dsl._tracking import Definition, TrackedList

__all__ = ["AgentProcessors", "Processor"]


@runtime_checkable
class Processor(Protocol):
    """Anything with this name and method can be given to `AgentProcessors`."""

    name: str

    async def process(self, data: Any, context: Any) -> Any:
        """What `data` becomes."""
        ...


def _admit(place: str) -> Callable[[object], object]:
    def check(item: object) -> object:
        if not callable(getattr(item, "process", None)) and not callable(item):
            raise TypeError(
                f"{place} takes objects with process(data, context), or functions of these two, not {item!r}"
            )
        return item

    return check


def _processors(place: str, value: object) -> TrackedList[Any]:
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        raise TypeError(f"{place} must be a list of processors, not {value!r}")
    return TrackedList(value, _admit(place))


class AgentProcessors(Definition):
    """The processors of a step: of its prompt, before the agent, and of its output, after it."""

    _fields: ClassVar[tuple[str, ...]] = ("prompt_processors", "output_processors")
    _checks: ClassVar[Mapping[str, Callable[[str, object], object]]] = {
        "prompt_processors": _processors,
        "output_processors": _processors,
    }

    prompt_processors: TrackedList[Any]
    output_processors: TrackedList[Any]

    def __init__(self, prompt_processors: Iterable[Any] = (), output_processors: Iterable[Any] = ()) -> None:
        self._fill({"prompt_processors": prompt_processors, "output_processors": output_processors})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AgentProcessors):
            return NotImplemented
        return (
            self.prompt_processors == other.prompt_processors
            and self.output_processors == other.output_processors
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"AgentProcessors(prompt_processors={list(self.prompt_processors)!r}, "
            f"output_processors={list(self.output_processors)!r})"
        )
