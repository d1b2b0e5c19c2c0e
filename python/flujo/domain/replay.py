"""What comes of a stored run that is played again."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal

from flujo.domain.results import PipelineResult

__all__ = ["ABSENT", "Absent", "Difference", "Replay"]


class Absent(Enum):
    """Stands for what isn't there, where None would be a value."""

    ABSENT = "nothing"

    def __repr__(self) -> str:
        return self.value


ABSENT: Final = Absent.ABSENT


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that isn't as it was recorded."""

    path: str
    """The step's path; empty for what is of the run. Of its context and usage the part, such as
    `notes.total`."""
    lane: str
    """The branch or item around it, such as `split[left]`; empty outside of them."""
    attempt: int
    what: Literal["input", "call", "status", "output", "context", "usage"]
    """What an agent was asked; a call that is new or isn't made any more; how the run ended; what it gave; what its
    context holds; what it used."""
    recorded: Any
    """What it was. Of a call its input; None where there was none. Of a place in the context `ABSENT` where there was
    none."""
    now: Any
    """What it is. Of a call its input; None where there is none. Of a place in the context `ABSENT` where there is
    none."""

    def __str__(self) -> str:
        if self.what in ("context", "usage"):
            part = f".{self.path}" if self.path else ""
            return f"the run: {self.what}{part} was {self.recorded!r}, is {self.now!r}"
        where = f"{self.path}{f' in {self.lane}' if self.lane else ''}, attempt {self.attempt}: "
        what = f"{where if self.path else 'the run: '}{self.what}"
        if self.what == "call":
            how, given = (
                ("is new", self.now) if self.recorded is None else ("isn't made any more", self.recorded)
            )
            return f"{what} {how}, with the input {given!r}"
        return f"{what} was {self.recorded!r}, is {self.now!r}"


@dataclass(frozen=True, slots=True)
class Replay:
    """A stored run, played again with what its agents had answered."""

    run_id: str
    result: PipelineResult[Any, Any]
    """How it ended this time. Times are those of this time."""
    differences: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether all was as it had been."""
        return not self.differences

    def __str__(self) -> str:
        if self.equal:
            return f"run {self.run_id!r}: the same"
        return "\n".join([f"run {self.run_id!r} differs:", *(f"  {one}" for one in self.differences)])
