"""What stands for an answer that was not given; None is an answer like any other."""

from __future__ import annotations

from typing import Final


class _NoAnswer:
    def __repr__(self) -> str:
        return "NO_ANSWER"


NO_ANSWER: Final = _NoAnswer()
