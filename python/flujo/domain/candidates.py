"""Tasks, candidate solutions, and what a review says about them."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Candidate", "Checklist", "ChecklistItem", "RefinementCheck", "Task"]


class Task(BaseModel):
    """What is to be solved."""

    model_config: ClassVar[ConfigDict] = ConfigDict(defer_build=True)

    prompt: str
    metadata: dict[str, Any] = Field(default_factory=dict)


class ChecklistItem(BaseModel):
    """One criterion, and whether a solution fulfils it; None while nobody has looked."""

    model_config: ClassVar[ConfigDict] = ConfigDict(defer_build=True)

    description: str
    passed: bool | None = None
    feedback: str | None = None


class Checklist(BaseModel):
    """The criteria that a solution is held against."""

    model_config: ClassVar[ConfigDict] = ConfigDict(defer_build=True)

    items: list[ChecklistItem] = Field(default_factory=list)


class Candidate(BaseModel):
    """A solution with its score."""

    model_config: ClassVar[ConfigDict] = ConfigDict(defer_build=True)

    solution: str
    score: float
    checklist: Checklist | None = None


class RefinementCheck(BaseModel):
    """A critic's verdict: whether the artifact is good enough, and if not, what to change."""

    model_config: ClassVar[ConfigDict] = ConfigDict(defer_build=True)

    is_complete: bool
    feedback: Any = None
