"""What has changed in a text."""

from __future__ import annotations

from typing import Any

from flujo.processors.context_variables import value_at

__all__ = ["DiffProcessor"]


class DiffProcessor:
    """Turns a text into its unified diff against the text that the context holds at `against`.

    `lines` is the number of unchanged lines shown around a change. Equal texts give an empty diff.
    """

    name = "DiffProcessor"

    def __init__(self, against: str, lines: int = 3) -> None:
        self.against = against
        self.lines = lines

    async def process(self, data: Any, context: Any) -> Any:
        """The diff.

        Raises:
            ValueError: if the context has nothing there.
            TypeError: if either isn't a text.
        """
        before = value_at(context, self.against)
        for what, text in (("the output", data), (f"context.{self.against}", before)):
            if not isinstance(text, str):
                raise TypeError(f"DiffProcessor compares texts, but {what} is {type(text).__name__}")
        from difflib import unified_diff

        changes = unified_diff(
            before.splitlines(), data.splitlines(), "before", "after", n=self.lines, lineterm=""
        )
        return "\n".join(changes)
