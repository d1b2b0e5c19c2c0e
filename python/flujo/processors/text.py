"""Plain text output."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["StripMarkdownFences", "fenced_block"]


def fenced_block(text: str, language: str | None = None) -> str | None:
    """What stands in the first Markdown code fence of `language`, or of any; None where there is no such
    fence.
    """
    wanted = r"[^\S\n]*" + (re.escape(language) if language else r"[\w+.#-]*")
    # The closing fence is at least as long as the opening one, so that a block may quote shorter ones.
    opening = rf"^[^\S\n]*(?P<fence>`{{3,}}|~{{3,}}){wanted}[^\S\n]*\n"
    found = re.search(opening + r"(?P<body>.*?)^[^\S\n]*(?P=fence)", text, re.M | re.S | re.I)
    return found["body"].removesuffix("\n") if found else None


class StripMarkdownFences:
    """Takes a text out of its Markdown code fence. Without such a fence, or if it isn't a text, it passes
    unchanged.

    `language` is what stands behind the opening fence; None takes the first fence, whatever its language.
    """

    name = "StripMarkdownFences"

    def __init__(self, language: str | None = None) -> None:
        self.language = language

    async def process(self, data: Any, context: Any) -> Any:
        """The text within the fence."""
        if not isinstance(data, str):
            return data
        inner = fenced_block(data, self.language)
        return data if inner is None else inner
