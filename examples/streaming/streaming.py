"""Streaming: two writers at once, chunk by chunk, one of which stumbles and begins anew.

python examples/streaming/streaming.py
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from flujo import Flujo, Step


class Writer:
    """Streams a text word by word, as a model does; the first `stumbles` attempts break off."""

    def __init__(self, text: str, stumbles: int = 0) -> None:
        self._words = text.split()
        self._stumbles = stumbles

    async def stream(self, topic: str) -> AsyncIterator[str]:
        for place, word in enumerate([*self._words, f"{topic}."]):
            await asyncio.sleep(0)
            if place == 1 and self._stumbles:
                self._stumbles -= 1
                raise ConnectionError("the line broke")
            yield f"{word} "


async def main() -> None:
    """Print what happens, then the result."""
    writers = Step.parallel(
        "writers",
        {
            "short": Step("headline", Writer("News of")),
            "long": Step("article", Writer("Everybody talks about", stumbles=1)),
        },
    )
    async for event in Flujo(writers).run_with_events("tea"):
        match event.kind:
            case "chunk":
                print(f"{event.lane} attempt {event.attempt}: {event.data}")
            case "attempt_failed":
                print(f"{event.lane} attempt {event.attempt} failed; what it had said is void")
            case "run_finished":
                print({name: text.strip() for name, text in event.data.output.items()})


if __name__ == "__main__":
    asyncio.run(main())
